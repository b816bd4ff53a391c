//! What can be wrong with a log, and how one ends: the words of recovery, of the offline checker and of a salvage.
//!
//! Values only. What is found is `walk`'s business, what follows from it `decision`'s and `recovery`'s.

use std::fmt;

use crate::format::EntryError;
use crate::lsn::SegmentSeq;
use crate::segment::{IdentityMismatch, SegmentHeaderError};
use crate::types::{EntryId, HardStateRecord, Index, Lsn, Term};

/// What is wrong at a place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DamageKind {
    /// Bits of a frame's header changed, or its bytes were replaced.
    #[error("frame header damaged: its checksum does not fit")]
    FrameHeader,
    /// Bits of a frame's payload changed.
    #[error("payload damaged: {0}")]
    Payload(EntryError),
    /// A page of the frame, or the page where it should be, reads as zeros.
    #[error("page zeroed: the 4096 bytes at offset {page_offset} read as zeros")]
    ZeroedPage {
        /// Where the page begins. Unit: bytes.
        page_offset: usize,
    },
    /// The frame is whole and does not follow the one before it: frames are missing, or it is left over.
    #[error("chain broken: the frame does not follow the one before it")]
    ChainBroken,
    /// The frame is whole and follows, and yet its entry cannot come next.
    #[error("inconsistent: {0}")]
    Inconsistent(Inconsistency),
    /// The log stops here, and the note says that it went further.
    #[error("end of the log missing: nothing is here, and everything below position {noted} was durable")]
    EndMissing {
        /// What the note says.
        noted: Lsn,
    },
    /// The file ends too early, or can't be read from there on.
    #[error("file truncated, or unreadable behind: {got_bytes} bytes, expected {expected_bytes}")]
    Truncated {
        /// Size of the file. Unit: bytes.
        got_bytes: usize,
        /// Size of a segment. Unit: bytes.
        expected_bytes: usize,
    },
    /// The segment's own header is damaged, and without it none of its frames can be checked.
    #[error("bad segment header: {0}")]
    SegmentHeader(SegmentHeaderError),
    /// Files are missing, this one the first of them.
    #[error("segment missing: files up to {last} are not there although the log goes on there or beyond")]
    Missing {
        /// The last that is missing.
        last: SegmentSeq,
    },
    /// The log is whole as far as it goes, and does not hold what lies between the state that its owner has and the log's end.
    #[error(
        "entries missing: the log holds what follows entry {base}, through {last}, and the state of this node is at entry {state}"
    )]
    NotAtState {
        /// The entry that the log begins after.
        base: EntryId,
        /// Its last entry.
        last: EntryId,
        /// The last entry of the state.
        state: EntryId,
    },
    /// The segment is whole and belongs to another log.
    #[error("identity mismatch: {0}")]
    Identity(IdentityMismatch),
    /// The segment is whole and in another version of the format.
    #[error("unknown format version {got}")]
    Version {
        /// The version it states.
        got: u32,
    },
}

/// One damage: where, of what kind, and what is known about what it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub segment: SegmentSeq,
    /// Offset in its file. Unit: bytes.
    pub offset: usize,
    /// Where something readable begins again in the same file, or where that ends. Unit: bytes.
    pub resume_offset: usize,
    /// What is wrong.
    pub kind: DamageKind,
    /// The entry that was damaged, if its header survived.
    pub entry: Option<EntryId>,
    /// The last entry that is whole before the damage; what is missing comes after it in the log.
    pub entry_before: Option<EntryId>,
    /// The first entry that is whole beyond the damage.
    pub entry_after: Option<EntryId>,
    /// A later frame, or the note, says that everything below this position was durable. `None` where nothing can say so
    /// any more, or the kind needs no such proof.
    pub durable: Option<Lsn>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log segment {}, offset {}: {}", self.segment, self.offset, self.kind)?;
        if let Some(entry) = self.entry {
            write!(f, "; entry {entry}")?;
        }
        match (self.entry_before, self.entry_after) {
            (Some(before), Some(after)) => write!(f, "; between entries {before} and {after}"),
            (Some(before), None) => write!(f, "; after entry {before}"),
            (None, Some(after)) => write!(f, "; before entry {after}"),
            (None, None) => Ok(()),
        }
    }
}

