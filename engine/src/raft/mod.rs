//! Raft without I/O: who leads a shard, which entries its log holds, and which of them are committed.
//!
//! Does not: hold entries or read their bytes (it sees positions through `LogView`), write anything, know clocks (time is
//! `tick`), sockets, or what entries mean, except for those that say who the members are. Snapshots are not part of it yet.
//!
//! # Parts
//!
//! A node is in one of six states. Each is a type of its own, and what only a node in that state does is a method of that type: a
//! new node (`birth`), a node under repair (`repair`), a follower (`follower`), a node that asks for pre-votes or for votes
//! (`candidate`), a leader (`leader`). Their methods take what a node has in every state, `Common`. `Raft` has one of each: it
//! gives calls to the state that they are for, and changes the state (`become_follower`, `election`, `birth`, `repair`).
//!
//! # Calling order
//!
//! Make calls, then take `ready()` and carry its outputs out in the order of its fields. Outputs of several calls add up. They
//! must be carried out before the log changes (`AppendDecision::Append` is carried out after `ready()`), and before anything
//! else is sent. Entries are appended only by the leader's own batches (`next_entry_id`, then `on_appended`), for
//! `Ready::append_noop`, or for `AppendDecision::Append`. When a sync completes: `on_hard_state_persisted` for each hard state
//! it covered, then `on_persisted`, then the held messages leave.
//!
//! # What is promised, and why it holds
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
//! * Messages may be lost, repeated and reordered: nothing rests on how they arrive.

mod answers;
mod asking;
mod birth;
mod candidate;
mod config;
mod election;
mod follower;
mod histories;
mod holding;
mod known;
mod leader;
mod leadership;
mod log_view;
mod membership;
mod membership_history;
mod message;
mod parting;
mod ready;
mod refused;
mod repair;
mod timer;
mod tracker;

pub use birth::{BirthAnswer, BirthRecord, BirthView, LostView, Stage};
pub use config::Config;
pub use histories::Fork;
pub use known::{Contradiction, ContradictionKind};
pub use leader::{Transfer, Unfit};
pub use leadership::{HandOverEnd, HandOverReason, LeadershipStep};
pub use log_view::LogView;
pub(crate) use membership::MEMBERSHIP_BYTES_MAX;
pub use membership::Membership;
pub(crate) use message::NO_LIFE;
pub use message::{AppendEntries, AppendOutcome, Health, Message, Speaker, Tip};
pub use ready::{
    AddLearnerError, AppendDecision, HardState, NotLeader, Outdated, ReadId, ReadIndexError, Ready, Role, TransferError,
};
pub use refused::{Nonsense, TERM_MAX};
pub use repair::RepairView;
pub use tracker::{Inflights, Progress, ProgressState};

use std::collections::BTreeMap;

use crate::types::{EntryId, Index, NodeId, Term};
use asking::Asking;
use birth::Newcomer;
use candidate::{Candidate, PreCandidate};
use follower::{Following, LeaderLife};
use histories::base_tip;
use holding::Holding;
use leader::{Leading, Pacing};
use membership_history::MembershipHistory;
use refused::RefusedMessages;
use repair::{Answer, Question, Repairing};
use timer::ElectionTimer;
use wal::random::SplitMix64;

/// One replica of one Raft group. See the module's documentation for the calling order.
#[derive(Clone, Debug)]
pub struct Raft {
    common: Common,
    state: State,
}

