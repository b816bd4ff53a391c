//! The files of a shard as a start finds them: what an interrupted first start left behind, and what somebody took away or what rotted.
//!
//! What a start makes of them is the product's own decision (`opening`). The bytes of the log are the disk's.

use wal::testing::SimStorage;
use wal::{LogOptions, SegmentSeq};

use crate::opening::{NewLog, Opening, RecordFound};
use crate::raft::{BirthRecord, Stage};

/// How far the first start came with a shard, in the order of its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Made {
    Nothing,
    Record,
    Log,
}

/// What became of the files of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FilesLost {
    Nothing,
    Record,
    RecordRotted,
    /// The record of when the log was new is back in its place.
    RecordPutBack,
    Log,
    LogAndRecord,
}

/// All that can be lost.
pub(super) const LOSSES: [FilesLost; 5] =
    [FilesLost::Record, FilesLost::RecordRotted, FilesLost::RecordPutBack, FilesLost::Log, FilesLost::LogAndRecord];

/// The files of a shard on one node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Files {
    pub(super) made: Made,
    pub(super) lost: FilesLost,
}

impl Files {
    /// None yet.
    pub(super) const NONE: Self = Self { made: Made::Nothing, lost: FilesLost::Nothing };

    /// What a start decides. `birth` is what the record says or said, `disk` holds the log or what was its log.
    pub(super) fn opening(
        self,
        is_ready: bool,
        birth: &BirthRecord,
        is_marked: bool,
        disk: &mut SimStorage,
        options: LogOptions,
        first: SegmentSeq,
    ) -> Result<Opening, String> {
        use FilesLost as Lost;
        let has_log = self.made >= Made::Log && !matches!(self.lost, Lost::Log | Lost::LogAndRecord);
        let found = match self.lost {
            Lost::Record | Lost::LogAndRecord => RecordFound::Missing,
            Lost::RecordRotted => RecordFound::Damaged("simulated".to_owned()),
            Lost::RecordPutBack => RecordFound::Whole(BirthRecord { stage: Stage::New, ..birth.clone() }),
            Lost::Nothing | Lost::Log if self.made == Made::Nothing => RecordFound::Missing,
            Lost::Nothing | Lost::Log => RecordFound::Whole(birth.clone()),
        };
        let look = || if is_marked { Ok(NewLog::Marked) } else { NewLog::look_at(disk, options, first) };
        Opening::decide(is_ready, found, has_log, look).map_err(|error| error.to_string())
    }
}
