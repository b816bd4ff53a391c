//! Parts of a replica that propose commands for themselves, when the log's time has come for something.
//!
//! A part is asked at each tick while its node leads and takes requests. It has one command under way at most, and hears what became of
//! it, as a client would. What it proposes goes into the log like every other write, so all replicas do it. Nothing here knows what parts
//! there are.

use std::fmt::Debug;

use wal::Storage;

use super::Replica;
use super::event::Reply;
use crate::call::{Call, CallKind, Origin, Part, Refusal};
use crate::limits::OWN_WRITE_TIMEOUT_MS;
use crate::state_machine::StateMachine;
use crate::state_machine::batch::LogTime;
use crate::types::ShardId;

/// A part that proposes for itself.
pub trait Proposer: Debug + Send {
    /// The command to propose now; `None` if nothing is due. `time` is what its entry would bear, and `machine` what is applied here.
    fn due(&mut self, time: LogTime, machine: &StateMachine) -> Option<Vec<u8>>;

    /// Takes what became of the command that `due` gave last: its answer, or a refusal, whose outcome may be unknown.
    fn take_answer(&mut self, answer: Result<&[u8], Refusal>);
}

/// A part, and whether it waits.
#[derive(Debug)]
struct Place {
    proposer: Box<dyn Proposer>,
    is_waiting: bool,
}

/// The parts that propose for themselves, by their places.
#[derive(Debug, Default)]
pub(super) struct OwnParts {
    places: Vec<Place>,
    /// Answers of this event that were not given to their parts yet, each with its place.
    answers: Vec<(usize, Reply)>,
}

impl OwnParts {
    /// Keeps the answer to a part until the event is over.
    pub(super) fn keep(&mut self, place: usize, reply: Reply) {
        assert!(self.places[place].is_waiting, "a part is answered once");
        self.answers.push((place, reply));
    }

    /// True if no answer is left from the event before.
    pub(super) const fn is_told(&self) -> bool {
        self.answers.is_empty()
    }
}

impl<S: Storage> Replica<S> {
    /// The same with one more part that proposes for itself.
    #[must_use]
    pub fn with_proposer(mut self, proposer: Box<dyn Proposer>) -> Self {
        self.own.places.push(Place { proposer, is_waiting: false });
        self
    }

    /// Proposes what is due to the parts. They are not asked where their command would have to be passed on or held back.
    pub(super) fn propose_own(&mut self) {
        for number in 0..self.own.places.len() {
            let Some(time) = self.log_time().filter(|_| self.raft.may_propose().is_ok() && !self.hand_over.is_closed())
            else {
                return;
            };
            let place = &mut self.own.places[number];
            if place.is_waiting {
                continue;
            }
            if let Some(command) = place.proposer.due(time, &self.machine) {
                mark!("replica: a part proposes for itself");
                place.is_waiting = true;
                // Nobody looks at the shard: the call never leaves this replica.
                let call = Call::borrowed(ShardId::new(0), CallKind::Write, OWN_WRITE_TIMEOUT_MS, &command);
                self.propose(Origin::Part(number), call);
            }
        }
    }

    /// Gives the answers of an event to the parts that they are for.
    pub(super) fn tell_own(&mut self) {
        for (number, reply) in std::mem::take(&mut self.own.answers) {
            let Part::Last(result) = reply.part else { unreachable!("an answer to a write is one part") };
            let place = &mut self.own.places[number];
            place.is_waiting = false;
            place.proposer.take_answer(result.map(|body| self.out.body(&body)));
        }
    }
}
