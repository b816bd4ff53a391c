//! Replicas with a new log: has the birth record made durable, puts replacements of lost logs under repair, and says from when on
//! their state is shown to clients.

use std::borrow::Cow;

use wal::Storage;

use super::{Action, Fault, RepairOptions, Replica, ReplicaOptions};
use crate::raft::{BirthRecord, Raft, Stage};

/// What `status` says was damaged on a node that came back with nothing.
pub const DIRECTORY_GONE: &str = "its whole data directory was gone";

/// Puts the replica under repair again if an earlier run of the process was. Call it after `membership::recall`: a repair needs the
/// membership.
///
/// A replica whose record says that it takes the place of a lost one is under repair whatever its log says. Otherwise no other node would
/// ever count its answers.
pub(super) fn begin_repair(options: &mut ReplicaOptions, raft: &mut Raft) {
    let can_repair = raft.membership().can_repair(options.raft.id);
    if options.repair.is_none() && options.birth.stage == Stage::Replaced && can_repair {
        options.repair = Some(RepairOptions::of_replacement(options.raft.life));
    }
    if let Some(repair) = &options.repair {
        raft.begin_repair(repair.nonce, repair.hard_state_is_certain);
    }
}

impl RepairOptions {
    /// Of a log that takes the place of a lost one: nothing is known of what that one promised.
    fn of_replacement(nonce: u64) -> Self {
        Self { nonce, hard_state_is_certain: false, damage: DIRECTORY_GONE.to_owned() }
    }
}

impl<S: Storage> Replica<S> {
    /// Asks for the record to be made durable. Stops the replica if the node needs a repair and the others are no quorum that could
    /// repair it.
    pub(super) fn persist_birth(&mut self, record: BirthRecord) {
        let membership = self.raft.membership();
        if record.stage == Stage::Replaced && !membership.can_repair(self.options.raft.id) {
            let voters_count = membership.voters().len();
            self.stop_with(Fault::Replaced { voters_count });
            return;
        }
        self.options.birth = record.clone();
        self.out.push(Action::PersistBirth(record));
    }

    /// The record is durable: from here on this node takes part.
    pub(super) fn on_birth_persisted(&mut self) {
        assert!(self.options.birth.stage != Stage::New, "a record was made durable that nobody asked for");
        let nonce = self.options.raft.life;
        if self.options.birth.stage == Stage::Replaced {
            self.options.repair = Some(RepairOptions::of_replacement(nonce));
        }
        self.raft.on_birth_persisted(nonce);
        self.after_raft();
    }

    /// Says why there is no leader to pass a call on to: this node is new, nodes have lost their data, or no leader is elected yet.
    pub(super) fn why_no_leader(&self) -> String {
        if self.has_parted() {
            return "this shard has no leader that this node can follow: the one that leads has another history than this node, whose \
                    log says where they part; ask another node"
                .to_owned();
        }
        let reason = self.raft.birth_view().map(|view| view.to_string()).unwrap_or_else(|| {
            self.with_lost_nodes("a majority of its nodes is not reachable, or an election is under way").into_owned()
        });
        format!("this shard has no leader: {reason}")
    }

    /// Appends to a refusal's message which nodes lost their data, if there are any.
    pub(super) fn with_lost_nodes(&self, message: &'static str) -> Cow<'static, str> {
        let lost = self.raft.lost_view();
        if lost.nodes.is_empty() { Cow::Borrowed(message) } else { Cow::Owned(format!("{message}; {lost}")) }
    }

    /// Says why this node does not show its state yet, if its data directory was empty at a start.
    ///
    /// Everything that the lost directory ever showed to clients was committed before the entry that names the new log. So the state is
    /// shown once that entry is applied. A node that does not know yet whether it ever had another directory shows nothing.
    pub(super) fn why_empty(&self) -> Option<String> {
        if let Some(view) = self.raft.birth_view() {
            return Some(format!("{view}; it has nothing to show before: ask another node"));
        }
        let BirthRecord { incarnation, stage } = &self.options.birth;
        // Without an incarnation nothing is known of where the log comes from.
        if matches!(stage, Stage::New | Stage::Founded(_)) || *incarnation == 0 {
            return None;
        }
        let applied = self.machine.applied_index();
        let named = self.raft.membership().named(self.options.raft.id);
        match named.filter(|named| named.incarnation == *incarnation) {
            Some(named) if applied >= named.since => None,
            Some(named) => Some(format!(
                "this node's data directory was empty, and it is getting back what it had: it has applied its log up to entry \
                 {applied}, and shows its state from entry {} on; try again, or ask another node",
                named.since
            )),
            None => Some(format!(
                "this node's data directory was empty, and it is getting back what it had: a leader must take it in first; try \
                 again, or ask another node ({})",
                self.raft.lost_view()
            )),
        }
    }
}
