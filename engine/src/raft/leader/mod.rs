//! A leader: replicates, counts what is durable where, commits, and steps down when it no longer hears a quorum.
//!
//! Thesis 3.5, 3.6.2 (commit), 6.2 (stepping down without a quorum), 10.2.1 (own disk in parallel with the followers').

mod naming;
mod reads;
mod transfer;

pub use transfer::{Transfer, Unfit};

use std::collections::BTreeMap;

use super::histories::fork_at;
use super::holding::Holding;
use super::log_view::LogView;
use super::membership_history::Weight;
use super::tracker::{Progress, Rejection, Why};
use super::{AppendEntries, AppendOutcome, Common, HandOverEnd, LeadershipStep, Message, Nonsense, Tip};
use crate::limits::FULL_MESSAGES_PER_CALL;
use crate::types::{Index, NodeId};
use reads::ReadRounds;
pub(super) use transfer::Pacing;
use transfer::{HealthReport, Leaving};

/// What a node remembers while it leads; made anew for each term.
#[derive(Clone, Debug)]
pub(super) struct Leading {
    /// Every other member.
    progress: BTreeMap<NodeId, Progress>,
    rounds: ReadRounds,
    transfer: Option<Transfer>,
    /// Set while this leader wants to give up leadership and looks for a successor.
    leaving: Option<Leaving>,
    /// What followers last said of themselves, on the connections that are up now.
    health: BTreeMap<NodeId, HealthReport>,
    /// A member that lost its log and asks to get everything back into a new one, and the new log's incarnation. The group has yet to
    /// agree to that log.
    naming: Option<(NodeId, u64)>,
    /// A node that is to become a learner, and its log's incarnation.
    joining: Option<(NodeId, u64)>,
    /// Index of this term's first entry, the no-op; not in the log at first.
    opening_index: Index,
    /// The followers were told that it is committed.
    told_opening: bool,
    /// Ticks since the last heartbeat to everyone.
    heartbeat_elapsed_ticks: u32,
    /// Since when the preferred leader could take over. Unit: ticks of this core.
    preferred_since_tick: Option<u64>,
}

impl Leading {
    /// A candidate was elected: asks for the first entry of its term and tells everyone.
    pub(super) fn begin(common: &mut Common, log: &impl LogView) -> Self {
        let (own, term, last) = (common.config.id, common.hard_state.term, log.last_id());
        assert!(common.hard_state_is_durable(), "a leader's vote for itself is durable");
        assert!(common.hard_state.vote == Some(own), "a leader voted for itself");
        assert!(last.term < term, "entries of a term before its leader was elected");
        let progress_of = |peer| (peer, Progress::new(&common.config, last.index, common.now_tick));
        let mut leading = Self {
            progress: common.other_members().into_iter().map(progress_of).collect(),
            rounds: ReadRounds::default(),
            transfer: None,
            // It led only because nobody else did.
            leaving: common.is_leaving.then(Leaving::default),
            health: BTreeMap::new(),
            naming: None,
            joining: None,
            opening_index: last.index.next(),
            told_opening: false,
            heartbeat_elapsed_ticks: 0,
            preferred_since_tick: None,
        };
        common.led_term = term;
        // What was told to members before this term is no reason to give up their logs in it.
        common.challenges.clear();
        common.timer.hurry_until_tick = 0;
        common.out.append_noop = Some(common.next_entry_id(log));
        common.out.steps.push(LeadershipStep::Elected { term });
        leading.broadcast_heartbeat(common);
        leading
    }

    /// This node leads no more. `end` is how that ends a hand-over that is under way.
    pub(super) fn step_down(&mut self, common: &mut Common, end: HandOverEnd) {
        self.end_transfer(common, end);
        common.out.append_noop = None;
        self.rounds.drain_all(&mut common.out.reads_failed);
    }

    /// Index of this term's first entry, the no-op; not in the log at first.
    pub(super) fn opening_index(&self) -> Index {
        self.opening_index
    }

