//! Entries that are to be applied may have left memory, after a start or when this node applies far behind the end of its log.
//! Whoever looks at one that has waits for the device, and with it the whole core. So memory is asked first, once for many entries,
//! and what is not there is read in by others while everything else goes on.

use wal::Storage;

use super::Replica;
use super::event::Action;
use super::view::Fault;
use crate::limits::READ_IN_BYTES;
use crate::types::Index;

/// What was asked of memory and of the device for applying.
#[derive(Debug, Default)]
pub(super) struct ReadIn {
    /// Entries up to this one may be looked at: they were in memory when that was asked, or were read in. Should they have left it
    /// again since, asking anew might go on for ever.
    through: Index,
    /// The entries that are being read in, first and last. Nothing is applied until they are there.
    asked: Option<(Index, Index)>,
}

impl ReadIn {
    /// Nothing can be applied before the device has answered.
    #[must_use]
    pub(super) const fn is_waiting(&self) -> bool {
        self.asked.is_some()
    }

    /// These entries were read in.
    pub(super) fn on_loaded(&mut self, first: Index, last: Index) {
        if self.asked == Some((first, last)) {
            self.asked = None;
            self.through = last;
        }
    }
}

impl<S: Storage> Replica<S> {
    /// Whether the entry at `index`, which is applied next, can be looked at now; if not, asks for it and those behind it, which
    /// may be applied up to `may_apply`.
    #[must_use]
    pub(super) fn may_look_at(&mut self, index: Index, may_apply: Index) -> bool {
        assert!(index <= may_apply, "{index} is applied, and only what comes up to {may_apply} may be");
        if index <= self.read_in.through {
            return true;
        }
        assert!(!self.read_in.is_waiting(), "nothing is applied while entries are being read in");
        let last = self.window_end(index, may_apply);
        if self.log.is_resident(index, last) {
            self.read_in.through = last;
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
    /// device may give something else now. Some may have been superseded meanwhile, or dropped.
    pub(super) fn verify(&self, first: Index, last: Index) -> Result<(), Fault> {
        for index in (first.get()..=last.get()).map(Index::new) {
            let entry = self.log.entry(index).map_err(|error| Fault::Read { index, reason: error.to_string() })?;
            let Some(entry) = entry else { continue };
            entry.verify().map_err(|error| {
                let reason = format!("the disk gives it damaged: {error}; start this node again to repair its log");
                Fault::Read { index, reason }
            })?;
        }
        Ok(())
    }

    /// The last of about `READ_IN_BYTES` of entries from `first` on.
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
