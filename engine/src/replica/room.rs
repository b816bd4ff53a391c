//! What a follower looks at before it verifies a leader's entries: sender, term, position, and room in the log.
//!
//! A checksum costs more than all of these together, and a log without room would verify the same entries again and again.

use wal::Storage;

use super::Replica;
use super::event::Remark;
use crate::entries_error::EntriesError;
use crate::raft::AppendEntries;
use crate::types::NodeId;
use crate::wire;

impl<S: Storage> Replica<S> {
    /// Whether the entries of an `AppendEntries` are to be verified and appended. If not, Raft knows what to answer.
    ///
    /// What the entries announce of themselves is not verified yet: it decides about room alone.
    #[must_use]
    pub(super) fn admit_append(&mut self, from: NodeId, append: &AppendEntries, entries: &[u8]) -> bool {
        if !self.raft.admit_append(from, append, &self.log) {
            return false;
        }
        let limit = self.log.payload_limit_bytes();
        if let Some((id, got)) = wire::announced_entries(entries).find(|(_, payload_len)| *payload_len > limit) {
            // No segment will ever have room for it, and stopping would not help either: the rest of the cluster goes on.
            self.stats.appends_without_room += 1;
            self.tell(Remark::CorruptAppend { from, error: EntriesError::TooLarge { index: id.index, got, limit } });
            self.raft.on_no_room(append, &self.log);
            return false;
        }
        let has_room = self.log.has_room_for(wire::announced_entries(entries).map(|(_, payload_len)| payload_len));
        // What the log holds already needs no room, and is acknowledged again.
        if has_room || wire::announced_entries(entries).all(|(id, _)| self.log.term(id.index) == Some(id.term)) {
            return true;
        }
        mark!("replica: there is no room for entries");
        self.device.segment.on_missed(self.now_tick);
        self.stats.appends_without_room += 1;
        self.raft.on_no_room(append, &self.log);
        false
    }
}
