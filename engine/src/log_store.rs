//! The log as Raft sees it: positions, terms and sizes of entries.
//!
//! Also names the kinds of entries, and says of each whether a state machine could apply it. It reads; appending is the replica's,
//! syncing the shell's.

use api::command;
use codec::DecodeError;
use wal::{EntryKind, Log, Storage};

use crate::raft::{LogView, MEMBERSHIP_BYTES_MAX, Membership};
use crate::state_machine::batch;
use crate::types::{EntryId, Index, Term};

/// An entry that carries nothing: a leader's first, which lets it commit what came before (thesis 6.4, 3.6.2).
pub const KIND_NOOP: EntryKind = EntryKind::new(1);

/// An entry that carries a batch of commands.
pub const KIND_COMMANDS: EntryKind = EntryKind::new(2);

/// An entry that says who the members are from there on.
pub const KIND_MEMBERS: EntryKind = EntryKind::new(3);

const _: () = assert!(MEMBERSHIP_BYTES_MAX <= wal::origin::MEMBERS_BYTES_MAX, "every segment keeps room for it");

/// No state machine of this version can apply an entry, so that it must not enter the log: once committed, it would stop every node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// Its kind is none of ours.
    #[error("its kind {0:?} is unknown to this version; run the same version of quorate on every node")]
    Kind(EntryKind),
    /// A no-op with a payload.
    #[error("it is a no-op and carries {0} bytes")]
    NoopWithPayload(usize),
    /// Its batch, or a command of it, does not follow the format.
    #[error("its commands cannot be read: {0}; run the same version of quorate on every node")]
    Commands(#[from] DecodeError),
    /// It says who the members are, in a way that this version does not know.
    #[error("what it says of the members cannot be read: {0}; run the same version of quorate on every node")]
    Members(DecodeError),
    /// It changes who votes.
    #[error(
        "it changes who the voters are, which this version does not do; run the same version of quorate on every node"
    )]
    OtherVoters,
    /// It names no log of a member as of itself, or one as of a later entry.
    #[error("what it says of the members' logs is not what an entry in its place can say")]
    OtherNames,
}

/// Whether a state machine can apply an entry: whoever appends what came from outside asks this first. Its checksum proves only that it
/// arrived as it was sent.
///
/// # Errors
/// Why it cannot.
pub fn check_form(kind: EntryKind, payload: &[u8]) -> Result<(), FormError> {
    match kind {
        KIND_NOOP if payload.is_empty() => Ok(()),
        KIND_NOOP => Err(FormError::NoopWithPayload(payload.len())),
        KIND_COMMANDS => {
            for batched in batch::commands_of(payload)? {
                command::decode(batched?.command)?;
            }
            Ok(())
        }
        KIND_MEMBERS => membership_of(kind, payload).map(drop),
        kind => Err(FormError::Kind(kind)),
    }
}

/// What an entry says of the members, if it is one that does.
///
/// # Errors
/// It says it in a way that this version does not know.
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
