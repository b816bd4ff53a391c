//! A log as Raft sees it, with explicit durability: frames are appended, a sync makes a prefix of them durable, and a crash
//! keeps any prefix that includes it. Like the real log it is append-only: a conflicting suffix is superseded.

use engine::raft::{AppendEntries, HardState, LogView, Tip};
use engine::types::{EntryId, Index, Lineage, Term};
use wal::{EntryHeader, EntryKind};

#[derive(Clone, Copy, Debug)]
enum Frame {
    HardState(HardState),
    /// An entry and its content.
    Entry(EntryId, u8),
}

#[derive(Clone, Debug, Default)]
pub struct SimLog {
    frames: Vec<Frame>,
    durable_frames: usize,
    durable_hard_state: HardState,
    /// The entries as they stand, each with the frame that holds it.
    entries: Vec<(EntryId, usize)>,
    /// The lineage of each.
    lineages: Vec<Lineage>,
    persisted_count: usize,
    /// A batch is being formed.
    pub is_forming: bool,
}

impl SimLog {
    /// A durable log that holds one entry per term given.
    pub fn with_terms(terms: &[u64], hard_state: HardState) -> Self {
        let mut log = Self::default();
        log.append_hard_state(hard_state);
        for (at, &term) in terms.iter().enumerate() {
            log.append_entry(EntryId::new(Term::new(term), Index::new(at as u64 + 1)));
        }
        log.sync_to(log.end());
        log
    }

    pub fn append_entry(&mut self, id: EntryId) {
        self.append_content(id, 0);
    }

    /// Appends an entry with this content; all others have the same.
    pub fn append_content(&mut self, id: EntryId, content: u8) {
        let at = usize::try_from(id.index.get() - 1).expect("small");
        assert!(at <= self.entries.len(), "{id} leaves a gap");
        self.entries.truncate(at);
        self.persisted_count = self.persisted_count.min(at);
        self.lineages.truncate(at);
        let before = self.lineages.last().copied().unwrap_or(Lineage::START);
        self.lineages.push(behind(before, id, content));
        self.entries.push((id, self.frames.len()));
        self.frames.push(Frame::Entry(id, content));
    }

    pub fn append_hard_state(&mut self, hard_state: HardState) {
        self.frames.push(Frame::HardState(hard_state));
    }

    /// Position after the last frame.
    pub fn end(&self) -> usize {
        self.frames.len()
    }

    /// Position up to which everything is durable.
    pub fn durable_end(&self) -> usize {
        self.durable_frames
    }

    /// A sync that was started when the log ended at `end` has completed.
    pub fn sync_to(&mut self, end: usize) {
        for frame in &self.frames[self.durable_frames..end] {
            if let Frame::HardState(hard_state) = frame {
                self.durable_hard_state = *hard_state;
            }
        }
        self.durable_frames = end;
        while self.entries.get(self.persisted_count).is_some_and(|&(_, frame)| frame < end) {
            self.persisted_count += 1;
        }
    }

    /// Loses what is after `end`, which must not be before the durable end; what is left is durable.
    pub fn crash_keeping(&mut self, end: usize) {
        assert!(end >= self.durable_frames, "durable frames do not get lost");
        let frames = std::mem::take(&mut self.frames);
        *self = Self::default();
        for frame in &frames[..end] {
            match *frame {
                Frame::HardState(hard_state) => self.append_hard_state(hard_state),
                Frame::Entry(id, content) => self.append_content(id, content),
            }
        }
        self.sync_to(end);
    }

    /// Finds its durable part damaged after `end`, and keeps what is before that. What can be said of term and vote: the
    /// latest, if that is certain; otherwise what is left of them.
    pub fn damage_keeping(&mut self, end: usize, hard_state_is_certain: bool) {
        let latest = self.durable_hard_state;
        self.durable_frames = self.durable_frames.min(end);
        self.crash_keeping(end);
        let mut known = if hard_state_is_certain { latest } else { self.durable_hard_state };
        if known.term < self.last_id().term {
            known = HardState { term: self.last_id().term, vote: None };
        }
        self.append_hard_state(known);
        self.sync_to(self.end());
    }

    /// All entries that are durable.
    pub fn durable_ids(&self) -> impl Iterator<Item = EntryId> {
        self.entries[..self.persisted_count].iter().map(|&(id, _)| id)
    }

    pub fn durable_hard_state(&self) -> HardState {
        self.durable_hard_state
    }

    pub fn id_at(&self, index: Index) -> Option<EntryId> {
        let at = usize::try_from(index.get().checked_sub(1)?).ok()?;
        self.entries.get(at).map(|&(id, _)| id)
    }

    /// The entry at `index` is in the log as it stands, and durable.
    pub fn is_durable(&self, id: EntryId) -> bool {
        self.id_at(id.index) == Some(id) && id.index <= self.persisted_index()
    }

    /// The last entry, and the lineage of all.
    pub fn last_tip(&self) -> Tip {
        let id = self.last_id();
        Tip { id, lineage: self.lineage(id.index).expect("held") }
    }

    /// The message as a leader sends it that has all entries up to `prev` as this log has them.
    pub fn as_if_shared(&self, append: AppendEntries) -> AppendEntries {
        let prev_lineage = self.lineage(append.prev.index).unwrap_or(Lineage::START);
        AppendEntries { prev_lineage, ..append }
    }

    pub fn ids(&self, first: Index, last: Index) -> Vec<EntryId> {
        (first.get()..=last.get()).map(|index| self.id_at(Index::new(index)).expect("the log holds it")).collect()
    }
}

/// The lineage of an entry with this content.
fn behind(before: Lineage, id: EntryId, content: u8) -> Lineage {
    EntryHeader::new(id, EntryKind::new(2), &[content]).lineage_behind(before)
}

/// Entries with the usual content that follow on `before`, as `step_append` takes them.
pub fn tips(before: Lineage, ids: &[EntryId]) -> Vec<Tip> {
    let mut lineage = before;
    let tip = |&id: &EntryId| {
        // Index 0 has no entry; a message that names it is malformed.
        lineage = if id.index == Index::ZERO { lineage } else { behind(lineage, id, 0) };
        Tip { id, lineage }
    };
    ids.iter().map(tip).collect()
}

impl LogView for SimLog {
    fn first_index(&self) -> Index {
        Index::new(1)
    }

    fn last_id(&self) -> EntryId {
        self.entries.last().map_or(EntryId::ZERO, |&(id, _)| id)
    }

    fn term(&self, index: Index) -> Option<Term> {
        self.id_at(index).map(|id| id.term)
    }

    fn lineage(&self, index: Index) -> Option<Lineage> {
        match usize::try_from(index.get()).ok()?.checked_sub(1) {
            Some(at) => self.lineages.get(at).copied(),
            None => Some(Lineage::START),
        }
    }

    fn persisted_index(&self) -> Index {
        Index::new(self.persisted_count as u64)
    }

    fn entry_bytes(&self, index: Index) -> u64 {
        // Sizes that differ, and with them the number of entries in a message.
        1 + (index.get() * 7) % 20
    }

    fn is_forming(&self) -> bool {
        self.is_forming
    }
}
