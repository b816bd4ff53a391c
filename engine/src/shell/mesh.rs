//! Messages between the cores of a node: requests to a shard's owner, answers back, peer connections to their shard.
//!
//! glommio's channel mesh carries them. Requests are refused when the channel is full; answers wait in a queue of their own,
//! which is bounded by the requests that wait for them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use glommio::channels::channel_mesh::Senders;

use super::classes::Slice;
use super::notify::Notify;
use crate::replica::{Refusal, RequestKind, Ticket};
use crate::types::{NodeId, ShardId};
use crate::wire::Lane;

/// Messages that one core may have on the way to another.
pub const MESH_CHANNEL_LEN: usize = 4096;

/// Something for another core.
pub enum MeshMessage {
    /// A request for a shard of that core.
    Request {
        /// The shard.
        shard: ShardId,
        /// Names the request on the core that sends this.
        ticket: Ticket,
        /// What it wants.
        kind: RequestKind,
        /// How long it may wait. Unit: ms.
        timeout_ms: u32,
        /// The command, or the range request; checked.
        payload: Vec<u8>,
    },
    /// The answer to a request of that core.
    Reply {
        /// The shard that answers.
        shard: ShardId,
        /// Names the request.
        ticket: Ticket,
        /// The answer.
        result: Result<Vec<u8>, Refusal>,
        /// The leader answered and this node passed it on.
        relayed: bool,
    },
    /// A peer's connection for a shard of that core, past its handshake.
    Peer {
        /// The shard.
        shard: ShardId,
        /// The peer.
        from: NodeId,
        /// What it sends on it.
        lane: Lane,
        /// The connection.
        connection: OwnedFd,
    },
}

impl MeshMessage {
    /// What handling it costs, roughly. Unit: bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Request { payload, .. } => payload.len(),
            Self::Reply { result, .. } => result.as_ref().map_or(0, Vec::len),
            Self::Peer { .. } => 0,
        }
    }
}

/// This core's way to the others.
pub struct Mesh {
    cores: usize,
    senders: Option<Senders<MeshMessage>>,
    backlog: RefCell<VecDeque<(usize, MeshMessage)>>,
    wake: Notify,
}

impl Mesh {
    /// The mesh of a node with `cores` cores; without senders if there is only one.
    #[must_use]
    pub fn new(cores: usize, senders: Option<Senders<MeshMessage>>) -> Rc<Self> {
        Rc::new(Self { cores, senders, backlog: RefCell::new(VecDeque::new()), wake: Notify::default() })
    }

    /// The core that owns a shard, the same on every node.
    #[must_use]
    pub fn owner(&self, shard: ShardId) -> usize {
        shard.get() as usize % self.cores
    }

    /// Sends a message if there is room.
    ///
    /// # Errors
    /// The channel is full; the message is dropped.
    pub fn try_send(&self, core: usize, message: MeshMessage) -> Result<(), ()> {
        let senders = self.senders.as_ref().expect("a node of one core owns all its shards");
        senders.try_send_to(core, message).map_err(|_full| ())
    }

    /// Sends a message as soon as there is room.
    pub fn send(&self, core: usize, message: MeshMessage) {
        self.backlog.borrow_mut().push_back((core, message));
        self.wake.notify();
    }

    /// Moves what waits to the other cores. Runs for as long as the core does.
    pub async fn run(self: Rc<Self>) {
        let slice = Slice::default();
        loop {
            let next = self.backlog.borrow_mut().pop_front();
            match (next, &self.senders) {
                (Some((core, message)), Some(senders)) => {
                    // It fails only for a core that is gone, which means that the node is stopping: a core that panics
                    // takes the process with it. The others still get their answers.
                    drop(senders.send_to(core, message).await);
                    slice.spend(0).await;
                }
                _ => self.wake.wait().await,
            }
        }
    }
}
