//! Sizes of what goes between peers. The queues of the lanes (`links`) and what a peer may send (`peer_conn`) rest on them.

/// Entries of one AppendEntries, unless a single one is larger. Unit: bytes.
pub const APPEND_BYTES_LIMIT: u64 = 1 << 20;

/// Largest answer to a relayed request, all its parts together. Unit: bytes.
pub const ANSWER_BYTES_MAX: u64 = crate::call::ANSWER_BYTES_MAX as u64;

/// Largest part of an answer in one frame between nodes. Unit: bytes.
pub(super) const PART_BYTES_MAX: usize = 1 << 20;

/// Room in a frame besides entries or an answer. Unit: bytes.
pub const FRAME_SLACK_BYTES: u64 = 4096;

/// Largest body of a frame that a peer may send: as many entries as a leader puts into a message, a single entry as large as a
/// segment, or an answer. A limit below what peers send would close their connections for ever.
pub const fn body_bytes_max(segment_bytes: u64) -> u64 {
    let mut largest = if segment_bytes > ANSWER_BYTES_MAX { segment_bytes } else { ANSWER_BYTES_MAX };
    if largest < APPEND_BYTES_LIMIT {
        largest = APPEND_BYTES_LIMIT;
    }
    largest + FRAME_SLACK_BYTES
}

// A frame states its length in 32 bits, however large the segments are.
const _: () = assert!(body_bytes_max(wal::constants::SEGMENT_BYTES_MAX) <= u32::MAX as u64);
