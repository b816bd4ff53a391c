//! Limits of the shell, each with its unit, and what must hold between them. Those of the core are in `engine/src/limits.rs`.

use std::time::Duration;

use net::limits::{ANSWER_BYTES_MAX, SILENCE_MS_MAX};
use wal::limits::{SEGMENT_BYTES_MAX, SEGMENTS_AHEAD};

use crate::call::TICKET_NUMBER_BITS;
use crate::limits::{ANSWER_HEADS_BYTES, CORES_MAX, PENDING_READS_MAX, RANGE_BYTES_LIMIT, REQUEST_BYTES_CHOSEN_MAX};

// Messages between nodes.

/// Entries of one AppendEntries, unless a single one is larger. Unit: bytes.
pub(super) const APPEND_BYTES_LIMIT: u64 = 1 << 20;

/// Largest part of an answer in one frame between nodes. Unit: bytes.
pub(super) const PART_BYTES_MAX: usize = 1 << 20;

/// Room in a frame besides entries or an answer. Unit: bytes.
pub(super) const FRAME_SLACK_BYTES: u64 = 4096;

/// Memory that the incomplete messages of all peers of a core may hold, if no message is larger than that. Unit: bytes.
pub(super) const PEERS_PARTIAL_BYTES_MAX: u64 = 256 << 20;

/// Largest body of a frame that a peer may send: as many entries as a leader puts into a message, a single entry as large as a
/// segment, or an answer. A limit below what peers send would close their connections for ever.
pub(super) const fn body_bytes_max(segment_bytes: u64) -> u64 {
    let mut largest = ANSWER_BYTES_MAX as u64;
    if largest < segment_bytes {
        largest = segment_bytes;
    }
    if largest < APPEND_BYTES_LIMIT {
        largest = APPEND_BYTES_LIMIT;
    }
    largest + FRAME_SLACK_BYTES
}

// A frame states its length in 32 bits, however large the segments are.
const _: () = assert!(body_bytes_max(SEGMENT_BYTES_MAX) <= u32::MAX as u64);

// What Raft sends to a follower before an answer.

/// Most `AppendEntries` to a follower that have no answer yet.
pub(super) const INFLIGHT_MESSAGES_LIMIT: usize = 256;

/// Entries on their way to a follower that have no answer yet. Unit: bytes.
pub(super) const INFLIGHT_BYTES_LIMIT: u64 = 16 << 20;

// At least one full message may be on its way.
const _: () = assert!(APPEND_BYTES_LIMIT <= INFLIGHT_BYTES_LIMIT);

// Queues to a peer, one for each lane.

/// Bytes of urgent messages that may wait for a peer. Unit: bytes.
pub(super) const CONTROL_QUEUE_BYTES: usize = 1 << 20;

/// Bytes of entries that may wait for a peer. Unit: bytes.
pub(super) const BULK_QUEUE_BYTES: usize = 64 << 20;

/// Bytes of relayed requests and answers that may wait for a peer; one larger frame may wait by itself. Unit: bytes.
pub(super) const RELAY_QUEUE_BYTES: usize = 16 << 20;

/// A lane that was full has room again once no more than this part of its credit waits.
pub(super) const ROOM_AGAIN_PART: usize = 2;

/// What a queue of relayed frames may hold at most before the refusals. Unit: bytes.
pub(super) const RELAY_FILL_BYTES_MAX: usize = ANSWER_BYTES_MAX + FRAME_SLACK_BYTES as usize;

/// Bytes of refusals that may wait beyond what else does. Unit: bytes.
pub(super) const REFUSAL_QUEUE_BYTES: usize = 16 << 20;

/// Room that a refusal takes in a queue, about. Unit: bytes.
const REFUSAL_BYTES: usize = 200;

// Raft's window has room, with the message that goes beyond it.
const _: () = assert!(INFLIGHT_BYTES_LIMIT + APPEND_BYTES_LIMIT + FRAME_SLACK_BYTES <= BULK_QUEUE_BYTES as u64);
// A part of an answer has room in a queue that is empty, and a full queue leaves the refusals theirs.
const _: () = assert!(PART_BYTES_MAX <= RELAY_QUEUE_BYTES && RELAY_QUEUE_BYTES <= RELAY_FILL_BYTES_MAX);
// A refusal of every request that a peer may have under way has room.
const _: () = assert!(RELAYED_LIMIT * REFUSAL_BYTES <= REFUSAL_QUEUE_BYTES);

