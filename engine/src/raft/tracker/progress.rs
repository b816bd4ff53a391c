//! How far one follower is, as its leader knows it, and what to send it next.
//!
//! Tells lost messages from slow disks: a follower reports both what arrived (`matched_index`) and what is durable
//! (`persisted_index`). Sent entries that do not *arrive* for some time are sent again; entries that arrived and wait for the
//! follower's disk never are, nor are those that have not left this node: a lane that takes none says so, and says when it has room.

use super::Inflights;
use crate::limits::{DAMAGED_STALLS, DAMAGED_UNVERIFIED_MAX, NO_ROOM_STALLS};
use crate::raft::Config;
use crate::raft::log_view::{LogView, last_not_after_term, term_at};
use crate::types::{EntryId, Index};

/// How entries are sent to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressState {
    /// Where the logs agree is not known: one message at a time, until one is accepted.
    Probe,
    /// The logs agree: as many messages as the window takes, without waiting.
    Replicate,
    /// The follower lacks entries that the leader's log does not reach back to: only a state that lies within the log helps, and
    /// nothing is sent. Ends when the follower says that it has such a state, or connects again.
    NeedsState,
}

/// The question a probe asks, and whether it is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProbePhase {
    /// To be sent with entries, in the hope that they fit.
    Due,
    /// To be sent without entries: the last one got lost, or its entries were not taken.
    DueEmpty,
    /// Sent, with entries through `last` of this size in all. Nothing more until an answer arrives or the stall timeout ends.
    Sent { last: Index, bytes: u64 },
    /// Not to be sent: the follower does not take entries. It says so when it takes some again.
    NotTaken(Why),
}

/// Why a follower did not take entries, by its own account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::raft) enum Why {
    /// Its log has no room for them, or takes none of their form.
    NoRoom,
    /// They came damaged. Sent once more they may be whole. If they are not, the leader looks at its own copy (`damaged_count`).
    Damaged,
}

/// What a rejection led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::raft) enum Rejection {
    /// It speaks of a message that is no longer of interest.
    Stale,
    /// The next probe looks further back.
    Taken,
    /// The same, and the follower lacks what it had acknowledged.
    Forgot {
        /// Highest index that it had acknowledged.
        had: Index,
    },
}

/// A message to be sent: entries `first..=last` after `prev`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::raft) struct NextAppend {
    pub(in crate::raft) prev: EntryId,
    pub(in crate::raft) last: Index,
    /// Size of the entries. Unit: bytes.
    pub(in crate::raft) bytes: u64,
}

/// A follower, as its leader knows it. Starts anew with each term of the leader.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Highest index known durable on the follower and equal to the leader's log. Decreases only when the follower says that
    /// it lost entries.
    match_index: Index,
    /// First index of the next message. Invariant: match_index < next_index <= last_index + 1.
    next_index: Index,
    /// Highest `matched_index` reported. Invariant: match_index <= received_index. A hint only: a restart loses it.
    received_index: Index,
    state: ProgressState,
    probe: ProbePhase,
    inflights: Inflights,
    /// When entries last arrived, or were last sent while none was on its way. Unit: ticks of this core.
    progressed_tick: u64,
    /// When `match_index` last rose: its disk worked then. 0 = not in this term. Unit: ticks of this core.
    matched_tick: u64,
    /// When the follower was last heard from in this term. Unit: ticks of this core.
    heard_tick: u64,
    /// Newest round of leadership confirmation the follower answered.
    confirmed_round: u64,
    loading: Loading,
    /// Times in a row that entries came damaged.
    damaged_count: u32,
    /// The way to it took no more entries, and has not said since that it has room: nothing is sent.
    lane_is_full: bool,
    /// It said that its log has another history. Ends when it connects again: its directory may have been exchanged.
    has_parted: bool,
}

/// Entries of the next message that are to be read in and compared with their checksums first: whether that was asked for. They are not in
/// memory, or came damaged again and again. Each variant names the first and the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loading {
    /// Nothing is waited for.
    No,
    /// They have to be asked for.
    Due(Index, Index),
    /// Asked for. Nothing is sent until they are there.
    Asked(Index, Index),
    /// They were read in. They are sent even if they have left memory again, since asking again might go on for ever.
    Done(Index, Index),
}