/// What a node has in every state.
#[derive(Clone, Debug)]
struct Common {
    config: Config,
    /// The members according to the log, whether that is committed or not. Invariant: the last of `history`.
    membership: Membership,
    history: MembershipHistory,
    rng: SplitMix64,
    /// Ticks since this value was made.
    now_tick: u64,
    /// Term and vote as they are now.
    hard_state: HardState,
    /// Term and vote as last returned by `ready`.
    handed_out_hard_state: HardState,
    /// Term and vote known durable.
    ///
    /// Invariant: durable <= handed out <= current, by term. Messages that promise the current one wait until it is durable.
    durable_hard_state: HardState,
    /// The last term that this node led in this life; 0 = none. Nobody else can lead it. Invariant: led_term <= current term.
    led_term: Term,
    /// Highest index known durable on a quorum. Never decreases. Starts where the log begins, or where an earlier life of
    /// this node noted it.
    ///
    /// Invariant: commit_index <= last_index. May exceed this node's own persisted_index.
    commit_index: Index,
    /// The last entry that an earlier life of this node knew to be committed; the log need not hold it (see `known`).
    noted_committed: Tip,
    timer: ElectionTimer,
    /// Limits how often this node hands over to the preferred leader.
    preferred: Pacing,
    /// Limits how often this node hands over because it is not fit to lead.
    sick_disk_pacing: Pacing,
    /// Since when this node, as a leader, has not been fit to lead. Unit: ticks of this core.
    ailing_since_tick: Option<u64>,
    /// How this node is, as the caller said last. `may_lead` is not used here: the state says that.
    health: Health,
    /// This node is going to stop: it leads only if nobody else does.
    is_leaving: bool,
    /// Where the log comes from. Invariant: its stage is `New` exactly in the state `New`.
    birth: BirthRecord,
    /// Peers that lost data, and when they last said so. Unit: ticks of this core.
    lost: BTreeMap<NodeId, u64>,
    /// Random numbers that peers must repeat before they are believed that they lost data; drawn when they first ask. They leave for the
    /// peers' own addresses, so that who only speaks in a peer's name does not know them.
    challenges: BTreeMap<NodeId, u64>,
    asking: Asking,
    out: Ready,
    refused: RefusedMessages,
    /// When a message last raised the term by a leap (see `refused`). Unit: ticks of this core.
    leapt_tick: Option<u64>,
}

/// What a node is at present, and what only such a node remembers.
#[derive(Clone, Debug)]
enum State {
    /// Its log is new, and it takes part in nothing before it knows whether the cluster is.
    New(Newcomer),
    /// It follows a leader to get back what it lost, and helps to elect nobody.
    Repairing(Repairing),
    Follower(Following),
    PreCandidate(PreCandidate),
    Candidate(Candidate),
    Leader(Box<Leading>),
}

impl Raft {
    /// Starts a replica as a follower of nobody, with the hard state its log recovered.
    ///
    /// Panics on settings that cannot work (see `Config`) and when the log holds entries of a later term than the hard state.
    #[must_use]
    pub fn new(config: Config, hard_state: HardState, log: &impl LogView) -> Self {
        config.assert_valid();
        let (last, term) = (log.last_id(), hard_state.term);
        assert!(last.term <= term, "the log ends at {last} but the recovered term is {term}");
        let mut common = Common::new(config, hard_state, log);
        common.arm_first_timer();
        Self { common, state: State::Follower(Following::default()) }
    }

    /// One tick of time passed.
    pub fn tick(&mut self, log: &impl LogView) {
        self.common.now_tick += 1;
        self.common.tick_lost();
        self.common.tick_asking();
        match &mut self.state {
            State::New(newcomer) => newcomer.tick(&mut self.common),
            State::Repairing(repairing) => {
                repairing.tick(&mut self.common, log);
                if self.common.tick_election_timer() {
                    self.let_go_of_leader();
                }
            }
            State::Follower(_) | State::PreCandidate(_) | State::Candidate(_) => self.tick_election(log),
            State::Leader(leading) if leading.hears_quorum(&self.common) => leading.tick(&mut self.common, log),
            State::Leader(_) => {
                mark!("raft: a leader that hears no quorum steps down");
                self.become_follower(self.common.hard_state.term, None);
            }
        }
    }

