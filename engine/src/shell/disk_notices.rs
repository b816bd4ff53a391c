//! What people are told of a shard's disk and of its room: that it is missing, that the disk does not answer, and that it is well again.
//! Each change is said once, and a disk that changes all the time is said now and then. Decides nothing.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::time::Duration;

use super::limits::SLOW_SYNC;
use super::said::{Complaint, Said};
use crate::replica::{ReplicaView, Shortage};
use crate::types::ShardId;

/// What was told of a shard's disk so far.
#[derive(Debug)]
pub(super) struct DiskNotices {
    shard: ShardId,
    said: Said,
    shortage: RefCell<Option<Shortage>>,
    /// For how long the disk had not answered when that was looked at last, if that was told.
    hangs: Cell<Option<Duration>>,
    note_fails: Cell<bool>,
}

/// A change to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    /// Room for writes is missing.
    Shortage(Shortage),
    /// The next segment is there.
    HasSegment,
    /// The state has less than the quota.
    WithinQuota,
    /// The disk has not answered for a while.
    Hangs(Duration),
    /// It answered after so long.
    Answers(Duration),
}

impl DiskNotices {
    /// All is well as far as anything was told.
    #[must_use]
    pub(super) fn new(shard: ShardId) -> Self {
        let (shortage, hangs, note_fails) = Default::default();
        Self { shard, said: Said::default(), shortage, hangs, note_fails }
    }

    /// Tells what is new in a view.
    pub(super) fn look_at(&self, view: &ReplicaView) {
        let shard = self.shard.get();
        for change in self.changes(view) {
            match change {
                Change::Shortage(shortage) => {
                    if let Some(left_out) = self.said.may_say(Complaint::NoRoom) {
                        tracing::warn!(shard, left_out, "{shortage}");
                    }
                }
                Change::HasSegment => {
                    tracing::info!(shard, "the next log segment is prepared: there is room for writes again")
                }
                Change::WithinQuota => {
                    tracing::info!(shard, "the state is smaller than the quota again: writes are taken")
                }
                Change::Hangs(waits) => {
                    let waits_ms = waits.as_millis() as u64;
                    tracing::warn!(
                        shard,
                        waits_ms,
                        "the disk does not answer: writes wait until the sync of the log ends"
                    );
                }
                Change::Answers(waited) => {
                    let waited_ms = waited.as_millis() as u64;
                    tracing::info!(shard, waited_ms, "the disk answers again");
                }
            }
        }
    }

    /// What a view has that was not told.
    fn changes(&self, view: &ReplicaView) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut told = self.shortage.borrow_mut();
        if !is_told(told.as_ref(), view.shortage.as_ref()) {
            changes.push(match (&view.shortage, &*told) {
                (Some(shortage), _) => Change::Shortage(shortage.clone()),
                (None, Some(Shortage::Quota { .. })) => Change::WithinQuota,
                (None, _) => Change::HasSegment,
            });
            told.clone_from(&view.shortage);
        }
        assert!(is_told(told.as_ref(), view.shortage.as_ref()), "what is missing was told");
        let waits = Duration::from_millis(view.disk_waits_ms);
        match self.hangs.get() {
            None if waits >= SLOW_SYNC && self.said.may_say(Complaint::SlowDisk).is_some() => {
                self.hangs.set(Some(waits));
                changes.push(Change::Hangs(waits));
            }
            Some(waited) if waits < waited => {
                self.hangs.set(None);
                changes.push(Change::Answers(waited));
            }
            Some(_) => self.hangs.set(Some(waits)),
            None => {}
        }
        changes
    }

    /// A sync of the note beside the log ended; `failure` says why it failed, if it did.
    pub(super) fn note_synced(&self, failure: Option<&dyn fmt::Display>) {
        let shard = self.shard.get();
        match failure {
            Some(error) if !self.note_fails.replace(true) => {
                tracing::warn!(shard, %error, "the note beside the log cannot be synced; the log itself goes on");
            }
            None if self.note_fails.replace(false) => {
                tracing::info!(shard, "the note beside the log is synced again")
            }
            None | Some(_) => {}
        }
    }
}

/// Whether what is missing was told. Of a state that grows beyond its quota that is told once.
fn is_told(told: Option<&Shortage>, now: Option<&Shortage>) -> bool {
    match (told, now) {
        (Some(Shortage::Quota { .. }), Some(Shortage::Quota { .. })) => true,
        (told, now) => told == now,
    }
}

#[cfg(test)]
mod tests {
    use super::super::status::tests::view;
    use super::*;

    fn looks(notices: &DiskNotices, views: impl IntoIterator<Item = ReplicaView>) -> Vec<Change> {
        views.into_iter().flat_map(|view| notices.changes(&view)).collect()
    }

    #[test]
    fn what_is_missing_is_told_once_and_once_that_it_is_there() {
        let notices = DiskNotices::new(ShardId::new(0));
        let with = |shortage: &Shortage| ReplicaView { shortage: Some(shortage.clone()), ..view(1, 1) };
        let full = Shortage::Segment { reason: "no space".to_owned() };
        assert_eq!(looks(&notices, [view(1, 1), with(&full), with(&full)]), [Change::Shortage(full.clone())]);
        let broken = Shortage::Segment { reason: "input/output error".to_owned() };
        assert_eq!(looks(&notices, [with(&broken), with(&broken)]), [Change::Shortage(broken)]);
        assert_eq!(looks(&notices, [view(1, 1), view(1, 1)]), [Change::HasSegment]);
        let quota = |state_bytes| Shortage::Quota { state_bytes, quota_bytes: 10 };
        assert_eq!(looks(&notices, [with(&quota(10)), with(&quota(11))]), [Change::Shortage(quota(10))]);
        assert_eq!(looks(&notices, [view(1, 1)]), [Change::WithinQuota]);
    }

    #[test]
    fn a_disk_that_hangs_is_told_while_it_does_and_once_it_answers() {
        let notices = DiskNotices::new(ShardId::new(0));
        let waits = |ms: u64| ReplicaView { disk_waits_ms: ms, ..view(1, 1) };
        let bound_ms = SLOW_SYNC.as_millis() as u64;
        let changes = looks(&notices, [0, 500, bound_ms, bound_ms + 10, bound_ms + 700].map(waits));
        assert_eq!(changes, [Change::Hangs(SLOW_SYNC)]);
        let last = Duration::from_millis(bound_ms + 700);
        assert_eq!(looks(&notices, [0, 0, 100].map(waits)), [Change::Answers(last)]);
        let again = looks(&notices, [bound_ms, 0].map(waits));
        assert_eq!(again, [], "it is slow all the time: that was said a moment ago");
    }
}
