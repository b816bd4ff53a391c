//! What waits for the log to be durable: messages that promise something, and the hard states that they rest on.

use std::collections::VecDeque;

use wal::{AppendError, Storage, SyncFailure, SyncId};

use super::Replica;
use super::standing::Standing;
use super::view::Fault;
use crate::limits::PROMISES_LEN_MAX;
use crate::raft::{HardState, Message};
use crate::types::{Lsn, NodeId};

/// A message that waits for the log to be durable up to a position.
#[derive(Debug)]
struct HeldMessage {
    durable_from: Lsn,
    to: NodeId,
    message: Message,
}

/// What waits for the log to be durable, in log order.
#[derive(Debug, Default)]
pub(super) struct Promises {
    messages: VecDeque<HeldMessage>,
    hard_states: VecDeque<(Lsn, HardState)>,
}

impl Promises {
    /// Keeps a message until the log is durable up to `durable_from`.
    fn hold(&mut self, durable_from: Lsn, to: NodeId, message: Message) {
        assert!(
            self.messages.back().is_none_or(|last| last.durable_from <= durable_from),
            "messages wait in log order"
        );
        if self.messages.len() < PROMISES_LEN_MAX {
            self.messages.push_back(HeldMessage { durable_from, to, message });
        }
    }

    /// Remembers that the frame of a hard state ends at `end`.
    fn await_hard_state(&mut self, end: Lsn, hard_state: HardState) {
        assert!(self.hard_states.back().is_none_or(|(last, _)| *last < end), "hard states wait in log order");
        self.hard_states.push_back((end, hard_state));
    }

    /// The next hard state that is durable now; call until there is none.
    fn next_hard_state(&mut self, durable: Lsn) -> Option<HardState> {
        self.hard_states.pop_front_if(|(end, _)| *end <= durable).map(|(_, hard_state)| hard_state)
    }

    /// The next message that may leave now; call until there is none.
    fn next_message(&mut self, durable: Lsn) -> Option<(NodeId, Message)> {
        self.messages.pop_front_if(|held| held.durable_from <= durable).map(|held| (held.to, held.message))
    }

    /// True if everything that waits does so for more than what is durable.
    #[must_use]
    pub fn wait_for_more_than(&self, durable: Lsn) -> bool {
        self.messages.front().is_none_or(|held| held.durable_from > durable)
            && self.hard_states.front().is_none_or(|(end, _)| *end > durable)
    }

    /// True if no message waits.
    #[must_use]
    pub fn hold_no_message(&self) -> bool {
        self.messages.is_empty()
    }

    /// Forgets the messages: what they promise will not come true.
    pub fn forget_messages(&mut self) {
        self.messages.clear();
    }
}

impl<S: Storage> Replica<S> {
    pub(super) fn on_synced(&mut self, id: SyncId, result: Result<(), SyncFailure>) {
        let before = self.log.durable_lsn();
        self.device.watch.on_sync_ended();
        self.log.on_synced(id, result);
        assert!(self.log.durable_lsn() >= before, "what is durable stays so");
        if let Some(latch) = self.log.latched() {
            self.stop_with(Fault::Log(latch.to_string()));
            return;
        }
        let durable = self.log.durable_lsn();
        while let Some(hard_state) = self.promises.next_hard_state(durable) {
            self.raft.on_hard_state_persisted(hard_state, &self.log);
        }
        self.raft.on_persisted(&self.log);
        while let Some((to, message)) = self.promises.next_message(durable) {
            self.send(to, message);
        }
        self.after_raft();
    }

    /// Sends a message once all that is in the log now is durable; with nothing outstanding at once.
    pub(super) fn send_once_durable(&mut self, to: NodeId, message: Message) {
        let durable_from = self.log.end_lsn();
        if durable_from <= self.log.durable_lsn() {
            self.send(to, message);
        } else {
            self.promises.hold(durable_from, to, message);
        }
    }

    /// Puts term and vote into the log; what rests on them leaves once they are durable.
    pub(super) fn append_hard_state(&mut self, hard_state: HardState) {
        assert!(self.standing.is_running(), "whoever has stopped changes neither term nor vote");
        let record = wal::HardStateRecord { term: hard_state.term, vote: hard_state.vote.map_or(0, NodeId::get) };
        match self.log.append_hard_state(record) {
            Ok(end) => {
                self.standing = Standing::TakesPart;
                self.promises.await_hard_state(end, hard_state);
            }
            Err(AppendError::SegmentNotReady) => {
                mark!("replica: there is no room for a hard state");
                self.standing = Standing::WithoutRoom(hard_state);
            }
            Err(error) => self.latch(&error),
        }
    }

    /// Writes the hard state for which the log had no room, if there is one and there is room now.
    pub(super) fn write_hard_state(&mut self) {
        if let Standing::WithoutRoom(hard_state) = self.standing {
            self.append_hard_state(hard_state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Term;

    #[test]
    fn what_waits_leaves_in_log_order_once_it_is_durable() {
        let mut promises = Promises::default();
        let (to, message) = (NodeId::new(2), Message::RequestVoteResponse { term: Term::new(3), granted: true });
        let hard_state = HardState { term: Term::new(3), vote: Some(to) };
        promises.await_hard_state(Lsn::new(64), hard_state);
        for from in [64, 64, 128] {
            promises.hold(Lsn::new(from), to, message.clone());
        }
        assert!(promises.next_message(Lsn::new(63)).is_none() && promises.next_hard_state(Lsn::new(63)).is_none());
        assert_eq!(promises.next_hard_state(Lsn::new(64)), Some(hard_state));
        assert!(promises.next_message(Lsn::new(64)).is_some() && promises.next_message(Lsn::new(64)).is_some());
        assert!(promises.next_message(Lsn::new(127)).is_none());
        assert_eq!(promises.next_message(Lsn::new(128)), Some((to, message)));
        assert!(promises.next_hard_state(Lsn::new(1_000)).is_none());
    }
}