    /// A peer's message arrived; `AppendEntries` with entries go to `step_append`.
    ///
    /// Messages of nodes that are no members are ignored; those that make no sense are refused (see `Nonsense`). Of answers that
    /// speak for a log that does not count, only the term counts; otherwise they are at most a hint what to send.
    pub fn step(&mut self, from: NodeId, speaker: Speaker, message: Message, log: &impl LogView) {
        let may_elect = !self.is_under_repair();
        if !self.common.is_peer(from) || !self.may_hear(&message) || (!may_elect && message.is_about_elections()) {
            return;
        }
        if !message.names_its_lives() {
            self.common.refuse(from, Nonsense::NoLife);
            return;
        }
        self.tell_outdated(from, speaker);
        if message.rests_on_term() && self.common.refuses_term(from, message.term()) {
            if self.raises_term(&message) {
                self.approach(message.term());
            }
            return;
        }
        match message {
            Message::RequestPreVote { term, last } => self.on_pre_vote_request(from, term, last, log),
            Message::PreVoteResponse { term, campaign_term, granted } => {
                let granted = granted && self.common.counts(from, speaker);
                self.on_pre_vote_response(from, term, campaign_term, granted, log);
            }
            Message::RequestVote { term, last, transfer } => self.on_vote_request(from, term, last, transfer, log),
            Message::RequestVoteResponse { term, granted } => {
                if self.is_current(term) {
                    let granted = granted && self.common.counts(from, speaker);
                    self.on_vote_response(from, granted, log);
                }
            }
            Message::AppendEntries(append) => {
                let decision = self.step_append(from, &append, &[], log);
                assert!(decision == AppendDecision::Drop, "an append without entries changed the log");
            }
            Message::Heartbeat { term, life, commit_index, round } => {
                self.on_heartbeat(LeaderLife { node: from, life }, term, commit_index, round, log);
            }
            Message::AppendEntriesResponse { term, life, outcome } => {
                self.on_append_response(from, speaker, (term, life), outcome, log);
            }
            Message::HeartbeatResponse { term, life, round, matched_index, persisted_index, lineage, health } => {
                let holding = Holding { matched_index, persisted_index, lineage };
                self.on_heartbeat_response(from, speaker, (term, life), (round, health), holding, log);
            }
            Message::TimeoutNow { term, last_index } => self.on_timeout_now(from, term, last_index, log),
            Message::RepairRequest { nonce, last, challenge, .. } => {
                self.on_repair_request(from, speaker, Question { nonce, last, challenge }, log);
            }
            Message::RepairResponse { term, life, nonce, last_index, challenge } => {
                let of = LeaderLife { node: from, life };
                self.on_repair_response(of, term, Answer { nonce, last_index, challenge }, log);
            }
            Message::BirthRequest { incarnation, .. } => self.common.on_birth_request(from, incarnation),
            Message::BirthResponse { asked, incarnation, answer, .. } => {
                if let State::New(newcomer) = &mut self.state {
                    newcomer.on_response(&mut self.common, from, asked, incarnation, answer);
                }
            }
            Message::ReadIndexRequest { term, leader_life, life, batch } => {
                self.on_read_index_request(from, (term, leader_life), life, batch);
            }
            Message::ReadIndexResponse { term, life, batch, index } => {
                self.on_read_index_response(from, term, life, batch, index);
            }
            Message::Outdated { incarnation, since, .. } => self.on_told_outdated(from, incarnation, since, log),
        }
    }

    /// The log grew: by the entries of an `AppendDecision::Append`, or by this leader's own batch or no-op.
    ///
    /// A leader sends what is new to every follower whose window allows it, before its own disk has it.
    pub fn on_appended(&mut self, log: &impl LogView) {
        match &mut self.state {
            State::Leader(leading) => leading.on_appended(&mut self.common, log),
            _ => self.take_appended(log),
        }
    }

    /// More of the log became durable: `LogView::persisted_index` advanced.
    pub fn on_persisted(&mut self, log: &impl LogView) {
        match &mut self.state {
            State::Leader(leading) => leading.on_persisted(&mut self.common, log),
            State::Follower(following) => following.acknowledge_news(&mut self.common, log),
            State::Repairing(repairing) => repairing.on_persisted(&mut self.common, log),
            State::New(_) | State::PreCandidate(_) | State::Candidate(_) => {}
        }
    }

    /// A hard state that `ready` returned is durable. To be called in the order in which they were returned; some may be left out.
    pub fn on_hard_state_persisted(&mut self, hard_state: HardState, log: &impl LogView) {
        let common = &mut self.common;
        assert!(
            hard_state.term <= common.handed_out_hard_state.term,
            "term {} was never handed out to be persisted, {} was",
            hard_state.term,
            common.handed_out_hard_state.term
        );
        assert!(hard_state.term >= common.durable_hard_state.term, "hard states became durable out of order");
        common.durable_hard_state = hard_state;
        if common.hard_state_is_durable() {
            self.count_own_vote(log);
            self.check_repair(log);
        }
    }

