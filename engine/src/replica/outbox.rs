//! What leaves a replica after an event: actions in their order, and the bytes of the answers among them.

use std::collections::VecDeque;
use std::ops::Range;

use super::event::{Action, Outgoing, Reply};
use super::own::OwnParts;
use crate::call::{Origin, Part};
use crate::limits::ANSWER_BYTES_KEPT_MAX;

/// What one event brings. It is taken before the next event.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    actions: VecDeque<Action>,
    /// Bodies of the replies among `actions`.
    reply_bytes: Vec<u8>,
}

impl Outbox {
    /// Panics if anything is left of the event before: the next one could change what it points at.
    pub fn begin_event(&mut self) {
        assert!(self.actions.is_empty(), "{} actions are left from the event before", self.actions.len());
        self.reply_bytes.clear();
        self.reply_bytes.shrink_to(ANSWER_BYTES_KEPT_MAX);
    }

    pub fn push(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    #[must_use]
    pub fn pop(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Queues a part of an answer for whoever waits at `origin`. What is for a part of the replica does not leave it: `own` keeps that.
    pub fn reply(&mut self, origin: Origin, reply: Reply, own: &mut OwnParts) {
        if let Some(body) = reply.part.as_ref().bytes() {
            assert!(body.end <= self.reply_bytes.len(), "a body lies in the buffer for replies");
        }
        if let Origin::Peer { .. } = origin {
            // Between two messages the connection may be another one, and a part may be lost unseen.
            assert!(matches!(reply.part, Part::Last(_)), "another node is answered in one message");
        }
        self.actions.push_back(match origin {
            Origin::Local(ticket) => Action::Reply { ticket, reply },
            Origin::Internal(number) => Action::OwnReply { number, reply },
            Origin::Part(place) => return own.keep(place, reply),
            Origin::Peer { node, number } => Action::Send { to: node, message: Outgoing::RelayReply { number, reply } },
        });
    }

    /// Copies the body of an answer.
    #[must_use]
    pub fn keep_body(&mut self, body: &[u8]) -> Range<usize> {
        let start = self.reply_bytes.len();
        self.reply_bytes.extend_from_slice(body);
        start..self.reply_bytes.len()
    }

    /// Takes over the body of an answer; copies it only if there are others.
    #[must_use]
    pub(super) fn take_body(&mut self, body: Vec<u8>) -> Range<usize> {
        if !self.reply_bytes.is_empty() {
            return self.keep_body(&body);
        }
        self.reply_bytes = body;
        assert!(!self.reply_bytes.is_empty(), "an answer has a front at least");
        0..self.reply_bytes.len()
    }

    /// The buffer for bodies, to write one where it leaves from.
    pub const fn bodies(&mut self) -> &mut Vec<u8> {
        &mut self.reply_bytes
    }

    /// Bytes of all bodies. Unit: bytes.
    pub const fn bodies_len(&self) -> usize {
        self.reply_bytes.len()
    }

    pub fn body(&self, range: &Range<usize>) -> &[u8] {
        &self.reply_bytes[range.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_taken_over_where_it_is_the_first_and_copied_behind_others() {
        let mut out = Outbox::default();
        let (first, second) = (vec![1; 100], vec![2; 10]);
        let bytes_at = first.as_ptr();
        let places = [out.take_body(first), out.take_body(second)];
        assert_eq!(places, [0..100, 100..110]);
        assert!(out.body(&places[0]) == [1; 100] && out.body(&places[1]) == [2; 10]);
        out.begin_event();
        let large = vec![3; ANSWER_BYTES_KEPT_MAX];
        let large_at = large.as_ptr();
        assert!(out.take_body(large).len() == ANSWER_BYTES_KEPT_MAX && out.bodies().as_ptr() == large_at);
        assert!(bytes_at != large_at);
    }
}
