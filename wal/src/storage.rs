//! The seam between the log and what holds its bytes: mapped files in production, a simulated disk in tests.
//!
//! A storage stores and shows bytes. It does not sync on its own account: what must become durable is asked for by
//! `SyncRequest`, performed by whoever drives the log, and reported back. The exceptions are [`Storage::reset_tail`],
//! [`Storage::remove_from`] and [`Storage::remove_before`], used only while a log opens, when nobody waits. Beside the
//! segments it keeps one note: see [`Noted`].

use std::fmt::Debug;
use std::ops::Range;

use crate::lineage::Lineage;
use crate::lsn::SegmentSeq;
use crate::types::{EntryId, Lsn};

/// What the note says, a small file beside the segments (`note`). Each part was true when it was noted and stays true, however old the
/// note is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// Everything below this position is durable.
    pub durable: Lsn,
    /// The last entry that this node knew to be committed. The log's owner says so; the log does not check it.
    ///
    /// It need not be durable in this log: a crash of the host may leave a note about an entry that the log lost.
    pub committed: EntryId,
    /// Lineage of all entries up to `committed`.
    pub committed_lineage: Lineage,
    /// The segment in which the log begins: whatever lies before it was dropped and is no part of the log, there or not.
    /// `None` as long as nothing was noted.
    pub first_segment: Option<SegmentSeq>,
}

impl Noted {
    /// What both notes say together.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        let known = if other.committed.index > self.committed.index { other } else { self };
        let Self { committed, committed_lineage, .. } = known;
        let first_segment = self.first_segment.max(other.first_segment);
        Self { durable: self.durable.max(other.durable), committed, committed_lineage, first_segment }
    }
}

/// What holds a log's segments.
///
/// Contract for every implementation:
/// * When a log is opened over it, what [`Storage::bytes`] shows is what is durable, and nothing else.
/// * A segment appears whole: its header durable, every other byte zero, its space allocated. Stores into it cannot
///   fail for want of space.
/// * A store may become durable at any time before the next sync, in any order, in pieces as small as a sector. It is
///   certainly durable once a sync that began after it has completed without failure.
/// * An I/O error under a store ends the process, which is a crash like any other, or fails the next sync.
pub trait Storage {
    /// A segment that was prepared outside, in the form in which this storage takes it.
    type Prepared: Debug;

    /// Adds a segment that was prepared. Panics if it is not the one that the log asked for.
    fn install(&mut self, prepared: Self::Prepared);

    /// Segments present, ascending. A log asks once, when it opens.
    fn segments(&self) -> Vec<SegmentSeq>;

    /// Whether the segment is present.
    fn contains(&self, seq: SegmentSeq) -> bool;

    /// A segment's bytes; empty if it is absent. Shorter than a segment only if the device lost its end.
    fn bytes(&self, seq: SegmentSeq) -> &[u8];

    /// Part of a segment, to be overwritten at once: every byte of `range` counts as stored to.
    ///
    /// Panics if the segment is absent or the range is not within it.
    fn bytes_mut(&mut self, seq: SegmentSeq, range: Range<usize>) -> &mut [u8];

    /// Overwrites a segment with zeros from `offset` to its end; durable on return.
    ///
    /// Interrupted anywhere it may be repeated: it only ever turns bytes to zero.
    fn reset_tail(&mut self, seq: SegmentSeq, offset: usize) -> Result<(), StorageError>;

    /// Removes a segment and all after it, present or not; durable on return. Only for segments that hold nothing.
    fn remove_from(&mut self, seq: SegmentSeq) -> Result<(), StorageError>;

    /// Removes all segments before this one, which the note says are no part of the log; durable on return.
    fn remove_before(&mut self, seq: SegmentSeq) -> Result<(), StorageError>;

