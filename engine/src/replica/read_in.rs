//! Makes sure that entries are in memory before they are applied.
//!
//! They may have left it, after a start or while this node applies far from the end of its log. To touch such an entry would block the
//! whole core until the device has read it. So this asks first, for many entries at once (`Log::is_resident`), and has a helper thread
//! read in what is missing (`Action::Load`) while everything but applying goes on.

use wal::Storage;

use super::Replica;
use super::event::Action;
use super::view::Fault;
use crate::limits::READ_IN_BYTES;
use crate::types::Index;

/// What was asked of memory and of the device for applying.
#[derive(Debug, Default)]
pub(super) struct ReadIn {
    /// Entries up to this one may be looked at: they were in memory when that was asked, or were read in. They are not asked for again,
    /// even if they have left memory since: that could repeat for ever.
    resident_through: Index,
    /// The entries that are being read in, first and last. Nothing is applied until they are there.
    asked: Option<(Index, Index)>,
}

impl ReadIn {
    /// True if nothing can be applied before the device has answered.
    #[must_use]
    pub(super) const fn is_waiting(&self) -> bool {
        self.asked.is_some()
    }

    /// These entries were read in. If they are not the ones that applying waits for, they were read in for a follower.
    pub(super) fn on_loaded(&mut self, first: Index, last: Index) {
        if self.asked == Some((first, last)) {
            self.asked = None;
            self.resident_through = last;
        }
    }
}

impl<S: Storage> Replica<S> {
    /// Returns true if the entry at `index`, the next one to apply, can be looked at now. If not, asks for it and for the entries after it,
    /// up to `may_apply` at most: the last entry that may be applied.
    #[must_use]
    pub(super) fn may_look_at(&mut self, index: Index, may_apply: Index) -> bool {
        assert!(index <= may_apply, "{index} is applied, and only what comes up to {may_apply} may be");
        if index <= self.read_in.resident_through {
            return true;
        }
        assert!(!self.read_in.is_waiting(), "nothing is applied while entries are being read in");
        let last = self.window_end(index, may_apply);
        if self.log.is_resident(index, last) {
            self.read_in.resident_through = last;
            return true;
        }
        mark!("replica: entries are read in before they are applied");
        self.read_in.asked = Some((index, last));
        self.ask_to_read(index, last);
        false
    }

    /// Asks for entries that have left memory, for applying or for a follower.
    pub(super) fn ask_to_read(&mut self, first: Index, last: Index) {
        self.device.watch.on_read_started(first, last, self.now_tick);
        self.out.push(Action::Load { first, last });
    }

    /// Compares entries that were read in with their checksums. They were whole when this log was opened or they were appended, but the
    /// device may give something else now.
    pub(super) fn verify(&self, first: Index, last: Index) -> Result<(), Fault> {
        for index in (first.get()..=last.get()).map(Index::new) {
            let entry = self.log.entry(index).map_err(|error| Fault::Read { index, reason: error.to_string() })?;
            // An entry may have been superseded or dropped meanwhile.
            let Some(entry) = entry else { continue };
            entry.verify().map_err(|error| {
                let reason = format!("memory or the disk gives it damaged: {error}; {}", self.how_to_repair());
                Fault::Read { index, reason }
            })?;
        }
        Ok(())
    }

    /// What people can do about a damaged entry.
    fn how_to_repair(&self) -> &'static str {
        if self.raft.membership().can_repair(self.options.raft.id) {
            return "start this node again to repair its log";
        }
        "start this node again; if the disk gives the entry damaged then, too, the node does not start, and the other nodes are too few to \
         repair its log: put back a whole copy of its data directory, or copy what is left into a new cluster"
    }

    /// The last entry of a window that begins at `first` and ends once it has `READ_IN_BYTES`, or at `may_apply`.
    fn window_end(&self, first: Index, may_apply: Index) -> Index {
        let mut last = first;
        let mut bytes = self.log.entry_bytes(first);
        while last < may_apply && bytes < READ_IN_BYTES {
            last = last.next();
            bytes += self.log.entry_bytes(last);
        }
        last
    }
}
