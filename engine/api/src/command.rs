//! Commands: one encoding for the client protocol, the log and the wire.
//!
//! A client encodes a command, the gateway validates the bytes once (`validate`), and from there on they are copied, never
//! decoded and encoded again, until `decode` reads them to apply. Layout: `docs/format/command.md`. Nothing here knows state.

use codec::{DecodeError, Reader};

use crate::ids::{ShardId, shard_of_key};

/// Version of the encoding.
pub const COMMAND_VERSION: u8 = 1;

/// Longest key. Unit: bytes.
pub const KEY_BYTES_MAX: usize = 32 * 1024;

/// Most compares or operations of one kind that an encoding can hold; the run-time limit is lower.
const LIST_LEN_MAX: usize = u16::MAX as usize;

const KIND_OP: u8 = 1;
const KIND_TXN: u8 = 2;

const OP_PUT: u8 = 1;
const OP_DELETE: u8 = 2;
const OP_RANGE: u8 = 3;

const FLAG_PREV_KV: u8 = 1;
const FLAG_KEYS_ONLY: u8 = 1;
const FLAG_COUNT_ONLY: u8 = 2;

/// What commands may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Size of a command. Unit: bytes.
    pub request_bytes: u64,
    /// Operations of one transaction, and compares, each branch by itself.
    pub txn_ops: u32,
    /// Shards of the cluster.
    pub shard_count: u32,
}

impl Limits {
    /// Size of a command, as a length in memory.
    #[must_use]
    pub fn request_bytes_limit(&self) -> usize {
        usize::try_from(self.request_bytes).unwrap_or(usize::MAX)
    }
}

/// Bytes are no command, or one that is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The bytes do not follow the format.
    #[error("malformed request: {0}")]
    Malformed(#[from] DecodeError),
    /// The command is too large.
    #[error("request is too large: {got} bytes, the limit is {limit} (--max-request-bytes)")]
    TooLarge {
        /// Its size.
        got: usize,
        /// The limit.
        limit: u64,
    },
    /// A put names a lease.
    #[error(
        "leases do not exist yet: the put names lease {lease:x}, and its key would never expire; leave the lease out"
    )]
    NoLeases {
        /// The lease.
        lease: u64,
    },
    /// A key is empty.
    #[error("key is not provided: keys have at least one byte")]
    EmptyKey,
    /// A key is too long.
    #[error("key has {got} bytes, the limit is {KEY_BYTES_MAX}")]
    KeyTooLong {
        /// Its length.
        got: usize,
    },
    /// A transaction has too many parts.
    #[error("too many operations in one transaction: {got}, the limit is {limit} (--max-txn-ops)")]
    TooManyOps {
        /// How many.
        got: usize,
        /// The limit.
        limit: u32,
    },
    /// A transaction writes a key twice.
    #[error("duplicate key given in one transaction: {key:?} is written twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A transaction's keys are on several shards.
    #[error("the transaction's keys belong to shards {first} and {second}; a transaction stays within one shard")]
    SeveralShards {
        /// Shard of its first key.
        first: ShardId,
        /// Another key's shard.
        second: ShardId,
    },
    /// A transaction has a range while keys are spread over shards.
    #[error("a transaction cannot contain ranges while keys are spread over {shard_count} shards")]
    RangeInTxn {
        /// Shards of the cluster.
        shard_count: u32,
    },
}

impl CommandError {
    /// True if the error is about size, not about form.
    #[must_use]
    pub const fn is_too_large(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::KeyTooLong { .. })
    }
}

/// What the gateway needs to know of a valid command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandInfo {
    /// The shard that its keys belong to; `None` if it is a range, of which every shard has a part.
    pub shard: Option<ShardId>,
}

/// Which keys: one, or a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRange<'a> {
    /// The key, or where the range begins.
    pub key: &'a [u8],
    /// Empty: just `key`. One zero byte: everything from `key` on. Else: where the range ends, not included. As in etcd.
    pub range_end: &'a [u8],
}

