//! The three outgoing connections to one peer of a shard, and how much may wait for each.

use net::shell::PeerLink;

use super::limits::{ANSWER_BYTES_MAX, FRAME_SLACK_BYTES};
use crate::call::Part;
use crate::replica::Outgoing;
use crate::wire::Lane;

/// Bytes of urgent messages that may wait for a peer. Unit: bytes.
pub const CONTROL_QUEUE_BYTES: usize = 1 << 20;

/// Bytes of entries that may wait for a peer; more than Raft's window. Unit: bytes.
pub const BULK_QUEUE_BYTES: usize = 64 << 20;

/// Bytes of relayed requests and answers that may wait for a peer; one larger frame may wait by itself. Unit: bytes.
pub const RELAY_QUEUE_BYTES: usize = 16 << 20;

/// Bytes of refusals that may wait beyond what else does. A refusal takes some 200 bytes, and a peer has at most 65,536 requests
/// under way: all of them fit. Unit: bytes.
const REFUSAL_QUEUE_BYTES: usize = 16 << 20;

/// What a queue of relayed frames may hold at most before the refusals. Unit: bytes.
const RELAY_FILL_BYTES_MAX: usize = (ANSWER_BYTES_MAX + FRAME_SLACK_BYTES) as usize;

const _: () = assert!(RELAY_QUEUE_BYTES <= RELAY_FILL_BYTES_MAX, "a full queue leaves the refusals their room");

/// The lanes to a peer.
#[derive(Clone, Debug)]
pub struct PeerLinks {
    /// Votes, heartbeats, acknowledgements.
    pub control: PeerLink,
    /// Entries.
    pub bulk: PeerLink,
    /// Relayed requests and answers.
    pub relay: PeerLink,
}

impl PeerLinks {
    /// All lanes take frames.
    #[must_use]
    pub fn are_up(&self) -> bool {
        self.control.is_up() && self.bulk.is_up() && self.relay.is_up()
    }

    /// Queues the frame of a message on its lane; `false` if the lane is down or full.
    ///
    /// What is relayed never takes the place of entries, and a refusal always has room: it tells what became of a request.
    pub fn send(&self, message: &Outgoing, append: impl FnOnce(&mut Vec<u8>)) -> bool {
        let pushed = match Lane::of(message) {
            Lane::Control => self.control.push(append),
            Lane::Bulk => self.bulk.push(append),
            Lane::Relay => match message {
                Outgoing::RelayReply { reply, .. } => match &reply.part {
                    Part::More(bytes) | Part::Last(Ok(bytes)) => {
                        self.relay.push_within(RELAY_QUEUE_BYTES, bytes.len(), append)
                    }
                    Part::Last(Err(_)) => self.relay.push_within(RELAY_FILL_BYTES_MAX + REFUSAL_QUEUE_BYTES, 0, append),
                },
                Outgoing::RelayCall { call, .. } => {
                    self.relay.push_within(RELAY_QUEUE_BYTES, call.payload.len(), append)
                }
                Outgoing::Raft(_) => self.relay.push(append),
            },
        };
        pushed.is_ok()
    }

    /// Ends all lanes for good.
    pub fn close(&self) {
        self.control.close();
        self.bulk.close();
        self.relay.close();
    }
}
