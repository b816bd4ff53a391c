//! Requests and their answers, from clients and between nodes, with payloads that stay opaque here.
//!
//! Many requests are sent without waiting; answers come in any order and are matched by number. What a kind and a payload mean
//! is the engine's business. Layout: `docs/format/wire.md`.

use crate::frame::{Frame, FrameBuilder, FrameKind, encode_frame};
use crate::limits::MESSAGE_BYTES_MAX;
use codec::{DecodeError, Reader, put_text};

/// Bytes of a request's body in front of its payload. Unit: bytes.
pub const REQUEST_HEAD_BYTES: usize = size_of::<u32>();

/// Frame kind of a ping: answer with nothing, at once.
pub const KIND_PING: FrameKind = FrameKind::new(3);
/// Frame kind of an answer.
pub const KIND_RESPONSE: FrameKind = FrameKind::new(4);
/// Frame kind of a part of an answer, in front of the answer itself.
pub const KIND_RESPONSE_PART: FrameKind = FrameKind::new(5);
/// Frame kind of a cancel: nobody takes the answer to the request of this number any more. It ends a call that lasts.
pub const KIND_CANCEL: FrameKind = FrameKind::new(6);
/// The first frame kind of what is asked of the engine; its own table says what each means.
pub(crate) const CALL_KIND_MIN: u16 = 8;
/// The last of them.
pub(crate) const CALL_KIND_MAX: u16 = 63;

/// Flag of a request: session and sequence number stand in front of the payload.
pub(crate) const FLAG_SENDER: u16 = 1;

/// Flag of an answer: it is a refusal; status and message take the place of the body.
pub(crate) const FLAG_REFUSED: u16 = 2;
/// Flag of an answer: the node had to ask the leader, whose URL stands in front of the body.
pub(crate) const FLAG_LEADER_HINT: u16 = 4;

/// A request as it stands in its frame, from a client or from a node that passes it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The sender's number for it.
    pub id: u64,
    /// What it is: a ping, a cancel, or something for the engine.
    pub kind: FrameKind,
    /// The shard it is about.
    pub shard: u32,
    /// How long whoever sends it waits. Unit: ms.
    pub timeout_ms: u32,
    /// The session whose command it is; 0 = none.
    pub session: u64,
    /// The command's number within the session; 0 without one.
    pub sequence: u64,
    /// What to do, opaque.
    pub payload: &'a [u8],
}

/// True if frames of this kind ask the engine for something.
#[must_use]
pub const fn is_call(kind: FrameKind) -> bool {
    CALL_KIND_MIN <= kind.get() && kind.get() <= CALL_KIND_MAX
}

impl<'a> Request<'a> {
    /// A question whether the other side is alive.
    #[must_use]
    pub const fn ping(id: u64, timeout_ms: u32) -> Self {
        Self { id, kind: KIND_PING, shard: 0, timeout_ms, session: 0, sequence: 0, payload: &[] }
    }

    /// Says that nobody takes the answer to the request of this number any more.
    #[must_use]
    pub const fn cancel(id: u64) -> Self {
        Self { id, kind: KIND_CANCEL, shard: 0, timeout_ms: 0, session: 0, sequence: 0, payload: &[] }
    }

