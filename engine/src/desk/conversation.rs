//! What is open between a client's connection and the node: requests without an answer, and whether the goodbye was said.

use net::api::Status;

use super::DeskLimits;
use crate::call::Refusal;

/// The state of a connection. Each request that `begin`s is `answered` once, whatever becomes of the connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Conversation {
    /// Requests that wait for an answer.
    waiting_count: u32,
    /// The goodbye was said: nothing more is taken.
    is_over: bool,
}

impl Conversation {
    /// Requests that wait for an answer.
    pub(crate) const fn waiting_count(self) -> u32 {
        self.waiting_count
    }

    /// The goodbye was said: requests that still arrive are not looked at, and took no effect.
    pub(crate) const fn is_over(self) -> bool {
        self.is_over
    }

    /// A request may begin.
    ///
    /// # Errors
    /// As many as may wait already. The new one took no effect.
    pub(crate) fn may_begin(self, limits: &DeskLimits) -> Result<(), Refusal> {
        if self.waiting_count < limits.requests_per_connection {
            return Ok(());
        }
        mark!("desk: a connection has too many requests");
        let message = format!(
            "{} requests of this connection wait for an answer already; the limit is --max-requests-per-connection",
            self.waiting_count
        );
        Err(Refusal::not_executed(Status::Overloaded, message))
    }

    /// A request begins.
    pub(crate) const fn begin(&mut self) {
        self.waiting_count += 1;
    }

    /// A request got its answer. Says whether it was the last that waited.
    #[must_use]
    pub(crate) const fn answered(&mut self) -> bool {
        assert!(self.waiting_count > 0, "each request is answered once");
        self.waiting_count -= 1;
        self.waiting_count == 0
    }

    /// Ends the conversation: returns the goodbye, which says of everything that has no answer that it took no effect.
    ///
    /// `None`: it was said before, or requests wait for an answer, of which it would be wrong.
    pub(crate) fn goodbye(&mut self, status: Status, message: impl Into<String>) -> Option<Refusal> {
        mark!("desk: a goodbye waits for answers" if self.waiting_count > 0);
        if self.waiting_count > 0 || self.is_over {
            return None;
        }
        self.is_over = true;
        Some(Refusal::not_executed(status, message.into()))
    }
}

#[cfg(test)]
mod tests {
    use api::command::Limits;
    use net::api::Executed;

    use super::*;

    #[test]
    fn the_goodbye_is_said_once_and_never_while_requests_wait() {
        let mut conversation = Conversation::default();
        let say = |conversation: &mut Conversation| conversation.goodbye(Status::ShuttingDown, "it ends");
        conversation.begin();
        conversation.begin();
        assert!(say(&mut conversation).is_none() && !conversation.answered());
        assert!(say(&mut conversation).is_none() && conversation.answered() && !conversation.is_over());
        let said = say(&mut conversation).expect("nothing waits");
        assert!(said.executed == Executed::No && conversation.is_over());
        assert!(say(&mut conversation).is_none());
    }

    #[test]
    fn a_connection_has_no_more_requests_than_it_may() {
        let command = Limits { request_bytes: 1, txn_ops: 1, shard_count: 1 };
        let limits = DeskLimits { command, shard_count: 1, requests_per_connection: 3, queued_bytes: 1, requests: 1 };
        let mut conversation = Conversation::default();
        for _ in 0..3 {
            conversation.may_begin(&limits).expect("room");
            conversation.begin();
        }
        let refused = conversation.may_begin(&limits).expect_err("no room");
        assert_eq!((refused.status, refused.executed), (Status::Overloaded, Executed::No));
        assert!(!conversation.answered() && conversation.may_begin(&limits).is_ok());
    }
}
