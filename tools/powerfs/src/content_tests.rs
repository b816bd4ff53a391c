//! Both images of one file against a plain model of them.

use proptest::prelude::*;

use super::*;
use crate::store::memory::Memory;

const FILE: Inode = Inode(7);
/// Some pages, so that writes meet.
const SPACE_BYTES: usize = 5 * PAGE_BYTES;

#[derive(Clone, Debug)]
enum Step {
    Write(usize, usize),
    Length(usize),
    Sync,
    Cut(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..SPACE_BYTES, 1..2 * PAGE_BYTES).prop_map(|(at, count)| Step::Write(at, count)),
        2 => (0..SPACE_BYTES).prop_map(Step::Length),
        2 => Just(Step::Sync),
        2 => any::<u64>().prop_map(Step::Cut),
    ];
    prop::collection::vec(step, 1..40)
}

fn shown(content: &Content, store: &Memory) -> Vec<u8> {
    let mut bytes = vec![1; 3 * SPACE_BYTES];
    let count = content.read(store, 0, &mut bytes).expect("read");
    bytes.truncate(count);
    bytes
}

fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// Whether each sector is the one before or the one after, with zeros behind the end of either; or zeros, where the file grew and
/// the length alone was written.
fn is_of_either(left: &[u8], before: &[u8], after: &[u8]) -> bool {
    (0..left.len()).step_by(SECTOR_BYTES).all(|from| {
        let sector = from..left.len().min(from + SECTOR_BYTES);
        let is = |image: &[u8]| sector.clone().all(|at| left[at] == byte(image, at));
        is(before) || is(after) || sector.clone().all(|at| left[at] == 0 || left[at] == byte(before, at))
    })
}

proptest! {
    #[test]
    fn the_live_image_is_what_was_written_and_a_cut_leaves_what_was_synced(steps in steps()) {
        let (mut content, mut store) = (Content::new(FILE), Memory::default());
        let (mut live, mut durable): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
        // Whether a length was set since the last sync: then it is not known which bytes a cut may leave.
        let mut was_cut_off = false;
        for (number, step) in (1_u8..).zip(steps) {
            match step {
                Step::Write(at, count) => {
                    content.write(&mut store, at as u64, &vec![number; count]).expect("written");
                    live.resize(live.len().max(at + count), 0);
                    live[at..at + count].fill(number);
                }
                Step::Length(bytes) => {
                    was_cut_off |= bytes < live.len();
                    content.set_length(bytes as u64);
                    live.resize(bytes, 0);
                }
                Step::Sync => {
                    content.sync(&mut store).expect("synced");
                    durable = live.clone();
                    was_cut_off = false;
                }
                Step::Cut(seed) => {
                    let remains = content.cut(&mut store, &mut SplitMix64::new(seed)).expect("cut");
                    let left = shown(&content, &store);
                    if live == durable && !was_cut_off {
                        prop_assert_eq!(&left, &durable, "everything was synced");
                    }
                    if remains.sectors_lost == 0 && remains.sectors_kept > 0 && left.len() == live.len() {
                        prop_assert_eq!(&left, &live, "everything reached the disk");
                    }
                    prop_assert!(left.len() <= live.len().max(durable.len()));
                    if !was_cut_off {
                        prop_assert!(left.len() >= durable.len(), "what was synced is not cut off");
                        prop_assert!(is_of_either(&left, &durable, &live), "a sector is whole or as before");
                    }
                    prop_assert_eq!(content.unsynced_bytes(), 0);
                    (live, durable, was_cut_off) = (left.clone(), left, false);
                }
            }
            prop_assert_eq!(shown(&content, &store), live.clone(), "after {:?}", number);
        }
    }
}

#[test]
fn every_kind_of_tear_occurs() {
    let (mut nothing, mut everything, mut half_a_page, mut zeros) = (0, 0, 0, 0);
    for seed in 0..200 {
        let (mut content, mut store) = (Content::new(FILE), Memory::default());
        content.write(&mut store, 0, &[1; SPACE_BYTES]).expect("written");
        content.cut(&mut store, &mut SplitMix64::new(seed)).expect("cut");
        let left = shown(&content, &store);
        nothing += u32::from(left.is_empty());
        everything += u32::from(left == [1; SPACE_BYTES]);
        half_a_page += u32::from(left.chunks(PAGE_BYTES).any(|page| page.contains(&0) && page.contains(&1)));
        zeros += u32::from(left.len() == SPACE_BYTES && left.ends_with(&[0; PAGE_BYTES]));
    }
    for (what, count) in [("nothing", nothing), ("all", everything), ("torn", half_a_page), ("zeros", zeros)] {
        assert!(count > 5, "{what}: {count} of 200");
    }
}

#[test]
fn a_file_with_too_much_unsynced_is_written_back() {
    let (mut content, mut store) = (Content::new(FILE), Memory::default());
    content.write(&mut store, 0, &vec![1; UNSYNCED_BYTES_MAX]).expect("written");
    assert_eq!(content.unsynced_bytes(), UNSYNCED_BYTES_MAX);
    content.write(&mut store, UNSYNCED_BYTES_MAX as u64, &[1]).expect("written");
    assert_eq!(content.unsynced_bytes(), 0);
}

#[test]
fn a_store_that_fails_is_told_to_whoever_syncs() {
    let (mut content, mut store) = (Content::new(FILE), Memory { is_broken: true, ..Memory::default() });
    content.write(&mut store, 10, b"text").expect("in memory");
    assert_eq!(content.sync(&mut store), Err(Refusal::Host(5)));
    store.is_broken = false;
    content.sync(&mut store).expect("synced");
    assert_eq!(shown(&content, &store), b"\0\0\0\0\0\0\0\0\0\0text");
}
