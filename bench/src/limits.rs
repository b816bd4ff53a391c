//! Limits of the load generator, its checks and its processes, each with its unit, and what must hold between them.

use std::time::Duration;

// Load.

/// Most workers a tracked load numbers (five digits).
pub(crate) const TRACKED_WORKERS_MAX: usize = 100_000;

/// Most writes in flight at a time.
pub const OUTSTANDING_MAX: usize = TRACKED_WORKERS_MAX;

/// Most value bytes all writes in flight hold together: what the generator keeps in memory. Unit: bytes.
pub(crate) const OUTSTANDING_BYTES_MAX: usize = 1 << 30;

/// Longest pause after a first failure. Unit: ms.
pub(crate) const BACKOFF_MIN_MS: u64 = 5;

/// Longest pause after failures in a row. Unit: ms.
pub(crate) const BACKOFF_MAX_MS: u64 = 200;

// Pauses grow from the first to the longest.
const _: () = assert!(BACKOFF_MIN_MS > 0 && BACKOFF_MIN_MS <= BACKOFF_MAX_MS);

// Measures.

/// Smallest latency told apart from the next. Unit: us.
pub(crate) const LATENCY_MIN_US: u64 = 1;

/// Largest latency recorded as itself; longer ones count as this. Unit: us.
pub(crate) const LATENCY_MAX_US: u64 = 60_000_000;

/// Width of a bucket at first. Unit: us.
pub(crate) const BUCKET_US: u64 = 1000;

/// Most buckets a timeline holds: 65 s at the first width, 131 s at twice that, and so on.
pub(crate) const BUCKET_COUNT_MAX: usize = 1 << 16;

// Buckets are merged in pairs.
const _: () = assert!(BUCKET_COUNT_MAX.is_multiple_of(2));
const _: () = assert!(LATENCY_MIN_US < LATENCY_MAX_US);

// What is shown.

/// Time between two lines where there is no terminal.
pub(crate) const LINE_EVERY: Duration = Duration::from_secs(1);

/// How often `LiveView::show` is best called.
pub const SHOW_EVERY: Duration = Duration::from_millis(100);

/// Time the displayed rate looks back over.
pub(crate) const RATE_OVER: Duration = Duration::from_millis(500);

// The rate looks back over several looks.
const _: () = assert!(SHOW_EVERY.as_millis() < RATE_OVER.as_millis());

// Checks.

/// Most keys kept as examples of each kind of finding.
pub(crate) const EXAMPLE_COUNT_MAX: usize = 5;

/// Workers whose rows are read at the same time from one source.
pub(crate) const LANE_COUNT: usize = 4;

/// Most bytes of values asked for in one page. Unit: bytes.
pub(crate) const PAGE_BYTES_MAX: usize = 256 * 1024;

/// Most rows asked for in one page. Unit: rows.
pub(crate) const PAGE_ROWS_MAX: usize = 1000;

// Processes.

/// Time nodes get to stop after SIGTERM.
pub(crate) const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Polling interval while a child stops.
pub(crate) const STOP_POLL: Duration = Duration::from_millis(10);

/// Number of lines shown from the end of a node's log.
pub(crate) const LOG_TAIL_LINES: usize = 20;

/// Lowest port that a node may get.
pub(crate) const PORT_MIN: u32 = 10_240;