    /// Newest round of heartbeats that was begun.
    pub(super) fn newest_round(&self) -> u64 {
        self.rounds.newest()
    }

    pub(super) fn followers(&self) -> impl Iterator<Item = (NodeId, &Progress)> {
        self.progress.iter().map(|(&node, progress)| (node, progress))
    }

    /// True if the follower was heard from within the last `ticks`.
    pub(super) fn heard_within(&self, node: NodeId, ticks: u32, now_tick: u64) -> bool {
        self.progress.get(&node).is_some_and(|progress| progress.heard_tick() + u64::from(ticks) > now_tick)
    }

    /// True if a quorum, this node included, was heard from within an election timeout.
    pub(super) fn hears_quorum(&self, common: &Common) -> bool {
        let (own, election_ticks) = (common.config.id, common.config.election_ticks);
        common.membership.quorum_has(|node| node == own || self.heard_within(node, election_ticks, common.now_tick))
    }

    /// Ticks a leader that hears a quorum.
    pub(super) fn tick(&mut self, common: &mut Common, log: &impl LogView) {
        self.tick_transfer(common, log);
        self.heartbeat_elapsed_ticks += 1;
        if self.heartbeat_elapsed_ticks >= common.config.heartbeat_ticks {
            self.broadcast_heartbeat(common);
            self.proceed_with_transfer(common, log);
        }
    }

    /// Sends a heartbeat with the newest round to every follower.
    fn broadcast_heartbeat(&mut self, common: &mut Common) {
        self.heartbeat_elapsed_ticks = 0;
        let round = self.rounds.newest();
        for &to in self.progress.keys() {
            send_heartbeat(common, to, round);
        }
    }

    /// A follower's connections came up: its answer to a heartbeat tells where it is.
    pub(super) fn on_peer_connected(&mut self, common: &mut Common, node: NodeId) {
        if let Some(progress) = self.progress.get_mut(&node) {
            progress.on_connected();
            send_heartbeat(common, node, self.rounds.newest());
        }
    }

    /// A follower's answers may have been lost: what it did not take is sent again.
    pub(super) fn on_answers_lost(&mut self, common: &mut Common, node: NodeId) {
        if let Some(progress) = self.progress.get_mut(&node) {
            progress.on_answers_lost();
            send_heartbeat(common, node, self.rounds.newest());
        }
    }

    /// The way to a follower takes messages without entries again. A heartbeat makes up for those that it did not take.
    pub(super) fn on_control_room(&self, common: &mut Common, node: NodeId) {
        if self.progress.contains_key(&node) {
            send_heartbeat(common, node, self.rounds.newest());
        }
    }

    /// A connection to or from a follower broke.
    pub(super) fn on_peer_disconnected(&mut self, node: NodeId) {
        // It may come back as another process, which has to replay its log.
        self.health.remove(&node);
        if let Some(progress) = self.progress.get_mut(&node) {
            progress.on_disconnected();
        }
    }

    /// An `AppendEntries` to a follower could not be sent.
    pub(super) fn on_append_unsent(&mut self, node: NodeId, prev_index: Index, waits_for_room: bool) {
        if let Some(progress) = self.progress.get_mut(&node) {
            progress.on_unsent(prev_index, waits_for_room);
        }
    }

    /// The way to a follower takes entries again.
    pub(super) fn on_entries_room(&mut self, common: &mut Common, node: NodeId, log: &impl LogView) {
        if let Some(progress) = self.progress.get_mut(&node) {
            progress.on_lane_room();
            self.send_appends(common, node, log);
        }
    }

    /// Entries to a follower have not left this node yet.
    pub(super) fn on_entries_wait(&mut self, common: &Common, node: NodeId) {
        if let Some(progress) = self.progress.get_mut(&node) {
            progress.on_entries_wait(common.now_tick);
        }
    }