    /// A connection to or from a peer broke.
    ///
    /// A follower that loses its leader this way campaigns soon, asking for pre-votes first: nodes that still hear the
    /// leader refuse them. A leader assumes that everything in flight to the peer is lost.
    pub fn on_peer_disconnected(&mut self, node: NodeId, log: &impl LogView) {
        self.fail_reads_of(node);
        if let State::Leader(leading) = &mut self.state {
            leading.on_peer_disconnected(node);
        } else if self.leader() == Some(node) {
            self.hurry_election(node, log);
        }
    }

    /// An `AppendEntries` to this follower could not be sent: its entries, after `prev_index`, count as not sent.
    ///
    /// If that was for want of room, nothing more is sent before `on_entries_room`. Otherwise they are sent again with the next entries,
    /// acknowledgement or answer to a heartbeat.
    pub fn on_append_unsent(&mut self, node: NodeId, prev_index: Index, waits_for_room: bool) {
        if let State::Leader(leading) = &mut self.state {
            leading.on_append_unsent(node, prev_index, waits_for_room);
        }
    }

    /// The way to this follower takes entries again.
    pub fn on_entries_room(&mut self, node: NodeId, log: &impl LogView) {
        if let State::Leader(leading) = &mut self.state {
            leading.on_entries_room(&mut self.common, node, log);
        }
    }

    /// Entries to this follower have not left this node yet. Whatever was sent after them is not lost either. To be called with each
    /// tick for which that is so.
    pub fn on_entries_wait(&mut self, node: NodeId) {
        if let State::Leader(leading) = &mut self.state {
            leading.on_entries_wait(&self.common, node);
        }
    }

    /// The way to this peer takes messages without entries again: repeats what it may wait for. Who asks for votes asks anew by itself
    /// when an election takes too long.
    pub fn on_control_room(&mut self, node: NodeId, log: &impl LogView) {
        match &mut self.state {
            State::Follower(following) | State::Repairing(Repairing { following, .. }) => {
                if following.leader() == Some(node) {
                    following.acknowledge_again(&mut self.common, log);
                    self.common.repeat_question(node);
                }
            }
            State::Leader(leading) => leading.on_control_room(&mut self.common, node),
            State::New(_) | State::PreCandidate(_) | State::Candidate(_) => self.on_peer_connected(node),
        }
    }

    /// This peer speaks on a new connection, and what it said last on the old one may be lost. That is no sign of its death.
    pub fn on_answers_lost(&mut self, node: NodeId) {
        match &mut self.state {
            State::Leader(leading) => leading.on_answers_lost(&mut self.common, node),
            _ => self.common.repeat_question(node),
        }
    }

    /// Both connections to a peer are up (again).
    pub fn on_peer_connected(&mut self, node: NodeId) {
        let common = &mut self.common;
        if !common.is_peer(node) {
            return;
        }
        let votes = common.membership.is_voter(node);
        match &mut self.state {
            State::New(newcomer) if votes => newcomer.ask(common, node),
            State::Follower(following) | State::Repairing(Repairing { following, .. }) => {
                if following.leader().is_none() {
                    common.hurry_preferred();
                }
            }
            State::PreCandidate(asking) if votes => asking.ask_again(common, node),
            State::Candidate(candidate) if votes => candidate.ask_again(common, node),
            State::New(_) | State::PreCandidate(_) | State::Candidate(_) => {}
            State::Leader(leading) => leading.on_peer_connected(common, node),
        }
    }

    /// The entries `first..=last` that `Ready::loads` named are in memory: whoever waited for them gets them.
    pub fn on_loaded(&mut self, first: Index, last: Index, log: &impl LogView) {
        if let State::Leader(leading) = &mut self.state {
            leading.on_loaded(&mut self.common, first, last, log);
        }
    }

    /// The caller says how this node is: what it has applied, whether its log gets segments, whether its disk keeps up.
    ///
    /// A follower tells its leader. A leader that is not well hands over to a follower that is, if the followers that are well
    /// are a quorum without it; otherwise nothing would be won.
    pub fn note_health(&mut self, applied_index: Index, has_room: bool, disk_keeps_up: bool) {
        self.common.health = Health { applied_index, may_lead: true, has_room, disk_keeps_up };
    }

