//! Logs that begin anywhere: what the origins carry over, dropping a prefix of segments, and what damage does to either.

use crate::error::AppendError;
use crate::format::{EntryHeader, EntryKind, FRAME_HEADER_BYTES};
use crate::limits::{FIRST_FRAME_OFFSET, MEMBERS_BYTES_MAX};
use crate::lineage::Lineage;
use crate::origin::Origin;
use crate::test_support::*;
use crate::testing::{SimRng, SimStorage};
use crate::types::{EntryId, HardStateRecord, Index, Term};
use crate::{DamageKind, Log, LogOptions, OpenError, SegmentSeq, Storage};

const BASE: EntryId = EntryId::new(Term::new(3), Index::new(1000));

fn options(state: EntryId) -> LogOptions {
    LogOptions { state, ..OPTIONS }
}

fn hard_state(term: u64, vote: u64) -> HardStateRecord {
    HardStateRecord { term: Term::new(term), vote }
}

/// Entries 1 to 20 of term 3, two in a segment, all durable; the hard state is in the first segment alone.
fn ten_segments() -> Log<SimStorage> {
    let mut log = new_log(7);
    log.append_hard_state(hard_state(3, 2)).expect("room");
    append_many(&mut log, 3, 1..=20, 3500);
    sync_all(&mut log);
    prepare_all(&mut log);
    assert_eq!(place(&log, 20).0, seq(10));
    log
}

/// The same without its first six segments: after entry 12.
fn without_six() -> Log<SimStorage> {
    let mut log = ten_segments();
    assert_eq!(log.drop_before(Index::new(13)), Some(seq(7)));
    log
}

fn damage_of(error: Option<OpenError>) -> DamageKind {
    let error = error.expect("it does not open");
    error.corruption().unwrap_or_else(|| panic!("{error}")).damages[0].kind
}

#[test]
fn a_log_is_begun_anew_behind_an_entry_with_all_that_its_origin_says() {
    let members = b"one two three".as_slice().into();
    let origin = Origin { base: BASE, lineage: Lineage::new(77), hard_state: hard_state(5, 9), members };
    let empty = SimStorage::new(IDENTITY, SEGMENT_BYTES, 1);
    let mut log = Log::begin(empty, options(BASE), origin.clone()).expect("nothing is there");
    prepare_all(&mut log);
    assert_eq!((log.base(), log.last_id(), log.first_index()), (BASE, BASE, Index::new(1001)));
    assert_eq!((log.term(Index::new(1000)), log.term(Index::new(999))), (Some(Term::new(3)), None));
    assert_eq!((log.persisted_index(), log.hard_state()), (Index::new(1000), hard_state(5, 9)));
    assert!(append(&mut log, 5, 1002, b"too far").is_err() && append(&mut log, 5, 1000, b"too early").is_err());
    append_many(&mut log, 5, 1001..=1004, 3500);
    sync_all(&mut log);
    // Whatever is left of its segments says the same.
    let mut storage = log.into_storage();
    storage.crash_losing_everything();
    let (log, report) = Log::open(storage, options(BASE)).expect("sound");
    assert_eq!((report.base, report.last, report.hard_state), (BASE, id(5, 1004), hard_state(5, 9)));
    assert_eq!((log.members(), log.lineage(BASE.index)), (&*origin.members, Some(Lineage::new(77))));
    let again = Log::begin(log.into_storage(), options(BASE), origin).err();
    assert_eq!(again, Some(OpenError::NotEmpty));
}

