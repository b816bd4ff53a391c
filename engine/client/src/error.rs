//! Why a request has no answer, and what is known of its effect.

use std::fmt;

use api::command::CommandError;
use codec::DecodeError;
use net::api::Status;

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No node could do it in time; it certainly took no effect.
    #[error("unavailable, and the request took no effect: {reason}")]
    Unavailable {
        /// What each endpoint said; a line for each if there are several.
        reason: String,
    },
    /// It may or may not have taken effect, or still may.
    #[error("outcome unknown: {reason}; the request may or may not have taken effect")]
    Unknown {
        /// What happened, with the endpoint.
        reason: String,
    },
    /// A queue is full; it certainly took no effect.
    #[error("overloaded: {message}")]
    Overloaded {
        /// Which queue.
        message: String,
    },
    /// A node refused it; it certainly took no effect.
    #[error("{status}: {message}", status = status.as_str())]
    Refused {
        /// The kind of refusal.
        status: Status,
        /// What was wrong, and what to do.
        message: String,
    },
    /// The request cannot be sent: it breaks a rule.
    #[error("invalid request: {0}")]
    Invalid(#[from] CommandError),
    /// The endpoints make no sense.
    #[error("{reason}")]
    Endpoints {
        /// Which, and why.
        reason: String,
    },
    /// An operation over several shards was done on some of them only.
    #[error("done in part: {}", parts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Partial {
        /// What became of each shard's part.
        parts: Vec<ShardPart>,
    },
    /// An answer does not follow the format; the request may have taken effect.
    #[error("malformed answer: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
}

/// One shard's part of an operation over several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardPart {
    /// The shard.
    pub shard: u32,
    /// What became of it.
    pub outcome: PartOutcome,
}

/// What became of a shard's part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartOutcome {
    /// It was done.
    Deleted {
        /// Keys that were deleted.
        keys: u64,
        /// The shard's revision after it.
        revision: u64,
    },
    /// It was not done, or nobody knows; the error says which.
    Failed(Box<ClientError>),
    /// It was not begun, because another part failed.
    NotBegun,
}

impl fmt::Display for ShardPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shard = self.shard;
        match &self.outcome {
            PartOutcome::Deleted { keys, revision } => {
                write!(f, "shard {shard} deleted {keys} keys at revision {revision}")
            }
            PartOutcome::Failed(error) => write!(f, "shard {shard} failed: {error}"),
            PartOutcome::NotBegun => write!(f, "shard {shard} was not asked"),
        }
    }
}

impl ClientError {
    /// True if the request may have taken effect, in whole or in part, or still may.
    #[must_use]
    pub const fn may_have_taken_effect(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::Partial { .. } | Self::Malformed { .. })
    }

    pub(crate) fn unexpected(what: &str) -> Self {
        Self::Malformed { reason: format!("it is not the answer to {what}") }
    }
}

impl From<DecodeError> for ClientError {
    fn from(error: DecodeError) -> Self {
        Self::Malformed { reason: error.to_string() }
    }
}

impl From<net::client::ClientError> for ClientError {
    fn from(error: net::client::ClientError) -> Self {
        use net::client::ClientError as Net;
        match error {
            Net::Unavailable { reason } => Self::Unavailable { reason },
            Net::Unknown { reason } => Self::Unknown { reason },
            Net::Refused { status: Status::Overloaded, message } => Self::Overloaded { message },
            Net::Refused { status, message } => Self::Refused { status, message },
            Net::Endpoint(_) | Net::NoEndpoint => Self::Endpoints { reason: error.to_string() },
        }
    }
}
