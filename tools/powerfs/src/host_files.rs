//! A store of files in one directory of the host: one file for each, named by its number.
//!
//! Shell. Syncs are the host's own, so that its errors and its speed reach the programs.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::store::{Inode, Refusal, Store};

/// The directory and its open files.
#[derive(Debug)]
pub struct HostFiles {
    dir: PathBuf,
    open: BTreeMap<Inode, File>,
}

impl HostFiles {
    /// An empty store in `dir`, which is created.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn create(dir: &Path) -> io::Result<Self> {
        fs::create_dir(dir)?;
        Ok(Self { dir: dir.to_owned(), open: BTreeMap::new() })
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self, file: Inode) -> PathBuf {
        self.dir.join(file.0.to_string())
    }

    fn open(&mut self, file: Inode) -> Result<&File, Refusal> {
        if !self.open.contains_key(&file) {
            let path = self.path(file);
            let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
            self.open.insert(file, opened.map_err(refusal)?);
        }
        self.open.get(&file).ok_or(Refusal::Absent)
    }
}

impl Store for HostFiles {
    fn read(&self, file: Inode, offset: u64, into: &mut [u8]) -> Result<(), Refusal> {
        let Some(open) = self.open.get(&file) else {
            into.fill(0);
            return Ok(());
        };
        let mut done = 0;
        while done < into.len() {
            match open.read_at(&mut into[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(refusal(error)),
            }
        }
        into[done..].fill(0);
        Ok(())
    }

    fn write(&mut self, file: Inode, offset: u64, bytes: &[u8]) -> Result<(), Refusal> {
        self.open(file)?.write_all_at(bytes, offset).map_err(refusal)
    }

    fn set_length(&mut self, file: Inode, bytes: u64) -> Result<(), Refusal> {
        self.open(file)?.set_len(bytes).map_err(refusal)
    }

    fn sync(&mut self, file: Inode) -> Result<(), Refusal> {
        self.open(file)?.sync_data().map_err(refusal)
    }

    fn remove(&mut self, file: Inode) -> Result<(), Refusal> {
        if self.open.remove(&file).is_none() {
            return Ok(());
        }
        fs::remove_file(self.path(file)).map_err(refusal)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn refusal(error: io::Error) -> Refusal {
    Refusal::Host(error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error()))
}
