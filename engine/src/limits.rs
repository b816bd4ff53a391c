//! Limits of the engine's core, each with its unit, and what must hold between them. Those of the shell are in `shell/limits.rs`.
//!
//! Sizes that follow from a format stand with the format, sizes of structures in memory with the structure.

use net::limits::ANSWER_BYTES_MAX;
use wal::limits::SEGMENT_BYTES_MAX;

// What an operator may choose.

/// Most voters a cluster may have. Larger groups only make every commit slower.
pub(crate) const VOTERS_MAX: usize = 7;

/// Most executors of one node.
pub(crate) const CORES_MAX: u32 = 1024;

/// Most shards of one cluster; each has a log with segments of its own on every node.
pub(crate) const SHARDS_MAX: u32 = 256;

/// Longest node name. Unit: bytes.
pub(crate) const NAME_BYTES_MAX: usize = 64;

/// Longest election timeout, as in etcd. Unit: milliseconds.
pub(crate) const ELECTION_TIMEOUT_MS_MAX: u64 = 50_000;

/// An election timeout shorter than this many heartbeats would depose healthy leaders, as in etcd.
pub(crate) const HEARTBEATS_PER_ELECTION_MIN: u64 = 5;

/// Longest `slow-disk-handover-ms`: later nobody would wait for it any more. Unit: milliseconds.
pub(crate) const SLOW_DISK_MS_MAX: u64 = 3_600_000;

/// Longest spin before an executor parks. Unit: microseconds.
pub(crate) const SPIN_US_MAX: u64 = 1_000_000;

/// Smallest log segment that may be chosen; the log itself takes smaller ones. The largest is the log's. Unit: bytes.
pub(crate) const SEGMENT_BYTES_CHOSEN_MIN: u64 = 1 << 20;

/// Segment sizes are multiples of this, the size of the writes that fill them. Unit: bytes.
pub(crate) const SEGMENT_BYTES_STEP: u64 = 64 << 10;

/// A segment holds at least this many of the largest requests, so that a batch always fits with its frame.
pub(crate) const REQUESTS_PER_SEGMENT_MIN: u64 = 4;

/// Smallest `max-request-bytes`. Unit: bytes.
pub(crate) const REQUEST_BYTES_CHOSEN_MIN: u64 = 1 << 10;

/// Largest `max-request-bytes`: what was written with it must fit into an answer when it is read. Unit: bytes.
pub(crate) const REQUEST_BYTES_CHOSEN_MAX: u64 = 32 << 20;

/// Smallest `quota-backend-bytes`. Unit: bytes.
pub(crate) const QUOTA_BYTES_MIN: u64 = 16 << 20;

/// Most operations one transaction may be allowed.
pub(crate) const TXN_OPS_MAX: u32 = 4096;

// An election timeout has room for its heartbeats.
const _: () = assert!(HEARTBEATS_PER_ELECTION_MIN <= ELECTION_TIMEOUT_MS_MAX);
// The smallest segment is one that the log takes, and can be used with the smallest request limit; so is the largest.
const _: () = assert!(SEGMENT_BYTES_CHOSEN_MIN >= wal::limits::SEGMENT_BYTES_MIN);
const _: () = assert!(SEGMENT_BYTES_CHOSEN_MIN >= REQUESTS_PER_SEGMENT_MIN * REQUEST_BYTES_CHOSEN_MIN);
const _: () = assert!(SEGMENT_BYTES_MAX >= REQUESTS_PER_SEGMENT_MIN * REQUEST_BYTES_CHOSEN_MAX);
// What may be chosen is a size of segments: whole pages.
const _: () = assert!(SEGMENT_BYTES_STEP.is_multiple_of(wal::limits::PAGE_BYTES as u64));
const _: () = assert!(SEGMENT_BYTES_CHOSEN_MIN.is_multiple_of(SEGMENT_BYTES_STEP));
const _: () = assert!(SEGMENT_BYTES_MAX.is_multiple_of(SEGMENT_BYTES_STEP));
// Clients send requests as large as nodes take.
const _: () = assert!(REQUEST_BYTES_CHOSEN_MAX <= net::limits::REQUEST_BYTES_MAX as u64);

/// Longest host name. Unit: bytes. Source: RFC 1035, section 2.3.4, without the root's empty label.
pub(crate) const HOST_BYTES_MAX: usize = 253;

// Messages.

/// Entries of an `AppendEntries` for which room is made before they were seen. Unit: entries.
pub(crate) const COUNT_HINT_MAX: usize = 1024;

