//! Small steps with files that a log and its owner share: permissions, a small file written whole, a directory synced, random
//! numbers.
//!
//! Shell; all of it may block.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Permissions of files that are created here: for their owner alone.
pub const FILE_MODE: u32 = 0o600;

/// Permissions of directories that are created here: for their owner alone.
pub const DIR_MODE: u32 = 0o700;

/// Makes the names in a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Where [`write_durably`] has a file until it is complete: beside it, `.new` after its name. A leftover of it means nothing.
#[must_use]
pub fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(".new");
    path.with_file_name(name)
}

/// Writes a small file whole or not at all: after an error the old one stands. Durable on return, with its name.
pub fn write_durably(path: &Path, text: &str) -> io::Result<()> {
    let temporary = unfinished(path);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_dir(path.parent().ok_or(io::ErrorKind::InvalidInput)?)
}

/// Numbers that no other process draws, whatever its clock says.
pub fn random_numbers<const N: usize>() -> io::Result<[u64; N]> {
    let mut source = File::open("/dev/urandom")?;
    let mut numbers = [0; N];
    for number in &mut numbers {
        let mut bytes = [0; 8];
        source.read_exact(&mut bytes)?;
        *number = u64::from_le_bytes(bytes);
    }
    Ok(numbers)
}

#[test]
fn a_small_file_is_replaced_whole_and_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::TempDir::new().expect("a directory");
    let path = dir.path().join("name");
    for text in ["first", "2nd"] {
        write_durably(&path, text).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("there"), text);
    }
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, FILE_MODE);
    assert!(!unfinished(&path).exists());
    fs::create_dir(unfinished(&path)).expect("something in the way");
    assert!(write_durably(&path, "third").is_err());
    assert_eq!(fs::read_to_string(&path).expect("there"), "2nd", "the old one stands");
}