#[test]
fn members_that_change_are_in_the_next_segments_origin() {
    let mut log = new_log(1);
    append_many(&mut log, 1, 1..=1, 3500);
    append_members(&mut log, id(1, 2), b"two");
    append_many(&mut log, 1, 3..=3, 3500);
    append_members(&mut log, id(1, 4), &[7; MEMBERS_BYTES_MAX]);
    append_many(&mut log, 1, 5..=5, 3500);
    let header = EntryHeader::new(id(1, 6), EntryKind::MEMBERS, &[7; MEMBERS_BYTES_MAX + 1]);
    let too_long = log.append_entry(&header, &[7; MEMBERS_BYTES_MAX + 1]);
    assert!(matches!(too_long, Err(AppendError::TooLarge { limit_bytes: MEMBERS_BYTES_MAX, .. })), "{too_long:?}");
    assert!(log.begin_batch(id(1, 6), EntryKind::MEMBERS, 0).is_err(), "nobody knows its payload before it is done");
    sync_all(&mut log);
    let (mut log, _) = reopen(log.into_storage()).expect("sound");
    assert_eq!(log.members(), [7; MEMBERS_BYTES_MAX]);
    // The longest entry has room after the longest origin.
    let limit = log.payload_limit_bytes();
    append_many(&mut log, 1, 6..=8, limit);
    assert_eq!(place(&log, 8).1, FIRST_FRAME_OFFSET + crate::format::frame_bytes(crate::origin::ORIGIN_BYTES_MAX));
}

fn append_members(log: &mut Log<SimStorage>, id: EntryId, members: &[u8]) {
    prepare_all(log);
    log.append_entry(&EntryHeader::new(id, EntryKind::MEMBERS, members), members).expect("room");
}

#[test]
fn the_log_says_who_the_members_are_before_and_behind_its_entries_whatever_happened_to_it() {
    let mut superseded = 0;
    for seed in 0..100 {
        let mut rng = SimRng::new(seed);
        let mut log = new_log(seed);
        // What stood at each index, from 1 on, and how much of it is committed.
        let mut said: Vec<Option<Vec<u8>>> = Vec::new();
        let mut state = EntryId::ZERO;
        let mut term = 1;
        for step in 0..60_u64 {
            match rng.below(8) {
                0..=4 => {
                    let committed_count = usize::try_from(state.index.get()).expect("small");
                    let back = usize::try_from(rng.below(3)).expect("small").min(said.len() - committed_count);
                    superseded += said.drain(said.len() - back..).flatten().count();
                    term += u64::from(back > 0);
                    let id = EntryId::new(Term::new(term), Index::new(said.len() as u64 + 1));
                    if rng.chance(1, 3) {
                        let members = step.to_le_bytes();
                        append_members(&mut log, id, &members);
                        said.push(Some(members.to_vec()));
                    } else {
                        append_many(&mut log, term, id.index.get()..=id.index.get(), 1500);
                        said.push(None);
                    }
                }
                5 => {
                    sync_all(&mut log);
                    state = log.last_id();
                }
                6 => drop(log.drop_before(state.index)),
                _ => {
                    sync_all(&mut log);
                    log = match rng.chance(1, 4) {
                        true => salvaged(&log.into_storage(), options(state), seed).0,
                        false => Log::open(log.into_storage(), options(state)).expect("sound").0,
                    };
                    prepare_all(&mut log);
                }
            }
            let in_force = |upto: usize| said[..upto].iter().flatten().next_back().map_or(&[][..], Vec::as_slice);
            let base = usize::try_from(log.base().index.get()).expect("small");
            assert_eq!((log.members(), log.base_members()), (in_force(said.len()), in_force(base)), "seed {seed}");
            let entries = log.members_entries().map(|(index, members)| (index, members.to_vec()));
            let expected = said
                .iter()
                .enumerate()
                .skip(base)
                .filter_map(|(at, members)| members.clone().map(|members| (Index::new(at as u64 + 1), members)));
            assert!(entries.eq(expected), "seed {seed}");
        }
    }
    assert!(superseded > 100, "{superseded} entries that said who the members are were superseded");
}

#[test]
fn a_dropped_prefix_takes_neither_hard_state_nor_chain_with_it() {
    let mut log = without_six();
    assert_eq!((log.base(), log.first_index(), log.last_id()), (id(3, 12), Index::new(13), id(3, 20)));
    assert!(log.entry(Index::new(12)).expect("readable").is_none());
    assert_eq!((log.term(Index::new(12)), log.term(Index::new(11))), (Some(Term::new(3)), None));
    assert_eq!(log.storage().segments()[0], seq(7));
    log.storage_mut().complete_removal();
    let mut storage = log.into_storage();
    storage.crash_losing_everything();
    let (mut log, report) = Log::open(storage, options(id(3, 13))).expect("sound");
    assert_eq!((report.base, report.last, report.hard_state), (id(3, 12), id(3, 20), hard_state(3, 2)));
    append_many(&mut log, 4, 15..=30, 2000);
    sync_all(&mut log);
    let (log, _) = Log::open(log.into_storage(), options(id(3, 13))).expect("sound");
    assert_eq!((log.base(), log.last_id(), log.hard_state()), (id(3, 12), id(4, 30), hard_state(3, 2)));
}

