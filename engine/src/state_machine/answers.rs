//! What comes of a command: an answer, or why there is none, and what it changed; and how much may be done at once.
//!
//! A refusal follows from the command and the state alone: every replica decides alike, whoever waits and however the work is
//! cut into slices.

use crate::types::{Lsn, Revision};
use api::response::KvView;

/// Why a command has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandRefused {
    /// A read of the transaction asks for a revision that did not exist when its turn came. Nothing was done.
    #[error("required revision {asked} is a future revision, the current one is {current}; nothing of it was done")]
    FutureRevision {
        /// As asked for.
        asked: Revision,
        /// The revision before the command.
        current: Revision,
    },
    /// Its ranges hold too many keys. Nothing was done.
    #[error(
        "its ranges hold more than {limit} keys, deleted ones included, and one command visits no more; nothing of it was \
         done; take smaller ranges, one after the other (quorate del --in-parts does so)"
    )]
    TooManyKeys {
        /// Keys that one command may visit.
        limit: u64,
    },
    /// It was done, but its answer is too large to be given.
    #[error(
        "the write was applied, but its answer has over {bytes_limit} bytes; ask without prev_kv or for fewer keys"
    )]
    AnswerTooLarge {
        /// `BatchHeader::answer_bytes_limit`. Unit: bytes.
        bytes_limit: usize,
    },
    /// It changed nothing, and its answer is too large to be given.
    #[error("the answer has over {bytes_limit} bytes, and nothing was changed; ask for fewer keys")]
    ReadTooLarge {
        /// `BatchHeader::answer_bytes_limit`. Unit: bytes.
        bytes_limit: usize,
    },
}

/// A change of a key.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The revision that it is part of, which is the key's mod revision from here on. A transaction's changes share one, in the order of
    /// its operations.
    pub revision: Revision,
    /// The key.
    pub key: &'a [u8],
    /// What became of it.
    pub kind: ChangeKind,
    /// What it was before; `None` = not there.
    pub before: Option<KvView<'a>>,
}

/// What became of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was written.
    Put {
        /// Where its value stands in this node's log.
        value: ValuePlace,
        /// Revision that created the key.
        create_revision: Revision,
        /// Times the key was written since.
        version: u64,
        /// The lease that it belongs to; 0 = none.
        lease: u64,
    },
    /// It was deleted.
    Delete,
}

/// Where bytes stand in a node's log: its own business, never part of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValuePlace {
    /// The first of them.
    pub lsn: Lsn,
    /// How many there are. Unit: bytes.
    pub len: u32,
}

/// Takes the answers to the commands of a batch, and the changes that they make.
pub trait Answers {
    /// True if somebody waits for the answer to the command at `position`. Otherwise none is made; the state changes all the same.
    fn wants(&mut self, position: usize) -> bool;

    /// Takes the encoded answer to the command at `position`.
    fn take(&mut self, position: usize, answer: Result<&[u8], CommandRefused>);

    /// True if somebody follows the changes. Asked once in a slice. Otherwise none is told, and nothing is looked up for them.
    fn follows_changes(&self) -> bool {
        false
    }

    /// Takes a change, in the order in which changes are made. The answer to its command comes later.
    fn changed(&mut self, _change: &Change<'_>) {}

    /// True if there is room for no further answer now: the slice ends after this command.
    fn is_full(&self) -> bool {
        false
    }
}

/// A closure takes them all.
impl<F: FnMut(usize, Result<&[u8], CommandRefused>)> Answers for F {
    fn wants(&mut self, _position: usize) -> bool {
        true
    }

    fn take(&mut self, position: usize, answer: Result<&[u8], CommandRefused>) {
        self(position, answer);
    }
}

/// What may still be done before other work gets its chance. What is done may exceed it by one step: a key with its value, or
/// counting the keys of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of commands and of answers.
    pub bytes: u64,
    /// Keys visited.
    pub keys: u64,
}

impl Budget {
    /// No bound.
    pub const UNLIMITED: Self = Self { bytes: u64::MAX, keys: u64::MAX };

    /// True if nothing more should be done.
    #[must_use]
    pub const fn is_spent(&self) -> bool {
        self.bytes == 0 || self.keys == 0
    }

    /// Takes off what was done.
    pub const fn spend(&mut self, bytes: u64, keys: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.keys = self.keys.saturating_sub(keys);
    }
}