    /// Takes the outputs since the last time. Cheap when there are none.
    #[must_use]
    pub fn ready(&mut self) -> Ready {
        self.fail_reads_of_lost_leader();
        let is_under_repair = self.is_under_repair();
        let common = &mut self.common;
        if !is_under_repair {
            common.check_given_up();
        }
        let mut ready = std::mem::take(&mut common.out);
        if common.hard_state != common.handed_out_hard_state {
            common.handed_out_hard_state = common.hard_state;
            ready.hard_state = Some(common.hard_state);
        }
        ready
    }

    /// Whether the leader takes proposals now: it does not while it hands leadership over.
    pub fn may_propose(&self) -> Result<(), NotLeader> {
        match &self.state {
            State::Leader(leading) if !leading.is_transferring() => Ok(()),
            _ => Err(NotLeader { leader: self.leader() }),
        }
    }

    /// Queues a read: `Ready::reads_ready` will say which index must be applied before it may be answered, or
    /// `Ready::reads_failed` that this node cannot tell. A follower asks its leader, once `ask_about_reads` is called.
    ///
    /// A leader that has not committed an entry of its own term yet does not know what is committed; reads wait until it has.
    pub fn read_index(&mut self, read: ReadId, log: &impl LogView) -> Result<(), ReadIndexError> {
        let (commit_index, last_index) = (self.common.commit_index, log.last_id().index);
        assert!(commit_index <= last_index, "committed {commit_index} but the log ends before it");
        match &mut self.state {
            State::Leader(leading) => leading.read_index(&mut self.common, read),
            _ => self.queue_read_for_leader(read),
        }
    }

    /// Hands leadership over to `to`, as soon as it has the whole log; replaces a transfer to another node.
    ///
    /// Proposals are refused until the new leader is known, or for an election timeout at most. To itself: does nothing.
    pub fn transfer_leader(&mut self, to: NodeId, log: &impl LogView) -> Result<(), TransferError> {
        match &mut self.state {
            State::Leader(leading) => leading.transfer_to(&mut self.common, to, log),
            _ => Err(TransferError::NotLeader { leader: self.leader() }),
        }
    }

    /// This node is going to stop, and leads only if nobody else does from here on. A follower says so to its leader.
    ///
    /// A leader looks for a successor until there is one. Followers that could lead are tried one after the other, those with the
    /// longest log first. Returns the first of them if there is one now; while there is none, or between two tries, proposals are
    /// taken.
    pub fn hand_over_leadership(&mut self, log: &impl LogView) -> Result<Option<NodeId>, NotLeader> {
        self.common.is_leaving = true;
        let State::Leader(leading) = &mut self.state else { return Err(NotLeader { leader: self.leader() }) };
        leading.hand_over_leadership(&mut self.common, log);
        Ok(leading.transfer().map(|transfer| transfer.to))
    }

    /// Tells the receiver of a transfer to take over if everything was sent to it. To be called when a batch was closed or given up
    /// while a transfer is under way.
    pub fn proceed_with_transfer(&mut self, log: &impl LogView) {
        if let State::Leader(leading) = &mut self.state {
            leading.proceed_with_transfer(&mut self.common, log);
        }
    }

    /// Who is told to campaign when this leader stops without warning: a hint that promises nothing, so it may leave at once.
    #[must_use]
    pub fn last_successor(&self) -> Option<(NodeId, Message)> {
        self.leading()?.last_successor(&self.common)
    }

    /// The transfer under way on a leader.
    #[must_use]
    pub fn transfer(&self) -> Option<Transfer> {
        self.leading()?.transfer()
    }

    /// Adds a learner: this leader appends an entry that says so as soon as it can. Its log is the one with this incarnation.
    ///
    /// A leader that is deposed before it has appended the entry forgets the request, so look at the membership and ask again. To ask
    /// twice does no harm.
    pub fn add_learner(&mut self, node: NodeId, incarnation: u64) -> Result<(), AddLearnerError> {
        match &mut self.state {
            State::Leader(leading) => leading.add_learner(&self.common, node, incarnation),
            _ => Err(AddLearnerError::NotLeader { leader: self.leader() }),
        }
    }