// Between the cores of a node.

/// Messages that one core may have on the way to another.
pub(super) const MESH_CHANNEL_LEN: usize = 4096;

/// Bytes of answers that may be on their way from one core to the others. Unit: bytes.
pub(super) const MESH_ANSWER_BYTES_MAX: usize = 256 << 20;

/// Answers up to this size are brought whatever else is on its way. Unit: bytes.
pub(super) const MESH_SMALL_ANSWER_BYTES: usize = 1 << 10;

/// Helper threads for each core, and at most.
pub(super) const HELPERS_PER_CORE: usize = 2;
/// See `HELPERS_PER_CORE`.
pub(super) const HELPERS_MAX: usize = 32;

/// Calls of handles that may wait to be taken.
pub(super) const HANDLE_QUEUE_LEN: usize = 4096;

/// The part of the time of a handle's call that is left for the way back of the node's answer; see `HANDLE_MARGIN_MS_MAX`.
pub(super) const HANDLE_MARGIN_SHARE: u32 = 10;
/// And how long that is at most. Unit: ms.
pub(super) const HANDLE_MARGIN_MS_MAX: u32 = 100;

// The largest answer has room, and some that are not small.
const _: () = assert!(ANSWER_BYTES_MAX <= MESH_ANSWER_BYTES_MAX && MESH_SMALL_ANSWER_BYTES < MESH_ANSWER_BYTES_MAX);

// Requests of clients.

/// Most requests of one core that wait for an answer. As many more may be given up and not be answered yet.
pub(super) const CORE_WAITING_MAX: usize = 1 << 17;

/// Most calls of one core that last. A shard that answers them bounds what it keeps of each.
pub(super) const CORE_LASTING_MAX: usize = 1 << 14;

/// Most calls of one connection that last.
pub(super) const CONN_LASTING_MAX: u32 = 1 << 10;

/// Pause before a core is told again, whose queue had no room, that nobody takes the rest of an answer.
pub(super) const UNWANTED_RETRY_PAUSE: Duration = Duration::from_millis(10);

// A ticket has room for the number of a place, and for that of a core beside 32 bits for the connection.
const _: () = assert!(2 * CORE_WAITING_MAX + CORE_LASTING_MAX <= 1 << TICKET_NUMBER_BITS);
// No connection takes all that may last on its core.
const _: () = assert!((CONN_LASTING_MAX as usize) < CORE_LASTING_MAX);
const _: () = assert!((CORES_MAX as u64) << (TICKET_NUMBER_BITS + 32) >> (TICKET_NUMBER_BITS + 32) == CORES_MAX as u64);

/// Places that are looked through at a time for requests of a shard.
pub(super) const PLACES_AT_ONCE: usize = 1024;

/// Longest time a request may wait. Unit: ms.
pub(super) const TIMEOUT_MS_MAX: u32 = 10 * 60 * 1000;

/// Room in a frame besides the payload. Unit: bytes.
pub(super) const REQUEST_SLACK_BYTES: usize = 64;

/// A request over the limit is passed over up to this size; a larger one ends the connection. Unit: bytes.
pub(super) const SKIP_BYTES_MAX: usize = 64 << 20;

/// Bytes that are taken at once of a request that is passed over. Unit: bytes.
pub(super) const SKIP_PIECE_BYTES: usize = 4096;

/// Memory that the incomplete requests of a core may hold, if no request is larger than that. Unit: bytes.
pub(super) const CLIENTS_PARTIAL_BYTES_MAX: usize = 64 << 20;

/// How long a client that has closed its sending side still gets the answers to what it sent before. Unit: ms.
pub(super) const FINISHED_MS_MAX: u64 = TIMEOUT_MS_MAX as u64 + 5_000;

/// How long a connection is kept open after the last word to the client, at most. Unit: ms.
pub(super) const LINGERING_MS_MAX: u64 = 1_000;

