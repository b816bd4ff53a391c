//! The record of where a shard's log comes from, as a file beside the log: `shards/NNNN/birth`.
//!
//! One line of JSON and one with its checksum, as `identity` has them. Written whole or not at all, and durable on return. What
//! the record means is `raft::birth`'s business.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::raft::{BirthRecord, Stage};
use crate::types::NodeId;

/// Name of the file in a shard's directory.
pub const BIRTH_FILE: &str = "birth";

/// The file's line of JSON. Numbers are 16 hexadecimal digits.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    incarnation: String,
    stage: StageName,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    founders: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StageName {
    New,
    Founded,
    Replaced,
    Restored,
}

/// Why a record cannot be read.
#[derive(Debug)]
pub enum BirthFileError {
    /// The file could not be read.
    Io(io::Error),
    /// It does not say what it should.
    Damaged(String),
}

/// Where the record of the log in `wal_dir` is.
#[must_use]
pub fn birth_path(wal_dir: &Path) -> PathBuf {
    wal_dir.with_file_name(BIRTH_FILE)
}

/// Reads the record beside the log in `wal_dir`; `None` if there is none.
///
/// # Errors
/// It is damaged, or the system said no.
pub fn read(wal_dir: &Path) -> Result<Option<BirthRecord>, BirthFileError> {
    let bytes = match fs::read(birth_path(wal_dir)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(BirthFileError::Io(error)),
    };
    parse(&bytes).map(Some).map_err(BirthFileError::Damaged)
}

/// Writes the record beside the log in `wal_dir`; durable on return.
///
/// # Errors
/// The system said no; the old record stands.
pub fn write(wal_dir: &Path, record: &BirthRecord) -> io::Result<()> {
    wal::files::write_durably(&birth_path(wal_dir), &text(record)?)
}

/// Makes durable what a new node turned out to be. A replacement is marked as under repair before: interrupted in between, it
/// comes up under repair.
///
/// # Errors
/// The system said no; try again.
pub fn persist(wal_dir: &Path, record: &BirthRecord) -> io::Result<()> {
    if record.stage == Stage::Replaced {
        wal::repair::mark_as_lost(wal_dir, crate::replica::DIRECTORY_GONE)?;
    }
    write(wal_dir, record)
}

/// Ends a repair: the record of a replacement says from here on that it had everything back, and the log is marked no more.
/// Interrupted in between, the node comes up under repair, as one that was damaged.
///
/// # Errors
/// The system said no, or the record cannot be read; try again.
pub(super) fn finish_repair(wal_dir: &Path) -> io::Result<()> {
    let record = match read(wal_dir) {
        Ok(record) => record,
        Err(BirthFileError::Io(error)) => return Err(error),
        Err(BirthFileError::Damaged(reason)) => {
            let path = birth_path(wal_dir);
            return Err(io::Error::other(format!("{} is damaged: {reason}", path.display())));
        }
    };
    if let Some(BirthRecord { incarnation, stage: Stage::Replaced }) = record {
        write(wal_dir, &BirthRecord { incarnation, stage: Stage::Restored })?;
    }
    wal::repair::finish_repair(wal_dir)
}

fn text(record: &BirthRecord) -> io::Result<String> {
    let (stage, founders) = match &record.stage {
        Stage::New => (StageName::New, BTreeMap::new()),
        Stage::Founded(founders) => (StageName::Founded, founders.clone()),
        Stage::Replaced => (StageName::Replaced, BTreeMap::new()),
        Stage::Restored => (StageName::Restored, BTreeMap::new()),
    };
    let founders = founders.iter().map(|(node, incarnation)| (node.to_string(), format!("{incarnation:016x}")));
    let line = Line { incarnation: format!("{:016x}", record.incarnation), stage, founders: founders.collect() };
    let json = serde_json::to_string(&line)?;
    Ok(format!("{json}\ncrc32 {:08x}\n", crc32fast::hash(json.as_bytes())))
}

fn parse(bytes: &[u8]) -> Result<BirthRecord, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
    let (json, checksum) = text.split_once('\n').ok_or("its checksum line is missing")?;
    let expected = format!("crc32 {:08x}\n", crc32fast::hash(json.as_bytes()));
    if checksum != expected {
        return Err(format!("its checksum line is {checksum:?}, expected {expected:?}"));
    }
    let line: Line = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let number = |digits: &str| u64::from_str_radix(digits, 16).map_err(|error| format!("{digits:?}: {error}"));
    let incarnation = number(&line.incarnation)?;
    let founders =
        line.founders.iter().map(|(node, incarnation)| Ok((NodeId::new(number(node)?), number(incarnation)?)));
    let stage = match line.stage {
        StageName::New => Stage::New,
        StageName::Founded => Stage::Founded(founders.collect::<Result<_, String>>()?),
        StageName::Replaced => Stage::Replaced,
        StageName::Restored => Stage::Restored,
    };
    Ok(BirthRecord { incarnation, stage })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_any_flipped_bit_is_noticed() {
        let founders = BTreeMap::from([(NodeId::new(7), 8), (NodeId::new(u64::MAX), 9)]);
        let founded = [Stage::Founded(BTreeMap::new()), Stage::Founded(founders)];
        for stage in founded.into_iter().chain([Stage::New, Stage::Replaced, Stage::Restored]) {
            let root = tempfile::tempdir().expect("temporary directory");
            let wal_dir = root.path().join("wal");
            fs::create_dir(&wal_dir).expect("a directory");
            assert!(read(&wal_dir).expect("readable").is_none());
            let record = BirthRecord { incarnation: 0x0123_4567_89ab_cdef, stage };
            write(&wal_dir, &record).expect("written");
            assert_eq!(read(&wal_dir).expect("readable"), Some(record));
            let good = fs::read(birth_path(&wal_dir)).expect("the file");
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(parse(&bad).is_err(), "bit {bit}");
            }
        }
    }
}
