//! Writes the note, decides when it is synced, and hides the state after a start until what the note says is applied.
//!
//! The note is a small file beside the log's segments (`wal::Noted`). It holds how far the log is durable, and the highest entry that
//! this node knew to be committed.
//!
//! What is committed is noted before it is applied (`may_apply`). So after the death of the process a node knows everything that it can
//! have shown to anybody, and refuses reads of its own state until it has applied that again. The note is synced seconds later, off
//! the path of any write; nothing that is acknowledged rests on that sync.

use net::api::Status;
use wal::{Noted, Storage, SyncFailure};

use super::Replica;
use super::event::Action;
use crate::call::Refusal;
use crate::types::{EntryId, Index};

/// When the note is to be synced.
#[derive(Debug, Default)]
pub(super) struct NoteSync {
    /// The note as it was at the last tick.
    seen: Noted,
    /// When it was last seen to change. Unit: ticks.
    changed_tick: u64,
    /// The note as it was when its last sync was asked for. Whether that sync succeeded does not matter: one that failed is not
    /// repeated, and the next change brings another.
    asked: Noted,
    /// When its last sync was asked for. Unit: ticks.
    asked_tick: u64,
    /// That sync has not ended yet.
    is_in_flight: bool,
}

/// From which applied index on this node answers reads of its own state, after a start. Such reads (serializable ones, hashes) may be
/// answered from an older state than the current one, but not from an older one than this node showed before.
#[derive(Clone, Copy, Debug)]
pub(super) enum ShowsFrom {
    /// From this index on: what an earlier run of the process had applied, or was about to apply.
    Index(Index),
    /// Nothing was noted, but the log has entries: from the first commit index that this node learns.
    FirstCommit,
    /// Nothing was noted, and the log lost entries: from the last index that the log has when its repair ends.
    Repair,
}

impl ShowsFrom {
    /// As it is right after a start.
    pub(super) fn recall(noted: EntryId, base: EntryId, last: EntryId, is_under_repair: bool) -> Self {
        match noted.index {
            Index::ZERO if is_under_repair => Self::Repair,
            Index::ZERO if last != base => Self::FirstCommit,
            index => Self::Index(index),
        }
    }
}

impl<S: Storage> Replica<S> {
    /// Notes what is committed, so that it may be applied.
    pub(super) fn note_committed(&mut self) {
        let noted = self.log.noted().committed.index;
        if self.raft.commit_index() <= noted {
            return;
        }
        let index = self.raft.notable_index(&self.log);
        // It may lie below the commit index while the current term is not durable.
        if index <= noted {
            return;
        }
        assert!(index <= self.log.last_id().index, "{index} is committed, and the log ends at {}", self.log.last_id());
        if let (Some(term), Some(lineage)) = (self.log.term(index), self.log.lineage(index)) {
            self.log.note_committed(EntryId::new(term, index), lineage);
        }
        if matches!(self.shows_from, ShowsFrom::FirstCommit) {
            self.shows_from = ShowsFrom::Index(index);
        }
    }

    /// The last entry that may be applied: committed, and noted as committed.
    pub(super) fn may_apply(&self) -> Index {
        self.raft.commit_index().min(self.log.noted().committed.index)
    }

    /// The refusal for reads of this node's own state, if that may not be shown yet.
    #[must_use]
    pub(super) fn refuse_serializable(&self) -> Option<Refusal> {
        let message = self.why_hidden()?;
        mark!("replica: the own state is not shown yet");
        Some(Refusal::not_executed(Status::Unavailable, message))
    }

    /// True if a read of this node's own state would be answered now. A follower passes reads on to its leader while this is false, and
    /// the simulator's judges look at it.
    #[must_use]
    pub(crate) fn shows_own_state(&self) -> bool {
        self.standing.is_running() && self.why_hidden().is_none()
    }

    fn why_hidden(&self) -> Option<String> {
        self.why_empty().or_else(|| self.why_behind())
    }

    /// Says why the state may be older than what this node showed in an earlier run of the process.
    fn why_behind(&self) -> Option<String> {
        let applied = self.machine.applied_index();
        Some(match self.shows_from {
            ShowsFrom::Index(index) if applied >= index => return None,
            ShowsFrom::Index(index) => format!(
                "this node started and has applied its log up to entry {applied}, but showed entries up to {index} before; \
                 try again, or ask another node"
            ),
            ShowsFrom::FirstCommit => {
                "this node started and does not know yet which entries of its log are committed: it waits for a leader; try \
                 again, or ask another node"
                    .to_owned()
            }
            ShowsFrom::Repair => {
                "this node's log was damaged, and what it showed before is not known: it shows its state once the log is \
                 repaired; try again, or ask another node"
                    .to_owned()
            }
        })
    }

    /// The log is repaired: it holds every entry whose effect this node can have shown before the damage.
    pub(super) fn show_from_repaired(&mut self) {
        if matches!(self.shows_from, ShowsFrom::Repair) {
            self.shows_from = ShowsFrom::Index(self.log.last_id().index);
        }
    }

    /// Asks for a sync of the note `note_idle_ticks` after its last change, and every `note_busy_ticks` while it keeps changing.
    pub(super) fn tick_note(&mut self) {
        let now_tick = self.now_tick;
        let note = &mut self.device.note;
        if note.seen != self.log.noted() {
            note.seen = self.log.noted();
            note.changed_tick = now_tick;
        }
        let is_idle = now_tick >= note.changed_tick + self.options.note_idle_ticks;
        if is_idle || now_tick >= note.asked_tick + self.options.note_busy_ticks {
            self.sync_note();
        }
    }

    /// True if no sync of the note is due or under way: a sync of what it says now has ended, well or not, or this replica stopped.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        !self.standing.is_running() || (self.log.noted() == self.device.note.asked && !self.device.note.is_in_flight)
    }

    /// Asks for a sync of the note now, if it has changed since the last one and none is under way.
    pub(super) fn sync_note(&mut self) {
        if self.is_settled() || self.device.note.is_in_flight {
            return;
        }
        let note = &mut self.device.note;
        note.is_in_flight = true;
        note.asked = self.log.noted();
        note.asked_tick = self.now_tick;
        self.out.push(Action::SyncNote);
    }

    /// A sync of the note ended. Nothing rests on it: a failure is counted, and what is noted stays in the page cache.
    pub(super) fn on_note_synced(&mut self, result: &Result<(), SyncFailure>) {
        assert!(self.device.note.is_in_flight, "a sync of the note ended that was not asked for");
        self.device.note.is_in_flight = false;
        match result {
            Ok(()) => self.stats.note_syncs += 1,
            Err(_) => {
                mark!("replica: a sync of the note failed");
                self.stats.note_syncs_failed += 1;
            }
        }
    }
}
