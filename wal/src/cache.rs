//! Two things by which a file may differ from what its device holds: pages in the kernel's cache that never reached the device, and
//! parts of the file that have no blocks of their own on it.
//!
//! Shell. It asks the kernel, compares and rewrites. Its callers choose the file and the moment.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use memmap2::MmapMut;
use rustix::fs::{OFlags, SeekFrom, fstatfs, seek};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

use crate::limits::{COMPARED_BYTES, EXTENTS_COUNT, PAGE_BYTES};

/// File systems that keep everything in memory, tmpfs and ramfs: no device is behind their cache. Source: Linux, `magic.h`.
const MEMORY_FILE_SYSTEMS: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// A part of a file and the blocks that hold it. The layout is the kernel's (`struct fiemap_extent`).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Extent {
    logical: u64,
    physical: u64,
    bytes: u64,
    reserved: [u64; 2],
    flags: u32,
    reserved_too: [u32; 3],
}

impl Extent {
    /// No other follows in the file.
    const LAST: u32 = 0x1;
    /// Where its blocks are is not known, or not decided yet.
    const UNKNOWN: u32 = 0x2;
    /// Not written to the device yet, and without blocks until then.
    const DELAYED: u32 = 0x4;
    /// Allocated, and counted as zeros until it is written.
    const UNWRITTEN: u32 = 0x800;
    /// Another file has the same blocks: a store goes to new ones.
    const SHARED: u32 = 0x2000;

    fn can_be_stored_to(&self) -> bool {
        self.flags & (Self::UNKNOWN | Self::DELAYED | Self::UNWRITTEN | Self::SHARED) == 0
    }
}

/// A question about extents, and its answer. The layout is the kernel's (`struct fiemap`).
#[repr(C)]
struct ExtentMap {
    start: u64,
    bytes: u64,
    flags: u32,
    mapped_count: u32,
    extents_count: u32,
    reserved: u32,
    extents: [Extent; EXTENTS_COUNT],
}

const EXTENT_MAP_HEADER_BYTES: usize = std::mem::offset_of!(ExtentMap, extents);
const _: () = assert!(EXTENT_MAP_HEADER_BYTES == 32 && size_of::<Extent>() == 56);

const ASK_FOR_EXTENTS: Opcode = opcode::read_write::<[u8; EXTENT_MAP_HEADER_BYTES]>(b'f', 11);

/// The parts of `range` to which a store would need space: holes, parts that were allocated and never written, and parts
/// whose blocks belong to other files too, as after a copy by reference.
///
/// A store into a mapping ends the process if that space is missing. A file system that can't say anything has none.
pub(crate) fn parts_without_space(file: &File, range: Range<u64>) -> io::Result<Vec<Range<u64>>> {
    let mut parts = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let extents = match extents(file, at..range.end) {
            Ok(extents) => extents,
            Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL | Errno::NOSYS) => return holes(file, at..range.end),
            Err(error) => return Err(error.into()),
        };
        let is_all = extents.len() < EXTENTS_COUNT || extents.last().is_some_and(|last| last.flags & Extent::LAST != 0);
        let known_to =
            if is_all { range.end } else { extents.last().map_or(range.end, |last| last.logical + last.bytes) };
        add_parts(&mut parts, at..known_to.min(range.end), &extents);
        at = known_to;
    }
    Ok(parts)
}

fn extents(file: &File, range: Range<u64>) -> Result<Vec<Extent>, Errno> {
    let mut map = ExtentMap {
        start: range.start,
        bytes: range.end - range.start,
        flags: 0,
        mapped_count: 0,
        extents_count: EXTENTS_COUNT as u32,
        reserved: 0,
        extents: [Extent::default(); EXTENTS_COUNT],
    };
    // SAFETY: the opcode is FS_IOC_FIEMAP, and the value begins with the header that it takes; after that the kernel
    // writes at most `extents_count` extents, for which there is room, and any bytes are an `Extent`.
    let ask = unsafe { Updater::<ASK_FOR_EXTENTS, ExtentMap>::new(&mut map) };
    // SAFETY: as above; the call reads and writes nothing else.
    unsafe { ioctl(file, ask) }?;
    Ok(map.extents.into_iter().take(map.mapped_count as usize).collect())
}

/// Adds what of `range` is in no extent, or in one that can't be stored to. Extents ascend.
fn add_parts(parts: &mut Vec<Range<u64>>, range: Range<u64>, extents: &[Extent]) {
    let mut add = |part: Range<u64>| {
        let part = part.start.max(range.start)..part.end.min(range.end);
        if part.is_empty() {
            return;
        }
        match parts.last_mut() {
            Some(last) if last.end == part.start => last.end = part.end,
            _ => parts.push(part),
        }
    };
    let mut at = range.start;
    for extent in extents {
        let end = extent.logical.saturating_add(extent.bytes);
        add(at..extent.logical);
        if !extent.can_be_stored_to() {
            add(extent.logical..end);
        }
        at = end;
    }
    add(at..range.end);
}

/// Parts without blocks, where only those can be asked for.
fn holes(file: &File, range: Range<u64>) -> io::Result<Vec<Range<u64>>> {
    let mut parts = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let start = match seek(file, SeekFrom::Hole(at)) {
            Ok(start) => start,
            // The place is after the end, or the file system knows no holes.
            Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => break,
            Err(error) => return Err(error.into()),
        };
        if start >= range.end {
            break;
        }
        let end = match seek(file, SeekFrom::Data(start)) {
            Ok(end) => end,
            Err(Errno::NXIO) => range.end,
            Err(error) => return Err(error.into()),
        };
        parts.push(start..end.min(range.end));
        at = end;
    }
    Ok(parts)
}

