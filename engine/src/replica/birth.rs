//! A replica whose log is new: makes durable what Raft learned about it.

use wal::Storage;

use super::{Action, Fault, RepairOptions, Replica};
use crate::raft::{BirthRecord, Stage};

/// What `status` says was damaged on a node that came back with nothing.
pub const DIRECTORY_GONE: &str = "its whole data directory was gone";

impl<S: Storage> Replica<S> {
    /// Asks for the record to be made durable; stops where the node would need a repair that nobody can do.
    pub(super) fn persist_birth(&mut self, record: BirthRecord) {
        let membership = self.raft.membership();
        if record.stage == Stage::Replaced && !membership.can_repair() {
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
        let nonce = self.options.nonce;
        if self.options.birth.stage == Stage::Replaced {
            let damage = DIRECTORY_GONE.to_owned();
            self.options.repair = Some(RepairOptions { nonce, hard_state_is_certain: false, damage });
        }
        self.raft.on_birth_persisted(nonce);
        self.after_raft();
    }
}
