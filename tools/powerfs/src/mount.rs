//! A mounted file system, until its power goes.
//!
//! Shell. It mounts by itself, which needs the rights of root, in a user namespace of one's own if nowhere else. When the power is gone it
//! lets every request hang, so that no program learns of it. Then the connection is cut, and the kernel drops what it had not written.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use fuser::{BackgroundSession, Config, Session, SessionACL};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{getgid, getuid};

use crate::host_files::HostFiles;
use crate::images::Images;
use crate::requests::{Held, Requests};
use crate::supply::Supply;

const DEVICE: &str = "/dev/fuse";

/// Why a file system cannot be mounted or taken away.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The host has no FUSE, or keeps this user from it.
    #[error("this host lacks {DEVICE}, or this user may not open it: {0}; load the module `fuse` and run as root")]
    Device(io::Error),
    /// The kernel refused the mount.
    #[error("cannot mount a FUSE file system at {}: {source}; run as root", path.display())]
    Mount {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot be taken away.
    #[error("cannot take the file system at {} away: {source}", path.display())]
    Unmount {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Whoever serves it ended with an error.
    #[error("the file system at {} ended: {source}", path.display())]
    Session {
        /// Where.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

/// A mounted file system. Dropping it takes it away as a cut does.
#[derive(Debug)]
pub struct Mount {
    path: PathBuf,
    session: Option<BackgroundSession>,
    held: Held,
}

impl Mount {
    /// Mounts `images` at the directory `path`. It has the power of member `member` of `supply`.
    ///
    /// # Errors
    /// The host lacks what it takes.
    pub fn new(
        images: Arc<Mutex<Images<HostFiles>>>,
        path: &Path,
        supply: Arc<Supply>,
        member: u8,
    ) -> Result<Self, MountError> {
        let device = OpenOptions::new().read(true).write(true).open(DEVICE).map_err(MountError::Device)?;
        let mount_error = |source| MountError::Mount { path: path.to_owned(), source };
        mount_device(&device, path).map_err(mount_error)?;
        let held = Held::default();
        let requests = Requests::new(images, supply, member, held.clone());
        let mut mounted = Self { path: path.to_owned(), session: None, held };
        let session = Session::from_fd(requests, OwnedFd::from(device), SessionACL::All, Config::default());
        mounted.session = Some(session.and_then(Session::spawn).map_err(mount_error)?);
        Ok(mounted)
    }

    /// Takes it away at once. What the kernel holds and did not write is dropped; programs that still wait get an error.
    ///
    /// # Errors
    /// It cannot be taken away.
    pub fn take_away(mut self) -> Result<(), MountError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), MountError> {
        let Some(session) = self.session.take() else { return Ok(()) };
        let path = self.path.clone();
        // By force: the connection ends first, so that nothing is written any more. Detached: somebody may have it open still.
        unmount(&path, UnmountFlags::FORCE | UnmountFlags::DETACH)
            .map_err(|error| MountError::Unmount { path: path.clone(), source: error.into() })?;
        self.held.let_go();
        session.join().map_err(|source| MountError::Session { path, source })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error}");
        }
    }
}

fn mount_device(device: &File, path: &Path) -> io::Result<()> {
    let (user, group) = (getuid().as_raw(), getgid().as_raw());
    let options = format!(
        "fd={},rootmode=40000,user_id={user},group_id={group},default_permissions,allow_other",
        device.as_raw_fd()
    );
    let options = CString::new(options)?;
    Ok(mount("powerfs", path, "fuse", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())?)
}

#[cfg(test)]
#[path = "mount_tests.rs"]
mod tests;
