//! Permissions of what a node creates in the file system. It does not set them.

pub use wal::files::{DIR_MODE, FILE_MODE};

/// Permissions that others have if any of these bits is set.
pub const OTHERS_MODE: u32 = 0o077;
