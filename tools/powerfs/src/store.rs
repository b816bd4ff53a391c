//! Where the bytes of the durable images lie: an interface, and an implementation in memory for tests.

/// Number of a file or directory, the same in every life. The root is [`Inode::ROOT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Inode(pub u64);

impl Inode {
    /// The directory that is mounted.
    pub const ROOT: Self = Self(1);
}

/// Why a request is not done. Each has one number of the system's errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such name or file.
    #[error("it is not there")]
    Absent,
    /// The name is taken.
    #[error("the name is taken")]
    Exists,
    /// A directory with names in it is not removed or replaced.
    #[error("the directory is not empty")]
    NotEmpty,
    /// A directory was expected.
    #[error("it is no directory")]
    NotDirectory,
    /// A file was expected.
    #[error("it is a directory")]
    IsDirectory,
    /// The name is too long.
    #[error("the name is too long")]
    NameTooLong,
    /// The store failed. Unit: the system's number of the error.
    #[error("the host said error {0}")]
    Host(i32),
}

/// What a cut of the power left of what was not synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// Sectors that were written and not synced, and reached the disk all the same.
    pub sectors_kept: u64,
    /// Sectors that were written and not synced, and are gone.
    pub sectors_lost: u64,
    /// Changes of names whose directory was not synced, and that stayed.
    pub names_kept: u64,
    /// Changes of names whose directory was not synced, and that are undone.
    pub names_lost: u64,
}

impl Remains {
    /// Adds what another cut left.
    pub fn add(&mut self, other: Self) {
        self.sectors_kept += other.sectors_kept;
        self.sectors_lost += other.sectors_lost;
        self.names_kept += other.names_kept;
        self.names_lost += other.names_lost;
    }
}

/// The durable bytes of all files.
pub trait Store {
    /// Reads what the durable image holds. What lies behind its end reads as zeros.
    ///
    /// # Errors
    /// The host could not.
    fn read(&self, file: Inode, offset: u64, into: &mut [u8]) -> Result<(), Refusal>;

    /// Writes to the durable image, which grows where needed.
    ///
    /// # Errors
    /// The host could not.
    fn write(&mut self, file: Inode, offset: u64, bytes: &[u8]) -> Result<(), Refusal>;

    /// Cuts the durable image off, or extends it with zeros.
    ///
    /// # Errors
    /// The host could not.
    fn set_length(&mut self, file: Inode, bytes: u64) -> Result<(), Refusal>;

    /// Has the host make durable what was written.
    ///
    /// # Errors
    /// The host could not.
    fn sync(&mut self, file: Inode) -> Result<(), Refusal>;

    /// Removes the file's image, if there is one.
    ///
    /// # Errors
    /// The host could not.
    fn remove(&mut self, file: Inode) -> Result<(), Refusal>;
}

#[cfg(test)]
pub(crate) mod memory {
    use std::collections::BTreeMap;

    use super::{Inode, Refusal, Store};

    /// A store in memory.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Memory {
        pub(crate) files: BTreeMap<Inode, Vec<u8>>,
        /// Every call that changes something fails.
        pub(crate) is_broken: bool,
    }

    impl Memory {
        fn file(&mut self, file: Inode) -> Result<&mut Vec<u8>, Refusal> {
            if self.is_broken { Err(Refusal::Host(5)) } else { Ok(self.files.entry(file).or_default()) }
        }
    }

    impl Store for Memory {
        fn read(&self, file: Inode, offset: u64, into: &mut [u8]) -> Result<(), Refusal> {
            let bytes = self.files.get(&file).map_or(&[][..], Vec::as_slice);
            let offset = usize::try_from(offset).expect("small");
            for (at, byte) in into.iter_mut().enumerate() {
                *byte = bytes.get(offset + at).copied().unwrap_or(0);
            }
            Ok(())
        }

        fn write(&mut self, file: Inode, offset: u64, bytes: &[u8]) -> Result<(), Refusal> {
            let file = self.file(file)?;
            let offset = usize::try_from(offset).expect("small");
            if file.len() < offset + bytes.len() {
                file.resize(offset + bytes.len(), 0);
            }
            file[offset..offset + bytes.len()].copy_from_slice(bytes);
            Ok(())
        }

        fn set_length(&mut self, file: Inode, bytes: u64) -> Result<(), Refusal> {
            self.file(file)?.resize(usize::try_from(bytes).expect("small"), 0);
            Ok(())
        }

        fn sync(&mut self, file: Inode) -> Result<(), Refusal> {
            self.file(file).map(drop)
        }

        fn remove(&mut self, file: Inode) -> Result<(), Refusal> {
            self.files.remove(&file);
            Ok(())
        }
    }
}
