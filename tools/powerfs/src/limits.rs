//! Limits of this package, each with its unit, and what must hold between them.

/// A page: the kernel writes mapped files back in these. Unit: bytes.
pub const PAGE_BYTES: usize = 4096;

/// The smallest piece that a disk writes whole. Unit: bytes.
pub const SECTOR_BYTES: usize = 512;

/// Sectors of a page: one bit of a byte for each.
pub(crate) const SECTORS_PER_PAGE: usize = PAGE_BYTES / SECTOR_BYTES;
const _: () = assert!(SECTORS_PER_PAGE == 8, "a byte has a bit for each sector of a page");

/// Unsynced bytes of one file that are held in memory. A file with more is written back whole, as a kernel does that needs memory.
/// Unit: bytes.
pub const UNSYNCED_BYTES_MAX: usize = 64 << 20;

/// Changes of names that wait for a sync. The oldest beyond that become durable, as a journal does that is full.
pub const PENDING_NAMES_MAX: usize = 4096;

/// Bytes that are written to a store at once. Unit: bytes.
pub(crate) const RUN_BYTES_MAX: usize = 1 << 20;
const _: () = assert!(RUN_BYTES_MAX >= PAGE_BYTES);

/// Largest name. Unit: bytes.
pub(crate) const NAME_BYTES_MAX: usize = 255;

/// Largest write that the kernel may send at once. Unit: bytes.
pub(crate) const WRITE_BYTES_MAX: u32 = 1 << 20;

/// How long the kernel may keep a name or the attributes of a file: nobody else changes them. Unit: s.
pub(crate) const KEPT_S_MAX: u64 = 365 * 24 * 3600;
