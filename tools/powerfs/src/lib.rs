//! A file system that loses its power: what programs wrote and did not sync may be gone afterwards, as on a real host.
//!
//! The core ([`Images`], [`Content`]) is a value without clock, threads and files. It keeps two images of every file and of every
//! directory: the live one, which programs see, and the durable one, which a sync made. [`Images::cut`] decides by a seed what else
//! reached the disk, and leaves that. The shell ([`Mount`], [`HostFiles`]) shows the images to the kernel through FUSE, keeps their
//! bytes in files of the host, and stops everything at once ([`Supply`]).
//!
//! It does not model hard links, symbolic links, times, permissions that get lost, or disks that lie about a sync.

mod content;
mod host_files;
mod images;
pub mod limits;
mod mount;
mod names;
mod requests;
mod store;
mod supply;

pub use content::Content;
pub use host_files::HostFiles;
pub use images::{Attributes, Images};
pub use mount::{Mount, MountError};
pub use names::Fate;
pub use store::{Inode, Refusal, Remains, Store};
pub use supply::{Kind, Supply, Trigger};
