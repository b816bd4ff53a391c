//! A small file system of its own for each node, which can be filled to the last byte and made to hang.
//!
//! It is ext4 in a file, through a loop device. Where there is no loop device it is a tmpfs, which can be filled but does not hang. Both
//! need the right to mount, and are mounted in the mount namespace of this process, so that nothing of them outlives it.
//! A disk that hangs is a frozen file system: writes, syncs and stores into mapped files wait until it is thawed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bench::namespaces::run_tool;

use crate::limits::DISK_MIB;

/// One node's file system.
#[derive(Debug)]
struct Disk {
    mount: PathBuf,
    can_hang: bool,
    /// A fault fills it.
    is_filled: bool,
}

/// The file systems of all nodes. Dropping them unmounts them.
#[derive(Debug)]
pub(super) struct Disks {
    disks: Vec<Disk>,
}

impl Disks {
    /// Makes and mounts one for each node inside `dir`, or says why that cannot be.
    pub(super) fn create(dir: &Path, nodes: usize) -> Result<Self, String> {
        // What is mounted here must not be seen outside, nor stay there.
        run_tool("mount", &["--make-rprivate", "/"])?;
        let mut disks = Self { disks: Vec::new() };
        for node in 0..nodes {
            let mount = dir.join(format!("disk{}", node + 1));
            fs::create_dir(&mount).map_err(|error| format!("{}: {error}", mount.display()))?;
            let can_hang = match mount_ext4(dir, node, &mount) {
                Ok(()) => true,
                Err(_) => {
                    let options = format!("size={DISK_MIB}m");
                    run_tool("mount", &["-t", "tmpfs", "-o", &options, "tmpfs", &mount.display().to_string()])?;
                    false
                }
            };
            disks.disks.push(Disk { mount, can_hang, is_filled: false });
        }
        Ok(disks)
    }

    /// Where node `node` may keep its data.
    pub(super) fn data_dir(&self, node: usize) -> PathBuf {
        self.disks[node].mount.join("data")
    }

    /// Whether all of them can be made to hang.
    pub(super) fn can_hang(&self) -> bool {
        self.disks.iter().all(|disk| disk.can_hang)
    }

    /// Whether a fault fills the disk of node `node` now.
    pub(super) fn is_filled(&self, node: usize) -> bool {
        self.disks[node].is_filled
    }

    /// Takes all room that the disk of node `node` has left. Returns how much that was; an error if there is room after all.
    /// Unit: bytes.
    pub(super) fn fill(&mut self, node: usize) -> io::Result<u64> {
        let disk = &mut self.disks[node];
        disk.is_filled = true;
        let mut file = File::options().create(true).append(true).open(disk.filler())?;
        let free_bytes = disk.free_bytes()?;
        let length = file.metadata()?.len();
        // The file system needs some of it for itself; what that leaves is written below.
        for part in [1, 2, 4, 8] {
            let bytes = free_bytes / part;
            if bytes > 0 && rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), length, bytes).is_ok() {
                break;
            }
        }
        loop {
            match file.write_all(&[1; 4096]) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(free_bytes),
                Err(error) => return Err(error),
            }
        }
    }

    /// Undoes `fill`.
    pub(super) fn empty(&mut self, node: usize) -> io::Result<()> {
        let disk = &mut self.disks[node];
        disk.is_filled = false;
        fs::remove_file(disk.filler())
    }

    /// Makes the disk of node `node` hang `times` times for `hang_ms` each, with `free_ms` between them.
    ///
    /// A process of its own does it, which thaws the disk even if this one is killed meanwhile. It fails if the disk does not
    /// hang, for instance because another such process is at it.
    pub(super) fn hang(&self, node: usize, times: u64, hang_ms: u64, free_ms: u64) -> io::Result<Child> {
        let mount = self.disks[node].mount.display();
        let seconds = |ms: u64| format!("{}.{:03}", ms / 1000, ms % 1000);
        let (hang, free) = (seconds(hang_ms), seconds(free_ms));
        let script = format!(
            "for _ in $(seq {times}); do fsfreeze -f '{mount}' || exit 1; sleep {hang}; fsfreeze -u '{mount}' || exit 1; sleep {free}; done"
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Ctrl-C is not for it: a disk that stays frozen would hold its node for ever.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.spawn()
    }
}

impl Disk {
    fn filler(&self) -> PathBuf {
        self.mount.join("filler")
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let space = rustix::fs::statvfs(&self.mount)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

fn mount_ext4(dir: &Path, node: usize, mount: &Path) -> Result<(), String> {
    let image = dir.join(format!("disk{}.ext4", node + 1));
    let io_error = |error: io::Error| format!("{}: {error}", image.display());
    File::create(&image).and_then(|file| file.set_len(DISK_MIB << 20)).map_err(io_error)?;
    let (image, mount) = (image.display().to_string(), mount.display().to_string());
    // Without blocks reserved for root, which the nodes may be.
    run_tool("mkfs.ext4", &["-q", "-F", "-m", "0", &image])?;
    run_tool("mount", &["-o", "loop", &image, &mount])?;
    run_tool("fsfreeze", &["-f", &mount])?;
    run_tool("fsfreeze", &["-u", &mount])
}

impl Drop for Disks {
    fn drop(&mut self) {
        for disk in &self.disks {
            // The nodes' own mount namespaces may hold it until they are gone; it goes with the last of them.
            if let Err(error) = run_tool("umount", &["-l", &disk.mount.display().to_string()]) {
                eprintln!("a file system is left: {error}");
            }
        }
    }
}
