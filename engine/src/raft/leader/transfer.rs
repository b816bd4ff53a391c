//! Handing leadership over: on request, when this node stops or is not fit to lead, and to the preferred leader (thesis 3.10).
//!
//! A transfer goes in this order:
//!
//! 1. The leader takes no more proposals, and the batch being formed is closed.
//! 2. The leader sends the successor the rest of the log.
//! 3. When everything is sent, the leader tells the successor to take over (`TimeoutNow`). It appends nothing after that.
//! 4. When everything has arrived, the successor's log is as good as any, and it campaigns. It makes the last entries durable
//!    together with its vote for itself: one sync instead of two. The leader sees from the new term that the transfer succeeded.
//!
//! Leadership goes only to nodes that are fit to lead. Followers report their health in their answers to heartbeats.
//!
//! A *hand-over* is the wish to give up leadership, with its reason; a *transfer* is one try, to one successor.

use std::collections::BTreeSet;
use std::fmt;

use super::Leading;
use crate::raft::log_view::LogView;
use crate::raft::tracker::{Progress, ProgressState};
use crate::raft::{Common, Config, HandOverEnd, HandOverReason, Health, LeadershipStep, Message, TransferError};
use crate::types::{Index, NodeId};

/// A transfer under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Who is to lead.
    pub to: NodeId,
    /// Where the leader's log ended when the successor was told to take over. Nothing is appended after that (`Raft::may_propose`).
    /// `None` until it was told.
    pub told_at: Option<Index>,
    /// When it began. Unit: ticks of this core.
    since_tick: u64,
    /// When it is given up. Unit: ticks of this core.
    end_tick: u64,
}

/// What a leader that wants to give up leadership remembers while it looks for a successor.
#[derive(Clone, Debug, Default)]
pub(super) struct Leaving {
    /// Followers that did not take over in time. They are tried again when no other is left.
    tried: BTreeSet<NodeId>,
    /// No follower is tried before this, so that the leader takes proposals between two tries. Unit: ticks of this core.
    pause_until_tick: u64,
}

/// What a follower last said of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct HealthReport {
    health: Health,
    /// Highest index that the follower could have applied when it said so: committed, and in its log.
    due_index: Index,
    /// When it said first that its disk is slow; it says so ever since. Unit: ticks of this core.
    slow_since_tick: Option<u64>,
}

/// Why a node cannot take leadership now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It did not answer the last heartbeats, or no heartbeat at all since its connection came up.
    Silent,
    /// It may not campaign: it is under repair.
    MayNotLead,
    /// Its log cannot get another segment.
    NoRoom,
    /// Its disk does not keep up.
    SlowDisk,
    /// Its disk lacks more than `inflight_messages_limit` committed entries, or it is not in `ProgressState::Replicate`.
    LogBehind,
    /// It has applied much less than it could have. It may be replaying its log after a start.
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

/// Limits how often leadership is handed over, so that it does not go back and forth between nodes that cannot hold it for long.
///
/// Each hand-over doubles the waiting time `wait_ticks`, up to `wait_max_ticks`. Whenever `wait_max_ticks` pass without a hand-over, it
/// is halved again.
#[derive(Clone, Debug)]
pub(in crate::raft) struct Pacing {
    /// The waiting time: how long the preferred leader must have been fit before it is handed leadership, or how long an ailing leader
    /// waits after a hand-over before the next. Unit: ticks.
    wait_ticks: u64,
    /// Lower and upper limit of `wait_ticks`.
    wait_min_ticks: u64,
    wait_max_ticks: u64,
    /// When `wait_ticks` was last doubled or halved. Unit: ticks of this core.
    changed_tick: u64,
    /// A leader that is unfit to lead does not hand over before this. Unit: ticks of this core.
    not_before_tick: u64,
}

impl Pacing {
    pub(in crate::raft) fn new(config: &Config) -> Self {
        let wait_min_ticks = 2 * u64::from(config.election_ticks);
        let wait_max_ticks = 32 * wait_min_ticks;
        Self { wait_ticks: wait_min_ticks, wait_min_ticks, wait_max_ticks, changed_tick: 0, not_before_tick: 0 }
    }

