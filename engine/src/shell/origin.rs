//! Where a shard's log comes from, settled before the log is opened: looks at the record beside it (`birth_file`) and at the log, and
//! does what `opening` decides. Everything is durable before the next step.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use wal::{LogOptions, SegmentSeq};

use super::data_dir::DataDirError;
use super::modes::DIR_MODE;
use super::start_error::StartError;
use super::{Device, birth_file};
use crate::opening::{NewLog, Opening, RecordFound};
use crate::raft::{BirthRecord, Stage};
use crate::types::ShardId;

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
    /// The node is the only founder of its cluster.
    pub founds_alone: bool,
    /// The node never had anything, and the cluster exists already.
    pub joins_existing: bool,
    /// For a log that is made: a number that no other log has.
    pub incarnation: u64,
}

impl Found<'_> {
    /// Decides, and leaves record and log so that the log can be opened.
    ///
    /// # Errors
    /// What is missing or contradictory, and what to do. Nothing was changed then.
    pub fn settle(self) -> Result<BirthRecord, StartError> {
        let found = match birth_file::read(self.wal_dir) {
            Ok(Some(record)) => RecordFound::Whole(record),
            Ok(None) => RecordFound::Missing,
            Err(birth_file::BirthFileError::Io(source)) => return Err(self.io_error("read", source)),
            Err(birth_file::BirthFileError::Damaged(reason)) => RecordFound::Damaged(reason),
        };
        match Opening::decide(self.is_ready, found, !self.has_no_log, || self.look_at_new_log())? {
            Opening::Make => self.make(),
            Opening::MakeSegment(record) => self.make_segment().map(|()| record),
            Opening::MakeAnew(record) => {
                tracing::warn!(shard = self.shard.get(), "an empty log is damaged; it is made anew");
                self.empty_directory().map_err(|source| self.io_error("make anew", source))?;
                self.make_segment().map(|()| record)
            }
            Opening::Replace(record) => self.replace(record),
            Opening::Open(record) => Ok(record),
            Opening::RefuseLogGone => Err(StartError::LogGone { shard: self.shard, dir: self.wal_dir.to_owned() }),
            Opening::RefuseRecord(reason) => Err(self.refuse(reason)),
        }
    }

    fn make(&self) -> Result<BirthRecord, StartError> {
        let record = BirthRecord::of_new_log(self.incarnation, self.founds_alone);
        self.write(&record)?;
        self.make_segment()?;
        if self.joins_existing { self.replace(record) } else { Ok(record) }
    }

    /// Looks at a log whose record says that nothing was ever written to it.
    fn look_at_new_log(&self) -> Result<NewLog, StartError> {
        if wal::repair::is_marked(self.wal_dir).map_err(|source| self.io_error("look into", source))? {
            return Ok(NewLog::Marked);
        }
        let storage = Device::open(self.wal_dir);
        let mut storage = storage.map_err(|source| StartError::Files { shard: self.shard, source })?;
        NewLog::look_at(&mut storage, self.log, SegmentSeq::FIRST)
            .map_err(|source| StartError::Log { shard: self.shard, source })
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

    fn refuse(&self, reason: String) -> StartError {
        let path: PathBuf = birth_file::birth_path(self.wal_dir);
        StartError::Birth { shard: self.shard, path, reason }
    }

    fn io_error(&self, action: &'static str, source: std::io::Error) -> StartError {
        DataDirError::Io { action, path: self.wal_dir.to_owned(), source }.into()
    }
}

#[cfg(test)]
#[path = "origin_tests.rs"]
mod tests;
