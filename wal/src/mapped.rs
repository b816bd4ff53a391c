//! One file of a log, mapped: a segment, or the note.
//!
//! Shell: it opens, reads, fills and maps files, all of which may block. Which files a log has, and which of them are in use, is
//! `mmap`'s business; making a new one is `prepare`'s.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Mmap, MmapMut};
use rustix::fs::{Advice, fadvise};

use crate::cache::{Cache, compare_cache, parts_without_space, take_space};
use crate::files::FILE_MODE;
use crate::limits::PAGE_BYTES;
use crate::limits::{FILL_BYTES, TRY_BYTES};
use crate::lsn::SegmentSeq;
use crate::note::{NOTE_BYTES, NOTE_FILE_NAME};
use crate::place::FileIdentity;
use crate::scan::is_zero;

/// Why a log's directory could not be opened. Nothing in it was changed, but for leftovers of an unfinished preparation
/// and a note that was missing or too short.
#[derive(Debug, thiserror::Error)]
#[error("log directory: cannot {action} {path}: {source}; {advice}", path = path.display())]
pub struct DeviceError {
    /// What was being done.
    pub action: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
    /// What to do about it.
    pub advice: &'static str,
}

impl DeviceError {
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

/// A segment's file, mapped.
#[derive(Debug)]
pub(crate) struct MappedSegment {
    pub(crate) seq: SegmentSeq,
    /// Shared with syncs under way. `None` once the segment is sealed: thousands of them may be mapped, and descriptors are few.
    pub(crate) file: Option<Arc<File>>,
    /// The file that is mapped, which keeps its number as long as it is.
    pub(crate) identity: FileIdentity,
    /// None if the file is empty.
    pub(crate) map: Option<MmapMut>,
    /// What the device gives of the file, from its start. Nothing after it is ever looked at: that would end the process.
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
    pub(crate) fn open_file(&mut self, dir: &Path) -> io::Result<Arc<File>> {
        if let Some(file) = &self.file {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(self.identity.open(&dir.join(self.seq.file_name()), OpenOptions::new().write(true))?);
        self.file = Some(Arc::clone(&file));
        Ok(file)
    }

    /// Gives the descriptor up; the mapping stays. An empty file, which has none, keeps it: its number must stay its own.
    pub(crate) fn seal(&mut self) {
        if self.map.is_some() {
            self.file = None;
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        let bytes = self.map.as_deref().unwrap_or_default();
        bytes.get(..self.readable_bytes).unwrap_or(bytes)
    }

    /// Zeros from `offset` to the file's end, durable, with blocks of their own. Writes only what is not so already.
    pub(crate) fn reset_tail(&mut self, dir: &Path, offset: usize) -> Result<(), (&'static str, io::Error)> {
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
    pub(crate) file: Arc<File>,
    /// The same file, opened once more, for the syncs that the removal of segments rests on. The system reports a failed write-back once
    /// for each open file: through `file` it may be reported to a periodic sync, to which it makes no difference.
    pub(crate) file_for_removal: Arc<File>,
    pub(crate) map: MmapMut,
}

impl NoteFile {
    /// Opens the note in a log's directory. One that is missing, too short or unreadable is made whole with zeros, which
    /// say nothing; what can be read of it stays.
    pub(crate) fn open(dir: &Path) -> Result<Self, DeviceError> {
        let path = dir.join(NOTE_FILE_NAME);
        let failed = |action| {
            let path = path.clone();
            move |error| DeviceError::new(action, &path, error)
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
        // Opened before anything is stored, so that it misses no failure.
        let file_for_removal = Arc::new(open().map_err(failed("open"))?);
        Ok(Self { map: map_mut(&file).map_err(failed("map"))?, file: Arc::new(file), file_for_removal })
    }
}

/// Opens a segment's file and makes the device the source of what it shows.
pub(crate) fn open_segment(dir: &Path, seq: SegmentSeq, may_be_written: bool) -> Result<MappedSegment, DeviceError> {
    let path = dir.join(seq.file_name());
    open_over(&path, &path, seq, may_be_written)
}

/// The same for a file of any name. What the device holds is read from `on_device`: the same file, but for tests.
pub(crate) fn open_over(
    path: &Path,
    on_device: &Path,
    seq: SegmentSeq,
    may_be_written: bool,
) -> Result<MappedSegment, DeviceError> {
    let failed = |action| move |error| DeviceError::new(action, path, error);
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed("open"))?;
    file.sync_data().map_err(failed("sync"))?;
    fadvise(&file, 0, None, Advice::DontNeed).map_err(|error| failed("drop the cache of")(error.into()))?;
    let mut segment = MappedSegment::map(seq, file).map_err(failed("map"))?;
    let (Some(map), Some(file)) = (&segment.map, &segment.file) else { return Ok(segment) };
    let mut limit = map.len();
    match compare_cache(on_device, file, map).map_err(failed("compare the cache with the device for"))? {
        Cache::SameAsDevice => {}
        Cache::Unreadable { offset } => limit = limit.min(usize::try_from(offset).unwrap_or(limit)),
        Cache::Differs { offset } => {
            return Err(DeviceError::stale(path, format!("at offset {offset} it shows what the device does not hold")));
        }
        Cache::Unknown { offset } => {
            let reason = format!("at offset {offset} it can't be compared with the device, for want of O_DIRECT");
            return Err(DeviceError::stale(path, reason));
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

/// Reads a part of a file into the page cache.
pub(crate) fn read_in(file: &File, part: Range<usize>) -> io::Result<()> {
    let mut buffer = vec![0; TRY_BYTES.min(part.len())];
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

/// How much of a file can be read, from its start. Asked before it is mapped, where reading fails with a signal; a segment
/// that can't be read to its end then counts as cut off there, which is damage like any other.
pub(crate) fn readable_bytes(read_at: impl Fn(&mut [u8], u64) -> io::Result<usize>) -> usize {
    let mut buffer = vec![0; TRY_BYTES];
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
    let end = 3 * TRY_BYTES + 100;
    fill_with_zeros(&file, 0, end).expect("space");
    file.sync_all().expect("synced");
    fadvise(&file, 0, None, Advice::DontNeed).expect("dropped");
    // A file system in memory has nothing to drop.
    let map = map_mut(&file).expect("mapped");
    let is_in_memory = crate::cache::is_cached(&map, 0..end);
    read_in(&file, TRY_BYTES..end).expect("readable");
    let can_tell = crate::cache::is_cached(&map, TRY_BYTES..end);
    assert!(can_tell || !is_in_memory, "a file system that cannot tell says that nothing is cached");
    assert!(read_in(&file, 0..end + 1).is_err(), "behind its end nothing can be read");
}

#[test]
fn a_file_counts_as_cut_off_where_it_cannot_be_read() {
    let bad = 3 * TRY_BYTES + 4096;
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
    assert_eq!(readable_bytes(device(5 * TRY_BYTES, bad)), bad);
    assert_eq!(readable_bytes(device(5 * TRY_BYTES, usize::MAX)), 5 * TRY_BYTES);
    assert_eq!(readable_bytes(device(0, 0)), 0);
}