// A request that some node takes is refused by one that takes less, and its connection stays.
const _: () = assert!(REQUEST_BYTES_CHOSEN_MAX as usize + REQUEST_SLACK_BYTES <= SKIP_BYTES_MAX);
// No request waits longer than its connection for the answer.
const _: () = assert!(FINISHED_MS_MAX > TIMEOUT_MS_MAX as u64);

// Answers to clients.

/// Bytes of answers that may wait for a client that does not read them; beyond, the connection is cut. Unit: bytes.
pub(super) const CLIENT_ANSWER_BYTES_MAX: usize = 64 << 20;

/// While more answers wait for a client, one to a read that can be asked again is put off until it has taken some. Unit: bytes.
pub(super) const CLIENT_PUT_OFF_BYTES: usize = CLIENT_ANSWER_BYTES_MAX / 4;

/// While more answers wait for a client, no part of what lasts is taken for it: the call ends. Unit: bytes.
pub(super) const LASTING_UNTAKEN_BYTES_MAX: usize = CLIENT_ANSWER_BYTES_MAX / 8;

/// Bytes of answers that may wait for all clients of a core; beyond, an answer that is not small is replaced by a refusal, unless it is
/// one to a read that can be asked again, and whoever is sent more than its share loses its connection. Unit: bytes.
pub(super) const CORE_ANSWER_BYTES_MAX: usize = 512 << 20;

/// While more answers wait for the clients of a core, each has no more than its share, and whoever takes nothing loses its connection.
/// Unit: bytes.
pub(super) const CORE_CROWDED_BYTES: usize = CORE_ANSWER_BYTES_MAX / 2;

/// A read whose answer found no room is asked again once no more answers wait for the clients of its core. Unit: bytes.
pub(super) const CORE_ROOM_AGAIN_BYTES: usize = CORE_ANSWER_BYTES_MAX / 4 * 3;

/// A client that takes next to nothing of its answers in this time may lose its connection while its core is crowded.
pub(super) const SLOW_AFTER: Duration = Duration::from_secs(2);

/// Pause between two looks at the clients of a core that is crowded.
pub(super) const SLOW_LOOK_PAUSE: Duration = Duration::from_millis(250);

/// What counts of the time between two looks at the clients of a core, at most: a core that looks later hung, and no client could take
/// anything meanwhile.
pub(super) const TAKING_TIME_PER_LOOK_MAX: Duration = Duration::from_millis(500);

/// Answers up to this size are never replaced. Unit: bytes.
pub(super) const SMALL_ANSWER_BYTES: usize = 16 << 10;

/// While this many bytes of answers wait for a client, its next requests are not read. Unit: bytes.
pub(super) const READ_PAUSE_BYTES: usize = 4 << 20;

/// Every connection has at least this share, however many there are. Unit: bytes.
pub(super) const SHARE_BYTES_MIN: usize = 64 << 10;

/// No connection has a larger share, however few there are. Unit: bytes.
pub(super) const SHARE_BYTES_MAX: usize = 1 << 20;

/// What an answer to a read is expected to take before a connection has had any. Unit: bytes.
pub(super) const ANSWER_EXPECTED_BYTES_FIRST: usize = 256 << 10;

/// No answer to a read is expected to take less. Unit: bytes.
pub(super) const ANSWER_EXPECTED_BYTES_MIN: usize = 1 << 10;

/// One in this many parts of what is expected comes from the last answer.
pub(super) const ANSWER_EXPECTED_SHARE: usize = 8;

/// While reads of a connection that are held back take more, its next requests are not read. Unit: bytes.
pub(super) const HELD_BYTES_MAX: usize = 64 << 10;

/// What the reads that are held back on one core may take; beyond, they are refused. Unit: bytes.
pub(super) const HELD_CORE_BYTES_MAX: usize = 16 << 20;

/// What a read that is held back takes besides its payload, about. Unit: bytes.
pub(super) const HELD_READ_BYTES: usize = 128;

/// While the reads that are held back on one core take more, whoever takes nothing loses its connection. Unit: bytes.
pub(super) const HELD_CROWDED_BYTES: usize = HELD_CORE_BYTES_MAX / 2;

/// A client that takes next to nothing of its answers in this time counts as one that takes none.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(10);

