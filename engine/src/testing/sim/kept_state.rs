//! A state that a node keeps beside its log, as a checkpoint will be.

use wal::Lineage;

use crate::state_machine::section::AsOf;
use crate::state_machine::{self, StateMachine};
use crate::testing::last_answers::LastAnswers;

/// A state as of an entry.
#[derive(Clone, Debug)]
pub(super) struct KeptState {
    pub(super) as_of: AsOf,
    /// Of all entries up to there.
    pub(super) lineage: Lineage,
    /// In their order.
    pub(super) chunks: Vec<Vec<u8>>,
}

impl KeptState {
    /// The state itself.
    pub(super) fn restore(&self, options: state_machine::Options) -> Result<StateMachine, String> {
        let mut machine = StateMachine::at(options, self.as_of).with_section(Box::new(LastAnswers::default()));
        for chunk in &self.chunks {
            machine.restore(chunk).map_err(|error| format!("a kept state cannot be read: {error}"))?;
        }
        Ok(machine)
    }
}
