//! Preparing a segment: a file of the full size, written, synced and named before the log first uses it.
//!
//! Shell, and blocking: it runs on a helper thread, well ahead of need. Because everything that can fail for want of space
//! happens here, storing into the segment later cannot.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;

use crate::files::{FILE_MODE, random_numbers, sync_dir};
use crate::lsn::{Geometry, SegmentSeq};
use crate::mapped::{DeviceError, MappedSegment, NoteFile, fill_with_zeros};
use crate::segment::{LogNonce, SegmentHeader, SegmentIdentity};

/// Suffix of files that are being prepared. They hold nothing.
const LEFTOVER_SUFFIX: &str = ".wal.preparing";

/// Why a segment could not be prepared. The log goes on with the ones it has; try again later.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The size breaks the limits.
    #[error("a log segment of {got} bytes is not possible")]
    SegmentBytes {
        /// The size that was asked for. Unit: bytes.
        got: u64,
    },
    /// There is no space for it.
    #[error("no space for log segment {path}: {needed_bytes} bytes needed, {available_bytes} available; free space on its file system", path = path.display())]
    NoSpace {
        /// The file.
        path: PathBuf,
        /// Size of a segment. Unit: bytes.
        needed_bytes: u64,
        /// What the file system has left for this user. Unit: bytes.
        available_bytes: u64,
    },
    /// The file exists although the log asked for it.
    #[error("log segment {path} exists already; restart this node, so that it looks at the file", path = path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("log segment {path}: cannot {action}: {source}", path = path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A segment that is ready for use: its file is on the device under its name, and mapped.
#[derive(Debug)]
pub struct PreparedSegment {
    segment: MappedSegment,
    /// Made together with the first segment of a new log.
    note: Option<NoteFile>,
}

impl PreparedSegment {
    /// Which segment it is.
    #[must_use]
    pub fn seq(&self) -> SegmentSeq {
        self.segment.seq
    }

    pub(crate) fn into_parts(self) -> (MappedSegment, Option<NoteFile>) {
        (self.segment, self.note)
    }
}

/// Prepares segment `seq` of the log in `dir`. Blocks for as long as writing and syncing the whole file takes.
///
/// `log_nonce` names the log, as `FileDevice::log_nonce` does. Without one this is the first segment of a new log:
/// a nonce is drawn, and the log's note comes with the segment.
///
/// On an error it leaves nothing behind, or a leftover that opening the log removes.
pub(crate) fn prepare_segment(
    dir: &Path,
    seq: SegmentSeq,
    identity: SegmentIdentity,
    segment_bytes: u64,
    log_nonce: Option<LogNonce>,
) -> Result<PreparedSegment, PrepareError> {
    let geometry = Geometry::new(segment_bytes).ok_or(PrepareError::SegmentBytes { got: segment_bytes })?;
    let path = dir.join(seq.file_name());
    if path.try_exists().map_err(failed("look at", &path))? {
        return Err(PrepareError::Exists { path });
    }
    check_space(dir, &path, segment_bytes)?;
    let temporary = dir.join(format!("{:016}{LEFTOVER_SUFFIX}", seq.get()));
    let [nonce, new_log_nonce] = random_numbers().map_err(failed("draw a nonce for", &path))?;
    let note = if log_nonce.is_none() { Some(NoteFile::open(dir).map_err(note_failed)?) } else { None };
    let log_nonce = log_nonce.unwrap_or(LogNonce::new(new_log_nonce));
    let header = SegmentHeader { identity, seq, segment_bytes, nonce, log_nonce };
    let prepared = write_file(&temporary, &header, geometry).and_then(|file| {
        fs::rename(&temporary, &path).map_err(failed("rename", &temporary))?;
        sync_dir(dir).map_err(failed("sync the directory", dir))?;
        MappedSegment::map(seq, file).map_err(failed("map", &path))
    });
    match prepared {
        Ok(segment) => Ok(PreparedSegment { segment, note }),
        Err(error) => {
            // Under its name or the temporary one: the next attempt starts afresh.
            for leftover in [&temporary, &path] {
                match fs::remove_file(leftover) {
                    Err(removing) if removing.kind() != io::ErrorKind::NotFound => {
                        return Err(failed("remove", leftover)(removing));
                    }
                    _ => {}
                }
            }
            Err(no_space(error, dir, &path, segment_bytes))
        }
    }
}

/// Whether a file of this name is left over from a preparation that did not finish.
pub(crate) fn is_leftover(name: &str) -> bool {
    name.ends_with(LEFTOVER_SUFFIX)
}

/// Writes header and zeros into a new file and syncs it, size and extents included.
fn write_file(path: &Path, header: &SegmentHeader, geometry: Geometry) -> Result<File, PrepareError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", path)(error)),
        _ => {}
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)
        .map_err(failed("create", path))?;
    fill_with_zeros(&file, 0, geometry.segment_bytes()).map_err(failed("fill", path))?;
    file.write_all_at(&header.encode(), 0).map_err(failed("write the header of", path))?;
    file.sync_all().map_err(failed("sync", path))?;
    Ok(file)
}

/// Refuses before anything is written, so that a full disk is not made fuller.
fn check_space(dir: &Path, path: &Path, needed_bytes: u64) -> Result<(), PrepareError> {
    let available_bytes = available_bytes(dir).map_err(failed("ask for the free space of", dir))?;
    if available_bytes < needed_bytes {
        return Err(PrepareError::NoSpace { path: path.to_owned(), needed_bytes, available_bytes });
    }
    Ok(())
}

/// A failure for want of space in other words, if that is what it was.
fn no_space(error: PrepareError, dir: &Path, path: &Path, needed_bytes: u64) -> PrepareError {
    let PrepareError::Io { source, .. } = &error else { return error };
    if !matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return error;
    }
    // With a quota the file system itself may have plenty; the failure counts.
    let available_bytes = available_bytes(dir).map_or(0, |bytes| bytes.min(needed_bytes - 1));
    PrepareError::NoSpace { path: path.to_owned(), needed_bytes, available_bytes }
}

fn available_bytes(dir: &Path) -> io::Result<u64> {
    let file_system = statvfs(dir)?;
    Ok(file_system.f_bavail.saturating_mul(file_system.f_frsize))
}

fn note_failed(error: DeviceError) -> PrepareError {
    let DeviceError { action, path, source, .. } = error;
    PrepareError::Io { action, path, source }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PrepareError {
    let path = path.to_owned();
    move |source| PrepareError::Io { action, path, source }
}