/// Fewer bytes of answers are next to nothing, unless all were taken. Unit: bytes.
pub(super) const PROGRESS_BYTES_MIN: u64 = 64 << 10;

/// Less than one in so many parts of what waits is next to nothing, too.
pub(super) const PROGRESS_SHARE: u64 = 16;

// The largest answer of a command, to a request that was just read, has room after others.
const _: () = assert!(
    READ_PAUSE_BYTES + RANGE_BYTES_LIMIT + REQUEST_BYTES_CHOSEN_MAX as usize + ANSWER_HEADS_BYTES
        <= CLIENT_ANSWER_BYTES_MAX
);
// Reads that cannot be asked again are begun only as long as the largest answers to all of them fit into `CLIENT_PUT_OFF_BYTES`, or one at
// a time. So a client whose reads alone are answered never loses its connection: what is put off begins before, and all the rest fits.
const _: () = assert!(READ_PAUSE_BYTES < CLIENT_PUT_OFF_BYTES && 3 * CLIENT_PUT_OFF_BYTES < CLIENT_ANSWER_BYTES_MAX);
const _: () = assert!(
    CLIENT_PUT_OFF_BYTES + RANGE_BYTES_LIMIT + REQUEST_BYTES_CHOSEN_MAX as usize + ANSWER_HEADS_BYTES
        < CLIENT_ANSWER_BYTES_MAX
);
// What lasts ends before it takes the room of reads that wait for the same client, and not for what a client has been sent just now.
const _: () = assert!(READ_PAUSE_BYTES < LASTING_UNTAKEN_BYTES_MAX && LASTING_UNTAKEN_BYTES_MAX < CLIENT_PUT_OFF_BYTES);
// What is freed when slow clients are closed is room for reads to be asked again.
const _: () = assert!(CORE_CROWDED_BYTES < CORE_ROOM_AGAIN_BYTES && CORE_ROOM_AGAIN_BYTES < CORE_ANSWER_BYTES_MAX);
// A client is looked at often before it counts as slow, and is slow before it counts as idle.
const _: () = assert!(SLOW_LOOK_PAUSE.as_millis() * 4 <= SLOW_AFTER.as_millis());
// A look in time counts in full, and one that comes late makes nobody slow.
const _: () = assert!(SLOW_LOOK_PAUSE.as_millis() < TAKING_TIME_PER_LOOK_MAX.as_millis());
const _: () = assert!(TAKING_TIME_PER_LOOK_MAX.as_millis() * 4 <= SLOW_AFTER.as_millis());
const _: () = assert!(SLOW_AFTER.as_millis() <= STUCK_AFTER.as_millis());
// One client leaves others of its core room.
const _: () = assert!(CLIENT_ANSWER_BYTES_MAX < CORE_ANSWER_BYTES_MAX);
// Small answers have room in every share, and whoever has more than its share is not read any more before it has much more.
const _: () = assert!(SMALL_ANSWER_BYTES < SHARE_BYTES_MIN && SHARE_BYTES_MIN <= SHARE_BYTES_MAX);
const _: () = assert!(SHARE_BYTES_MAX < READ_PAUSE_BYTES);

// Some reads of a new connection are under way together, and many of one whose answers are small.
const _: () = assert!(4 * ANSWER_EXPECTED_BYTES_FIRST <= READ_PAUSE_BYTES);
const _: () = assert!(ANSWER_EXPECTED_BYTES_MIN <= ANSWER_EXPECTED_BYTES_FIRST && ANSWER_EXPECTED_SHARE > 1);
const _: () = assert!(HELD_READ_BYTES < HELD_BYTES_MAX && HELD_BYTES_MAX < HELD_CORE_BYTES_MAX);

// Incomplete messages.

/// Bytes that are taken in one read: others have their turn between two. Unit: bytes.
pub(super) const READ_BYTES_MAX: usize = 1 << 20;

/// How long a part of a message waits for the rest, whatever its size. Unit: ms.
pub(super) const PARTIAL_MS_MAX: u64 = 30_000;

/// What has arrived lets a part wait longer: some links are slow. Unit: bytes for each ms.
pub(super) const BYTES_PER_MS_MIN: u64 = 16;

