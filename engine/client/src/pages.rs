//! A range that is read page by page.
//!
//! An answer has a largest size, so a range without a limit may need several. Each shard is read as of one revision, that of its first
//! page: a key which is written or deleted meanwhile is shown as it was then. Pages of several shards are merged by key. At most one page
//! of each shard is kept.

use std::collections::VecDeque;
use std::time::Instant;

use api::command::KeyRange;
use api::response::KeyValue;
use net::client::Endpoint;

use crate::{Client, ClientError, RangeRequest, RangeResponse};

/// The pages of a range. Every key of the range comes once, in order.
///
/// After an error the next call tries the same page again. Each page has the client's whole request timeout.
#[derive(Debug)]
pub struct RangePages {
    client: Client,
    /// The one node that is asked, if it must be that.
    endpoint: Option<Endpoint>,
    merging: Merging,
}

impl RangePages {
    pub(crate) fn new(client: Client, endpoint: Option<Endpoint>, request: RangeRequest) -> Self {
        let shards = client.shards_of(&KeyRange { key: &request.key, range_end: &request.range_end });
        Self { client, endpoint, merging: Merging::new(request, shards) }
    }

    /// The next page. `None`: there is no other. A range without keys has one page that shows none. `count` is the number of keys in the
    /// whole range; `more` says whether keys follow, in other pages or behind the request's limit.
    ///
    /// # Errors
    /// Why not.
    pub async fn next_page(&mut self) -> Result<Option<RangeResponse>, ClientError> {
        if self.merging.is_over() {
            return Ok(None);
        }
        let deadline = Instant::now() + self.client.request_timeout;
        while let Some((shard, request)) = self.merging.to_ask() {
            let page = self.client.range_of_shard(self.endpoint.as_ref(), shard, &request, deadline).await?;
            if page.more && page.kvs.is_empty() {
                return Err(ClientError::unexpected("a range that shows at least one key"));
            }
            self.merging.take(shard, page);
        }
        Ok(Some(self.merging.next_page()))
    }

    /// All pages that follow as one, with as much memory as that takes.
    ///
    /// # Errors
    /// Why not.
    pub async fn collect(mut self) -> Result<RangeResponse, ClientError> {
        let mut all = RangeResponse { revision: 0, kvs: Vec::new(), more: false, count: 0 };
        while let Some(page) = self.next_page().await? {
            let mut kvs = std::mem::take(&mut all.kvs);
            kvs.extend(page.kvs);
            all = RangeResponse { kvs, ..page };
        }
        Ok(all)
    }
}

/// Which pages are asked for, and what is known to be complete of those that came.
#[derive(Debug)]
struct Merging {
    request: RangeRequest,
    shards: Vec<ShardPages>,
    /// Keys that may still be shown; `None` = no limit.
    left: Option<u64>,
    /// A page was shown.
    has_begun: bool,
}

/// What one shard has.
#[derive(Debug)]
struct ShardPages {
    shard: u32,
    /// Keys that came and were not shown yet.
    kvs: VecDeque<KeyValue>,
    /// Where to go on, and the revision to which it is pinned; `None` before the first page.
    next: Option<(Vec<u8>, u64)>,
    /// Keys of the whole range there.
    count: u64,
    /// Everything came.
    is_complete: bool,
}

impl Merging {
    fn new(request: RangeRequest, shards: impl Iterator<Item = u32>) -> Self {
        let shard = |shard| ShardPages { shard, kvs: VecDeque::new(), next: None, count: 0, is_complete: false };
        let left = (request.limit > 0).then_some(request.limit);
        Self { request, shards: shards.map(shard).collect(), left, has_begun: false }
    }

    fn has_more(&self) -> bool {
        self.shards.iter().any(|shard| !shard.is_complete || !shard.kvs.is_empty())
    }

    fn is_over(&self) -> bool {
        self.has_begun && (!self.has_more() || self.left == Some(0))
    }