impl KeyRange<'_> {
    /// True if the range is one key.
    #[must_use]
    pub const fn is_single(&self) -> bool {
        self.range_end.is_empty()
    }

    /// True if the key is in it.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match self.range_end {
            [] => key == self.key,
            [0] => key >= self.key,
            end => key >= self.key && key < end,
        }
    }
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// Write a key.
    Put {
        /// The key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
        /// The lease it belongs to; 0 = none.
        lease: u64,
        /// Answer with what was there before.
        prev_kv: bool,
    },
    /// Delete keys.
    Delete {
        /// Which.
        range: KeyRange<'a>,
        /// Answer with what was there before.
        prev_kv: bool,
    },
    /// Read keys.
    Range(RangeOp<'a>),
}

/// A read of one key or many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeOp<'a> {
    /// Which.
    pub range: KeyRange<'a>,
    /// Largest number of keys in the answer; 0 = no limit.
    pub limit: u64,
    /// As of this revision; 0 = the current one.
    pub revision: u64,
    /// Leave the values out.
    pub keys_only: bool,
    /// Only count.
    pub count_only: bool,
}

/// What a compare looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareTarget<'a> {
    /// Times the key was written since it was created.
    Version(u64),
    /// Revision that created it.
    CreateRevision(u64),
    /// Revision that last changed it.
    ModRevision(u64),
    /// Its value.
    Value(&'a [u8]),
    /// Its lease.
    Lease(u64),
}

/// How a compare compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareResult {
    /// What is there equals the operand.
    Equal,
    /// What is there is greater.
    Greater,
    /// What is there is less.
    Less,
    /// What is there differs.
    NotEqual,
}

impl CompareResult {
    /// True if the comparison holds for this ordering of what is there and the operand.
    #[must_use]
    pub const fn holds(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::Greater => ordering.is_gt(),
            Self::Less => ordering.is_lt(),
            Self::NotEqual => ordering.is_ne(),
        }
    }
}

/// A condition of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compare<'a> {
    /// The key.
    pub key: &'a [u8],
    /// What of it, and the operand.
    pub target: CompareTarget<'a>,
    /// How.
    pub result: CompareResult,
}

/// A transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn<'a> {
    /// All must hold for `success`.
    pub compares: Vec<Compare<'a>>,
    /// Done if they hold.
    pub success: Vec<Op<'a>>,
    /// Done if they do not.
    pub failure: Vec<Op<'a>>,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// One operation.
    Op(Op<'a>),
    /// Several, under conditions.
    Txn(Txn<'a>),
}

/// Appends a command of one operation.
///
/// # Errors
/// The key is empty or too long, or the value is 4 GiB or longer.
pub fn encode_op_command(op: &Op<'_>, out: &mut Vec<u8>) -> Result<(), CommandError> {
    out.extend_from_slice(&[COMMAND_VERSION, KIND_OP, 0, 0, 0, 0, 0, 0]);
    encode_op(op, out)
}

/// Appends a transaction.
///
/// # Errors
/// A key is empty or too long, or there are too many parts.
pub fn encode_txn_command(txn: &Txn<'_>, out: &mut Vec<u8>) -> Result<(), CommandError> {
    out.extend_from_slice(&[COMMAND_VERSION, KIND_TXN, 0, 0, 0, 0, 0, 0]);
    for len in [txn.compares.len(), txn.success.len(), txn.failure.len(), 0] {
        let count =
            u16::try_from(len).map_err(|_| CommandError::TooManyOps { got: len, limit: LIST_LEN_MAX as u32 })?;
        out.extend_from_slice(&count.to_le_bytes());
    }
    for compare in &txn.compares {
        encode_compare(compare, out)?;
    }
    for op in txn.success.iter().chain(&txn.failure) {
        encode_op(op, out)?;
    }
    Ok(())
}

/// Appends a range request: the payload of a read.
///
/// # Errors
/// The key is empty or too long.
pub fn encode_range(range: &RangeOp<'_>, out: &mut Vec<u8>) -> Result<(), CommandError> {
    encode_op(&Op::Range(*range), out)
}

fn key_len(key: &[u8]) -> Result<[u8; 2], CommandError> {
    match u16::try_from(key.len()) {
        Ok(0) => Err(CommandError::EmptyKey),
        Ok(len) if key.len() <= KEY_BYTES_MAX => Ok(len.to_le_bytes()),
        _ => Err(CommandError::KeyTooLong { got: key.len() }),
    }
}

fn tail_len(tail: &[u8]) -> Result<[u8; 4], CommandError> {
    let too_large = CommandError::TooLarge { got: tail.len(), limit: u32::MAX.into() };
    u32::try_from(tail.len()).map(u32::to_le_bytes).map_err(|_| too_large)
}

fn encode_op(op: &Op<'_>, out: &mut Vec<u8>) -> Result<(), CommandError> {
    let (kind, flags, key, tail, number) = match op {
        Op::Put { key, value, lease, prev_kv } => (OP_PUT, u8::from(*prev_kv) * FLAG_PREV_KV, *key, *value, *lease),
        Op::Delete { range, prev_kv } => (OP_DELETE, u8::from(*prev_kv) * FLAG_PREV_KV, range.key, range.range_end, 0),
        Op::Range(range) => {
            let flags = (u8::from(range.keys_only) * FLAG_KEYS_ONLY) | (u8::from(range.count_only) * FLAG_COUNT_ONLY);
            (OP_RANGE, flags, range.range.key, range.range.range_end, range.limit)
        }
    };
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&key_len(key)?);
    out.extend_from_slice(&tail_len(tail)?);
    out.extend_from_slice(&number.to_le_bytes());
    if let Op::Range(range) = op {
        out.extend_from_slice(&range.revision.to_le_bytes());
    }
    out.extend_from_slice(key);
    out.extend_from_slice(tail);
    Ok(())
}

