//! A leader: replicates, counts what is durable where, commits, and steps down when it no longer hears a quorum.
//!
//! Thesis 3.5, 3.6.2 (commit), 6.2 (stepping down without a quorum), 10.2.1 (own disk in parallel with the followers').

use std::collections::BTreeMap;

use super::log_view::LogView;
use super::members::Weight;
use super::read_index::Reads;
use super::tracker::{Progress, Rejection};
use super::transfer::{HealthReport, Leaving, Transfer};
use super::{AppendEntries, AppendOutcome, Config, Message, Nonsense, OfficeStep, Raft, ReadId, State};
use crate::types::{Index, NodeId, Term};

/// What a node remembers while it leads; made anew for each term.
#[derive(Debug)]
pub(super) struct Leading {
    /// Every other voter.
    pub(super) progress: BTreeMap<NodeId, Progress>,
    pub(super) reads: Reads,
    pub(super) transfer: Option<Transfer>,
    /// This leader wants to leave its office, and looks for a successor until it has one.
    pub(super) leaving: Option<Leaving>,
    /// What followers last said of themselves, on the connections that are up now.
    pub(super) health: BTreeMap<NodeId, HealthReport>,
    /// A member that lost its log and asks to get everything back into another one, and that log: the group has yet to agree.
    pub(super) naming: Option<(NodeId, u64)>,
    /// Index of this term's first entry, the no-op; not in the log at first.
    pub(super) opening_index: Index,
    /// The followers were told that it is committed.
    told_opening: bool,
    /// Ticks since the last heartbeat to everyone.
    heartbeat_elapsed_ticks: u32,
    /// Since when the preferred leader could take over. Unit: ticks of this core.
    pub(super) preferred_since_tick: Option<u64>,
}

impl Leading {
    pub(super) fn new(config: &Config, peers: Vec<NodeId>, last_index: Index, now_tick: u64) -> Self {
        let progress = peers.into_iter().map(|peer| (peer, Progress::new(config, last_index, now_tick))).collect();
        Self {
            progress,
            reads: Reads::default(),
            transfer: None,
            leaving: None,
            health: BTreeMap::new(),
            naming: None,
            opening_index: last_index.next(),
            told_opening: false,
            heartbeat_elapsed_ticks: 0,
            preferred_since_tick: None,
        }
    }

    pub(super) fn followers(&self) -> impl Iterator<Item = (NodeId, &Progress)> {
        self.progress.iter().map(|(&node, progress)| (node, progress))
    }

    pub(super) fn is_transferring(&self) -> bool {
        self.transfer.is_some()
    }

    pub(super) fn on_peer_disconnected(&mut self, node: NodeId) {
        // It may come back as another process, which has to replay its log.
        self.health.remove(&node);
        if let Some(progress) = self.progress.get_mut(&node) {
            progress.on_disconnected();
        }
    }

    pub(super) fn fail_reads(&mut self, failed: &mut Vec<ReadId>) {
        self.reads.drain_all(failed);
    }

    /// The follower was heard from within the last `ticks`.
    pub(super) fn heard_within(&self, node: NodeId, ticks: u32, now_tick: u64) -> bool {
        self.progress.get(&node).is_some_and(|progress| progress.heard_tick() + u64::from(ticks) > now_tick)
    }
}

impl Raft {
    pub(super) fn tick_leader(&mut self, log: &impl LogView) {
        if !self.hears_quorum() {
            mark!("raft: a leader that hears no quorum steps down");
            self.become_follower(self.hard_state.term, None);
            return;
        }
        self.tick_transfer(log);
        let State::Leader(leading) = &mut self.state else { return };
        leading.heartbeat_elapsed_ticks += 1;
        if leading.heartbeat_elapsed_ticks >= self.config.heartbeat_ticks {
            self.broadcast_heartbeat();
            self.proceed_with_transfer(log);
        }
    }

    /// A quorum, this node included, was heard from within an election timeout.
    fn hears_quorum(&self) -> bool {
        let State::Leader(leading) = &self.state else { return false };
        let (own, election_ticks) = (self.config.id, self.config.election_ticks);
        self.membership.quorum_has(|node| node == own || leading.heard_within(node, election_ticks, self.now_tick))
    }

