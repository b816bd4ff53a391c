//! Disks with bad places and disks that are full, under a log's files. Each test mounts a file system of its own in a file,
//! and says that it was skipped where this host has no right or no tool to do so.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Advice, fadvise};
use tempfile::TempDir;
use wal::device::LogDevice;
use wal::types::EntryId;
use wal::{EntryHeader, EntryKind, FileDevice, Log, LogOptions, SegmentIdentity, SegmentSeq, Storage};

use crate::harness::{leave_out, quorate};

const IDENTITY: SegmentIdentity = SegmentIdentity { cluster_id: 1, node_id: 2, shard: 0, shard_count: 1 };
const OPTIONS: LogOptions =
    LogOptions { identity: IDENTITY, segment_bytes: 1 << 20, state: EntryId::ZERO, state_lineage: wal::Lineage::START };

/// A file system in a file, mounted; unmounted when it is dropped.
struct Disk {
    image: PathBuf,
    mount: PathBuf,
    _dir: TempDir,
}

impl Disk {
    /// Makes and mounts one, or says why that cannot be.
    fn mount(mib: u64, make: &[&str]) -> Option<Self> {
        let dir = TempDir::new().expect("a directory");
        let disk = Self { image: dir.path().join("image"), mount: dir.path().join("mount"), _dir: dir };
        fs::create_dir(&disk.mount).expect("a directory");
        File::create(&disk.image).and_then(|image| image.set_len(mib << 20)).expect("a sparse file");
        let (program, options) = make.split_first().expect("a program");
        let is_mounted = run(Command::new(program).args(options).arg(&disk.image))
            && run(Command::new("mount").args(["-o", "loop"]).args([&disk.image, &disk.mount]));
        if !is_mounted {
            leave_out(&format!("there is no {program}, or no right to mount"));
        }
        is_mounted.then_some(disk)
    }

    /// Writes until there is no room for another byte.
    fn fill(&self) {
        let mut file = File::create(self.mount.join("filler")).expect("a file");
        for bytes in [1 << 20, 4096, 1] {
            while file.write_all(&vec![1; bytes]).is_ok() && file.sync_data().is_ok() {}
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run(Command::new("umount").arg("-l").arg(&self.mount));
    }
}

/// Whether a tool ran and succeeded.
fn run(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// Opens the log in `dir` and appends to it durably.
fn append(dir: &Path, count: u64) -> Result<(), String> {
    let storage = FileDevice::open(dir).map_err(|error| error.to_string())?;
    let (mut log, _) = Log::open(storage, OPTIONS).map_err(|error| error.to_string())?;
    for _ in 0..count {
        while let Some(seq) = log.needs_segment() {
            let prepared = log.storage().preparing(seq, IDENTITY, OPTIONS.segment_bytes)();
            log.storage_mut().install(prepared.map_err(|error| error.to_string())?);
        }
        let id = EntryId::new(wal::types::Term::new(1), log.last_id().index.next());
        let payload = [7; 3000];
        log.append_entry(&EntryHeader::new(id, EntryKind::new(2), &payload), &payload)
            .map_err(|error| error.to_string())?;
        while let Some(request) = log.next_sync() {
            let result = log.storage().sync_blocking(&request);
            log.on_synced(request.id, result);
        }
    }
    Ok(())
}

#[test]
fn the_checker_names_a_place_that_cannot_be_read() {
    let Some(disk) = Disk::mount(200, &["mkfs.ext4", "-q", "-F"]) else { return };
    let dir = disk.mount.join("wal");
    fs::create_dir(&dir).expect("a directory");
    append(&dir, 200).expect("room");
    let segment = dir.join(SegmentSeq::FIRST.file_name());
    assert!(run(Command::new("mount").args(["-o", "remount,ro"]).arg(&disk.mount)), "remounted");
    // What the segment holds from its middle on is cut from the disk: reading it fails.
    let extents = Command::new("filefrag").args(["-v", "-b512"]).arg(&segment).output().expect("filefrag runs");
    let text = String::from_utf8_lossy(&extents.stdout).into_owned();
    let physical = text.lines().find_map(|line| line.trim().strip_prefix("0:")).and_then(|line| {
        line.split_ascii_whitespace()
            .nth(2)
            .and_then(|field| field.trim_end_matches("..").trim_end_matches('.').parse::<u64>().ok())
    });
    let physical = physical.unwrap_or_else(|| panic!("the first extent: {text}"));
    let image = OpenOptions::new().write(true).open(&disk.image).expect("the image");
    image.set_len(physical * 512 + (512 << 10)).expect("cut");
    fadvise(File::open(&segment).expect("the segment"), 0, None, Advice::DontNeed).expect("dropped");
    let path = dir.to_str().expect("a path");
    for command in ["verify", "dump"] {
        let output = quorate(&["wal", command, path]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{command}: {:?}: {said}", output.status);
        assert!(said.contains("unreadable") && said.contains("524288 bytes"), "{command}: {said}");
    }
}

#[test]
fn a_log_that_shares_its_blocks_gets_its_own_before_it_is_used_or_does_not_open() {
    let Some(disk) = Disk::mount(400, &["mkfs.xfs", "-q", "-m", "reflink=1"]) else { return };
    let (original, copy) = (disk.mount.join("original"), disk.mount.join("copy"));
    fs::create_dir(&original).expect("a directory");
    append(&original, 100).expect("room");
    assert!(run(Command::new("cp").args(["-r", "--reflink=always"]).args([&original, &copy])), "copied");
    disk.fill();
    let refused = append(&copy, 1).expect_err("blocks are shared, and there are no others");
    assert!(refused.contains("No space left"), "{refused}");
    fs::remove_file(disk.mount.join("filler")).expect("room again");
    append(&copy, 0).expect("room for blocks of its own");
    disk.fill();
    // While blocks are shared, a store needs new blocks, and its failure ends the process.
    append(&copy, 100).expect("no store needs room");
}
