//! Keys and their versions: etcd's data model in memory.
//!
//! Every change gets the revision of its transaction; old versions stay readable, since there is no compaction yet. Values are
//! references (`values`). Changes come only from committed entries, so that all replicas are equal at equal index.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::command::KeyRange;
use super::response::KvView;
use super::values::{ValueRef, ValueStore};

/// Estimated memory of a key besides its bytes. Unit: bytes.
const KEY_OVERHEAD_BYTES: u64 = 128;

/// Estimated memory of a version besides its value. Unit: bytes.
const VERSION_OVERHEAD_BYTES: u64 = 48;

/// One version of a key; `version` 0 marks its deletion.
#[derive(Clone, Copy, Debug)]
struct Version {
    mod_revision: u64,
    create_revision: u64,
    version: u64,
    lease: u64,
    value: ValueRef,
}

impl Version {
    const fn is_deleted(&self) -> bool {
        self.version == 0
    }
}

/// All versions of a key, oldest first. The first stands inline, since most keys have few.
#[derive(Debug)]
struct History {
    first: Version,
    later: Vec<Version>,
}

impl History {
    fn last(&self) -> &Version {
        self.later.last().unwrap_or(&self.first)
    }

    /// The version that stood at `revision`, if the key was there.
    fn at(&self, revision: u64) -> Option<&Version> {
        let later = self.later.partition_point(|version| version.mod_revision <= revision);
        let version = match later.checked_sub(1) {
            Some(position) => &self.later[position],
            None if self.first.mod_revision <= revision => &self.first,
            None => return None,
        };
        (!version.is_deleted()).then_some(version)
    }

    fn all(&self) -> impl Iterator<Item = &Version> {
        std::iter::once(&self.first).chain(&self.later)
    }
}

/// Keys and versions.
#[derive(Debug, Default)]
pub(super) struct Mvcc {
    keys: BTreeMap<Box<[u8]>, History>,
    values: ValueStore,
    overhead_bytes: u64,
}

impl Mvcc {
    /// Estimated size. Unit: bytes.
    pub const fn bytes(&self) -> u64 {
        self.values.bytes() + self.overhead_bytes
    }

    fn view<'a>(&'a self, key: &'a [u8], version: &Version) -> KvView<'a> {
        KvView {
            key,
            value: self.values.get(version.value),
            create_revision: version.create_revision,
            mod_revision: version.mod_revision,
            version: version.version,
            lease: version.lease,
        }
    }

    /// The key as it stood at `revision`.
    pub fn get<'a>(&'a self, key: &'a [u8], revision: u64) -> Option<KvView<'a>> {
        self.keys.get(key)?.at(revision).map(|version| self.view(key, version))
    }

    /// The keys of a range as they stood at `revision`, in order.
    pub fn range<'a>(&'a self, range: &KeyRange<'a>, revision: u64) -> impl Iterator<Item = KvView<'a>> {
        let upper = match range.range_end {
            [] => Bound::Included(range.key),
            [0] => Bound::Unbounded,
            end => Bound::Excluded(end),
        };
        // A range that ends before it begins holds nothing; the map would refuse it.
        let empty = matches!(upper, Bound::Excluded(end) if end <= range.key);
        let bounds: (Bound<&[u8]>, Bound<&[u8]>) =
            if empty { (Bound::Excluded(&[]), Bound::Included(&[])) } else { (Bound::Included(range.key), upper) };
        let keys = (!empty).then(|| self.keys.range::<[u8], _>(bounds));
        keys.into_iter()
            .flatten()
            .filter_map(move |(key, history)| history.at(revision).map(|version| self.view(key, version)))
    }

    /// Writes a key.
    pub fn put(&mut self, key: &[u8], value: &[u8], lease: u64, revision: u64) {
        let value = self.values.put(value);
        self.overhead_bytes += VERSION_OVERHEAD_BYTES;
        let created = Version { mod_revision: revision, create_revision: revision, version: 1, lease, value };
        match self.keys.get_mut(key) {
            Some(history) => {
                let last = history.last();
                let version = if last.is_deleted() {
                    created
                } else {
                    let (create_revision, version) = (last.create_revision, last.version + 1);
                    Version { create_revision, version, ..created }
                };
                history.later.push(version);
            }
            None => {
                self.overhead_bytes += KEY_OVERHEAD_BYTES + key.len() as u64;
                self.keys.insert(key.into(), History { first: created, later: Vec::new() });
            }
        }
    }

    /// Deletes a key that is there; says whether it was.
    pub fn delete(&mut self, key: &[u8], revision: u64) -> bool {
        let Some(history) = self.keys.get_mut(key).filter(|history| !history.last().is_deleted()) else {
            return false;
        };
        self.overhead_bytes += VERSION_OVERHEAD_BYTES;
        history.later.push(Version {
            mod_revision: revision,
            create_revision: 0,
            version: 0,
            lease: 0,
            value: ValueRef::default(),
        });
        true
    }

    /// A hash over every version of every key.
    pub fn digest(&self) -> u64 {
        let mut digest = Digest::default();
        for (key, history) in &self.keys {
            digest.add(u64::from(crc32fast::hash(key)) << 32 | key.len() as u64);
            for version in history.all() {
                let value = if version.is_deleted() { &[] } else { self.values.get(version.value) };
                digest.add(version.mod_revision);
                digest.add(version.create_revision);
                digest.add(version.version);
                digest.add(version.lease);
                digest.add(u64::from(crc32fast::hash(value)) << 32 | value.len() as u64);
            }
        }
        digest.0
    }
}

/// FNV-1a over 64-bit words.
struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    const fn add(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
    }
}