    /// Sends a heartbeat with the newest round to every follower.
    pub(super) fn broadcast_heartbeat(&mut self) {
        let State::Leader(leading) = &mut self.state else { return };
        leading.heartbeat_elapsed_ticks = 0;
        let round = leading.reads.round();
        for (&to, progress) in &leading.progress {
            let commit_index = self.commit_index.min(progress.match_index());
            self.out.messages.push((to, Message::Heartbeat { term: self.hard_state.term, commit_index, round }));
        }
    }

    /// A follower's connections came up: its answer to a heartbeat tells where it is.
    pub(super) fn greet_follower(&mut self, node: NodeId) {
        let State::Leader(leading) = &mut self.state else { return };
        let round = leading.reads.round();
        let Some(progress) = leading.progress.get_mut(&node) else { return };
        progress.on_connected();
        let commit_index = self.commit_index.min(progress.match_index());
        self.out.messages.push((node, Message::Heartbeat { term: self.hard_state.term, commit_index, round }));
    }

    /// Sends every follower what its window allows, and commits what a single voter already has.
    pub(super) fn broadcast_appends(&mut self, log: &impl LogView) {
        assert!(log.last_id().term <= self.hard_state.term, "an entry of a later term in the leader's log");
        let State::Leader(leading) = &mut self.state else { return };
        let mut sender = AppendSender {
            term: self.hard_state.term,
            commit_index: self.commit_index,
            config: &self.config,
            now_tick: self.now_tick,
            messages: &mut self.out.messages,
            loads: &mut self.out.loads,
        };
        for (&to, progress) in &mut leading.progress {
            sender.send(to, progress, log);
        }
        self.advance_commit(log);
    }

    /// Sends a follower what its window allows, and tells it to take over if it is to and this was the last of the log.
    fn send_appends(&mut self, to: NodeId, log: &impl LogView) {
        let State::Leader(leading) = &mut self.state else { return };
        let Some(progress) = leading.progress.get_mut(&to) else { return };
        let mut sender = AppendSender {
            term: self.hard_state.term,
            commit_index: self.commit_index,
            config: &self.config,
            now_tick: self.now_tick,
            messages: &mut self.out.messages,
            loads: &mut self.out.loads,
        };
        sender.send(to, progress, log);
        let is_untold = leading.transfer.is_some_and(|transfer| transfer.to == to && transfer.told_at.is_none());
        if is_untold {
            self.proceed_with_transfer(log);
        }
    }

    /// The entries `first..=last` that `Ready::loads` named are in memory: whoever waited for them gets them.
    pub fn on_loaded(&mut self, first: Index, last: Index, log: &impl LogView) {
        let State::Leader(leading) = &mut self.state else { return };
        let waiting =
            leading.progress.iter_mut().filter_map(|(&node, progress)| progress.on_loaded(first, last).then_some(node));
        for node in waiting.collect::<Vec<_>>() {
            self.send_appends(node, log);
        }
    }

    pub(super) fn on_append_response(
        &mut self,
        from: NodeId,
        weight: Weight,
        outcome: AppendOutcome,
        log: &impl LogView,
    ) {
        let State::Leader(leading) = &mut self.state else { return };
        let Some(progress) = leading.progress.get_mut(&from) else { return };
        if weight == Weight::Full {
            progress.on_heard(self.now_tick);
        }
        match outcome {
            AppendOutcome::NoRoom { matched_index, persisted_index } => {
                progress.on_no_room(matched_index, log.last_id().index, self.now_tick);
                self.take_report(from, weight, matched_index, persisted_index, log);
            }
            AppendOutcome::Accepted { matched_index, persisted_index } => {
                progress.on_room();
                self.take_report(from, weight, matched_index, persisted_index, log);
            }
            AppendOutcome::Rejected { prev_index, hint } => {
                if let Rejection::Forgot { had } = progress.on_rejected(prev_index, hint, log) {
                    self.refuse(from, Nonsense::Forgot { had, ends_at: hint.index });
                }
            }
        }
        self.send_appends(from, log);
    }