impl Progress {
    /// A follower of which a new leader knows nothing; its log probably ends where the leader's does.
    pub(in crate::raft) fn new(config: &Config, last_index: Index, now_tick: u64) -> Self {
        Self {
            match_index: Index::ZERO,
            next_index: last_index.next(),
            received_index: Index::ZERO,
            state: ProgressState::Probe,
            probe: ProbePhase::Due,
            inflights: Inflights::new(config.inflight_messages_limit, config.inflight_bytes_limit),
            progressed_tick: now_tick,
            matched_tick: 0,
            heard_tick: now_tick,
            confirmed_round: 0,
            loading: Loading::No,
            damaged_count: 0,
            lane_is_full: false,
            has_parted: false,
        }
    }

    /// Highest index known durable on the follower; counts toward the commit quorum.
    #[must_use]
    pub fn match_index(&self) -> Index {
        self.match_index
    }

    /// First index of the next message.
    #[must_use]
    pub fn next_index(&self) -> Index {
        self.next_index
    }

    /// How entries are sent to it.
    #[must_use]
    pub fn state(&self) -> ProgressState {
        self.state
    }

    /// What is in flight to it.
    #[must_use]
    pub fn inflights(&self) -> &Inflights {
        &self.inflights
    }

    /// When it was last heard from. Unit: ticks of this core.
    pub(in crate::raft) fn heard_tick(&self) -> u64 {
        self.heard_tick
    }

    /// Its disk works, by what it acknowledged: it took more of the log within the last `ticks`, or took the rest of it after
    /// `slow_since_tick`, when it first said that its disk is slow. That it had all before says nothing.
    pub(in crate::raft) fn disk_works(
        &self,
        last_index: Index,
        slow_since_tick: u64,
        ticks: u32,
        now_tick: u64,
    ) -> bool {
        assert!(
            self.match_index <= last_index,
            "durable through {}, and the log ends at {last_index}",
            self.match_index
        );
        assert!(self.matched_tick <= now_tick, "ticks only rise");
        let took_the_rest = self.match_index == last_index && self.matched_tick > slow_since_tick;
        took_the_rest || (self.matched_tick > 0 && now_tick < self.matched_tick + u64::from(ticks))
    }

    /// Newest round of leadership confirmation it answered.
    pub(in crate::raft) fn confirmed_round(&self) -> u64 {
        self.confirmed_round
    }

    /// It answered something in this term.
    pub(in crate::raft) fn on_heard(&mut self, now_tick: u64) {
        self.heard_tick = now_tick;
    }

    /// It answered a heartbeat of this round.
    pub(in crate::raft) fn on_round(&mut self, round: u64) {
        self.confirmed_round = self.confirmed_round.max(round);
    }

    /// Takes what the follower reports to hold. True when `match_index` advanced.
    ///
    /// Reports that contradict themselves, or the leader's log, are ignored.
    pub(in crate::raft) fn on_report(
        &mut self,
        matched_index: Index,
        persisted_index: Index,
        last_index: Index,
        now_tick: u64,
    ) -> bool {
        if persisted_index > matched_index || matched_index > last_index {
            return false;
        }
        if matched_index > self.received_index {
            self.received_index = matched_index;
            self.progressed_tick = now_tick;
        }
        let advanced = persisted_index > self.match_index;
        if advanced {
            self.match_index = persisted_index;
            self.matched_tick = now_tick;
            self.inflights.free_to(persisted_index);
        }
        if matched_index.next() >= self.next_index {
            match self.state {
                ProgressState::Probe if self.not_taken().is_some() => self.next_index = matched_index.next(),
                ProgressState::Probe => self.become_replicate(matched_index, now_tick),
                ProgressState::NeedsState => self.become_replicate(matched_index, now_tick),
                ProgressState::Replicate => {
                    self.next_index = matched_index.next();
                    self.progressed_tick = now_tick;
                }
            }
        }
        self.next_index = self.next_index.max(self.match_index.next());
        self.assert_invariants(last_index);
        advanced
    }

    /// Like `on_report`, for a follower whose acknowledgements do not count: they free the window, and `match_index` stays.
    pub(in crate::raft) fn on_hint(
        &mut self,
        matched_index: Index,
        persisted_index: Index,
        last_index: Index,
        now_tick: u64,
    ) {
        if persisted_index <= matched_index && matched_index <= last_index {
            self.inflights.free_to(persisted_index);
            self.on_report(matched_index, Index::ZERO, last_index, now_tick);
        }
    }

