//! The log of one shard on one node: entries, hard states, the batch being formed, what is durable.
//!
//! A plain value over a [`Storage`]. It never waits: what needs time is asked for ([`Log::next_sync`],
//! [`Log::needs_segment`]) and reported back. It does not decide which entries are right; that is Raft's business.

mod append;
mod reading;

use std::collections::VecDeque;

use crate::damage::Tail;
use crate::error::{Latch, OpenError};
use crate::format::{CHAIN_START, EntryKind};
use crate::group_commit::{GroupCommit, SyncFailure, SyncId, SyncRequest};
use crate::index::EntryIndex;
use crate::limits::{FIRST_FRAME_OFFSET, MEMBERS_BYTES_MAX, SEGMENTS_AHEAD};
use crate::lineage::Lineage;
use crate::lsn::{Geometry, SegmentSeq};
use crate::members::MembersHistory;
use crate::origin::Origin;
use crate::recovery::{self, Rebuild, RecoveryReport, SegmentStart};
use crate::segment::SegmentIdentity;
use crate::stats::LogStats;
use crate::storage::{Noted, Storage};
use crate::types::{EntryId, HardStateRecord, Index, Lsn, Term};
use crate::walk::LogEnd;
use crate::writer::Writer;

/// What a log is opened as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Whose log it is.
    pub identity: SegmentIdentity,
    /// Size of a segment; fixed when the log is created. Unit: bytes.
    pub segment_bytes: u64,
    /// The last entry of the state that the owner keeps elsewhere, durably; `EntryId::ZERO` without one. It was committed.
    ///
    /// The log must hold it or begin right after it. A log that holds nothing yet begins there.
    pub state: EntryId,
    /// Lineage of all entries up to `state`. Not looked at where the log itself knows it: if it holds that entry or begins after it.
    pub state_lineage: Lineage,
}

/// The log. See the crate's documentation for the calling order.
///
/// Invariants: `durable_lsn() <= end_lsn()`; `persisted_index() <= last_id().index`; both durable positions only grow,
/// except that superseding entries lowers `persisted_index`.
#[derive(Debug)]
pub struct Log<S> {
    storage: S,
    geometry: Geometry,
    index: EntryIndex,
    writer: Writer,
    commit: GroupCommit,
    hard_state: HardStateRecord,
    members: MembersHistory,
    /// Segments that were begun, oldest first.
    starts: VecDeque<SegmentStart>,
    /// What the storage's note says.
    noted: Noted,
    latch: Option<Latch>,
    stats: LogStats,
}

impl<S: Storage> Log<S> {
    /// Opens the log that `storage` holds, or a new one if that is empty.
    ///
    /// The decision table is in `decision`'s documentation. A log that is damaged where it was durable does not open and
    /// is not changed. Otherwise everything after its end is turned to zero before this returns, and what it holds
    /// counts as durable: the storage shows what the device holds.
    pub fn open(mut storage: S, options: LogOptions) -> Result<(Self, RecoveryReport), OpenError> {
        let LogOptions { identity, segment_bytes, state, state_lineage } = options;
        let geometry = Geometry::new(segment_bytes).ok_or(OpenError::SegmentBytes { got: segment_bytes })?;
        let (rebuild, tail, end) = match recovery::read(&storage, geometry, identity, state, state_lineage)? {
            Some(recovered) => {
                if let Some(first) = storage.noted().first_segment {
                    storage.remove_before(first)?;
                }
                if let Some(first) = recovered.end.unused_from {
                    storage.remove_from(first)?;
                }
                recovery::clean_tail(&mut storage, &recovered.end)?;
                (recovered.rebuild, recovered.tail, recovered.end)
            }
            None => {
                let (seq, offset) = (SegmentSeq::FIRST, FIRST_FRAME_OFFSET);
                let lsn = geometry.lsn(seq, offset);
                let end = LogEnd { seq, offset, chain: CHAIN_START, lsn, unused_from: None };
                (Rebuild::new(state, state_lineage), Tail::Clean, end)
            }
        };
        let writer = Writer::new(geometry, identity, &end);
        let Rebuild { mut index, hard_state, frames_count, members, starts, .. } = rebuild;
        index.advance_persisted(writer.end());
        // What was read counts as durable from here on and is acknowledged without another sync.
        let first_segment = storage.segments().first().copied();
        let noted = Noted { durable: writer.end(), first_segment, ..Noted::default() }.max(storage.noted());
        storage.note(noted);
        let report = RecoveryReport {
            segments_count: storage.segments().len(),
            frames_count,
            entries_count: index.len(),
            base: index.base(),
            last: index.last_id(),
            hard_state,
            end: writer.end(),
            tail,
            unused_from: end.unused_from,
        };
        storage.write_from(writer.seq())?;
        let commit = GroupCommit::new(geometry, writer.end());
        let log = Self {
            storage,
            geometry,
            index,
            writer,
            commit,
            hard_state,
            members,
            starts,
            noted,
            latch: None,
            stats: LogStats::default(),
        };
        log.assert_positions();
        assert_eq!(log.durable_lsn(), log.end_lsn(), "what was read counts as durable");
        assert_eq!(log.persisted_index(), log.last_id().index, "what was read counts as durable");
        Ok((log, report))
    }

