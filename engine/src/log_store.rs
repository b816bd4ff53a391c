//! Connects Raft with the log on disk: through `LogView`, Raft reads positions, terms and sizes of entries from a `wal::Log`.
//!
//! Also defines the kinds of entries and checks whether an entry can be applied. Nothing here writes: the replica appends entries, and
//! the shell syncs them.

use api::command;
use codec::DecodeError;
use wal::{EntryKind, Log, Storage};

use crate::raft::{LogView, MEMBERSHIP_BYTES_MAX, Membership};
use crate::state_machine::batch;
use crate::types::{EntryId, Index, Lineage, Term};

/// An entry without a payload. It is a leader's first: when it is committed, so is every entry before it (thesis 3.6.2), and the leader
/// knows enough to confirm reads (thesis 6.4).
pub const KIND_NOOP: EntryKind = EntryKind::new(1);

/// An entry that carries a batch of commands.
pub const KIND_COMMANDS: EntryKind = EntryKind::new(2);

/// An entry that holds a membership: who the members are from this entry on, and which of their logs count.
pub const KIND_MEMBERS: EntryKind = EntryKind::MEMBERS;

const _: () = assert!(MEMBERSHIP_BYTES_MAX <= wal::limits::MEMBERS_BYTES_MAX, "every segment keeps room for it");

/// Why an entry must not enter the log. Either this version cannot apply it, so that it would stop every node once it is committed; or
/// its membership breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// This version does not know its kind.
    #[error("its kind {0:?} is unknown to this version; run the same version of quorate on every node")]
    Kind(EntryKind),
    /// A no-op with a payload.
    #[error("it is a no-op and carries {0} bytes")]
    NoopWithPayload(usize),
    /// Its batch, or a command of it, does not follow the format.
    #[error("its commands cannot be read: {0}; run the same version of quorate on every node")]
    Commands(#[from] DecodeError),
    /// A command of it belongs to a session. The replica finds this, not `check_form`.
    #[error(
        "a command of it belongs to a session, and this version has none; run the same version of quorate on every node"
    )]
    Sender,
    /// Its payload is not a membership that this version can read.
    #[error("what it says of the members cannot be read: {0}; run the same version of quorate on every node")]
    Members(DecodeError),
    /// Its membership changes who votes, or drops a member. The replica finds this, not `check_form`.
    #[error(
        "it changes who the voters are or drops a member, which this version does not do; run the same version of quorate on every node"
    )]
    ChangedRoles,
    /// Its membership must name exactly one log as of this entry, and none as of a later one (`Membership::is_of_entry`). It does not.
    /// `wire::parse_entries` finds this, not `check_form`.
    #[error("what it says of the members' logs is not what an entry in its place can say")]
    OtherNames,
    /// Its membership must repeat every log that the entries before it named, but for the one that it names itself
    /// (`Membership::repeats_names_of`). It does not. The replica finds this, not `check_form`.
    #[error("it leaves out or changes which logs of the members count by the entries before it, which no leader does")]
    ForgottenNames,
}

/// Checks that an entry can be applied; says whether it holds a command that has a sender, which a state without sessions cannot apply.
/// An entry from another node must pass before it is appended: its checksum proves only that it arrived as it was sent.
///
/// # Errors
/// The entry cannot be applied; the error says why.
pub fn check_form(kind: EntryKind, payload: &[u8]) -> Result<bool, FormError> {
    match kind {
        KIND_NOOP if payload.is_empty() => Ok(false),
        KIND_NOOP => Err(FormError::NoopWithPayload(payload.len())),
        KIND_COMMANDS => {
            let mut has_senders = false;
            for batched in batch::commands_of(payload)? {
                let batched = batched?;
                command::decode(batched.command)?;
                has_senders |= batched.sender.is_some();
            }
            Ok(has_senders)
        }
        KIND_MEMBERS => membership_of(kind, payload).map(|_| false),
        kind => Err(FormError::Kind(kind)),
    }
}

/// Reads the membership that an entry holds; `None` if the entry is of another kind.
///
/// # Errors
/// The payload is not a membership that this version can read.
pub(crate) fn membership_of(kind: EntryKind, payload: &[u8]) -> Result<Option<Membership>, FormError> {
    let is_one = kind == KIND_MEMBERS;
    is_one.then(|| Membership::decode(payload).map_err(FormError::Members)).transpose()
}

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

    fn lineage(&self, index: Index) -> Option<Lineage> {
        Self::lineage(self, index)
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
