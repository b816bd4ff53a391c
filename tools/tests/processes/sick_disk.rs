//! A disk that hangs or fails when a test says so.
//!
//! It is a file system in a file on another file system in a file. While the outer one is frozen the inner one's device does not
//! answer: stores into mapped files go on, until one of them needs the file system's journal, and syncs hang. Once the inner one is
//! shut down every sync of it fails, and so does every store into a mapped page that is not dirty; what was durable stays so.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::harness::leave_out;

/// Size of the inner file system; the files are sparse. Unit: bytes.
const INNER_BYTES: u64 = 3 << 30;

/// Size of the outer one. Unit: bytes.
const OUTER_BYTES: u64 = 4 << 30;

pub struct SickDisk {
    dir: TempDir,
}

impl SickDisk {
    /// Makes and mounts one, or says why that cannot be.
    pub fn mount() -> Option<Self> {
        let disk = Self { dir: TempDir::new().expect("a directory") };
        let is_mounted = disk.make();
        if !is_mounted {
            leave_out("there is no mkfs.ext4 or fsfreeze, or no right to mount");
        }
        is_mounted.then_some(disk)
    }

    /// Where a node may keep its data.
    pub fn data_dir(&self) -> PathBuf {
        self.path("inner").join("data")
    }

    /// Whoever syncs waits from now on.
    pub fn hang(&self) {
        assert!(run("fsfreeze", &["-f"], &[&self.path("outer")]), "frozen");
    }

    /// Goes on after it hung.
    pub fn go_on(&self) {
        assert!(run("fsfreeze", &["-u"], &[&self.path("outer")]), "thawed");
    }

    /// Whether this host has what `fail` needs.
    pub fn can_fail() -> bool {
        let has_tool = run("xfs_io", &["-V"], &[]);
        if !has_tool {
            leave_out("there is no xfs_io");
        }
        has_tool
    }

    /// From now on syncs fail, and whoever stores into a mapped file may be killed.
    pub fn fail(&self) {
        assert!(run("xfs_io", &["-x", "-c", "shutdown"], &[&self.path("inner")]), "shut down");
    }

    /// Is well again after it failed. Nobody may use it meanwhile.
    pub fn recover(&self) {
        assert!(run("umount", &[], &[&self.path("inner")]) && self.mount_inner(), "mounted again");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn outer_image(&self) -> PathBuf {
        self.path("image")
    }

    fn inner_image(&self) -> PathBuf {
        self.path("outer").join("image")
    }

    fn make(&self) -> bool {
        for mount in ["outer", "inner"] {
            fs::create_dir(self.path(mount)).expect("a directory");
        }
        make_image(&self.outer_image(), OUTER_BYTES)
            && self.mount_outer()
            && make_image(&self.inner_image(), INNER_BYTES)
            && self.mount_inner()
            && run("fsfreeze", &["--version"], &[])
    }

    fn mount_outer(&self) -> bool {
        run("mount", &["-o", "loop"], &[&self.outer_image(), &self.path("outer")])
    }

    fn mount_inner(&self) -> bool {
        run("mount", &["-o", "loop"], &[&self.inner_image(), &self.path("inner")])
    }
}

impl Drop for SickDisk {
    fn drop(&mut self) {
        // It may hang.
        run("fsfreeze", &["-u"], &[&self.path("outer")]);
        for mount in ["inner", "outer"] {
            run("umount", &["-l"], &[&self.path(mount)]);
        }
    }
}

/// Makes a file with a file system.
fn make_image(path: &Path, bytes: u64) -> bool {
    File::create(path).and_then(|image| image.set_len(bytes)).expect("a sparse file");
    run("mkfs.ext4", &["-q", "-F"], &[path])
}

/// Whether a tool ran and succeeded.
fn run(program: &str, options: &[&str], paths: &[&Path]) -> bool {
    Command::new(program).args(options).args(paths).output().is_ok_and(|output| output.status.success())
}