    /// Drops all segments before this one, which is present: from here on they are absent, and it is noted that the log begins
    /// here, in both places of the note.
    ///
    /// No I/O: whoever drives the log has the files removed later. That begins with a sync of the note, for without it their
    /// absence would be damage. Until the removal is done any of them may be back after a crash.
    fn drop_before(&mut self, seq: SegmentSeq);

    /// No segment before `seq` is stored to or synced again; any from it on may be. Called at the end of opening.
    ///
    /// What a storage keeps for stores and syncs alone it may give up for the ones before.
    fn write_from(&mut self, _seq: SegmentSeq) -> Result<(), StorageError> {
        Ok(())
    }

    /// The same, once `seq` has grown while the log runs. Cheap.
    fn seal_before(&mut self, _seq: SegmentSeq) {}

    /// Whether a part of a segment can be looked at without waiting for the device. A wrong answer costs time, never bytes.
    ///
    /// `behind_bytes` is how far before the log's end the part begins: what was stored lately is in memory, and an
    /// implementation need not look. The part begins and ends within the segment.
    fn is_resident(&self, seq: SegmentSeq, part: Range<usize>, behind_bytes: u64) -> bool;

    /// Remembers something outside the segments. Called once it is true, before anybody is told. A note never falls.
    ///
    /// Cheap and not synced: the note survives the end of the process. After a crash of the host it is the latest, or an
    /// older one that is at least as new as the last completed sync of the note, which the log's owner asks for now and
    /// then. It belongs to the log whose segments are present; before there is one nothing is noted.
    fn note(&mut self, noted: Noted);

    /// What can be read of the notes about this log; nothing but zeros if there is none.
    fn noted(&self) -> Noted;
}

/// A storage whose device is simulated: whoever drives it says what becomes durable, and when.
///
/// The product has none. This is why its log cannot be changed behind the back of whoever owns it.
pub trait Simulated: Storage {}

/// A storage that failed while its log was opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("log segment {segment}: cannot {action}: {reason}")]
pub struct StorageError {
    /// The segment.
    pub segment: SegmentSeq,
    /// What was being done.
    pub action: &'static str,
    /// What the system said.
    pub reason: String,
}

/// A storage that is only lent, so that it outlives a log that did not open.
impl<S: Storage> Storage for &mut S {
    type Prepared = S::Prepared;

    fn install(&mut self, prepared: Self::Prepared) {
        (**self).install(prepared);
    }

    fn segments(&self) -> Vec<SegmentSeq> {
        (**self).segments()
    }

    fn contains(&self, seq: SegmentSeq) -> bool {
        (**self).contains(seq)
    }

    fn bytes(&self, seq: SegmentSeq) -> &[u8] {
        (**self).bytes(seq)
    }

    fn bytes_mut(&mut self, seq: SegmentSeq, range: Range<usize>) -> &mut [u8] {
        (**self).bytes_mut(seq, range)
    }

    fn reset_tail(&mut self, seq: SegmentSeq, offset: usize) -> Result<(), StorageError> {
        (**self).reset_tail(seq, offset)
    }

    fn remove_from(&mut self, seq: SegmentSeq) -> Result<(), StorageError> {
        (**self).remove_from(seq)
    }

    fn remove_before(&mut self, seq: SegmentSeq) -> Result<(), StorageError> {
        (**self).remove_before(seq)
    }

    fn drop_before(&mut self, seq: SegmentSeq) {
        (**self).drop_before(seq);
    }

    fn write_from(&mut self, seq: SegmentSeq) -> Result<(), StorageError> {
        (**self).write_from(seq)
    }

    fn seal_before(&mut self, seq: SegmentSeq) {
        (**self).seal_before(seq);
    }

    fn is_resident(&self, seq: SegmentSeq, part: Range<usize>, behind_bytes: u64) -> bool {
        (**self).is_resident(seq, part, behind_bytes)
    }

    fn note(&mut self, noted: Noted) {
        (**self).note(noted);
    }

    fn noted(&self) -> Noted {
        (**self).noted()
    }
}
