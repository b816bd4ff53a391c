//! A call: what somebody asks a shard for, on its way to the replica that answers it; and the parts of the answer.
//!
//! A call is the same value at every step. The gateway makes it from a frame and checks its payload once. The mesh takes it to another
//! core, and a replica passes it on to the leader in the encoding in which it came. So the payload is copied, never decoded and encoded
//! again. Who waits for the answer ([`Origin`]) differs from step to step, and stands beside the call. Nothing here decides anything.

use std::borrow::Cow;

use codec::DecodeError;
use net::api::{Executed, Refused, Request, Status};
use net::frame::FrameKind;

pub use api::call::{AnsweredBy, CallKind};

use crate::state_machine::batch::Sender;
use crate::types::{NodeId, ShardId};

/// Names a call at the gateway that waits for its answer. All that a replica sees in it is which calls have the same asker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Bits of a ticket that number the calls; those above say who asks.
pub(crate) const TICKET_NUMBER_BITS: u32 = 20;

/// Somebody who asks, and takes turns with others who ask: a connection of a client, or a node that passes calls on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asker {
    /// A connection of a client, or a program that embeds this node, by the upper bits of its tickets.
    Local(u64),
    /// A node that passes its clients' calls on.
    Peer(NodeId),
    /// This node itself.
    Internal,
}

/// Who waits for the answer to a call at a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Somebody at this node's gateway: a client's connection, or the program that the node runs in.
    Local(Ticket),
    /// A node that passed its client's call on under a number of its own.
    Peer {
        /// The node.
        node: NodeId,
        /// Its number for the call.
        number: u64,
    },
    /// This node itself, which gives its calls numbers of its own. The answer goes to the shell.
    Internal(u64),
    /// A part of the replica that proposes for itself, by its place (`replica::Proposer`). The answer stays in the replica.
    Part(usize),
}

impl Origin {
    /// Whose turn it is when this call is answered.
    pub(crate) const fn asker(self) -> Asker {
        match self {
            Self::Local(ticket) => Asker::Local(ticket.0 >> TICKET_NUMBER_BITS),
            Self::Peer { node, .. } => Asker::Peer(node),
            Self::Internal(_) | Self::Part(_) => Asker::Internal,
        }
    }
}

/// What every call has, whatever its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The shard that it is about.
    pub shard: ShardId,
    /// How long the answer may take, counted from this step on. Unit: ms.
    pub timeout_ms: u32,
    /// Whose command it is, if it must not be applied twice.
    pub sender: Option<Sender>,
}

/// What somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// What every call has.
    pub meta: Meta,
    /// What it asks for.
    pub kind: CallKind,
    /// Its argument, in the encoding that the kind states. It was checked at the gateway.
    pub payload: Cow<'a, [u8]>,
}

impl<'a> Call<'a> {
    /// A call with a payload that somebody else owns.
    #[must_use]
    pub const fn borrowed(shard: ShardId, kind: CallKind, timeout_ms: u32, payload: &'a [u8]) -> Self {
        Self { meta: Meta { shard, timeout_ms, sender: None }, kind, payload: Cow::Borrowed(payload) }
    }

    /// The call that a frame of a client or a node holds. The payload is not checked.
    ///
    /// # Errors
    /// There is no such kind.
    pub(crate) fn of_request(request: &Request<'a>) -> Result<Self, DecodeError> {
        let kind = CallKind::from_number(request.kind.get())?;
        let call = Self::borrowed(ShardId::new(request.shard), kind, request.timeout_ms, request.payload);
        Ok(call.sent_by(Sender::new(request.session, request.sequence)))
    }

    /// The same, as the command of this sender.
    #[must_use]
    pub const fn sent_by(mut self, sender: Option<Sender>) -> Self {
        self.meta.sender = sender;
        self
    }

    /// The call as it stands in a frame. `id` is the number that whoever sends the frame has for it.
    #[must_use]
    pub fn as_request(&self, id: u64) -> Request<'_> {
        let (kind, shard) = (FrameKind::new(self.kind.row().number), self.meta.shard.get());
        let (session, sequence) = self.meta.sender.map_or((0, 0), |sender| (sender.session(), sender.sequence()));
        Request { id, kind, shard, timeout_ms: self.meta.timeout_ms, session, sequence, payload: &self.payload }
    }

    /// The same with a payload of its own: it can wait.
    #[must_use]
    pub(crate) fn into_owned(self) -> Call<'static> {
        Call { meta: self.meta, kind: self.kind, payload: Cow::Owned(self.payload.into_owned()) }
    }
}

/// A piece of the answer to a call: any number of `More`, then one `Last`. The answer is what they hold, one after the other. If the
/// last one is a refusal, what came before it is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<Bytes, Why = Refusal> {
    /// Others follow.
    More(Bytes),
    /// The answer is whole, or there is none.
    Last(Result<Bytes, Why>),
}

impl<Bytes, Why> Part<Bytes, Why> {
    /// The same, borrowed.
    pub const fn as_ref(&self) -> Part<&Bytes, &Why> {
        match self {
            Self::More(bytes) => Part::More(bytes),
            Self::Last(result) => Part::Last(result.as_ref()),
        }
    }

    /// The same with other bytes.
    pub fn map<Other>(self, other: impl FnOnce(Bytes) -> Other) -> Part<Other, Why> {
        match self {
            Self::More(bytes) => Part::More(other(bytes)),
            Self::Last(result) => Part::Last(result.map(other)),
        }
    }

    /// What it holds; `None` of a refusal.
    pub(crate) fn bytes(self) -> Option<Bytes> {
        match self {
            Self::More(bytes) => Some(bytes),
            Self::Last(result) => result.ok(),
        }
    }
}

impl Part<&[u8], &Refusal> {
    /// The same with bytes of its own: it can wait.
    #[must_use]
    pub fn into_owned(self) -> Part<Vec<u8>> {
        match self {
            Self::More(bytes) => Part::More(bytes.to_vec()),
            Self::Last(result) => Part::Last(result.map(<[u8]>::to_vec).map_err(Refusal::clone)),
        }
    }
}

/// Why a call was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {message}", status = status.as_str())]
pub struct Refusal {
    /// The kind of refusal.
    pub status: Status,
    /// Whether the call can still take effect.
    pub executed: Executed,
    /// What was wrong, and what to do.
    pub message: Cow<'static, str>,
}

impl Refusal {
    /// True if the call certainly took no effect, and may do so when it is sent again.
    #[must_use]
    pub fn is_safe_to_retry(&self) -> bool {
        self.executed == Executed::No
            && matches!(self.status, Status::Unavailable | Status::ShuttingDown | Status::Overloaded)
    }

    /// The refusal as it stands in a frame.
    #[must_use]
    pub(crate) fn as_refused(&self) -> Refused<'_> {
        Refused { status: self.status, executed: self.executed, message: &self.message }
    }

    /// A refusal of a call that certainly took no effect.
    #[must_use]
    pub fn not_executed(status: Status, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, executed: Executed::No, message: message.into() }
    }

    /// A refusal of a call whose outcome is unknown.
    #[must_use]
    pub fn unknown(status: Status, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, executed: Executed::Unknown, message: message.into() }
    }
}
