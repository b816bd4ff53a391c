//! Counters of one log, as a plain value. Exporting them is others' business.

/// What a log has done since it was opened. All fields but the last group only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Entries appended, batches included.
    pub entries_count: u64,
    /// Entries that were superseded by later ones.
    pub entries_superseded_count: u64,
    /// Batches finished as entries.
    pub batches_finished_count: u64,
    /// Batches abandoned.
    pub batches_abandoned_count: u64,
    /// Hard states appended.
    pub hard_states_count: u64,
    /// Marks appended.
    pub marks_count: u64,
    /// Bytes of frames appended, headers and padding included. Unit: bytes.
    pub frames_bytes: u64,
    /// Segments that writing moved on to.
    pub segments_activated_count: u64,
    /// Segments dropped from the log's start.
    pub segments_dropped_count: u64,
    /// Syncs asked for.
    pub syncs_started_count: u64,
    /// Syncs that completed.
    pub syncs_completed_count: u64,
    /// Syncs that failed: 0 or 1, because the first latches the log.
    pub syncs_failed_count: u64,
    /// Bytes that completed syncs made durable. Unit: bytes.
    pub synced_bytes: u64,
    /// Times that an append found no segment ready.
    pub segment_not_ready_count: u64,
}