    /// Looks for lost messages when a heartbeat was answered, after `on_report`.
    ///
    /// Acknowledgements need no such care: every answer to a heartbeat repeats them.
    pub(in crate::raft) fn on_heartbeat_answered(&mut self, config: &Config, matched_index: Index, now_tick: u64) {
        if let Some(why) = self.not_taken() {
            let stalls = match why {
                Why::NoRoom => NO_ROOM_STALLS,
                Why::Damaged => DAMAGED_STALLS,
            };
            if now_tick >= self.progressed_tick + stalls * config.stall_ticks() {
                mark!("raft: a follower without room is tried again" if why == Why::NoRoom);
                mark!("raft: damaged entries are sent again" if why == Why::Damaged);
                self.probe = ProbePhase::Due;
            }
            return;
        }
        // It reported more before, so it was started again since, and what was on its way then is lost.
        let has_begun_anew = matched_index < self.received_index;
        let patience_ticks = match self.state {
            ProgressState::Replicate if !has_begun_anew => config.loss_ticks(),
            ProgressState::Replicate | ProgressState::Probe | ProgressState::NeedsState => config.stall_ticks(),
        };
        let is_recent = now_tick < self.progressed_tick + patience_ticks;
        if self.lane_is_full || matched_index.next() >= self.next_index || is_recent {
            return;
        }
        match self.state {
            ProgressState::NeedsState => {}
            ProgressState::Probe => {
                mark!("raft: a probe is repeated without entries");
                self.probe = ProbePhase::DueEmpty;
            }
            ProgressState::Replicate => {
                mark!("raft: entries got lost and are sent again");
                self.become_probe(matched_index.max(self.match_index).next());
            }
        }
    }

    /// The follower dropped entries after `matched_index`, and says why: none are sent until it takes some again.
    ///
    /// To be called before `on_report`. A report that contradicts the leader's log is ignored.
    pub(in crate::raft) fn on_not_taken(&mut self, why: Why, matched_index: Index, last_index: Index, now_tick: u64) {
        if matched_index > last_index {
            return;
        }
        // It says so again and again. Nothing was sent since it said so last, because the leader looks at its own copy.
        let is_looked_at =
            self.state == ProgressState::Probe && self.probe == ProbePhase::Due && self.damaged_count > 0;
        if is_looked_at && why == Why::Damaged {
            return;
        }
        let is_news = self.not_taken() != Some(why);
        self.become_probe(matched_index.max(self.match_index).next());
        self.probe = ProbePhase::NotTaken(why);
        self.damaged_count = self.damaged_count.saturating_add(u32::from(is_news && why == Why::Damaged));
        // It may say so again and again. That is no reason to wait for longer.
        if is_news {
            self.progressed_tick = now_tick;
        }
    }

    /// The follower takes entries: if it did not before, it is probed now.
    pub(in crate::raft) fn on_taken(&mut self) {
        self.damaged_count = 0;
        if self.not_taken().is_some() {
            self.probe = ProbePhase::Due;
        }
    }

    /// Why the follower takes no entries, if that is so.
    fn not_taken(&self) -> Option<Why> {
        match (self.state, self.probe) {
            (ProgressState::Probe, ProbePhase::NotTaken(why)) => Some(why),
            _ => None,
        }
    }

    /// Takes a rejection.
    pub(in crate::raft) fn on_rejected(&mut self, prev_index: Index, hint: EntryId, log: &impl LogView) -> Rejection {
        let stale = match self.state {
            // Entries that were accepted since cannot be rejected any more, and this is no answer to entries that were not sent yet.
            ProgressState::Replicate => prev_index <= self.received_index || prev_index >= self.next_index,
            // Only the probe's own answer counts.
            ProgressState::Probe => prev_index.next() != self.next_index,
            // Nothing was sent in this state.
            ProgressState::NeedsState => true,
        };
        if stale {
            mark!("raft: a stale rejection is ignored");
            return Rejection::Stale;
        }
        let had = self.match_index;
        // It lacks entries that it acknowledged: its directory was put back to an older copy. Only what it says from here on counts. If
        // the answer is merely old, some entries are sent twice.
        let has_forgotten = prev_index <= had;
        if has_forgotten {
            mark!("raft: a follower lacks what it had acknowledged");
            self.match_index = Index::ZERO;
            self.received_index = Index::ZERO;
        }
        let rejection = if has_forgotten { Rejection::Forgot { had } } else { Rejection::Taken };
        let upto = hint.index.min(prev_index.prev());
        let base = log.base();
        // The follower has nothing in common with this log if its entries end before that begins, or are of earlier terms there.
        if self.match_index < base.index && (upto < base.index || hint.term < base.term) {
            self.become_needs_state(base.index);
            return rejection;
        }
        let floor = self.match_index.max(base.index);
        let common = last_not_after_term(log, floor, upto, hint.term).index;
        self.become_probe(common.next());
        rejection
    }

