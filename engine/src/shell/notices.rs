//! What people are told of a shard, once: who leads it, which members are connected; and that nodes turn out to
//! be new, to have lost data, or to need a state. Decides nothing.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use super::disk_notices::DiskNotices;
use super::limits::{FROZEN_SAID_AFTER, NEW_NODE_LOOKS, NO_LEADER_SAID_AFTER};
use super::names::Names;
use super::run_queue::ThreadTimes;
use super::said::{Complaint, Said};
use crate::raft::{HandOverEnd, LeadershipStep, LostView, Nonsense};
use crate::replica::{Remark, ReplicaView};
use crate::types::{NodeId, ShardId, Term};

/// What was told of a shard so far.
#[derive(Debug)]
pub(super) struct Notices {
    shard: ShardId,
    names: Names,
    /// Length of a tick. Unit: ms.
    tick_ms: u64,
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
    /// The leader of the last look, and for how long nothing had been heard of it then. Unit: ms.
    known: Option<Known>,
    connected: BTreeSet<NodeId>,
    /// Members that could not be reached since they were last connected.
    unreachable: BTreeSet<NodeId>,
    waiting: Option<String>,
    /// Looks since this node was first seen to be new.
    waited_count: u64,
    lost: LostView,
    needs_state: Vec<NodeId>,
    /// Followers that are connected, and of which nothing is heard.
    silent: BTreeSet<NodeId>,
}

/// A leader, as a look found it.
#[derive(Clone, Copy, Debug)]
struct Known {
    leader: NodeId,
    is_this_node: bool,
    /// For how long nothing had been heard of it. Unit: ms.
    silent_ms: u64,
}

impl Notices {
    /// Nothing was told of the shard yet.
    #[must_use]
    pub(super) fn new(shard: ShardId, names: Names, tick_ms: u64) -> Self {
        Self { shard, names, tick_ms, told: RefCell::default(), said: Said::default(), disk: DiskNotices::new(shard) }
    }

    /// All connections with a member are up.
    pub(super) fn connected(&self, node: NodeId) {
        let mut told = self.told.borrow_mut();
        told.unreachable.remove(&node);
        if !told.connected.insert(node) {
            return;
        }
        let Some(left_out) = self.said.may_say(Complaint::Link) else { return };
        tracing::info!(shard = self.shard.get(), member = %self.names.of(node), left_out, "connected to a member");
    }

    /// A connection with a member broke.
    pub(super) fn disconnected(&self, node: NodeId, reason: &dyn fmt::Display) {
        let mut told = self.told.borrow_mut();
        told.silent.remove(&node);
        if !told.connected.remove(&node) {
            return;
        }
        let Some(left_out) = self.said.may_say(Complaint::Link) else { return };
        let member = self.names.of(node);
        tracing::info!(shard = self.shard.get(), %member, %reason, left_out, "lost the connection to a member");
    }

