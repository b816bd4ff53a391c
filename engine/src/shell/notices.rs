//! What people are told of a shard, once: who leads it, which members are connected; and that nodes turn out to
//! be new, to have lost data, or to need a state. Decides nothing.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::disk_notices::DiskNotices;
use super::limits::{NEW_NODE_LOOKS, NO_LEADER_SAID_AFTER};
use super::said::{Complaint, Said};
use crate::raft::{HandOverEnd, LeadershipStep, LostView, Nonsense};
use crate::replica::{Remark, ReplicaView};
use crate::types::{NodeId, ShardId, Term};

/// What the members are called, for people. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(Arc<BTreeMap<NodeId, String>>);

impl Names {
    /// The names of members.
    #[must_use]
    pub(super) fn new(names: impl Iterator<Item = (NodeId, String)>) -> Self {
        Self(Arc::new(names.collect()))
    }

    /// A member by its name, or by its id if the settings do not name it.
    #[must_use]
    pub(super) fn of(&self, node: NodeId) -> Named<'_> {
        Named { node, name: self.0.get(&node) }
    }
}

/// A member, as people read it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'a> {
    node: NodeId,
    name: Option<&'a String>,
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => write!(f, "{name} ({})", self.node),
            None => write!(f, "{}", self.node),
        }
    }
}

/// What was told of a shard so far.
#[derive(Debug)]
pub(super) struct Notices {
    shard: ShardId,
    names: Names,
    told: RefCell<Told>,
    /// What peers say may change with each of their messages.
    said: Said,
    pub(super) disk: DiskNotices,
}

#[derive(Debug, Default)]
struct Told {
    /// The term and the leader that were told last.
    leader: Option<(Term, NodeId)>,
    /// Since when no leader has been known, and whether that was told.
    leaderless: Option<(Instant, bool)>,
    connected: BTreeSet<NodeId>,
    /// Members that could not be reached since they were last connected.
    unreachable: BTreeSet<NodeId>,
    waiting: Option<String>,
    /// Looks since this node was first seen to be new.
    waited_count: u64,
    lost: LostView,
    needs_state: Vec<NodeId>,
}

impl Notices {
    /// Nothing was told of the shard yet.
    #[must_use]
    pub(super) fn new(shard: ShardId, names: Names) -> Self {
        Self { shard, names, told: RefCell::default(), said: Said::default(), disk: DiskNotices::new(shard) }
    }

    /// All connections with a member are up, or one of them broke.
    pub(super) fn connected(&self, node: NodeId, is_connected: bool) {
        let shard = self.shard;
        let mut told = self.told.borrow_mut();
        if is_connected {
            told.unreachable.remove(&node);
        }
        let is_new = if is_connected { told.connected.insert(node) } else { told.connected.remove(&node) };
        if !is_new {
            return;
        }
        let Some(left_out) = self.said.may_say(Complaint::Link) else { return };
        let member = self.names.of(node);
        if is_connected {
            tracing::info!(%shard, %member, left_out, "connected to a member");
        } else {
            tracing::info!(%shard, %member, left_out, "lost the connection to a member");
        }
    }

    /// Members with which all connections are up.
    pub(super) fn connected_count(&self) -> usize {
        self.told.borrow().connected.len()
    }

    /// A connection to a member could not be made.
    pub(super) fn unreachable(&self, node: NodeId, reason: &dyn fmt::Display) {
        if !self.told.borrow_mut().unreachable.insert(node) {
            return;
        }
        let Some(left_out) = self.said.may_say(Complaint::Link) else { return };
        tracing::info!(
            shard = %self.shard,
            member = %self.names.of(node),
            %reason,
            left_out,
            "cannot connect to a member; trying again until it answers"
        );
    }

    /// Logs what people should know. Complaints about peers are bounded in number; how leadership changes hands is rare, and what
    /// one wants to know when clients had to wait.
    pub(super) fn tell(&self, remark: &Remark) {
        let id = self.shard;
        match remark {
            Remark::CorruptAppend { from, error } => {
                if let Some(left_out) = self.said.may_say(Complaint::CorruptAppend) {
                    tracing::warn!(shard = %id, from = %self.names.of(*from), %error, left_out, "an AppendEntries was not taken");
                }
            }
            Remark::Nonsense { from, error } => {
                let Some(left_out) = self.said.may_say(Complaint::Nonsense) else { return };
                match error {
                    Nonsense::OtherHistory(_) | Nonsense::CutsOwnTerm { .. } => {
                        tracing::error!(shard = %id, from = %self.names.of(*from), %error, left_out, "a peer's log has another history");
                    }
                    error => {
                        tracing::warn!(shard = %id, from = %self.names.of(*from), %error, left_out, "a message of a peer makes no sense")
                    }
                }
            }
            Remark::Leadership(step) => {
                let Some(left_out) = self.said.may_say(Complaint::Leadership) else { return };
                match step {
                    LeadershipStep::Ended { end: HandOverEnd::OutOfTime { .. } | HandOverEnd::Deposed, .. } => {
                        tracing::warn!(shard = %id, left_out, "{step}");
                    }
                    step => tracing::info!(shard = %id, left_out, "{step}"),
                }
            }
            Remark::NoLearner(error) => tracing::warn!(shard = %id, %error, "no learner was added"),
            Remark::NoTransfer { to, error } => {
                if let Some(left_out) = self.said.may_say(Complaint::Leadership) {
                    tracing::warn!(shard = %id, to = %self.names.of(*to), %error, left_out, "leadership stays");
                }
            }
        }
    }

