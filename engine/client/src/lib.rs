//! Quorate's key-value client: etcd's operations over the native protocol, on tokio.
//!
//! Connections, leader discovery, retries and deadlines are `net::client`'s; this package turns operations into payloads and
//! answers into values, and spreads what concerns several shards within one deadline. A write is never sent twice
//! unless it certainly took no effect; where nobody knows, the error is `ClientError::Unknown`.

mod error;
mod pages;
mod range;
mod types;

use std::time::{Duration, Instant};

use api::call::CallKind;
use api::command::{self, KeyRange};
use api::ids::shard_of_key;
use api::response::{OpResponse, Response};
use net::client::{Endpoint, Kind, Options, Target};
use net::frame::FrameKind;

pub use api::command::CompareResult;
pub use api::response::KeyValue;
pub use api::status::ShardStatus;
pub use error::{ClientError, PartOutcome, ShardPart};
pub use pages::RangePages;
pub use types::{
    ClientOptions, Compare, CompareTarget, DeleteResponse, Op, OpResult, PutOptions, PutResponse, RangeRequest,
    RangeResponse, Txn, TxnResponse,
};

/// A client of a cluster. Clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    net: net::client::Client,
    request_timeout: Duration,
}

impl Client {
    /// Connects to the first endpoint that answers.
    ///
    /// # Errors
    /// No endpoint was given, one is not written as one, or none answers.
    pub async fn connect(options: ClientOptions) -> Result<Self, ClientError> {
        let net = net::client::Client::connect(Options {
            endpoints: options.endpoints,
            connect_timeout: options.connect_timeout,
            connections_per_endpoint: options.connections_per_endpoint,
            silence_limit: options.silence_limit,
            ..Options::default()
        });
        Ok(Self { net: net.await?, request_timeout: options.request_timeout })
    }

    /// Shards of the cluster.
    #[must_use]
    pub fn shard_count(&self) -> u32 {
        self.net.info().shard_count
    }

    /// Writes a key.
    ///
    /// # Errors
    /// Why not, and whether it can still take effect.
    pub async fn put(&self, key: &[u8], value: &[u8]) -> Result<PutResponse, ClientError> {
        self.put_with(key, value, PutOptions::default()).await
    }

    /// Writes a key, with options.
    ///
    /// # Errors
    /// Why not, and whether it can still take effect.
    pub async fn put_with(&self, key: &[u8], value: &[u8], options: PutOptions) -> Result<PutResponse, ClientError> {
        command::check_lease(options.lease)?;
        let op = command::Op::Put { key, value, lease: options.lease, prev_kv: options.prev_kv };
        let response = self.write_op(self.shard_of(key), &op, self.request_timeout).await?;
        match response.ops.into_iter().next() {
            Some(OpResponse::Put { prev_kv }) => Ok(PutResponse { revision: response.revision, prev_kv }),
            _ => Err(ClientError::unexpected("a put")),
        }
    }

    /// Reads a key; linearizable.
    ///
    /// # Errors
    /// Why not.
    pub async fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, ClientError> {
        let request = RangeRequest { key: key.to_vec(), ..RangeRequest::default() };
        Ok(self.range(request).await?.kvs.into_iter().next())
    }

    /// Reads keys. A range asks every shard and merges the answers by key; each shard has revisions of its own. An answer has a largest
    /// size, and says with `more` that keys are missing: `range_pages` reads them all.
    ///
    /// # Errors
    /// Why not.
    pub async fn range(&self, request: RangeRequest) -> Result<RangeResponse, ClientError> {
        self.range_at(None, request).await
    }

    /// Reads keys from this endpoint and no other.
    ///
    /// # Errors
    /// Why not.
    pub async fn range_on(&self, endpoint: &str, request: RangeRequest) -> Result<RangeResponse, ClientError> {
        let endpoint: Endpoint = endpoint.parse().map_err(net::client::ClientError::from)?;
        self.range_at(Some(&endpoint), request).await
    }

    /// Reads keys page by page, so that all of them come, however many there are: each shard as of one revision.
    #[must_use]
    pub fn range_pages(&self, request: RangeRequest) -> RangePages {
        RangePages::new(self.clone(), None, request)
    }

    /// Reads keys page by page from this endpoint and no other.
    ///
    /// # Errors
    /// It is not written as an endpoint.
    pub fn range_pages_on(&self, endpoint: &str, request: RangeRequest) -> Result<RangePages, ClientError> {
        let endpoint: Endpoint = endpoint.parse().map_err(net::client::ClientError::from)?;
        Ok(RangePages::new(self.clone(), Some(endpoint), request))
    }

    /// Deletes a key, or the keys from `key` to `range_end`.
    ///
    /// Over several shards the parts are deleted one after the other, until one fails. A shard refuses a range of too many keys
    /// as `Status::TooLarge` and deletes none of them: the engine calls it `KEYS_VISITED_PER_COMMAND_MAX`.
    ///
    /// # Errors
    /// Why not, and whether it can still take effect. `Partial` if keys of other shards were deleted before.
    pub async fn delete(&self, key: &[u8], range_end: Option<&[u8]>) -> Result<DeleteResponse, ClientError> {
        self.delete_with(key, range_end, false).await
    }

