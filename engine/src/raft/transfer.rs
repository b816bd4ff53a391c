//! Handing leadership over: on request, when this node stops or is not fit to lead, and to the preferred leader.
//!
//! Thesis 3.10. A transfer goes in this order: proposals stop, the batch being formed is closed, the successor is sent the rest of
//! the log, and it is told to take over as soon as it has it. So no entry comes after `TimeoutNow`, and the successor's log is as
//! good as any. It makes the last entries durable together with its vote for itself: one sync instead of two. Whether it succeeded
//! shows in the term that it starts. Leadership goes only to nodes that can hold it: they tell how they are in their answers to
//! heartbeats.

use std::collections::BTreeSet;
use std::fmt;

use super::log_view::LogView;
use super::message::Health;
use super::tracker::{Progress, ProgressState};
use super::{Config, HandOverEnd, HandOverReason, Message, NotLeader, OfficeStep, Raft, State, TransferError};
use crate::types::{Index, NodeId};

/// A transfer under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Who is to lead.
    pub to: NodeId,
    /// It was told to take over when the leader's log ended here. Nothing may be appended since.
    pub told_at: Option<Index>,
    /// When it began. Unit: ticks of this core.
    pub(super) since_tick: u64,
    /// When it is given up. Unit: ticks of this core.
    end_tick: u64,
}

/// A leader looks for a successor.
#[derive(Clone, Debug, Default)]
pub(super) struct Leaving {
    /// Who did not take over in time.
    tried: BTreeSet<NodeId>,
    /// Until then nobody else is tried, so that proposals are taken between two tries. Unit: ticks of this core.
    pause_until_tick: u64,
}

/// What a follower said of itself last.
#[derive(Clone, Copy, Debug)]
pub(super) struct HealthReport {
    health: Health,
    /// What it could have applied by then: committed, and in its log.
    due_index: Index,
}

/// Why a node cannot take leadership now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It did not answer the last heartbeats, or never since its connection is up.
    Silent,
    /// It may not campaign: it is under repair.
    MayNotLead,
    /// Its log cannot get another segment.
    NoRoom,
    /// Its disk does not keep up.
    SlowDisk,
    /// It lacks more of the log than what is on its way.
    LogBehind,
    /// It has applied much less than it has in its log.
    Replaying,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent => "it has not answered the last heartbeats",
            Self::MayNotLead => "it is under repair",
            Self::NoRoom => "its log has no room",
            Self::SlowDisk => "its disk does not keep up",
            Self::LogBehind => "it lacks entries that are committed",
            Self::Replaying => "it is still applying its log",
        })
    }
}

/// Keeps leadership from going to and fro when nobody can hold it for long.
///
/// Each hand-over doubles the time before the next, up to a limit; each such limit that passes in peace halves it again.
#[derive(Debug)]
pub(super) struct Pacing {
    /// Time for which a receiver must have been fit, or since the last hand-over. Unit: ticks.
    steady_ticks: u64,
    /// Lower and upper end of it.
    steady_min_ticks: u64,
    steady_max_ticks: u64,
    /// When `steady_ticks` last changed. Unit: ticks of this core.
    changed_tick: u64,
    /// Before this there is no other hand-over. Unit: ticks of this core.
    not_before_tick: u64,
}

impl Pacing {
    pub(super) fn new(config: &Config) -> Self {
        let steady_min_ticks = 2 * u64::from(config.election_ticks);
        let steady_max_ticks = 32 * steady_min_ticks;
        Self { steady_ticks: steady_min_ticks, steady_min_ticks, steady_max_ticks, changed_tick: 0, not_before_tick: 0 }
    }

    fn on_handed_over(&mut self, now_tick: u64) {
        self.not_before_tick = now_tick + self.steady_ticks;
        self.steady_ticks = (self.steady_ticks * 2).min(self.steady_max_ticks);
        self.changed_tick = now_tick;
    }

    fn on_tick(&mut self, now_tick: u64) {
        if now_tick >= self.changed_tick + self.steady_max_ticks {
            self.steady_ticks = (self.steady_ticks / 2).max(self.steady_min_ticks);
            self.changed_tick = now_tick;
        }
    }
}

impl Raft {
    /// The caller says how this node is: what it has applied, whether its log gets segments, whether its disk keeps up.
    ///
    /// A follower tells its leader. A leader that is not well hands over to a follower that is, if the followers that are well
    /// are a quorum without it; otherwise nothing would be won.
    pub fn note_health(&mut self, applied_index: Index, has_room: bool, disk_keeps_up: bool) {
        self.health = Health { applied_index, may_lead: true, has_room, disk_keeps_up };
    }

    pub(super) fn own_health(&self) -> Health {
        Health { may_lead: !self.is_under_repair(), ..self.health }
    }

    pub(super) fn note_health_of(&mut self, from: NodeId, matched_index: Index, health: Health) {
        if let State::Leader(leading) = &mut self.state {
            let due_index = matched_index.min(self.commit_index);
            leading.health.insert(from, HealthReport { health, due_index });
        }
    }

