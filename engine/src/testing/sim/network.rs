//! Connections between nodes: one in each direction with three lanes, as the server has them, and everything that befalls them.
//!
//! A lane keeps its order; they overtake each other. What waits in a lane is bounded. A broken connection loses what is
//! on its way, or delivers it late, when the next connection is up already. A blocked direction holds messages back, as
//! TCP does, until it is open again or the connection breaks.

use std::collections::{BTreeMap, BTreeSet};

use wal::testing::SimRng;

use super::plan::Plan;
use crate::call::Part;
use crate::replica::{Lane, Outgoing, Reply};

/// Messages that a blocked direction holds back; more are lost with the connection.
const HELD_MAX: usize = 2000;

/// Messages kept to arrive once more.
const KEPT_MAX: usize = 40;

/// One in this many messages is kept.
const KEEP_ONE_IN: u64 = 10;

/// Bytes on their way from one node to another.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) shard: usize,
    pub(super) lane: Lane,
    /// The connection that it left on.
    pub(super) incarnation: u64,
    /// The receiver's life then.
    pub(super) to_life: u64,
    /// It is Raft's own, which promises to bear any message twice and late. Relayed requests rely on TCP.
    pub(super) may_repeat: bool,
    /// It takes room in its lane until it arrives. A copy does not.
    pub(super) is_counted: bool,
    pub(super) bytes: Vec<u8>,
}

const fn place_of(lane: Lane) -> usize {
    match lane {
        Lane::Control => 0,
        Lane::Bulk => 1,
        Lane::Relay => 2,
    }
}

/// Bytes that may be on their way in a lane. Urgent messages are small, and get more than one at a time through. Unit: bytes.
const fn credit_bytes(lane: Lane, bytes_limit: usize) -> usize {
    match lane {
        Lane::Control => bytes_limit.saturating_mul(4),
        Lane::Bulk | Lane::Relay => bytes_limit,
    }
}

/// The connection from one node to another.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// All lanes are up.
    pub(super) is_up: bool,
    /// Counts connections.
    pub(super) incarnation: u64,
    /// The receiver has not noticed the end of the connection before.
    pub(super) end_is_unseen: bool,
    /// Nothing gets through in this direction.
    pub(super) is_blocked: bool,
    /// When the last message of each lane arrives. Unit: us.
    last_arrival_us: [u64; 3],
    /// Bytes on their way in each lane. Unit: bytes.
    queued_bytes: [usize; 3],
    /// Shards whose messages a lane did not take, and has not had room since.
    full: [BTreeSet<usize>; 3],
    held: Vec<Packet>,
}

impl Link {
    /// When a message that leaves now arrives: after `delay_us`, and after those before it.
    pub(super) fn arrival_us(&mut self, lane: Lane, now_us: u64, delay_us: u64) -> u64 {
        let last = &mut self.last_arrival_us[place_of(lane)];
        *last = (now_us + delay_us).max(*last + 1);
        *last
    }

    /// Takes room for a message, as the server's queues do: the rule is that of `shell::links`. `false` if there is none; the shard
    /// is told when there is some again.
    pub(super) fn takes(&mut self, shard: usize, message: &Outgoing, bytes: usize, bytes_limit: usize) -> bool {
        let lane = Lane::of(message);
        let queued = &mut self.queued_bytes[place_of(lane)];
        let has_room = match (lane, message) {
            (_, Outgoing::RelayReply { reply: Reply { part: Part::Last(Err(_)), .. }, .. }) => true,
            (Lane::Control | Lane::Bulk, _) => *queued < credit_bytes(lane, bytes_limit),
            (Lane::Relay, _) => *queued == 0 || *queued + bytes <= bytes_limit,
        };
        if has_room {
            *queued += bytes;
        } else {
            self.full[place_of(lane)].insert(shard);
        }
        has_room
    }

    /// A message arrived. Returns the shards that found its lane full, if that has room again.
    pub(super) fn arrived(&mut self, packet: &Packet, bytes_limit: usize) -> BTreeSet<usize> {
        if !packet.is_counted || packet.incarnation != self.incarnation {
            return BTreeSet::new();
        }
        let at = place_of(packet.lane);
        let queued = &mut self.queued_bytes[at];
        *queued = queued.saturating_sub(packet.bytes.len());
        let has_room = *queued <= credit_bytes(packet.lane, bytes_limit) / 2;
        if has_room { std::mem::take(&mut self.full[at]) } else { BTreeSet::new() }
    }

    /// Entries are on their way.
    pub(super) fn entries_wait(&self) -> bool {
        self.is_up && self.queued_bytes[place_of(Lane::Bulk)] > 0
    }

    /// The connection is another one from here on.
    pub(super) fn begin_another(&mut self) -> u64 {
        self.incarnation += 1;
        self.queued_bytes = [0; 3];
        // Whoever waits for room is told that the connection broke.
        self.full = Default::default();
        self.incarnation
    }

    /// Keeps a message back. `false` if there is no room: the connection is as good as broken.
    pub(super) fn hold(&mut self, packet: Packet) -> bool {
        let has_room = self.held.len() < HELD_MAX;
        if has_room {
            self.held.push(packet);
        }
        has_room
    }

    /// Gives back what was held.
    pub(super) fn release(&mut self) -> Vec<Packet> {
        std::mem::take(&mut self.held)
    }
}

/// All connections.
#[derive(Debug)]
pub(super) struct Network {
    links: BTreeMap<(usize, usize), Link>,
    /// Messages that may arrive once more.
    kept: Vec<Packet>,
}

impl Network {
    pub(super) fn new(plan: &Plan) -> Self {
        let pairs = (0..plan.nodes()).flat_map(|from| (0..plan.nodes()).map(move |to| (from, to)));
        Self {
            links: pairs.filter(|(from, to)| from != to).map(|pair| (pair, Link::default())).collect(),
            kept: Vec::new(),
        }
    }

    pub(super) fn link(&mut self, from: usize, to: usize) -> &mut Link {
        self.links.get_mut(&(from, to)).expect("a pair of nodes")
    }

    /// Neither direction between the two is blocked.
    pub(super) fn is_open(&self, one: usize, other: usize) -> bool {
        !self.links[&(one, other)].is_blocked && !self.links[&(other, one)].is_blocked
    }

    /// Keeps one of many messages, in the place of an older one if there is no room.
    pub(super) fn keep_some(&mut self, rng: &mut SimRng, packet: &Packet) {
        if !packet.may_repeat || !rng.chance(1, KEEP_ONE_IN) {
            return;
        }
        let copy = Packet { is_counted: false, ..packet.clone() };
        if self.kept.len() < KEPT_MAX {
            self.kept.push(copy);
        } else {
            let at = usize::try_from(rng.below(KEPT_MAX as u64)).expect("few");
            self.kept[at] = copy;
        }
    }

    /// One of the messages that were kept.
    pub(super) fn take_kept(&mut self, rng: &mut SimRng) -> Option<Packet> {
        let count = u64::try_from(self.kept.len()).ok().filter(|count| *count > 0)?;
        Some(self.kept.swap_remove(usize::try_from(rng.below(count)).ok()?))
    }

    pub(super) fn pairs(&self) -> Vec<(usize, usize)> {
        self.links.keys().copied().collect()
    }
}