/// Pause between two looks at the parts that wait. Unit: ms.
pub(super) const SWEEP_MS: u64 = 1_000;

/// Read buffers of one size that are kept for whoever reads next.
pub(super) const SPARE_BUFFERS_MAX: usize = 8;

/// Larger read buffers are not kept. Unit: bytes.
pub(super) const SPARE_BUFFER_BYTES_MAX: usize = 64 << 10;

// A part is given up about when its time is over.
const _: () = assert!(SWEEP_MS < PARTIAL_MS_MAX);

// Descriptors.

/// What a process has open whatever it does: standard streams, the data directory and its lock, helpers. Unit: descriptors.
pub(super) const PROCESS_FILES: u64 = 48;

/// What an executor has open besides its listeners: rings, events, timers. Unit: descriptors.
pub(super) const CORE_FILES: u64 = 16;

/// What a shard has open besides segments: directories, the note (twice), a segment being prepared, old segments being read, records
/// being written. Unit: descriptors.
pub(super) const SHARD_FILES: u64 = 9;

/// Segments that a shard has open: those that are ready, the one being written, and those before it that are not durable yet.
/// Unit: descriptors.
pub(super) const SHARD_SEGMENTS: u64 = SEGMENTS_AHEAD + 1 + 2;

/// Connections between a node and a peer, for each shard: three lanes each way, and the ones that they replace. Unit: descriptors.
pub(super) const PEER_CONNECTIONS: u64 = 2 * 3 + 3;

/// Lookups of the name in a peer's URL. Unit: descriptors.
pub(super) const LOOKUP_FILES: u64 = 1;

// Places of connections.

/// Ports at which a core greets.
pub(super) const PORTS: u64 = 2;

/// Client connections that a node must have room for.
pub(super) const CONNECTIONS_MIN: u64 = 16;

/// Connections of one port and core that may be in their handshake.
pub(super) const GREETINGS_MAX: u64 = 256;

/// The same where descriptors are few.
pub(super) const GREETINGS_MIN: u64 = 16;

/// Greetings may have one in this many of the descriptors that are left.
pub(super) const GREETINGS_SHARE: u64 = 4;

/// One address may have one in this many of the greetings of a port: many callers may stand behind one address.
pub(super) const ADDRESS_SHARE: usize = 2;

/// Greetings that one address may have where there are few: a caller needs the time to say who it is.
pub(super) const ADDRESS_GREETINGS_MIN: usize = 16;

/// Connections that an address may have before those of others are spared.
pub(super) const ADDRESS_GUESTS_MIN: usize = 16;

/// Connections that are looked at for one that can go. Those that cannot go stand at the end afterwards.
pub(super) const GUEST_LOOKS_MAX: usize = 256;

/// Connections of one core that have no place any more and are still open, until the other side has read why.
pub(super) const LEAVING: usize = 16;

/// Probes that are served at a time, whatever clients there are.
pub(super) const PROBES: usize = 32;

/// How long the addresses of members count as known. Unit: ms.
pub(super) const MEMBERS_MS_MAX: u64 = 1_000;

/// Pause after a failed accept, so that a lack of descriptors does not turn into a busy loop. Unit: ms.
pub(super) const ACCEPT_PAUSE_MS: u64 = 50;

const _: () = assert!(GREETINGS_MIN <= GREETINGS_MAX);
// With few greetings no address is kept from all of them.
const _: () = assert!(ADDRESS_GREETINGS_MIN as u64 <= GREETINGS_MIN);

// Probes.

/// A probe's connection may not outlive this, however slowly it is used. Unit: s.
pub(super) const PROBE_S_MAX: u64 = 60;

/// Room for a probe's head: thousands of connections may send one each. Unit: bytes.
pub(super) const PROBE_HEAD_BYTES_MAX: usize = 8 << 10;

/// Bytes of a probe that are read at once. Unit: bytes.
pub(super) const PROBE_PIECE_BYTES: usize = 4096;

/// A shard that has applied fewer entries than are committed, by more than this, is not ready: it answers late. Unit: entries.
pub(super) const READY_LAG_ENTRIES: u64 = 256;

// A head takes more than one read at most.
const _: () = assert!(PROBE_PIECE_BYTES <= PROBE_HEAD_BYTES_MAX);