    /// The log grew. Sends every follower what its window allows, and commits what a single voter already has.
    pub(super) fn on_appended(&mut self, common: &mut Common, log: &impl LogView) {
        assert!(log.last_id().term <= common.hard_state.term, "an entry of a later term in the leader's log");
        for (&to, progress) in &mut self.progress {
            send_entries(common, to, progress, log);
        }
        self.advance_commit(common, log);
    }

    /// More of the leader's own log became durable.
    pub(super) fn on_persisted(&mut self, common: &mut Common, log: &impl LogView) {
        self.advance_commit(common, log);
        self.tell_opening(common);
    }

    /// Entries were read into memory: whoever waited for them gets them.
    pub(super) fn on_loaded(&mut self, common: &mut Common, first: Index, last: Index, log: &impl LogView) {
        let waiting =
            self.progress.iter_mut().filter_map(|(&node, progress)| progress.on_loaded(first, last).then_some(node));
        for node in waiting.collect::<Vec<_>>() {
            self.send_appends(common, node, log);
        }
    }

    /// Sends a follower what its window allows. If it is to succeed this leader and now has the whole log, tells it to take over.
    fn send_appends(&mut self, common: &mut Common, to: NodeId, log: &impl LogView) {
        let Some(progress) = self.progress.get_mut(&to) else { return };
        send_entries(common, to, progress, log);
        let is_untold = self.transfer.is_some_and(|transfer| transfer.to == to && transfer.told_at.is_none());
        if is_untold {
            self.proceed_with_transfer(common, log);
        }
    }

    pub(super) fn on_append_response(
        &mut self,
        common: &mut Common,
        from: NodeId,
        weight: Weight,
        outcome: AppendOutcome,
        log: &impl LogView,
    ) {
        let Some(progress) = self.progress.get_mut(&from) else { return };
        let has_parted = progress.has_parted() || matches!(outcome, AppendOutcome::OtherHistory { .. });
        if weight == Weight::Full && !has_parted {
            progress.on_heard(common.now_tick);
        }
        match outcome {
            AppendOutcome::NoRoom { matched_index, persisted_index, lineage } => {
                progress.on_not_taken(Why::NoRoom, matched_index, log.last_id().index, common.now_tick);
                self.take_report(common, from, weight, Holding { matched_index, persisted_index, lineage }, log);
            }
            AppendOutcome::Damaged { matched_index, persisted_index, lineage } => {
                progress.on_not_taken(Why::Damaged, matched_index, log.last_id().index, common.now_tick);
                self.take_report(common, from, weight, Holding { matched_index, persisted_index, lineage }, log);
            }
            AppendOutcome::Accepted { matched_index, persisted_index, lineage } => {
                progress.on_taken();
                self.take_report(common, from, weight, Holding { matched_index, persisted_index, lineage }, log);
            }
            AppendOutcome::Rejected { prev_index, hint } => {
                if let Rejection::Forgot { had } = progress.on_rejected(prev_index, hint, log) {
                    common.refuse(from, Nonsense::Forgot { had, ends_at: hint.index });
                }
            }
            AppendOutcome::OtherHistory { entry, lineage } => {
                if let Some(fork) = fork_at(Tip { id: entry, lineage }, log) {
                    mark!("raft: a follower has another history");
                    progress.on_other_history(entry.index, common.now_tick);
                    common.refuse(from, Nonsense::OtherHistory(fork));
                }
            }
        }
        self.send_appends(common, from, log);
    }

    pub(super) fn on_heartbeat_response(
        &mut self,
        common: &mut Common,
        from: NodeId,
        weight: Weight,
        round: u64,
        holding: Holding,
        log: &impl LogView,
    ) {
        let Some(progress) = self.progress.get_mut(&from) else { return };
        // Who has another history keeps nobody in office.
        if weight == Weight::Full && !progress.has_parted() {
            progress.on_heard(common.now_tick);
            progress.on_round(round);
        }
        self.take_report(common, from, weight, holding, log);
        if let Some(progress) = self.progress.get_mut(&from) {
            progress.on_heartbeat_answered(&common.config, holding.matched_index, common.now_tick);
        }
        self.send_appends(common, from, log);
        self.advance_reads(common);
    }

