//! Raft without I/O: who leads a shard, which entries its log holds, and which of them are committed.
//!
//! Does not: hold entries or read their bytes (it sees positions through `LogView`), write anything, know clocks (time is
//! `tick`), sockets, or what entries mean, but for those that say who the members are. Snapshots are not part of it yet.
//!
//! # Calling order
//!
//! Calls in, then `ready()`, whose outputs are carried out in the order of its fields. Outputs of several calls add up; they
//! must be drained and carried out before the log changes (`AppendDecision::Append` is carried out after `ready()`), and
//! before anything else leaves. Entries are appended only by the leader's own batches (`next_entry_id`, then
//! `on_appended`), for `Ready::append_noop`, or for `AppendDecision::Append`. When a sync completes:
//! `on_hard_state_persisted` for each hard state it covered, then `on_persisted`, then the held messages leave.
//!
//! # What is promised, and on what it rests
//!
//! * A vote, granted or a candidate's own, counts or leaves only when it is durable (thesis 3.4, 3.8).
//! * A follower acknowledges min(persisted_index, matched_index), where `matched_index` is the highest index through which
//!   its log is known to equal that of the leader *of this term*. It starts at 0 in every term: every later leader should
//!   have what is committed, but only comparing shows that this one does (see `known`).
//! * An acknowledgement also promises the term it is given in. Everything that carries a term leaves through
//!   `messages_after_persist` until that term is durable. Hard state is appended to the same log before the entries of its
//!   leader, so that in practice a durable entry implies a durable term and acknowledgements are never held up.
//! * The leader counts its own log through its persisted_index, as it counts any follower's: a quorum of followers may
//!   commit before the leader's disk has it (thesis 10.2.1), and a single node commits after its own sync only.
//! * Only entries of the leader's own term are committed by counting (thesis 3.6.2).
//! * A read is confirmed by a round of heartbeats that started after the read arrived (thesis 6.4).
//! * Nothing rests on the order, the single delivery or the arrival of messages.

mod birth;
mod config;
mod election;
mod follower;
mod known;
mod leader;
mod log_view;
mod members;
mod membership;
mod message;
mod office;
mod read_index;
mod ready;
mod refused;
mod repair;
mod tracker;
mod transfer;

pub use birth::{BirthAnswer, BirthRecord, BirthView, LostView, Stage};
pub use config::{Config, PENDING_READS_MAX};
pub use known::{Contradiction, ContradictionKind};
pub use log_view::LogView;
pub(crate) use membership::MEMBERSHIP_BYTES_MAX;
pub use membership::Membership;
pub use message::{AppendEntries, AppendOutcome, Health, Message, Speaker};
pub use office::{HandOverEnd, HandOverReason, OfficeStep};
pub use ready::{AppendDecision, HardState, NotLeader, Outdated, ReadId, ReadIndexError, Ready, Role, TransferError};
pub use refused::{Nonsense, TERM_MAX};
pub use repair::RepairView;
pub use tracker::{Inflights, Progress, ProgressState};
pub use transfer::{Transfer, Unfit};

use crate::types::{EntryId, Index, NodeId, Term};
use birth::Birth;
use election::{ElectionTimer, Votes};
use follower::Following;
use leader::Leading;
use members::History;
use refused::Refused;
use repair::Repair;
use transfer::Pacing;
use wal::random::SplitMix64;

/// One replica of one Raft group. See the module's documentation for the calling order.
#[derive(Debug)]
pub struct Raft {
    config: Config,
    /// The members as the log says it, whether that is committed or not. Invariant: the last of `history`.
    membership: Membership,
    history: History,
    rng: SplitMix64,
    /// Ticks since this value was made.
    now_tick: u64,
    /// Term and vote as they are now.
    hard_state: HardState,
    /// Term and vote as last returned by `ready`.
    handed_out_hard_state: HardState,
    /// Term and vote known durable.
    ///
    /// Invariant: durable <= handed out <= current, by term; messages that promise the current one wait while they differ.
    durable_hard_state: HardState,
    state: State,
    /// The leader of the current term, as far as known; this node while it leads.
    leader: Option<NodeId>,
    /// The last term that this node led in this life; 0 = none. Nobody else can lead it. Invariant: led_term <= current term.
    led_term: Term,
    /// Highest index known durable on a quorum. Never decreases. Starts where the log begins, or where an earlier life of
    /// this node noted it.
    ///
    /// Invariant: commit_index <= last_index. May exceed this node's own persisted_index.
    commit_index: Index,
    /// The last entry that an earlier life of this node knew to be committed; the log need not hold it (see `known`).
    noted_committed: EntryId,
    /// What this node, as a follower, knows of its leader's log. Meaningless while it leads.
    following: Following,
    timer: ElectionTimer,
    /// Paces hand-overs to the preferred leader.
    preferred: Pacing,
    /// Paces hand-overs of this node while it is not fit to lead.
    ailing: Pacing,
    /// Since when this node has not been fit to lead. Unit: ticks of this core.
    ailing_since_tick: Option<u64>,
    /// How this node is, as far as the caller told. Whether it may lead is known here.
    health: Health,
    /// Where the log comes from. Invariant: a new node is a follower of nobody.
    birth: Birth,
    /// This node lost durable entries and is getting them back. Invariant: it is a follower meanwhile.
    repair: Option<Repair>,
    out: Ready,
    refused: Refused,
    /// When a message last raised the term by a leap (see `refused`). Unit: ticks of this core.
    leapt_tick: Option<u64>,
}

