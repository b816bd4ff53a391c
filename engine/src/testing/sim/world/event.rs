//! Everything that can happen at a moment.

use std::fmt::Debug;

use wal::{SegmentSeq, SyncRequest};

use super::World;
use crate::raft::BirthRecord;
use crate::replica::Lane;
use crate::testing::sim::clients::Answer;
use crate::testing::sim::front::Attempt;
use crate::testing::sim::network::Packet;
use crate::types::Index;

/// What a fault does next, when its moment has come. It may put further steps into the queue.
pub(in crate::testing::sim) trait FaultStep: Debug {
    /// Does it. An error is a promise that was broken.
    fn go_on(self: Box<Self>, world: &mut World) -> Result<(), String>;
}

/// A shard on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::testing::sim) struct Place {
    pub(in crate::testing::sim) host: usize,
    pub(in crate::testing::sim) shard: usize,
}

/// Something that happens at a moment.
#[derive(Debug)]
pub(in crate::testing::sim) enum Event {
    Tick {
        host: usize,
        life: u64,
    },
    Turn {
        at: Place,
        life: u64,
    },
    Packet(Packet),
    /// A node learns that its connection to a peer is up or broken.
    Notice {
        host: usize,
        life: u64,
        peer: usize,
        up: bool,
    },
    /// A node tries to connect.
    Connect {
        from: usize,
        to: usize,
        incarnation: u64,
    },
    /// A node's lanes from a peer are others, though it did not notice the end of the old ones.
    Replaced {
        host: usize,
        life: u64,
        peer: usize,
    },
    /// A lane that did not take a message has room again.
    LaneHasRoom {
        at: Place,
        life: u64,
        to: usize,
        lane: Lane,
    },
    SyncEnd {
        at: Place,
        life: u64,
        request: SyncRequest,
        fails: bool,
    },
    NoteSyncEnd {
        at: Place,
        life: u64,
    },
    SegmentEnd {
        at: Place,
        life: u64,
        seq: SegmentSeq,
    },
    RepairEnd {
        at: Place,
        life: u64,
    },
    LoadEnd {
        at: Place,
        life: u64,
        first: Index,
        last: Index,
    },
    BirthMarkEnd {
        at: Place,
        life: u64,
        record: BirthRecord,
    },
    BirthEnd {
        at: Place,
        life: u64,
        record: BirthRecord,
    },
    /// A client begins its next operation.
    Ask {
        client: usize,
    },
    /// A client's request arrives at a node.
    Arrive {
        attempt: Attempt,
        at: Place,
    },
    /// The next message from one core of a node to another arrives there.
    Between {
        host: usize,
        life: u64,
        from: usize,
        to: usize,
    },
    /// A core of a node tells shards that nobody takes the rest of some answers.
    Unwanted {
        host: usize,
        life: u64,
        core: usize,
    },
    /// A node's answer arrives at the client.
    Answer {
        attempt: Attempt,
        answer: Answer,
    },
    /// A client waits no longer.
    GiveUp {
        op: u64,
    },
    /// A node starts, unless it has done so already.
    Start {
        host: usize,
        life: u64,
    },
    /// Directions are open again.
    Unblock(Vec<(usize, usize)>),
    /// A connection breaks for having been silent too long.
    Break {
        from: usize,
        to: usize,
        incarnation: u64,
    },
    /// A node that just voted dies, and what it wrote last rots.
    DamageVoter {
        at: Place,
        life: u64,
    },
    /// A fault goes on.
    Fault(Box<dyn FaultStep>),
}

impl Event {
    /// The shard of a process that this happens to, if it is about one.
    pub(super) fn shard(&self) -> Option<usize> {
        match self {
            Self::Turn { at, .. } | Self::LaneHasRoom { at, .. } => Some(at.shard),
            Self::SyncEnd { at, .. } | Self::NoteSyncEnd { at, .. } | Self::SegmentEnd { at, .. } => Some(at.shard),
            Self::RepairEnd { at, .. } | Self::LoadEnd { at, .. } => Some(at.shard),
            Self::BirthEnd { at, .. } | Self::BirthMarkEnd { at, .. } => Some(at.shard),
            Self::Packet(packet) => Some(packet.shard),
            _ => None,
        }
    }

    /// The process that this happens to.
    pub(super) fn process(&self) -> Option<usize> {
        match self {
            Self::Tick { host, .. } | Self::Notice { host, .. } | Self::Replaced { host, .. } => Some(*host),
            Self::Between { host, .. } | Self::Unwanted { host, .. } => Some(*host),
            Self::Turn { at, .. } | Self::Arrive { at, .. } | Self::LaneHasRoom { at, .. } => Some(at.host),
            Self::SyncEnd { at, .. } | Self::NoteSyncEnd { at, .. } => Some(at.host),
            Self::SegmentEnd { at, .. } | Self::RepairEnd { at, .. } | Self::LoadEnd { at, .. } => Some(at.host),
            Self::BirthEnd { at, .. } | Self::BirthMarkEnd { at, .. } => Some(at.host),
            Self::Packet(packet) => Some(packet.to),
            Self::Connect { from, .. } => Some(*from),
            Self::Ask { .. }
            | Self::Answer { .. }
            | Self::GiveUp { .. }
            | Self::Start { .. }
            | Self::Unblock(_)
            | Self::Break { .. }
            | Self::DamageVoter { .. }
            | Self::Fault(_) => None,
        }
    }
}
