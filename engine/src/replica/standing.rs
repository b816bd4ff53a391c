//! Whether this replica takes part in its shard, and what is left to do when it does not.
//!
//! A replica that stopped by itself, for example after a failed sync, promises and answers nothing that rests on its log. It refuses
//! every request as not executed. It still listens to leaders, only to tell clients where to go. Nothing but a restart ends this.

use net::api::Status;
use wal::Storage;

use super::Replica;
use super::event::Event;
use super::pending::Waiter;
use super::view::{Fault, Leadership};
use crate::call::Refusal;
use crate::raft::{HardState, Message, Role};
use crate::types::{NodeId, Term};

/// Whether a replica takes part.
#[derive(Debug, Default)]
pub(super) enum Standing {
    /// It does.
    #[default]
    TakesPart,
    /// The log has no room for this hard state. Until it is written the replica says nothing that rests on term or vote, and hears
    /// nothing that would change them. While its disk stays full, the group has one vote less; with room the replica goes on as before.
    WithoutRoom(HardState),
    /// It stopped by itself.
    Stopped {
        /// Why.
        fault: Fault,
        /// The latest leader that it heard since.
        heard: Option<Heard>,
        /// For how long it heard none. Unit: ticks.
        silent_ticks: u64,
    },
    /// Its process is about to end.
    Ended,
}

/// The latest leader that a stopped replica heard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    term: Term,
    leader: NodeId,
}

impl Standing {
    /// It stopped by itself just now.
    pub(super) const fn stopped(fault: Fault) -> Self {
        Self::Stopped { fault, heard: None, silent_ticks: 0 }
    }

    /// True if the replica has neither stopped nor ended.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        matches!(self, Self::TakesPart | Self::WithoutRoom(_))
    }

    /// True if term and vote are in the log, so that the replica may speak and hear.
    #[must_use]
    pub const fn takes_part(&self) -> bool {
        matches!(self, Self::TakesPart)
    }

    /// Why it stopped by itself, if it did.
    #[must_use]
    pub const fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Stopped { fault, .. } => Some(fault),
            Self::TakesPart | Self::WithoutRoom(_) | Self::Ended => None,
        }
    }
}

impl<S: Storage> Replica<S> {
    /// The last thing that a leader does: it tells a follower to take over, which otherwise costs an election timeout.
    fn name_successor(&mut self) {
        if let Some((successor, message)) = self.raft.last_successor() {
            self.send(successor, message);
        }
    }

    /// What is left to do with an event for a replica that does not run.
    pub(super) fn on_event_too_late<P>(&mut self, event: &Event<'_, P>) {
        match event {
            Event::Call { origin, .. } => {
                mark!("replica: a replica that does not run refuses a request");
                let refusal = match &self.standing {
                    Standing::Stopped { fault, .. } => {
                        let message = format!("this node stopped, ask another: {fault}");
                        Refusal::not_executed(Status::Unavailable, message)
                    }
                    _ => Refusal::not_executed(Status::ShuttingDown, "this node is shutting down; ask another"),
                };
                self.refuse(*origin, refusal);
            }
            Event::Tick => {
                if let Standing::Stopped { silent_ticks, .. } = &mut self.standing {
                    *silent_ticks += 1;
                }
            }
            Event::Message { from, message: Message::Heartbeat { term, .. }, .. } => self.note_leader(*from, *term),
            Event::Append { from, append, .. } => self.note_leader(*from, append.term),
            _ => {}
        }
    }

    /// Notes who leads. Only a term later than any known one changes that. A term far above all others is not believed: it would stay for
    /// good.
    fn note_leader(&mut self, from: NodeId, term: Term) {
        let is_member = self.raft.membership().is_member(from) && from != self.options.raft.id;
        let is_credible = is_member && term >= self.raft.term() && !self.raft.refuses_term(from, term);
        if let Standing::Stopped { heard, silent_ticks, .. } = &mut self.standing {
            let known = heard.map_or(Term::ZERO, |heard| heard.term);
            if is_credible && term > known {
                mark!("replica: a stopped replica hears of a leader");
                *heard = Some(Heard { term, leader: from });
            }
            if heard.is_some_and(|heard| heard.term == term && heard.leader == from) {
                *silent_ticks = 0;
            }
        }
    }

    /// Who leads, as far as people and clients are told.
    #[must_use]
    pub(crate) fn leadership(&self) -> Leadership {
        let mut shown = Leadership {
            term: self.raft.term(),
            leader: self.raft.leader_of_one_history(),
            is_leader: self.raft.role() == Role::Leader,
        };
        assert!(!shown.is_leader || shown.leader == Some(self.options.raft.id), "a leader knows of itself: {shown:?}");
        if self.standing.is_running() {
            return shown;
        }
        shown.is_leader = false;
        shown.leader = shown.leader.filter(|leader| *leader != self.options.raft.id);
        if let Standing::Stopped { heard, silent_ticks, .. } = &self.standing {
            if let Some(Heard { term, leader }) = *heard {
                (shown.term, shown.leader) = (term, Some(leader));
            }
            // Nobody is sent to a leader that is gone.
            if *silent_ticks >= u64::from(self.options.raft.election_ticks) {
                shown.leader = None;
            }
        }
        shown
    }

    /// Stops this replica for good. Nothing is acknowledged from here on.
    pub(super) fn stop_with(&mut self, fault: Fault) {
        if !self.standing.is_running() {
            return;
        }
        // Sends and acknowledgements that are queued already rest on what was durable before.
        self.promises.forget_messages();
        self.name_successor();
        let message = format!("this node stopped: {fault}");
        self.standing = Standing::stopped(fault);
        self.drain_held(Status::Unavailable, &message);
        self.refuse_queue(Status::Unavailable, &message);
        // They may be in the log: what failed may have been the closing of their batch.
        let forming = self.proposals.take_batch().unwrap_or_default();
        let writes = self.waiting.writes.drain();
        for origin in forming.iter().filter_map(Waiter::unanswered).chain(writes) {
            self.refuse(origin, Refusal::unknown(Status::Internal, message.clone()));
        }
        self.refuse_reads_and_relays(Status::Unavailable, &message);
    }

    /// Refuses everything that waits, and takes no more part: the process ends. A leader that found no successor before names an heir:
    /// somebody may have become fit to lead since.
    pub(super) fn end(&mut self) {
        if self.standing.takes_part() {
            self.name_successor();
        }
        self.abandon_batch();
        let message = "this node is shutting down";
        self.refuse_queue(Status::ShuttingDown, message);
        self.drain_held(Status::ShuttingDown, message);
        for origin in self.waiting.writes.drain() {
            self.refuse(origin, Refusal::unknown(Status::ShuttingDown, message));
        }
        self.refuse_reads_and_relays(Status::ShuttingDown, message);
        self.promises.forget_messages();
        self.standing = Standing::Ended;
    }

    fn refuse_reads_and_relays(&mut self, status: Status, message: &str) {
        for origin in self.waiting.reads.drain() {
            self.refuse(origin, Refusal::not_executed(status, message.to_owned()));
        }
        for relayed in self.waiting.relays.drain() {
            self.refuse_relayed(&relayed, status, message.to_owned());
        }
    }
}
