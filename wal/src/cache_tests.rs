//! Extents and cached pages of real files.

use std::fs;

use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use tempfile::TempDir;

use super::*;
use crate::lsn::SegmentSeq;
use crate::mapped::{map_mut, open_over};

const BYTES: u64 = 1 << 20;

fn extent(logical: u64, bytes: u64, flags: u32) -> Extent {
    Extent { logical, bytes, flags, ..Extent::default() }
}

type Places = Vec<(u64, u64)>;

/// Start and end of each part.
fn places(parts: &[Range<u64>]) -> Places {
    parts.iter().map(|part| (part.start, part.end)).collect()
}

fn parts(range: Range<u64>, extents: &[Extent]) -> Places {
    let mut parts = Vec::new();
    add_parts(&mut parts, range, extents);
    places(&parts)
}

#[test]
fn holes_and_extents_that_cannot_be_stored_to_are_told_from_whole_ones() {
    assert_eq!(parts(0..100, &[]), [(0, 100)], "a file without extents is one hole");
    assert_eq!(parts(0..100, &[extent(0, 100, Extent::LAST)]), []);
    assert_eq!(parts(0..100, &[extent(10, 20, 0), extent(40, 60, 0)]), [(0, 10), (30, 40)]);
    assert_eq!(parts(0..100, &[extent(0, 40, Extent::SHARED), extent(40, 60, 0)]), [(0, 40)]);
    assert_eq!(parts(0..100, &[extent(0, 40, 0), extent(40, 60, Extent::UNWRITTEN)]), [(40, 100)]);
    // A part in the middle is asked for: what touches it from outside is cut.
    assert_eq!(parts(20..60, &[extent(0, 40, Extent::SHARED), extent(50, 90, Extent::DELAYED)]), [(20, 60)]);
    assert_eq!(parts(20..60, &[extent(0, 200, 0)]), []);
    // The kernel's other flags say nothing about room: merged, last, not aligned.
    assert_eq!(parts(0..100, &[extent(0, 100, 0x1000 | 0x100 | Extent::LAST)]), []);
}

fn file_of(dir: &TempDir, make: impl FnOnce(&File)) -> File {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(dir.path().join("file")).expect("new");
    make(&file);
    file.sync_all().expect("synced");
    file
}

#[test]
fn a_file_with_holes_gets_blocks_of_its_own_and_keeps_its_bytes() {
    let dir = TempDir::new().expect("a directory");
    let file = file_of(&dir, |file| {
        file.set_len(BYTES).expect("sparse");
        file.write_all_at(&[7; 10_000], 300_000).expect("written");
    });
    let before = fs::read(dir.path().join("file")).expect("the file");
    let parts = parts_without_space(&file, 0..BYTES).expect("known");
    let bytes: u64 = parts.iter().map(|part| part.end - part.start).sum();
    assert!((BYTES - (64 << 10)..BYTES).contains(&bytes), "{parts:?}");
    take_space(&file, &parts).expect("room");
    file.sync_data().expect("synced");
    assert_eq!(parts_without_space(&file, 0..BYTES).expect("known"), []);
    assert_eq!(fs::read(dir.path().join("file")).expect("the file"), before);
}

#[test]
fn what_was_allocated_and_never_written_counts_as_without_space() {
    let dir = TempDir::new().expect("a directory");
    let file = file_of(&dir, |file| {
        // A file system that can't allocate ahead has nothing to show here.
        if fallocate(file, FallocateFlags::empty(), 0, BYTES).is_err() {
            file.set_len(BYTES).expect("sparse");
        }
    });
    let parts = parts_without_space(&file, 4096..BYTES).expect("known");
    if fstatfs(&file).expect("a file system").f_type == 0xef53 {
        assert_eq!(places(&parts), [(4096, BYTES)], "ext4 tells");
    }
    take_space(&file, &parts).expect("room");
    file.sync_data().expect("synced");
    assert_eq!(parts_without_space(&file, 4096..BYTES).expect("known"), []);
}

/// A file whose cache was dropped while somebody else maps one of its pages.
fn a_file_that_is_mapped(dir: &TempDir, fill: u8) -> (File, MmapMut, MmapMut) {
    let file = file_of(dir, |file| file.write_all_at(&vec![fill; 256 << 10], 0).expect("written"));
    let other = map_mut(&file).expect("mapped");
    assert_eq!(other[100_000], fill, "its page is in the page table of the mapping");
    fadvise(&file, 0, None, Advice::DontNeed).expect("dropped");
    let fresh = map_mut(&file).expect("mapped");
    (file, other, fresh)
}

#[test]
fn pages_that_somebody_maps_outlive_the_drop_and_are_found() {
    let dir = TempDir::new().expect("a directory");
    let (file, other, fresh) = a_file_that_is_mapped(&dir, 7);
    let cached = cached_parts(&fresh).expect("known");
    assert!(cached.iter().any(|part| part.contains(&100_000)), "{cached:?}");
    let path = dir.path().join("file");
    assert_eq!(compare_cache(&path, &file, &fresh).expect("compared"), Cache::SameAsDevice);
    drop(other);
    fadvise(&file, 0, None, Advice::DontNeed).expect("dropped");
    let is_in_memory = MEMORY_FILE_SYSTEMS.contains(&u64::try_from(fstatfs(&file).expect("known").f_type).unwrap_or(0));
    assert_eq!(cached_parts(&fresh).expect("known").is_empty(), !is_in_memory);
}

#[test]
fn a_cached_page_that_differs_from_the_device_is_named() {
    let (dir, device) = (TempDir::new().expect("a directory"), TempDir::new().expect("a directory"));
    let (file, _other, fresh) = a_file_that_is_mapped(&dir, 7);
    if MEMORY_FILE_SYSTEMS.contains(&u64::try_from(fstatfs(&file).expect("known").f_type).unwrap_or(0)) {
        return;
    }
    // Another file stands for what the device holds: one byte is not as the cached page shows it.
    let offset = cached_parts(&fresh).expect("known")[0].start + 77;
    file_of(&device, |file| {
        file.write_all_at(&vec![7; 256 << 10], 0).expect("written");
        file.write_all_at(&[8], offset).expect("written");
    });
    let compared = compare_cache(&device.path().join("file"), &file, &fresh).expect("compared");
    assert_eq!(compared, Cache::Differs { offset });
}

#[test]
fn a_segment_that_is_cached_otherwise_than_the_device_holds_it_is_not_opened() {
    let (dir, device) = (TempDir::new().expect("a directory"), TempDir::new().expect("a directory"));
    let (file, _other, fresh) = a_file_that_is_mapped(&dir, 7);
    file_of(&device, |file| file.write_all_at(&vec![8; 256 << 10], 0).expect("written"));
    drop(fresh);
    let (path, on_device) = (dir.path().join("file"), device.path().join("file"));
    open_over(&path, &path, SegmentSeq::FIRST, false).expect("the device holds what the cache shows");
    if MEMORY_FILE_SYSTEMS.contains(&u64::try_from(fstatfs(&file).expect("known").f_type).unwrap_or(0)) {
        return;
    }
    let error = open_over(&path, &on_device, SegmentSeq::FIRST, false).expect_err("it is not trusted").to_string();
    assert!(error.contains("trust the page cache of") && error.contains("fuser"), "{error}");
}