fn encode_compare(compare: &Compare<'_>, out: &mut Vec<u8>) -> Result<(), CommandError> {
    let (target, number, tail): (u8, u64, &[u8]) = match compare.target {
        CompareTarget::Version(number) => (1, number, &[]),
        CompareTarget::CreateRevision(number) => (2, number, &[]),
        CompareTarget::ModRevision(number) => (3, number, &[]),
        CompareTarget::Value(value) => (4, 0, value),
        CompareTarget::Lease(number) => (5, number, &[]),
    };
    let result = match compare.result {
        CompareResult::Equal => 1,
        CompareResult::Greater => 2,
        CompareResult::Less => 3,
        CompareResult::NotEqual => 4,
    };
    out.extend_from_slice(&[target, result]);
    out.extend_from_slice(&key_len(compare.key)?);
    out.extend_from_slice(&tail_len(tail)?);
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(compare.key);
    out.extend_from_slice(tail);
    Ok(())
}

/// Reads a command.
///
/// # Errors
/// The bytes do not follow the format.
pub fn decode(bytes: &[u8]) -> Result<Command<'_>, DecodeError> {
    let mut reader = Reader::new(bytes);
    expect(reader.u8("the version of a command")?, COMMAND_VERSION, "the version of a command")?;
    let kind = reader.u8("the kind of a command")?;
    let reserved = reader.bytes("the reserved bytes of a command", 6)?;
    if reserved.iter().any(|byte| *byte != 0) {
        return Err(DecodeError::Unknown { what: "a reserved byte of a command", got: 1 });
    }
    let command = match kind {
        KIND_OP => Command::Op(decode_op(&mut reader)?),
        KIND_TXN => Command::Txn(decode_txn(&mut reader)?),
        got => return Err(DecodeError::Unknown { what: "the kind of a command", got: got.into() }),
    };
    reader.finish("a command")?;
    Ok(command)
}

/// Reads a range request.
///
/// # Errors
/// The bytes do not follow the format.
pub fn decode_range(bytes: &[u8]) -> Result<RangeOp<'_>, DecodeError> {
    let mut reader = Reader::new(bytes);
    match decode_op(&mut reader)? {
        Op::Range(range) => {
            reader.finish("a range request")?;
            Ok(range)
        }
        _ => Err(DecodeError::Unknown { what: "the kind of a read", got: 0 }),
    }
}

fn expect(got: u8, expected: u8, what: &'static str) -> Result<(), DecodeError> {
    if got == expected { Ok(()) } else { Err(DecodeError::Unknown { what, got: got.into() }) }
}

