//! Limits of the commands, each with its unit, and what must hold between them.

use std::time::Duration;

use engine::limits::KEYS_VISITED_PER_COMMAND_MAX;

// Deleting a range.

/// Keys that are read at once; the size of an answer may end it earlier.
pub(crate) const PAGE_KEYS: u64 = 100_000;

/// Keys that are deleted by one command at first.
pub(crate) const PART_KEYS: usize = 10_000;

// A command deletes a part of a page.
const _: () = assert!(PART_KEYS as u64 <= PAGE_KEYS);
// One command may visit the keys of a part, and the versions that came since they were read.
const _: () = assert!((PART_KEYS as u64) < KEYS_VISITED_PER_COMMAND_MAX);

// The log.

/// Bytes of lines that wait to be written; lines beyond are dropped. Unit: bytes.
pub(crate) const LOG_QUEUE_BYTES_MAX: usize = 256 << 10;

/// Pause before standard error, when it was made not to wait and has no room, is tried again.
pub(crate) const LOG_RETRY_PAUSE: Duration = Duration::from_millis(10);

/// How long the end of the process may wait for the last lines.
pub(crate) const LOG_FLUSH_WITHIN: Duration = Duration::from_secs(1);

// `check`.

/// Connections that the clients of a check share.
pub(crate) const CHECK_CONNECTIONS_MAX: usize = 50;

/// Length of a check's keys behind their prefix, as with etcdctl. Unit: bytes.
pub(crate) const CHECK_KEY_BYTES: usize = 256;

/// Length of a check's values, as with etcdctl. Unit: bytes.
pub(crate) const CHECK_VALUE_BYTES: usize = 1024;

/// Least share of a check's rate that has to be reached, as with etcdctl.
pub(crate) const CHECK_THROUGHPUT_SHARE_MIN: f64 = 0.9;

/// Longest time that a write of a check may take, as with etcdctl. Unit: s.
pub(crate) const CHECK_SLOWEST_S_MAX: f64 = 0.5;

/// Largest standard deviation of the times of a check's writes, as with etcdctl. Unit: s.
pub(crate) const CHECK_DEVIATION_S_MAX: f64 = 0.1;

// Runs.

/// Longest run that can be asked for in minutes: a year. Unit: minutes.
pub(crate) const MINUTES_MAX: f64 = 525_600.0;

// `sim`.

/// Seeds that may fail before no further ones are begun.
pub(crate) const FAILURES_MAX: usize = 5;

/// Coverage marks that `sim` prints with their counts: those that the fewest seeds reached.
pub(crate) const RAREST_MARKS_MAX: usize = 5;

/// Lines of a failing run's events that are printed when not all are asked for.
pub(crate) const TRACE_LINES_MAX: usize = 60;

// `demo`.

/// Pause between two looks at whether a signal came.
pub(crate) const SIGNAL_POLL: Duration = Duration::from_millis(50);

/// Rate the needs are computed for. Unit: writes per second.
pub(crate) const ASSUMED_OPS_PER_S: u64 = 200_000;

/// Most bytes of values a second the needs are computed for, however large each value is. Unit: bytes per second.
pub(crate) const ASSUMED_BYTES_PER_S_MAX: u64 = 400 << 20;

/// Bytes a write takes in the log beside its value: key, command, its share of the frame. Unit: bytes.
pub(crate) const LOG_OVERHEAD_BYTES: u64 = 64;

/// Bytes a write takes in memory beside its value: key, version record, index. Unit: bytes.
pub(crate) const MEMORY_OVERHEAD_BYTES: u64 = 250;

/// Log segments prepared ahead for each shard of a node. Unit: bytes.
pub(crate) const PREPARED_BYTES_PER_SHARD: u64 = 4 * (64 << 20);

/// Memory of a node before its first write. Unit: bytes.
pub(crate) const NODE_BASE_BYTES: u64 = 64 << 20;

/// Time a node gets to answer a status request, connecting included.
///
/// The client library tries a broken endpoint again until this runs out, so a dead node costs each look this much unless
/// it is forgotten; it bounds what a node that hangs can cost.
pub(crate) const STATUS_TIMEOUT: Duration = Duration::from_millis(500);

/// Columns of the drawing of the rate over time.
pub(crate) const DRAWING_COLUMNS: usize = 72;