    pub(super) fn on_heartbeat_response(
        &mut self,
        from: NodeId,
        weight: Weight,
        round: u64,
        matched_index: Index,
        persisted_index: Index,
        log: &impl LogView,
    ) {
        let State::Leader(leading) = &mut self.state else { return };
        let newest = leading.reads.round();
        let Some(progress) = leading.progress.get_mut(&from) else { return };
        if round > newest {
            self.refuse(from, Nonsense::FutureRound { got: round, newest });
            return;
        }
        if weight == Weight::Full {
            progress.on_heard(self.now_tick);
            progress.on_round(round);
        }
        self.take_report(from, weight, matched_index, persisted_index, log);
        if let State::Leader(leading) = &mut self.state
            && let Some(progress) = leading.progress.get_mut(&from)
        {
            progress.on_heartbeat_answered(&self.config, matched_index, self.now_tick);
        }
        self.send_appends(from, log);
        self.advance_reads();
    }

    fn take_report(
        &mut self,
        from: NodeId,
        weight: Weight,
        matched_index: Index,
        persisted_index: Index,
        log: &impl LogView,
    ) {
        let State::Leader(leading) = &mut self.state else { return };
        let Some(progress) = leading.progress.get_mut(&from) else { return };
        let last_index = log.last_id().index;
        if weight == Weight::Hint {
            progress.on_hint(matched_index, persisted_index, last_index, self.now_tick);
        } else if progress.on_report(matched_index, persisted_index, last_index, self.now_tick) {
            self.advance_commit(log);
            self.tell_opening();
        }
    }

    /// Tells every follower once that this term's first entry is committed, and with it all before it. Entries that come later tell
    /// what is committed as they go; without any, whoever waited for the entries of an earlier term, the old leader's writers,
    /// would wait for the next heartbeat. It may overtake the entry, which need not be durable there: a follower takes what it is
    /// told for what its log matches.
    pub(super) fn tell_opening(&mut self) {
        let State::Leader(leading) = &mut self.state else { return };
        if self.commit_index < leading.opening_index || leading.told_opening {
            return;
        }
        leading.told_opening = true;
        let (term, commit_index, round) = (self.hard_state.term, self.commit_index, leading.reads.round());
        for &to in leading.progress.keys() {
            self.out.messages.push((to, Message::Heartbeat { term, commit_index, round }));
        }
        self.note_step(OfficeStep::Opened { term });
    }

    /// Commits the highest entry of the own term that is durable on a quorum, and with it all before it.
    ///
    /// An entry of an earlier term on a quorum may still be superseded by a later leader (thesis 3.6.2), so it is never
    /// committed by counting.
    pub(super) fn advance_commit(&mut self, log: &impl LogView) {
        let State::Leader(leading) = &self.state else { return };
        let own_persisted_index = log.persisted_index();
        let durable_on_quorum = self.membership.quorum_index(|node| match leading.progress.get(&node) {
            Some(progress) => progress.match_index(),
            None => own_persisted_index,
        });
        let is_own_term = log.term(durable_on_quorum) == Some(self.hard_state.term);
        mark!("raft: entries of an earlier term are not committed by counting" if durable_on_quorum > self.commit_index && !is_own_term);
        if durable_on_quorum > self.commit_index && is_own_term {
            assert!(durable_on_quorum <= log.last_id().index, "a quorum has more than the leader");
            self.commit_index = durable_on_quorum;
            self.advance_reads();
        }
    }
}

/// Builds the `AppendEntries` of one call.
struct AppendSender<'a> {
    term: Term,
    commit_index: Index,
    config: &'a Config,
    now_tick: u64,
    messages: &'a mut Vec<(NodeId, Message)>,
    loads: &'a mut Vec<(Index, Index)>,
}

impl AppendSender<'_> {
    /// Sends as many messages as the follower's state and window allow.
    fn send(&mut self, to: NodeId, progress: &mut Progress, log: &impl LogView) {
        while let Some(next) = progress.next_message(self.config, log, self.now_tick) {
            let append = AppendEntries {
                term: self.term,
                prev: next.prev,
                first: next.prev.index.next(),
                last: next.last,
                commit_index: self.commit_index,
            };
            self.messages.push((to, Message::AppendEntries(append)));
        }
        self.loads.extend(progress.take_load_request());
    }
}
