//! The three outgoing connections to one peer of a shard, and the credit of each: how much may wait for it.

use net::shell::{self, PeerLink};

use super::limits::{
    BULK_QUEUE_BYTES, CONTROL_QUEUE_BYTES, REFUSAL_QUEUE_BYTES, RELAY_FILL_BYTES_MAX, RELAY_QUEUE_BYTES,
    ROOM_AGAIN_PART,
};
use crate::call::Part;
use crate::replica::{Lane, NotTaken, Outgoing};

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
    /// True if all lanes take frames.
    #[must_use]
    pub fn are_up(&self) -> bool {
        [Lane::Control, Lane::Bulk, Lane::Relay].iter().all(|lane| self.queued_bytes(*lane).is_some())
    }

    /// Bytes that wait in a lane to be handed to the system; `None` while it is down. Unit: bytes.
    #[must_use]
    pub fn queued_bytes(&self, lane: Lane) -> Option<usize> {
        self.lane(lane).queued_bytes()
    }

    /// Queues the frame of a message on its lane.
    ///
    /// What is relayed never takes the place of entries, and a refusal always has room: it tells what became of a request.
    ///
    /// # Errors
    /// The lane did not take it; nothing was queued.
    pub fn send(&self, message: &Outgoing, append: impl FnOnce(&mut Vec<u8>)) -> Result<(), NotTaken> {
        let lane = Lane::of(message);
        let link = self.lane(lane);
        let pushed = match message {
            Outgoing::Raft(_) => link.push(append),
            Outgoing::RelayCall { call, .. } => link.push_within(credit_bytes(lane), call.payload.len(), append),
            Outgoing::RelayReply { reply, .. } => match &reply.part {
                Part::More(bytes) | Part::Last(Ok(bytes)) => link.push_within(credit_bytes(lane), bytes.len(), append),
                Part::Last(Err(_)) => link.push_within(RELAY_FILL_BYTES_MAX + REFUSAL_QUEUE_BYTES, 0, append),
            },
        };
        pushed.map_err(|why| match why {
            shell::NotTaken::Full => NotTaken::NoCredit,
            shell::NotTaken::Closed => NotTaken::NoConnection,
        })
    }

    /// Ends all lanes for good.
    pub fn close(&self) {
        self.control.close();
        self.bulk.close();
        self.relay.close();
    }

    /// The connection of a lane.
    const fn lane(&self, lane: Lane) -> &PeerLink {
        match lane {
            Lane::Control => &self.control,
            Lane::Bulk => &self.bulk,
            Lane::Relay => &self.relay,
        }
    }
}

/// Bytes that may wait in a lane before it takes no more, except for one frame and for refusals. Unit: bytes.
const fn credit_bytes(lane: Lane) -> usize {
    match lane {
        Lane::Control => CONTROL_QUEUE_BYTES,
        Lane::Bulk => BULK_QUEUE_BYTES,
        Lane::Relay => RELAY_QUEUE_BYTES,
    }
}

/// A lane that was full counts as having room once no more than so many bytes wait in it. Unit: bytes.
pub const fn room_again_bytes(lane: Lane) -> usize {
    credit_bytes(lane) / ROOM_AGAIN_PART
}
