//! Why a request has no answer, and what is known of its effect.

use engine::state_machine::command::CommandError;
use net::api::Status;
use net::codec::DecodeError;

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No node could do it in time; it certainly took no effect.
    #[error("unavailable: {reason}; the request took no effect")]
    Unavailable {
        /// The last reason, with the endpoint it came from.
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
    /// An answer does not follow the format; the request may have taken effect.
    #[error("malformed answer: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
}

impl ClientError {
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
