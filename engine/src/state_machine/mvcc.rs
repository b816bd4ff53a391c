//! Keys and their versions: etcd's data model in memory.
//!
//! Every change gets the revision of its transaction; old versions stay readable, since there is no compaction yet. Values are
//! references (`values`). Changes come only from committed entries, so that all replicas are equal at equal index.

use std::ops::Bound;

use super::answers::Budget;
use super::history::{History, Version, numbers_of_put};
use super::index::{Bounds, Index};
use super::values::{ValueRef, ValueStore};
use crate::limits::{KEY_OVERHEAD_BYTES, VERSION_OVERHEAD_BYTES};
use crate::types::Revision;
use api::command::KeyRange;
use api::response::KvView;

/// Keys and versions.
#[derive(Debug)]
pub(super) struct Mvcc {
    keys: Index,
    values: ValueStore,
    overhead_bytes: u64,
}

impl Mvcc {
    /// No keys. See `Index::new` for the seed.
    pub fn new(hash_seed: u64) -> Self {
        Self { keys: Index::new(hash_seed), values: ValueStore::default(), overhead_bytes: 0 }
    }

    /// Estimated size. Unit: bytes.
    pub const fn size_bytes(&self) -> u64 {
        self.values.bytes() + self.overhead_bytes
    }

    fn view<'a>(&'a self, key: &'a [u8], version: &Version) -> KvView<'a> {
        view(&self.values, key, version)
    }

    /// Prepares for commands on these keys, at most `LOOK_AHEAD_KEYS` of them; see `Index::look_ahead`.
    pub fn look_ahead(&self, keys: &[&[u8]]) {
        self.keys.look_ahead(keys);
    }

    /// The key as it stood at `revision`.
    pub fn get<'a>(&'a self, key: &'a [u8], revision: Revision) -> Option<KvView<'a>> {
        self.keys.get(key)?.at(revision).map(|version| self.view(key, version))
    }

    /// Every key that was ever written in a range, in order, and what it was at `revision` if it was there; from a key of the range
    /// on if one is given. The caller pays for each of them, there or not.
    pub fn visit<'a>(
        &'a self,
        range: &KeyRange<'a>,
        from: Option<&'a [u8]>,
        revision: Revision,
    ) -> impl Iterator<Item = (&'a [u8], Option<KvView<'a>>)> {
        let keys = bounds(range, from).map(|bounds| self.keys.range(bounds));
        keys.into_iter().flatten().map(move |(key, history)| {
            let version = history.at(revision);
            (key, version.map(|version| self.view(key, version)))
        })
    }

    /// Keys that were ever written in a range, but no more than `most`: what it takes to visit it.
    pub fn count_visits(&self, range: &KeyRange<'_>, most: u64) -> u64 {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        bounds(range, None).map_or(0, |bounds| self.keys.count(bounds, most)) as u64
    }

    /// Writes a key.
    pub fn put(&mut self, key: &[u8], value: &[u8], lease: u64, revision: Revision) {
        let value = self.values.put(value);
        self.overhead_bytes += VERSION_OVERHEAD_BYTES;
        let next = |before| {
            let (create_revision, version) = numbers_of_put(before, revision);
            Version { mod_revision: revision, create_revision, version, lease, value }
        };
        match self.keys.get_mut(key) {
            Some(history) => {
                let last = history.last();
                let before = (!last.is_deleted()).then_some((last.create_revision, last.version));
                history.push(next(before));
            }
            None => {
                self.overhead_bytes += KEY_OVERHEAD_BYTES + key.len() as u64;
                self.keys.insert(key, History::new(next(None)));
            }
        }
    }

    /// Deletes the keys of a range that are there, from a key of it on if one is given, until the budget is spent, but visits at
    /// least one. `gone` is shown each of them and says how many bytes it made of it. Says how many were deleted, and the key to
    /// go on from if there is more.
    pub fn delete(
        &mut self,
        range: &KeyRange<'_>,
        from: Option<&[u8]>,
        revision: Revision,
        budget: &mut Budget,
        mut gone: impl FnMut(&KvView<'_>) -> usize,
    ) -> (u64, Option<Vec<u8>>) {
        let values = &self.values;
        let mut deleted_count = 0;
        let mut delete = |key: &[u8], history: &mut History, budget: &mut Budget| {
            let last = *history.last();
            if last.is_deleted() {
                mark!("state machine: a delete finds a deleted key");
                budget.spend(0, 1);
                return;
            }
            let bytes = gone(&view(values, key, &last));
            budget.spend(bytes as u64, 1);
            deleted_count += 1;
            history.push(Version {
                mod_revision: revision,
                create_revision: Revision::new(0),
                version: 0,
                lease: 0,
                value: ValueRef::default(),
            });
        };
        let mut next = None;
        if range.is_single() {
            match self.keys.get_mut(range.key) {
                Some(history) => delete(range.key, history, budget),
                None => budget.spend(0, 1),
            }
        } else if let Some(bounds) = bounds(range, from) {
            let mut is_first = true;
            self.keys.for_each_mut(bounds, |key, history| {
                let goes_on = std::mem::take(&mut is_first) || !budget.is_spent();
                if goes_on {
                    delete(key, history, budget);
                } else {
                    next = Some(key.to_vec());
                }
                goes_on
            });
        }
        assert!(next.as_deref().is_none_or(|next| next >= range.key), "a delete goes on in its range");
        self.overhead_bytes += VERSION_OVERHEAD_BYTES * deleted_count;
        (deleted_count, next)
    }

    /// All keys with all their versions.
    pub const fn keys(&self) -> &Index {
        &self.keys
    }

    /// Where values lie.
    pub const fn values(&self) -> &ValueStore {
        &self.values
    }

    /// Appends a version to a key's history, as it stands but for the place of its value.
    pub fn push_version(&mut self, key: &[u8], version: Version, value: &[u8]) {
        let value = if version.is_deleted() { ValueRef::default() } else { self.values.put(value) };
        let version = Version { value, ..version };
        self.overhead_bytes += VERSION_OVERHEAD_BYTES;
        match self.keys.get_mut(key) {
            Some(history) => history.push(version),
            None => {
                self.overhead_bytes += KEY_OVERHEAD_BYTES + key.len() as u64;
                self.keys.insert(key, History::new(version));
            }
        }
    }
}

fn view<'a>(values: &'a ValueStore, key: &'a [u8], version: &Version) -> KvView<'a> {
    KvView {
        key,
        value: values.get(version.value),
        create_revision: version.create_revision.get(),
        mod_revision: version.mod_revision.get(),
        version: version.version,
        lease: version.lease,
    }
}

/// Where a range begins and ends in the map, begun from a key of it if one is given; `None` if it holds nothing, which the map
/// would refuse.
fn bounds<'a>(range: &KeyRange<'a>, from: Option<&'a [u8]>) -> Option<Bounds<'a>> {
    let first = from.unwrap_or(range.key);
    let last = match range.range_end {
        [] => Bound::Included(range.key),
        [0] => Bound::Unbounded,
        end if end <= first => return None,
        end => Bound::Excluded(end),
    };
    Some((Bound::Included(first), last))
}
