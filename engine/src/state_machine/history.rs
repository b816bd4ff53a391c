//! The versions of one key. Nothing here knows other keys, or where values are kept.

use super::values::ValueRef;
use crate::types::Revision;

/// One version of a key; `version` 0 marks its deletion.
#[derive(Clone, Copy, Debug)]
pub(super) struct Version {
    pub mod_revision: Revision,
    pub create_revision: Revision,
    pub version: u64,
    pub lease: u64,
    pub value: ValueRef,
}

impl Version {
    pub const fn is_deleted(&self) -> bool {
        self.version == 0
    }
}

/// Create revision and version of a key that is written at `revision`, by those that it had if it was there.
pub(super) const fn numbers_of_put(before: Option<(Revision, u64)>, revision: Revision) -> (Revision, u64) {
    match before {
        Some((create_revision, version)) => (create_revision, version + 1),
        None => (revision, 1),
    }
}

/// All versions of a key, oldest first. The first stands inline, since most keys have few.
#[derive(Debug)]
pub(super) struct History {
    first: Version,
    later: Vec<Version>,
}

impl History {
    pub const fn new(first: Version) -> Self {
        Self { first, later: Vec::new() }
    }

    /// Adds a version, which is no older than the last one.
    pub fn push(&mut self, version: Version) {
        assert!(version.mod_revision >= self.last().mod_revision, "versions of a key are written in their order");
        self.later.push(version);
    }

    pub fn last(&self) -> &Version {
        self.later.last().unwrap_or(&self.first)
    }

    /// The version that stood at `revision`, if the key was there.
    pub fn at(&self, revision: Revision) -> Option<&Version> {
        // Most reads want the latest.
        let last = self.last();
        if last.mod_revision <= revision {
            return (!last.is_deleted()).then_some(last);
        }
        let later = self.later.partition_point(|version| version.mod_revision <= revision);
        let version = match later.checked_sub(1) {
            Some(position) => &self.later[position],
            None if self.first.mod_revision <= revision => &self.first,
            None => return None,
        };
        (!version.is_deleted()).then_some(version)
    }

    pub fn all(&self) -> impl Iterator<Item = &Version> {
        std::iter::once(&self.first).chain(&self.later)
    }
}