fn decode_txn<'a>(reader: &mut Reader<'a>) -> Result<Txn<'a>, DecodeError> {
    let mut counts = [0; 4];
    for count in &mut counts {
        *count = reader.u16("the counts of a transaction")?;
    }
    let [compares, success, failure, reserved] = counts;
    if reserved != 0 {
        return Err(DecodeError::Unknown { what: "a reserved field of a transaction", got: reserved.into() });
    }
    Ok(Txn {
        compares: (0..compares).map(|_| decode_compare(reader)).collect::<Result<_, _>>()?,
        success: (0..success).map(|_| decode_op(reader)).collect::<Result<_, _>>()?,
        failure: (0..failure).map(|_| decode_op(reader)).collect::<Result<_, _>>()?,
    })
}

fn decode_op<'a>(reader: &mut Reader<'a>) -> Result<Op<'a>, DecodeError> {
    let kind = reader.u8("the kind of an operation")?;
    let flags = reader.u8("the flags of an operation")?;
    let key_len = reader.u16("the key length of an operation")?.into();
    let tail_len = reader.u32("the second length of an operation")? as usize;
    let number = reader.u64("a number of an operation")?;
    let known_flags = if kind == OP_RANGE { FLAG_KEYS_ONLY | FLAG_COUNT_ONLY } else { FLAG_PREV_KV };
    if flags & !known_flags != 0 {
        return Err(DecodeError::Unknown { what: "the flags of an operation", got: flags.into() });
    }
    let revision = if kind == OP_RANGE { reader.u64("the revision of a range")? } else { 0 };
    let key = reader.bytes("the key of an operation", key_len)?;
    let tail = reader.bytes("the value or range end of an operation", tail_len)?;
    let range = KeyRange { key, range_end: tail };
    match kind {
        OP_PUT => Ok(Op::Put { key, value: tail, lease: number, prev_kv: flags & FLAG_PREV_KV != 0 }),
        OP_DELETE if number == 0 => Ok(Op::Delete { range, prev_kv: flags & FLAG_PREV_KV != 0 }),
        OP_DELETE => Err(DecodeError::Unknown { what: "a reserved field of a delete", got: number }),
        OP_RANGE => Ok(Op::Range(RangeOp {
            range,
            limit: number,
            revision,
            keys_only: flags & FLAG_KEYS_ONLY != 0,
            count_only: flags & FLAG_COUNT_ONLY != 0,
        })),
        got => Err(DecodeError::Unknown { what: "the kind of an operation", got: got.into() }),
    }
}

fn decode_compare<'a>(reader: &mut Reader<'a>) -> Result<Compare<'a>, DecodeError> {
    let target = reader.u8("the target of a compare")?;
    let result = reader.u8("the result of a compare")?;
    let key_len = reader.u16("the key length of a compare")?.into();
    let tail_len = reader.u32("the value length of a compare")? as usize;
    let number = reader.u64("the number of a compare")?;
    let key = reader.bytes("the key of a compare", key_len)?;
    let value = reader.bytes("the value of a compare", tail_len)?;
    let target = match target {
        4 if number == 0 => CompareTarget::Value(value),
        1..=5 if !value.is_empty() || target == 4 => {
            return Err(DecodeError::Unknown { what: "a reserved field of a compare", got: number });
        }
        1 => CompareTarget::Version(number),
        2 => CompareTarget::CreateRevision(number),
        3 => CompareTarget::ModRevision(number),
        5 => CompareTarget::Lease(number),
        got => return Err(DecodeError::Unknown { what: "the target of a compare", got: got.into() }),
    };
    let result = match result {
        1 => CompareResult::Equal,
        2 => CompareResult::Greater,
        3 => CompareResult::Less,
        4 => CompareResult::NotEqual,
        got => return Err(DecodeError::Unknown { what: "the result of a compare", got: got.into() }),
    };
    Ok(Compare { key, target, result })
}

/// Checks a command once, where it enters: form, limits, and that its keys are on one shard.
///
/// # Errors
/// What is wrong with it.
pub fn validate(bytes: &[u8], limits: &Limits) -> Result<CommandInfo, CommandError> {
    check_size(bytes, limits)?;
    match decode(bytes)? {
        Command::Op(op) => {
            let range = range_of(&op);
            check_key(range.key)?;
            check_op_lease(&op)?;
            let shard = range.is_single().then(|| shard_of_key(range.key, limits.shard_count));
            let shard = if limits.shard_count == 1 { Some(ShardId::new(0)) } else { shard };
            Ok(CommandInfo { shard })
        }
        Command::Txn(txn) => validate_txn(&txn, limits),
    }
}

