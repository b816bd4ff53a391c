//! The log's storage in files: one memory-mapped file per segment, in one directory.
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
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Mmap, MmapMut};
use rustix::fs::{Access, Advice, access, fadvise};

use crate::constants::{PAGE_BYTES, SEGMENTS_AHEAD};
use crate::device::{Cache, compare_cache, is_cached, parts_without_space, take_space};
use crate::group_commit::{SyncFailure, SyncRequest};
use crate::lsn::SegmentSeq;
use crate::note::{self, NOTE_BYTES, NOTE_FILE_NAME};
use crate::place::{FileIdentity, LogPlace};
use crate::prepare::FILE_MODE;
use crate::scan::is_zero;
use crate::segment::LogNonce;
use crate::storage::{Noted, Storage, StorageError};

pub use crate::prepare::{FILL_BYTES, PrepareError, PreparedSegment, prepare_segment};

/// Why a log's directory could not be opened. Nothing in it was changed, but for leftovers of an unfinished preparation
/// and a note that was missing or too short.
#[derive(Debug, thiserror::Error)]
#[error("log directory: cannot {action} {path}: {source}; {advice}", path = path.display())]
pub struct MmapError {
    /// What was being done.
    pub action: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
    /// What to do about it.
    pub advice: &'static str,
}

impl MmapError {
    pub(crate) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        let advice = match source.kind() {
            io::ErrorKind::PermissionDenied => "run as the user that owns the data directory",
            io::ErrorKind::ReadOnlyFilesystem => "the file system is mounted read-only; mount it for writing",
            io::ErrorKind::NotADirectory => "name a directory",
            io::ErrorKind::NotFound => "create the data directory first",
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free space on its file system",
            _ => "check the disk and the kernel's log",
        };
        Self { action, path: path.to_owned(), source, advice }
    }

    /// The cache of a file outlived being dropped, and must not be trusted.
    fn stale(path: &Path, reason: String) -> Self {
        let advice = "stop every other process that has the file open or mapped (`fuser` names them), then start again";
        Self { action: "trust the page cache of", path: path.to_owned(), source: io::Error::other(reason), advice }
    }
}

/// What was stored so shortly before the log's end is in memory: at least the writing of it just was. Unit: bytes.
const RECENT_BYTES: u64 = 8 << 20;

/// Size of the reads that try whether a segment can be read. Unit: bytes.
///
/// Large, because without readahead nothing is on its way between two of them: 64 MiB took 300 ms in reads of 1 MiB, and
/// 100 to 190 ms in reads of this size, as with readahead.
const READ_BYTES: usize = 8 << 20;

/// A segment's file, mapped.
#[derive(Debug)]
pub(crate) struct MappedSegment {
    pub(crate) seq: SegmentSeq,
    /// Shared with syncs under way. `None` once the segment is sealed: thousands of them may be mapped, and descriptors are few.
    pub(crate) file: Option<Arc<File>>,
    /// The file that is mapped, which keeps its number as long as it is.
    identity: FileIdentity,
    /// None if the file is empty.
    pub(crate) map: Option<MmapMut>,
    /// What the device gives of the file, from its start. Nothing behind it is ever looked at: that would end the process.
    readable_bytes: usize,
}

impl MappedSegment {
    pub(crate) fn map(seq: SegmentSeq, file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let map = if metadata.len() == 0 { None } else { Some(map_mut(&file)?) };
        let readable_bytes = map.as_deref().map_or(0, <[u8]>::len);
        Ok(Self { seq, file: Some(Arc::new(file)), identity: FileIdentity::of(&metadata), map, readable_bytes })
    }

