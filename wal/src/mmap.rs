//! A log device of files: one memory-mapped file per segment, in one directory.
//!
//! Shell: it opens, maps and resets files, all of which may block. While a log runs it only hands out mapped memory and
//! the descriptors to sync; syncing is the owner's, preparing new segments is `prepare`'s, on a helper thread. The
//! directory is locked by whoever owns the data directory, not here: two processes must not open the same log.
//!
//! What a store into a mapping can run into: the extents were written when the segment was prepared, so no store needs
//! space; opening makes sure of that again, since a copied file may share its blocks or have holes (on a file system that
//! always copies on write, copying must be off for the directory). An I/O error of the device raises SIGBUS and ends the
//! process, which is a crash like any other; nothing here ever truncates a file that is mapped.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access, access};

use crate::cache::is_cached;
use crate::device::LogDevice;
use crate::group_commit::{SyncFailure, SyncRequest};
use crate::limits::RECENT_BYTES;
use crate::limits::SEGMENTS_AHEAD;
use crate::lsn::SegmentSeq;
use crate::mapped::{DeviceError, MappedSegment, NoteFile, open_segment, read_in};
use crate::note::{self, NOTE_FILE_NAME};
use crate::place::{FileIdentity, LogPlace};
use crate::prepare::{PrepareError, PreparedSegment, prepare_segment};
use crate::segment::{LogNonce, SegmentIdentity};
use crate::storage::{Noted, Storage, StorageError};

/// Segments in files of one directory, and beside them the note: what is durable, and what is committed.
#[derive(Debug)]
pub struct FileDevice {
    dir: PathBuf,
    dir_file: Arc<File>,
    dir_identity: FileIdentity,
    /// Ascending; without gaps once a log was opened over it.
    segments: Vec<MappedSegment>,
    /// Dropped from the log's start, oldest first; their files are to be removed.
    dropped: Vec<SegmentSeq>,
    /// Nonce of the log, from the first segment that can be read. Kept here, so that noting something waits for no page of that segment.
    log_nonce: Option<LogNonce>,
    /// None before the first segment.
    note: Option<NoteFile>,
}

impl FileDevice {
    /// Opens the segments in `dir`, which exists, and makes sure that what they show is what the device holds. Blocks.
    ///
    /// A segment is synced, which must succeed, and what the cache has of it is dropped or compared: after a failed sync the cache
    /// may hold what the device does not. It is read once, so that a place that can't be read is found to be damage, and does not
    /// end the process later. The note is read through the cache, where alone it needs to be. Leftovers of an unfinished
    /// preparation are removed. Whether the segments are a log is `Log::open`'s business.
    pub fn open(dir: &Path) -> Result<Self, DeviceError> {
        access(dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|error| DeviceError::new("use", dir, error.into()))?;
        let dir_file = File::open(dir).map(Arc::new).map_err(|error| DeviceError::new("open", dir, error))?;
        let mut names = Vec::new();
        let mut leftovers = Vec::new();
        for entry in fs::read_dir(dir).map_err(|error| DeviceError::new("list", dir, error))? {
            let entry = entry.map_err(|error| DeviceError::new("list", dir, error))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some(seq) = SegmentSeq::from_file_name(name) {
                names.push(seq);
            } else if crate::prepare::is_leftover(name) {
                leftovers.push(entry.path());
            }
        }
        for path in leftovers {
            fs::remove_file(&path).map_err(|error| DeviceError::new("remove", &path, error))?;
        }
        names.sort_unstable();
        let is_log = !names.is_empty();
        let last = names.last().map_or(0, |last| last.get());
        let may_be_written = |seq: SegmentSeq| seq.get() + SEGMENTS_AHEAD >= last;
        let segments: Vec<MappedSegment> =
            names.into_iter().map(|seq| open_segment(dir, seq, may_be_written(seq))).collect::<Result<_, _>>()?;
        // Without a segment there is nothing to note, but there may be a note of a log whose files are gone.
        let has_note = is_log || dir.join(NOTE_FILE_NAME).exists();
        let note = if has_note { Some(NoteFile::open(dir)?) } else { None };
        let dir_metadata = dir_file.metadata().map_err(|error| DeviceError::new("look at", dir, error))?;
        let dir_identity = FileIdentity::of(&dir_metadata);
        let log_nonce = segments.iter().find_map(|segment| LogNonce::of(segment.bytes()));
        Ok(Self { dir: dir.to_owned(), dir_file, dir_identity, segments, dropped: Vec::new(), log_nonce, note })
    }