// Lines of the node's log.

/// Time for which the lines of one kind are limited.
pub(super) const SAID_PAUSE: Duration = Duration::from_secs(10);

/// Lines in that time about what strangers do.
pub(super) const LINES_OF_STRANGERS: u64 = 1;

/// Lines in that time about what members do: honest ones change much at once, and each change is worth knowing.
pub(super) const LINES_OF_MEMBERS: u64 = 100;

/// No leader for so long is said; elections take less.
pub(super) const NO_LEADER_SAID_AFTER: Duration = Duration::from_secs(3);

/// A node that stood still for so long says so.
pub(super) const FROZEN_SAID_AFTER: Duration = Duration::from_secs(1);

/// A sync that takes longer is said.
pub(super) const SLOW_SYNC: Duration = Duration::from_secs(1);

/// Looks at a new node, one each tick, after which it is said that it waits.
pub(super) const NEW_NODE_LOOKS: u64 = 500;

/// A step of a start that takes this long is named.
pub(super) const STEP_SAID_AFTER: Duration = Duration::from_secs(5);

/// A step that goes on is named again after a pause that doubles, up to this.
pub(super) const STEP_SAID_PAUSE_MAX: Duration = Duration::from_mins(5);

/// The message of a panic has this long to leave. A standard error that nobody reads would keep the process for ever.
pub(super) const PANIC_MESSAGE_WITHIN: Duration = Duration::from_secs(2);

// Members may make many more lines than strangers.
const _: () = assert!(LINES_OF_STRANGERS <= LINES_OF_MEMBERS);
const _: () = assert!(STEP_SAID_AFTER.as_secs() <= STEP_SAID_PAUSE_MAX.as_secs());

// An address that is taken is said in one line, not as a start that takes long.
const _: () = assert!(ADDRESS_FREE_WITHIN.as_millis() < STEP_SAID_AFTER.as_millis());

// The start of executors.

/// Locked memory that an executor needs at least. Unit: bytes. Source: glommio's own check.
pub(super) const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// Memory that glommio registers with each of an executor's rings. Unit: bytes. The smallest it takes: file data does not
/// pass through it here, and an unprivileged user's limit on locked memory counts it.
pub(super) const EXECUTOR_IO_MEMORY_BYTES: usize = 64 * 1024;

/// Entries of each of an executor's rings. Unit: requests.
pub(super) const EXECUTOR_RING_ENTRIES: usize = 128;

/// Entries of the ring that is made to ask what the kernel can do.
pub(super) const QUESTION_RING_ENTRIES: u32 = 2;

/// Cores that are taken for each processor that the process may use. Tests and trials run more than one; a start with very many takes
/// minutes, since each waits for all others.
pub(super) const CORES_PER_PROCESSOR_MAX: usize = 8;

/// How long an address may still be taken by a process that has just ended: the kernel closes the sockets of io_uring a little
/// later than a process' other files, and later still while a disk hangs.
pub(super) const ADDRESS_FREE_WITHIN: Duration = Duration::from_millis(4_500);

/// Pause between two looks at an address.
pub(super) const ADDRESS_POLL: Duration = Duration::from_millis(20);

// Turns of an executor.

/// An executor that always finds work looks at its sockets, disks and timers this often.
pub(super) const POLL_WITHIN: Duration = Duration::from_millis(2);

/// The same while control work waits.
pub(super) const CONTROL_WITHIN: Duration = Duration::from_millis(1);

/// The same before a core has classes. glommio 0.9 goes to sleep with tasks that could run if this time passes between the
/// moment it arms the timer and the moment it picks the first task, and nothing wakes it then: a core whose thread lost its
/// processor for 2 ms there never ran at all.
pub(super) const BEFORE_CLASSES: Duration = Duration::from_hours(1);

/// Longest sleep of an executor, for as long as timers are armed ahead.
pub(super) const PULSE: Duration = Duration::from_millis(10);

/// Timers that are armed ahead, one for each `PULSE`.
pub(super) const PULSES_AHEAD: usize = 100;

/// Frames that one connection may hand over before others have their turn.
pub(super) const SLICE_FRAMES: u32 = 64;