/// How the log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// After the last frame everything is zero.
    Clean,
    /// After the last frame lies what a crash left of writes that were never known to be durable.
    Torn(TornTail),
}

/// What a crash left behind the last whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment in which the log ends.
    pub segment: SegmentSeq,
    /// Where it ends, and the remains begin. Unit: bytes.
    pub offset: usize,
    /// What stands there; `None` if zeros do, and something else further on.
    pub found: Option<DamageKind>,
    /// Frame headers among the remains that are whole.
    pub frames_count: u64,
    /// The highest entry among those headers. It was being written; nothing shows that it was ever durable.
    pub last_entry: Option<EntryId>,
}

/// Why an index or term does not fit where it stands in the log, although its frame is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Inconsistency {
    /// Entries are missing between this one and the one before.
    #[error("entry {got} follows entry {last}, so entries are missing between them")]
    IndexGap {
        /// The entry in the frame.
        got: EntryId,
        /// The last entry before it.
        last: EntryId,
    },
    /// Terms never fall along a log.
    #[error("entry {got} follows an entry of the later term {before}")]
    TermFalls {
        /// The entry in the frame.
        got: EntryId,
        /// Term of the entry at the index before.
        before: Term,
    },
    /// The first frame of a segment is none of the log's origins, although it is whole.
    #[error("the origin of the segment says what no origin says")]
    NoOrigin,
    /// The origin of a segment does not repeat what the segments before it add up to.
    #[error(
        "the segment was begun behind entry {got}, behind other entries, with another hard state or other members; those before it end at \
         entry {last}"
    )]
    OtherOrigin {
        /// The entry that the segment says was before it.
        got: EntryId,
        /// The last entry before it.
        last: EntryId,
    },
    /// A node's term never falls, and within a term its vote never changes.
    #[error("a hard state takes back an earlier one")]
    HardStateFalls,
    /// The entry would replace one that the log does not hold any more.
    #[error("entry {got} lies before the log's first index {first}")]
    BeforeFirst {
        /// The entry in the frame.
        got: EntryId,
        /// The log's first index.
        first: Index,
    },
}

/// Damage that keeps a log from opening.
///
/// Everything a repair needs: where each damage is, which entry it hit or between which entries it lies, and how far the
/// log is whole. Nothing on the device was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// What is wrong, in log order; at most `DAMAGES_LISTED_MAX`. Not empty.
    pub damages: Vec<Damage>,
    /// Damages in all.
    pub damages_count: u64,
    /// Last entry before the first damage: up to here the log is whole. The entry at which the owner's state is, if that is
    /// of no use for going on from there.
    pub intact_last: EntryId,
    /// Hard state before the first damage. Later ones may have been damaged: this node may have voted since.
    pub intact_hard_state: HardStateRecord,
    /// The highest hard state that is whole anywhere in the log, before or beyond damage. Its term is at least that of
    /// every entry whose header is whole; where that raised it, the vote is 0.
    pub hard_state: HardStateRecord,
    /// No damage can have hidden a later hard state: whatever is damaged after the last whole one is the payload of a
    /// frame whose header is whole and says that it is an entry, and the log then ends without remains.
    ///
    /// Where it is false this node may have voted, or seen a later term, without knowing. Rests on the note: after a crash
    /// of the host, damage to the very end of the log can go unseen beside other damage.
    pub hard_state_is_certain: bool,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(first) = self.damages.first() {
            write!(f, "{first}")?;
        }
        if self.damages_count > 1 {
            write!(f, " (and {} more)", self.damages_count - 1)?;
        }
        f.write_str(
            "; durable parts of the log are damaged, so nothing was cut and nothing was changed; \
             run `quorate wal verify` on the directory for the whole list, check the disk, and restore the files from a \
             copy of this node's disk; don't delete them, or this node forgets what it acknowledged",
        )
    }
}

impl std::error::Error for Corruption {}