// Raft.

/// Reads that may wait for a round at once; `read_index` refuses more. Callers usually set a lower limit of their own.
pub const PENDING_READS_MAX: usize = 65_536;

/// Full `AppendEntries` that a follower is sent at once. Each is copied when it leaves, so this bounds how long nothing else
/// happens; a window that is larger opens with the answers.
pub(crate) const FULL_MESSAGES_PER_CALL: u64 = 2;

/// Most members of a group: voters, those of a change that is under way, and learners.
pub(crate) const MEMBERS_MAX: usize = 31;

// A group may have the voters before a change, those after it, and learners.
const _: () = assert!(2 * VOTERS_MAX < MEMBERS_MAX);

/// A message raises the term by at most this. Unit: terms.
///
/// A term is made by a node that asks for votes, once per election timeout at most, and only after a majority would vote for it.
/// At ten elections a second a cluster needs 13 years for this many terms: a node that was away for less comes back at once, and
/// no message can use up the terms that are left.
pub(crate) const TERM_LEAP_MAX: u64 = 1 << 32;

/// A message that raises the term by more than this is a leap. There is one per election timeout. Unit: terms.
///
/// So terms that make no sense spread no faster than a cluster gets over them: nodes whose terms are many leaps apart, because
/// somebody lied to some of them, meet again after as many election timeouts as the lies took.
pub(crate) const TERM_STEP_MAX: u64 = 1 << 16;

// A term that is far above the own one is approached in bounded steps.
const _: () = assert!(TERM_STEP_MAX < TERM_LEAP_MAX);

/// A follower without room is sent entries all the same after this many stall timeouts: the news that it has room again may be
/// older than the last that it has none.
pub(crate) const NO_ROOM_STALLS: u64 = 16;

/// A follower that got damaged entries is sent them again after this many stall timeouts.
pub(crate) const DAMAGED_STALLS: u64 = 1;

/// Entries that came damaged so many times in a row are compared with their checksums here before they are sent once more.
pub(crate) const DAMAGED_UNVERIFIED_MAX: u32 = 2;

// The replica: what a turn does, and what waits for another one.

/// A batch of this many bytes takes no further command, even if no turn comes in between: a follower takes an entry in one piece.
/// Unit: bytes.
pub(crate) const BATCH_BYTES_MAX: usize = 1 << 20;

/// Bytes of commands that one turn takes out of the queue; the rest waits for the next one. They are copied into the log and from
/// there for each follower, and summed. Unit: bytes.
pub(crate) const COMMAND_BYTES_PER_TURN: u64 = 1 << 20;

/// Once this many bytes of answers to writes were made in a turn, the rest waits for the next one. Unit: bytes.
pub(crate) const WRITE_ANSWER_BYTES_PER_TURN: usize = 1 << 20;

/// Once this many bytes of answers to reads were made in a turn, the rest waits for the next one. Theirs alone, so that writes with
/// large answers don't keep them waiting. What leaves is copied and summed, some 2 ms a MiB on a busy core: an answer that took
/// several slices counts once more when it leaves, as a whole. Unit: bytes.
pub(crate) const READ_ANSWER_BYTES_PER_TURN: usize = 1 << 20;

/// Once this many bytes of one answer were made in a slice, the rest waits for the next one. Unit: bytes.
pub(crate) const READ_ANSWER_BYTES_PER_SLICE: usize = 256 << 10;

/// Keys that all reads together visit in one turn. Unit: keys.
pub(crate) const READ_KEYS_PER_TURN: u64 = 5_000;

/// Keys that one read visits before it is another's turn. Unit: keys.
pub(crate) const READ_KEYS_PER_SLICE: u64 = 1_000;

/// Answers that are not whole yet may hold this many bytes. Beyond, a read that grows gives up what it has and begins anew later.
/// Unit: bytes.
pub(crate) const READ_KEPT_BYTES_LIMIT: usize = 64 << 20;

/// What a visit of a key is charged like, to whoever asked. Unit: bytes.
pub(crate) const KEY_CHARGE_BYTES: u64 = 256;

/// How often what askers were charged is halved: who asked for much a second ago is like everybody else. Unit: ticks.
pub(crate) const CHARGE_FADES_EVERY_TICKS: u64 = 10;

/// Whoever was charged less than this, and asks for nothing, is forgotten. Unit: bytes.
pub(crate) const CHARGE_FORGOTTEN_BYTES: u64 = 4 << 10;