/// What a role needs to remember.
#[derive(Debug)]
enum State {
    Follower,
    PreCandidate(Votes),
    Candidate(Votes),
    Leader(Box<Leading>),
}

impl Raft {
    /// Starts a replica as a follower of nobody, with the hard state its log recovered.
    ///
    /// Panics on settings that cannot work (see `Config`) and when the log holds entries of a later term than the hard state.
    #[must_use]
    pub fn new(config: Config, hard_state: HardState, log: &impl LogView) -> Self {
        config.assert_valid();
        assert!(
            log.last_id().term <= hard_state.term,
            "the log ends at {} but the recovered term is {}",
            log.last_id(),
            hard_state.term
        );
        let membership = Membership::new(config.voters.clone());
        let rng = SplitMix64::of_stream(config.seed, config.id.get());
        let mut raft = Self {
            history: History::new(membership.clone()),
            membership,
            rng,
            now_tick: 0,
            hard_state,
            handed_out_hard_state: hard_state,
            durable_hard_state: hard_state,
            state: State::Follower,
            leader: None,
            led_term: Term::ZERO,
            commit_index: log.base().index,
            noted_committed: log.base(),
            following: Following::default(),
            timer: ElectionTimer::default(),
            preferred: Pacing::new(&config),
            ailing: Pacing::new(&config),
            ailing_since_tick: None,
            health: Health::default(),
            birth: Birth::default(),
            repair: None,
            out: Ready::default(),
            refused: Refused::default(),
            leapt_tick: None,
            config,
        };
        raft.arm_first_timer();
        raft
    }

    /// One tick of time passed.
    pub fn tick(&mut self, log: &impl LogView) {
        self.now_tick += 1;
        self.tick_lost();
        match self.state {
            State::Leader(_) => self.tick_leader(log),
            State::Follower | State::PreCandidate(_) | State::Candidate(_) => self.tick_election(log),
        }
    }

    /// A peer's message arrived; `AppendEntries` with entries go to `step_append`.
    ///
    /// Messages of nodes that are not peers are ignored; those that make no sense are refused (see `Nonsense`). Answers of a log
    /// that does not count are taken for what they say of terms, and else only as a hint what to send.
    pub fn step(&mut self, from: NodeId, speaker: Speaker, message: Message, log: &impl LogView) {
        let may_elect = !self.is_under_repair();
        if !self.is_peer(from) || !self.may_hear(&message) || (!may_elect && message.is_about_elections()) {
            return;
        }
        self.tell_outdated(from, speaker);
        if message.rests_on_term() && self.refuses_term(from, message.term()) {
            if self.raises_term(&message) {
                self.approach(message.term());
            }
            return;
        }
        match message {
            Message::RequestPreVote { term, last } => self.on_pre_vote_request(from, term, last, log),
            Message::PreVoteResponse { term, campaign_term, granted } => {
                let granted = granted && self.counts(from, speaker);
                self.on_pre_vote_response(from, term, campaign_term, granted, log);
            }
            Message::RequestVote { term, last, transfer } => self.on_vote_request(from, term, last, transfer, log),
            Message::RequestVoteResponse { term, granted } => {
                if self.is_current(term) {
                    let granted = granted && self.counts(from, speaker);
                    self.on_vote_response(from, granted, log);
                }
            }
            Message::AppendEntries(append) => {
                let decision = self.step_append(from, &append, &[], log);
                assert!(decision == AppendDecision::Drop, "an append without entries changed the log");
            }
            Message::AppendEntriesResponse { term, outcome } => {
                if self.is_current(term)
                    && let Some(weight) = self.weigh(from, speaker)
                {
                    self.on_append_response(from, weight, outcome, log);
                }
            }
            Message::Heartbeat { term, commit_index, round } => self.on_heartbeat(from, term, commit_index, round, log),
            Message::HeartbeatResponse { term, round, matched_index, persisted_index, health } => {
                if self.is_current(term)
                    && let Some(weight) = self.weigh(from, speaker)
                {
                    self.note_health_of(from, matched_index, health);
                    self.on_heartbeat_response(from, weight, round, matched_index, persisted_index, log);
                }
            }
            Message::TimeoutNow { term, last_index } => self.on_timeout_now(from, term, last_index, log),
            Message::RepairRequest { nonce, last, .. } => self.on_repair_request(from, speaker, nonce, last, log),
            Message::RepairResponse { term, nonce, last_index } => {
                self.on_repair_response(from, term, nonce, last_index, log);
            }
            Message::BirthRequest { incarnation, .. } => self.on_birth_request(from, incarnation),
            Message::BirthResponse { asked, incarnation, answer, .. } => {
                self.on_birth_response(from, asked, incarnation, answer);
            }
            Message::Outdated { incarnation, since, .. } => self.on_told_outdated(from, incarnation, since, log),
        }
    }