    /// The transfer under way on a leader.
    #[must_use]
    pub fn transfer(&self) -> Option<Transfer> {
        match &self.state {
            State::Leader(leading) => leading.transfer,
            _ => None,
        }
    }

    /// Hands leadership over to `to`, as soon as it has the whole log; replaces a transfer to another node.
    ///
    /// Proposals are refused until the new leader is known, or for an election timeout at most. To itself: does nothing.
    pub fn transfer_leader(&mut self, to: NodeId, log: &impl LogView) -> Result<(), TransferError> {
        let State::Leader(leading) = &self.state else {
            return Err(TransferError::NotLeader { leader: self.leader });
        };
        if !self.membership.is_voter(to) {
            return Err(TransferError::NotVoter { to });
        }
        if to == self.config.id || leading.transfer.is_some_and(|transfer| transfer.to == to) {
            return Ok(());
        }
        if let Some(why) = self.unfit(to) {
            mark!("raft: a transfer to a node that is not fit is refused");
            return Err(TransferError::NotFit { to, why });
        }
        self.end_transfer(HandOverEnd::Replaced);
        self.begin_transfer(to, HandOverReason::Asked, self.config.election_ticks, log);
        Ok(())
    }

    /// Looks for a successor until there is one: this node is going to stop. Followers that could lead are tried one after the
    /// other, those with the longest log first. Returns the first of them if there is one now; while there is none, or between
    /// two tries, proposals are taken.
    pub fn leave_office(&mut self, log: &impl LogView) -> Result<Option<NodeId>, NotLeader> {
        let State::Leader(leading) = &mut self.state else { return Err(NotLeader { leader: self.leader }) };
        leading.leaving.get_or_insert_default();
        self.choose_successor(log);
        Ok(self.transfer().map(|transfer| transfer.to))
    }

    /// Who is told to campaign when this leader stops without warning: a hint that promises nothing, so it may leave at once.
    #[must_use]
    pub fn heir(&self) -> Option<(NodeId, Message)> {
        let to = self.best_successor(&BTreeSet::new())?;
        let State::Leader(leading) = &self.state else { return None };
        // Whatever it lacks of the log it does not get from here any more.
        let last_index = leading.progress.get(&to)?.match_index();
        Some((to, Message::TimeoutNow { term: self.hard_state.term, last_index }))
    }

    fn begin_transfer(&mut self, to: NodeId, reason: HandOverReason, ticks_max: u32, log: &impl LogView) {
        let State::Leader(leading) = &mut self.state else { return };
        let (since_tick, end_tick) = (self.now_tick, self.now_tick + u64::from(ticks_max));
        leading.transfer = Some(Transfer { to, told_at: None, since_tick, end_tick });
        let match_index = leading.progress.get(&to).map_or(Index::ZERO, Progress::match_index);
        self.note_step(OfficeStep::Begun { to, reason, last_index: log.last_id().index, match_index });
        self.proceed_with_transfer(log);
    }

    /// The next of those that could succeed a leader that leaves.
    fn choose_successor(&mut self, log: &impl LogView) {
        let State::Leader(leading) = &mut self.state else { return };
        let Some(leaving) = leading.leaving.as_ref().filter(|_| leading.transfer.is_none()) else { return };
        if self.now_tick < leaving.pause_until_tick {
            return;
        }
        let tried = leaving.tried.clone();
        match self.best_successor(&tried) {
            Some(to) => self.begin_transfer(to, HandOverReason::Stopping, self.try_ticks(), log),
            // Everybody gets another chance, a tick later.
            None => self.forget_tried(),
        }
    }

    fn forget_tried(&mut self) {
        if let State::Leader(leading) = &mut self.state
            && let Some(leaving) = &mut leading.leaving
        {
            leaving.tried.clear();
        }
    }

    /// The fit follower that is furthest, of those not excluded.
    fn best_successor(&self, excluded: &BTreeSet<NodeId>) -> Option<NodeId> {
        let State::Leader(leading) = &self.state else { return None };
        let may_follow = |node: NodeId| !excluded.contains(&node) && self.unfit(node).is_none();
        let fit = leading.followers().filter(|(node, _)| may_follow(*node));
        fit.max_by_key(|(_, progress)| progress.match_index()).map(|(node, _)| node)
    }

    /// Time that a successor that was not asked for by name has to take over. Unit: ticks.
    fn try_ticks(&self) -> u32 {
        (self.config.election_ticks / 2).max(self.answer_ticks())
    }

    /// Time within which a follower that is there has answered a heartbeat. Unit: ticks.
    pub(super) fn answer_ticks(&self) -> u32 {
        2 * self.config.heartbeat_ticks + 1
    }

    /// Gives up a transfer that takes too long; starts one that is due.
    pub(super) fn tick_transfer(&mut self, log: &impl LogView) {
        let State::Leader(leading) = &mut self.state else { return };
        if let Some(late) = leading.transfer.filter(|transfer| self.now_tick >= transfer.end_tick) {
            mark!("raft: a transfer is given up");
            if let Some(leaving) = &mut leading.leaving {
                leaving.tried.insert(late.to);
                // By then it has forgotten the call to take over, or has campaigned.
                leaving.pause_until_tick = self.now_tick + 2 * u64::from(self.config.heartbeat_ticks) + 1;
            }
            self.end_transfer(HandOverEnd::OutOfTime { was_told: late.told_at.is_some() });
        }
        self.choose_successor(log);
        self.tick_preferred(log);
        self.tick_ailing(log);
    }

