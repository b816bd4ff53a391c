//! Requests whose leader is gone. They are answered once that is certain, not only when their time is up.
//!
//! What was passed on or appended may still take effect; the answers say so. A leader that hands over answers what it took
//! itself, so nothing is given up before an election timeout has passed since. Nothing here decides who leads.

use net::api::Status;
use wal::Storage;

use super::Replica;
use crate::call::Refusal;
use crate::types::NodeId;

/// Who leads, and since when.
#[derive(Debug, Default)]
pub(super) struct LeaderWatch {
    leader: Option<NodeId>,
    since_tick: u64,
}

impl LeaderWatch {
    /// Notes who leads; returns true if that has not changed for `ticks`.
    const fn is_steady(&mut self, leader: Option<NodeId>, now_tick: u64, ticks: u64) -> bool {
        assert!(now_tick >= self.since_tick, "ticks only rise");
        let is_same = match (self.leader, leader) {
            (Some(before), Some(now)) => before.get() == now.get(),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !is_same {
            *self = Self { leader, since_tick: now_tick };
        }
        now_tick >= self.since_tick + ticks
    }
}

impl<S: Storage> Replica<S> {
    /// Answers what was passed on to a node that has not led for an election timeout. The same for what this node appended as the
    /// leader, if it has not learned by then what became of it: nobody leads, or what the next leader says does not get through to
    /// this node, or that leader finds no quorum. A leader with another history is none.
    pub(super) fn answer_lost_requests(&mut self) {
        let leader = self.raft.leader_of_one_history();
        let ticks = u64::from(self.options.raft.election_ticks);
        if !self.leader_watch.is_steady(leader, self.now_tick, ticks) {
            return;
        }
        for relayed in self.waiting.relays.take_all_but_to(leader) {
            mark!("replica: a leader was lost before it answered");
            self.refuse_relayed(&relayed, Status::Unavailable, "the leader was lost before it answered");
        }
        if leader == Some(self.options.raft.id) {
            return;
        }
        if leader.is_none() {
            self.refuse_unasked_reads();
        }
        let mut lost = Vec::new();
        // What comes before is about to be answered.
        self.waiting.writes.give_up_after(self.may_apply(), |origin| lost.push(origin));
        for origin in lost {
            mark!("replica: the outcome of a deposed leader's write is unknown" if leader.is_none());
            mark!("replica: a deposed leader does not learn from the next one what became of a write" if leader.is_some());
            let message =
                "this node lost its leadership and did not learn what became of the write; it may still take effect";
            self.refuse(origin, Refusal::unknown(Status::Unavailable, message));
        }
    }
}
