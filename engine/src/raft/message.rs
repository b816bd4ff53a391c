//! What Raft peers say to each other.
//!
//! Messages are positions and terms only: the bytes of entries are attached by the replica when an `AppendEntries` leaves
//! and taken off before Raft gets it. Decoding checks a message's shape and nothing else; its term decides what it is worth.
//! Peers talk over several connections, so any message may overtake any other, get lost or arrive twice.

use super::BirthAnswer;
use crate::types::{EntryId, Index, Lineage, Term};

/// The life that an answer names which answers no leader of its term. No node has it, and only a `HeartbeatResponse` may name it.
pub(crate) const NO_LIFE: u64 = 0;

/// The log that a message speaks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Speaker {
    /// Drawn when the sender's log was made; see `birth`.
    pub incarnation: u64,
    /// The log stands in the place of one that is lost and does not hold yet what that one promised. Nothing that its node says
    /// counts; what it says of its log tells the leader what to send.
    pub is_joining: bool,
}

/// A message from one voter to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Would you vote for me in `term`? Changes nothing at the receiver. Source: thesis 9.6.
    RequestPreVote {
        /// The term the sender would campaign in: its own plus one.
        term: Term,
        /// Last entry of the sender's log.
        last: EntryId,
    },
    /// Answer to `RequestPreVote`.
    PreVoteResponse {
        /// The answering node's own term.
        term: Term,
        /// The term that was asked about.
        campaign_term: Term,
        /// The sender would vote for the receiver.
        granted: bool,
    },
    /// Vote for me. Leaves only after the candidate's own vote is durable. Source: thesis 3.4.
    RequestVote {
        /// The candidate's term.
        term: Term,
        /// Last entry of the candidate's log.
        last: EntryId,
        /// The leader asked for this campaign (`TimeoutNow`), so hearing from it is no reason to refuse. Thesis 4.2.3.
        transfer: bool,
    },
    /// Answer to `RequestVote`. A grant leaves only after the vote is durable.
    RequestVoteResponse {
        /// The voter's term.
        term: Term,
        /// The vote was given.
        granted: bool,
    },
    /// Entries of the leader's log. Without any it asks whether the logs agree at `prev`.
    AppendEntries(AppendEntries),
    /// Answer to `AppendEntries`, or news of what became durable since.
    AppendEntriesResponse {
        /// The follower's term.
        term: Term,
        /// The life of the leader that is answered. It counts for no other life.
        life: u64,
        /// Whether the logs agreed.
        outcome: AppendOutcome,
    },
    /// The leader is alive. Small, never behind bulk data.
    Heartbeat {
        /// The leader's term.
        term: Term,
        /// Names this life of the leader.
        life: u64,
        /// The leader's `commit_index`. The follower takes no more of it than it knows to match.
        commit_index: Index,
        /// The newest round of leadership confirmation (`read_index`); never decreases within a term.
        round: u64,
    },
    /// Answer to `Heartbeat`; repeats what the follower holds, so that a lost acknowledgement costs one heartbeat.
    HeartbeatResponse {
        /// The follower's term.
        term: Term,
        /// The life of the leader that is answered, or `NO_LIFE`. It counts for no other life.
        life: u64,
        /// The round that is answered. 0 confirms nothing: it answers a message of an earlier term, and nodes under repair say it.
        round: u64,
        /// How much of the leader's log arrived; see `AppendOutcome::Accepted`.
        matched_index: Index,
        /// How much of it is durable; see `AppendOutcome::Accepted`.
        persisted_index: Index,
        /// See `AppendOutcome::Accepted`.
        lineage: Option<Lineage>,
        /// Whether the follower could lead.
        health: Health,
    },
    /// Campaign as soon as the leader's log through `last_index` is in yours, without asking beforehand: the leader hands over.
    /// Source: thesis 3.10.
    ///
    /// The entries may still be on their way, and need not be durable: whoever campaigns makes them durable together with its
    /// vote for itself, before it asks for others.
    TimeoutNow {
        /// The leader's term.
        term: Term,
        /// Last entry of the leader's log. The leader appends none after it.
        last_index: Index,
    },
    /// My log lost durable entries: what is your term and, if you lead, how far does your log reach? See `repair`.
    RepairRequest {
        /// The sender's term. Its real one may be later, and forgotten.
        term: Term,
        /// Names this run of the sender; the answer repeats it.
        nonce: u64,
        /// Last entry that the sender has. Later ones that it acknowledged are gone.
        last: EntryId,
        /// Repeats the challenge of the last answer; 0 = there was none.
        challenge: u64,
    },
    /// Answer to `RepairRequest`.
    RepairResponse {
        /// The answering node's term.
        term: Term,
        /// Names this life of the answering node.
        life: u64,
        /// Repeats the question's.
        nonce: u64,
        /// 0, or the end of the leader's log when it was asked, if a quorum without the asking node has confirmed it as the
        /// leader since.
        last_index: Index,
        /// The next question has to repeat this before the group gives up the asking member's earlier log; 0 = nothing.
        challenge: u64,
    },
    /// My log is new: are you new, too, or do you know this incarnation of me? See `birth`.
    BirthRequest {
        /// The sender's term.
        term: Term,
        /// Drawn when the sender's log was made.
        incarnation: u64,
    },
    /// Answer to `BirthRequest`.
    BirthResponse {
        /// The answering node's term.
        term: Term,
        /// The incarnation that asked.
        asked: u64,
        /// The answering node's own.
        incarnation: u64,
        /// What it is, and what it knows of the asking node.
        answer: BirthAnswer,
    },
    /// Up to where must the reads see that wait here? See `asking`.
    ReadIndexRequest {
        /// The sender's term, in which it takes the receiver for the leader.
        term: Term,
        /// The life of the leader that is asked. No other life of it answers.
        leader_life: u64,
        /// Names this life of the sender.
        life: u64,
        /// Number of the question in this life; rises. All reads that it is for arrived before it was first sent.
        batch: u64,
    },
    /// Answer to `ReadIndexRequest`, once a quorum has confirmed the leader after the question. Source: thesis 6.4.
    ReadIndexResponse {
        /// The leader's term.
        term: Term,
        /// Repeats the question's.
        life: u64,
        /// Repeats the question's.
        batch: u64,
        /// Whoever has applied this has applied every write that was acknowledged before the question arrived.
        index: Index,
    },
    /// Your log was given up: another one of your node counts in its place. See `membership_history`.
    Outdated {
        /// The sender's term.
        term: Term,
        /// Incarnation of the log that counts (see `membership_history`).
        incarnation: u64,
        /// The committed entry that says so.
        since: Index,
    },
}

