//! Answers to commands and reads, as they are encoded for clients. Layout: `docs/format/command.md`.

use codec::{DecodeError, Reader};
use serde::{Deserialize, Serialize};

/// A key and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyValue {
    /// The key.
    #[serde(with = "crate::hex")]
    pub key: Vec<u8>,
    /// Its value; empty if only keys were asked for.
    #[serde(with = "crate::hex")]
    pub value: Vec<u8>,
    /// Revision that created it.
    pub create_revision: u64,
    /// Revision that last changed it.
    pub mod_revision: u64,
    /// Times it was written since it was created.
    pub version: u64,
    /// The lease it belongs to; 0 = none.
    pub lease: u64,
}

/// The answer to one operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "snake_case", deny_unknown_fields)]
pub enum OpResponse {
    /// The answer to a put.
    Put {
        /// What was there before, if asked for and there was something.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prev_kv: Option<KeyValue>,
    },
    /// The answer to a delete.
    Delete {
        /// Keys that were deleted.
        deleted: u64,
        /// What was there before, if asked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        prev_kvs: Vec<KeyValue>,
    },
    /// The answer to a range.
    Range {
        /// Keys found, in order.
        kvs: Vec<KeyValue>,
        /// More are there than the limit, or the size of an answer, allowed.
        more: bool,
        /// How many there are in all.
        count: u64,
    },
}

/// The answer to a command or a read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Response {
    /// Revision of the state that it was answered from, or that it made.
    pub revision: u64,
    /// A transaction's compares held; always true otherwise.
    pub succeeded: bool,
    /// Answers to its operations.
    pub ops: Vec<OpResponse>,
}

/// Kind of the answer to a put.
pub const OP_PUT: u8 = 1;
/// Kind of the answer to a delete.
pub const OP_DELETE: u8 = 2;
/// Kind of the answer to a range.
pub const OP_RANGE: u8 = 3;

const FLAG_MORE: u8 = 1;

/// What is known of a key, borrowed from the state.
#[derive(Clone, Copy, Debug)]
pub struct KvView<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// Revision that created it.
    pub create_revision: u64,
    /// Revision that last changed it.
    pub mod_revision: u64,
    /// Times it was written since it was created.
    pub version: u64,
    /// The lease it belongs to; 0 = none.
    pub lease: u64,
}

/// Appends answers to a buffer.
#[derive(Debug)]
pub struct ResponseWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    ops_count: u32,
    /// Size from which on no more is written. Unit: bytes.
    bytes_limit: usize,
    is_over: bool,
}

impl<'a> ResponseWriter<'a> {
    /// Begins an answer; `finish` fills in what is known last.
    pub fn begin(out: &'a mut Vec<u8>, bytes_limit: usize) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; 16]);
        Self { out, start, ops_count: 0, bytes_limit, is_over: false }
    }

    /// Goes on with an answer that was begun at `start` with `ops_count` operations. If it was finished, that does not count.
    pub fn resume(out: &'a mut Vec<u8>, start: usize, ops_count: u32, bytes_limit: usize) -> Self {
        Self { out, start, ops_count, bytes_limit, is_over: false }
    }

    /// Whether the answer is whole; otherwise it grew over the limit and must not be used.
    pub fn finish(self, revision: u64, succeeded: bool) -> bool {
        let header = &mut self.out[self.start..self.start + 16];
        header[..8].copy_from_slice(&revision.to_le_bytes());
        header[8] = u8::from(succeeded);
        header[12..].copy_from_slice(&self.ops_count.to_le_bytes());
        !self.is_over
    }

    /// Begins the answer to one operation and returns its place for `end_op`.
    pub fn begin_op(&mut self) -> usize {
        self.ops_count += 1;
        self.out.extend_from_slice(&[0; 16]);
        self.out.len() - 16
    }