    /// Appends the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let flags = if self.session == 0 { 0 } else { FLAG_SENDER };
        let builder = FrameBuilder::begin(out, self.kind, flags, self.shard, self.id);
        out.extend_from_slice(&self.timeout_ms.to_le_bytes());
        if self.session != 0 {
            out.extend_from_slice(&self.session.to_le_bytes());
            out.extend_from_slice(&self.sequence.to_le_bytes());
        }
        out.extend_from_slice(self.payload);
        builder.finish(out);
    }

    /// Reads a request out of its frame.
    ///
    /// # Errors
    /// The frame is no request, or does not follow the format.
    pub fn decode(frame: &Frame<'a>) -> Result<Self, DecodeError> {
        if ![KIND_PING, KIND_CANCEL].contains(&frame.kind) && !is_call(frame.kind) {
            return Err(DecodeError::Unknown { what: "the kind of a request", got: frame.kind.get().into() });
        }
        let has_sender = frame.flags == FLAG_SENDER && ![KIND_PING, KIND_CANCEL].contains(&frame.kind);
        if frame.flags != 0 && !has_sender {
            return Err(DecodeError::Unknown { what: "the flags of a request", got: frame.flags.into() });
        }
        expect_no_rest(frame, "a request")?;
        let mut reader = Reader::new(frame.meta);
        let timeout_ms = reader.u32("the timeout of a request")?;
        let (mut session, mut sequence) = (0, 0);
        if has_sender {
            session = reader.u64("the session of a request")?;
            sequence = reader.u64("the sequence number of a request")?;
            if session == 0 {
                return Err(DecodeError::Unknown { what: "the session of a request", got: session });
            }
        }
        if frame.kind == KIND_PING {
            reader.clone().finish("a ping")?;
        }
        if frame.kind == KIND_CANCEL {
            reader.clone().finish("a cancel")?;
            for (what, got) in [("the timeout of a cancel", timeout_ms), ("the shard of a cancel", frame.shard)] {
                if got != 0 {
                    return Err(DecodeError::Unknown { what, got: got.into() });
                }
            }
        }
        let payload = reader.rest();
        Ok(Self { id: frame.id, kind: frame.kind, shard: frame.shard, timeout_ms, session, sequence, payload })
    }
}

/// Why a request was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// No leader, no quorum, or leadership just changed.
    Unavailable,
    /// Nothing final is known within the request's time.
    Timeout,
    /// A queue is full.
    Overloaded,
    /// The request does not follow the format or breaks a rule.
    Invalid,
    /// The request or its answer is over a limit.
    TooLarge,
    /// The state's quota or the disk is full.
    NoSpace,
    /// The revision asked for was compacted away.
    Compacted,
    /// The revision asked for does not exist yet.
    FutureRevision,
    /// The keys do not belong to the shard that the request names.
    WrongShard,
    /// The node is shutting down.
    ShuttingDown,
    /// The node stopped after a failure.
    Internal,
}

impl Status {
    const ALL: [Self; 11] = [
        Self::Unavailable,
        Self::Timeout,
        Self::Overloaded,
        Self::Invalid,
        Self::TooLarge,
        Self::NoSpace,
        Self::Compacted,
        Self::FutureRevision,
        Self::WrongShard,
        Self::ShuttingDown,
        Self::Internal,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn to_wire(self) -> u8 {
        match self {
            Self::Unavailable => 1,
            Self::Timeout => 2,
            Self::Overloaded => 3,
            Self::Invalid => 4,
            Self::TooLarge => 5,
            Self::NoSpace => 6,
            Self::Compacted => 7,
            Self::FutureRevision => 8,
            Self::WrongShard => 9,
            Self::ShuttingDown => 10,
            Self::Internal => 11,
        }
    }

    /// The status of a number on the wire.
    ///
    /// # Errors
    /// The number is unknown.
    pub fn from_wire(raw: u8) -> Result<Self, DecodeError> {
        let known = Self::ALL.into_iter().find(|status| status.to_wire() == raw);
        known.ok_or(DecodeError::Unknown { what: "the status of an answer", got: raw.into() })
    }

    /// A word for logs and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Overloaded => "overloaded",
            Self::Invalid => "invalid",
            Self::TooLarge => "too large",
            Self::NoSpace => "no space",
            Self::Compacted => "compacted",
            Self::FutureRevision => "future revision",
            Self::WrongShard => "wrong shard",
            Self::ShuttingDown => "shutting down",
            Self::Internal => "internal",
        }
    }
}

/// Whether a refused request can still take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executed {
    /// It did not and will not: sending it again is safe.
    No,
    /// Nobody here knows.
    Unknown,
}

impl Executed {
    /// The number on the wire.
    #[must_use]
    pub const fn to_wire(self) -> u8 {
        match self {
            Self::No => 0,
            Self::Unknown => 1,
        }
    }

    /// The meaning of a number on the wire.
    ///
    /// # Errors
    /// The number is unknown.
    pub fn from_wire(raw: u8) -> Result<Self, DecodeError> {
        match raw {
            0 => Ok(Self::No),
            1 => Ok(Self::Unknown),
            got => Err(DecodeError::Unknown { what: "the outcome in an answer", got: got.into() }),
        }
    }
}