    /// The follower has the entry at `index` in another history and takes nothing. It is asked again now and then, without entries: its
    /// directory may be exchanged. If it had acknowledged the entry before, that was in another directory.
    pub(in crate::raft) fn on_other_history(&mut self, index: Index, now_tick: u64) {
        if index <= self.match_index {
            self.match_index = Index::ZERO;
            self.received_index = Index::ZERO;
        }
        self.has_parted = true;
        self.become_probe(index.next());
        self.probe = ProbePhase::Sent { last: index, bytes: 0 };
        self.progressed_tick = now_tick;
    }

    /// It said that its log has another history: it helps to keep nobody in office.
    pub(in crate::raft) fn has_parted(&self) -> bool {
        self.has_parted
    }

    /// The follower lost entries, and its log now ends at `last`. If it may have acknowledged some of them, nothing is known of its
    /// log any more: the rest may even be older entries than those that it acknowledged.
    pub(in crate::raft) fn on_lost(&mut self, last: EntryId, log: &impl LogView, now_tick: u64) {
        let holds_all = last.index >= self.match_index && term_at(log, last.index) == Some(last.term);
        if self.match_index > Index::ZERO && !holds_all {
            mark!("raft: a follower says that it lost entries");
            self.match_index = Index::ZERO;
            self.received_index = Index::ZERO;
            self.become_probe(last.index.min(log.last_id().index).next());
            self.progressed_tick = now_tick;
        }
    }

    /// The connection broke: what was in flight is lost. Nothing is sent until the follower is heard from.
    pub(in crate::raft) fn on_disconnected(&mut self) {
        self.has_parted = false;
        self.forget_what_is_in_flight();
    }

    /// What the follower said last may be lost: its lane was replaced. It is the same process with the same log.
    pub(in crate::raft) fn on_answers_lost(&mut self) {
        self.forget_what_is_in_flight();
        self.on_connected();
    }

    fn forget_what_is_in_flight(&mut self) {
        self.lane_is_full = false;
        self.become_probe(self.match_index.next());
        self.received_index = self.match_index;
        self.probe = ProbePhase::Sent { last: self.match_index, bytes: 0 };
    }

    /// A message after `prev_index` did not leave: neither did what came after it, as far as is known. If that was for want of room
    /// on the way to the follower, nothing is sent before `on_lane_room`.
    pub(in crate::raft) fn on_unsent(&mut self, prev_index: Index, waits_for_room: bool) {
        self.lane_is_full |= waits_for_room;
        match (self.state, self.probe) {
            (ProgressState::Replicate, _) => {
                // What arrived was sent by another message.
                let sent_index = prev_index.max(self.received_index);
                if sent_index < self.next_index.prev() {
                    mark!("raft: entries did not leave");
                    self.inflights.forget_after(sent_index);
                    self.next_index = sent_index.next();
                }
            }
            (ProgressState::Probe, ProbePhase::Sent { .. }) if prev_index == self.next_index.prev() => {
                mark!("raft: a probe did not leave");
                self.probe = ProbePhase::Due;
            }
            (ProgressState::Probe | ProgressState::NeedsState, _) => {}
        }
    }

    /// There is room on the way to the follower again.
    pub(in crate::raft) fn on_lane_room(&mut self) {
        mark!("raft: a follower's lane has room again" if self.lane_is_full);
        self.lane_is_full = false;
    }

