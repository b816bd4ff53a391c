//! Reads that a follower answers itself: which they are, and what becomes of them when its leader is lost or the node lags behind.
//!
//! A follower asks its leader for an index alone (`raft::asking`) and answers once it has applied that, from its own state; so leaders
//! ship no answers. What it cannot answer in this way is passed on to the leader as a whole: calls of a node under repair, of one that
//! has not applied again what it showed before, and of one that lags behind.

use net::api::Status;
use wal::Storage;

use super::Replica;
use super::turns::Read;
use crate::call::{Call, Origin, Refusal};
use crate::types::{Index, NodeId};

/// Whether this node's state lags behind its leader's by more than a moment.
#[derive(Debug, Default)]
pub(super) struct LagWatch {
    /// The first index that a confirmed read was last seen to wait for.
    awaited: Option<Index>,
    /// Since when that is the first. Unit: ticks.
    since_tick: u64,
    /// A read waited for too long, and the node has not caught up since.
    is_behind: bool,
}

impl LagWatch {
    /// Notes the first index that is waited for; returns true if it has been the same for `ticks`.
    fn is_late(&mut self, awaited: Option<Index>, now_tick: u64, ticks: u64) -> bool {
        assert!(now_tick >= self.since_tick, "ticks only rise");
        if self.awaited != awaited {
            (self.awaited, self.since_tick) = (awaited, now_tick);
        }
        awaited.is_some() && now_tick >= self.since_tick + ticks
    }
}

impl<S: Storage> Replica<S> {
    /// Whether this follower answers a read itself. What another node passed on it does not: that node took it for the leader.
    #[must_use]
    pub(super) fn reads_here(&mut self, origin: Origin, call: &Call<'_>, leader: Option<NodeId>) -> bool {
        let is_own = matches!(origin, Origin::Local(_) | Origin::Internal(_) | Origin::Part(_));
        !call.kind.writes()
            && is_own
            && leader.is_some_and(|leader| self.connected.contains(&leader))
            && self.standing.takes_part()
            && !self.raft.is_under_repair()
            && self.raft.leader_of_one_history().is_some()
            && self.shows_own_state()
            && !self.is_behind()
    }

    /// It was found to lag behind and has not caught up since.
    fn is_behind(&mut self) -> bool {
        self.lag_watch.is_behind &= self.machine.applied_index() < self.raft.told_commit_index();
        self.lag_watch.is_behind
    }

    /// Part of a turn: asks about the reads that wait for it, with one question for all.
    pub(super) fn ask_about_reads(&mut self) {
        if self.waiting.reads.has_unasked() {
            self.ask_about_unasked();
        }
        if self.raft.ask_about_reads() {
            self.stats.read_questions += 1;
            self.after_raft();
        }
    }

    /// Reads whose leader was lost are asked about again as soon as there is a leader that can be asked.
    fn ask_about_unasked(&mut self) {
        let Some(leader) = self.raft.leader_of_one_history() else { return };
        let can_ask = leader == self.options.raft.id || self.connected.contains(&leader);
        for read in self.waiting.reads.take_unasked() {
            if can_ask {
                mark!("replica: a read is asked about again");
                self.ask_about(read);
            } else {
                let message = "the connection to the leader broke before it confirmed the read; try again";
                self.refuse(read.origin, Refusal::not_executed(Status::Unavailable, message));
            }
        }
    }

    /// Raft gave up a read. A node that passed it on asks elsewhere; what came in here is asked about again.
    pub(super) fn on_read_failed(&mut self, id: u64) {
        if let Some(read) = self.waiting.reads.fail(id) {
            self.take_back(read);
        }
    }

    /// This node has parted from its leader, which has another history. What that leader said of reads counts no more: none of them may be
    /// answered once this node has applied entries of another leader up to the index.
    pub(super) fn take_back_reads_after_parting(&mut self) {
        if !self.has_parted() {
            return;
        }
        assert!(self.raft.leader() != Some(self.options.raft.id), "a leader parts from nobody");
        for read in self.waiting.reads.take_awaiting(self.machine.applied_index()) {
            self.take_back(read);
        }
    }

    /// The leader that this node hears has another history.
    pub(super) fn has_parted(&self) -> bool {
        let (heard, followed) = (self.raft.leader(), self.raft.leader_of_one_history());
        assert!(followed.is_none() || followed == heard, "{followed:?} is followed, and {heard:?} is heard");
        heard != followed
    }

    /// A read is not confirmed, or not any more.
    fn take_back(&mut self, read: Read) {
        if let Origin::Peer { .. } = read.origin {
            let message = "the leader changed before it could confirm the read; try again";
            self.refuse(read.origin, Refusal::not_executed(Status::Unavailable, message));
        } else {
            self.waiting.reads.put_aside(read);
        }
    }

    /// Nobody has led for an election timeout.
    pub(super) fn refuse_unasked_reads(&mut self) {
        for read in self.waiting.reads.take_unasked() {
            mark!("replica: nobody leads who could confirm a read");
            let message = "the leader was lost before it confirmed the read, and there is no other yet; try again";
            self.refuse(read.origin, Refusal::not_executed(Status::Unavailable, self.with_lost_nodes(message)));
        }
    }

    /// Passes reads on to the leader that have waited for this node's own state for too long: it lags behind, and may do so for long.
    pub(super) fn pass_on_late_reads(&mut self) {
        let leader = self.raft.leader_of_one_history();
        let can_pass_on = self.standing.takes_part() && leader.is_some_and(|leader| self.connected.contains(&leader));
        let applied = self.machine.applied_index();
        let awaited = self.waiting.reads.first_awaited(applied);
        let ticks = u64::from(self.options.raft.answer_ticks());
        if !self.lag_watch.is_late(awaited, self.now_tick, ticks) || !can_pass_on {
            return;
        }
        self.lag_watch.is_behind = true;
        for mut read in self.waiting.reads.take_awaiting(applied) {
            mark!("replica: a node that lags behind passes reads on");
            read.call.meta.timeout_ms = self.ms_until(read.deadline_tick);
            self.relay(read.origin, read.call, leader);
        }
    }
}