    /// The file that is mapped, opened anew if it was sealed. Fails if something else stands in its place by now.
    fn open_file(&mut self, dir: &Path) -> io::Result<Arc<File>> {
        if let Some(file) = &self.file {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(self.identity.open(&dir.join(self.seq.file_name()), OpenOptions::new().write(true))?);
        self.file = Some(Arc::clone(&file));
        Ok(file)
    }

    /// Gives the descriptor up; the mapping stays. An empty file, which has none, keeps it: its number must stay its own.
    fn seal(&mut self) {
        if self.map.is_some() {
            self.file = None;
        }
    }

    fn bytes(&self) -> &[u8] {
        let bytes = self.map.as_deref().unwrap_or_default();
        bytes.get(..self.readable_bytes).unwrap_or(bytes)
    }

    /// Zeros from `offset` to the file's end, durable, with blocks of their own. Writes only what is not so already.
    fn reset_tail(&mut self, dir: &Path, offset: usize) -> Result<(), (&'static str, io::Error)> {
        let file = self.open_file(dir).map_err(|error| ("open", error))?;
        let end = self.bytes().len();
        let range = (offset / PAGE_BYTES * PAGE_BYTES) as u64..end as u64;
        let parts = parts_without_space(&file, range).map_err(|error| ("ask for the blocks of", error))?;
        // Before anything is stored through the mapping, where a lack of space ends the process.
        take_space(&file, &parts).map_err(|error| ("write what has no blocks of its own in", error))?;
        let map = self.map.as_deref_mut().and_then(|map| map.get_mut(offset..end)).unwrap_or_default();
        let mut is_changed = !parts.is_empty();
        for page in map.chunks_mut(PAGE_BYTES).filter(|page| !is_zero(page)) {
            page.fill(0);
            is_changed = true;
        }
        if is_changed {
            file.sync_data().map_err(|error| ("sync", error))?;
        }
        Ok(())
    }
}

/// The note in a mapped file: it outlives the process, and nothing that is acknowledged waits for it.
#[derive(Debug)]
pub(crate) struct NoteFile {
    file: Arc<File>,
    map: MmapMut,
}

impl NoteFile {
    /// Opens the note in a log's directory. One that is missing, too short or unreadable is made whole with zeros, which
    /// say nothing; what can be read of it stays.
    pub(crate) fn open(dir: &Path) -> Result<Self, MmapError> {
        let path = dir.join(NOTE_FILE_NAME);
        let failed = |action| {
            let path = path.clone();
            move |error| MmapError::new(action, &path, error)
        };
        let open =
            || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(&path);
        let mut file = open().map_err(failed("open"))?;
        let mut bytes = usize::try_from(file.metadata().map_err(failed("look at"))?.len()).unwrap_or(NOTE_BYTES);
        // Read before it is mapped: what can't be read would end the process there.
        if file.read_exact_at(&mut vec![0; bytes.min(NOTE_BYTES)], 0).is_err() {
            fs::remove_file(&path).map_err(failed("remove"))?;
            file = open().map_err(failed("create"))?;
            bytes = 0;
        }
        if bytes < NOTE_BYTES {
            fill_with_zeros(&file, bytes, NOTE_BYTES).map_err(failed("write zeros to"))?;
            // Stores into the mapping need no space from here on.
            file.sync_all().map_err(failed("sync"))?;
        }
        let parts = parts_without_space(&file, 0..NOTE_BYTES as u64).map_err(failed("ask for the blocks of"))?;
        if !parts.is_empty() {
            take_space(&file, &parts).map_err(failed("write what has no blocks of its own in"))?;
            file.sync_all().map_err(failed("sync"))?;
        }
        Ok(Self { map: map_mut(&file).map_err(failed("map"))?, file: Arc::new(file) })
    }
}

/// Segments in files of one directory, and the note of what is durable beside them.
#[derive(Debug)]
pub struct MmapStorage {
    dir: PathBuf,
    dir_file: Arc<File>,
    dir_identity: FileIdentity,
    /// Ascending; without gaps once a log was opened over it.
    segments: Vec<MappedSegment>,
    /// Dropped from the log's start, oldest first; their files are to be removed.
    dropped: Vec<SegmentSeq>,
    /// The log, as the first segment that can say so says. Kept, so that no note waits for a page of the oldest segment.
    log_nonce: Option<LogNonce>,
    /// None before the first segment.
    note: Option<NoteFile>,
}

impl MmapStorage {
    /// Opens the segments in `dir`, which exists, and makes sure that what they show is what the device holds.
    ///
    /// Each file is synced, which must succeed, and dropped from the page cache before it is mapped: after a failed sync
    /// the cache may hold what the device does not. Pages that stay, because another process maps them, are compared with
    /// the device. The file is read once, so that a place that can't be read is found to be damage, and does not end the
    /// process later. The note is read through the cache, where alone it needs to be. Leftovers of an unfinished preparation are removed. Whether the segments are a log is `Log::open`'s business.
    pub fn open(dir: &Path) -> Result<Self, MmapError> {
        access(dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|error| MmapError::new("use", dir, error.into()))?;
        let dir_file = File::open(dir).map(Arc::new).map_err(|error| MmapError::new("open", dir, error))?;
        let mut names = Vec::new();
        let mut leftovers = Vec::new();
        for entry in fs::read_dir(dir).map_err(|error| MmapError::new("list", dir, error))? {
            let entry = entry.map_err(|error| MmapError::new("list", dir, error))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some(seq) = SegmentSeq::from_file_name(name) {
                names.push(seq);
            } else if crate::prepare::is_leftover(name) {
                leftovers.push(entry.path());
            }
        }
        for path in leftovers {
            fs::remove_file(&path).map_err(|error| MmapError::new("remove", &path, error))?;
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
        let dir_metadata = dir_file.metadata().map_err(|error| MmapError::new("look at", dir, error))?;
        let dir_identity = FileIdentity::of(&dir_metadata);
        let log_nonce = segments.iter().find_map(|segment| LogNonce::of(segment.bytes()));
        Ok(Self { dir: dir.to_owned(), dir_file, dir_identity, segments, dropped: Vec::new(), log_nonce, note })
    }

    /// Adds a segment that was prepared. It must be the one that the log asked for.
    ///
    /// Panics if it does not follow the last segment.
    pub fn install(&mut self, prepared: PreparedSegment) {
        let (segment, note) = prepared.into_parts();
        let is_next = self.segments.last().is_none_or(|last| segment.seq == last.seq.next());
        assert!(is_next, "segment {} is installed out of order", segment.seq);
        self.log_nonce = self.log_nonce.or_else(|| LogNonce::of(segment.bytes()));
        self.segments.push(segment);
        self.note = note.or(self.note.take());
    }

    /// The log that the segments are of: for preparing another one. `None` before the first.
    #[must_use]
    pub fn log_nonce(&self) -> Option<LogNonce> {
        self.log_nonce
    }

    /// Work for a helper thread that removes the files of segments which the log dropped; `None` if there are none.
    ///
    /// First the note is synced, which says where the log begins: without it their absence would be damage. Then the oldest goes
    /// first, and the directory is synced. After an error some are left, are no part of the log, and go when it opens next.
    pub fn removing_dropped(&mut self) -> Option<impl FnOnce() -> Result<(), StorageError> + Send + 'static> {
        let dropped = std::mem::take(&mut self.dropped);
        let last = *dropped.last()?;
        let note = self.note_file();
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

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The very file that is mapped, to `fdatasync` it for a [`SyncRequest`]; `None` if the segment is absent, or sealed: then
    /// nobody asks for a sync of it.
    ///
    /// Never sync by path: whatever stands there by then may be another file. Nor by a descriptor that was opened after what it
    /// is to sync was stored: it does not learn of a failure before.
    #[must_use]
    pub fn sync_file(&self, seq: SegmentSeq) -> Option<Arc<File>> {
        self.get(seq)?.file.clone()
    }

    /// The directory and files that are open, to see whether they are still in their places.
    #[must_use]
    pub fn place(&self) -> LogPlace {
        let dir = (self.dir.clone(), self.dir_identity);
        let segment_of = |segment: &MappedSegment| (self.dir.join(segment.seq.file_name()), segment.identity);
        LogPlace { files: std::iter::once(dir).chain(self.segments.iter().map(segment_of)).collect() }
    }

    /// Work for a helper thread that reads parts of segments into memory, so that looking at them waits for no device.
    ///
    /// It reads by descriptors of its own: the storage may change meanwhile. It fails where the device does.
    pub fn reading_in(
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

    /// Performs a sync and waits for it. For owners without an executor; blocks.
    pub fn sync_blocking(&self, request: &SyncRequest) -> Result<(), SyncFailure> {
        let segment = self.get(request.seq).ok_or_else(|| SyncFailure::new("the segment is not open"))?;
        let file = segment.file.as_ref().ok_or_else(|| SyncFailure::new("the segment is sealed"))?;
        file.sync_data().map_err(|error| SyncFailure::new(error.to_string()))
    }

    /// The file that holds the note, to sync it elsewhere; `None` before the first segment. It is the mapped file itself,
    /// whatever has become of its name.
    #[must_use]
    pub fn note_file(&self) -> Option<Arc<File>> {
        self.note.as_ref().map(|note| Arc::clone(&note.file))
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

impl Storage for MmapStorage {
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

/// Reads a part of a file into the page cache.
fn read_in(file: &File, part: Range<usize>) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES.min(part.len())];
    let mut at = part.start;
    while at < part.end {
        let wanted = buffer.len().min(part.end - at);
        match file.read_at(&mut buffer[..wanted], at as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => at += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes zeros over `offset..end`, in pieces that end at multiples of `FILL_BYTES`.
pub(crate) fn fill_with_zeros(file: &File, offset: usize, end: usize) -> io::Result<()> {
    static ZEROS: [u8; FILL_BYTES] = [0; FILL_BYTES];
    let mut at = offset;
    while at < end {
        let next = ((at / FILL_BYTES + 1) * FILL_BYTES).min(end);
        file.write_all_at(&ZEROS[..next - at], at as u64)?;
        at = next;
    }
    Ok(())
}

/// Opens a segment's file and makes the device the source of what it shows.
fn open_segment(dir: &Path, seq: SegmentSeq, may_be_written: bool) -> Result<MappedSegment, MmapError> {
    let path = dir.join(seq.file_name());
    let failed = |action| {
        let path = path.clone();
        move |error| MmapError::new(action, &path, error)
    };
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(failed("open"))?;
    file.sync_data().map_err(failed("sync"))?;
    fadvise(&file, 0, None, Advice::DontNeed).map_err(|error| failed("drop the cache of")(error.into()))?;
    let mut segment = MappedSegment::map(seq, file).map_err(failed("map"))?;
    let (Some(map), Some(file)) = (&segment.map, &segment.file) else { return Ok(segment) };
    let mut limit = map.len();
    match compare_cache(&path, file, map).map_err(failed("compare the cache with the device for"))? {
        Cache::SameAsDevice => {}
        Cache::Unreadable { offset } => limit = limit.min(usize::try_from(offset).unwrap_or(limit)),
        Cache::Differs { offset } => {
            return Err(MmapError::stale(&path, format!("at offset {offset} it shows what the device does not hold")));
        }
        Cache::Unknown { offset } => {
            let reason = format!("at offset {offset} it can't be compared with the device, for want of O_DIRECT");
            return Err(MmapError::stale(&path, reason));
        }
    }
    // What will be stored to comes in as single pages, and no more than is asked for: large folios make stores and syncs
    // slow (see `FILL_BYTES`).
    let advise = |advice| fadvise(file, 0, None, advice).map_err(|error| failed("advise on")(error.into()));
    if may_be_written {
        advise(Advice::Random)?;
    }
    let readable_bytes = readable_bytes(|buffer, offset| file.read_at(buffer, offset));
    advise(Advice::Normal)?;
    segment.readable_bytes = limit.min(readable_bytes);
    if !may_be_written {
        segment.seal();
    }
    Ok(segment)
}

/// How much of a file can be read, from its start. Asked before it is mapped, where reading fails with a signal; a segment
/// that can't be read to its end then counts as cut off there, which is damage like any other.
pub(crate) fn readable_bytes(read_at: impl Fn(&mut [u8], u64) -> io::Result<usize>) -> usize {
    let mut buffer = vec![0; READ_BYTES];
    let mut at = 0;
    loop {
        match read_at(&mut buffer, at as u64) {
            Ok(0) => return at,
            Ok(count) => at += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return at,
        }
    }
}

pub(crate) fn map_mut(file: &File) -> io::Result<MmapMut> {
    // SAFETY: the file belongs to this process: the data directory is locked by its owner, and neither this package nor
    // any other part of the process truncates a file that is mapped. `take_space` writes to one, what it holds already,
    // while its mapping is not borrowed. So the mapped bytes change through this mapping alone.
    unsafe { MmapMut::map_mut(file) }
}

/// Maps a file for reading only, as the offline checker does.
pub(crate) fn map_for_reading(file: &File) -> io::Result<Mmap> {
    // SAFETY: the checker is for logs that no process has open; its caller is told so. Files that change nevertheless
    // make its report wrong and touch nothing else, since every read is bounds-checked and no value is trusted twice.
    unsafe { Mmap::map(file) }
}

#[test]
fn what_was_read_in_is_cached_and_what_was_dropped_is_not() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dir.path().join("file"));
    let file = file.expect("a file");
    let end = 3 * READ_BYTES + 100;
    fill_with_zeros(&file, 0, end).expect("space");
    file.sync_all().expect("synced");
    fadvise(&file, 0, None, Advice::DontNeed).expect("dropped");
    // A file system in memory has nothing to drop.
    let map = map_mut(&file).expect("mapped");
    let is_in_memory = is_cached(&map, 0..end);
    read_in(&file, READ_BYTES..end).expect("readable");
    let can_tell = is_cached(&map, READ_BYTES..end);
    assert!(can_tell || !is_in_memory, "a file system that cannot tell says that nothing is cached");
    assert!(read_in(&file, 0..end + 1).is_err(), "behind its end nothing can be read");
}

#[test]
fn a_file_counts_as_cut_off_where_it_cannot_be_read() {
    let bad = 3 * READ_BYTES + 4096;
    let interrupted = std::cell::Cell::new(false);
    let device = |end: usize, bad: usize| {
        let interrupted = &interrupted;
        move |buffer: &mut [u8], offset: u64| {
            if !interrupted.replace(true) {
                return Err(io::Error::from(io::ErrorKind::Interrupted));
            }
            let at = usize::try_from(offset).expect("small");
            match end.min(bad).saturating_sub(at) {
                0 if at < end => Err(io::Error::other("input/output error")),
                left => Ok(left.min(buffer.len())),
            }
        }
    };
    assert_eq!(readable_bytes(device(5 * READ_BYTES, bad)), bad);
    assert_eq!(readable_bytes(device(5 * READ_BYTES, usize::MAX)), 5 * READ_BYTES);
    assert_eq!(readable_bytes(device(0, 0)), 0);
}
