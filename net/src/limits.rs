//! Limits of what goes over connections, each with its unit, and what must hold between them.
//!
//! Those of a server's connections are in `shell/limits.rs`, those of a client's in `client/limits.rs`. Sizes that follow from a format
//! stand with the format.

// What both sides of a connection rely on.

/// Largest payload of a request. Unit: bytes.
pub const REQUEST_BYTES_MAX: usize = 64 << 20;

/// Largest answer that a client takes and that a node passes on, all its parts together. Unit: bytes.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Longest message in an answer. Unit: bytes.
pub(crate) const MESSAGE_BYTES_MAX: u16 = 1024;

/// Longest body of a `Hello` or `Welcome`. Unit: bytes.
pub(crate) const HANDSHAKE_BODY_BYTES_MAX: usize = 2048;

/// Longest name or URL in a handshake. Unit: bytes.
pub(crate) const HANDSHAKE_TEXT_BYTES_MAX: u16 = 512;

/// A node that owes an answer and says nothing for so long is given up by its client. Unit: ms.
pub const SILENCE_MS_MAX: u64 = 1_000;

// A frame states the length of its body in 32 bits.
const _: () = assert!(REQUEST_BYTES_MAX < u32::MAX as usize);
const _: () = assert!(ANSWER_BYTES_MAX < u32::MAX as usize);

// Buffers for what arrives.

/// Size of the first buffer: thousands of connections may never send more than a few bytes. Unit: bytes.
pub(crate) const READ_BUFFER_BYTES_FIRST: usize = 4 * 1024;

/// Size of the buffer of a connection that is busy and has no large frame under way. Unit: bytes.
pub(crate) const READ_BUFFER_BYTES: usize = 64 * 1024;

/// A read is offered at least the buffer's size divided by this.
pub(crate) const READS_PER_BUFFER: usize = 4;

/// Buffers larger than this are given back once they are empty. Unit: bytes.
pub(crate) const READ_BUFFER_KEPT_BYTES_MAX: usize = 4 * READ_BUFFER_BYTES;

// Buffers grow from the first to the usual one; the usual one is kept.
const _: () = assert!(READ_BUFFER_BYTES_FIRST <= READ_BUFFER_BYTES && READ_BUFFER_BYTES <= READ_BUFFER_KEPT_BYTES_MAX);
// Whatever the first buffer is too small for makes it grow; a greeting alone does not.
const _: () = assert!(HANDSHAKE_BODY_BYTES_MAX < READ_BUFFER_BYTES_FIRST);

// Names of hosts.

/// Lookups that may run or hang at once. The names of a cluster's members are fewer. Unit: threads.
#[cfg(any(feature = "shell", feature = "client"))]
pub(crate) const LOOKUPS_MAX: usize = 64;

/// Names that are remembered. Beyond, those are forgotten that nobody looks up just now.
#[cfg(any(feature = "shell", feature = "client"))]
pub(crate) const NAMES_MAX: usize = 4096;

/// Wait for a lookup if some address is known from before: long enough for a resolver that works. Unit: ms.
#[cfg(any(feature = "shell", feature = "client"))]
pub(crate) const LOOKUP_AGAIN_MS_MAX: u64 = 200;

// A name that is being looked up is remembered.
#[cfg(any(feature = "shell", feature = "client"))]
const _: () = assert!(LOOKUPS_MAX <= NAMES_MAX);
