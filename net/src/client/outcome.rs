//! How a call on a connection ends: with an answer, or with a reason why there is none.

use crate::api::{Executed, Status};

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) body: Vec<u8>,
    pub(super) leader_hint: Option<String>,
}

/// Why a call has no answer.
#[derive(Debug)]
pub(super) enum CallError {
    /// The request did not leave.
    NotSent(String),
    /// The connection broke after the request may have left.
    Broken(String),
    /// The node refused it.
    Refused { status: Status, executed: Executed, message: String, leader_hint: Option<String> },
}

/// How a call ended.
pub(super) type Outcome = Result<Answer, CallError>;