    fn on_handed_over(&mut self, now_tick: u64) {
        self.not_before_tick = now_tick + self.wait_ticks;
        self.wait_ticks = (self.wait_ticks * 2).min(self.wait_max_ticks);
        self.changed_tick = now_tick;
    }

    fn on_tick(&mut self, now_tick: u64) {
        if now_tick >= self.changed_tick + self.wait_max_ticks {
            self.wait_ticks = (self.wait_ticks / 2).max(self.wait_min_ticks);
            self.changed_tick = now_tick;
        }
    }
}

impl Leading {
    /// Notes what a follower says of itself, and what it could have applied by then.
    pub(in crate::raft) fn note_health(&mut self, common: &Common, from: NodeId, matched_index: Index, health: Health) {
        let due_index = matched_index.min(common.commit_index);
        let slow_before = self.health.get(&from).and_then(|report| report.slow_since_tick);
        let slow_since_tick = (!health.disk_keeps_up).then(|| slow_before.unwrap_or(common.now_tick));
        self.health.insert(from, HealthReport { health, due_index, slow_since_tick });
    }

    /// The transfer under way.
    pub(in crate::raft) fn transfer(&self) -> Option<Transfer> {
        self.transfer
    }

    pub(in crate::raft) fn is_transferring(&self) -> bool {
        self.transfer.is_some()
    }

    /// Begins a transfer that somebody asked for, in place of one that is under way. See `Raft::transfer_leader`.
    pub(in crate::raft) fn transfer_to(
        &mut self,
        common: &mut Common,
        to: NodeId,
        log: &impl LogView,
    ) -> Result<(), TransferError> {
        if !common.membership.is_voter(to) {
            return Err(TransferError::NotVoter { to });
        }
        if to == common.config.id || self.transfer.is_some_and(|transfer| transfer.to == to) {
            return Ok(());
        }
        if let Some(why) = self.unfit(common, to) {
            mark!("raft: a transfer to a node that is not fit is refused");
            return Err(TransferError::NotFit { to, why });
        }
        self.end_transfer(common, HandOverEnd::Replaced);
        self.begin_transfer(common, to, HandOverReason::Asked, common.config.election_ticks, log);
        Ok(())
    }

    /// From now on this leader looks for a successor, until it has one. See `Raft::hand_over_leadership`.
    pub(in crate::raft) fn hand_over_leadership(&mut self, common: &mut Common, log: &impl LogView) {
        self.leaving.get_or_insert_default();
        self.choose_successor(common, log);
    }

    /// For a leader that sends its last message: the follower that should take over, and the message that tells it.
    pub(in crate::raft) fn last_successor(&self, common: &Common) -> Option<(NodeId, Message)> {
        // Whoever was told already may be campaigning; a second one would disturb it.
        let told = self.transfer.map(|transfer| transfer.to).filter(|to| self.unfit(common, *to).is_none());
        let to = told.or_else(|| self.best_successor(common, &BTreeSet::new()))?;
        // It must not wait for entries that it lacks: this leader sends no more. So the message names only
        // what it is known to have.
        let last_index = self.progress.get(&to)?.match_index();
        Some((to, Message::TimeoutNow { term: common.hard_state.term, last_index }))
    }

    fn begin_transfer(
        &mut self,
        common: &mut Common,
        to: NodeId,
        reason: HandOverReason,
        ticks_max: u32,
        log: &impl LogView,
    ) {
        let (since_tick, end_tick) = (common.now_tick, common.now_tick + u64::from(ticks_max));
        self.transfer = Some(Transfer { to, told_at: None, since_tick, end_tick });
        let match_index = self.progress.get(&to).map_or(Index::ZERO, Progress::match_index);
        common.out.steps.push(LeadershipStep::Begun { to, reason, last_index: log.last_id().index, match_index });
        self.proceed_with_transfer(common, log);
    }