    fn tick_preferred(&mut self, log: &impl LogView) {
        self.preferred.on_tick(self.now_tick);
        let Some(preferred) = self.config.preferred_leader.filter(|&node| self.is_peer(node)) else { return };
        let is_fit = self.unfit(preferred).is_none();
        let State::Leader(leading) = &mut self.state else { return };
        if leading.is_transferring() || !is_fit {
            leading.preferred_since_tick = None;
            return;
        }
        let since_tick = *leading.preferred_since_tick.get_or_insert(self.now_tick);
        if self.now_tick >= since_tick + self.preferred.steady_ticks {
            leading.preferred_since_tick = None;
            self.preferred.on_handed_over(self.now_tick);
            mark!("raft: leadership goes to the preferred leader");
            self.begin_transfer(preferred, HandOverReason::Preferred, self.try_ticks(), log);
        }
    }

    /// Hands over while this node is not fit to lead and enough others are.
    ///
    /// Those others must be a quorum: with this node's disk they could commit no better than it does now.
    fn tick_ailing(&mut self, log: &impl LogView) {
        self.ailing.on_tick(self.now_tick);
        let State::Leader(leading) = &self.state else { return };
        if self.health.has_room && self.health.disk_keeps_up {
            self.ailing_since_tick = None;
            return;
        }
        let since_tick = *self.ailing_since_tick.get_or_insert(self.now_tick);
        // Disks that are shared fail together: the followers had the time to say so.
        let is_due = self.now_tick >= self.ailing.not_before_tick.max(since_tick + u64::from(self.answer_ticks()));
        if !is_due || leading.is_transferring() {
            return;
        }
        if !self.membership.quorum_has(|node| node != self.config.id && self.unfit(node).is_none()) {
            mark!("raft: a sick leader stays, since the others are no better");
            return;
        }
        if let Some(to) = self.best_successor(&BTreeSet::new()) {
            self.ailing.on_handed_over(self.now_tick);
            mark!("raft: a sick leader hands over");
            self.begin_transfer(to, HandOverReason::Ailing, self.try_ticks(), log);
        }
    }

    /// Tells the receiver to take over once everything was sent to it. Repeated with every heartbeat: it may get lost, and what
    /// was sent, too, which is then sent again as always.
    ///
    /// To be called when a batch was closed or given up while a transfer is under way.
    pub fn proceed_with_transfer(&mut self, log: &impl LogView) {
        let State::Leader(leading) = &self.state else { return };
        let Some(Transfer { to, .. }) = leading.transfer else { return };
        let Some(progress) = leading.progress.get(&to) else { return };
        let last_index = log.last_id().index;
        let is_complete = !log.is_forming();
        let is_sent = progress.state() == ProgressState::Replicate && progress.next_index() == last_index.next();
        // It may have become unfit since it was chosen.
        let could_lead = leading.health.get(&to).is_some_and(|report| report.ailment().is_none());
        if !is_sent || !is_complete || !could_lead {
            mark!("raft: a successor is not told yet");
            return;
        }
        self.out.messages.push((to, Message::TimeoutNow { term: self.hard_state.term, last_index }));
        if let State::Leader(leading) = &mut self.state
            && let Some(transfer) = &mut leading.transfer
            && transfer.told_at.replace(last_index).is_none()
        {
            self.note_step(OfficeStep::Told { to, last_index });
        }
    }

    /// Why a follower could not take leadership now, if it could not.
    fn unfit(&self, node: NodeId) -> Option<Unfit> {
        let State::Leader(leading) = &self.state else { return Some(Unfit::Silent) };
        let Some((progress, report)) = leading.progress.get(&node).zip(leading.health.get(&node)) else {
            return Some(Unfit::Silent);
        };
        if !leading.heard_within(node, self.answer_ticks(), self.now_tick) {
            return Some(Unfit::Silent);
        }
        let lag_limit = self.config.inflight_messages_limit as u64;
        let is_level =
            progress.state() == ProgressState::Replicate && progress.match_index().plus(lag_limit) >= self.commit_index;
        let has_applied = report.health.applied_index.plus(lag_limit) >= report.due_index;
        report.ailment().or((!is_level).then_some(Unfit::LogBehind)).or((!has_applied).then_some(Unfit::Replaying))
    }
}

impl HealthReport {
    /// What the node says is wrong with it.
    fn ailment(&self) -> Option<Unfit> {
        let Health { may_lead, has_room, disk_keeps_up, .. } = self.health;
        if !may_lead {
            Some(Unfit::MayNotLead)
        } else if !has_room {
            Some(Unfit::NoRoom)
        } else if !disk_keeps_up {
            Some(Unfit::SlowDisk)
        } else {
            None
        }
    }
}