    /// The entry with a membership that this leader is to append as soon as it can, and has not appended yet.
    #[must_use]
    pub fn membership_due(&self, log: &impl LogView) -> Option<(EntryId, Membership)> {
        self.leading()?.membership_due(&self.common, log)
    }

    /// The first entry of this leader's own term that is not known to be committed; it need not be in the log yet. On every
    /// other node the first entry that is not known to be committed.
    #[must_use]
    pub fn first_own_uncommitted(&self) -> Index {
        let uncommitted = self.common.commit_index.next();
        self.leading().map_or(uncommitted, |leading| uncommitted.max(leading.opening_index()))
    }

    /// What a leader's next entry is called. Only meaningful while `may_propose`.
    #[must_use]
    pub fn next_entry_id(&self, log: &impl LogView) -> EntryId {
        self.common.next_entry_id(log)
    }

    /// This node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.common.config.id
    }

    /// This node's role in its term.
    #[must_use]
    pub fn role(&self) -> Role {
        match self.state {
            State::New(_) | State::Repairing(_) | State::Follower(_) => Role::Follower,
            State::PreCandidate(_) => Role::PreCandidate,
            State::Candidate(_) => Role::Candidate,
            State::Leader(_) => Role::Leader,
        }
    }

    /// The current term; need not be durable yet.
    #[must_use]
    pub fn term(&self) -> Term {
        self.common.hard_state.term
    }

    /// Term and vote; need not be durable yet.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.common.hard_state
    }

    /// The leader of the current term, as far as known; this node while it leads.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        match &self.state {
            State::Leader(_) => Some(self.common.config.id),
            state => state.following().and_then(Following::leader),
        }
    }

    /// Highest index known durable on a quorum.
    #[must_use]
    pub fn commit_index(&self) -> Index {
        self.common.commit_index
    }

    /// Who the members are, according to the log.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.common.membership
    }

    /// For how long nothing was heard of the leader that this node follows; 0 if it follows none. Unit: ticks.
    pub(crate) fn leader_silent_ticks(&self) -> u64 {
        let follows = self.leading().is_none() && self.leader().is_some();
        if follows { u64::from(self.common.timer.elapsed_ticks) } else { 0 }
    }

    /// A leader's followers of which nothing was heard for an election timeout.
    pub(crate) fn silent_followers(&self) -> impl Iterator<Item = NodeId> {
        let common = &self.common;
        let is_silent =
            |leading: &Leading, node| !leading.heard_within(node, common.config.election_ticks, common.now_tick);
        let followers =
            self.leading().into_iter().flat_map(|leading| leading.followers().map(move |(node, _)| (leading, node)));
        followers.filter(move |(leading, node)| is_silent(leading, *node)).map(|(_, node)| node)
    }

    /// Followers that lack entries which this leader's log does not reach back to.
    pub(crate) fn needs_state(&self) -> impl Iterator<Item = NodeId> {
        self.progress().filter(|(_, progress)| progress.state() == ProgressState::NeedsState).map(|(node, _)| node)
    }

    /// A leader's followers, in ascending order; empty on every other node.
    pub fn progress(&self) -> impl Iterator<Item = (NodeId, &Progress)> {
        self.leading().into_iter().flat_map(Leading::followers)
    }

    fn leading(&self) -> Option<&Leading> {
        if let State::Leader(leading) = &self.state { Some(leading) } else { None }
    }

    /// How fit this node is to lead, as it tells others.
    fn own_health(&self) -> Health {
        Health { may_lead: !self.is_under_repair() && !self.common.is_leaving, ..self.common.health }
    }

    /// Judges a response by its term: a later one ends this node's term, an earlier one is stale.
    fn is_current(&mut self, term: Term) -> bool {
        if term > self.common.hard_state.term {
            self.become_follower(term, None);
        }
        term == self.common.hard_state.term && term > Term::ZERO
    }

    /// Ends whatever this node was; from here on it follows `leader`, if there is one, in `term`. A new node and one under repair
    /// remain that.
    fn become_follower(&mut self, term: Term, leader: Option<LeaderLife>) {
        let common = &mut self.common;
        assert!(term >= common.hard_state.term, "the term went back from {} to {term}", common.hard_state.term);
        let is_own = leader.is_some_and(|leader| leader.node == common.config.id);
        assert!(!is_own, "a node does not follow itself");
        let is_later = term > common.hard_state.term;
        if let State::Leader(leading) = &mut self.state {
            leading.step_down(common, if is_later { HandOverEnd::Done } else { HandOverEnd::Deposed });
        }
        let mut following = self.state.take_following();
        if is_later {
            common.note_leap(term);
            common.hard_state = HardState { term, vote: None };
            following = Following::default();
        }
        following.set_leader(leader);
        match &mut self.state {
            State::New(_) => {}
            State::Repairing(repairing) => repairing.following = following,
            state => *state = State::Follower(following),
        }
        common.restart_election_timer();
    }
}

