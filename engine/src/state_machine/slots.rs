//! Where the keys of a shard lie with their histories: slots that never move and are never given back.

use super::history::History;
use super::key::Key;

/// Entries that lie together. They never move, so that growing copies none of them.
const CHUNK_ENTRIES: usize = 1024;

/// A key with its history.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) history: History,
}

/// All entries. The number of one is its slot.
#[derive(Debug, Default)]
pub(super) struct Slots {
    chunks: Vec<Vec<Entry>>,
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        let last = self.chunks.last().map_or(0, Vec::len);
        self.chunks.len().saturating_sub(1) * CHUNK_ENTRIES + last
    }

    /// Adds an entry.
    ///
    /// # Panics
    /// If there are 2^32 of them.
    pub(super) fn push(&mut self, entry: Entry) -> u32 {
        let slot = u32::try_from(self.len()).expect("fewer than 2^32 keys");
        if (slot as usize).is_multiple_of(CHUNK_ENTRIES) {
            self.chunks.push(Vec::with_capacity(CHUNK_ENTRIES));
        }
        let chunk = self.chunks.last_mut().expect("one was just made, or has room");
        assert!(chunk.len() == slot as usize % CHUNK_ENTRIES, "slots are taken in their order");
        chunk.push(entry);
        slot
    }

    pub(super) fn get(&self, slot: u32) -> &Entry {
        &self.chunks[slot as usize / CHUNK_ENTRIES][slot as usize % CHUNK_ENTRIES]
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> &mut Entry {
        &mut self.chunks[slot as usize / CHUNK_ENTRIES][slot as usize % CHUNK_ENTRIES]
    }

    pub(super) fn key(&self, slot: u32) -> &[u8] {
        self.get(slot).key.as_bytes()
    }
}
