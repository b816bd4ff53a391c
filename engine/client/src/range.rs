//! Reads over one shard or all of them.

use std::time::Instant;

use api::call::CallKind;
use api::command::{self, KeyRange, RangeOp};
use api::response::{OpResponse, Response};
use net::client::{Endpoint, Target};

use crate::{Client, ClientError, RangeRequest, RangeResponse, left_until};

impl Client {
    pub(crate) async fn range_at(
        &self,
        endpoint: Option<&Endpoint>,
        request: RangeRequest,
    ) -> Result<RangeResponse, ClientError> {
        let range = KeyRange { key: &request.key, range_end: &request.range_end };
        let deadline = Instant::now() + self.request_timeout;
        let mut pages = Vec::new();
        for shard in self.shards_of(&range) {
            pages.push(self.range_of_shard(endpoint, shard, &request, deadline).await?);
        }
        Ok(merge(pages, request.limit))
    }

    pub(crate) async fn range_of_shard(
        &self,
        endpoint: Option<&Endpoint>,
        shard: u32,
        request: &RangeRequest,
        deadline: Instant,
    ) -> Result<RangeResponse, ClientError> {
        let op = RangeOp {
            range: KeyRange { key: &request.key, range_end: &request.range_end },
            limit: request.limit,
            revision: request.revision,
            keys_only: request.keys_only,
            count_only: request.count_only,
        };
        let mut payload = Vec::new();
        command::encode_range(&op, &mut payload)?;
        let kind = if request.serializable { CallKind::ReadSerializable } else { CallKind::Read };
        let target = endpoint.map_or(Target::Leader, Target::Endpoint);
        let body = self.ask(target, kind, shard, &payload, left_until(deadline)).await?;
        let response = Response::decode(&body)?;
        match response.ops.into_iter().next() {
            Some(OpResponse::Range { kvs, more, count }) => {
                Ok(RangeResponse { revision: response.revision, kvs, more, count })
            }
            _ => Err(ClientError::unexpected("a range")),
        }
    }
}

/// Merges the answers of shards by key.
///
/// A shard that has more cuts the merged answer at its last key: what lies after it there is not known yet. One that has
/// more but showed nothing leaves no key of which it is known that nothing is missing before it.
fn merge(pages: Vec<RangeResponse>, limit: u64) -> RangeResponse {
    let mut merged = RangeResponse { revision: 0, kvs: Vec::new(), more: false, count: 0 };
    // `None` sorts before every key.
    let last_key = |page: &RangeResponse| page.kvs.last().map(|kv| kv.key.clone());
    let cut = pages.iter().filter(|page| page.more).map(last_key).min();
    for page in pages {
        merged.revision = merged.revision.max(page.revision);
        merged.more |= page.more;
        merged.count += page.count;
        merged.kvs.extend(page.kvs);
    }
    merged.kvs.sort_by(|a, b| a.key.cmp(&b.key));
    if let Some(cut) = cut {
        merged.kvs.retain(|kv| Some(&kv.key) <= cut.as_ref());
    }
    if limit > 0 && merged.kvs.len() as u64 > limit {
        merged.kvs.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        merged.more = true;
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyValue;

    fn page(keys: &[&str], more: bool) -> RangeResponse {
        let kv = |key: &&str| KeyValue {
            key: key.as_bytes().to_vec(),
            value: Vec::new(),
            create_revision: 1,
            mod_revision: 1,
            version: 1,
            lease: 0,
        };
        let kvs: Vec<KeyValue> = keys.iter().map(kv).collect();
        RangeResponse { revision: 2, more, count: kvs.len() as u64, kvs }
    }

    fn keys(response: &RangeResponse) -> Vec<String> {
        response.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect()
    }

    #[test]
    fn pages_merge_in_key_order() {
        let merged = merge(vec![page(&["a", "c"], false), page(&["b"], false)], 0);
        assert_eq!((keys(&merged).join(","), merged.more, merged.count), ("a,b,c".to_owned(), false, 3));
    }

    #[test]
    fn a_page_with_more_cuts_what_is_not_known_to_be_complete() {
        let merged = merge(vec![page(&["a", "c"], true), page(&["b", "d"], false)], 0);
        assert_eq!((keys(&merged).join(","), merged.more), ("a,b,c".to_owned(), true));
    }

    #[test]
    fn a_page_with_more_that_shows_nothing_cuts_everything() {
        for at in 0..3 {
            let mut pages = vec![page(&["a", "c"], true), page(&["b"], false)];
            pages.insert(at, page(&[], true));
            let merged = merge(pages, 0);
            assert_eq!((keys(&merged).join(","), merged.more, merged.count), (String::new(), true, 3), "page {at}");
        }
        let merged = merge(vec![page(&[], false), page(&["b"], true), page(&["c"], false)], 0);
        assert_eq!(
            (keys(&merged).join(","), merged.more),
            ("b".to_owned(), true),
            "a shard without such keys cuts nothing"
        );
    }

    #[test]
    fn the_limit_holds_for_the_merged_answer() {
        let merged = merge(vec![page(&["a", "c"], false), page(&["b", "d"], false)], 3);
        assert_eq!((keys(&merged).join(","), merged.more), ("a,b,c".to_owned(), true));
    }
}