/// Gives parts of a file blocks of their own, by writing what they hold once more. The caller syncs.
///
/// Whoever maps the file sees no change. On an error, which may be a lack of space, nothing has changed but blocks.
pub(crate) fn take_space(file: &File, parts: &[Range<u64>]) -> io::Result<()> {
    let mut buffer = vec![0; COMPARED_BYTES];
    for piece in parts.iter().cloned().flat_map(pieces) {
        let bytes = &mut buffer[..piece_bytes(&piece)];
        file.read_exact_at(bytes, piece.start)?;
        file.write_all_at(bytes, piece.start)?;
    }
    Ok(())
}

/// A range in pieces, which end at multiples of their size.
fn pieces(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let piece = COMPARED_BYTES as u64;
    let starts = std::iter::successors(Some(range.start), move |at| Some((at / piece + 1) * piece));
    starts.take_while(move |at| *at < range.end).map(move |at| at..((at / piece + 1) * piece).min(range.end))
}

fn piece_bytes(piece: &Range<u64>) -> usize {
    usize::try_from(piece.end - piece.start).expect("a piece fits memory")
}

/// What is known about the cached pages of a file after they were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cache {
    /// What a read shows comes from the device, or is known to be the same there.
    SameAsDevice,
    /// A page holds something else than the device.
    Differs {
        /// Where the difference begins. Unit: bytes.
        offset: u64,
    },
    /// The device can't give what a cached page shows.
    Unreadable {
        /// Where that begins, to the nearest piece. Unit: bytes.
        offset: u64,
    },
    /// Pages are still there and can't be compared: the file system has no way around its cache.
    Unknown {
        /// The first of them. Unit: bytes.
        offset: u64,
    },
}

/// Compares what is still in the cache of a file with what the device holds.
///
/// Dropping the cache leaves pages that another process maps. After a failed sync they hold what never reached the device.
/// `map` is a mapping of the whole file, not touched yet. Returns the first finding.
pub(crate) fn compare_cache(path: &Path, file: &File, map: &MmapMut) -> io::Result<Cache> {
    let cached = cached_parts(map)?;
    let Some(first) = cached.first() else { return Ok(Cache::SameAsDevice) };
    if MEMORY_FILE_SYSTEMS.contains(&u64::try_from(fstatfs(file)?.f_type).unwrap_or(0)) {
        return Ok(Cache::SameAsDevice);
    }
    let direct = OpenOptions::new().read(true).custom_flags(OFlags::DIRECT.bits().cast_signed()).open(path);
    let direct = match direct {
        Ok(direct) => direct,
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            return Ok(Cache::Unknown { offset: first.start });
        }
        Err(error) => return Err(error),
    };
    let mut buffer = AlignedBuffer::new();
    let mut shown = vec![0; COMPARED_BYTES];
    for piece in cached.into_iter().flat_map(pieces) {
        let bytes = piece_bytes(&piece);
        let count = match direct.read_at(&mut buffer.bytes()[..bytes], piece.start) {
            Ok(count) => count,
            Err(error) if Errno::from_io_error(&error) == Some(Errno::IO) => {
                return Ok(Cache::Unreadable { offset: piece.start });
            }
            Err(error) => return Err(error),
        };
        file.read_exact_at(&mut shown[..count], piece.start)?;
        if let Some(index) = (0..count).find(|index| buffer.bytes()[*index] != shown[*index]) {
            return Ok(Cache::Differs { offset: piece.start + index as u64 });
        }
    }
    Ok(Cache::SameAsDevice)
}

/// Whether a part of a mapped file can be looked at without waiting for the device. Where the system cannot tell, it counts as
/// absent.
pub(crate) fn is_cached(map: &MmapMut, part: Range<usize>) -> bool {
    let first_page = part.start / PAGE_BYTES * PAGE_BYTES;
    let Some(bytes) = map.get(first_page..part.end) else { return false };
    cached_pages(bytes).is_ok_and(|pages| pages.iter().all(|page| page & 1 != 0))
}

/// One byte for each page of a part of a mapping that begins at a page; its lowest bit says whether the page is in the cache.
fn cached_pages(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut pages = vec![0_u8; bytes.len().div_ceil(PAGE_BYTES)];
    // SAFETY: the part is as long as stated and stays mapped during the call, which touches none of its pages and fails if it
    // does not begin at one; the kernel writes one byte for each page, and there are as many.
    let result = unsafe { libc::mincore(bytes.as_ptr().cast_mut().cast(), bytes.len(), pages.as_mut_ptr()) };
    if result == 0 { Ok(pages) } else { Err(io::Error::last_os_error()) }
}

/// The parts of a mapped file that are in the cache, page by page.
fn cached_parts(map: &MmapMut) -> io::Result<Vec<Range<u64>>> {
    let pages = cached_pages(map)?;
    let mut parts: Vec<Range<u64>> = Vec::new();
    for (number, _) in pages.iter().enumerate().filter(|(_, page)| **page & 1 != 0) {
        let start = (number * PAGE_BYTES) as u64;
        let end = start + PAGE_BYTES as u64;
        match parts.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => parts.push(start..end),
        }
    }
    Ok(parts)
}

/// A buffer that begins at a page, as reads around the cache need it.
struct AlignedBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl AlignedBuffer {
    fn new() -> Self {
        let bytes = vec![0; COMPARED_BYTES + PAGE_BYTES];
        let start = bytes.as_ptr().align_offset(PAGE_BYTES);
        Self { bytes, start }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + COMPARED_BYTES]
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
