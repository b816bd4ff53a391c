//! Limits of a server's connections, each with its unit, and what must hold between them.

use crate::limits::LOOKUP_AGAIN_MS_MAX;

// Connections that others open.

/// Most connections that wait to be accepted.
pub(super) const LISTEN_BACKLOG: i32 = 1024;

/// A caller has this long to say who it is. Unit: ms.
pub(super) const GREETING_MS_MAX: u64 = 5_000;

// Connections to a peer.

/// Connecting to the only address of a peer and greeting it may take this long. Unit: ms.
pub(super) const CONNECT_MS_MAX: u64 = 2_000;

/// The same for each address of a peer that has several. Unit: ms.
pub(super) const CONNECT_ONE_MS_MAX: u64 = 1_000;

/// Addresses that one attempt tries. The next attempt goes on after them.
pub(super) const PEER_ADDRESSES_MAX: usize = 8;

/// First pause after a failure. Unit: ms.
pub(super) const BACKOFF_MS_MIN: u64 = 20;

/// Longest pause after failures. Unit: ms.
pub(super) const BACKOFF_MS_MAX: u64 = 1_000;

/// Wait for a lookup of which nothing is known yet. Unit: ms.
pub(super) const LOOKUP_FIRST_MS_MAX: u64 = 2_000;

// Whoever connects and greets in its own time is greeted in ours.
const _: () = assert!(CONNECT_ONE_MS_MAX <= CONNECT_MS_MAX && CONNECT_MS_MAX < GREETING_MS_MAX);
// Pauses grow from the first to the longest.
const _: () = assert!(BACKOFF_MS_MIN > 0 && BACKOFF_MS_MIN <= BACKOFF_MS_MAX);
// What is known already is waited for less.
const _: () = assert!(LOOKUP_AGAIN_MS_MAX <= LOOKUP_FIRST_MS_MAX);

// Writing.

/// A buffer that was written is not kept if it is larger than this. Unit: bytes.
pub(super) const WRITE_BUFFER_KEPT_BYTES_MAX: usize = 1 << 20;

/// Bytes that are written in one go before other tasks have their turn. Unit: bytes.
pub(super) const WRITE_PIECE_BYTES_MAX: usize = 256 << 10;

/// Buffers that are kept for whoever queues something next.
pub(super) const SPARE_BUFFERS_MAX: usize = 8;

/// What the other side does not take is set aside in pieces of this size. Unit: bytes.
pub(super) const PIECE_BYTES: usize = 256 << 10;

/// Pieces that are kept for whoever needs one next.
pub(super) const SPARE_PIECES_MAX: usize = 8;

/// A connection whose other side takes nothing keeps no larger buffers besides pieces. Unit: bytes.
pub(super) const BLOCKED_BUFFER_BYTES_MAX: usize = 16 << 10;

// Pieces are written in one go.
const _: () = assert!(PIECE_BYTES <= WRITE_PIECE_BYTES_MAX && BLOCKED_BUFFER_BYTES_MAX < PIECE_BYTES);
// A buffer of the usual size is kept.
const _: () = assert!(WRITE_PIECE_BYTES_MAX <= WRITE_BUFFER_KEPT_BYTES_MAX);