    /// Makes the first segment of a new log in `dir`, which exists. Blocks; durable on return.
    pub fn create(dir: &Path, identity: SegmentIdentity, segment_bytes: u64) -> Result<(), PrepareError> {
        prepare_segment(dir, SegmentSeq::FIRST, identity, segment_bytes, None).map(drop)
    }

    /// What to `fdatasync` for a [`crate::SyncRequest`]: the very file that was stored to. `None` if the segment is absent, or sealed:
    /// then nobody asks for a sync of it.
    ///
    /// Never sync by path: whatever stands there by then may be another file. Nor by a descriptor that was opened after what it
    /// is to sync was stored: it does not learn of a failure before.
    #[must_use]
    pub fn sync_file(&self, seq: SegmentSeq) -> Option<Arc<File>> {
        self.get(seq)?.file.clone()
    }

    /// The same for the note; `None` before the first segment.
    #[must_use]
    pub fn note_file(&self) -> Option<Arc<File>> {
        self.note.as_ref().map(|note| Arc::clone(&note.file))
    }

    /// The log that the segments are of: for preparing another one. `None` before the first.
    pub(crate) fn log_nonce(&self) -> Option<LogNonce> {
        self.log_nonce
    }

    /// Performs a sync and waits for it. For owners without an executor; blocks.
    pub fn sync_blocking(&self, request: &SyncRequest) -> Result<(), SyncFailure> {
        let segment = self.get(request.seq).ok_or_else(|| SyncFailure::new("the segment is not open"))?;
        let file = segment.file.as_ref().ok_or_else(|| SyncFailure::new("the segment is sealed"))?;
        file.sync_data().map_err(|error| SyncFailure::new(error.to_string()))
    }

    fn position(&self, seq: SegmentSeq) -> Option<usize> {
        let first = self.segments.first()?.seq.get();
        let guess = usize::try_from(seq.get().checked_sub(first)?).ok()?;
        match self.segments.get(guess) {
            Some(segment) if segment.seq == seq => Some(guess),
            // Only while a log with missing segments is looked at.
            _ => self.segments.binary_search_by_key(&seq, |segment| segment.seq).ok(),
        }
    }

    fn get(&self, seq: SegmentSeq) -> Option<&MappedSegment> {
        self.segments.get(self.position(seq)?)
    }

    fn get_mut(&mut self, seq: SegmentSeq) -> Option<&mut MappedSegment> {
        let position = self.position(seq)?;
        self.segments.get_mut(position)
    }
}

impl LogDevice for FileDevice {
    fn preparing(
        &self,
        seq: SegmentSeq,
        identity: SegmentIdentity,
        segment_bytes: u64,
    ) -> impl FnOnce() -> Result<PreparedSegment, PrepareError> + Send + 'static {
        let (dir, log_nonce) = (self.dir.clone(), self.log_nonce);
        move || prepare_segment(&dir, seq, identity, segment_bytes, log_nonce)
    }

    fn reading_in(
        &self,
        parts: Vec<(SegmentSeq, Range<usize>)>,
    ) -> io::Result<impl FnOnce() -> io::Result<()> + Send + 'static> {
        let mut files = Vec::new();
        for (seq, part) in parts {
            let segment = self.get(seq).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            let open = segment.file.as_deref().map(File::try_clone).transpose()?;
            files.push((open, segment.identity, self.dir.join(seq.file_name()), part));
        }
        Ok(move || {
            files.into_iter().try_for_each(|(open, identity, path, part)| {
                let file = open.map_or_else(|| identity.open(&path, &mut OpenOptions::new()), Ok)?;
                read_in(&file, part)
            })
        })
    }

    fn removing_dropped(&mut self) -> Option<impl FnOnce() -> Result<(), StorageError> + Send + 'static> {
        let dropped = std::mem::take(&mut self.dropped);
        let last = *dropped.last()?;
        let note = self.note.as_ref().map(|note| Arc::clone(&note.file_for_removal));
        let (dir, dir_file) = (self.dir.clone(), Arc::clone(&self.dir_file));
        Some(move || {
            let failed =
                |segment, action| move |error: io::Error| StorageError { segment, action, reason: error.to_string() };
            note.map_or(Ok(()), |note| note.sync_data())
                .map_err(failed(last, "sync the note before removing it and others"))?;
            for seq in dropped {
                remove_file(&dir.join(seq.file_name())).map_err(failed(seq, "remove"))?;
            }
            dir_file.sync_all().map_err(failed(last, "sync the directory after removing it and others"))
        })
    }

    fn place(&self) -> LogPlace {
        let dir = (self.dir.clone(), self.dir_identity);
        let segment_of = |segment: &MappedSegment| (self.dir.join(segment.seq.file_name()), segment.identity);
        LogPlace { files: std::iter::once(dir).chain(self.segments.iter().map(segment_of)).collect() }
    }
}