/// Whether a command may add something to the state: it puts, or a branch of it does. Bytes that are no command add nothing.
#[must_use]
pub fn adds(bytes: &[u8]) -> bool {
    let is_put = |op: &Op<'_>| matches!(op, Op::Put { .. });
    match decode(bytes) {
        Ok(Command::Op(op)) => is_put(&op),
        Ok(Command::Txn(txn)) => txn.success.iter().chain(&txn.failure).any(is_put),
        Err(_) => false,
    }
}

/// Checks a range request once, where it enters.
///
/// # Errors
/// What is wrong with it.
pub fn validate_range(bytes: &[u8], limits: &Limits) -> Result<(), CommandError> {
    check_size(bytes, limits)?;
    check_key(decode_range(bytes)?.range.key)
}

const fn check_size(bytes: &[u8], limits: &Limits) -> Result<(), CommandError> {
    if bytes.len() as u64 > limits.request_bytes {
        return Err(CommandError::TooLarge { got: bytes.len(), limit: limits.request_bytes });
    }
    Ok(())
}

fn check_key(key: &[u8]) -> Result<(), CommandError> {
    key_len(key).map(|_| ())
}

/// Refuses a put's lease until there are leases; 0 = none.
///
/// # Errors
/// It names one.
pub const fn check_lease(lease: u64) -> Result<(), CommandError> {
    if lease == 0 { Ok(()) } else { Err(CommandError::NoLeases { lease }) }
}

const fn check_op_lease(op: &Op<'_>) -> Result<(), CommandError> {
    match op {
        Op::Put { lease, .. } => check_lease(*lease),
        Op::Delete { .. } | Op::Range(_) => Ok(()),
    }
}

fn range_of<'a>(op: &Op<'a>) -> KeyRange<'a> {
    match op {
        Op::Put { key, .. } => KeyRange { key, range_end: &[] },
        Op::Delete { range, .. } => *range,
        Op::Range(range) => range.range,
    }
}

fn validate_txn(txn: &Txn<'_>, limits: &Limits) -> Result<CommandInfo, CommandError> {
    for len in [txn.compares.len(), txn.success.len(), txn.failure.len()] {
        if len > limits.txn_ops as usize {
            return Err(CommandError::TooManyOps { got: len, limit: limits.txn_ops });
        }
    }
    let mut shard = None;
    let compares = txn.compares.iter().map(|compare| KeyRange { key: compare.key, range_end: &[] });
    for range in compares.chain(txn.success.iter().chain(&txn.failure).map(range_of)) {
        check_key(range.key)?;
        if !range.is_single() && limits.shard_count > 1 {
            return Err(CommandError::RangeInTxn { shard_count: limits.shard_count });
        }
        let second = shard_of_key(range.key, limits.shard_count);
        let first = *shard.get_or_insert(second);
        if first != second {
            return Err(CommandError::SeveralShards { first, second });
        }
    }
    check_duplicates(&txn.success)?;
    check_duplicates(&txn.failure)?;
    txn.success.iter().chain(&txn.failure).try_for_each(check_op_lease)?;
    Ok(CommandInfo { shard: Some(shard.unwrap_or_default()) })
}

/// A branch writes each key at most once, so that a revision has one version of a key.
fn check_duplicates(ops: &[Op<'_>]) -> Result<(), CommandError> {
    let mut put_keys = std::collections::BTreeSet::new();
    for op in ops {
        if let Op::Put { key, .. } = op
            && !put_keys.insert(*key)
        {
            return Err(duplicate(key));
        }
    }
    for op in ops {
        if let Op::Delete { range, .. } = op
            && let Some(key) = put_keys.range(range.key..).next().filter(|key| range.contains(key))
        {
            return Err(duplicate(key));
        }
    }
    Ok(())
}

fn duplicate(key: &[u8]) -> CommandError {
    CommandError::DuplicateKey { key: String::from_utf8_lossy(key).into_owned() }
}