impl State {
    /// What this node knows of its leader's log, where it may have a leader or had one in this term.
    fn following(&self) -> Option<&Following> {
        match self {
            Self::Follower(following)
            | Self::Repairing(Repairing { following, .. })
            | Self::PreCandidate(PreCandidate { following, .. }) => Some(following),
            Self::New(_) | Self::Candidate(_) | Self::Leader(_) => None,
        }
    }

    fn following_mut(&mut self) -> Option<&mut Following> {
        match self {
            Self::Follower(following)
            | Self::Repairing(Repairing { following, .. })
            | Self::PreCandidate(PreCandidate { following, .. }) => Some(following),
            Self::New(_) | Self::Candidate(_) | Self::Leader(_) => None,
        }
    }

    /// Takes what this node knows of its leader's log, to put it into its next state.
    fn take_following(&mut self) -> Following {
        self.following_mut().map(std::mem::take).unwrap_or_default()
    }

    /// This node voted for another one: if it asked for pre-votes it does not any more.
    fn stop_asking(&mut self) {
        if let Self::PreCandidate(asking) = self {
            *self = Self::Follower(std::mem::take(&mut asking.following));
        }
    }
}

impl Common {
    fn new(config: Config, hard_state: HardState, log: &impl LogView) -> Self {
        // The only place where the settings say who the members are. From the first entry that says so, the log does.
        let membership = Membership::new(config.founders.clone());
        Self {
            history: MembershipHistory::new(membership.clone()),
            membership,
            rng: SplitMix64::of_stream(config.seed, config.id.get()),
            now_tick: 0,
            hard_state,
            handed_out_hard_state: hard_state,
            durable_hard_state: hard_state,
            led_term: Term::ZERO,
            commit_index: log.base().index,
            noted_committed: base_tip(log),
            timer: ElectionTimer::default(),
            preferred: Pacing::new(&config),
            sick_disk_pacing: Pacing::new(&config),
            ailing_since_tick: None,
            health: Health::default(),
            is_leaving: false,
            birth: BirthRecord::default(),
            lost: BTreeMap::new(),
            challenges: BTreeMap::new(),
            asking: Asking::default(),
            out: Ready::default(),
            refused: RefusedMessages::default(),
            leapt_tick: None,
            config,
        }
    }

    /// True if `node` is another member.
    fn is_peer(&self, node: NodeId) -> bool {
        node != self.config.id && self.membership.is_member(node)
    }

    /// True if this node votes, according to its log. One that learns takes entries, and helps to elect nobody.
    fn is_voter(&self) -> bool {
        self.membership.is_voter(self.config.id)
    }

    /// All other voters.
    fn other_voters(&self) -> Vec<NodeId> {
        let mut others = self.membership.all_voters();
        others.retain(|&node| node != self.config.id);
        others
    }

    /// All other members.
    fn other_members(&self) -> Vec<NodeId> {
        let mut others = self.membership.all_members();
        others.retain(|&node| node != self.config.id);
        others
    }

    /// What a leader's next entry is called.
    fn next_entry_id(&self, log: &impl LogView) -> EntryId {
        EntryId::new(self.hard_state.term, log.last_id().index.next())
    }

    fn hard_state_is_durable(&self) -> bool {
        self.durable_hard_state == self.hard_state
    }

    /// Sends something that promises the current term or vote: held back until both are durable.
    fn respond(&mut self, to: NodeId, message: Message) {
        if self.hard_state_is_durable() {
            self.out.messages.push((to, message));
        } else {
            self.out.messages_after_persist.push((to, message));
        }
    }
}