/// How fit a node is to lead, by its own account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Last entry applied to its state. A node far behind its own log is replaying and would answer nothing for a while.
    pub applied_index: Index,
    /// It may campaign; a node under repair may not.
    pub may_lead: bool,
    /// The last segment that its log asked for could be prepared.
    pub has_room: bool,
    /// Its syncs end in time.
    pub disk_keeps_up: bool,
}

impl Default for Health {
    fn default() -> Self {
        Self { applied_index: Index::ZERO, may_lead: true, has_room: true, disk_keeps_up: true }
    }
}

/// An entry of a log, and the lineage of the log up to it: equal in two logs if all that stands there is equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// The entry.
    pub id: EntryId,
    /// Lineage of all entries up to it.
    pub lineage: Lineage,
}

/// Entries `first..=last` of the leader's log, right after `prev`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendEntries {
    /// The leader's term.
    pub term: Term,
    /// Names this life of the leader.
    pub life: u64,
    /// The entry before `first` in the leader's log; zero before the first entry.
    pub prev: EntryId,
    /// Lineage of the leader's log up to `prev`. A follower that has another one at `prev` has another history.
    pub prev_lineage: Lineage,
    /// Index of the first entry carried. Invariant: first == prev.index + 1.
    pub first: Index,
    /// Index of the last entry carried; `last < first` when none is.
    pub last: Index,
    /// The leader's `commit_index`. The follower takes no more of it than it knows to match.
    pub commit_index: Index,
}

impl AppendEntries {
    /// `prev` with its lineage.
    pub(super) const fn prev_tip(&self) -> Tip {
        Tip { id: self.prev, lineage: self.prev_lineage }
    }

    /// Number of entries carried.
    #[must_use]
    pub const fn entries_count(&self) -> u64 {
        (self.last.get() + 1).saturating_sub(self.first.get())
    }
}

