//! Where a shard's log comes from, settled before the log is opened: by the record beside it (`birth_file`), and by whether the
//! directory was in use (`identity` says `ready`).
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
//! | any | founded, replaced, restored | - | somebody took the log away | refuse: the log is gone |
//! | any | replaced | not marked | somebody removed the mark | open under repair all the same |
//! | any | founded, replaced, restored | there | nothing | open |
//!
//! In a directory without an identity, with `--initial-cluster-state existing`, the first row goes on as for a node that lost its
//! data. Interrupted, that node asks the others like any new one.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use wal::constants::FIRST_FRAME_OFFSET;
use wal::{Log, LogOptions, OpenError, SegmentSeq, Storage};

use super::data_dir::DataDirError;
use super::modes::DIR_MODE;
use super::start_error::StartError;
use super::{Device, birth_file};
use crate::raft::{BirthRecord, Stage};
use crate::types::{EntryId, ShardId};

/// What the decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The shard.
    pub shard: ShardId,
    /// Where its log is, or will be.
    pub wal_dir: &'a Path,
    /// How the log is opened.
    pub log: LogOptions,
    /// The directory was in use before.
    pub is_ready: bool,
    /// There is no segment, and nothing that a repair leaves.
    pub has_no_log: bool,
    /// Voters of the cluster.
    pub voters_count: usize,
    /// The node never had anything, and the cluster exists already.
    pub joins_existing: bool,
    /// For a log that is made: a number that no other log has.
    pub incarnation: u64,
}

impl Found<'_> {
    /// Decides by the table, and leaves record and log so that the log can be opened.
    ///
    /// # Errors
    /// What is missing or contradictory, and what to do. Nothing was changed then.
    pub fn settle(self) -> Result<BirthRecord, StartError> {
        let record = match birth_file::read(self.wal_dir) {
            Ok(record) => record,
            Err(birth_file::ReadError::Io(source)) => return Err(self.io_error("read", source)),
            Err(birth_file::ReadError::Damaged(reason)) => return Err(self.refuse(format!("it is damaged: {reason}"))),
        };
        match record {
            None if !self.has_no_log => Err(self.refuse("it is missing, and there is a log".to_owned())),
            None if self.is_ready => Err(self.log_gone()),
            None => self.create(),
            Some(record) if record.is_new() => self.settle_new(record),
            Some(_) if self.has_no_log => Err(self.log_gone()),
            Some(record) => Ok(record),
        }
    }

    fn create(&self) -> Result<BirthRecord, StartError> {
        let record = BirthRecord::of_new_log(self.incarnation, self.voters_count);
        self.write(&record)?;
        self.make_segment()?;
        if self.joins_existing { self.replace(record) } else { Ok(record) }
    }

    fn settle_new(&self, record: BirthRecord) -> Result<BirthRecord, StartError> {
        if self.has_no_log {
            self.make_segment()?;
            return Ok(record);
        }
        if wal::repair::is_marked(self.wal_dir).map_err(|source| self.io_error("look into", source))? {
            return self.replace(record);
        }
        let storage = Device::open(self.wal_dir);
        let mut storage = storage.map_err(|source| StartError::Files { shard: self.shard, source })?;
        let opened = Log::open(&mut storage, self.log).map(|(_, report)| report);
        match opened {
            Ok(report) if report.last != EntryId::ZERO || report.hard_state != wal::HardState::default() => {
                let last = report.last;
                let reason = format!("it says that this node never took part, but its log ends at {last}");
                return Err(self.refuse(reason));
            }
            Ok(report) if report.segments_count > 0 && report.unused_from.is_none() => return Ok(record),
            Err(OpenError::Corrupt(corruption)) if was_written(&storage, self.log) => {
                let damage = corruption.damages.first().map_or_else(String::new, ToString::to_string);
                let reason = format!(
                    "it says that this node never took part, but something was written to its log, which is damaged: {damage}"
                );
                return Err(self.refuse(reason));
            }
            Ok(_) | Err(OpenError::Corrupt(_)) => {}
            Err(source) => return Err(StartError::Log { shard: self.shard, source }),
        }
        drop(storage);
        tracing::warn!(shard = %self.shard, "an empty log is damaged; it is made anew");
        self.empty_directory().map_err(|source| self.io_error("make anew", source))?;
        self.make_segment()?;
        Ok(record)
    }

    /// Makes the log's directory anew; its name is durable on return.
    fn empty_directory(&self) -> std::io::Result<()> {
        fs::remove_dir_all(self.wal_dir)?;
        fs::DirBuilder::new().mode(DIR_MODE).create(self.wal_dir)?;
        wal::files::sync_dir(self.wal_dir.parent().unwrap_or(self.wal_dir))
    }

    /// The node lost its data: it is under repair from here on.
    fn replace(&self, record: BirthRecord) -> Result<BirthRecord, StartError> {
        let record = BirthRecord { stage: Stage::Replaced, ..record };
        birth_file::persist(self.wal_dir, &record).map_err(|source| self.io_error("write beside", source))?;
        Ok(record)
    }

    fn write(&self, record: &BirthRecord) -> Result<(), StartError> {
        birth_file::write(self.wal_dir, record).map_err(|source| self.io_error("write beside", source))
    }

    fn make_segment(&self) -> Result<(), StartError> {
        let LogOptions { identity, segment_bytes, .. } = self.log;
        let made = Device::create(self.wal_dir, identity, segment_bytes);
        made.map_err(|source| StartError::Prepare { shard: self.shard, source })
    }

    fn log_gone(&self) -> StartError {
        StartError::LogGone { shard: self.shard, dir: self.wal_dir.to_owned() }
    }

    fn refuse(&self, reason: String) -> StartError {
        let path: PathBuf = birth_file::birth_path(self.wal_dir);
        StartError::Birth { shard: self.shard, path, reason }
    }

    fn io_error(&self, action: &'static str, source: std::io::Error) -> StartError {
        DataDirError::Io { action, path: self.wal_dir.to_owned(), source }.into()
    }
}

/// Whether anything shows that something was once written to a log: any byte where frames lie, or the note.
fn was_written(storage: &Device, log: LogOptions) -> bool {
    let bytes_of = |seq| storage.bytes(seq).get(FIRST_FRAME_OFFSET..).unwrap_or_default();
    let has_bytes = storage.segments().into_iter().any(|seq| bytes_of(seq).iter().any(|byte| *byte != 0));
    // Where a log ends in which there is nothing yet.
    let empty_end = SegmentSeq::FIRST.get() * log.segment_bytes + FIRST_FRAME_OFFSET as u64;
    let noted = storage.noted();
    has_bytes || noted.durable.get() > empty_end || noted.committed != EntryId::ZERO
}

#[cfg(test)]
#[path = "origin_tests.rs"]
mod tests;
