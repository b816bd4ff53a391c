//! Messages between the cores of a node: calls to a shard's owner, answers back, peer connections to their shard.
//!
//! glommio's channel mesh carries them. Calls are refused when the channel is full; answers wait in a queue of their own. Their
//! number is bounded by the calls that wait for them, and their bytes by a limit, beyond which a refusal takes an answer's place.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use glommio::channels::channel_mesh::Senders;
use net::shell::Detached;
use prometheus_client::metrics::counter::Counter;

use super::classes::Slice;
use super::limits::{MESH_ANSWER_BYTES_MAX, MESH_SMALL_ANSWER_BYTES};
use super::notify::Notify;
use crate::call::{Call, Part, Refusal, Ticket};
use crate::desk::{BetweenCores, Brought, Desk};
use crate::replica::Lane;
use crate::types::{NodeId, ShardId};

/// A part of an answer on its way to another core. Its bytes count until it is dropped there.
pub(super) struct MeshAnswer {
    /// The part, or why it was dropped though others follow.
    part: Brought,
    under_way_bytes: Arc<AtomicUsize>,
}

impl MeshAnswer {
    /// The part.
    ///
    /// # Errors
    /// It was dropped. Others follow, and the answer would not be whole: this takes its place.
    pub(super) fn part(&self) -> Result<Part<&[u8], &Refusal>, &Refusal> {
        self.part.as_ref().map(|part| part.as_ref().map(Vec::as_slice))
    }

    fn bytes(&self) -> usize {
        self.part().ok().and_then(Part::bytes).map_or(0, <[u8]>::len)
    }
}

impl Drop for MeshAnswer {
    fn drop(&mut self) {
        let before = self.under_way_bytes.fetch_sub(self.bytes(), Ordering::Relaxed);
        assert!(before >= self.bytes(), "what is on its way was counted");
    }
}

/// Something for another core.
pub(super) enum MeshMessage {
    /// A call for a shard of that core; checked.
    Call {
        /// Names it on the core that sends this.
        ticket: Ticket,
        /// What is asked for.
        call: Call<'static>,
    },
    /// A part of the answer to a call of that core.
    Reply {
        /// The shard that answers.
        shard: ShardId,
        /// Names the call.
        ticket: Ticket,
        /// The part.
        answer: MeshAnswer,
        /// The leader answered and this node passed it on.
        relayed: bool,
    },
    /// Whoever waited for these calls of a shard of that core is gone.
    Left {
        /// The shard.
        shard: ShardId,
        /// Names the calls, in ascending order.
        tickets: Vec<Ticket>,
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
        connection: Detached,
    },
}

impl MeshMessage {
    /// What handling it costs, roughly. Unit: bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Call { call, .. } => call.payload.len(),
            Self::Reply { answer, .. } => answer.bytes(),
            Self::Left { .. } | Self::Peer { .. } => 0,
        }
    }
}

/// What waits until a core takes it.
#[derive(Default)]
struct Backlog {
    messages: RefCell<VecDeque<MeshMessage>>,
    wake: Notify,
}

/// This core's way to the others.
pub struct Mesh {
    cores: usize,
    senders: Option<Senders<MeshMessage>>,
    /// What waits for each core. A core that hangs holds up nothing for the others.
    backlogs: Vec<Backlog>,
    /// Answers of this core that are on their way to others. Unit: bytes.
    under_way_bytes: Arc<AtomicUsize>,
    /// Counts answers that a refusal took the place of.
    answers_dropped: Counter,
}

impl Mesh {
    /// The mesh of a node with `cores` cores; without senders if there is only one. `answers_dropped` counts for the node.
    #[must_use]
    pub fn new(cores: usize, senders: Option<Senders<MeshMessage>>, answers_dropped: Counter) -> Rc<Self> {
        let backlogs = (0..cores).map(|_| Backlog::default()).collect();
        Rc::new(Self { cores, senders, backlogs, under_way_bytes: Arc::default(), answers_dropped })
    }

    /// Cores of the node.
    pub(super) const fn cores(&self) -> usize {
        self.cores
    }