#[test]
fn the_same_entries_have_one_lineage_in_every_log() {
    let lineage = |log: &Log<SimStorage>| log.lineage(Index::new(20)).expect("held");
    let ten = ten_segments();
    let known = lineage(&ten);
    // In batches, in other segments, beside a hard state, and after entries that were superseded.
    let mut other = new_log(8);
    append_many(&mut other, 2, 1..=3, 100);
    for index in 1..=20 {
        prepare_all(&mut other);
        other.begin_batch(id(3, other.last_id().index.get() + 1), KIND, 0).expect("room");
        other.abandon_batch();
        append_many(&mut other, 3, index..=index, 3500);
    }
    assert_eq!(lineage(&other), known);
    // Without the first segments, opened again, and salvaged.
    let dropped = without_six();
    assert_eq!((lineage(&dropped), dropped.lineage(Index::new(12))), (known, ten.lineage(Index::new(12))));
    assert_eq!(dropped.lineage(Index::new(11)), None);
    let mut dropped = dropped;
    dropped.storage_mut().complete_removal();
    let (dropped, _) = Log::open(dropped.into_storage(), options(id(3, 13))).expect("sound");
    assert_eq!(lineage(&dropped), known);
    let mut storage = dropped.into_storage();
    storage.flip_bit(seq(10), FIRST_FRAME_OFFSET + 9, 1);
    let (mut salvaged, _) = salvaged(&storage, options(id(3, 13)), 99);
    assert_eq!(salvaged.last_id(), id(3, 18));
    append_many(&mut salvaged, 3, 19..=20, 3500);
    assert_eq!(lineage(&salvaged), known);
    // One byte of one entry makes all after it another history.
    append(&mut salvaged, 3, 19, b"another").expect("room");
    append_many(&mut salvaged, 3, 20..=20, 3500);
    assert_ne!(lineage(&salvaged), known);
    assert_eq!(salvaged.lineage(Index::new(18)), ten.lineage(Index::new(18)));
}

#[test]
fn no_more_is_dropped_than_the_state_has_and_the_device_holds() {
    let mut log = ten_segments();
    assert_eq!(log.drop_before(Index::new(1)), None);
    assert_eq!(log.drop_before(Index::new(5)), Some(seq(3)));
    assert_eq!(log.drop_before(Index::new(5)), None);
    // The next segment is not durable yet.
    append_many(&mut log, 3, 21..=21, 3500);
    assert_eq!(place(&log, 21).0, seq(11));
    assert_eq!(log.drop_before(Index::new(20)), Some(seq(10)));
    sync_all(&mut log);
    assert_eq!(log.drop_before(Index::new(21)), Some(seq(11)));
    assert_eq!((log.base(), log.last_id(), log.persisted_index()), (id(3, 20), id(3, 21), Index::new(21)));
}

#[test]
fn no_log_begins_behind_an_entry_that_was_superseded() {
    let mut log = new_log(7);
    append_many(&mut log, 3, 1..=4, 3500);
    // Segment 3 is begun after entry 4, and entry 3 in it supersedes that.
    append_many(&mut log, 4, 3..=3, 3500);
    sync_all(&mut log);
    assert_eq!(place(&log, 3), (seq(3), FIRST_FRAME_OFFSET + 96));
    assert_eq!(
        log.drop_before(Index::new(3)),
        Some(seq(2)),
        "not the segment whose origin names what is not in the log"
    );
    append_many(&mut log, 4, 4..=8, 3500);
    sync_all(&mut log);
    assert_eq!(log.drop_before(Index::new(6)), Some(seq(5)));
    log.storage_mut().complete_removal();
    let (log, report) = Log::open(log.into_storage(), options(id(4, 6))).expect("sound");
    assert_eq!((report.base, log.last_id()), (id(4, 6), id(4, 8)));
}