/// Time the cluster gets until every node answers and leaders are known.
pub(crate) const READY_WITHIN: Duration = Duration::from_secs(30);

/// Time the leaders of several shards get to spread over the nodes before the load begins anyway.
pub(crate) const SPREAD_WITHIN: Duration = Duration::from_secs(5);

/// Time the nodes get to apply the same after the load has ended.
pub(crate) const LEVEL_WITHIN: Duration = Duration::from_secs(120);

/// Pause between two rounds of status requests.
pub(crate) const STATUS_EVERY: Duration = Duration::from_millis(25);

/// Share of the run after which the leader is killed. Unit: percent.
pub(crate) const KILL_AT_PERCENT: u32 = 50;

/// Share of the run after which it is started again. Unit: percent.
pub(crate) const RESTART_AT_PERCENT: u32 = 70;

/// Time a request of the load may take.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Time a read of the verification may take; the nodes are idle then, but pages are large.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Time that connecting to a node may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

// The load outlasts both.
const _: () = assert!(KILL_AT_PERCENT < RESTART_AT_PERCENT && RESTART_AT_PERCENT < 100);
// Whoever waits for a cluster looks often.
const _: () = assert!(STATUS_EVERY.as_millis() < READY_WITHIN.as_millis());

// `chaos`.

/// How long the nodes may take to agree once faults have ended.
pub(crate) const CONVERGE_WITHIN: Duration = Duration::from_secs(120);

/// Small segments: the log crosses their ends and needs new ones all the time. Unit: bytes.
pub(crate) const CHAOS_SEGMENT_BYTES: u64 = 1 << 20;

/// Complaints that are kept; the first ones say enough.
pub(crate) const COMPLAINTS_MAX: usize = 20;

/// Pause between two looks at whether the nodes agree.
pub(crate) const CHAOS_POLL: Duration = Duration::from_millis(100);

/// Time that a client waits for an answer.
pub(crate) const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);

/// Time that reading everything from one node may take at the end.
pub(crate) const READ_ALL_WITHIN: Duration = Duration::from_secs(60);

/// Size of a large value, at most. Unit: bytes.
pub(crate) const LARGE_BYTES_MAX: u64 = 32 << 10;

/// Size of a node's file system; its file is sparse. Unit: MiB.
pub(crate) const DISK_MIB: u64 = 1_024;

/// Pause between two looks at the second process.
pub(crate) const CHILD_POLL: Duration = Duration::from_millis(50);

/// Pause between two operations of a client. Unit: ms.
pub(crate) const CLIENT_PAUSE_MS: (u64, u64) = (10, 60);

/// Pause between two faults. Unit: ms.
pub(crate) const FAULT_PAUSE_MS: (u64, u64) = (500, 4_000);

/// How long a process stays killed or stopped. Unit: ms.
pub(crate) const LASTS_MS: (u64, u64) = (100, 4_000);

/// How long a network is cut; other faults come meanwhile. Unit: ms.
pub(crate) const CUT_MS: (u64, u64) = (500, 8_000);

/// How long a disk is full: long enough for the log to need another segment. Unit: ms.
pub(crate) const FULL_MS: (u64, u64) = (6_000, 20_000);

// `certify`.

/// Cuts that one cluster goes through before it is judged and another one begins.
pub(crate) const CUTS_PER_ROUND: u32 = 10;

/// Answers that come between two cuts, at most.
pub(crate) const ANSWERS_BETWEEN_CUTS_MAX: u64 = 600;

/// Changes or syncs of files after which the power goes, at most.
pub(crate) const CHANGES_BEFORE_CUT_MAX: u64 = 60;

/// Changes or syncs of names after which the power goes, at most: there are few.
pub(crate) const NAMES_BEFORE_CUT_MAX: u64 = 4;

/// The power goes after so long in any case.
pub(crate) const CUT_WITHIN: Duration = Duration::from_secs(3);

/// Pause between two looks at whether the power has gone.
pub(crate) const CUT_POLL: Duration = Duration::from_millis(1);

/// Time between two steps of the spinner.
pub(crate) const SPINNER_EVERY: Duration = Duration::from_millis(200);

// The end of a wait is seen soon.
const _: () = assert!(CUT_POLL.as_millis() * 100 < CUT_WITHIN.as_millis());
