//! Appending to a log: entries, hard states, marks, and the batch that is put together in place.

use super::Log;
use crate::damage::Inconsistency;
use crate::error::AppendError;
use crate::format::{EntryHeader, EntryKind, HARD_STATE_PAYLOAD_BYTES, frame_bytes};
use crate::index::Slot;
use crate::limits::{FIRST_FRAME_OFFSET, MEMBERS_BYTES_MAX};
use crate::origin::{ORIGIN_FIXED_BYTES, Origin};
use crate::recovery::{SegmentStart, check_sequence, lineage_of};
use crate::storage::{Noted, Storage};
use crate::types::{EntryId, HardStateRecord, Lsn, Term};
use crate::writer::{Moved, Placed, Space};

impl<S: Storage> Log<S> {
    /// Longest payload of an entry in this log. Unit: bytes.
    #[must_use]
    pub fn payload_limit_bytes(&self) -> usize {
        self.writer.payload_limit_bytes()
    }

    /// Appends an entry as its leader made it; neither header nor payload is checked or checksummed again.
    ///
    /// An index at or below the last one supersedes the entries from there on; they stay in the files and stop counting.
    /// Returns the end of its frame: the entry is durable once `durable_lsn()` reaches that. On an error nothing changed.
    pub fn append_entry(&mut self, header: &EntryHeader, payload: &[u8]) -> Result<Lsn, AppendError> {
        self.may_append()?;
        self.check_entry(header.id(), header.kind())?;
        let members = (header.kind() == EntryKind::MEMBERS).then_some(payload);
        if members.is_some_and(|members| members.len() > MEMBERS_BYTES_MAX) {
            return Err(AppendError::TooLarge { payload_bytes: payload.len(), limit_bytes: MEMBERS_BYTES_MAX });
        }
        self.make_room(payload.len(), Space::Common)?;
        let placed = self.writer.write(&mut self.storage, header, payload, self.commit.durable());
        self.index_entry(header, placed);
        self.members.put(header.index(), members);
        Ok(placed.end)
    }

    /// Appends term and vote. Returns the end of the frame: nothing that rests on them may leave before that is durable.
    ///
    /// Uses the reserve at a segment's end, so it waits for a segment only after dozens of elections without one. Panics
    /// if the term falls or a vote changes within its term: no caller may forget a vote.
    pub fn append_hard_state(&mut self, hard_state: HardStateRecord) -> Result<Lsn, AppendError> {
        self.may_append()?;
        assert!(
            hard_state.may_follow(&self.hard_state),
            "hard state {hard_state:?} takes back {before:?}",
            before = self.hard_state
        );
        let payload = hard_state.vote.to_le_bytes();
        let header = EntryHeader::local(EntryKind::HARD_STATE, hard_state.term, &payload);
        self.make_room(payload.len(), Space::WithReserve)?;
        let placed = self.writer.write(&mut self.storage, &header, &payload, self.commit.durable());
        assert!(placed.end > self.durable_lsn(), "what was just stored is not durable");
        self.hard_state = hard_state;
        self.stats.hard_states_count += 1;
        self.on_frame(placed);
        Ok(placed.end)
    }

    /// Appends a frame that carries nothing but the durable watermark: once it is durable, damage to anything before it
    /// is told from a torn tail. For a log that was just built out of a damaged one. Returns the end of the frame.
    ///
    /// The mark lies in a page of its own, after another that fills up the page of what it covers, so that losing one
    /// page never takes both. That costs up to two pages.
    pub(crate) fn append_mark(&mut self) -> Result<Lsn, AppendError> {
        self.may_append()?;
        let together = self.writer.mark_filler_bytes().map_or(0, |filler| filler + frame_bytes(0));
        self.make_room(together, Space::Common)?;
        // Asked again: there is nothing to fill up if this moved on to the next segment.
        if let Some(filler) = self.writer.mark_filler_bytes() {
            self.write_mark(&vec![0; filler]);
        }
        Ok(self.write_mark(&[]))
    }

    /// Whether entries with these payloads could be appended now, a hard state before them, without waiting for a segment.
    ///
    /// True also if one of them is too large for any segment: waiting would not help, and appending says so.
    #[must_use]
    pub fn has_room_for(&self, payload_lens: impl IntoIterator<Item = usize>) -> bool {
        let limit = self.writer.limit(Space::Common);
        let mut seq = self.writer.seq();
        let mut offset = self.writer.offset();
        if offset == FIRST_FRAME_OFFSET {
            offset += self.origin_frame_bytes();
        }
        offset += frame_bytes(HARD_STATE_PAYLOAD_BYTES);
        for payload_len in payload_lens {
            if payload_len > self.payload_limit_bytes() {
                return true;
            }
            if offset + frame_bytes(payload_len) > limit {
                seq = seq.next();
                offset = FIRST_FRAME_OFFSET;
            }
            if offset == FIRST_FRAME_OFFSET {
                offset += self.origin_frame_bytes();
            }
            if !self.storage.contains(seq) {
                return false;
            }
            offset += frame_bytes(payload_len);
        }
        true
    }