/// Bytes that one connection may hand over before others have their turn, the last frame not counted. Unit: bytes.
pub(super) const SLICE_BYTES: usize = 256 << 10;

/// A look at the waits of the thread that is older is taken again when a slice begins: what it waited between the look and the
/// beginning is taken for a wait of the slice. A look costs a system call.
pub(super) const WAITS_LOOK_EVERY: Duration = Duration::from_millis(1);

/// A look at the waits of the thread that took longer is taken again, `WAITS_LOOKS_MAX` times at most.
pub(super) const WAITS_LOOK_WITHIN: Duration = Duration::from_micros(100);

/// Looks at the waits of the thread when a slice begins.
pub(super) const WAITS_LOOKS_MAX: u32 = 3;

// Control work is looked at no less often than all the rest.
const _: () = assert!(CONTROL_WITHIN.as_micros() <= POLL_WITHIN.as_micros());
// An executor wakes for a second without any task having run.
const _: () = assert!(PULSE.as_millis() * PULSES_AHEAD as u128 >= 1_000);

// A shard.

/// Length of a tick, if the heartbeat interval has room for several. Unit: ms.
pub(super) const TICK_MS: u64 = 10;

/// Most batches of a leader that are not durable on its own disk yet.
pub(super) const PIPELINE_BATCHES_LIMIT: usize = 4;

/// A batch of this many bytes is closed, and the next one begun. Unit: bytes.
pub(super) const BATCH_BYTES_TARGET: usize = 256 << 10;

/// Most writes that wait for their answer.
pub(super) const PENDING_WRITES_LIMIT: usize = 1 << 16;

/// Most reads that wait for their answer.
pub(super) const PENDING_READS_LIMIT: usize = 1 << 14;

/// Most requests that were passed on to the leader and have no answer yet.
pub(super) const RELAYED_LIMIT: usize = 1 << 16;

/// Entries of a leader that are not committed. Unit: bytes.
pub(super) const UNCOMMITTED_BYTES_LIMIT: u64 = 256 << 20;

/// Writes that wait until they can be proposed. Unit: bytes.
pub(super) const QUEUED_WRITE_BYTES_LIMIT: u64 = 64 << 20;

/// Entries that are applied in one turn. Unit: bytes.
pub(super) const APPLY_BYTES_PER_TURN: u64 = 64 << 10;

/// Keys that are visited for applying in one turn.
pub(super) const APPLY_KEYS_PER_TURN: u64 = 2048;

/// Time from the last change of the note beside a log until it is synced. Unit: ms.
pub(super) const NOTE_IDLE_MS: u64 = 2_000;

/// Time between two syncs of a note that goes on changing. Unit: ms.
pub(super) const NOTE_BUSY_MS: u64 = 5_000;

/// Pause before a segment that could not be prepared is tried again. Unit: ms.
pub(super) const PREPARE_RETRY_MS: u64 = 500;

/// Pause between two looks at whether the log is still in its place. Unit: ms.
pub(super) const PLACE_CHECK_MS: u64 = 1000;

/// Looks in a row that may tell nothing, for want of memory or because a read failed; with the next one the shard stops.
pub(super) const BLIND_LOOKS_MAX: u32 = 5;

/// The room of the disk is measured at one of so many looks at the log's place.
pub(super) const MEASURE_EVERY_LOOKS: u64 = 10;

/// Batches whose time to commit is measured at once; more are not measured.
pub(super) const TIMED_BATCHES_MAX: usize = 1024;

/// Pause between two updates of a shard's metrics. Unit: ticks.
pub(super) const METRICS_EVERY_TICKS: u64 = 10;

/// A shard that says nothing for so long is silent: as long as a client waits for a sign of a node's life.
pub(super) const SILENT_AFTER: Duration = Duration::from_millis(SILENCE_MS_MAX);

/// Pause between two looks at the shards of other cores: many ticks.
pub(super) const SILENCE_LOOK_PAUSE: Duration = Duration::from_millis(200);

/// Looks in a row that may find nothing new; with the last of them the shard is silent.
pub(super) const SILENCE_LOOKS_MAX: u32 = 5;

