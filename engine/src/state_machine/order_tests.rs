//! Leaves against a set of the standard library.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::history::{History, Version};
use super::super::slots::Entry;
use super::super::values::ValueRef;
use super::*;
use crate::types::Revision;

fn entry(key: &[u8]) -> Entry {
    let revision = Revision::new(1);
    let value = ValueRef::default();
    let version = Version { mod_revision: revision, create_revision: revision, version: 1, lease: 0, value };
    Entry { key: Key::from(key), history: History::new(version) }
}

#[derive(Default)]
struct Keys {
    all: Slots,
    order: Option<Order>,
    model: BTreeSet<Vec<u8>>,
}

impl Keys {
    fn add(&mut self, key: &[u8]) {
        if self.model.insert(key.to_vec()) {
            let slot = self.all.push(entry(key));
            self.order.get_or_insert_with(Order::new).insert(slot, &self.all);
        }
    }

    fn found(&self, bounds: Bounds<'_>) -> Vec<Vec<u8>> {
        let Some(order) = &self.order else { return Vec::new() };
        let mut walk = order.walk(bounds);
        let mut found = Vec::new();
        while let Some(piece) = walk.next(&self.all) {
            found.extend(piece.iter().map(|slot| self.all.key(*slot).to_vec()));
        }
        found
    }

    fn check(&self, bounds: Bounds<'_>) {
        let expected: Vec<Vec<u8>> = self.model.range::<[u8], _>(bounds).cloned().collect();
        assert_eq!(self.found(bounds), expected, "of {bounds:?}");
    }

    fn check_all(&self) {
        self.check((Bound::Unbounded, Bound::Unbounded));
        let last = self.order.as_ref().and_then(Order::last).map(|slot| self.all.key(slot).to_vec());
        assert_eq!(last.as_ref(), self.model.last());
    }
}

/// Keys that share prefixes of many lengths, are prefixes of others, end in zeros, or hold bytes of any kind.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let few = prop::collection::vec(prop::sample::select(vec![0, 1, b'a', 255]), 0..12);
    prop_oneof![
        few.clone(),
        few.prop_map(|rest| [&b"/registry/pods/default/"[..], &rest].concat()),
        prop::collection::vec(any::<u8>(), 0..40),
        (0_u32..5_000).prop_map(|number| format!("{number:016}").into_bytes()),
    ]
}

fn bound() -> impl Strategy<Value = (u8, Vec<u8>)> {
    (0_u8..3, key())
}

fn bound_of((kind, key): &(u8, Vec<u8>)) -> Bound<&[u8]> {
    match kind {
        0 => Bound::Unbounded,
        1 => Bound::Included(key),
        _ => Bound::Excluded(key),
    }
}

proptest! {
    #[test]
    fn a_walk_gives_the_keys_of_its_range_in_order(
        keys in prop::collection::vec(key(), 0..1_500),
        ranges in prop::collection::vec((bound(), bound()), 0..20),
    ) {
        let mut built = Keys::default();
        for key in &keys {
            built.add(key);
        }
        built.check_all();
        for (first, last) in &ranges {
            let bounds = (bound_of(first), bound_of(last));
            let is_empty = match bounds {
                (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
                (Bound::Included(first), Bound::Included(last)) => first > last,
                (Bound::Included(first) | Bound::Excluded(first), Bound::Excluded(last) | Bound::Included(last)) => first >= last,
            };
            // A map of the standard library refuses these.
            if is_empty {
                prop_assert!(built.found(bounds).is_empty());
            } else {
                built.check(bounds);
            }
        }
    }
}

/// Leaves that are written to at their ends, at their fronts and in their middle, until there are many.
#[test]
fn ascending_descending_and_scattered_keys_stay_in_order() {
    let number_of: [fn(u64) -> u64; 3] = [|at| at, |at| 40_000 - at, |at| at.wrapping_mul(0x9e37_79b9) % 100_000];
    for number_of in number_of {
        let mut keys = Keys::default();
        for at in 0..20_000 {
            keys.add(format!("/registry/pods/{:06}", number_of(at)).as_bytes());
        }
        keys.check_all();
        let leaves = keys.order.as_ref().map_or(0, |order| order.leaves.len());
        assert!((157..=320).contains(&leaves), "leaves are at least half full: {leaves}");
    }
    // Each of these belongs right after the full first leaf.
    let mut between = Keys::default();
    (0..128_u32).chain((1_000..9_000).rev()).for_each(|at| between.add(&at.to_be_bytes()));
    between.check_all();
    let leaves = between.order.as_ref().map_or(0, |order| order.leaves.len());
    assert!(leaves <= 140, "no leaf is nearly empty: {leaves}");
    let mut ascending = Keys::default();
    (0..1_280_u32).for_each(|at| ascending.add(&at.to_be_bytes()));
    assert_eq!(ascending.order.map(|order| order.leaves.len()), Some(10), "keys in their order fill their leaves");
}