/// An answer as it stands in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// The client's number for the request.
    pub id: u64,
    /// Where the client reaches the leader itself, if this node had to ask it.
    pub leader_hint: Option<&'a str>,
    /// The answer, or why there is none.
    pub result: Result<&'a [u8], Refused<'a>>,
}

/// A part of an answer's body, in front of the response that holds the rest. If that is a refusal, the parts count for nothing, unless the
/// call is one that lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponsePart<'a> {
    /// The sender's number for the request.
    pub id: u64,
    /// Bytes of the body, after those of the parts before.
    pub bytes: &'a [u8],
}

impl<'a> ResponsePart<'a> {
    /// Appends the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_frame(out, KIND_RESPONSE_PART, 0, 0, self.id, self.bytes);
    }

    /// Reads a part out of its frame.
    ///
    /// # Errors
    /// The frame is none, or does not follow the format.
    pub fn decode(frame: &Frame<'a>) -> Result<Self, DecodeError> {
        if frame.kind != KIND_RESPONSE_PART {
            return Err(DecodeError::Unknown { what: "the kind of a part of an answer", got: frame.kind.get().into() });
        }
        for (what, got) in [
            ("the flags of a part of an answer", frame.flags.into()),
            ("the shard of a part of an answer", u64::from(frame.shard)),
        ] {
            if got != 0 {
                return Err(DecodeError::Unknown { what, got });
            }
        }
        expect_no_rest(frame, "a part of an answer")?;
        Ok(Self { id: frame.id, bytes: frame.meta })
    }
}

/// Why a request was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused<'a> {
    /// The kind of refusal.
    pub status: Status,
    /// Whether the request can still take effect.
    pub executed: Executed,
    /// What was wrong, and what to do.
    pub message: &'a str,
}

impl<'a> Response<'a> {
    /// Appends the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let hinted = if self.leader_hint.is_some() { FLAG_LEADER_HINT } else { 0 };
        let refused = if self.result.is_err() { FLAG_REFUSED } else { 0 };
        let builder = FrameBuilder::begin(out, KIND_RESPONSE, hinted | refused, 0, self.id);
        if let Some(hint) = self.leader_hint {
            put_text(out, hint, MESSAGE_BYTES_MAX);
        }
        match &self.result {
            Ok(body) => out.extend_from_slice(body),
            Err(refused) => {
                out.extend_from_slice(&[refused.status.to_wire(), refused.executed.to_wire()]);
                put_text(out, refused.message, MESSAGE_BYTES_MAX);
            }
        }
        builder.finish(out);
    }

    /// Reads an answer out of its frame.
    ///
    /// # Errors
    /// The frame is no answer, or does not follow the format.
    pub fn decode(frame: &Frame<'a>) -> Result<Self, DecodeError> {
        if frame.kind != KIND_RESPONSE {
            return Err(DecodeError::Unknown { what: "the kind of an answer", got: frame.kind.get().into() });
        }
        if frame.flags & !(FLAG_LEADER_HINT | FLAG_REFUSED) != 0 {
            return Err(DecodeError::Unknown { what: "the flags of an answer", got: frame.flags.into() });
        }
        if frame.shard != 0 {
            return Err(DecodeError::Unknown { what: "the shard of an answer", got: frame.shard.into() });
        }
        expect_no_rest(frame, "an answer")?;
        let mut reader = Reader::new(frame.meta);
        let hinted = frame.flags & FLAG_LEADER_HINT != 0;
        let leader_hint = hinted.then(|| reader.text("the leader hint", MESSAGE_BYTES_MAX.into())).transpose()?;
        let result = if frame.flags & FLAG_REFUSED != 0 {
            let status = Status::from_wire(reader.u8("the status of an answer")?)?;
            let executed = Executed::from_wire(reader.u8("the outcome in an answer")?)?;
            let message = reader.text("the message of an answer", MESSAGE_BYTES_MAX.into())?;
            reader.finish("an answer")?;
            Err(Refused { status, executed, message })
        } else {
            Ok(reader.rest())
        };
        Ok(Self { id: frame.id, leader_hint, result })
    }
}

/// All of a client message is metadata, so that all of it is covered by a checksum.
fn expect_no_rest(frame: &Frame<'_>, what: &'static str) -> Result<(), DecodeError> {
    if frame.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing { what, got: frame.rest.len() }) }
}
