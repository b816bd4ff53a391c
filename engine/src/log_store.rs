//! The log as Raft sees it: positions, terms and sizes of entries.
//!
//! Also names the kinds of entries. It reads; appending is the replica's, syncing the shell's.

use wal::{EntryKind, Log, Storage};

use crate::raft::LogView;
use crate::types::{EntryId, Index, Term};

/// An entry that carries nothing: a leader's first, which lets it commit what came before (thesis 6.4, 3.6.2).
pub const KIND_NOOP: EntryKind = EntryKind::new(1);

/// An entry that carries a batch of commands.
pub const KIND_COMMANDS: EntryKind = EntryKind::new(2);

impl<S: Storage> LogView for Log<S> {
    fn first_index(&self) -> Index {
        Self::first_index(self)
    }

    fn base(&self) -> EntryId {
        Self::base(self)
    }

    fn last_id(&self) -> EntryId {
        Self::last_id(self)
    }

    fn term(&self, index: Index) -> Option<Term> {
        Self::term(self, index)
    }

    fn persisted_index(&self) -> Index {
        Self::persisted_index(self)
    }

    fn entry_bytes(&self, index: Index) -> u64 {
        Self::entry_bytes(self, index)
    }

    fn is_forming(&self) -> bool {
        self.batch_id().is_some()
    }

    fn is_resident(&self, first: Index, last: Index) -> bool {
        Self::is_resident(self, first, last)
    }
}