/// Askers that are remembered for what they were charged.
pub(crate) const ASKERS_KEPT_MAX: usize = 1 << 14;

// A slice is a part of a turn.
const _: () = assert!(READ_ANSWER_BYTES_PER_SLICE <= READ_ANSWER_BYTES_PER_TURN);
const _: () = assert!(READ_KEYS_PER_SLICE <= READ_KEYS_PER_TURN);

/// Memory is asked for about this many bytes of entries at once, and this many are read in. Unit: bytes.
pub(crate) const READ_IN_BYTES: u64 = 1 << 20;

/// Most messages that wait until the log is durable. While a disk hangs every heartbeat adds one; those beyond are lost, as on a
/// broken connection.
pub(crate) const PROMISES_LEN_MAX: usize = 4096;

/// Requests that may wait for the next leader.
pub(crate) const HANDOVER_LEN_MAX: usize = 8192;

/// Bytes of requests that may wait for the next leader. Unit: bytes.
pub(crate) const HANDOVER_BYTES_MAX: usize = 8 << 20;

/// Interval between two searches for requests past their deadline. Unit: ticks.
pub(crate) const EXPIRE_EVERY_TICKS: u64 = 5;

/// A replica's buffer for answers is not kept if it is larger than this. Unit: bytes.
pub(crate) const ANSWER_BYTES_KEPT_MAX: usize = 16 << 20;

/// Most lists of waiters that are kept for later entries.
pub(crate) const WAITERS_KEPT_MAX: usize = 64;

/// How long a part of a replica waits for what became of its own write. Unit: ms.
pub(crate) const OWN_WRITE_TIMEOUT_MS: u32 = 5_000;

/// A disk that was too slow counts as slow for this many times the bound: a hand-over to and fro costs more than waiting.
pub(crate) const SLOW_MEMORY_FACTOR: u64 = 8;

// The state machine: what a command may cost, and what is counted.

/// Size from which on a range takes no more keys and says that there are more. Unit: bytes.
pub(crate) const RANGE_BYTES_LIMIT: usize = 4 << 20;

/// Size over which a command's answer is not given, with the usual `max-request-bytes`. Unit: bytes.
pub(crate) const COMMAND_ANSWER_BYTES_LIMIT: usize = 8 << 20;

/// Room in an answer for what it says besides keys and values. Unit: bytes.
pub(crate) const ANSWER_HEADS_BYTES: usize = 64 << 10;

// An answer has room for a range, and what was written in the largest request can be read: clients and other nodes take that.
const _: () = assert!(RANGE_BYTES_LIMIT + ANSWER_HEADS_BYTES <= COMMAND_ANSWER_BYTES_LIMIT);
const _: () = assert!(COMMAND_ANSWER_BYTES_LIMIT <= ANSWER_BYTES_MAX);
const _: () = assert!(RANGE_BYTES_LIMIT + REQUEST_BYTES_CHOSEN_MAX as usize + ANSWER_HEADS_BYTES <= ANSWER_BYTES_MAX);

/// Keys that one command may visit: every key that was ever written in the ranges of its operations, deleted ones included.
///
/// What is applied after a command waits for all of it, so this bounds how long. All replicas must decide alike: it may change
/// only together with the version of the commands. Measured at a million keys: see `docs/decisions/0004-bounded-work.md`.
pub const KEYS_VISITED_PER_COMMAND_MAX: u64 = 50_000;

/// Keys that are counted in the time in which one is visited, roughly.
pub(crate) const COUNTED_PER_VISIT: u64 = 8;

/// Bytes of a value that take as long to hash as a key takes to be visited. Unit: bytes.
pub(crate) const DIGEST_VALUE_BYTES: u64 = 512;

/// No more commands are read ahead once these take this many bytes: a slice that ends early reads them again. Unit: bytes.
pub(crate) const READ_AHEAD_BYTES: usize = 16 << 10;

/// Most keys that are looked ahead for at once. More gain little, and what was read first might be gone again.
pub(crate) const LOOK_AHEAD_KEYS: usize = 32;

/// The same of the state machine's buffer for one answer. Unit: bytes.
pub(crate) const RESPONSE_KEPT_BYTES_MAX: usize = 1 << 20;

/// Estimated memory of a key besides its bytes: its entry, its place in a table and in a leaf. Unit: bytes.
pub(crate) const KEY_OVERHEAD_BYTES: u64 = 128;

/// Estimated memory of a version besides its value. Unit: bytes.
pub(crate) const VERSION_OVERHEAD_BYTES: u64 = 48;