    fn take_report(
        &mut self,
        common: &mut Common,
        from: NodeId,
        weight: Weight,
        Holding { matched_index, persisted_index, .. }: Holding,
        log: &impl LogView,
    ) {
        let Some(progress) = self.progress.get_mut(&from) else { return };
        let last_index = log.last_id().index;
        if weight == Weight::Hint {
            progress.on_hint(matched_index, persisted_index, last_index, common.now_tick);
        } else if progress.on_report(matched_index, persisted_index, last_index, common.now_tick) {
            self.advance_commit(common, log);
            self.tell_opening(common);
        }
    }

    /// Tells every follower once that this term's first entry is committed, and with it all before it.
    ///
    /// Entries that come later tell what is committed as they go. Without any, those who wait for the entries of an earlier term,
    /// such as the writers at the old leader, would wait for the next heartbeat. This may overtake the entry: a follower applies
    /// what it is told to what its log matches.
    fn tell_opening(&mut self, common: &mut Common) {
        if common.commit_index < self.opening_index || self.told_opening {
            return;
        }
        self.told_opening = true;
        let round = self.rounds.newest();
        for &to in self.progress.keys() {
            send_heartbeat(common, to, round);
        }
        common.out.steps.push(LeadershipStep::Opened { term: common.hard_state.term });
    }

    /// Commits the highest entry of the own term that is durable on a quorum, and with it all before it.
    ///
    /// An entry of an earlier term on a quorum may still be superseded by a later leader (thesis 3.6.2), so it is never
    /// committed by counting.
    fn advance_commit(&mut self, common: &mut Common, log: &impl LogView) {
        let own_persisted_index = log.persisted_index();
        let durable_on_quorum = common.membership.quorum_index(|node| match self.progress.get(&node) {
            _ if node == common.config.id => own_persisted_index,
            Some(progress) => progress.match_index(),
            None => Index::ZERO,
        });
        let is_own_term = log.term(durable_on_quorum) == Some(common.hard_state.term);
        let is_news = durable_on_quorum > common.commit_index;
        mark!("raft: entries of an earlier term are not committed by counting" if is_news && !is_own_term);
        if is_news && is_own_term {
            assert!(durable_on_quorum <= log.last_id().index, "a quorum has more than the leader");
            common.commit_index = durable_on_quorum;
            self.advance_reads(common);
        }
    }
}

/// Sends a heartbeat. It says all that is committed, whatever the follower has acknowledged: a follower applies what it is told to what
/// its log matches. One whose disk hangs may acknowledge nothing, and clients may wait there for what it appended when it led.
fn send_heartbeat(common: &mut Common, to: NodeId, round: u64) {
    let (term, life, commit_index) = (common.hard_state.term, common.config.life, common.commit_index);
    common.out.messages.push((to, Message::Heartbeat { term, life, commit_index, round }));
}

/// Sends messages with entries as the follower's state and window allow, up to some full ones: its answer to these asks for more.
fn send_entries(common: &mut Common, to: NodeId, progress: &mut Progress, log: &impl LogView) {
    let mut bytes_left = common.config.append_bytes_limit.saturating_mul(FULL_MESSAGES_PER_CALL);
    while bytes_left > 0
        && let Some(next) = progress.next_message(&common.config, log, common.now_tick)
    {
        bytes_left = bytes_left.saturating_sub(next.bytes);
        let append = AppendEntries {
            term: common.hard_state.term,
            life: common.config.life,
            prev: next.prev,
            prev_lineage: log.lineage(next.prev.index).expect("the log holds the entry before what it holds"),
            first: next.prev.index.next(),
            last: next.last,
            commit_index: common.commit_index,
        };
        common.out.messages.push((to, Message::AppendEntries(append)));
    }
    common.out.loads.extend(progress.take_load_request());
}