impl Storage for FileDevice {
    type Prepared = PreparedSegment;

    fn install(&mut self, prepared: PreparedSegment) {
        let (segment, note) = prepared.into_parts();
        let is_next = self.segments.last().is_none_or(|last| segment.seq == last.seq.next());
        assert!(is_next, "segment {} is installed out of order", segment.seq);
        self.log_nonce = self.log_nonce.or_else(|| LogNonce::of(segment.bytes()));
        self.segments.push(segment);
        self.note = note.or(self.note.take());
    }

    fn segments(&self) -> Vec<SegmentSeq> {
        self.segments.iter().map(|segment| segment.seq).collect()
    }

    fn contains(&self, seq: SegmentSeq) -> bool {
        self.position(seq).is_some()
    }

    fn bytes(&self, seq: SegmentSeq) -> &[u8] {
        self.get(seq).map_or(&[], MappedSegment::bytes)
    }

    fn bytes_mut(&mut self, seq: SegmentSeq, range: Range<usize>) -> &mut [u8] {
        let segment = self.get_mut(seq).expect("stores go to segments that are present");
        let map = segment.map.as_mut().expect("a prepared segment is not empty");
        &mut map[range]
    }

    fn reset_tail(&mut self, seq: SegmentSeq, offset: usize) -> Result<(), StorageError> {
        let failed = |action, error: io::Error| StorageError { segment: seq, action, reason: error.to_string() };
        let dir = self.dir.clone();
        let segment = self.get_mut(seq).ok_or_else(|| failed("find", io::Error::from(io::ErrorKind::NotFound)))?;
        segment.reset_tail(&dir, offset).map_err(|(action, error)| failed(action, error))
    }

    fn remove_from(&mut self, seq: SegmentSeq) -> Result<(), StorageError> {
        let failed =
            |segment| move |error: io::Error| StorageError { segment, action: "remove", reason: error.to_string() };
        // The last one first: interrupted, what is left reads the same.
        while let Some(last) = self.segments.pop_if(|last| last.seq >= seq) {
            fs::remove_file(self.dir.join(last.seq.file_name())).map_err(failed(last.seq))?;
        }
        self.dir_file.sync_all().map_err(failed(seq))
    }

    fn remove_before(&mut self, seq: SegmentSeq) -> Result<(), StorageError> {
        self.drop_before(seq);
        self.removing_dropped().map_or(Ok(()), |remove| remove())
    }

    fn drop_before(&mut self, seq: SegmentSeq) {
        let kept = self.segments.partition_point(|segment| segment.seq < seq);
        self.dropped.extend(self.segments.drain(..kept).map(|segment| segment.seq));
        if let (Some(owner), Some(note)) = (self.log_nonce(), &mut self.note) {
            note::store_twice(&mut note.map, owner, Noted { first_segment: Some(seq), ..Noted::default() });
        }
    }

    fn write_from(&mut self, seq: SegmentSeq) -> Result<(), StorageError> {
        for segment in self.segments.iter_mut().filter(|segment| segment.seq >= seq) {
            segment.open_file(&self.dir).map_err(|error| StorageError {
                segment: segment.seq,
                action: "open",
                reason: error.to_string(),
            })?;
        }
        self.seal_before(seq);
        Ok(())
    }

    fn seal_before(&mut self, seq: SegmentSeq) {
        let sealed = self.segments.iter_mut().rev().skip_while(|segment| segment.seq >= seq);
        sealed.take_while(|segment| segment.file.is_some()).for_each(MappedSegment::seal);
    }

    fn is_resident(&self, seq: SegmentSeq, part: Range<usize>, behind_bytes: u64) -> bool {
        let is_cached = |segment: &MappedSegment| segment.map.as_ref().is_some_and(|map| is_cached(map, part.clone()));
        behind_bytes <= RECENT_BYTES || self.get(seq).is_some_and(is_cached)
    }

    fn note(&mut self, noted: Noted) {
        let Some(owner) = self.log_nonce() else { return };
        let note = self.note.as_mut().expect("a note is opened with the first segment");
        note::store(&mut note.map, owner, noted);
    }

    fn noted(&self) -> Noted {
        self.note.as_ref().map_or_else(Noted::default, |note| note::read(&note.map, self.log_nonce()))
    }
}

/// Removes a file that may be gone already.
fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
