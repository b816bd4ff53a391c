//! Ranges: into the answer of a transaction in one go, or as a read of its own in slices of bounded work. So is a hash of all keys.
//!
//! A read is pinned to the revision at which it began. Versions never change and nothing is compacted, so what it finds does not
//! depend on how it is sliced, nor on what is written meanwhile.

use super::digest::Digest;
use super::section::AsOf;
use super::{ChunkCursor, RangeError, StateMachine};
use crate::types::Revision;
use api::command::{self, RangeOp};
use api::response::{self, KvView, ResponseWriter};

/// Bytes of an answer before the pairs of its only operation.
const HEADERS_BYTES: usize = 32;

/// What a range has found so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    kvs_count: u32,
    kvs_bytes: usize,
    count: u64,
    /// No more keys are taken: the limit, or the size of an answer, is reached.
    is_full: bool,
}

impl Tally {
    fn take(&mut self, kv: KvView<'_>, request: &RangeOp<'_>, bytes_limit: usize, writer: &mut ResponseWriter<'_>) {
        self.count += 1;
        let is_at_limit = request.limit != 0 && u64::from(self.kvs_count) >= request.limit;
        // Its own bytes count and no others, and one key always fits: a range that holds a key never looks empty.
        self.is_full |= is_at_limit || self.kvs_bytes >= bytes_limit;
        if request.count_only || self.is_full {
            return;
        }
        let before = writer.bytes_len();
        writer.kv(&if request.keys_only { KvView { value: &[], ..kv } } else { kv });
        self.kvs_count += 1;
        self.kvs_bytes += writer.bytes_len() - before;
    }

    fn finish(self, request: &RangeOp<'_>, place: usize, writer: &mut ResponseWriter<'_>) {
        assert!(u64::from(self.kvs_count) <= self.count, "what is answered was counted");
        assert!(request.limit == 0 || u64::from(self.kvs_count) <= request.limit, "a range keeps to its limit");
        let more = !request.count_only && self.count > u64::from(self.kvs_count);
        writer.end_op(place, response::OP_RANGE, more, self.kvs_count, self.count);
    }
}

/// A read that is answered in slices: where it stands between two of them.
#[derive(Debug, Default)]
pub struct Scan {
    /// The revision that the answer names; 0 = not begun.
    revision: Revision,
    /// The last key that was visited; empty = none.
    last_key: Vec<u8>,
    tally: Tally,
    hash: Option<Hashed>,
}

/// How far a hash has come.
#[derive(Debug)]
struct Hashed {
    as_of: AsOf,
    cursor: ChunkCursor,
    digest: Digest,
}

impl Scan {
    /// Begun, and not at its end.
    #[must_use]
    pub const fn is_begun(&self) -> bool {
        self.revision.get() != 0 || self.hash.is_some()
    }
}

impl StateMachine {
    /// Answers a read in one go, appending to `out`.
    ///
    /// # Errors
    /// The revision does not exist, or the bytes are malformed; then `out` is as it was.
    pub fn range(&self, request: &[u8], out: &mut Vec<u8>) -> Result<(), RangeError> {
        let start = out.len();
        let mut keys = u64::MAX;
        let is_done = self.range_slice(request, &mut Scan::default(), out, start, &mut keys)?;
        assert!(is_done, "nothing has so many keys");
        Ok(())
    }

    /// Does a part of a read: visits at most so many keys, takes them off `keys`, and says whether the answer is whole. Otherwise
    /// it stands in `out` from `start` on, to be gone on with: `scan` and these bytes belong together.
    ///
    /// # Errors
    /// The revision does not exist, or the bytes are malformed; then `out` is as it was.
    pub fn range_slice(
        &self,
        request: &[u8],
        scan: &mut Scan,
        out: &mut Vec<u8>,
        start: usize,
        keys: &mut u64,
    ) -> Result<bool, RangeError> {
        assert!(start <= out.len(), "an answer begins in what was written");
        assert!(scan.is_begun() || start == out.len(), "a read that was not begun has no answer yet");
        assert!(scan.revision <= self.revision, "a read does not outlive the state that it began on");
        let request = command::decode_range(request)?;
        let place = start + HEADERS_BYTES / 2;
        let mut writer = if scan.is_begun() {
            ResponseWriter::resume(out, start, 1)
        } else {
            let asked = Revision::new(request.revision);
            if asked > self.revision {
                return Err(RangeError::FutureRevision { asked, current: self.revision });
            }
            scan.revision = self.revision;
            // A single range ends at its own limit, with `more` set.
            let mut writer = ResponseWriter::begin(out, usize::MAX);
            writer.begin_op();
            writer
        };
        let at = match request.revision {
            0 => scan.revision,
            asked => Revision::new(asked),
        };
        let is_done = self.visit_slice(&request, at, scan, &mut writer, keys);
        if is_done {
            scan.tally.finish(&request, place, &mut writer);
            writer.finish(scan.revision.get(), true);
        }
        Ok(is_done)
    }

    /// Does a part of a hash of the whole state as it was after the last entry that was applied whole when it began, with all versions:
    /// what visiting so many keys costs, which it takes off `keys`. Says whether that was the last of it; then the answer was appended
    /// to `out`: revision, index of that entry, hash.
    pub fn hash_slice(&self, scan: &mut Scan, out: &mut Vec<u8>, keys: &mut u64) -> bool {
        let begin = || Hashed { as_of: self.as_of(), cursor: ChunkCursor::default(), digest: Digest::default() };
        let Hashed { as_of, cursor, digest } = scan.hash.get_or_insert_with(begin);
        let Some(hash) = self.digest_slice(as_of, cursor, keys, digest) else { return false };
        for number in [as_of.revision.get(), as_of.applied.index.get(), hash] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        true
    }

    /// Visits the keys of a range, from where `scan` stands, until so many were visited; says whether that was the last of them.
    fn visit_slice(
        &self,
        request: &RangeOp<'_>,
        at: Revision,
        scan: &mut Scan,
        writer: &mut ResponseWriter<'_>,
        keys: &mut u64,
    ) -> bool {
        let bytes_limit = self.options.range_bytes_limit;
        if request.range.is_single() {
            *keys = keys.saturating_sub(1);
            let found = self.keys.get(request.range.key, at);
            found.into_iter().for_each(|kv| scan.tally.take(kv, request, bytes_limit, writer));
            return true;
        }
        let behind = std::mem::take(&mut scan.last_key);
        let mut last: &[u8] = &behind;
        for (key, kv) in self.keys.visit(&request.range, (!behind.is_empty()).then_some(&behind), at) {
            if *keys == 0 {
                mark!("state machine: a read stops in the middle of a range");
                scan.last_key = last.to_vec();
                return false;
            }
            *keys -= 1;
            last = key;
            kv.into_iter().for_each(|kv| scan.tally.take(kv, request, bytes_limit, writer));
        }
        true
    }

    /// Writes the answer to a range within a transaction, all of it.
    pub(super) fn write_range(&self, request: &RangeOp<'_>, at: Revision, writer: &mut ResponseWriter<'_>) {
        let place = writer.begin_op();
        let mut tally = Tally::default();
        let bytes_limit = self.options.range_bytes_limit;
        if request.range.is_single() {
            let found = self.keys.get(request.range.key, at);
            found.into_iter().for_each(|kv| tally.take(kv, request, bytes_limit, writer));
        } else {
            let found = self.keys.visit(&request.range, None, at).filter_map(|(_, kv)| kv);
            found.for_each(|kv| tally.take(kv, request, bytes_limit, writer));
        }
        tally.finish(request, place, writer);
    }
}
