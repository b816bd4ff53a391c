//! The three outgoing connections to one peer of a shard, and how much may wait for each.

use net::shell::PeerLink;

use super::limits::{REFUSAL_QUEUE_BYTES, RELAY_FILL_BYTES_MAX, RELAY_QUEUE_BYTES};
use crate::call::Part;
use crate::replica::Outgoing;
use crate::wire::Lane;

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