#[test]
fn an_interrupted_drop_leaves_the_same_log_whichever_files_are_gone() {
    let mut log = without_six();
    log.storage_mut().begin_removal();
    let mut storage = log.into_storage();
    storage.crash_losing_everything();
    let whole = ten_segments().into_storage();
    for gone in 0..1_u64 << 6 {
        let mut left = whole.clone();
        left.copy_note_of(&storage);
        (1..=6).filter(|segment| gone >> (segment - 1) & 1 == 1).for_each(|segment| left.remove(seq(segment)));
        let (log, report) = Log::open(left, options(id(3, 13))).unwrap_or_else(|error| panic!("{gone:06b}: {error}"));
        assert_eq!((report.base, report.last, report.hard_state), (id(3, 12), id(3, 20), hard_state(3, 2)));
        assert_eq!(log.storage().segments()[0], seq(7), "what was dropped is removed");
    }
}

#[test]
fn a_drop_that_was_never_noted_did_not_happen() {
    let mut storage = without_six().into_storage();
    let note_before = ten_segments().into_storage();
    storage.crash_losing_everything();
    storage.copy_note_of(&note_before);
    let (log, report) = Log::open(storage, options(id(3, 13))).expect("sound");
    assert_eq!((report.base, log.storage().segments()[0]), (EntryId::ZERO, seq(1)));
}

#[test]
fn losing_one_slot_of_the_note_or_both_loses_nothing_of_a_log_whose_start_was_dropped() {
    let mut log = without_six();
    log.storage_mut().complete_removal();
    let storage = log.into_storage();
    let damages: [fn(&mut SimStorage); 3] =
        [|storage| storage.zero_note_page(0), |storage| storage.zero_note_page(1), |storage| storage.truncate_note(0)];
    for damage in damages {
        let mut storage = storage.clone();
        damage(&mut storage);
        let (_, report) = Log::open(storage, options(id(3, 13))).expect("sound");
        assert_eq!((report.base, report.last), (id(3, 12), id(3, 20)));
    }
}

#[test]
fn first_segments_that_are_lost_are_missed_by_the_note_or_by_the_state() {
    for lost in 1..=9 {
        let mut storage = ten_segments().into_storage();
        (1..=lost).for_each(|segment| storage.remove(seq(segment)));
        let kind = damage_of(reopen(storage.clone()).err());
        assert_eq!(kind, DamageKind::Missing { last: seq(lost) });
        storage.truncate_note(0);
        let kind = damage_of(reopen(storage.clone()).err());
        let base = id(3, 2 * lost);
        assert_eq!(kind, DamageKind::NotAtState { base, last: id(3, 20), state: EntryId::ZERO });
        let log = salvaged(&storage, OPTIONS, 99).0;
        assert_eq!((log.base(), log.last_id(), log.hard_state()), (EntryId::ZERO, EntryId::ZERO, hard_state(3, 2)));
        // A state that reaches there needs none of them.
        let (log, _) = Log::open(storage, options(base)).expect("nothing is missing");
        assert_eq!((log.base(), log.last_id()), (base, id(3, 20)));
    }
}

#[test]
fn a_log_that_ends_before_the_state_or_in_another_history_is_damaged() {
    for state in [id(3, 21), id(4, 15), id(2, 15), id(3, 11)] {
        let mut log = without_six();
        log.storage_mut().complete_removal();
        let storage = log.into_storage();
        let kind = damage_of(Log::open(storage.clone(), options(state)).err());
        assert_eq!(kind, DamageKind::NotAtState { base: id(3, 12), last: id(3, 20), state });
        let log = salvaged(&storage, options(state), 99).0;
        assert_eq!((log.base(), log.last_id()), (state, state), "it begins anew at the state");
        assert!(log.hard_state().term >= state.term);
    }
}