    /// Deletes, and answers with what was there if `prev_kv` is set.
    ///
    /// # Errors
    /// As `delete`.
    pub async fn delete_with(
        &self,
        key: &[u8],
        range_end: Option<&[u8]>,
        prev_kv: bool,
    ) -> Result<DeleteResponse, ClientError> {
        let range = KeyRange { key, range_end: range_end.unwrap_or_default() };
        let deadline = Instant::now() + self.request_timeout;
        let mut answer = DeleteResponse { revision: 0, deleted: 0, prev_kvs: Vec::new() };
        let mut parts = Vec::new();
        for shard in self.shards_of(&range) {
            match self.delete_in(shard, range, prev_kv, left_until(deadline)).await {
                Ok(part) => {
                    parts.push((shard, part.deleted, part.revision));
                    answer.revision = answer.revision.max(part.revision);
                    answer.deleted += part.deleted;
                    answer.prev_kvs.extend(part.prev_kvs);
                }
                // Nothing was deleted elsewhere, so the error says all.
                Err(error) if answer.deleted == 0 => return Err(error),
                Err(error) => return Err(partial(&parts, shard, error, self.shard_count())),
            }
        }
        answer.prev_kvs.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(answer)
    }

    async fn delete_in(
        &self,
        shard: u32,
        range: KeyRange<'_>,
        prev_kv: bool,
        timeout: Duration,
    ) -> Result<DeleteResponse, ClientError> {
        let response = self.write_op(shard, &command::Op::Delete { range, prev_kv }, timeout).await?;
        match response.ops.into_iter().next() {
            Some(OpResponse::Delete { deleted, prev_kvs }) => {
                Ok(DeleteResponse { revision: response.revision, deleted, prev_kvs })
            }
            _ => Err(ClientError::unexpected("a delete")),
        }
    }

    /// Does several operations at once, under conditions. All keys must be on one shard.
    ///
    /// # Errors
    /// Why not, and whether it can still take effect.
    pub async fn txn(&self, txn: &Txn) -> Result<TxnResponse, ClientError> {
        txn.check_leases()?;
        let borrowed = txn.borrow();
        let shard = txn.first_key().map_or(0, |key| self.shard_of(key));
        let mut payload = Vec::new();
        command::encode_txn_command(&borrowed, &mut payload)?;
        let response = self.write(shard, &payload, self.request_timeout).await?;
        let results = response.ops.into_iter().map(OpResult::from).collect();
        Ok(TxnResponse { revision: response.revision, succeeded: response.succeeded, results })
    }

    /// What the node at this endpoint shows of each of its shards.
    ///
    /// # Errors
    /// Why not.
    pub async fn status(&self, endpoint: &str) -> Result<Vec<ShardStatus>, ClientError> {
        let endpoint: Endpoint = endpoint.parse().map_err(net::client::ClientError::from)?;
        let target = Target::Endpoint(&endpoint);
        let body = self.ask(target, CallKind::Status, 0, &[], self.request_timeout).await?;
        serde_json::from_slice(&body).map_err(|error| ClientError::Malformed { reason: error.to_string() })
    }

    fn shard_of(&self, key: &[u8]) -> u32 {
        shard_of_key(key, self.shard_count()).get()
    }

    fn shards_of(&self, range: &KeyRange<'_>) -> std::ops::Range<u32> {
        if range.is_single() {
            let shard = self.shard_of(range.key);
            return shard..shard + 1;
        }
        0..self.shard_count()
    }

    async fn write_op(&self, shard: u32, op: &command::Op<'_>, timeout: Duration) -> Result<Response, ClientError> {
        let mut payload = Vec::new();
        command::encode_op_command(op, &mut payload)?;
        self.write(shard, &payload, timeout).await
    }

    async fn write(&self, shard: u32, payload: &[u8], timeout: Duration) -> Result<Response, ClientError> {
        let body = self.ask(Target::Leader, CallKind::Write, shard, payload, timeout);
        Ok(Response::decode(&body.await?)?)
    }

    async fn ask(
        &self,
        target: Target<'_>,
        kind: CallKind,
        shard: u32,
        payload: &[u8],
        timeout: Duration,
    ) -> Result<Vec<u8>, ClientError> {
        let kind = Kind { number: FrameKind::new(kind.row().number), writes: kind.writes(), lasts: kind.lasts() };
        Ok(self.net.request(target, kind, shard, payload, timeout).await?)
    }
}

fn left_until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// What became of each shard's part of a delete that failed on `failed` after others were done.
fn partial(done: &[(u32, u64, u64)], failed: u32, error: ClientError, shard_count: u32) -> ClientError {
    let done = done
        .iter()
        .map(|&(shard, keys, revision)| ShardPart { shard, outcome: PartOutcome::Deleted { keys, revision } });
    let failure = ShardPart { shard: failed, outcome: PartOutcome::Failed(Box::new(error)) };
    let left = (failed + 1..shard_count).map(|shard| ShardPart { shard, outcome: PartOutcome::NotBegun });
    ClientError::Partial { parts: done.chain([failure]).chain(left).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_delete_says_what_each_shard_did() {
        let error = ClientError::Unavailable { reason: "a:1: no leader".to_owned() };
        let error = partial(&[(0, 3, 9), (1, 0, 4)], 2, error, 4);
        assert!(error.may_have_taken_effect());
        assert_eq!(
            error.to_string(),
            "done in part: shard 0 deleted 3 keys at revision 9; shard 1 deleted 0 keys at revision 4; shard 2 failed: \
             unavailable, and the request took no effect: a:1: no leader; shard 3 was not asked"
        );
    }
}
