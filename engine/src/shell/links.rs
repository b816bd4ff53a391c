//! The two outgoing connections to one peer of a shard.

use net::shell::PeerLink;

use crate::wire::Lane;

/// The two lanes to a peer.
#[derive(Clone, Debug)]
pub struct PeerLinks {
    /// Votes, heartbeats, acknowledgements.
    pub control: PeerLink,
    /// Entries and relayed requests.
    pub bulk: PeerLink,
}

impl PeerLinks {
    /// Both lanes take frames.
    #[must_use]
    pub fn are_up(&self) -> bool {
        self.control.is_up() && self.bulk.is_up()
    }

    /// Queues a frame on a lane; `false` if the lane is down or full.
    pub fn send(&self, lane: Lane, append: impl FnOnce(&mut Vec<u8>)) -> bool {
        let link = match lane {
            Lane::Control => &self.control,
            Lane::Bulk => &self.bulk,
        };
        link.push(append).is_ok()
    }

    /// Ends both lanes for good.
    pub fn close(&self) {
        self.control.close();
        self.bulk.close();
    }
}
