//! The logs that members have, had, or might have.

use super::input::Input;
use super::node::{NODES, node_id};
use crate::raft::Speaker;
use crate::types::NodeId;

/// The log that the member of a wiped directory gets.
pub(super) const SECOND_LOG: u64 = 1000;

/// Logs that nobody has.
const INVENTED_LOG: u64 = 700;

/// The log that each node had first.
pub(super) fn first_log(node: NodeId) -> u64 {
    node.get() + 99
}

/// Which log each member has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Logs {
    /// Of the members in ascending order of their ids.
    by_number: [u64; NODES],
}

impl Logs {
    pub(super) fn first() -> Self {
        Self { by_number: std::array::from_fn(|number| first_log(node_id(number))) }
    }

    /// The same, but for one node.
    pub(super) fn with(mut self, node: NodeId, log: u64) -> Self {
        if let Some(place) =
            (0..NODES).position(|number| node_id(number) == node).and_then(|at| self.by_number.get_mut(at))
        {
            *place = log;
        }
        self
    }

    pub(super) fn of(&self, node: NodeId) -> Option<u64> {
        let number = (0..NODES).position(|number| node_id(number) == node)?;
        self.by_number.get(number).copied()
    }
}

/// A log of this member: that which it had first, the second one, one that nobody has, or none.
pub(super) fn any_log(node: NodeId, input: &mut Input<'_>) -> u64 {
    match input.below(9) {
        0..=2 => first_log(node),
        3 | 4 => SECOND_LOG,
        5 | 6 => INVENTED_LOG + u64::from(input.below(3)),
        7 => 0,
        _ => u64::MAX,
    }
}

pub(super) fn any_speaker(from: NodeId, input: &mut Input<'_>) -> Speaker {
    let incarnation = any_log(from, input);
    Speaker { incarnation, is_joining: input.below(4) == 3 }
}