    /// Ends the transfer under way, if there is one.
    pub(super) fn end_transfer(&mut self, common: &mut Common, end: HandOverEnd) {
        if let Some(transfer) = self.transfer.take() {
            let after_ticks = common.now_tick.saturating_sub(transfer.since_tick);
            common.out.steps.push(LeadershipStep::Ended { to: transfer.to, end, after_ticks });
        }
    }

    /// Begins a transfer to the best follower not tried yet, if this leader wants to leave and no transfer is under way.
    fn choose_successor(&mut self, common: &mut Common, log: &impl LogView) {
        let Some(leaving) = self.leaving.as_ref().filter(|_| self.transfer.is_none()) else { return };
        if common.now_tick < leaving.pause_until_tick {
            return;
        }
        match self.best_successor(common, &leaving.tried) {
            Some(to) => self.begin_transfer(common, to, HandOverReason::Stopping, common.config.try_ticks(), log),
            // Nobody is left: all followers get another chance from the next tick on.
            None => self.leaving.iter_mut().for_each(|leaving| leaving.tried.clear()),
        }
    }

    /// Of the fit voters that are not excluded, the one with the most entries on its disk.
    fn best_successor(&self, common: &Common, excluded: &BTreeSet<NodeId>) -> Option<NodeId> {
        let is_voter = |node: NodeId| common.membership.is_voter(node);
        let may_succeed = |node| is_voter(node) && !excluded.contains(&node) && self.unfit(common, node).is_none();
        let fit = self.followers().filter(|(node, _)| may_succeed(*node));
        fit.max_by_key(|(_, progress)| progress.match_index()).map(|(node, _)| node)
    }

    /// Gives up a transfer that takes too long; starts one that is due.
    pub(super) fn tick_transfer(&mut self, common: &mut Common, log: &impl LogView) {
        if let Some(late) = self.transfer.filter(|transfer| common.now_tick >= transfer.end_tick) {
            mark!("raft: a transfer is given up");
            if let Some(leaving) = &mut self.leaving {
                leaving.tried.insert(late.to);
                // After this pause the follower has forgotten the call to take over (`on_timeout_now`), or has campaigned.
                leaving.pause_until_tick = common.now_tick + 2 * u64::from(common.config.heartbeat_ticks) + 1;
            }
            self.end_transfer(common, HandOverEnd::OutOfTime { was_told: late.told_at.is_some() });
        }
        self.choose_successor(common, log);
        self.tick_preferred(common, log);
        self.tick_ailing(common, log);
    }

    /// Hands over to the preferred leader once it has been fit for long enough.
    fn tick_preferred(&mut self, common: &mut Common, log: &impl LogView) {
        common.preferred.on_tick(common.now_tick);
        let Some(preferred) = common.config.preferred_leader else { return };
        if preferred == common.config.id || !common.membership.is_voter(preferred) {
            return;
        }
        if self.is_transferring() || self.unfit(common, preferred).is_some() {
            self.preferred_since_tick = None;
            return;
        }
        let since_tick = *self.preferred_since_tick.get_or_insert(common.now_tick);
        if common.now_tick >= since_tick + common.preferred.wait_ticks {
            self.preferred_since_tick = None;
            common.preferred.on_handed_over(common.now_tick);
            mark!("raft: leadership goes to the preferred leader");
            self.begin_transfer(common, preferred, HandOverReason::Preferred, common.config.try_ticks(), log);
        }
    }