    /// Nothing happened on the shard's core for so long, of which its thread spent this.
    pub(super) fn stood_still(&self, gap: Duration, thread: ThreadTimes) {
        if gap < FROZEN_SAID_AFTER {
            return;
        }
        let Some(left_out) = self.said.may_say(Complaint::Frozen) else { return };
        let ms = |time: Duration| time.as_millis() as u64;
        tracing::warn!(
            shard = self.shard.get(),
            for_ms = ms(gap),
            ran_ms = ms(thread.ran),
            waited_for_processor_ms = ms(thread.waited),
            left_out,
            "this node stood still: it was stopped or its machine paused, it had no processor, or a page of its log waited for the disk"
        );
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
            shard = self.shard.get(),
            member = %self.names.of(node),
            %reason,
            left_out,
            "cannot connect to a member; trying again until it answers"
        );
    }

    /// Logs what people should know. Complaints about peers are bounded in number; how leadership changes hands is rare, and what
    /// one wants to know when clients had to wait.
    pub(super) fn tell(&self, remark: &Remark) {
        let id = self.shard.get();
        match remark {
            Remark::CorruptAppend { from, error } => {
                if let Some(left_out) = self.said.may_say(Complaint::CorruptAppend) {
                    tracing::warn!(shard = id, from = %self.names.of(*from), %error, left_out, "an AppendEntries was not taken");
                }
            }
            Remark::Nonsense { from, error } => {
                let Some(left_out) = self.said.may_say(Complaint::Nonsense) else { return };
                match error {
                    Nonsense::OtherHistory(_) | Nonsense::CutsOwnTerm { .. } => {
                        tracing::error!(shard = id, from = %self.names.of(*from), %error, left_out, "a peer's log has another history");
                    }
                    error => {
                        tracing::warn!(shard = id, from = %self.names.of(*from), %error, left_out, "a message of a peer makes no sense")
                    }
                }
            }
            Remark::Leadership(step) => self.tell_step(step),
            Remark::NoLearner(error) => tracing::warn!(shard = id, %error, "no learner was added"),
            Remark::NoTransfer { to, error } => {
                if let Some(left_out) = self.said.may_say(Complaint::Leadership) {
                    tracing::warn!(shard = id, to = %self.names.of(*to), %error, left_out, "leadership stays");
                }
            }
        }
    }

    /// Tells a step from one leader to the next. Who leads in the end is told when it is seen.
    fn tell_step(&self, step: &LeadershipStep) {
        let shard = self.shard.get();
        let Some(left_out) = self.said.may_say(Complaint::Leadership) else { return };
        match step {
            LeadershipStep::Begun { to, reason, last_index, match_index } => {
                let (to, last_index, match_index) = (self.names.of(*to), last_index.get(), match_index.get());
                tracing::info!(shard, %to, %reason, match_index, last_index, left_out, "handing leadership over");
            }
            LeadershipStep::Told { to, last_index } => {
                let (to, last_index) = (self.names.of(*to), last_index.get());
                tracing::debug!(shard, %to, last_index, left_out, "told the successor to take over");
            }
            LeadershipStep::Ended { to, end, after_ticks } => {
                let (to, after_ms) = (self.names.of(*to), after_ticks.saturating_mul(self.tick_ms));
                match end {
                    HandOverEnd::OutOfTime { .. } | HandOverEnd::Deposed => {
                        tracing::warn!(shard, %to, %end, after_ms, left_out, "the hand-over of leadership ended");
                    }
                    HandOverEnd::Done | HandOverEnd::Replaced => {
                        tracing::info!(shard, %to, %end, after_ms, left_out, "the hand-over of leadership ended");
                    }
                }
            }
            LeadershipStep::Campaigning { term, is_asked } => {
                tracing::debug!(shard, term = term.get(), is_asked, left_out, "asking for votes");
            }
            LeadershipStep::Elected { term } => tracing::debug!(shard, term = term.get(), left_out, "elected"),
            LeadershipStep::Opened { term } => {
                tracing::debug!(shard, term = term.get(), left_out, "the term is open: its first entry is committed");
            }
        }
    }

    /// Tells why a leader is none any more.
    fn look_at_loss(&self, told: &mut Told, view: &ReplicaView) {
        let known =
            view.leader.map(|leader| Known { leader, is_this_node: view.is_leader, silent_ms: view.leader_silent_ms });
        let Some(lost) = std::mem::replace(&mut told.known, known).filter(|_| known.is_none()) else { return };
        let Some(left_out) = self.said.may_say(Complaint::Leadership) else { return };
        let (shard, leader) = (self.shard.get(), self.names.of(lost.leader));
        if lost.is_this_node {
            tracing::info!(shard, left_out, "this node leads the shard no more");
        } else if told.connected.contains(&lost.leader) {
            let silent_ms = lost.silent_ms;
            tracing::info!(shard, %leader, silent_ms, left_out, "gave the leader up: nothing was heard of it");
        } else {
            tracing::info!(shard, %leader, left_out, "gave the leader up: it is not connected");
        }
    }

    /// Tells which followers are silent though they are connected, and which are back.
    fn look_at_followers(&self, told: &mut Told, view: &ReplicaView) {
        let shard = self.shard.get();
        let silent: BTreeSet<NodeId> =
            view.silent.iter().filter(|node| told.connected.contains(node)).copied().collect();
        if silent == told.silent {
            return;
        }
        for node in silent.difference(&told.silent) {
            let Some(left_out) = self.said.may_say(Complaint::Lost) else { continue };
            let member = self.names.of(*node);
            tracing::warn!(shard, %member, left_out, "a follower is silent: it is stopped or hangs, or its messages do not arrive");
        }
        for node in told.silent.difference(&silent).filter(|_| view.is_leader) {
            let Some(left_out) = self.said.may_say(Complaint::Lost) else { continue };
            tracing::info!(shard, member = %self.names.of(*node), left_out, "a follower that was silent is back");
        }
        told.silent = silent;
    }

    /// Tells who leads now, or that nobody does for some time.
    fn look_at_leader(&self, told: &mut Told, view: &ReplicaView, now: Instant) {
        let shard = self.shard.get();
        let Some(leader) = view.leader else {
            // Whoever is new or under repair says what it waits for.
            let takes_part = view.birth.is_none() && view.repair.is_none();
            let (since, was_told) = told.leaderless.get_or_insert((now, false));
            if takes_part && !*was_told && now.saturating_duration_since(*since) >= NO_LEADER_SAID_AFTER {
                *was_told = true;
                let connected = self.names.list(&told.connected);
                tracing::warn!(
                    shard,
                    term = view.term.get(),
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
        let (term, leader) = (view.term.get(), self.names.of(leader));
        let without_ms = leaderless.map_or(0, |(since, _)| now.saturating_duration_since(since).as_millis() as u64);
        if view.is_leader {
            tracing::info!(shard, term, without_ms, left_out, "this node leads the shard");
        } else {
            tracing::info!(shard, term, %leader, without_ms, left_out, "another node leads the shard");
        }
    }

    /// Tells what is new in a view.
    pub(super) fn look_at(&self, view: &ReplicaView) {
        let shard = self.shard.get();
        self.disk.look_at(view);
        let mut told = self.told.borrow_mut();
        self.look_at_loss(&mut told, view);
        self.look_at_leader(&mut told, view, Instant::now());
        self.look_at_followers(&mut told, view);
        let waiting = view.birth.as_ref().map(|birth| self.names.in_words(&birth.to_string()));
        if waiting != told.waiting {
            match (&waiting, &view.repair) {
                (Some(waiting), _) => tracing::info!(shard, "{waiting}"),
                (None, None) => tracing::info!(shard, "this node is one of the founders of its cluster"),
                (None, Some(_)) => tracing::error!(
                    shard,
                    "the data directory was empty, but the cluster knows this node: it comes back as a node under repair, and \
                     gets everything back from the others"
                ),
            }
        }
        if let Some(waiting) = &waiting {
            told.waited_count += 1;
            if told.waited_count == NEW_NODE_LOOKS {
                tracing::warn!(shard, "{waiting}; until it has heard from all of them it takes no part");
            }
        }
        told.waiting = waiting;
        for node in view.needs_state.iter().filter(|node| !told.needs_state.contains(node)) {
            let Some(left_out) = self.said.may_say(Complaint::Lost) else { continue };
            tracing::warn!(
                shard,
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
        let shard = self.shard.get();
        if now.is_majority {
            return tracing::error!(shard, left_out, "{}", self.names.in_words(&now.to_string()));
        }
        // This node itself under repair is told of where it starts.
        for node in now.nodes.iter().filter(|node| !before.nodes.contains(node)) {
            let member = self.names.of(*node);
            tracing::warn!(shard, %member, left_out, "a node lost data; it is getting it back");
        }
        for node in before.nodes.iter().filter(|node| !now.nodes.contains(node)) {
            let member = self.names.of(*node);
            tracing::info!(shard, %member, left_out, "a node says no more that it lost data");
        }
    }
}