    /// The core that owns a shard, the same on every node.
    #[must_use]
    pub fn owner(&self, shard: ShardId) -> usize {
        Desk::<()>::owner(shard, self.cores)
    }

    /// Sends a message if there is room.
    ///
    /// # Errors
    /// The channel is full; the message is dropped.
    pub fn try_send(&self, core: usize, message: MeshMessage) -> Result<(), ()> {
        let senders = self.senders.as_ref().expect("a node of one core owns all its shards");
        senders.try_send_to(core, message).map_err(|_full| ())
    }

    /// Copies a part of an answer for another core, or puts a refusal into its place while too many bytes are on their way.
    #[must_use]
    pub(super) fn answer(&self, part: Part<&[u8], &Refusal>) -> MeshAnswer {
        const LIMITS: BetweenCores =
            BetweenCores { bytes_limit: MESH_ANSWER_BYTES_MAX, small_bytes: MESH_SMALL_ANSWER_BYTES };
        let (part, is_dropped) = LIMITS.bring(part, self.under_way_bytes.load(Ordering::Relaxed));
        self.answers_dropped.inc_by(is_dropped.into());
        let answer = MeshAnswer { part, under_way_bytes: Arc::clone(&self.under_way_bytes) };
        self.under_way_bytes.fetch_add(answer.bytes(), Ordering::Relaxed);
        answer
    }

    /// Sends a message as soon as there is room.
    pub fn send(&self, core: usize, message: MeshMessage) {
        let backlog = &self.backlogs[core];
        backlog.messages.borrow_mut().push_back(message);
        backlog.wake.notify();
    }

    /// What moves the messages that wait for each core; each of them runs for as long as this core does.
    pub fn movers(self: &Rc<Self>) -> impl Iterator<Item = impl Future<Output = ()> + use<>> {
        let mesh = Rc::clone(self);
        (0..self.cores).map(move |core| Rc::clone(&mesh).run(core))
    }

    async fn run(self: Rc<Self>, core: usize) {
        let (slice, backlog) = (Slice::default(), &self.backlogs[core]);
        loop {
            let next = backlog.messages.borrow_mut().pop_front();
            match (next, &self.senders) {
                (Some(message), Some(senders)) => {
                    // It fails only for a core that is gone, which means that the node is stopping: a core that panics
                    // takes the process with it. The others still get their answers.
                    drop(senders.send_to(core, message).await);
                    slice.spend(0).await;
                }
                _ => backlog.wake.wait().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use net::api::Status;

    use super::*;

    #[test]
    fn large_answers_are_refused_while_too_many_bytes_are_on_their_way_to_other_cores() {
        let (mesh, half) = (Mesh::new(2, None, Counter::default()), vec![7; MESH_ANSWER_BYTES_MAX / 2]);
        let has_passed = |answer: &MeshAnswer| answer.part().is_ok_and(|part| part.bytes().is_some());
        let last = |bytes| mesh.answer(Part::Last(Ok(bytes)));
        let (first, second) = (last(&half), mesh.answer(Part::More(&half)));
        assert!(has_passed(&first) && has_passed(&second), "exactly the limit");
        let (large, small) = (&half[..MESH_SMALL_ANSWER_BYTES + 1], &half[..MESH_SMALL_ANSWER_BYTES]);
        let (refused, lost) = (last(large), mesh.answer(Part::More(large)));
        assert!(matches!(refused.part(), Ok(Part::Last(Err(Refusal { status: Status::Overloaded, .. })))));
        assert!(matches!(lost.part(), Err(Refusal { status: Status::Overloaded, .. })), "the rest counts for nothing");
        assert!(has_passed(&last(small)) && has_passed(&mesh.answer(Part::More(small))), "small ones always pass");
        drop(second);
        assert!(has_passed(&last(&half)), "whoever took an answer makes room");
        drop((first, refused));
        assert_eq!((mesh.under_way_bytes.load(Ordering::Relaxed), mesh.answers_dropped.get()), (0, 2));
    }
}
