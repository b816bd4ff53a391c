//! Heartbeats that leaders sent, to arrive once more in a later term: see `ambush`.

use std::collections::BTreeMap;

use super::network::Packet;
use crate::raft::Message;
use crate::replica::Outgoing;
use crate::types::Term;

/// A heartbeat that was sent.
#[derive(Debug)]
struct Beat {
    term: Term,
    round: u64,
    packet: Packet,
}

/// Heartbeats of one leader to one follower.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// The last round of the newest term that the leader led.
    newest: Option<Beat>,
    /// The highest round of any term before.
    earlier: Option<Beat>,
}

impl Sent {
    /// Keeps a heartbeat, if it is one of the two that count.
    pub(super) fn note(&mut self, packet: &Packet, message: &Outgoing) {
        let Outgoing::Raft(Message::Heartbeat { term, round, .. }) = message else { return };
        let beat = Beat { term: *term, round: *round, packet: Packet { is_counted: false, ..packet.clone() } };
        if let Some(newest) = self.newest.take_if(|newest| newest.term < *term)
            && self.earlier.as_ref().is_none_or(|earlier| earlier.round <= newest.round)
        {
            self.earlier = Some(newest);
        }
        if self.newest.as_ref().is_none_or(|newest| newest.round <= *round) {
            self.newest = Some(beat);
        }
    }

    /// Rounds begun in a term.
    pub(super) fn rounds_of(&self, term: Term) -> u64 {
        self.newest.as_ref().filter(|newest| newest.term == term).map_or(0, |newest| newest.round)
    }

    /// A heartbeat of an earlier term that names a later round than any of this term does, with room for some rounds more.
    pub(super) fn take_later_round(&mut self, term: Term) -> Option<Packet> {
        let rounds = self.rounds_of(term);
        self.earlier.take_if(|earlier| earlier.term < term && earlier.round > rounds + 2).map(|beat| beat.packet)
    }
}

/// Heartbeats by sender, receiver and shard.
#[derive(Debug, Default)]
pub(super) struct Beats {
    sent: BTreeMap<(usize, usize, usize), Sent>,
}

impl Beats {
    /// Those of a node to another one.
    pub(super) fn of(&mut self, from: usize, to: usize, shard: usize) -> &mut Sent {
        self.sent.entry((from, to, shard)).or_default()
    }
}