    /// Begins a batch: one entry that is put together in place, in the mapped segment.
    ///
    /// Moves to the next segment if this one has no room for `payload_min_bytes`; a batch that has begun never moves. While
    /// it is being formed nothing else can be appended, and no sync covers it. `id` follows the last entry.
    pub fn begin_batch(&mut self, id: EntryId, kind: EntryKind, payload_min_bytes: usize) -> Result<(), AppendError> {
        self.may_append()?;
        self.check_entry(id, kind)?;
        if kind == EntryKind::MEMBERS {
            return Err(AppendError::ReservedKind { kind });
        }
        if id.index != self.last_id().index.next() {
            return Err(AppendError::OutOfSequence { got: id, last: self.last_id() });
        }
        self.make_room(payload_min_bytes, Space::Common)?;
        self.writer.begin_batch(id, kind);
        Ok(())
    }

    /// Adds parts to the batch, one after the other; all of them or, on an error, none.
    pub fn batch_push(&mut self, parts: &[&[u8]]) -> Result<(), AppendError> {
        self.not_latched()?;
        self.writer.push(&mut self.storage, parts)
    }

    /// Length of the payload of the batch being formed; 0 without one. Unit: bytes.
    #[must_use]
    pub fn batch_bytes(&self) -> usize {
        self.writer.batch().map_or(0, |batch| batch.payload_bytes())
    }

    /// Whether a batch is being formed, and which entry it will be.
    #[must_use]
    pub fn batch_id(&self) -> Option<EntryId> {
        self.writer.batch().map(|batch| batch.id)
    }

    /// Completes the batch: from here on it is the log's last entry.
    pub fn finish_batch(&mut self) -> Result<EntryId, AppendError> {
        self.not_latched()?;
        let (header, placed) = self.writer.finish_batch(&mut self.storage, self.commit.durable())?;
        self.index_entry(&header, placed);
        self.members.put(header.index(), None);
        self.stats.batches_finished_count += 1;
        Ok(header.id())
    }

    /// Drops the batch being formed, if any, as if it had never begun.
    pub fn abandon_batch(&mut self) {
        if self.writer.abandon_batch(&mut self.storage) {
            self.stats.batches_abandoned_count += 1;
        }
    }

    fn not_latched(&self) -> Result<(), AppendError> {
        self.latch.clone().map_or(Ok(()), |latch| Err(latch.into()))
    }

    fn may_append(&self) -> Result<(), AppendError> {
        self.not_latched()?;
        if self.writer.batch().is_some() { Err(AppendError::BatchOpen) } else { Ok(()) }
    }

    fn check_entry(&self, id: EntryId, kind: EntryKind) -> Result<(), AppendError> {
        if !kind.is_entry() {
            return Err(AppendError::ReservedKind { kind });
        }
        let out_of_sequence = |_: Inconsistency| AppendError::OutOfSequence { got: id, last: self.last_id() };
        check_sequence(&self.index, id).map_err(out_of_sequence)
    }

    fn make_room(&mut self, payload_len: usize, space: Space) -> Result<(), AppendError> {
        let (index, hard_state, members) = (&self.index, self.hard_state, self.members.current());
        let origin = || Origin::encode(index.last_id(), index.last_lineage(), hard_state, members);
        match self.writer.make_room(&mut self.storage, payload_len, space, self.commit.durable(), origin) {
            Ok(Moved { sealed, is_begun }) => {
                if let Some((seq, end_offset)) = sealed {
                    self.commit.seal(seq, end_offset);
                    self.stats.segments_activated_count += 1;
                }
                if is_begun {
                    self.starts.push_back(SegmentStart { seq: self.writer.seq(), base: self.index.last_id() });
                    self.note(Noted { first_segment: self.starts.front().map(|start| start.seq), ..Noted::default() });
                }
                Ok(())
            }
            Err(error) => {
                match &error {
                    AppendError::Latched(latch) => self.latch = Some(latch.clone()),
                    AppendError::SegmentNotReady => self.stats.segment_not_ready_count += 1,
                    _ => {}
                }
                Err(error)
            }
        }
    }

    /// Size of the origin of a segment that is begun now. Unit: bytes.
    fn origin_frame_bytes(&self) -> usize {
        frame_bytes(ORIGIN_FIXED_BYTES + self.members.current().len())
    }

    fn write_mark(&mut self, payload: &[u8]) -> Lsn {
        let header = EntryHeader::local(EntryKind::MARK, Term::ZERO, payload);
        let placed = self.writer.write(&mut self.storage, &header, payload, self.commit.durable());
        self.stats.marks_count += 1;
        self.on_frame(placed);
        placed.end
    }

    fn index_entry(&mut self, header: &EntryHeader, placed: Placed) {
        let payload_len = u32::try_from(header.payload_len()).expect("checked when the header was made");
        let lineage = lineage_of(&self.index, header);
        let slot = Slot { term: header.term(), lsn: placed.start, payload_len, kind: header.kind(), lineage };
        self.stats.entries_superseded_count += self.index.put(header.index(), slot) as u64;
        assert_eq!(self.last_id(), header.id(), "the entry that was appended last is the last one");
        assert!(self.persisted_index() < header.index(), "what was just stored is not durable");
        self.stats.entries_count += 1;
        self.on_frame(placed);
    }

    fn on_frame(&mut self, placed: Placed) {
        assert!(placed.start < placed.end && placed.end == self.end_lsn(), "a frame that is not the log's last");
        self.stats.frames_bytes += placed.end.get() - placed.start.get();
    }
}
