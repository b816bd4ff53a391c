//! A replica that stopped by itself, after a failed sync for one.
//!
//! It promises and answers nothing that rests on its log, and everything it was asked for is refused as not executed. It still
//! listens to leaders, only to tell clients where to go. Nothing but a restart ends this.

use net::api::Status;
use wal::Storage;

use super::Replica;
use super::event::{Event, Refusal};
use super::view::{Fault, ReplicaView};
use crate::raft::{Message, Role};
use crate::types::{NodeId, Term};

/// The latest leader that a stopped replica heard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    term: Term,
    leader: NodeId,
}

impl<S: Storage> Replica<S> {
    /// The last thing that a leader does: it tells a follower to take over, which otherwise costs an election timeout.
    pub(super) fn name_heir(&mut self) {
        if let Some((heir, message)) = self.raft.heir() {
            self.send(heir, message);
        }
    }

    /// What is left to do with an event after a fault.
    pub(super) fn handle_stopped<P>(&mut self, event: &Event<'_, P>, fault: &Fault) {
        match event {
            Event::Request(request) => {
                let message = format!("this node stopped, ask another: {fault}");
                self.refuse(request.origin, Refusal::not_executed(Status::Unavailable, message));
            }
            Event::Message { from, message: Message::Heartbeat { term, .. } } => self.note_leader(*from, *term),
            Event::Append { from, append, .. } => self.note_leader(*from, append.term),
            _ => {}
        }
    }

    /// Notes who leads; only a later term than any known changes that. A term that no cluster reaches would stay for good.
    fn note_leader(&mut self, from: NodeId, term: Term) {
        let is_member = self.options.raft.voters.contains(&from) && from != self.options.raft.id;
        let known = self.heard.map_or(Term::ZERO, |heard| heard.term);
        if is_member && term > known && term >= self.raft.term() && !self.raft.refuses_term(from, term) {
            self.heard = Some(Heard { term, leader: from });
        }
    }

    /// What a stopped replica shows: whatever it was, it leads nobody.
    pub(super) fn show_stopped(&self, view: &mut ReplicaView) {
        view.is_leader = false;
        view.role = Role::Follower;
        view.leader = view.leader.filter(|leader| *leader != self.options.raft.id);
        view.transfer = None;
        if let Some(Heard { term, leader }) = self.heard {
            view.term = term;
            view.leader = Some(leader);
        }
    }
}