    /// What was sent to it has not left this node yet, so it is not lost.
    pub(in crate::raft) fn on_entries_wait(&mut self, now_tick: u64) {
        if self.not_taken().is_none() {
            self.progressed_tick = now_tick;
        }
    }

    /// Highest index that it reported as arrived.
    #[must_use]
    pub fn received_index(&self) -> Index {
        self.received_index
    }

    /// The connection is back: the next answer to a heartbeat brings a probe.
    pub(in crate::raft) fn on_connected(&mut self) {
        self.lane_is_full = false;
        if self.state == ProgressState::Probe {
            self.probe = ProbePhase::Due;
        }
    }

    /// Entries, first and last, that must be read into memory, and found to be whole, before the next message can be sent. Returned once.
    pub(in crate::raft) fn take_load_request(&mut self) -> Option<(Index, Index)> {
        let Loading::Due(first, last) = self.loading else { return None };
        mark!("raft: entries are read in before they are sent");
        self.loading = Loading::Asked(first, last);
        Some((first, last))
    }

    /// Entries are in memory; says whether this follower waited for them.
    pub(in crate::raft) fn on_loaded(&mut self, first: Index, last: Index) -> bool {
        let is_awaited = self.loading == Loading::Asked(first, last);
        if is_awaited {
            self.loading = Loading::Done(first, last);
        }
        is_awaited
    }

    /// Whether the entries after `prev_index` through `last` may be sent now. If not, they are waited for.
    fn can_read(&mut self, log: &impl LogView, prev_index: Index, last: Index) -> bool {
        let first = prev_index.next();
        if last < first {
            return true;
        }
        let was_loaded = matches!(self.loading, Loading::Done(from, to) if from <= first && last <= to);
        let are_suspect = self.damaged_count >= DAMAGED_UNVERIFIED_MAX;
        let can_read = was_loaded || (!are_suspect && log.is_resident(first, last));
        self.loading = if can_read { Loading::No } else { Loading::Due(first, last) };
        can_read
    }

    /// The next message to send, noted as sent; `None` when nothing may or need be sent.
    pub(in crate::raft) fn next_message(
        &mut self,
        config: &Config,
        log: &impl LogView,
        now_tick: u64,
    ) -> Option<NextAppend> {
        if self.lane_is_full {
            return None;
        }
        // A probe without entries needs nothing that is to be read in, and a device may hang.
        let is_empty_probe = self.state == ProgressState::Probe && self.probe == ProbePhase::DueEmpty;
        if matches!(self.loading, Loading::Due(..) | Loading::Asked(..)) && !is_empty_probe {
            return None;
        }
        let last_index = log.last_id().index;
        self.assert_invariants(last_index);
        self.stay_within(log.first_index());
        let prev_index = self.next_index.prev();
        let term = term_at(log, prev_index).expect("the log holds the entry before what it holds");
        let prev = EntryId::new(term, prev_index);
        match self.state {
            ProgressState::NeedsState => None,
            ProgressState::Probe => {
                let (last, bytes) = match self.probe {
                    ProbePhase::Sent { .. } | ProbePhase::NotTaken(_) => return None,
                    ProbePhase::DueEmpty => (prev_index, 0),
                    ProbePhase::Due => take_entries(log, prev_index, config.append_bytes_limit),
                };
                if !self.can_read(log, prev_index, last) {
                    return None;
                }
                self.probe = ProbePhase::Sent { last, bytes };
                self.progressed_tick = now_tick;
                Some(NextAppend { prev, last, bytes })
            }
            ProgressState::Replicate => {
                if prev_index >= last_index {
                    return None;
                }
                let room = self.inflights.room_bytes()?;
                let (last, bytes) = take_entries(log, prev_index, config.append_bytes_limit.min(room));
                if bytes > room || !self.can_read(log, prev_index, last) {
                    return None;
                }
                if self.received_index >= prev_index {
                    self.progressed_tick = now_tick;
                }
                self.inflights.add(last, bytes);
                self.next_index = last.next();
                Some(NextAppend { prev, last, bytes })
            }
        }
    }

    /// The logs agree through `matched_index`. Entries that the probe carried beyond it are on their way: they count as in
    /// flight and are not sent again.
    fn become_replicate(&mut self, matched_index: Index, now_tick: u64) {
        self.state = ProgressState::Replicate;
        self.inflights.clear();
        self.next_index = matched_index.next();
        match self.probe {
            ProbePhase::Sent { last, bytes } if last > matched_index => {
                mark!("raft: entries of a probe are in flight");
                self.inflights.add(last, bytes);
                self.next_index = last.next();
            }
            _ => self.progressed_tick = now_tick,
        }
    }

