//! Connections that peers opened to a shard: which of them are the newest.
//!
//! A peer has one connection for each lane: a newer one ends the older, so that their number is bounded. When it connects anew
//! the end of the old connection may come late, after the new one is up; that is no sign of the peer's death. Only the end of the
//! newest connection of a lane is.

use std::collections::BTreeMap;
use std::convert::Infallible;

use async_channel::{Receiver, Sender};

use crate::replica::Lane;
use crate::types::NodeId;

/// The newest connection of each peer and lane.
#[derive(Debug, Default)]
pub struct NewestConnections {
    last_number: u64,
    newest: BTreeMap<(NodeId, Lane), Newest>,
}

#[derive(Debug)]
struct Newest {
    number: u64,
    /// Nothing is sent: the channel ends when a newer connection opens, or the node is a member no more.
    _replaced: Sender<Infallible>,
}

/// An open connection.
#[derive(Debug)]
pub struct OpenedConnection {
    /// Its number.
    pub number: u64,
    /// True if it replaces a connection of that lane whose end was not noticed.
    pub is_another: bool,
    /// Ends when a newer connection of the lane has opened, or when the node is no member any more. This connection must be closed then.
    pub replaced: Receiver<Infallible>,
}

impl NewestConnections {
    /// A connection opened.
    pub fn opened(&mut self, from: NodeId, lane: Lane) -> OpenedConnection {
        self.last_number += 1;
        let number = self.last_number;
        let (sender, replaced) = async_channel::bounded(1);
        let before = self.newest.insert((from, lane), Newest { number, _replaced: sender });
        OpenedConnection { number, is_another: before.is_some(), replaced }
    }

    /// Ends all connections of a node that is no member any more.
    pub(super) fn close(&mut self, from: NodeId) {
        self.newest.retain(|(node, _), _| *node != from);
    }

    /// Ends a peer's connection of a lane. The peer notices, and takes what it was not answered for lost.
    pub(super) fn close_lane(&mut self, from: NodeId, lane: Lane) {
        self.newest.remove(&(from, lane));
    }

    /// True if the peer has a connection for each lane.
    #[must_use]
    pub fn are_open(&self, from: NodeId) -> bool {
        [Lane::Control, Lane::Bulk, Lane::Relay].iter().all(|lane| self.newest.contains_key(&(from, *lane)))
    }

    /// A connection ended. Says whether it was the newest of its lane.
    pub fn closed(&mut self, from: NodeId, lane: Lane, number: u64) -> bool {
        let is_newest = self.newest.get(&(from, lane)).is_some_and(|newest| newest.number == number);
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
        let (mut incoming, peer, other) = (NewestConnections::default(), NodeId::new(1), NodeId::new(2));
        let old = incoming.opened(peer, Lane::Bulk);
        let new = incoming.opened(peer, Lane::Bulk);
        let control = incoming.opened(peer, Lane::Control);
        let of_other = incoming.opened(other, Lane::Bulk);
        let is_another = [&old, &new, &control, &of_other].map(|opened| opened.is_another);
        assert_eq!(is_another, [false, true, false, false], "the peer may have said something on the old one");
        let replaced = [&old, &new, &control, &of_other].map(|opened| opened.replaced.is_closed());
        assert_eq!(replaced, [true, false, false, false], "one connection for each lane");
        let [old, new, control, of_other] = [old, new, control, of_other].map(|opened| opened.number);
        assert!(!incoming.are_open(peer), "nothing can be relayed");
        let relay = incoming.opened(peer, Lane::Relay).number;
        assert!(incoming.are_open(peer) && !incoming.are_open(other));
        assert!(incoming.closed(peer, Lane::Relay, relay) && !incoming.are_open(peer));
        assert!(!incoming.closed(peer, Lane::Bulk, old));
        assert!(incoming.closed(peer, Lane::Bulk, new));
        assert!(!incoming.closed(peer, Lane::Bulk, new), "an end is noticed once");
        assert!(incoming.closed(peer, Lane::Control, control));
        let relay = [peer, other].map(|node| incoming.opened(node, Lane::Relay));
        incoming.close_lane(peer, Lane::Relay);
        assert_eq!(relay.each_ref().map(|opened| opened.replaced.is_closed()), [true, false], "its own lane alone");
        assert!(!incoming.closed(peer, Lane::Relay, relay[0].number));
        incoming.close(peer);
        assert!(incoming.closed(other, Lane::Bulk, of_other));
        let again = [Lane::Control, Lane::Bulk].map(|lane| incoming.opened(peer, lane));
        incoming.close(peer);
        for opened in again {
            assert!(opened.replaced.is_closed() && !incoming.closed(peer, Lane::Control, opened.number));
        }
    }
}
