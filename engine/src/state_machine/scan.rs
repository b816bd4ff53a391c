//! Ranges, in slices of bounded work: as reads of their own, or as parts of a command. So is a hash of all keys.
//!
//! A read is pinned to the revision at which it began. Versions never change and nothing is compacted, so what it finds does not
//! depend on how it is sliced, nor on what is written meanwhile.

use super::digest::Digest;
use super::{Budget, ChunkCursor, RangeError, Reading, StateMachine};
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
    visit: Visit,
    hash: Option<Hashed>,
}

/// How far the keys of a range were visited, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Visit {
    /// The key to go on from; `None` = not begun.
    next_key: Option<Vec<u8>>,
    tally: Tally,
}

/// How far a hash has come.
#[derive(Debug)]
struct Hashed {
    reading: Reading,
    cursor: ChunkCursor,
    digest: Digest,
}

impl Visit {
    /// Ends the answer to the range, which began at `place`.
    pub(super) fn finish(&self, request: &RangeOp<'_>, place: usize, writer: &mut ResponseWriter<'_>) {
        self.tally.finish(request, place, writer);
    }
}

impl Scan {
    /// True if the scan has begun and is not at its end.
    #[must_use]
    pub const fn is_begun(&self) -> bool {
        self.revision.get() != 0 || self.hash.is_some()
    }

    /// The reading that it has begun and not ended.
    pub(crate) fn reading(&self) -> Option<Reading> {
        self.hash.as_ref().map(|hashed| hashed.reading)
    }
}

impl StateMachine {
    /// Answers a read in one go, appending to `out`.
    ///
    /// # Errors
    /// The revision does not exist, or the bytes are malformed; then `out` is as it was.
    pub fn range(&self, request: &[u8], out: &mut Vec<u8>) -> Result<(), RangeError> {
        let start = out.len();
        let is_done = self.range_slice(request, &mut Scan::default(), out, start, &mut { Budget::UNLIMITED })?;
        assert!(is_done, "nothing is so large");
        Ok(())
    }

    /// Does a part of a read: visits keys until the budget is spent, at least one, and returns true if the answer is whole. If not, call
    /// it again with the same `scan` and with the bytes in `out` from `start` on, which belong together.
    ///
    /// # Errors
    /// The revision does not exist, or the bytes are malformed; then `out` is as it was.
    pub fn range_slice(
        &self,
        request: &[u8],
        scan: &mut Scan,
        out: &mut Vec<u8>,
        start: usize,
        budget: &mut Budget,
    ) -> Result<bool, RangeError> {
        assert!(start <= out.len(), "an answer begins in what was written");
        assert!(scan.is_begun() || start == out.len(), "a read that was not begun has no answer yet");
        assert!(scan.revision <= self.revision, "a read does not outlive the state that it began on");
        let request = command::decode_range(request)?;
        let place = start + HEADERS_BYTES / 2;
        let mut writer = if scan.is_begun() {
            ResponseWriter::resume(out, start, 1, usize::MAX)
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
        let is_done = self.visit_slice(&request, at, &mut scan.visit, &mut writer, budget);
        if is_done {
            scan.visit.finish(&request, place, &mut writer);
            writer.finish(scan.revision.get(), true);
        }
        Ok(is_done)
    }

    /// Does a part of a hash of the whole state as it was after the last entry that was applied whole when it began, with all versions:
    /// what visiting this many keys costs, which it takes off `keys`. Says whether that was the last of it; then the answer was appended
    /// to `out`: revision, index of that entry, hash.
    /// Whoever drops the scan before that ends its reading (`Scan::reading`).
    pub fn hash_slice(&mut self, scan: &mut Scan, out: &mut Vec<u8>, keys: &mut u64) -> bool {
        let hashed = scan.hash.take();
        let mut hashed = hashed.unwrap_or_else(|| Hashed {
            reading: self.begin_reading(),
            cursor: ChunkCursor::default(),
            digest: Digest::default(),
        });
        let hash = self.digest_slice(self.seen_by(&hashed.reading), &mut hashed.cursor, keys, &mut hashed.digest);
        let as_of = *hashed.reading.as_of();
        let Some(hash) = hash else {
            scan.hash = Some(hashed);
            return false;
        };
        self.end_reading(&hashed.reading);
        for number in [as_of.revision.get(), as_of.applied.index.get(), hash] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        true
    }

    /// Visits the keys of a range, from where `visit` stands, until the budget is spent, but at least one; says whether that was the
    /// last of them.
    pub(super) fn visit_slice(
        &self,
        request: &RangeOp<'_>,
        at: Revision,
        visit: &mut Visit,
        writer: &mut ResponseWriter<'_>,
        budget: &mut Budget,
    ) -> bool {
        let bytes_limit = self.options.range_bytes_limit;
        let mut take = |kv: Option<KvView<'_>>, tally: &mut Tally, budget: &mut Budget| {
            let before = writer.bytes_len();
            kv.into_iter().for_each(|kv| tally.take(kv, request, bytes_limit, writer));
            budget.spend((writer.bytes_len() - before) as u64, 1);
        };
        if request.range.is_single() {
            take(self.sections.keys.get(request.range.key, at), &mut visit.tally, budget);
            return true;
        }
        let from = visit.next_key.take();
        for (number, (key, kv)) in self.sections.keys.visit(&request.range, from.as_deref(), at).enumerate() {
            if number > 0 && budget.is_spent() {
                mark!("state machine: a read stops in the middle of a range");
                assert!(from.as_deref().is_none_or(|from| from < key), "a slice comes further than the one before");
                visit.next_key = Some(key.to_vec());
                return false;
            }
            take(kv, &mut visit.tally, budget);
        }
        true
    }
}