    /// Without the entry before it a message cannot be checked, so the first that can be sent is one after the log's base.
    /// Only the follower's answer tells whether it has that entry.
    fn stay_within(&mut self, first_index: Index) {
        if self.next_index >= first_index {
            return;
        }
        match self.state {
            ProgressState::Replicate => self.become_probe(first_index),
            ProgressState::Probe | ProgressState::NeedsState => self.next_index = first_index,
        }
    }

    /// The log begins after `base_index`, and the follower was found not to have what lies there.
    fn become_needs_state(&mut self, base_index: Index) {
        self.become_probe(base_index.next());
        self.state = ProgressState::NeedsState;
        self.received_index = self.match_index;
        self.loading = Loading::No;
    }

    fn become_probe(&mut self, next_index: Index) {
        assert!(next_index > self.match_index, "probing at {next_index}, durable through {}", self.match_index);
        self.state = ProgressState::Probe;
        self.probe = ProbePhase::Due;
        self.next_index = next_index;
        self.received_index = next_index.prev();
        self.inflights.clear();
    }

    fn assert_invariants(&self, last_index: Index) {
        assert!(self.match_index < self.next_index, "next {} <= match {}", self.next_index, self.match_index);
        assert!(self.next_index <= last_index.next(), "next {} past the log's end {last_index}", self.next_index);
        assert!(self.match_index <= self.received_index, "durable before it arrived");
    }
}

