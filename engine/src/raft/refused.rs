//! Messages that no honest peer sends: what is wrong with them, and how many there were.
//!
//! Whoever reaches the peer port, and every bug of another version, can send well-formed messages that make no sense. They are
//! refused: nothing is answered, and nothing changes but the term, where that of the message is far above (`approach`). They never
//! trip an assertion.

use super::{Common, Fork, Message, Raft};
use crate::limits::{TERM_LEAP_MAX, TERM_STEP_MAX};
use crate::types::{EntryId, Index, NodeId, Term};

/// Latest term there is. No campaign goes beyond it, so every term that a node can have is one that its peers can read.
///
/// With one election each millisecond it would be reached after more than a hundred million years.
pub const TERM_MAX: Term = Term::new((1 << 62) - 1);

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nonsense {
    /// Two nodes claim to lead the same term.
    #[error("it claims to lead term {term}, which node {leader} leads")]
    SecondLeader {
        /// The term.
        term: Term,
        /// Who leads it.
        leader: NodeId,
    },
    /// A node leads one term in two lives.
    #[error(
        "it leads term {term}, and led it in an earlier life before: its data directory was put back to an older copy since, and it forgot \
         its vote. Nothing is taken from it in this term; docs/durability.md, `A leader in two lives`, says what to do"
    )]
    SecondLife {
        /// The term.
        term: Term,
    },
    /// The leader of a term gets an answer to an earlier life of its own, which led the same term.
    #[error(
        "it heard an earlier life of this node lead term {term}, and this node does not know that: its data directory was put back to an \
         older copy since, and it forgot its vote. This node gives up the term; docs/durability.md, `A leader in two lives`, says what to do"
    )]
    OtherLifeOfLeader {
        /// The term.
        term: Term,
    },
    /// Its term is too far above this node's.
    #[error("it names term {got}, too far above this node's term {own}")]
    FarTerm {
        /// The message's term.
        got: Term,
        /// This node's term.
        own: Term,
    },
    /// The leader of a term sends another entry than it sent before.
    #[error("it sends entry {got} where the same term's leader had sent one of term {matched} before")]
    OtherEntry {
        /// The entry that it sends.
        got: EntryId,
        /// The term of the entry that matched before.
        matched: Term,
    },
    /// An entry of this node's log stands in another history in the other's. What a follower does then says `histories`.
    #[error(
        "it has entry {} in another history: its lineage is {} there and {} here. Two nodes led one term, because one was put back to an older copy of its data directory and forgot its vote. The follower of these two takes no more entries of this leader; docs/durability.md, `Two histories`, says what to do",
        .0.entry, .0.theirs, .0.ours
    )]
    OtherHistory(Fork),
    /// The leader of a term sends what supersedes entries of that very term, which it made itself if nobody else led the term.
    #[error(
        "it would cut off entry {cut}, which is of the term that it leads; so another node led that term, too: one was put back to an older copy of its data directory and forgot its vote; docs/durability.md, `Two histories`, says what to do"
    )]
    CutsOwnTerm {
        /// The last entry that would be cut.
        cut: EntryId,
    },
    /// A follower lacks entries that it acknowledged. This one is not refused: the follower gets what it lacks.
    #[error(
        "it acknowledged entries up to {had} and now rejects them, with a log that agrees up to {ends_at} at most: was its directory \
         put back to an older copy? It is sent what it lacks; until then a majority that it was needed for may have lost them"
    )]
    Forgot {
        /// What it had acknowledged.
        had: Index,
        /// What it says that it has.
        ends_at: Index,
    },
    /// It says that this node's log was given up, and this node has reasons to know better.
    #[error(
        "it says that entry {since} put another data directory in the place of this one; neither this node's log nor the leader that it \
         hears says so"
    )]
    NotGivenUp {
        /// The entry that is said to do so.
        since: Index,
    },
    /// A follower has more of a leader's log, by its own account, than there is. Like the next two this shows that the leader was put back
    /// within one life, or that the term has another leader (see `answers`).
    #[error(
        "it has this leader's log up to {got}, and that ends at {last}: the memory and the disk of one of the two were put back to an \
         earlier image. This node gives up the term; docs/durability.md, `A leader in two lives`, says what to do"
    )]
    MatchBeyondEnd {
        /// What it says that it has.
        got: Index,
        /// Where the leader's log ends.
        last: Index,
    },
    /// A follower's log, by its own account, equals the leader's up to an entry, and its lineage is another one.
    #[error(
        "it has this leader's log up to {}, with lineage {} there and {} here: the memory and the disk of one of the two were put back to \
         an \
         earlier image. This node gives up the term; docs/durability.md, `A leader in two lives`, says what to do",
        .0.entry, .0.theirs, .0.ours
    )]
    OtherMatch(Fork),
    /// A follower has another entry of the leader's own term than the leader, who made them all.
    #[error(
        "it has another entry {entry} of the term that this node leads: this node was put back to an earlier image, or another one led the \
         term \
         before. This node gives up the term; docs/durability.md, `A leader in two lives`, says what to do"
    )]
    ForgottenEntry {
        /// The entry.
        entry: EntryId,
    },
    /// It names life 0 of a node, and no node has that. If a follower believed in such a leader, it would refuse the real one.
    #[error("it names a life of a node that no node has")]
    NoLife,
    /// It answers a round of heartbeats that was never begun: the leader forgot it (see `answers`), or somebody lies.
    #[error("it confirms round {got} of heartbeats; the newest is {newest}. This node gives up the term")]
    FutureRound {
        /// The round that it answers.
        got: u64,
        /// The newest round of this term.
        newest: u64,
    },
}