    /// The log grew: by the entries of an `AppendDecision::Append`, or by this leader's own batch or no-op.
    ///
    /// A leader sends what is new to every follower whose window allows it, before its own disk has it.
    pub fn on_appended(&mut self, log: &impl LogView) {
        match &self.state {
            State::Leader(_) => self.broadcast_appends(log),
            State::Follower | State::PreCandidate(_) | State::Candidate(_) => self.take_appended(log),
        }
    }

    /// More of the log became durable: `LogView::persisted_index` advanced.
    pub fn on_persisted(&mut self, log: &impl LogView) {
        match &self.state {
            State::Leader(_) => {
                self.advance_commit(log);
                self.tell_opening();
            }
            State::Follower | State::PreCandidate(_) | State::Candidate(_) => {
                self.acknowledge_news(log);
                self.check_repair(log);
            }
        }
    }

    /// A hard state that `ready` returned is durable. In the order in which they were returned; some may be left out.
    pub fn on_hard_state_persisted(&mut self, hard_state: HardState, log: &impl LogView) {
        assert!(
            hard_state.term <= self.handed_out_hard_state.term,
            "term {} was never handed out to be persisted, {} was",
            hard_state.term,
            self.handed_out_hard_state.term
        );
        assert!(hard_state.term >= self.durable_hard_state.term, "hard states became durable out of order");
        self.durable_hard_state = hard_state;
        if self.hard_state_is_durable() {
            self.count_own_vote(log);
            self.check_repair(log);
        }
    }

    /// A connection to or from a peer broke.
    ///
    /// A follower that loses its leader this way campaigns soon, asking for pre-votes first: nodes that still hear the
    /// leader refuse them. A leader assumes that everything in flight to the peer is lost.
    pub fn on_peer_disconnected(&mut self, node: NodeId, log: &impl LogView) {
        match &mut self.state {
            State::Leader(leading) => leading.on_peer_disconnected(node),
            State::Follower => {
                if self.leader == Some(node) {
                    self.hurry_election(log);
                }
            }
            State::PreCandidate(_) | State::Candidate(_) => {}
        }
    }

    /// An `AppendEntries` to this follower could not be sent: its entries, behind `prev_index`, count as not sent.
    ///
    /// They are sent again with the next entries, acknowledgement or answer to a heartbeat.
    pub fn on_append_unsent(&mut self, node: NodeId, prev_index: Index) {
        if let State::Leader(leading) = &mut self.state
            && let Some(progress) = leading.progress.get_mut(&node)
        {
            progress.on_unsent(prev_index);
        }
    }

    /// Both connections to a peer are up (again).
    pub fn on_peer_connected(&mut self, node: NodeId) {
        if !self.is_peer(node) {
            return;
        }
        if self.is_new() {
            self.ask_birth(node);
            return;
        }
        match self.state {
            State::Leader(_) => self.greet_follower(node),
            State::Follower => self.hurry_preferred(),
            State::PreCandidate(_) | State::Candidate(_) => self.ask_again(node),
        }
    }

