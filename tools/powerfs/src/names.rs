//! Names in directories, in two images: the durable ones, and in order the changes that no sync has made durable yet.
//!
//! A change keeps its place: of one directory a disk has all changes up to some moment and none behind it. That is what journals of
//! file systems give, and all that is promised here. Directories do not wait for each other; a move between two is one change of both.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use wal::random::SplitMix64;

use crate::limits::PENDING_NAMES_MAX;
use crate::store::{Inode, Remains};

/// A name as the kernel gives it.
pub(crate) type Name = Vec<u8>;

/// Names of one directory.
pub(crate) type Directory = BTreeMap<Name, Inode>;

/// What becomes of changes of names that were not synced, when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// All are undone.
    Lost,
    /// All stay.
    Kept,
    /// Of each directory some stay, the oldest ones.
    Torn,
}

impl Fate {
    /// Draws one.
    pub fn draw(random: &mut SplitMix64) -> Self {
        match random.below(3) {
            0 => Self::Lost,
            1 => Self::Kept,
            _ => Self::Torn,
        }
    }
}

/// One name that is made, points elsewhere, or is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edit {
    pub(crate) directory: Inode,
    pub(crate) name: Name,
    pub(crate) becomes: Option<Inode>,
}

/// The durable names and what waits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    durable: BTreeMap<Inode, Directory>,
    /// Each is done whole or not at all.
    pending: VecDeque<Vec<Edit>>,
}

impl Names {
    /// Takes up a change that programs see already.
    pub(crate) fn change(&mut self, edits: Vec<Edit>) {
        assert!(!edits.is_empty(), "a change changes something");
        self.pending.push_back(edits);
        while self.pending.len() > PENDING_NAMES_MAX
            && let Some(oldest) = self.pending.pop_front()
        {
            self.apply(oldest);
        }
    }

    /// The names of a directory become durable, with what must not come after them.
    pub(crate) fn sync(&mut self, directory: Inode) {
        let mut needed = BTreeSet::from([directory]);
        let mut is_due = vec![false; self.pending.len()];
        for (at, edits) in self.pending.iter().enumerate().rev() {
            if edits.iter().any(|edit| needed.contains(&edit.directory)) {
                is_due[at] = true;
                needed.extend(edits.iter().map(|edit| edit.directory));
            }
        }
        let pending = std::mem::take(&mut self.pending);
        for (edits, is_due) in pending.into_iter().zip(is_due) {
            if is_due { self.apply(edits) } else { self.pending.push_back(edits) }
        }
    }

    /// The power is gone. Only durable names are left.
    pub(crate) fn cut(&mut self, fate: Fate, random: &mut SplitMix64) -> Remains {
        let mut remains = Remains::default();
        let mut stopped: BTreeSet<Inode> = BTreeSet::new();
        let of_hundred = random.below(101);
        for edits in std::mem::take(&mut self.pending) {
            let is_stopped = edits.iter().any(|edit| stopped.contains(&edit.directory));
            let stays = match fate {
                Fate::Lost => false,
                Fate::Kept => true,
                Fate::Torn => !is_stopped && random.chance(of_hundred, 100),
            };
            if stays {
                remains.names_kept += 1;
                self.apply(edits);
            } else {
                remains.names_lost += 1;
                stopped.extend(edits.into_iter().map(|edit| edit.directory));
            }
        }
        remains
    }

    /// The durable names of a directory.
    pub(crate) fn durable(&self, directory: Inode) -> Directory {
        self.durable.get(&directory).cloned().unwrap_or_default()
    }

    /// A name of the file is durable, or may become so at a cut.
    pub(crate) fn may_come_back(&self, file: Inode) -> bool {
        let is_pending = self.pending.iter().flatten().any(|edit| edit.becomes == Some(file));
        is_pending || self.durable.values().any(|names| names.values().any(|named| *named == file))
    }

    /// Nothing leads to this directory any more.
    pub(crate) fn forget(&mut self, directory: Inode) {
        self.durable.remove(&directory);
    }

    fn apply(&mut self, edits: Vec<Edit>) {
        for Edit { directory, name, becomes } in edits {
            let names = self.durable.entry(directory).or_default();
            match becomes {
                Some(file) => drop(names.insert(name, file)),
                None => drop(names.remove(&name)),
            }
        }
    }
}
