//! Permissions of what a node creates in the file system. It does not set them.

/// Permissions of directories that are created here: for their owner alone.
pub const DIR_MODE: u32 = 0o700;

/// Permissions of files that are created here: for their owner alone.
pub const FILE_MODE: u32 = 0o600;

/// Permissions that others have if any of these bits is set.
pub const OTHERS_MODE: u32 = 0o077;
