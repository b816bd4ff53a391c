//! Limits of a client, each with its unit, and what must hold between them.

use std::time::Duration;

use crate::limits::REQUEST_BYTES_MAX;

// One connection.

/// Most requests that wait for their answer on one connection; a node's own limit is usually lower.
pub(super) const WAITING_MAX: usize = 1 << 16;

/// Payloads of requests that wait for their answer on one connection, together; a node's own limit may be lower. Unit: bytes.
pub(super) const QUEUE_BYTES_MAX: usize = 64 << 20;

/// Buffers larger than this are not kept. Unit: bytes.
pub(super) const BUFFER_KEPT_BYTES_MAX: usize = 4 << 20;

/// Bytes that the kernel takes beyond what it has sent. A small number, so that a write which goes on shows that the other
/// side still takes something. Unit: bytes.
pub(super) const UNSENT_BYTES_MAX: u32 = 128 << 10;

/// A silent connection is given up after this many looks without a sign of life.
pub(super) const SILENT_LOOKS_MAX: u32 = 5;

/// Parts of one answer that came and that their caller has not taken; beyond, nothing more is read from the connection. Unit: bytes.
pub(super) const PARTS_BYTES_MAX: usize = 4 << 20;

/// What a part takes besides its bytes, about. Unit: bytes.
pub(super) const PART_HEAD_BYTES: usize = 64;

// A part of usual size waits beside others.
const _: () = assert!(PART_HEAD_BYTES < PARTS_BYTES_MAX && PARTS_BYTES_MAX <= QUEUE_BYTES_MAX);
// Every request that is allowed has room.
const _: () = assert!(REQUEST_BYTES_MAX <= QUEUE_BYTES_MAX);

// Requests.

/// First pause before a request is tried again. Each is a quarter longer than the one before: a request notices the end of an
/// outage when it has lasted at most a quarter longer.
pub(super) const RETRY_PAUSE_MIN: Duration = Duration::from_millis(5);

/// Longest pause before a request is tried again.
pub(super) const RETRY_PAUSE_MAX: Duration = Duration::from_millis(200);

/// A request without a limit in time has this one. Unit: s.
pub(super) const TIMEOUT_S_MAX: u64 = 365 * 24 * 3600;

// Pauses grow from the first to the longest.
const _: () = assert!(!RETRY_PAUSE_MIN.is_zero() && RETRY_PAUSE_MIN.as_millis() <= RETRY_PAUSE_MAX.as_millis());

/// A read that one node has not answered for so long is asked at another one beside it: about an election timeout and a second.
pub(super) const ASKED_BESIDE_AFTER: Duration = Duration::from_secs(2);

// Endpoints.

/// Endpoints that a client keeps connections to; hints to more are passed over.
pub(super) const ENDPOINTS_MAX: usize = 256;

/// Addresses of an endpoint that are tried.
pub(super) const ENDPOINT_ADDRESSES_MAX: usize = 16;

/// How long an endpoint is passed over after its first failure. Unit: ms.
pub(super) const FAILED_MS_MIN: u64 = 500;

/// How long an endpoint is passed over at most. Unit: ms.
pub(super) const FAILED_MS_MAX: u64 = 10_000;

// An endpoint that goes on failing is passed over for longer.
const _: () = assert!(FAILED_MS_MIN > 0 && FAILED_MS_MIN <= FAILED_MS_MAX);