/// Messages that were refused.
#[derive(Clone, Debug, Default)]
pub(super) struct RefusedMessages {
    count: u64,
    last: Option<(NodeId, Nonsense)>,
}

impl Common {
    pub(super) fn refuse(&mut self, from: NodeId, why: Nonsense) {
        self.refused.count += 1;
        self.refused.last = Some((from, why));
    }

    /// Refuses a message whose term is too far above this node's; says whether it was one.
    pub(super) fn refuses_term(&mut self, from: NodeId, term: Term) -> bool {
        let own = self.hard_state.term;
        let is_far = term.get() > own.get().saturating_add(self.reach_terms()) || term > TERM_MAX;
        if is_far {
            self.refuse(from, Nonsense::FarTerm { got: term, own });
        }
        is_far
    }

    /// By how much a message may raise the term now. Unit: terms.
    fn reach_terms(&self) -> u64 {
        let election_ticks = u64::from(self.config.election_ticks);
        let may_leap = self.leapt_tick.is_none_or(|tick| self.now_tick >= tick + election_ticks);
        if may_leap { TERM_LEAP_MAX } else { TERM_STEP_MAX }
    }

    /// A message is about to raise the term to this one. Notes the time if that is a leap.
    pub(super) fn note_leap(&mut self, term: Term) {
        if term.get() - self.hard_state.term.get() > TERM_STEP_MAX {
            self.leapt_tick = Some(self.now_tick);
        }
    }
}

impl Raft {
    /// Messages that made no sense, since this value was made.
    #[must_use]
    pub fn refused_count(&self) -> u64 {
        self.common.refused.count
    }

    /// The last message that made no sense since this was last asked, and who sent it.
    pub fn take_refused(&mut self) -> Option<(NodeId, Nonsense)> {
        self.common.refused.last.take()
    }

    /// Refuses a message whose term is too far above this node's; says whether it was one.
    pub(crate) fn refuses_term(&mut self, from: NodeId, term: Term) -> bool {
        self.common.refuses_term(from, term)
    }

    /// A message that would raise the term was refused because its term is too far above: its sender may be there for good, and
    /// this node goes a leap towards it. Nothing else of the message counts.
    ///
    /// A node can't tell whether it is the other that was led astray. But terms never fall, so they can meet only above.
    pub(super) fn approach(&mut self, term: Term) {
        let reach = self.common.reach_terms();
        if term <= TERM_MAX && reach == TERM_LEAP_MAX {
            self.become_follower(self.common.hard_state.term.plus(reach), None);
        }
    }

    /// Whether this node's term becomes the message's if it takes the message.
    pub(super) fn raises_term(&self, message: &Message) -> bool {
        match message {
            Message::RequestPreVote { .. }
            | Message::TimeoutNow { .. }
            | Message::RepairRequest { .. }
            | Message::BirthRequest { .. }
            | Message::BirthResponse { .. }
            | Message::ReadIndexRequest { .. }
            | Message::ReadIndexResponse { .. }
            | Message::Outdated { .. } => false,
            Message::PreVoteResponse { granted, .. } => !granted,
            Message::RequestVote { transfer, .. } => *transfer || !self.hears_leader(),
            Message::Heartbeat { .. } | Message::AppendEntries(_) => self.may_follow(),
            Message::RepairResponse { nonce, .. } => self.asked_for_repair(*nonce),
            Message::RequestVoteResponse { .. }
            | Message::AppendEntriesResponse { .. }
            | Message::HeartbeatResponse { .. } => true,
        }
    }
}
