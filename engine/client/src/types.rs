//! Requests and answers, as programs hold them.

use std::time::Duration;

use api::command::{self, CompareResult, KeyRange, RangeOp};
use api::response::{KeyValue, OpResponse};

/// How a client connects.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Where nodes are reached: `host:port` or `http://host:port`.
    pub endpoints: Vec<String>,
    /// How long a request may take, retries included.
    pub request_timeout: Duration,
    /// How long a connection attempt may take.
    pub connect_timeout: Duration,
    /// Connections to each endpoint.
    pub connections_per_endpoint: usize,
    /// A node that owes an answer and says nothing for so long, not even to a ping, is given up: reads are asked elsewhere, a
    /// write that was sent is reported as of unknown outcome.
    pub silence_limit: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            endpoints: vec!["127.0.0.1:2379".to_owned()],
            request_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
            connections_per_endpoint: 1,
            silence_limit: Duration::from_secs(1),
        }
    }
}

/// Options of a put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// The lease that the key belongs to; 0 = none. Leases do not exist yet: every other value is refused.
    pub lease: u64,
    /// Answer with what was there before.
    pub prev_kv: bool,
}

/// The answer to a put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutResponse {
    /// The revision of the write.
    pub revision: u64,
    /// What was there before, if asked for.
    pub prev_kv: Option<KeyValue>,
}

/// The answer to a delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteResponse {
    /// The revision after it; the highest of the shards.
    pub revision: u64,
    /// Keys that were deleted.
    pub deleted: u64,
    /// What was there before, if asked for, by key.
    pub prev_kvs: Vec<KeyValue>,
}

/// A read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeRequest {
    /// The key, or where the range begins.
    pub key: Vec<u8>,
    /// Empty: just `key`. One zero byte: everything from `key` on. Else: where the range ends, not included.
    pub range_end: Vec<u8>,
    /// Largest number of keys in the answer; 0 = no limit.
    pub limit: u64,
    /// As of this revision; 0 = the current one.
    pub revision: u64,
    /// Leave the values out.
    pub keys_only: bool,
    /// Only count.
    pub count_only: bool,
    /// Answer from what the node has, however old.
    pub serializable: bool,
}

/// The answer to a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeResponse {
    /// The revision of the state; the highest of the shards.
    pub revision: u64,
    /// Keys found, in order.
    pub kvs: Vec<KeyValue>,
    /// There are more: the limit, or the size of an answer, was reached. `Client::range_pages` reads them all.
    pub more: bool,
    /// How many there are in all.
    pub count: u64,
}

/// What a compare looks at, with the operand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    /// Times the key was written since it was created; 0 = it is not there.
    Version(u64),
    /// Revision that created it.
    CreateRevision(u64),
    /// Revision that last changed it.
    ModRevision(u64),
    /// Its value.
    Value(Vec<u8>),
    /// Its lease.
    Lease(u64),
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The key.
    pub key: Vec<u8>,
    /// What of it, and the operand.
    pub target: CompareTarget,
    /// How.
    pub result: CompareResult,
}

/// An operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Write a key.
    Put {
        /// The key.
        key: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
        /// Lease and previous value.
        options: PutOptions,
    },
    /// Delete keys.
    Delete {
        /// The key, or where the range begins.
        key: Vec<u8>,
        /// As in `RangeRequest`.
        range_end: Vec<u8>,
        /// Answer with what was there before.
        prev_kv: bool,
    },
    /// Read keys. `serializable` has no meaning here.
    Range(RangeRequest),
}

/// Several operations at once, under conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold for `success`.
    pub compares: Vec<Compare>,
    /// Done if they hold.
    pub success: Vec<Op>,
    /// Done if they do not.
    pub failure: Vec<Op>,
}

/// The answer to one operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResult {
    /// The answer to a put: what was there before, if asked for.
    Put(Option<KeyValue>),
    /// The answer to a delete.
    Delete {
        /// Keys that were deleted.
        deleted: u64,
        /// What was there before, if asked for.
        prev_kvs: Vec<KeyValue>,
    },
    /// The answer to a range.
    Range {
        /// Keys found, in order.
        kvs: Vec<KeyValue>,
        /// There are more.
        more: bool,
        /// How many there are in all.
        count: u64,
    },
}

/// The answer to a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnResponse {
    /// The revision after it.
    pub revision: u64,
    /// The compares held.
    pub succeeded: bool,
    /// Answers to the operations that were done.
    pub results: Vec<OpResult>,
}

impl From<OpResponse> for OpResult {
    fn from(response: OpResponse) -> Self {
        match response {
            OpResponse::Put { prev_kv } => Self::Put(prev_kv),
            OpResponse::Delete { deleted, prev_kvs } => Self::Delete { deleted, prev_kvs },
            OpResponse::Range { kvs, more, count } => Self::Range { kvs, more, count },
        }
    }
}

impl Op {
    fn key(&self) -> &[u8] {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } => key,
            Self::Range(range) => &range.key,
        }
    }

    fn borrow(&self) -> command::Op<'_> {
        match self {
            Self::Put { key, value, options } => {
                command::Op::Put { key, value, lease: options.lease, prev_kv: options.prev_kv }
            }
            Self::Delete { key, range_end, prev_kv } => {
                command::Op::Delete { range: KeyRange { key, range_end }, prev_kv: *prev_kv }
            }
            Self::Range(range) => command::Op::Range(RangeOp {
                range: KeyRange { key: &range.key, range_end: &range.range_end },
                limit: range.limit,
                revision: range.revision,
                keys_only: range.keys_only,
                count_only: range.count_only,
            }),
        }
    }
}

impl Compare {
    fn borrow(&self) -> command::Compare<'_> {
        let target = match &self.target {
            CompareTarget::Version(operand) => command::CompareTarget::Version(*operand),
            CompareTarget::CreateRevision(operand) => command::CompareTarget::CreateRevision(*operand),
            CompareTarget::ModRevision(operand) => command::CompareTarget::ModRevision(*operand),
            CompareTarget::Value(operand) => command::CompareTarget::Value(operand),
            CompareTarget::Lease(operand) => command::CompareTarget::Lease(*operand),
        };
        command::Compare { key: &self.key, target, result: self.result }
    }
}

impl Txn {
    pub(crate) fn first_key(&self) -> Option<&[u8]> {
        let compares = self.compares.iter().map(|compare| compare.key.as_slice());
        compares.chain(self.success.iter().chain(&self.failure).map(Op::key)).next()
    }

    /// Refuses what no server takes yet.
    pub(crate) fn check_leases(&self) -> Result<(), command::CommandError> {
        self.success.iter().chain(&self.failure).try_for_each(|op| match op {
            Op::Put { options, .. } => command::check_lease(options.lease),
            Op::Delete { .. } | Op::Range(_) => Ok(()),
        })
    }

    pub(crate) fn borrow(&self) -> command::Txn<'_> {
        command::Txn {
            compares: self.compares.iter().map(Compare::borrow).collect(),
            success: self.success.iter().map(Op::borrow).collect(),
            failure: self.failure.iter().map(Op::borrow).collect(),
        }
    }
}