    /// Tells who leads now, or that nobody does for some time.
    fn look_at_leader(&self, told: &mut Told, view: &ReplicaView, now: Instant) {
        let shard = self.shard;
        let Some(leader) = view.leader else {
            // Whoever is new or under repair says what it waits for.
            let takes_part = view.birth.is_none() && view.repair.is_none();
            let (since, was_told) = told.leaderless.get_or_insert((now, false));
            if takes_part && !*was_told && now.saturating_duration_since(*since) >= NO_LEADER_SAID_AFTER {
                *was_told = true;
                let connected = ListOf(&self.names, &told.connected);
                tracing::warn!(
                    %shard,
                    term = %view.term,
                    %connected,
                    "no leader is known: requests wait or are refused until a majority of the members elects one"
                );
            }
            return;
        };
        let leaderless = told.leaderless.take();
        if told.leader == Some((view.term, leader)) && leaderless.is_none_or(|(_, was_told)| !was_told) {
            return;
        }
        told.leader = Some((view.term, leader));
        let Some(left_out) = self.said.may_say(Complaint::Leadership) else { return };
        let (term, leader) = (view.term, self.names.of(leader));
        let without_ms = leaderless.map_or(0, |(since, _)| now.saturating_duration_since(since).as_millis() as u64);
        if view.is_leader {
            tracing::info!(%shard, %term, without_ms, left_out, "this node leads the shard");
        } else {
            tracing::info!(%shard, %term, %leader, without_ms, left_out, "another node leads the shard");
        }
    }

    /// Tells what is new in a view.
    pub(super) fn look_at(&self, view: &ReplicaView) {
        let shard = self.shard;
        self.disk.look_at(view);
        let mut told = self.told.borrow_mut();
        self.look_at_leader(&mut told, view, Instant::now());
        let waiting = view.birth.as_ref().map(ToString::to_string);
        if waiting != told.waiting {
            match (&waiting, &view.repair) {
                (Some(waiting), _) => tracing::info!(%shard, "{waiting}"),
                (None, None) => tracing::info!(%shard, "this node is one of the founders of its cluster"),
                (None, Some(_)) => tracing::error!(
                    %shard,
                    "the data directory was empty, but the cluster knows this node: it comes back as a node under repair, and \
                     gets everything back from the others"
                ),
            }
        }
        if let Some(waiting) = &waiting {
            told.waited_count += 1;
            if told.waited_count == NEW_NODE_LOOKS {
                tracing::warn!(%shard, "{waiting}; until it has heard from all of them it takes no part");
            }
        }
        told.waiting = waiting;
        for node in view.needs_state.iter().filter(|node| !told.needs_state.contains(node)) {
            let Some(left_out) = self.said.may_say(Complaint::Lost) else { continue };
            tracing::warn!(
                %shard,
                member = %self.names.of(*node),
                left_out,
                "a node lacks entries that this leader's log does not reach back to; it is sent nothing until it has a state that \
                 lies within the log"
            );
        }
        told.needs_state.clone_from(&view.needs_state);
        if view.lost != told.lost {
            if let Some(left_out) = self.said.may_say(Complaint::Lost) {
                self.tell_lost(&told.lost, &view.lost, left_out);
            }
            told.lost.clone_from(&view.lost);
        }
    }

    /// Tells which nodes say now that they lost data, and which do not any more.
    fn tell_lost(&self, before: &LostView, now: &LostView, left_out: u64) {
        let shard = self.shard;
        if now.is_majority {
            return tracing::error!(%shard, left_out, "{now}");
        }
        // This node itself under repair is told of where it starts.
        for node in now.nodes.iter().filter(|node| !before.nodes.contains(node)) {
            let member = self.names.of(*node);
            tracing::warn!(%shard, %member, left_out, "a node lost data; it is getting it back");
        }
        for node in before.nodes.iter().filter(|node| !now.nodes.contains(node)) {
            let member = self.names.of(*node);
            tracing::info!(%shard, %member, left_out, "a node says no more that it lost data");
        }
    }
}

/// Members, as people read a list of them.
struct ListOf<'a>(&'a Names, &'a BTreeSet<NodeId>);

impl fmt::Display for ListOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.1.is_empty() {
            return f.write_str("no other member");
        }
        for (number, node) in self.1.iter().enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            write!(f, "{comma}{}", self.0.of(*node))?;
        }
        Ok(())
    }
}
