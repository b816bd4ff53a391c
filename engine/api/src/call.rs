//! What can be asked of a node: one row for each kind of call, with everything that the way from a client to a replica needs to know.
//!
//! A new kind is a variant and a row here, and whoever answers it: the replica, or the client's connection. Nothing in between
//! looks at the variants.

use codec::DecodeError;

use crate::command::{self, CommandError, Limits};
use crate::ids::ShardId;

/// What a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallKind {
    /// Replicate a command and apply it.
    Write,
    /// Answer a range request from state that is current (linearizable).
    Read,
    /// Answer a range request from whatever the node has applied (serializable).
    ReadSerializable,
    /// Describe the node's shards.
    Status,
    /// Hash the shard's state as the node has it, to compare nodes: at equal entries applied all have the same.
    Hash,
}

/// Who answers a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnsweredBy {
    /// The shard's leader; every other node passes the call on to it, or has the leader confirm a read that it answers itself.
    Leader,
    /// The shard on the node that was asked, from what it has.
    Replica,
    /// The node that was asked, for all its shards.
    Node,
}

/// What the payload of a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadForm {
    /// A command. Its keys say which shard it is about.
    Command,
    /// A range request. Every shard has a part of it.
    Range,
    /// There is none.
    Nothing,
}

/// What is known of a kind. The row of a kind never changes within a protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallRow {
    /// Its name, for people.
    pub name: &'static str,
    /// Its number on the wire: the kind of its frame.
    pub number: u16,
    /// It may change the state: without an answer its outcome is unknown, and nobody sends it twice.
    pub writes: bool,
    /// Its answer goes on, part by part, until the client, the node or the connection ends it. Its first part shows that it has begun; from
    /// then on it has no limit in time.
    pub lasts: bool,
    /// Who answers it.
    pub answered_by: AnsweredBy,
    /// What its payload is.
    pub payload: PayloadForm,
}

impl CallKind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Write, Self::Read, Self::ReadSerializable, Self::Status, Self::Hash];

    /// What is known of it.
    #[inline]
    #[must_use]
    pub const fn row(self) -> CallRow {
        use {AnsweredBy as By, PayloadForm as Form};
        let (name, number, writes, lasts, answered_by, payload) = match self {
            Self::Write => ("write", 8, true, false, By::Leader, Form::Command),
            Self::Read => ("read", 9, false, false, By::Leader, Form::Range),
            Self::ReadSerializable => ("serializable read", 10, false, false, By::Replica, Form::Range),
            Self::Status => ("status", 11, false, false, By::Node, Form::Nothing),
            Self::Hash => ("hash", 12, false, false, By::Replica, Form::Nothing),
        };
        CallRow { name, number, writes, lasts, answered_by, payload }
    }

    /// The kind with this number on the wire.
    ///
    /// # Errors
    /// There is none.
    pub fn from_number(number: u16) -> Result<Self, DecodeError> {
        let known = Self::ALL.into_iter().find(|kind| kind.row().number == number);
        known.ok_or(DecodeError::Unknown { what: "the kind of a call", got: number.into() })
    }

    /// True if it may change the state.
    #[inline]
    #[must_use]
    pub const fn writes(self) -> bool {
        self.row().writes
    }

    /// True if its answer goes on until somebody ends it.
    #[inline]
    #[must_use]
    pub const fn lasts(self) -> bool {
        self.row().lasts
    }

    /// Who answers it.
    #[inline]
    #[must_use]
    pub const fn answered_by(self) -> AnsweredBy {
        self.row().answered_by
    }

    /// Checks a payload once, where it enters: form, limits, and that its keys are on one shard, which is returned. `None`: it is
    /// about whatever shard the call names.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(self, payload: &[u8], limits: &Limits) -> Result<Option<ShardId>, CommandError> {
        match self.row().payload {
            PayloadForm::Command => command::validate(payload, limits).map(|info| info.shard),
            PayloadForm::Range => command::validate_range(payload, limits).map(|()| None),
            PayloadForm::Nothing if payload.is_empty() => Ok(None),
            PayloadForm::Nothing => Err(DecodeError::Trailing { what: self.row().name, got: payload.len() }.into()),
        }
    }
}

// What lasts is answered by the shard on the node that was asked. So no node passes on an answer without end: one that is lost in between
// could be neither noticed nor held up. And it changes nothing, so that it may be opened anew whenever it ends.
const _: () = {
    let mut number = 0;
    while number < CallKind::ALL.len() {
        let row = CallKind::ALL[number].row();
        assert!(!row.lasts || (matches!(row.answered_by, AnsweredBy::Replica) && !row.writes));
        number += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_name_one_kind_each() {
        let numbers = CallKind::ALL.map(|kind| kind.row().number);
        assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
        for number in 0..=u16::MAX {
            match CallKind::from_number(number) {
                Ok(kind) => assert_eq!(kind.row().number, number),
                Err(_) => assert!(!numbers.contains(&number)),
            }
        }
    }

    #[test]
    fn what_writes_is_the_leaders() {
        for kind in CallKind::ALL.into_iter().filter(|kind| kind.writes()) {
            assert_eq!(kind.answered_by(), AnsweredBy::Leader, "{kind:?}");
        }
    }

    #[test]
    fn a_kind_without_payload_takes_none() {
        let limits = Limits { request_bytes: 100, txn_ops: 1, shard_count: 1 };
        assert_eq!(CallKind::Status.check(b"", &limits), Ok(None));
        let error = CallKind::Status.check(b"x", &limits).expect_err("a byte too many");
        assert!(error.to_string().contains("status"), "{error}");
    }
}