    /// Appends a key with what is known of it. Over the limit nothing is appended, and `finish` says so.
    pub fn kv(&mut self, kv: &KvView<'_>) {
        self.is_over |= self.bytes_len() + kv.key.len() + kv.value.len() > self.bytes_limit;
        if self.is_over {
            return;
        }
        for number in [kv.create_revision, kv.mod_revision, kv.version, kv.lease] {
            self.out.extend_from_slice(&number.to_le_bytes());
        }
        for len in [kv.key.len(), kv.value.len()] {
            let len = u32::try_from(len).expect("keys and values are below 4 GiB");
            self.out.extend_from_slice(&len.to_le_bytes());
        }
        self.out.extend_from_slice(kv.key);
        self.out.extend_from_slice(kv.value);
    }

    /// Bytes of the answer so far.
    pub fn bytes_len(&self) -> usize {
        self.out.len() - self.start
    }

    /// Ends the answer to one operation: its kind, whether more keys are there, how many keys it holds, and its count.
    pub fn end_op(&mut self, place: usize, kind: u8, more: bool, kvs_count: u32, number: u64) {
        let header = &mut self.out[place..place + 16];
        header[0] = kind;
        header[1] = u8::from(more) * FLAG_MORE;
        header[4..8].copy_from_slice(&kvs_count.to_le_bytes());
        header[8..].copy_from_slice(&number.to_le_bytes());
    }
}

impl Response {
    /// Reads an answer.
    ///
    /// # Errors
    /// The bytes do not follow the format.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let revision = reader.u64("the revision of an answer")?;
        let succeeded = match reader.u8("the outcome of an answer")? {
            0 => false,
            1 => true,
            got => return Err(DecodeError::Unknown { what: "the outcome of an answer", got: got.into() }),
        };
        for _ in 0..3 {
            zero(reader.u8("a reserved byte of an answer")?.into(), "a reserved byte of an answer")?;
        }
        let count = reader.u32("the number of operations in an answer")?;
        let ops = (0..count).map(|_| decode_op(&mut reader)).collect::<Result<_, _>>()?;
        reader.finish("an answer")?;
        Ok(Self { revision, succeeded, ops })
    }
}

/// What says nothing is zero.
const fn zero(got: u64, what: &'static str) -> Result<(), DecodeError> {
    if got == 0 { Ok(()) } else { Err(DecodeError::Unknown { what, got }) }
}

fn decode_op(reader: &mut Reader<'_>) -> Result<OpResponse, DecodeError> {
    let kind = reader.u8("the kind of an operation's answer")?;
    let flags = reader.u8("the flags of an operation's answer")?;
    let reserved = reader.u16("the reserved bytes of an operation's answer")?;
    zero(reserved.into(), "the reserved bytes of an operation's answer")?;
    let known_flags = if kind == OP_RANGE { FLAG_MORE } else { 0 };
    zero((flags & !known_flags).into(), "an unknown flag of an operation's answer")?;
    let kvs_count = reader.u32("the number of keys in an answer")?;
    let number = reader.u64("the count in an answer")?;
    let mut kvs = (0..kvs_count).map(|_| decode_kv(reader)).collect::<Result<Vec<_>, _>>()?;
    match kind {
        OP_PUT => {
            let prev_kv = kvs.pop();
            zero(number, "the count in the answer to a put")?;
            zero(kvs.len() as u64, "a second previous pair in the answer to a put")?;
            Ok(OpResponse::Put { prev_kv })
        }
        OP_DELETE => Ok(OpResponse::Delete { deleted: number, prev_kvs: kvs }),
        OP_RANGE => Ok(OpResponse::Range { kvs, more: flags & FLAG_MORE != 0, count: number }),
        got => Err(DecodeError::Unknown { what: "the kind of an operation's answer", got: got.into() }),
    }
}

fn decode_kv(reader: &mut Reader<'_>) -> Result<KeyValue, DecodeError> {
    let create_revision = reader.u64("a create revision")?;
    let mod_revision = reader.u64("a mod revision")?;
    let version = reader.u64("a version")?;
    let lease = reader.u64("a lease")?;
    let key_len = reader.u32("the length of a key")? as usize;
    let value_len = reader.u32("the length of a value")? as usize;
    let key = reader.bytes("a key", key_len)?.to_vec();
    let value = reader.bytes("a value", value_len)?.to_vec();
    Ok(KeyValue { key, value, create_revision, mod_revision, version, lease })
}