    /// Drains what is to be done. Cheap when nothing is.
    #[must_use]
    pub fn ready(&mut self) -> Ready {
        self.check_given_up();
        let mut ready = std::mem::take(&mut self.out);
        if self.hard_state != self.handed_out_hard_state {
            self.handed_out_hard_state = self.hard_state;
            ready.hard_state = Some(self.hard_state);
        }
        ready
    }

    /// Whether the leader takes proposals now: it does not while it hands leadership over.
    pub fn may_propose(&self) -> Result<(), NotLeader> {
        match &self.state {
            State::Leader(leading) if !leading.is_transferring() => Ok(()),
            _ => Err(NotLeader { leader: self.leader }),
        }
    }

    /// The first entry of this leader's own term that is not known to be committed; it need not be in the log yet. On every
    /// other node the first entry that is not known to be committed.
    #[must_use]
    pub fn first_own_uncommitted(&self) -> Index {
        let uncommitted = self.commit_index.next();
        match &self.state {
            State::Leader(leading) => uncommitted.max(leading.opening_index),
            State::Follower | State::PreCandidate(_) | State::Candidate(_) => uncommitted,
        }
    }

    /// What a leader's next entry is called. Only meaningful while `may_propose`.
    #[must_use]
    pub fn next_entry_id(&self, log: &impl LogView) -> EntryId {
        EntryId::new(self.hard_state.term, log.last_id().index.next())
    }

    /// This node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.config.id
    }

    /// This node's role in its term.
    #[must_use]
    pub fn role(&self) -> Role {
        match self.state {
            State::Follower => Role::Follower,
            State::PreCandidate(_) => Role::PreCandidate,
            State::Candidate(_) => Role::Candidate,
            State::Leader(_) => Role::Leader,
        }
    }

    /// The current term; need not be durable yet.
    #[must_use]
    pub fn term(&self) -> Term {
        self.hard_state.term
    }

    /// Term and vote; need not be durable yet.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The leader of the current term, as far as known.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// Highest index known durable on a quorum.
    #[must_use]
    pub fn commit_index(&self) -> Index {
        self.commit_index
    }

    /// Who votes.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Followers that lack entries which this leader's log does not reach back to.
    pub(crate) fn needs_state(&self) -> impl Iterator<Item = NodeId> {
        self.progress().filter(|(_, progress)| progress.state() == ProgressState::NeedsState).map(|(node, _)| node)
    }

    /// A leader's followers, in ascending order; empty on every other node.
    pub fn progress(&self) -> impl Iterator<Item = (NodeId, &Progress)> {
        let leading = match &self.state {
            State::Leader(leading) => Some(leading),
            _ => None,
        };
        leading.into_iter().flat_map(|leading| leading.followers())
    }

    fn is_peer(&self, node: NodeId) -> bool {
        node != self.config.id && self.membership.is_voter(node)
    }

    fn hard_state_is_durable(&self) -> bool {
        self.durable_hard_state == self.hard_state
    }

    /// Judges a response by its term: a later one ends this node's term, an earlier one is stale.
    fn is_current(&mut self, term: Term) -> bool {
        if term > self.hard_state.term {
            self.become_follower(term, None);
        }
        term == self.hard_state.term && self.hard_state.term > Term::ZERO
    }

    /// Sends something that promises the current term or vote: held back until both are durable.
    fn respond(&mut self, to: NodeId, message: Message) {
        if self.hard_state_is_durable() {
            self.out.messages.push((to, message));
        } else {
            self.out.messages_after_persist.push((to, message));
        }
    }

    /// Ends whatever this node was; from here on it follows `leader`, if there is one, in `term`.
    fn become_follower(&mut self, term: Term, leader: Option<NodeId>) {
        assert!(term >= self.hard_state.term, "the term went back from {} to {term}", self.hard_state.term);
        assert!(leader != Some(self.config.id), "a node does not follow itself");
        let is_later = term > self.hard_state.term;
        self.end_transfer(if is_later { HandOverEnd::Done } else { HandOverEnd::Deposed });
        if is_later {
            self.note_leap(term);
            self.hard_state = HardState { term, vote: None };
            self.following = Following::default();
        }
        if let State::Leader(leading) = &mut self.state {
            self.out.append_noop = None;
            leading.fail_reads(&mut self.out.reads_failed);
        }
        self.state = State::Follower;
        self.leader = leader;
        self.restart_election_timer();
    }
}