    /// Begins a log in an empty place, after `origin`: for an owner whose state came from elsewhere.
    ///
    /// Nothing of it is durable before something is appended and synced. Panics if the origin's entry is of a later term than its
    /// hard state, or its members are too long.
    ///
    /// # Errors
    /// As for [`Log::open`]; or there is a log already.
    pub fn begin(storage: S, options: LogOptions, origin: Origin) -> Result<Self, OpenError> {
        assert!(origin.hard_state.term >= origin.base.term, "{origin:?} is of a later term than the hard state");
        assert!(origin.members.len() <= MEMBERS_BYTES_MAX, "{} bytes of members", origin.members.len());
        let (mut log, report) = Self::open(storage, options)?;
        if !log.starts.is_empty() || report.frames_count > 0 {
            return Err(OpenError::NotEmpty);
        }
        log.index = EntryIndex::new(origin.base, origin.lineage);
        log.hard_state = origin.hard_state;
        log.members = MembersHistory::new(origin.members);
        log.assert_positions();
        Ok(log)
    }

    /// The entry that the log begins after; `EntryId::ZERO` for one that begins with the first entry that was ever made.
    #[must_use]
    pub fn base(&self) -> EntryId {
        self.index.base()
    }

    /// Who the members are after the last entry, which the origin of the next segment says; as [`Origin::members`].
    #[must_use]
    pub fn members(&self) -> &[u8] {
        self.members.current()
    }

    /// Who the members are before the first entry; as [`Origin::members`].
    #[must_use]
    pub fn base_members(&self) -> &[u8] {
        self.members.base()
    }

    /// The entries of [`EntryKind::MEMBERS`] in this log with their payloads, in ascending order.
    pub fn members_entries(&self) -> impl Iterator<Item = (Index, &[u8])> {
        self.members.entries()
    }

    /// Drops whole segments from the log's start, as many as hold only entries up to `state`, which is kept elsewhere, durably.
    ///
    /// The entry at `state` was committed, so that none up to it will ever be superseded. Notes the new first segment; the files
    /// go later (see [`Storage::drop_before`]). Returns the log's first segment if it is another than before.
    pub fn drop_before(&mut self, state: Index) -> Option<SegmentSeq> {
        if self.latch.is_some() {
            return None;
        }
        let durable = self.commit.durable();
        let can_begin = |start: &SegmentStart| {
            let begin = self.geometry.lsn(start.seq, FIRST_FRAME_OFFSET);
            // Superseded by something in this segment or after it, the entry is another now, or lies there.
            let is_before = self.index.get(start.base.index).is_none_or(|slot| slot.lsn < begin);
            let is_current = self.index.term(start.base.index) == Some(start.base.term);
            start.base.index <= state && is_current && is_before && begin < durable
        };
        let kept = self.starts.iter().rposition(can_begin).filter(|kept| *kept > 0)?;
        self.starts.drain(..kept);
        let SegmentStart { seq, base } = *self.starts.front()?;
        self.index.drop_to(base);
        self.members.drop_to(base.index);
        self.storage.drop_before(seq);
        self.noted.first_segment = Some(seq);
        self.stats.segments_dropped_count += kept as u64;
        assert!(self.base().index <= state, "entries behind the state {state} were dropped, up to {}", self.base());
        self.assert_positions();
        Some(seq)
    }

    /// Index of the first entry that the log holds or will hold: the one after `base()`.
    #[must_use]
    pub fn first_index(&self) -> Index {
        self.index.first_index()
    }

    /// The last entry; `base()` in a log without entries. It need not be durable.
    #[must_use]
    pub fn last_id(&self) -> EntryId {
        self.index.last_id()
    }

    /// Term of the entry at `index`; also of `base()`. `None` if the log does not reach there.
    #[must_use]
    pub fn term(&self, index: Index) -> Option<Term> {
        self.index.term(index)
    }

    /// Running checksum of all entries up to the one at `index`; also of `base()`. `None` if the log does not reach there.
    #[must_use]
    pub fn lineage(&self, index: Index) -> Option<Lineage> {
        self.index.lineage(index)
    }

    /// Kind of the entry at `index`, without reading it. `None` if the log does not hold it.
    #[must_use]
    pub fn kind(&self, index: Index) -> Option<EntryKind> {
        self.index.get(index).map(|slot| slot.kind)
    }

    /// Highest index whose entry, and all before it, are durable on this node's own disk.
    ///
    /// Superseding an entry lowers it below that entry until the new one is durable. Invariant: at most `last_id().index`.
    #[must_use]
    pub fn persisted_index(&self) -> Index {
        self.index.persisted_index()
    }

    /// Everything below this position is durable. A contiguous prefix: no sync raises it past something older.
    #[must_use]
    pub fn durable_lsn(&self) -> Lsn {
        self.commit.durable()
    }