    /// Hands over while this node is unfit to lead (its disk is slow, or its log has no room) and enough others are fit.
    ///
    /// The others must be a quorum without this node, all fit or with disks that work again. If they needed its disk to commit, nothing
    /// would be gained. One of them that is fit takes over.
    fn tick_ailing(&mut self, common: &mut Common, log: &impl LogView) {
        common.sick_disk_pacing.on_tick(common.now_tick);
        if common.health.has_room && common.health.disk_keeps_up {
            common.ailing_since_tick = None;
            return;
        }
        let since_tick = *common.ailing_since_tick.get_or_insert(common.now_tick);
        // Nodes that share a disk become unfit together. This gives the followers the time to say so.
        let told_by_tick = since_tick + u64::from(common.config.answer_ticks());
        if common.now_tick < common.sick_disk_pacing.not_before_tick.max(told_by_tick) || self.is_transferring() {
            return;
        }
        let can_help = |node| node != common.config.id && self.can_help_to_commit(common, node, log);
        if !common.membership.quorum_has(can_help) {
            mark!("raft: a sick leader stays, since the others are no better");
            return;
        }
        if let Some(to) = self.best_successor(common, &BTreeSet::new()) {
            common.sick_disk_pacing.on_handed_over(common.now_tick);
            mark!("raft: a sick leader hands over");
            self.begin_transfer(common, to, HandOverReason::SickDisk, common.config.try_ticks(), log);
        }
    }

    /// Tells the successor to take over if the whole log was sent to it. Called again with every heartbeat, since the message may get
    /// lost. Entries that get lost are sent again as always.
    pub(in crate::raft) fn proceed_with_transfer(&mut self, common: &mut Common, log: &impl LogView) {
        let Some(transfer) = &mut self.transfer else { return };
        let to = transfer.to;
        let Some(progress) = self.progress.get(&to) else { return };
        let last_index = log.last_id().index;
        // A forming batch will be one more entry.
        let is_complete = !log.is_forming();
        let is_sent = progress.state() == ProgressState::Replicate && progress.next_index() == last_index.next();
        // It may have become unfit since it was chosen.
        let could_lead = self.health.get(&to).is_some_and(|report| report.ailment().is_none());
        if !is_sent || !is_complete || !could_lead {
            mark!("raft: a successor is not told yet");
            return;
        }
        common.out.messages.push((to, Message::TimeoutNow { term: common.hard_state.term, last_index }));
        if transfer.told_at.replace(last_index).is_none() {
            common.out.steps.push(LeadershipStep::Told { to, last_index });
        }
    }

    /// Whether another leader could count on this follower's disk. A follower says that its disk is slow for long after it was. What it
    /// acknowledges tells sooner that the disk works again.
    fn can_help_to_commit(&self, common: &Common, node: NodeId, log: &impl LogView) -> bool {
        match (self.unfit(common, node), self.progress.get(&node)) {
            (None, _) => true,
            (Some(Unfit::SlowDisk), Some(progress)) => {
                let (last_index, ticks) = (log.last_id().index, common.config.answer_ticks());
                let slow_since_tick = self.health.get(&node).and_then(|report| report.slow_since_tick);
                is_level(common, progress)
                    && slow_since_tick
                        .is_some_and(|since| progress.disk_works(last_index, since, ticks, common.now_tick))
            }
            (Some(_), _) => false,
        }
    }

    /// Why a follower cannot take leadership now; `None` if it can.
    fn unfit(&self, common: &Common, node: NodeId) -> Option<Unfit> {
        let Some((progress, report)) = self.progress.get(&node).zip(self.health.get(&node)) else {
            return Some(Unfit::Silent);
        };
        if !self.heard_within(node, common.config.answer_ticks(), common.now_tick) {
            return Some(Unfit::Silent);
        }
        let lag_entries_limit = common.config.inflight_messages_limit as u64;
        let has_applied = report.health.applied_index.plus(lag_entries_limit) >= report.due_index;
        report
            .ailment()
            .or((!is_level(common, progress)).then_some(Unfit::LogBehind))
            .or((!has_applied).then_some(Unfit::Replaying))
    }
}

/// The follower's disk lacks no more of what is committed than can be on its way to it.
fn is_level(common: &Common, progress: &Progress) -> bool {
    // A number of entries here, although it is chosen as a number of messages.
    let lag_entries_limit = common.config.inflight_messages_limit as u64;
    progress.state() == ProgressState::Replicate
        && progress.match_index().plus(lag_entries_limit) >= common.commit_index
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
