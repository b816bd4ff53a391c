//! What holds between the parts of a replica after every event, in release builds too.
//!
//! Each check compares positions and lengths, and takes the same time however much waits. A check that fails shows a bug of this
//! program: what peers and clients send is refused, and what the device does ends in a fault.

use wal::Storage;

use super::Replica;
use super::standing::Standing;
use crate::raft::Role;

impl<S: Storage> Replica<S> {
    /// Panics if parts of this replica contradict each other.
    pub(super) fn assert_invariants(&self) {
        self.assert_positions();
        self.assert_bounds();
        assert!(self.own.is_told(), "the parts that propose for themselves have heard what became of it");
        match self.standing {
            Standing::TakesPart | Standing::WithoutRoom(_) => self.assert_running(),
            Standing::Stopped { .. } | Standing::Ended => self.assert_stopped(),
        }
    }

    /// base <= applied <= commit <= last, and durable <= end.
    fn assert_positions(&self) {
        let (base, last) = (self.log.base().index, self.log.last_id().index);
        let (applied, commit) = (self.machine.applied_index(), self.raft.commit_index());
        assert!(base <= applied, "applied {applied}, and the log begins behind {base}");
        assert!(applied <= commit, "applied {applied}, and {commit} is committed");
        assert!(commit <= last, "committed {commit}, and the log ends at {last}");
        let persisted = self.log.persisted_index();
        assert!(persisted <= last, "durable up to {persisted}, and the log ends at {last}");
        let (durable, end) = (self.log.durable_lsn(), self.log.end_lsn());
        assert!(durable <= end, "durable up to {durable}, and the log ends at {end}");
    }

    /// Every queue is within its limit.
    fn assert_bounds(&self) {
        let options = &self.options;
        let writes_count = self.waiting.writes.len() + self.proposals.len();
        assert!(writes_count <= options.pending_writes_limit, "{writes_count} writes wait");
        assert!(self.waiting.reads.len() <= options.pending_reads_limit, "{} reads wait", self.waiting.reads.len());
        assert!(
            self.waiting.relays.len() <= options.relayed_limit,
            "{} requests wait for the leader",
            self.waiting.relays.len()
        );
        let queued_bytes = self.proposals.queue.bytes();
        assert!(queued_bytes <= options.queued_write_bytes_limit, "{queued_bytes} bytes of writes wait");
        self.hand_over.assert_bounds();
    }

    /// What holds while this replica has not stopped.
    fn assert_running(&self) {
        let is_forming = self.proposals.next.batch().is_some();
        assert!(
            is_forming == self.log.batch_id().is_some(),
            "the log forms a batch exactly while somebody waits for it"
        );
        let is_leader = self.raft.role() == Role::Leader;
        assert!(is_leader || !is_forming, "only a leader forms a batch");
        assert!(is_leader || self.proposals.queue.is_empty(), "only a leader takes writes");
        let time = self.machine.time();
        assert!(
            self.log_time().is_none_or(|now| now >= time),
            "the log's time is {time:?} already, and its leader is behind"
        );
        assert!(self.log.latched().is_none(), "a log that failed stops its replica");
        let durable = self.log.durable_lsn();
        assert!(self.promises.wait_for_more_than(durable), "what is durable up to {durable} waits for nothing");
    }

    /// A replica that stopped has answered everybody and holds back no message.
    fn assert_stopped(&self) {
        assert!(
            self.proposals.len() == 0 && self.proposals.next.batch().is_none(),
            "writes wait for a stopped replica"
        );
        assert!(self.waiting.writes.len() == 0, "{} writes wait for a stopped replica", self.waiting.writes.len());
        assert!(self.waiting.reads.len() == 0, "{} reads wait for a stopped replica", self.waiting.reads.len());
        assert!(
            self.waiting.relays.len() == 0,
            "{} relayed requests wait for a stopped replica",
            self.waiting.relays.len()
        );
        assert!(self.hand_over.is_empty(), "requests wait for another leader at a stopped replica");
        assert!(self.promises.hold_no_message(), "a stopped replica promises nothing");
    }
}
