//! Drops the start of the log, once the state is kept beside it.
//!
//! A state is kept as of an entry (a checkpoint will be one). From then on a start reads it instead of the entries up to there, and whole
//! segments of those can go. Dropping is an event of its own, because the entries of an `AppendEntries` are read from the log when its
//! action is encoded: between that event and its actions nothing may be dropped.
//!
//! Nothing here writes a state, or decides when one is due. A follower that lacks dropped entries needs a state, which nobody can send it
//! yet (`Raft::needs_state`): until then whoever drives a replica keeps a state only as of an entry that every member has durably.

use wal::Storage;

use super::Replica;
use super::event::Action;
use crate::state_machine::Reading;
use crate::state_machine::section::AsOf;

impl<S: Storage> Replica<S> {
    /// The state that can be kept now: that of the last entry applied, if this node's own log has that durably. Its content as of then
    /// can be read while later entries are applied.
    ///
    /// `None` while entries are applied that are not durable here: a quorum of others may commit them first. A state that lay above
    /// what the log holds after a loss of power would be of no log at all.
    #[must_use]
    pub fn state_to_keep(&self) -> Option<AsOf> {
        let as_of = self.machine.as_of();
        (self.standing.is_running() && as_of.applied.index <= self.log.persisted_index()).then_some(as_of)
    }

    /// The log's device, for `LogDevice::removing_dropped` alone: after `Action::RemoveDropped` it gives out the work once.
    #[cfg(feature = "shell")]
    pub(crate) fn device_to_remove_from(&mut self) -> &mut S {
        self.log.storage_mut()
    }

    /// The state that is being kept, from `Event::KeepState` until `Event::StateKept`. Its chunks are read by
    /// [`StateMachine::chunk`](crate::state_machine::StateMachine::chunk).
    #[must_use]
    pub const fn state_being_kept(&self) -> Option<&Reading> {
        self.being_kept.as_ref()
    }

    /// Begins to keep the state of now, if that can be and none is being kept.
    pub(super) fn on_keep_state(&mut self) {
        if self.being_kept.is_none() && self.state_to_keep().is_some() {
            self.being_kept = Some(self.machine.begin_reading());
        }
    }

    /// Drops the segments that hold nothing beyond the state that was being kept.
    pub(super) fn on_state_kept(&mut self) {
        let reading = self.being_kept.take().expect("a state is kept after it was begun");
        self.machine.end_reading(&reading);
        let state = reading.as_of().applied;
        assert!(
            state.index <= self.log.persisted_index(),
            "a state as of {state} is kept, and the log is durable up to {}",
            self.log.persisted_index()
        );
        assert!(
            self.log.term(state.index) == Some(state.term),
            "a state as of {state} is kept, and the log has another entry"
        );
        if self.log.drop_before(state.index).is_some() {
            mark!("replica: segments below a kept state are dropped");
            self.out.push(Action::RemoveDropped);
        }
    }
}
