//! Names and files together: what a cut leaves of them.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::store::memory::Memory;

const OWNER: (u32, u32) = (0, 0);

fn images() -> Images<Memory> {
    Images::new(Memory::default(), OWNER)
}

fn file(images: &mut Images<Memory>, parent: Inode, name: &str, bytes: &[u8]) -> Inode {
    let inode = images.create(parent, name.as_bytes(), false, 0o600, OWNER).expect("created").inode;
    images.write(inode, 0, bytes).expect("written");
    inode
}

fn directory(images: &mut Images<Memory>, parent: Inode, name: &str) -> Inode {
    images.create(parent, name.as_bytes(), true, 0o700, OWNER).expect("created").inode
}

fn text(images: &mut Images<Memory>, parent: Inode, name: &str) -> Option<String> {
    let found = images.look_up(parent, name.as_bytes()).ok()?;
    let mut bytes = vec![0; usize::try_from(found.bytes).expect("small")];
    images.read(found.inode, 0, &mut bytes).expect("read");
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What the cuts of many seeds leave of a file.
fn left(images: &Images<Memory>, directory: Inode, name: &str) -> BTreeSet<Option<String>> {
    let one = |seed| {
        let mut images = images.clone();
        images.cut(seed).expect("cut");
        text(&mut images, directory, name)
    };
    (0..200).map(one).collect()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn a_synced_file_without_a_synced_name_may_be_gone_and_a_synced_name_without_a_synced_file_may_be_empty() {
    let mut images = images();
    let a = file(&mut images, Inode::ROOT, "a", b"text");
    assert_eq!(left(&images, Inode::ROOT, "a"), BTreeSet::from([None, some(""), some("text"), some("\0\0\0\0")]));
    images.sync(a).expect("synced");
    assert_eq!(left(&images, Inode::ROOT, "a"), BTreeSet::from([None, some("text")]));
    images.sync_names(Inode::ROOT).expect("synced");
    assert_eq!(left(&images, Inode::ROOT, "a"), BTreeSet::from([some("text")]));
}

#[test]
fn a_move_over_a_file_leaves_one_of_the_two() {
    let mut images = images();
    for (name, bytes) in [("old", b"1"), ("new", b"2")] {
        let inode = file(&mut images, Inode::ROOT, name, bytes);
        images.sync(inode).expect("synced");
    }
    images.sync_names(Inode::ROOT).expect("synced");
    images.rename((Inode::ROOT, b"new"), (Inode::ROOT, b"old"), false).expect("moved");
    assert_eq!(text(&mut images, Inode::ROOT, "old"), some("2"));
    assert_eq!(left(&images, Inode::ROOT, "old"), BTreeSet::from([some("1"), some("2")]));
    images.sync_names(Inode::ROOT).expect("synced");
    assert_eq!(left(&images, Inode::ROOT, "old"), BTreeSet::from([some("2")]));
}

#[test]
fn removed_names_may_come_back_the_oldest_last() {
    let mut images = images();
    for name in ["1", "2", "3"] {
        let inode = file(&mut images, Inode::ROOT, name, name.as_bytes());
        images.sync(inode).expect("synced");
    }
    images.sync_names(Inode::ROOT).expect("synced");
    for name in ["3", "2"] {
        let inode = images.look_up(Inode::ROOT, name.as_bytes()).expect("there").inode;
        images.remove(Inode::ROOT, name.as_bytes(), false).expect("removed");
        images.forget(inode, u64::MAX).expect("forgotten");
    }
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let mut after = images.clone();
        after.cut(seed).expect("cut");
        let names: Vec<Vec<u8>> = after.list(Inode::ROOT).expect("listed").into_iter().map(|(name, ..)| name).collect();
        seen.insert(names);
        assert!(text(&mut after, Inode::ROOT, "2").is_none_or(|text| text == "2"), "its bytes come back with it");
    }
    let names = |count| (1..=count).map(|number: u8| vec![b'0' + number]).collect::<Vec<_>>();
    assert_eq!(seen, BTreeSet::from([names(1), names(2), names(3)]));
    images.sync_names(Inode::ROOT).expect("synced");
    assert_eq!(images.store.files.len(), 1, "what cannot come back takes no room");
}

#[test]
fn a_directory_without_a_durable_name_takes_what_is_in_it_along() {
    let mut images = images();
    let inner = directory(&mut images, Inode::ROOT, "d");
    let a = file(&mut images, inner, "a", b"text");
    images.sync(a).expect("synced");
    images.sync_names(inner).expect("synced");
    assert_eq!(left(&images, inner, "a"), BTreeSet::from([None, some("text")]));
    images.sync_names(Inode::ROOT).expect("synced");
    assert_eq!(left(&images, inner, "a"), BTreeSet::from([some("text")]));
}

#[test]
fn a_move_between_directories_is_done_whole_or_not_at_all() {
    let mut images = images();
    let (from, to) = (directory(&mut images, Inode::ROOT, "from"), directory(&mut images, Inode::ROOT, "to"));
    let a = file(&mut images, from, "a", b"text");
    images.sync(a).expect("synced");
    [Inode::ROOT, from, to].into_iter().for_each(|inode| images.sync_names(inode).expect("synced"));
    images.rename((from, b"a"), (to, b"b"), true).expect("moved");
    for seed in 0..100 {
        let mut after = images.clone();
        after.cut(seed).expect("cut");
        let (there, here) = (text(&mut after, from, "a"), text(&mut after, to, "b"));
        assert!(there.is_some() != here.is_some(), "{there:?} {here:?}");
    }
    images.sync_names(from).expect("synced");
    assert_eq!(left(&images, to, "b"), BTreeSet::from([some("text")]), "one sync makes both sides durable");
}

#[test]
fn what_cannot_be_done_is_refused() {
    let mut images = images();
    let inner = directory(&mut images, Inode::ROOT, "d");
    let a = file(&mut images, inner, "a", b"");
    let b = file(&mut images, Inode::ROOT, "b", b"");
    assert_eq!(images.create(inner, b"a", false, 0, OWNER), Err(Refusal::Exists));
    assert_eq!(images.create(inner, &[b'x'; 256], false, 0, OWNER), Err(Refusal::NameTooLong));
    assert_eq!(images.create(a, b"x", false, 0, OWNER), Err(Refusal::NotDirectory));
    assert_eq!(images.look_up(inner, b"x"), Err(Refusal::Absent));
    assert_eq!(images.remove(Inode::ROOT, b"d", true), Err(Refusal::NotEmpty));
    assert_eq!(images.remove(Inode::ROOT, b"d", false), Err(Refusal::IsDirectory));
    assert_eq!(images.remove(inner, b"a", true), Err(Refusal::NotDirectory));
    assert_eq!(images.rename((inner, b"a"), (Inode::ROOT, b"d"), false), Err(Refusal::IsDirectory));
    assert_eq!(images.rename((inner, b"a"), (Inode::ROOT, b"b"), true), Err(Refusal::Exists));
    assert_eq!((images.sync(inner), images.sync_names(b)), (Err(Refusal::IsDirectory), Err(Refusal::NotDirectory)));
}

#[test]
fn an_open_file_without_a_name_can_be_used_until_it_is_forgotten() {
    let mut images = images();
    let a = file(&mut images, Inode::ROOT, "a", b"text");
    images.remove(Inode::ROOT, b"a", false).expect("removed");
    images.write(a, 4, b"s").expect("written");
    assert_eq!(images.attributes(a).expect("there").bytes, 5);
    images.sync(a).expect("synced");
    images.sync_names(Inode::ROOT).expect("synced");
    images.forget(a, 1).expect("forgotten");
    assert_eq!(images.attributes(a), Err(Refusal::Absent));
    assert!(images.store.files.is_empty());
}

#[test]
fn a_long_row_of_changes_becomes_durable_by_itself() {
    let mut images = images();
    for number in 0..=crate::limits::PENDING_NAMES_MAX {
        file(&mut images, Inode::ROOT, &number.to_string(), b"");
    }
    for seed in 0..20 {
        let mut after = images.clone();
        after.cut(seed).expect("cut");
        assert!(after.look_up(Inode::ROOT, b"0").is_ok());
    }
}

#[derive(Clone, Debug)]
enum Step {
    Create(u8, u8),
    Remove(u8, u8),
    Rename((u8, u8), (u8, u8)),
    Sync(u8),
    Cut(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = || (0_u8..3, 0_u8..4);
    let step = prop_oneof![
        5 => place().prop_map(|(directory, name)| Step::Create(directory, name)),
        2 => place().prop_map(|(directory, name)| Step::Remove(directory, name)),
        4 => (place(), place()).prop_map(|(from, to)| Step::Rename(from, to)),
        3 => (0_u8..3).prop_map(Step::Sync),
        2 => any::<u64>().prop_map(Step::Cut),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    /// Three directories with names, each file with its number in it. Of each directory a cut leaves a state that it went through
    /// since its last sync; no file is in two places; a file's bytes are its own.
    #[test]
    fn a_directory_goes_back_to_a_state_that_it_was_in(steps in steps()) {
        let mut images = images();
        let directories: Vec<Inode> = (0..3).map(|at| directory(&mut images, Inode::ROOT, &format!("d{at}"))).collect();
        images.sync_names(Inode::ROOT).expect("synced");
        let names_of = |images: &Images<Memory>, at: usize| -> Vec<(Vec<u8>, Inode)> {
            let names = images.list(directories[at]).expect("listed");
            names.into_iter().map(|(name, inode, _)| (name, inode)).collect()
        };
        let mut states: Vec<Vec<_>> = (0..3).map(|_| vec![Vec::new()]).collect();
        for step in steps {
            let place = |(at, name): (u8, u8)| (directories[usize::from(at)], [b'a' + name]);
            match step {
                Step::Create(at, name) => {
                    let (parent, name) = place((at, name));
                    if let Ok(made) = images.create(parent, &name, false, 0o600, OWNER) {
                        images.write(made.inode, 0, made.inode.0.to_string().as_bytes()).expect("written");
                        images.sync(made.inode).expect("synced");
                    }
                }
                Step::Remove(at, name) => {
                    let (parent, name) = place((at, name));
                    // It may not be there.
                    let _ = images.remove(parent, &name, false);
                }
                Step::Rename(from, to) => {
                    let (from, to) = (place(from), place(to));
                    let _ = images.rename((from.0, &from.1), (to.0, &to.1), false);
                }
                Step::Sync(at) => {
                    images.sync_names(directories[usize::from(at)]).expect("synced");
                    let at = usize::from(at);
                    states[at] = vec![names_of(&images, at)];
                }
                Step::Cut(seed) => {
                    images.cut(seed).expect("cut");
                    let mut seen = BTreeSet::new();
                    for at in 0..3 {
                        let left = names_of(&images, at);
                        prop_assert!(states[at].contains(&left), "{:?} is none of {:?}", left, states[at]);
                        for (name, inode) in &left {
                            prop_assert!(seen.insert(*inode), "a file in two places");
                            let name = String::from_utf8_lossy(name).into_owned();
                            prop_assert_eq!(text(&mut images, directories[at], &name), Some(inode.0.to_string()));
                        }
                        states[at] = vec![left];
                    }
                }
            }
            for (at, states) in states.iter_mut().enumerate() {
                let now = names_of(&images, at);
                if states.last() != Some(&now) {
                    states.push(now);
                }
            }
        }
    }
}