/// Entries after `prev_index` that fit `bytes_limit`, but at least one if there is any: last index and total size.
fn take_entries(log: &impl LogView, prev_index: Index, bytes_limit: u64) -> (Index, u64) {
    let last_index = log.last_id().index;
    let mut last = prev_index;
    let mut bytes = 0;
    while last < last_index {
        let entry_bytes = log.entry_bytes(last.next());
        if last > prev_index && bytes + entry_bytes > bytes_limit {
            break;
        }
        last = last.next();
        bytes += entry_bytes;
    }
    (last, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Lineage, NodeId, Term};

    /// Entries of 100 bytes. Entry 10 and those before are of term 2, later ones of term 3.
    struct ShortLog {
        last: u64,
        base: u64,
        is_resident: bool,
    }

    impl LogView for ShortLog {
        fn first_index(&self) -> Index {
            Index::new(self.base + 1)
        }

        fn last_id(&self) -> EntryId {
            let last = Index::new(self.last);
            EntryId::new(self.term(last).expect("it is held"), last)
        }

        fn term(&self, index: Index) -> Option<Term> {
            let is_held = (self.base..=self.last).contains(&index.get());
            is_held.then_some(Term::new(if index.get() <= 10 { 2 } else { 3 }))
        }

        fn lineage(&self, index: Index) -> Option<Lineage> {
            self.term(index).map(|_| Lineage::new(index.get()))
        }

        fn persisted_index(&self) -> Index {
            Index::new(self.last)
        }

        fn entry_bytes(&self, _index: Index) -> u64 {
            100
        }

        fn is_forming(&self) -> bool {
            false
        }

        fn is_resident(&self, _first: Index, _last: Index) -> bool {
            self.is_resident
        }
    }

    fn log(base: u64, last: u64) -> ShortLog {
        ShortLog { last, base, is_resident: true }
    }

    fn config() -> Config {
        Config {
            id: NodeId::new(1),
            founders: vec![NodeId::new(1), NodeId::new(2)],
            election_ticks: 10,
            heartbeat_ticks: 1,
            inflight_messages_limit: 10,
            inflight_bytes_limit: 10_000,
            append_bytes_limit: 400,
            life: 1,
            seed: 0,
            preferred_leader: None,
        }
    }

    /// A follower that was probed at the end of a log which begins after entry 10, and rejected that with this hint.
    fn rejected(hint: EntryId) -> (Progress, ShortLog) {
        let (config, log) = (config(), log(10, 20));
        let mut progress = Progress::new(&config, Index::new(20), 0);
        let sent = progress.next_message(&config, &log, 0).expect("a probe");
        assert_eq!(sent.prev.index, Index::new(20));
        assert_eq!(progress.on_rejected(sent.prev.index, hint, &log), Rejection::Taken);
        (progress, log)
    }

    #[test]
    fn a_follower_that_is_behind_the_base_needs_the_state_and_is_sent_nothing() {
        let ends_before = EntryId::new(Term::new(2), Index::new(7));
        let is_of_earlier_terms = EntryId::new(Term::new(1), Index::new(15));
        for hint in [ends_before, is_of_earlier_terms] {
            let (mut progress, log) = rejected(hint);
            assert_eq!(progress.state(), ProgressState::NeedsState);
            assert_eq!(progress.next_message(&config(), &log, 1), None);
            progress.on_heartbeat_answered(&config(), Index::ZERO, 1000);
            assert_eq!(progress.next_message(&config(), &log, 1000), None, "silence changes nothing");
            // It was given a state that reaches into the log.
            progress.on_report(Index::new(12), Index::new(12), Index::new(20), 1001);
            let sent = progress.next_message(&config(), &log, 1001).expect("entries again");
            assert_eq!((progress.state(), sent.prev.index), (ProgressState::Replicate, Index::new(12)));
        }
    }

    #[test]
    fn a_follower_that_ends_at_the_base_is_sent_all_there_is() {
        let (mut progress, log) = rejected(EntryId::new(Term::new(2), Index::new(10)));
        let sent = progress.next_message(&config(), &log, 1).expect("a probe");
        assert_eq!((progress.state(), sent.prev), (ProgressState::Probe, EntryId::new(Term::new(2), Index::new(10))));
        // If it turns out not to have that very entry, there is nothing earlier to try.
        let hint = EntryId::new(Term::new(1), Index::new(9));
        assert_eq!(progress.on_rejected(Index::new(10), hint, &log), Rejection::Taken);
        assert_eq!(progress.state(), ProgressState::NeedsState);
    }

    #[test]
    fn a_follower_that_connects_again_is_asked_again_and_never_below_the_base() {
        let (mut progress, log) = rejected(EntryId::new(Term::new(2), Index::new(7)));
        progress.on_disconnected();
        assert_eq!(progress.next_message(&config(), &log, 1), None);
        progress.on_connected();
        let sent = progress.next_message(&config(), &log, 2).expect("a probe");
        assert_eq!((progress.state(), sent.prev.index), (ProgressState::Probe, Index::new(10)));
    }

    #[test]
    fn a_log_that_loses_its_start_under_a_follower_goes_on_from_its_base() {
        let config = config();
        let mut progress = Progress::new(&config, Index::new(10), 0);
        assert!(progress.next_message(&config, &log(9, 20), 0).is_some());
        progress.on_report(Index::new(10), Index::new(10), Index::new(20), 0);
        assert_eq!(progress.state(), ProgressState::Replicate);
        let log = log(25, 30);
        let sent = progress.next_message(&config, &log, 1).expect("a probe");
        assert_eq!((progress.state(), sent.prev.index), (ProgressState::Probe, Index::new(25)));
        progress.on_report(Index::new(25), Index::new(25), Index::new(30), 2);
        assert_eq!(progress.state(), ProgressState::Replicate);
    }

    #[test]
    fn entries_that_are_not_in_memory_are_asked_for_once_and_sent_when_they_are() {
        let (config, (first, last)) = (config(), (Index::new(1), Index::new(4)));
        let cold = ShortLog { is_resident: false, ..log(0, 10) };
        let mut progress = Progress::new(&config, Index::ZERO, 0);
        for _ in 0..2 {
            assert_eq!(progress.next_message(&config, &cold, 0), None);
        }
        assert_eq!(progress.take_load_request(), Some((first, last)));
        assert_eq!(progress.next_message(&config, &cold, 0), None);
        assert_eq!(progress.take_load_request(), None);
        assert!(!progress.on_loaded(first, Index::new(3)), "another follower's entries");
        assert_eq!(progress.next_message(&config, &cold, 0), None);
        assert!(progress.on_loaded(first, last));
        let sent = progress.next_message(&config, &cold, 0).expect("they are in memory");
        assert_eq!((sent.prev.index, sent.last), (Index::ZERO, last));
    }
}
