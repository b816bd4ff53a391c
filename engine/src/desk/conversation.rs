//! What is open between a client's connection and the node: requests without an answer, calls that last, and whether the goodbye was
//! said. What lasts changes nothing and ends with the connection, so nobody waits for its end.

use net::api::Status;

use super::DeskLimits;
use crate::call::Refusal;

/// The state of a connection. Each request that `begin`s is `answered` once, whatever becomes of the connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Conversation {
    /// Requests that wait for an answer, without the calls that last.
    waiting_count: u32,
    /// Calls that last.
    lasting_count: u32,
    /// The goodbye was said: nothing more is taken.
    is_over: bool,
}

impl Conversation {
    /// Requests that wait for an answer, without the calls that last.
    #[cfg(feature = "shell")]
    pub(crate) const fn waiting_count(self) -> u32 {
        self.waiting_count
    }

    /// No request waits for an answer, and no call lasts.
    pub(crate) const fn owes_nothing(self) -> bool {
        self.waiting_count == 0 && self.lasting_count == 0
    }

    /// The goodbye was said: requests that still arrive are not looked at, and took no effect.
    pub(crate) const fn is_over(self) -> bool {
        self.is_over
    }

    /// A request may begin. `lasts`: it is a call that lasts.
    ///
    /// # Errors
    /// As many as may wait or last already. The new one took no effect.
    pub(crate) fn may_begin(self, limits: &DeskLimits, lasts: bool) -> Result<(), Refusal> {
        if lasts {
            if self.lasting_count < limits.lasting_per_connection {
                return Ok(());
            }
            let message = format!("{} calls that last are open on this connection already", self.lasting_count);
            return Err(Refusal::not_executed(Status::Overloaded, message));
        }
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
    pub(crate) const fn begin(&mut self, lasts: bool) {
        if lasts {
            self.lasting_count += 1;
        } else {
            self.waiting_count += 1;
        }
    }

    /// A request got its answer, or what lasted has ended. Says whether it was the last request that waited.
    #[must_use]
    pub(crate) const fn answered(&mut self, lasts: bool) -> bool {
        if lasts {
            assert!(self.lasting_count > 0, "what lasts ends once");
            self.lasting_count -= 1;
            return false;
        }
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
        conversation.begin(false);
        conversation.begin(false);
        conversation.begin(true);
        assert!(say(&mut conversation).is_none() && !conversation.answered(false));
        assert!(say(&mut conversation).is_none() && conversation.answered(false) && !conversation.is_over());
        assert!(!conversation.owes_nothing(), "what lasts delays no goodbye");
        let said = say(&mut conversation).expect("nothing waits");
        assert!(said.executed == Executed::No && conversation.is_over());
        assert!(say(&mut conversation).is_none());
        assert!(!conversation.answered(true) && conversation.owes_nothing(), "it ends afterwards");
    }

    #[test]
    fn a_connection_has_no_more_requests_than_it_may() {
        let command = Limits { request_bytes: 1, txn_ops: 1, shard_count: 1 };
        let limits = DeskLimits {
            command,
            shard_count: 1,
            requests_per_connection: 3,
            lasting_per_connection: 2,
            queued_bytes: 1,
            requests: 1,
            lasting: 1,
        };
        let mut conversation = Conversation::default();
        for (lasts, limit) in [(false, 3), (true, 2)] {
            for _ in 0..limit {
                conversation.may_begin(&limits, lasts).expect("room, whatever else is open");
                conversation.begin(lasts);
            }
            let refused = conversation.may_begin(&limits, lasts).expect_err("no room");
            assert_eq!((refused.status, refused.executed), (Status::Overloaded, Executed::No));
        }
        for lasts in [false, true] {
            assert!(!conversation.answered(lasts) && conversation.may_begin(&limits, lasts).is_ok());
        }
    }
}