    /// A shard of which a page is needed before the next one can be shown, and what to ask of it.
    fn to_ask(&self) -> Option<(u32, RangeRequest)> {
        let shard = self.shards.iter().find(|shard| shard.kvs.is_empty() && !shard.is_complete)?;
        let mut request = RangeRequest { limit: self.left.unwrap_or(0), ..self.request.clone() };
        if let Some((key, revision)) = &shard.next {
            (request.key, request.revision) = (key.clone(), *revision);
        }
        Some((shard.shard, request))
    }

    /// A shard has answered.
    fn take(&mut self, number: u32, page: RangeResponse) {
        let shard = self.shards.iter_mut().find(|shard| shard.shard == number).expect("it was asked");
        assert!(shard.kvs.is_empty() && !shard.is_complete, "a page was needed");
        if shard.next.is_none() {
            shard.count = page.count;
        }
        let is_pinned = self.request.revision > 0;
        let revision = shard.next.take().map_or(page.revision, |(_, revision)| revision);
        let revision = if is_pinned { self.request.revision } else { revision };
        let mut key = page.kvs.last().map_or_else(|| self.request.key.clone(), |kv| kv.key.clone());
        // The first key after it in byte order.
        key.push(0);
        shard.next = Some((key, revision));
        shard.is_complete = !page.more || page.kvs.is_empty();
        shard.kvs = page.kvs.into();
    }