/// Whether a follower's log agreed with an `AppendEntries`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The logs agreed, and the entries were taken.
    Accepted {
        /// Highest index through which the follower's log is known to equal the leader's, in this term. Not durable: it tells
        /// the leader what arrived, so that a slow disk is not mistaken for a lost message.
        matched_index: Index,
        /// min(persisted_index, matched_index): counts toward the commit quorum.
        ///
        /// Invariant: persisted_index <= matched_index.
        persisted_index: Index,
        /// Lineage of the follower's log up to `matched_index`, which the leader compares with its own (see `answers`). `None` if the
        /// log does not reach back to there.
        lineage: Option<Lineage>,
    },
    /// The logs agreed, but the follower's log has no room for the entries: it dropped them. It takes entries again once it
    /// answers `Accepted`. The fields are those of `Accepted`.
    NoRoom {
        /// See `Accepted`.
        matched_index: Index,
        /// See `Accepted`.
        persisted_index: Index,
        /// See `Accepted`.
        lineage: Option<Lineage>,
    },
    /// The logs agreed, but the entries came damaged: the follower dropped them. It keeps saying so until entries come whole. The fields
    /// are those of `Accepted`.
    Damaged {
        /// See `Accepted`.
        matched_index: Index,
        /// See `Accepted`.
        persisted_index: Index,
        /// See `Accepted`.
        lineage: Option<Lineage>,
    },
    /// The follower has no entry at `prev_index`, or another one.
    Rejected {
        /// `prev.index` of the rejected message: tells the leader which of several in flight is meant.
        prev_index: Index,
        /// Where the logs may agree: last entry of the follower at or before `prev_index` whose term is at most that of the
        /// rejected `prev`.
        hint: EntryId,
    },
    /// The follower has an entry of this name in another history (see `histories`). It takes nothing from this leader in this term.
    OtherHistory {
        /// The entry.
        entry: EntryId,
        /// Its lineage in the follower's log.
        lineage: Lineage,
    },
}

impl Message {
    /// True if it is part of an election or of a hand-over. A node that may have forgotten a vote ignores such messages.
    #[must_use]
    pub(super) const fn is_about_elections(&self) -> bool {
        matches!(
            self,
            Self::RequestPreVote { .. }
                | Self::PreVoteResponse { .. }
                | Self::RequestVote { .. }
                | Self::RequestVoteResponse { .. }
                | Self::TimeoutNow { .. }
        )
    }

    /// Whether `step` refuses the message if its term makes no sense. Questions of nodes under repair and of new nodes are answered
    /// in any term, since those nodes may have been lied to. The term of an `AppendEntries` is checked in `admit_append`.
    #[must_use]
    pub(super) const fn rests_on_term(&self) -> bool {
        !matches!(
            self,
            Self::AppendEntries(_)
                | Self::RepairRequest { .. }
                | Self::BirthRequest { .. }
                | Self::BirthResponse { .. }
                | Self::Outdated { .. }
        )
    }

    /// False if the message names no life of the leader that speaks or is answered, or of the node that asks. No honest node leaves it out.
    #[must_use]
    pub(super) const fn names_its_lives(&self) -> bool {
        match self {
            Self::AppendEntries(AppendEntries { life, .. })
            | Self::AppendEntriesResponse { life, .. }
            | Self::Heartbeat { life, .. }
            | Self::RepairResponse { life, .. }
            | Self::ReadIndexResponse { life, .. } => *life != NO_LIFE,
            Self::ReadIndexRequest { leader_life, life, .. } => *leader_life != NO_LIFE && *life != NO_LIFE,
            // It may answer no leader of its term.
            Self::HeartbeatResponse { .. } => true,
            Self::RequestPreVote { .. }
            | Self::PreVoteResponse { .. }
            | Self::RequestVote { .. }
            | Self::RequestVoteResponse { .. }
            | Self::TimeoutNow { .. }
            | Self::RepairRequest { .. }
            | Self::BirthRequest { .. }
            | Self::BirthResponse { .. }
            | Self::Outdated { .. } => true,
        }
    }

    /// The term the message was sent in; for `RequestPreVote` the term it asks about.
    #[must_use]
    pub const fn term(&self) -> Term {
        match self {
            Self::RequestPreVote { term, .. }
            | Self::PreVoteResponse { term, .. }
            | Self::RequestVote { term, .. }
            | Self::RequestVoteResponse { term, .. }
            | Self::AppendEntries(AppendEntries { term, .. })
            | Self::AppendEntriesResponse { term, .. }
            | Self::Heartbeat { term, .. }
            | Self::HeartbeatResponse { term, .. }
            | Self::TimeoutNow { term, .. }
            | Self::RepairRequest { term, .. }
            | Self::RepairResponse { term, .. }
            | Self::BirthRequest { term, .. }
            | Self::BirthResponse { term, .. }
            | Self::ReadIndexRequest { term, .. }
            | Self::ReadIndexResponse { term, .. }
            | Self::Outdated { term, .. } => *term,
        }
    }
}
