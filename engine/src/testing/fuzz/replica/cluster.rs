//! Three honest nodes that hear each other: each message takes a tick, each sync none.

use api::command::{KeyRange, Op, RangeOp, encode_op_command, encode_range};

use crate::call::{Call, CallKind, Origin, Refusal, Ticket};
use crate::raft::Role;
use crate::replica::Event;
use crate::types::NodeId;

use super::node::{Disk, NODES, Node, SHARD, TIMEOUT_MS, node_id};

/// Ticks of the others in one of a node whose clock is slow.
const SLOW_TICK_EVERY: u64 = 5;

/// The nodes, and what is on its way between them.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) nodes: Vec<Node>,
    mail: Vec<(NodeId, NodeId, Vec<u8>)>,
    last_ticket: u64,
    /// What this node says and what is said to it gets lost. Its clock is slow, too, so that a leader does not notice soon that nobody
    /// hears it.
    pub(super) cut_off: Option<NodeId>,
    now_tick: u64,
}

/// The command that writes `value` to the one key.
pub(super) fn put(value: &[u8]) -> Vec<u8> {
    let mut command = Vec::new();
    encode_op_command(&Op::Put { key: b"k", value, lease: 0, prev_kv: false }, &mut command).expect("a valid command");
    command
}

/// The read of the one key.
pub(super) fn range() -> Vec<u8> {
    let mut payload = Vec::new();
    let range = KeyRange { key: b"k", range_end: b"" };
    let op = RangeOp { range, limit: 0, revision: 0, keys_only: false, count_only: false };
    encode_range(&op, &mut payload).expect("a valid range");
    payload
}

impl Cluster {
    /// Starts all nodes on their disks.
    pub(super) fn start(disks: Vec<Disk>, life: u64) -> Result<Self, String> {
        let start = |(number, disk)| Node::start(node_id(number), disk, life);
        let nodes = disks.into_iter().enumerate().map(start).collect::<Result<Vec<_>, _>>()?;
        let mut cluster = Self { nodes, mail: Vec::new(), last_ticket: 0, cut_off: None, now_tick: 0 };
        for node in &mut cluster.nodes {
            let own = node.id;
            for peer in (0..NODES).map(node_id).filter(|peer| *peer != own) {
                node.handle(Event::PeerConnected(peer))?;
            }
        }
        Ok(cluster)
    }

    /// Messages arrive, a tick passes, and everybody does what is to be done.
    pub(super) fn tick(&mut self) -> Result<(), String> {
        for (from, to, bytes) in std::mem::take(&mut self.mail) {
            if self.cut_off.is_some_and(|node| node == from || node == to) {
                continue;
            }
            if let Some(node) = self.nodes.iter_mut().find(|node| node.id == to)
                && !node.hear(from, &bytes)?
            {
                return Err(format!("node {to} cannot read a message of node {from}"));
            }
        }
        self.now_tick += 1;
        for node in &mut self.nodes {
            let is_slow = self.cut_off == Some(node.id);
            if !is_slow || self.now_tick.is_multiple_of(SLOW_TICK_EVERY) {
                node.handle(Event::Tick)?;
            }
            node.settle()?;
            let id = node.id;
            self.mail.extend(node.sent.drain(..).map(|sent| (id, sent.to, sent.bytes)));
        }
        Ok(())
    }

    /// A client of a node writes the ticket that this returns.
    pub(super) fn write(&mut self, number: usize) -> Result<u64, String> {
        self.ask(number, CallKind::Write, &put(&(self.last_ticket + 1).to_le_bytes()))
    }

    /// A client of a node reads.
    pub(super) fn read(&mut self, number: usize) -> Result<u64, String> {
        self.ask(number, CallKind::Read, &range())
    }

    fn ask(&mut self, number: usize, kind: CallKind, payload: &[u8]) -> Result<u64, String> {
        assert!(number < NODES, "there is no node {number}");
        self.last_ticket += 1;
        let origin = Origin::Local(Ticket(self.last_ticket));
        if let Some(node) = self.nodes.get_mut(number) {
            node.handle(Event::Call { origin, call: Call::borrowed(SHARD, kind, TIMEOUT_MS, payload) })?;
        }
        Ok(self.last_ticket)
    }

    /// Takes the answer to a request, if there is one.
    pub(super) fn take_answer(&mut self, ticket: u64) -> Option<Result<Vec<u8>, Refusal>> {
        self.nodes.iter_mut().find_map(|node| {
            let at = node.answers.iter().position(|(answered, _)| *answered == ticket)?;
            Some(node.answers.swap_remove(at).1)
        })
    }

    pub(super) fn leader(&self) -> Option<usize> {
        self.nodes.iter().position(|node| node.replica.view().role == Role::Leader)
    }

    /// Why the nodes are not all level with a leader; one may be left out.
    pub(super) fn disagreement(&self, left_out: Option<usize>) -> Option<String> {
        let nodes =
            || self.nodes.iter().enumerate().filter(|(number, _)| Some(*number) != left_out).map(|(_, node)| node);
        let last = nodes().map(|node| node.replica.log().last_id()).max()?;
        let digest = nodes().next()?.replica.machine().digest();
        nodes().find_map(|node| {
            let view = node.replica.view();
            let is_level = node.replica.log().last_id() == last
                && view.applied_index == last.index
                && view.persisted_index == last.index;
            let takes_part = view.leader.is_some() && view.repair.is_none() && view.birth.is_none();
            let is_fine = is_level && takes_part && node.replica.machine().digest() == digest;
            let fault = node.replica.fault();
            (!is_fine || fault.is_some())
                .then(|| format!("node {} is not level: last is {last}, fault {fault:?}, {view:?}", node.id))
        })
    }

    /// Ends every process.
    pub(super) fn stop(self) -> Vec<Disk> {
        self.nodes.into_iter().map(|node| node.stop(false)).collect()
    }

    /// What the nodes say goes nowhere any more.
    pub(super) fn drop_mail(&mut self) {
        self.mail.clear();
    }
}
