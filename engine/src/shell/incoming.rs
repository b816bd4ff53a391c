//! Connections that peers opened to a shard: which of them are the newest.
//!
//! A peer has one connection for each lane. When it connects anew the end of the old connection may be noticed late, after the
//! new one is up; that is no sign of the peer's death. Only the end of the newest connection of a lane is.

use std::collections::BTreeMap;

use crate::types::NodeId;
use crate::wire::Lane;

/// The newest connection of each peer and lane.
#[derive(Debug, Default)]
pub struct Incoming {
    last_number: u64,
    newest: BTreeMap<(NodeId, Lane), u64>,
}

impl Incoming {
    /// A connection opened. Returns its number.
    pub fn opened(&mut self, from: NodeId, lane: Lane) -> u64 {
        self.last_number += 1;
        self.newest.insert((from, lane), self.last_number);
        self.last_number
    }

    /// A connection ended. Says whether it was the newest of its lane.
    pub fn closed(&mut self, from: NodeId, lane: Lane, number: u64) -> bool {
        let is_newest = self.newest.get(&(from, lane)) == Some(&number);
        if is_newest {
            self.newest.remove(&(from, lane));
        }
        is_newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_the_newest_connection_of_a_lane_counts() {
        let (mut incoming, peer, other) = (Incoming::default(), NodeId::new(1), NodeId::new(2));
        let old = incoming.opened(peer, Lane::Bulk);
        let new = incoming.opened(peer, Lane::Bulk);
        let control = incoming.opened(peer, Lane::Control);
        let of_other = incoming.opened(other, Lane::Bulk);
        assert!(!incoming.closed(peer, Lane::Bulk, old));
        assert!(incoming.closed(peer, Lane::Bulk, new));
        assert!(!incoming.closed(peer, Lane::Bulk, new), "an end is noticed once");
        assert!(incoming.closed(peer, Lane::Control, control));
        assert!(incoming.closed(other, Lane::Bulk, of_other));
    }
}
