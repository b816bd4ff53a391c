//! What a start makes of what it finds where a shard's log belongs: the decision alone, before the log is opened.
//!
//! It goes by the record of where the log comes from ([`BirthRecord`]), and by whether the directory was in use (its identity says
//! `ready`). Looking and doing are up to whoever has the files, or simulates them.
//!
//! A first start makes, each durable before the next: the identity, the shard's record (`new`), the log's first segment, and then
//! says `ready`. While the record says `new` nothing was ever written to the log and nothing promised. A node that turns out to
//! have lost its data marks its log as under repair, and then writes `replaced`.
//!
//! "Log" is a segment, or anything that a repair leaves beside the log. What a start finds, and what it does:
//!
//! | `ready` | record | log | what happened | decision |
//! |---|---|---|---|---|
//! | no | - | - | a first start, or one that was interrupted early | record, then first segment |
//! | yes | - | - | somebody took both away | refuse: the log is gone |
//! | any | - | there | somebody took the record away | refuse: the record is missing |
//! | any | damaged | any | it rotted | refuse: the record is damaged |
//! | any | new | - | interrupted between record and segment, or the segment is lost | first segment |
//! | any | new | empty | the node was never born | open |
//! | any | new | damaged, nothing written | the same, and the empty log rotted | make the log anew |
//! | any | new | marked | interrupted between the mark and `replaced` | `replaced`, open under repair |
//! | any | new | written, whole or damaged | an old record was put back | refuse: they contradict each other |
//! | no | founded, alone | - | the same: the only voter is founded at once | first segment |
//! | any | founded, replaced, restored | - | somebody took the log away | refuse: the log is gone |
//! | any | replaced | not marked | somebody removed the mark | open under repair all the same |
//! | any | founded, replaced, restored | there | nothing | open |
//!
//! In a directory without an identity, with `--initial-cluster-state existing`, the first row goes on as for a node that lost its
//! data. Interrupted, that node asks the others like any new one.

use wal::limits::FIRST_FRAME_OFFSET;
use wal::{Log, LogOptions, OpenError, SegmentSeq, Storage};

use crate::raft::{BirthRecord, Stage};

/// What stands where a log's record belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecordFound {
    /// Nothing.
    Missing,
    /// It cannot be read; says what is wrong with it.
    Damaged(String),
    /// A record.
    Whole(BirthRecord),
}

/// What a log shows whose record says that it is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NewLog {
    /// It opens, and holds nothing.
    Empty,
    /// It does not open, or lacks a part, and nothing shows that anything was ever written to it.
    DamagedEmpty,
    /// It has the mark of a node under repair.
    Marked,
    /// Something was written to it: says what.
    Written(String),
}

/// What a start does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// Writes a new record, and makes the first segment.
    Make,
    /// Makes the first segment; the record stands.
    MakeSegment(BirthRecord),
    /// Removes the log, and makes the first segment; the record stands.
    MakeAnew(BirthRecord),
    /// Writes into the record that the node lost its data, and opens the log.
    Replace(BirthRecord),
    /// Opens the log.
    Open(BirthRecord),
    /// Refuses to start, and changes nothing: the log is gone, and with it what the node promised.
    RefuseLogGone,
    /// The same: the record is missing or damaged, or contradicts the log. Says what is wrong with it.
    RefuseRecord(String),
}

impl NewLog {
    /// Looks at a log that has no mark. What opening it cuts off was never durable, and nobody waits for it.
    ///
    /// `first` is the segment with which logs begin.
    ///
    /// # Errors
    /// The log does not open, for a reason that is no damage.
    pub(crate) fn look_at<S: Storage>(
        storage: &mut S,
        options: LogOptions,
        first: SegmentSeq,
    ) -> Result<Self, OpenError> {
        let base = options.state;
        match Log::open(&mut *storage, options).map(|(_, report)| report) {
            Ok(report) if report.last != base || report.hard_state.vote != 0 || report.hard_state.term > base.term => {
                Ok(Self::Written(format!("its log ends at {}", report.last)))
            }
            Ok(report) if report.segments_count > 0 && report.unused_from.is_none() => Ok(Self::Empty),
            Err(OpenError::Corrupt(corruption)) if was_written(storage, options, first) => {
                let damage = corruption.damages.first().map_or_else(String::new, ToString::to_string);
                Ok(Self::Written(format!("something was written to its log, which is damaged: {damage}")))
            }
            Ok(_) | Err(OpenError::Corrupt(_)) => Ok(Self::DamagedEmpty),
            Err(error) => Err(error),
        }
    }
}

/// Whether anything shows that something was once written to a log: any byte where frames lie, or the note.
fn was_written<S: Storage>(storage: &S, options: LogOptions, first: SegmentSeq) -> bool {
    let bytes_of = |seq| storage.bytes(seq).get(FIRST_FRAME_OFFSET..).unwrap_or_default();
    let has_bytes = storage.segments().into_iter().any(|seq| bytes_of(seq).iter().any(|byte| *byte != 0));
    // Where a log ends in which there is nothing yet.
    let empty_end = first.get() * options.segment_bytes + FIRST_FRAME_OFFSET as u64;
    let noted = storage.noted();
    has_bytes || noted.durable.get() > empty_end || noted.committed.index > options.state.index
}

impl Opening {
    /// Decides by the table. `look` looks at a log whose record is new; no other is looked at.
    ///
    /// # Errors
    /// What `look` says.
    pub(crate) fn decide<E>(
        is_ready: bool,
        record: RecordFound,
        has_log: bool,
        look: impl FnOnce() -> Result<NewLog, E>,
    ) -> Result<Self, E> {
        let refuse = |reason: &str| Self::RefuseRecord(reason.to_owned());
        Ok(match record {
            RecordFound::Damaged(reason) => refuse(&format!("it is damaged: {reason}")),
            RecordFound::Missing if has_log => refuse("it is missing, and there is a log"),
            RecordFound::Missing if is_ready => Self::RefuseLogGone,
            RecordFound::Missing => Self::Make,
            RecordFound::Whole(record) if record.is_new() && has_log => match look()? {
                NewLog::Empty => Self::Open(record),
                NewLog::DamagedEmpty => Self::MakeAnew(record),
                NewLog::Marked => Self::Replace(record),
                NewLog::Written(what) => refuse(&format!("it says that this node never took part, but {what}")),
            },
            RecordFound::Whole(record) if has_log => Self::Open(record),
            RecordFound::Whole(record) if record.is_new() => Self::MakeSegment(record),
            RecordFound::Whole(record) if !is_ready && is_of_only_voter(&record) => Self::MakeSegment(record),
            RecordFound::Whole(_) => Self::RefuseLogGone,
        })
    }
}

/// True if the record is as a first start writes it for the only voter, which has nobody to ask.
fn is_of_only_voter(record: &BirthRecord) -> bool {
    matches!(&record.stage, Stage::Founded(others) if others.is_empty())
}
