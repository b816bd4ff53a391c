//! What power cuts need of the host: FUSE, and mounts of one's own, which end with the process.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::CertifyError;

const DEVICE: &str = "/dev/fuse";
/// Flag that tells the second process where it is.
const INSIDE_FLAG: &str = "--inside-mounts";

/// Says what is missing, in one line.
pub(super) fn check(dir: &Path) -> Result<(), CertifyError> {
    let missing = |what: String| Err(CertifyError::Host(what));
    if let Err(error) = File::options().read(true).write(true).open(DEVICE) {
        return missing(format!(
            "{DEVICE}: {error}; the kernel's module `fuse` must be loaded, and this user must be allowed to use it"
        ));
    }
    if !dir.is_dir() {
        return missing(format!("{} is no directory; create it on the disk that is to be used", dir.display()));
    }
    Ok(())
}

/// Becomes this program again, with the same arguments, in a mount namespace of its own. Returns only if that fails.
///
/// Whoever is not root gets a user namespace as well, where that is allowed.
pub(super) fn run_again() -> CertifyError {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return CertifyError::Host(format!("this program cannot be found: {error}")),
    };
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let end = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
    arguments.insert(end, INSIDE_FLAG.into());
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let error = command.arg("--").arg(program).args(arguments).exec();
    CertifyError::Host(format!("`unshare` of util-linux is needed to have mounts of one's own: {error}"))
}

/// The kernel and the file system of `dir`, for the report.
pub(super) fn describe(dir: &Path) -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux {}, {}", release.trim(), file_system(dir).unwrap_or_else(|| "unknown file system".to_owned()))
}

/// Type and options of the file system that `dir` is on, as the last mount above it says.
fn file_system(dir: &Path) -> Option<String> {
    let dir = dir.canonicalize().ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let rows = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?, words.next()?))
    });
    let above = rows.filter(|(place, ..)| dir.starts_with(place));
    let (_, kind, options) = above.max_by_key(|(place, ..)| place.len())?;
    Some(format!("{kind} ({options})"))
}