    /// Everything of which it is known that nothing is missing before it.
    fn next_page(&mut self) -> RangeResponse {
        assert!(self.to_ask().is_none(), "a page of each shard is here");
        self.has_begun = true;
        let last_key = |shard: &ShardPages| shard.kvs.back().map(|kv| kv.key.clone());
        let cut = self.shards.iter().filter(|shard| !shard.is_complete).filter_map(last_key).min();
        let mut kvs = Vec::new();
        for shard in &mut self.shards {
            let whole = shard.kvs.len();
            let end = cut.as_ref().map_or(whole, |cut| shard.kvs.partition_point(|kv| kv.key <= *cut));
            kvs.extend(shard.kvs.drain(..end));
        }
        kvs.sort_by(|one, other| one.key.cmp(&other.key));
        let mut is_cut = false;
        if let Some(left) = &mut self.left {
            let most = usize::try_from(*left).unwrap_or(usize::MAX);
            is_cut = kvs.len() > most;
            kvs.truncate(most);
            *left -= kvs.len() as u64;
        }
        let revisions = self.shards.iter().filter_map(|shard| Some(shard.next.as_ref()?.1));
        RangeResponse {
            revision: revisions.max().unwrap_or(0),
            kvs,
            more: is_cut || self.has_more(),
            count: self.shards.iter().map(|shard| shard.count).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A shard's keys, each with its version, at each of its revisions.
    type History = Vec<BTreeMap<Vec<u8>, u64>>;

    fn kv(key: &[u8], version: u64) -> KeyValue {
        let key = key.to_vec();
        KeyValue { key, value: Vec::new(), create_revision: 1, mod_revision: 1, version, lease: 0 }
    }

    /// What a shard answers that shows at most `page_keys`.
    fn answer(history: &History, request: &RangeRequest, page_keys: usize) -> RangeResponse {
        let now = history.len() as u64 - 1;
        let at = if request.revision == 0 { now } else { request.revision };
        let found: Vec<KeyValue> = history[usize::try_from(at).expect("few")]
            .range(request.key.clone()..)
            .map(|(key, version)| kv(key, *version))
            .collect();
        let limit = if request.limit == 0 { usize::MAX } else { usize::try_from(request.limit).expect("few") };
        let shown = if request.count_only { 0 } else { limit.min(page_keys) };
        let more = !request.count_only && found.len() > shown;
        let count = found.len() as u64;
        RangeResponse { revision: now, kvs: found.into_iter().take(shown).collect(), more, count }
    }

    /// Reads all pages while every shard goes on changing; returns them with what each shard had when it was asked first.
    fn read(
        request: &RangeRequest,
        shard_count: u32,
        page_keys: usize,
    ) -> (Vec<RangeResponse>, Vec<BTreeMap<Vec<u8>, u64>>) {
        let key =
            |shard: u32, number: u64| format!("{:03}", number * u64::from(shard_count) + u64::from(shard)).into_bytes();
        let first = |shard| (0..10 + 7 * u64::from(shard)).map(|number| (key(shard, number), 1)).collect();
        let mut shards: Vec<History> = (0..shard_count).map(|shard| vec![BTreeMap::new(), first(shard)]).collect();
        let mut seen = vec![BTreeMap::new(); shard_count as usize];
        let mut merging = Merging::new(request.clone(), 0..shard_count);
        let mut pages = Vec::new();
        let mut turn = 0;
        while !merging.is_over() {
            while let Some((shard, asked)) = merging.to_ask() {
                let history = &mut shards[shard as usize];
                if asked.revision == 0 {
                    seen[shard as usize] = history.last().expect("one").clone();
                }
                merging.take(shard, answer(history, &asked, page_keys));
                // Keys come, go and change behind, at and before the place that was read.
                turn += 1;
                let mut next = history.last().expect("one").clone();
                next.retain(|_, version| (*version + turn) % 5 != 0);
                next.values_mut().for_each(|version| *version += 1);
                next.insert(key(shard, turn % 30), 100 + turn);
                history.push(next);
            }
            pages.push(merging.next_page());
        }
        (pages, seen)
    }

    #[test]
    fn every_key_comes_once_and_in_order_as_it_was_at_the_first_page_of_its_shard() {
        for (shard_count, page_keys) in [(1, 1), (1, 4), (2, 1), (3, 2), (4, 5), (2, 1_000)] {
            let request = RangeRequest { range_end: vec![0], ..RangeRequest::default() };
            let (pages, seen) = read(&request, shard_count, page_keys);
            let got: Vec<(Vec<u8>, u64)> =
                pages.iter().flat_map(|page| &page.kvs).map(|kv| (kv.key.clone(), kv.version)).collect();
            let expected: BTreeMap<Vec<u8>, u64> = seen.into_iter().flatten().collect();
            assert_eq!(got, expected.clone().into_iter().collect::<Vec<_>>(), "{shard_count} shards, {page_keys} keys");
            assert!(pages.iter().all(|page| page.count == expected.len() as u64));
            let more: Vec<bool> = pages.iter().map(|page| page.more).collect();
            assert!(more.iter().rev().skip(1).all(|more| *more) && more.last() == Some(&false), "{more:?}");
            assert!(page_keys >= 1_000 || pages.len() > 2);
        }
    }

    #[test]
    fn a_limit_ends_it_and_more_says_whether_keys_follow() {
        for (limit, shows, more) in [(1, 1, true), (9, 9, true), (27, 27, false), (100, 27, false)] {
            let request = RangeRequest { range_end: vec![0], limit, ..RangeRequest::default() };
            let (pages, _) = read(&request, 2, 4);
            let got: usize = pages.iter().map(|page| page.kvs.len()).sum();
            assert_eq!((got, pages.last().map(|page| page.more)), (shows, Some(more)), "limit {limit}");
        }
    }

    #[test]
    fn a_count_and_an_empty_range_are_one_page() {
        let count = RangeRequest { range_end: vec![0], count_only: true, ..RangeRequest::default() };
        let (pages, _) = read(&count, 2, 4);
        assert_eq!(
            pages.iter().map(|page| (page.kvs.len(), page.more, page.count)).collect::<Vec<_>>(),
            [(0, false, 27)]
        );
        let empty = RangeRequest { key: b"x".to_vec(), range_end: vec![0], ..RangeRequest::default() };
        let (pages, _) = read(&empty, 2, 4);
        assert_eq!(
            pages.iter().map(|page| (page.kvs.len(), page.more, page.count)).collect::<Vec<_>>(),
            [(0, false, 0)]
        );
    }
}