#[test]
fn damage_to_the_first_segment_of_a_log_that_begins_anywhere_is_salvaged() {
    let state = id(3, 13);
    type Case = (&'static str, fn(&mut SimStorage, SegmentSeq), EntryId, EntryId);
    let damages: [Case; 5] = [
        ("header", |storage, seq| storage.flip_bit(seq, 20, 1), state, state),
        ("file", |storage, seq| storage.remove(seq), state, state),
        ("origin's header", |storage, seq| storage.flip_bit(seq, FIRST_FRAME_OFFSET + 9, 1), state, state),
        ("origin", |storage, seq| storage.flip_bit(seq, FIRST_FRAME_OFFSET + FRAME_HEADER_BYTES, 1), state, state),
        // Entry 13 is whole, entry 14 is not.
        ("entry", |storage, seq| storage.flip_bit(seq, FIRST_FRAME_OFFSET + 6000, 1), id(3, 12), state),
    ];
    for (name, damage, base, last) in damages {
        let mut log = without_six();
        log.storage_mut().complete_removal();
        let mut storage = log.into_storage();
        damage(&mut storage, seq(7));
        let error = Log::open(storage.clone(), options(state)).err().unwrap_or_else(|| panic!("{name}"));
        let corruption = error.corruption().unwrap_or_else(|| panic!("{name}: {error}")).clone();
        assert_eq!((corruption.damages[0].segment, corruption.intact_last), (seq(7), last), "{name}");
        // Only the dropped segments held the hard state, and yet it is certain.
        assert_eq!((corruption.hard_state, corruption.hard_state_is_certain), (hard_state(3, 2), true), "{name}");
        let log = salvaged(&storage, options(state), 99).0;
        assert_eq!((log.base(), log.last_id(), log.hard_state()), (base, last, hard_state(3, 2)), "{name}");
    }
}

#[test]
fn two_damaged_segments_are_both_named_and_what_is_whole_before_them_is_saved() {
    let mut log = without_six();
    log.storage_mut().complete_removal();
    let mut storage = log.into_storage();
    storage.flip_bit(seq(8), 20, 1);
    storage.flip_bit(seq(10), FIRST_FRAME_OFFSET + 9, 1);
    let error = Log::open(storage.clone(), options(id(3, 13))).map(|_| ()).expect_err("damaged");
    let corruption = error.corruption().expect("damaged").clone();
    let segments: Vec<_> = corruption.damages.iter().map(|damage| damage.segment).collect();
    assert_eq!(segments, [seq(8), seq(10)]);
    assert!(!corruption.hard_state_is_certain, "behind the second nothing repeats it");
    let log = salvaged(&storage, options(id(3, 13)), 99).0;
    assert_eq!((log.base(), log.last_id(), log.hard_state()), (id(3, 12), id(3, 14), hard_state(3, 2)));
}

#[test]
fn a_segment_of_an_earlier_log_of_this_node_is_damage() {
    let mut storage = ten_segments().into_storage();
    let mut other = SimStorage::new(IDENTITY, SEGMENT_BYTES, 1234);
    other.prepare(seq(4));
    storage.overwrite(seq(4), 0, &other.bytes(seq(4))[..4096]);
    let kind = damage_of(reopen(storage).err());
    assert!(
        matches!(kind, DamageKind::Identity(mismatch) if mismatch.field == crate::segment::IdentityField::LogNonce)
    );
}

#[test]
fn a_seal_lost_together_with_the_segment_that_it_led_to_is_damage_although_the_note_is_old() {
    // Segment 10 is in use, so that 11 and 12 are prepared. Its file is lost, and with it the page with the seal of segment 9.
    let mut storage = ten_segments().into_storage();
    let mut before = new_log(7);
    before.append_hard_state(hard_state(3, 2)).expect("room");
    append_many(&mut before, 3, 1..=18, 3500);
    sync_all(&mut before);
    let (last, seal) = before.writing_end();
    assert_eq!(last, seq(9));
    storage.copy_note_of(before.storage());
    storage.remove(seq(10));
    storage.overwrite(seq(9), seal, &[0; FRAME_HEADER_BYTES]);
    assert_eq!(damage_of(reopen(storage).err()), DamageKind::Missing { last: seq(10) });
}
