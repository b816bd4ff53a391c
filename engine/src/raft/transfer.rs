//! Handing leadership over: on request, and to the preferred leader when it can take it.
//!
//! Thesis 3.10. The receiver must have everything the leader has; proposals stop until it has taken over, or for an election
//! timeout. Whether the receiver succeeded shows in the term that it starts.

use super::log_view::LogView;
use super::tracker::ProgressState;
use super::{Config, Message, NotLeader, Raft, State, TransferError};
use crate::types::{Index, NodeId};

/// A transfer under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    to: NodeId,
    since_tick: u64,
}

/// Keeps leadership from going to and fro when the preferred leader cannot hold it.
///
/// Each hand-over to it doubles the time for which it must have been fit before the next, up to a limit; each such limit
/// that passes in peace halves it again.
#[derive(Debug)]
pub(super) struct PreferredPacing {
    /// Time for which it must have been connected and up to date. Unit: ticks.
    steady_ticks: u64,
    /// Lower and upper end of it.
    steady_min_ticks: u64,
    steady_max_ticks: u64,
    /// When `steady_ticks` last changed. Unit: ticks of this core.
    changed_tick: u64,
}

impl PreferredPacing {
    pub(super) fn new(config: &Config) -> Self {
        let steady_min_ticks = 2 * u64::from(config.election_ticks);
        let steady_max_ticks = 32 * steady_min_ticks;
        Self { steady_ticks: steady_min_ticks, steady_min_ticks, steady_max_ticks, changed_tick: 0 }
    }

    fn on_handed_over(&mut self, now_tick: u64) {
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
    /// Hands leadership over to `to`, as soon as it has the whole log; replaces a transfer to another node.
    ///
    /// Proposals are refused until the new leader is known, or for an election timeout at most. To itself: does nothing.
    pub fn transfer_leader(&mut self, to: NodeId, log: &impl LogView) -> Result<(), TransferError> {
        let State::Leader(leading) = &mut self.state else {
            return Err(TransferError::NotLeader { leader: self.leader });
        };
        if !self.membership.is_voter(to) {
            return Err(TransferError::NotVoter { to });
        }
        if to == self.config.id || leading.transfer.is_some_and(|transfer| transfer.to == to) {
            return Ok(());
        }
        leading.transfer = Some(Transfer { to, since_tick: self.now_tick });
        self.drive_transfer(log);
        Ok(())
    }

    /// Hands leadership over to the follower that is furthest, of those heard from lately; says to which.
    pub fn transfer_to_best(&mut self, log: &impl LogView) -> Result<Option<NodeId>, NotLeader> {
        let State::Leader(leading) = &self.state else { return Err(NotLeader { leader: self.leader }) };
        let heartbeats_ticks = 2 * self.config.heartbeat_ticks + 1;
        let fit = leading.followers().filter(|(node, _)| leading.heard_within(*node, heartbeats_ticks, self.now_tick));
        let best = fit.max_by_key(|(_, progress)| progress.match_index()).map(|(node, _)| node);
        if let Some(to) = best {
            self.transfer_leader(to, log).map_err(|_| NotLeader { leader: self.leader })?;
        }
        Ok(best)
    }

    /// Gives up a transfer that takes too long; starts one to the preferred leader when that is due.
    pub(super) fn tick_transfer(&mut self, log: &impl LogView) {
        let State::Leader(leading) = &mut self.state else { return };
        let election_ticks = u64::from(self.config.election_ticks);
        if leading.transfer.is_some_and(|transfer| self.now_tick >= transfer.since_tick + election_ticks) {
            leading.transfer = None;
        }
        self.tick_preferred(log);
    }

    fn tick_preferred(&mut self, log: &impl LogView) {
        self.preferred.on_tick(self.now_tick);
        let Some(preferred) = self.config.preferred_leader.filter(|&node| self.is_peer(node)) else { return };
        let State::Leader(leading) = &mut self.state else { return };
        if leading.is_transferring() || !leading.is_fit(preferred, &self.config, self.commit_index, self.now_tick) {
            leading.preferred_since_tick = None;
            return;
        }
        let since_tick = *leading.preferred_since_tick.get_or_insert(self.now_tick);
        if self.now_tick >= since_tick + self.preferred.steady_ticks {
            leading.preferred_since_tick = None;
            leading.transfer = Some(Transfer { to: preferred, since_tick: self.now_tick });
            self.preferred.on_handed_over(self.now_tick);
            self.drive_transfer(log);
        }
    }

    /// Tells the receiver to take over once it has everything. Repeated with every heartbeat: it may get lost.
    pub(super) fn drive_transfer(&mut self, log: &impl LogView) {
        let State::Leader(leading) = &mut self.state else { return };
        let Some(Transfer { to, .. }) = leading.transfer else { return };
        let Some(progress) = leading.progress.get(&to) else { return };
        if progress.match_index() == log.last_id().index {
            self.out.messages.push((to, Message::TimeoutNow { term: self.hard_state.term }));
        }
    }
}

impl super::leader::Leading {
    /// The node answers heartbeats and keeps up: it lags behind what is committed by no more than a window of messages.
    fn is_fit(&self, node: NodeId, config: &Config, commit_index: Index, now_tick: u64) -> bool {
        let lag_limit = config.inflight_messages_limit as u64;
        self.heard_within(node, 2 * config.heartbeat_ticks + 1, now_tick)
            && self.progress.get(&node).is_some_and(|progress| {
                progress.state() == ProgressState::Replicate && progress.match_index().plus(lag_limit) >= commit_index
            })
    }
}