    /// End of the last frame. What is appended now is durable once `durable_lsn()` reaches what this returns afterwards.
    #[must_use]
    pub fn end_lsn(&self) -> Lsn {
        self.writer.end()
    }

    /// The hard state appended last. It need not be durable.
    #[must_use]
    pub fn hard_state(&self) -> HardStateRecord {
        self.hard_state
    }

    /// The sync to start now: `None` if nothing is waiting for one, one is in flight, or the log is latched.
    ///
    /// It covers what was appended before this call and nothing that is appended later.
    #[must_use]
    pub fn next_sync(&mut self) -> Option<SyncRequest> {
        if self.latch.is_some() {
            return None;
        }
        let request = self.commit.next(self.writer.seq(), self.writer.offset())?;
        self.stats.syncs_started_count += 1;
        Some(request)
    }

    /// The sync that [`Log::next_sync`] asked for has ended. A failure latches the log; it is never tried again.
    ///
    /// Panics if `id` is not the sync in flight.
    pub fn on_synced(&mut self, id: SyncId, result: Result<(), SyncFailure>) {
        let succeeded = result.is_ok() && self.latch.is_none();
        let request = self.commit.end(id, succeeded);
        match result {
            Ok(()) if succeeded => {
                self.stats.syncs_completed_count += 1;
                self.stats.synced_bytes += request.end_offset - request.start_offset;
                self.index.advance_persisted(self.commit.durable());
                self.assert_positions();
                // What is durable is never stored to again: logs only grow at their end.
                self.storage.seal_before(request.seq);
                // Noted before anyone can be told that it is durable: damage to it is then not taken for a torn tail.
                self.note(Noted { durable: self.commit.durable(), ..Noted::default() });
            }
            Ok(()) => {}
            Err(failure) => {
                mark!("log: a sync failed");
                self.stats.syncs_failed_count += 1;
                let SyncRequest { seq, start_offset, end_offset, .. } = request;
                self.latch.get_or_insert(Latch::SyncFailed { segment: seq, start_offset, end_offset, failure });
            }
        }
    }

    /// Notes, beside the segments, that an entry is committed and with it all before it. The entry need not be durable here.
    ///
    /// Nothing is synced; see [`Storage::note`]. After a restart [`Log::noted`] says so again.
    pub fn note_committed(&mut self, id: EntryId, lineage: Lineage) {
        self.note(Noted { committed: id, committed_lineage: lineage, ..Noted::default() });
    }

    /// What the note beside the segments says. Right after opening that is what earlier runs noted.
    #[must_use]
    pub fn noted(&self) -> Noted {
        self.noted
    }

    /// The failure that stopped this log, if one did. It takes nothing more and durability no longer grows.
    #[must_use]
    pub fn latched(&self) -> Option<&Latch> {
        self.latch.as_ref()
    }

    /// The segment to prepare next, while fewer than `SEGMENTS_AHEAD` are ready beyond the one being written.
    ///
    /// Segments are prepared one at a time and in this order; a log in an empty place asks for its first one.
    #[must_use]
    pub fn needs_segment(&self) -> Option<SegmentSeq> {
        let mut seq = self.writer.seq();
        for _ in 0..=SEGMENTS_AHEAD {
            if !self.storage.contains(seq) {
                return Some(seq);
            }
            seq = seq.next();
        }
        None
    }

    /// The storage.
    #[must_use]
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// The storage, for installing a segment that was prepared.
    pub fn storage_mut(&mut self) -> &mut S {
        &mut self.storage
    }

    /// Gives the storage back, for a simulated restart.
    #[must_use]
    pub fn into_storage(self) -> S {
        self.storage
    }

    /// What the log has done so far.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        self.stats
    }

    /// What holds between the log's positions at all times.
    fn assert_positions(&self) {
        let (base, persisted, last) = (self.base().index, self.persisted_index(), self.last_id().index);
        assert!(base <= persisted && persisted <= last, "base {base}, persisted {persisted}, last {last}");
        let (durable, end) = (self.durable_lsn(), self.end_lsn());
        assert!(durable <= end, "durable up to {durable} of {end}");
        assert!(
            durable < end || persisted == last,
            "all is durable, but only {persisted} of {last} counts as persisted"
        );
    }

    fn note(&mut self, noted: Noted) {
        let noted = self.noted.max(noted);
        if noted != self.noted {
            self.noted = noted;
            self.storage.note(noted);
        }
    }

    fn split(&self, lsn: Lsn) -> (SegmentSeq, usize) {
        self.geometry.split(lsn).expect("positions of frames lie in segments")
    }
}

#[cfg(test)]
impl<S> Log<S> {
    /// Segment and offset where the next frame goes.
    pub(crate) fn writing_end(&self) -> (SegmentSeq, usize) {
        (self.writer.seq(), self.writer.offset())
    }

    /// Checksum that the next frame repeats.
    pub(crate) fn chain(&self) -> u32 {
        self.writer.chain()
    }
}