// Raft takes all reads that wait.
const _: () = assert!(PENDING_READS_LIMIT <= PENDING_READS_MAX);
// The largest request can wait.
const _: () = assert!(REQUEST_BYTES_CHOSEN_MAX <= QUEUED_WRITE_BYTES_LIMIT);
// A full window of a follower can be uncommitted.
const _: () = assert!(INFLIGHT_BYTES_LIMIT <= UNCOMMITTED_BYTES_LIMIT);
// A note that rests is synced sooner than one that changes.
const _: () = assert!(NOTE_IDLE_MS <= NOTE_BUSY_MS);
// A shard that lives has posted something between two looks, and all looks together take as long as silence.
const _: () = assert!(SILENCE_LOOK_PAUSE.as_millis() > 2 * TICK_MS as u128);
const _: () = assert!(SILENCE_LOOK_PAUSE.as_millis() * SILENCE_LOOKS_MAX as u128 == SILENT_AFTER.as_millis());

// A stop in order.

/// How long a stopping node waits for others to take its leaderships. Unit: ms.
pub(super) const HAND_OVER_MS_MAX: u64 = 1_000;

/// How long it then goes on serving clients that do not go to the new leaders. Unit: ms.
pub(super) const LINGER_MS_MAX: u64 = 500;

/// Clients count as gone once they asked for nothing for so long. Unit: ms.
pub(super) const QUIET_MS: u64 = 30;

/// How long a stopping node waits for the answers to what it has taken. Unit: ms.
pub(super) const LAST_ANSWERS_MS_MAX: u64 = 1_000;

/// Pause between two looks at what a stopping node waits for. Unit: ms.
pub(super) const STOP_STEP_MS: u64 = 5;

/// How long a stopping shard waits for the sync of its note. Unit: ms.
pub(super) const SETTLE_MS_MAX: u64 = 1000;

/// Pause between two looks at whether the note is synced. Unit: ms.
pub(super) const SETTLE_STEP_MS: u64 = 2;

/// How long a stop waits for a core to come to its next step. Its own waits are all shorter; only a core that hangs takes longer.
pub(super) const CORE_ENDS_WITHIN: Duration = Duration::from_secs(30);

/// How long a core waits for its tasks to end. They end when they are polled. Unit: ms.
pub(super) const TASKS_WITHIN_MS: u64 = 5_000;

/// Pause between two looks of a core at whether it may end.
pub(super) const LOOK_FOR_END: Duration = Duration::from_millis(1);

/// How long a stop waits for helper threads, which may be filling a segment.
pub(super) const HELPERS_WITHIN: Duration = Duration::from_secs(30);

/// How long a stop waits for lookups of names. One that hangs goes on by itself; it holds nothing of the node's.
pub(super) const LOOKUPS_WITHIN: Duration = Duration::from_secs(1);

/// How often an executor that ended is asked for its descriptor.
pub(super) const LEFTOVER_ROUNDS: usize = 3;
/// Wake-ups of a round, at least.
pub(super) const LEFTOVER_WAKES_MIN: u64 = 5;
/// And how many numbers of them there are, of which one is drawn.
pub(super) const LEFTOVER_WAKES_MORE: u64 = 40;
// A task of glommio counts its wakers in 15 bits.
const _: () = assert!(LEFTOVER_ROUNDS as u64 * (LEFTOVER_WAKES_MIN + LEFTOVER_WAKES_MORE) < 1 << 10);

/// What a task may have asked the kernel for at a time: to read and to write a connection, to sync, to accept. Unit: requests.
pub(super) const REQUESTS_PER_TASK_MAX: usize = 4;

// A core that does not hang ends in time, on a host that is eight times too busy.
const _: () = assert!(
    (HAND_OVER_MS_MAX + LINGER_MS_MAX + LAST_ANSWERS_MS_MAX + SETTLE_MS_MAX) as u128 * 8 < CORE_ENDS_WITHIN.as_millis()
);
const _: () = assert!((TASKS_WITHIN_MS as u128) < CORE_ENDS_WITHIN.as_millis());
// Quiet is seen in several looks, and before the time to linger is over.
const _: () = assert!(2 * STOP_STEP_MS <= QUIET_MS && QUIET_MS < LINGER_MS_MAX);
const _: () = assert!(SETTLE_STEP_MS < SETTLE_MS_MAX);
