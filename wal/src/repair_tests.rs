//! Repairs in files: one test per row of the table, every kind of damage, and an interruption at every step.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use tempfile::TempDir;

use super::*;
use crate::format::EntryHeader;
use crate::test_support::{IDENTITY, KIND, id, payload, prepare_files, seq};
use crate::types::HardStateRecord;
use crate::types::{Index, Term};
use crate::{SegmentIdentity, SegmentSeq, Storage};

const SEGMENT_BYTES: u64 = 64 << 10;
const OPTIONS: LogOptions = LogOptions {
    identity: IDENTITY,
    segment_bytes: SEGMENT_BYTES,
    state: crate::types::EntryId::ZERO,
    state_lineage: crate::Lineage::START,
};
const ENTRIES: u64 = 40;
const HARD_STATE: HardStateRecord = HardStateRecord { term: Term::new(1), vote: 22 };

/// A data directory with a log in it.
struct Node {
    dir: TempDir,
}

impl Node {
    /// No log yet; its directory is there.
    fn new() -> Self {
        let node = Self { dir: TempDir::new().expect("a directory") };
        fs::create_dir(node.log()).expect("writable");
        node
    }

    /// 40 durable entries in three segments, the hard state in front of them.
    fn with_log() -> Self {
        let node = Self::new();
        let mut opened = node.open().expect("an empty log");
        prepare_files(&mut opened.log, SEGMENT_BYTES);
        opened.log.append_hard_state(HARD_STATE).expect("room");
        append(&mut opened.log, 1..=ENTRIES);
        node
    }

    /// Under repair with 20 entries or so, and a certain hard state.
    fn under_repair() -> Self {
        let node = Self::with_log();
        node.flip(2, 10_000);
        let opened = node.open().expect("repaired");
        assert!(opened.repair.expect("under repair").hard_state_is_certain);
        node
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("wal")
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        self.dir.path().join(format!("wal{suffix}"))
    }

    fn open(&self) -> Result<Opened, RepairError> {
        open_or_salvage(&self.log(), OPTIONS)
    }

    /// Opens, and stops before step `number` as if the process ended there; `Ok` if there are not so many.
    fn open_until(&self, number: usize) -> Result<Opened, RepairError> {
        let mut left = number;
        let mut before = |_| {
            left = left.checked_sub(1).ok_or_else(|| io::Error::other("interrupted"))?;
            Ok(())
        };
        Repairer { places: Places::of(&self.log()), options: OPTIONS, before: &mut before }.open()
    }

    fn segment(&self, segment: u64) -> PathBuf {
        self.log().join(seq(segment).file_name())
    }

    fn flip(&self, segment: u64, offset: u64) {
        let file = OpenOptions::new().read(true).write(true).open(self.segment(segment)).expect("the segment");
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).expect("in the file");
        file.write_all_at(&[byte[0] ^ 4], offset).expect("writable");
    }

    fn truncate(&self, segment: u64, bytes: u64) {
        let file = OpenOptions::new().write(true).open(self.segment(segment)).expect("the segment");
        file.set_len(bytes).expect("writable");
    }

    /// Names in the data directory.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).expect("a directory");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
        names.sort_unstable();
        names
    }
}

fn append(log: &mut Log<FileDevice>, indexes: std::ops::RangeInclusive<u64>) {
    for index in indexes {
        prepare_files(log, SEGMENT_BYTES);
        let payload = payload(1, index, 4000);
        log.append_entry(&EntryHeader::new(id(1, index), KIND, &payload), &payload).expect("room");
    }
    while let Some(request) = log.next_sync() {
        let result = log.storage().sync_blocking(&request);
        log.on_synced(request.id, result);
    }
    prepare_files(log, SEGMENT_BYTES);
}

/// Checks that a log holds the first entries of what was written, and that it can go on.
fn check_prefix(log: &mut Log<FileDevice>) -> u64 {
    let last = log.last_id().index.get();
    for index in 1..=last {
        let entry = log.entry(Index::new(index)).expect("readable").expect("present");
        assert_eq!((entry.payload(), entry.verify()), (&payload(1, index, 4000)[..], Ok(())));
    }
    assert_eq!(log.persisted_index(), log.last_id().index);
    last
}

fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let names = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names.filter_map(|name| name.into_string().ok()).collect();
    names.retain(|name| SegmentSeq::from_file_name(name).is_some());
    names.sort_unstable();
    names.into_iter().map(|name| (name.clone(), fs::read(dir.join(name)).expect("readable"))).collect()
}

#[test]
fn nothing_happened_so_the_log_opens_and_no_repair_is_under_way() {
    let node = Node::with_log();
    let mut opened = node.open().expect("sound");
    assert_eq!((check_prefix(&mut opened.log), opened.repair), (ENTRIES, None));
    assert_eq!(node.names(), ["wal"]);
}

#[test]
fn a_new_log_is_no_damage_and_says_that_it_has_no_segments() {
    let node = Node::new();
    let opened = node.open().expect("an empty log");
    assert_eq!((opened.report.segments_count, opened.repair), (0, None));
    assert_eq!(node.names(), ["wal"]);
    let missing = open_or_salvage(&node.beside("x"), OPTIONS).expect_err("no directory");
    assert!(matches!(missing, RepairError::Files(_)), "{missing}");
}

#[test]
fn an_interrupted_salvage_is_thrown_away_and_the_log_opens() {
    let node = Node::with_log();
    fs::create_dir(node.beside(".repair")).expect("writable");
    fs::write(node.beside(".repair").join(seq(1).file_name()), b"half").expect("writable");
    fs::write(node.beside(".repair").join(MARK_FILE), b"").expect("writable");
    let opened = node.open().expect("sound");
    assert_eq!((opened.report.last, opened.repair), (id(1, ENTRIES), None));
    assert_eq!(node.names(), ["wal"]);
}

#[test]
fn a_node_is_under_repair_until_that_is_finished() {
    let node = Node::with_log();
    node.flip(2, 10_000);
    let before = contents(&node.log());
    let opened = node.open().expect("repaired");
    let first = opened.repair.expect("under repair");
    let last = opened.report.last;
    assert!(first.hard_state_is_certain && first.damage.contains("0000000000000002.wal"), "{first:?}");
    assert_eq!(opened.log.hard_state(), HARD_STATE);
    assert_eq!(contents(&node.beside(".damaged")), before, "what was damaged is kept as it was");
    drop(opened.log);
    for _ in 0..2 {
        let mut opened = node.open().expect("sound");
        assert_eq!((opened.repair, opened.report.last), (Some(first.clone()), last));
        assert_eq!(check_prefix(&mut opened.log), last.index.get());
    }
    let mut opened = node.open().expect("sound");
    append(&mut opened.log, last.index.get() + 1..=ENTRIES);
    drop(opened.log);
    finish_repair(&node.log()).expect("removed");
    assert_eq!(node.names(), ["wal"]);
    let opened = node.open().expect("sound");
    assert_eq!((opened.repair, opened.report.last), (None, id(1, ENTRIES)));
    finish_repair(&node.log()).expect("nothing to do");
}

#[test]
fn an_interrupted_second_salvage_is_thrown_away_and_the_node_stays_under_repair() {
    let node = Node::under_repair();
    fs::create_dir(node.beside(".repair")).expect("writable");
    assert!(node.open().expect("sound").repair.is_some());
    assert_eq!(node.names(), ["wal", "wal.damaged"]);
}

#[test]
fn a_salvaged_log_that_was_not_moved_yet_becomes_the_log() {
    for recreated in [false, true] {
        let node = Node::under_repair();
        let last = node.open().expect("sound").report.last;
        fs::rename(node.log(), node.beside(".repair")).expect("writable");
        if recreated {
            // As whoever opens the data directory does.
            fs::create_dir(node.log()).expect("writable");
        }
        let opened = node.open().expect("moved");
        assert_eq!((opened.report.last, opened.repair.is_some()), (last, true));
        assert_eq!(node.names(), ["wal", "wal.damaged"]);
    }
}

#[test]
fn a_log_that_somebody_took_away_is_refused() {
    for recreated in [false, true] {
        for suffix in [".damaged", ".repair"] {
            let node = Node::with_log();
            fs::rename(node.log(), node.beside(suffix)).expect("writable");
            if recreated {
                fs::create_dir(node.log()).expect("writable");
            }
            let error = node.open().expect_err("no log");
            assert!(matches!(error, RepairError::LogGone { .. }), "{error}");
            assert!(node.beside(suffix).join(seq(1).file_name()).exists());
        }
    }
    let node = Node::under_repair();
    for (name, _) in contents(&node.log()) {
        fs::remove_file(node.log().join(name)).expect("writable");
    }
    fs::remove_file(node.log().join("durable")).expect("writable");
    fs::write(node.log().join("stranger"), b"").expect("writable");
    assert!(matches!(node.open(), Err(RepairError::LogGone { .. })));
}

#[test]
fn a_repair_ends_only_by_being_finished() {
    for is_certain in [true, false] {
        // Somebody makes room.
        let node = Node::under_repair();
        if !is_certain {
            fs::remove_file(node.log().join(CERTAIN_FILE)).expect("it is certain");
        }
        let before = node.open().expect("sound").repair;
        assert!(before.as_ref().is_some_and(|repair| repair.hard_state_is_certain == is_certain));
        fs::remove_dir_all(node.beside(".damaged")).expect("writable");
        assert_eq!(node.open().expect("sound").repair, before);
        // And it is damaged again.
        node.flip(1, 10_000);
        let repair = node.open().expect("repaired").repair.expect("under repair");
        assert_eq!(repair.hard_state_is_certain, is_certain);
        assert!(repair.damage.contains(LATER), "{repair:?}");
    }
    // Somebody puts another log, a backup perhaps, in the place of the new one.
    let node = Node::under_repair();
    fs::remove_file(node.log().join(MARK_FILE)).expect("the mark");
    let repair = node.open().expect("sound").repair.expect("under repair");
    assert!(!repair.hard_state_is_certain, "nobody knows what it is");
    // A mark of which nothing is left still is one.
    let node = Node::under_repair();
    fs::write(node.log().join(MARK_FILE), [0xff; 7]).expect("writable");
    let repair = node.open().expect("sound").repair.expect("under repair");
    assert!(repair.damage.contains("can't be read"), "{repair:?}");
}

#[test]
fn what_an_interrupted_finish_left_is_removed() {
    let node = Node::under_repair();
    fs::rename(node.beside(".damaged"), node.beside(".repaired")).expect("writable");
    assert!(node.open().expect("sound").repair.is_some(), "the mark is still there");
    assert_eq!(node.names(), ["wal"]);
    let node = Node::under_repair();
    fs::rename(node.beside(".damaged"), node.beside(".repaired")).expect("writable");
    fs::remove_file(node.log().join(MARK_FILE)).expect("the mark");
    assert_eq!(node.open().expect("sound").repair, None);
    assert_eq!(node.names(), ["wal"]);
    let node = Node::under_repair();
    fs::create_dir(node.beside(".repaired")).expect("writable");
    finish_repair(&node.log()).expect("removed");
    assert_eq!(node.names(), ["wal"]);
}

#[test]
fn a_segment_of_any_length_is_repaired() {
    for segment in [1, 3] {
        for bytes in [0, 1, 64, 4096, 20_001, SEGMENT_BYTES - 1] {
            let node = Node::with_log();
            node.truncate(segment, bytes);
            let mut opened = node.open().unwrap_or_else(|error| panic!("{segment} {bytes}: {error}"));
            let last = check_prefix(&mut opened.log);
            let repair = opened.repair.expect("under repair");
            assert!(repair.damage.contains("file truncated"), "{repair:?}");
            // The origins of the segments after the first one repeat every hard state that it may have held.
            assert_eq!(repair.hard_state_is_certain, segment == 1, "{segment} {bytes}");
            let is_behind_the_end = segment == 3 && bytes == SEGMENT_BYTES - 1;
            assert_eq!(last == ENTRIES, is_behind_the_end, "{segment} {bytes}");
        }
    }
}

#[test]
fn a_segment_that_was_never_used_needs_no_repair() {
    for bytes in [0, 1, 64, 4096, 20_001, SEGMENT_BYTES - 1] {
        let node = Node::with_log();
        node.truncate(4, bytes);
        let opened = node.open().unwrap_or_else(|error| panic!("{bytes}: {error}"));
        assert_eq!((opened.report.last, opened.repair), (id(1, ENTRIES), None));
        assert_eq!(opened.report.unused_from, Some(seq(4)), "{bytes}");
        assert!(!node.log().join(seq(4).file_name()).exists(), "it was removed, to be prepared anew");
    }
}

#[test]
fn lost_files_are_repaired_or_were_not_needed() {
    for (lost, expected) in [(1..=1, Some(0)), (2..=3, None), (3..=5, None), (1..=5, Some(0))] {
        let node = Node::with_log();
        lost.clone().for_each(|segment| fs::remove_file(node.segment(segment)).expect("the segment"));
        let mut opened = node.open().unwrap_or_else(|error| panic!("{lost:?}: {error}"));
        let last = check_prefix(&mut opened.log);
        assert!(expected.map_or(last > 0 && last < ENTRIES, |expected| expected == last), "{lost:?}: {last}");
        let repair = opened.repair.expect("under repair");
        assert!(repair.damage.contains("segment missing"), "{repair:?}");
        assert_eq!(repair.hard_state_is_certain, lost == (1..=1), "{lost:?}: only there an origin is left behind it");
    }
    let node = Node::with_log();
    fs::remove_file(node.segment(5)).expect("a spare segment");
    assert_eq!(node.open().expect("sound").repair, None);
}

#[test]
fn a_damaged_note_is_no_damage_to_the_log() {
    let node = Node::with_log();
    let note = node.log().join("durable");
    for bytes in [0, 10, 4096, 5000] {
        OpenOptions::new().write(true).open(&note).expect("the note").set_len(bytes).expect("writable");
        let opened = node.open().expect("sound");
        assert_eq!((opened.repair, opened.log.storage().noted().durable), (None, opened.log.end_lsn()));
    }
    fs::remove_file(&note).expect("the note");
    assert_eq!(node.open().expect("sound").report.last, id(1, ENTRIES));
    assert_eq!(fs::metadata(&note).expect("made again").len() as usize, crate::note::NOTE_BYTES);
    // And it does its work again.
    fs::remove_file(node.segment(3)).expect("the segment");
    assert!(node.open().expect("repaired").repair.is_some());
}

#[test]
fn a_lost_tail_is_repaired_and_not_cut() {
    let node = Node::with_log();
    let opened = node.open().expect("sound");
    let (segment, offset) = opened.log.place_of(Index::new(ENTRIES)).expect("the entry");
    drop(opened.log);
    let file = OpenOptions::new().write(true).open(node.segment(segment.get())).expect("the segment");
    let rest = SEGMENT_BYTES as usize - offset;
    file.write_all_at(&vec![0; rest], offset as u64).expect("writable");
    let mut opened = node.open().expect("repaired");
    assert_eq!(check_prefix(&mut opened.log), ENTRIES - 1);
    let repair = opened.repair.expect("under repair");
    assert!(repair.damage.contains("end of the log missing") && !repair.hard_state_is_certain, "{repair:?}");
}

#[test]
fn another_log_and_another_version_are_never_repaired() {
    let node = Node::with_log();
    node.flip(2, 10_000);
    let options = LogOptions { identity: SegmentIdentity { node_id: 1, ..IDENTITY }, ..OPTIONS };
    let error = open_or_salvage(&node.log(), options).expect_err("another node's");
    assert!(matches!(error, RepairError::Log(OpenError::Identity { .. })), "{error}");
    let mut header = fs::read(node.segment(1)).expect("the segment")[..crate::segment::SEGMENT_HEADER_BYTES].to_vec();
    header[12] = 9;
    let crc = crate::checksum::crc32(&[&header[12..]]);
    header[8..12].copy_from_slice(&crc.to_le_bytes());
    let file = OpenOptions::new().write(true).open(node.segment(1)).expect("the segment");
    file.write_all_at(&header, 0).expect("writable");
    let error = node.open().expect_err("another version's");
    assert!(matches!(error, RepairError::Log(OpenError::Version { .. })), "{error}");
    assert_eq!(node.names(), ["wal"]);
}

/// Interrupts an opening before each of its steps and lets the next start finish it; returns the number of steps.
fn interrupt_everywhere(make: impl Fn() -> Node, check: impl Fn(&Node, Opened, &str)) -> usize {
    for number in 0.. {
        let node = make();
        match node.open_until(number) {
            Ok(opened) => {
                check(&node, opened, "not interrupted");
                return number;
            }
            Err(error) => assert!(error.to_string().contains("interrupted"), "{error}"),
        }
        // Whoever opens the data directory makes sure that the log's directory exists.
        fs::create_dir_all(node.log()).expect("writable");
        let context = format!("interrupted before step {number}");
        let opened = node.open().unwrap_or_else(|error| panic!("{context}: {error}"));
        check(&node, opened, &context);
    }
    unreachable!("some opening is the last")
}

/// Segment, offset, and whether the hard state stays certain: the header of a frame after the last origin.
const UNCERTAIN: (u64, u64, bool) = (3, 4096 + 88 + 9, false);

#[test]
fn a_repair_that_is_interrupted_anywhere_is_finished_or_redone() {
    for (segment, offset, is_certain) in [(2, 10_000, true), UNCERTAIN] {
        let steps = interrupt_everywhere(
            || {
                let node = Node::with_log();
                node.flip(segment, offset);
                node
            },
            |node, mut opened, context| {
                let last = check_prefix(&mut opened.log);
                assert!(last > 0 && last < ENTRIES, "{context}");
                assert_eq!(opened.log.hard_state(), HARD_STATE, "{context}");
                let repair = opened.repair.unwrap_or_else(|| panic!("{context}"));
                assert_eq!(repair.hard_state_is_certain, is_certain, "{context}");
                assert!(repair.damage.contains(&seq(segment).file_name()), "{context}: {repair:?}");
                assert_eq!(node.names(), ["wal", "wal.damaged"], "{context}");
            },
        );
        assert!(steps > 8, "{steps}");
    }
}

#[test]
fn damage_under_repair_keeps_the_first_damaged_log_and_the_lesser_certainty() {
    // Damage that leaves the hard state certain, and damage that does not, in either order.
    const CERTAIN: (u64, u64, bool) = (2, 10_000, true);
    for (first, second) in [(CERTAIN, CERTAIN), (CERTAIN, UNCERTAIN), (UNCERTAIN, CERTAIN)] {
        let is_certain = first.2 && second.2;
        repair_twice(
            // Once is enough to see that it can be interrupted.
            second == UNCERTAIN,
            || {
                let node = Node::with_log();
                node.flip(first.0, first.1);
                let opened = node.open().expect("repaired");
                assert!(opened.report.last.index.get() > 10);
                drop(opened);
                // The hard state is the last frame but the mark; the damage lies before it, or hides it.
                let (segment, offset) = if second == CERTAIN { (1, 10_000) } else { hard_state_place(&node) };
                node.flip(segment, offset);
                node
            },
            |node, mut opened, context| {
                check_prefix(&mut opened.log);
                let repair = opened.repair.unwrap_or_else(|| panic!("{context}"));
                assert_eq!(repair.hard_state_is_certain, is_certain, "{context}");
                assert!(
                    repair.damage.contains(&seq(first.0).file_name()) && repair.damage.contains(LATER),
                    "{repair:?}"
                );
                assert_eq!(node.names(), ["wal", "wal.damaged"], "{context}");
                assert_eq!(contents(&node.beside(".damaged")).len(), 5, "{context}: the first one");
                assert!(!contents(&node.beside(".damaged").join(REPLACED_DIR)).is_empty(), "{context}");
                assert!(opened.log.hard_state() == HARD_STATE || !is_certain, "{context}");
            },
        );
    }
}

/// As [`interrupt_everywhere`], or without interrupting anything.
fn repair_twice(interrupted: bool, make: impl Fn() -> Node, check: impl Fn(&Node, Opened, &str)) {
    if interrupted {
        interrupt_everywhere(make, check);
    } else {
        let node = make();
        let opened = node.open().expect("repaired again");
        check(&node, opened, "not interrupted");
    }
}

/// A byte in the header of the hard state's frame.
fn hard_state_place(node: &Node) -> (u64, u64) {
    let files = crate::verify::LogFiles::open(&node.log()).expect("a log");
    let found = files.walk().find_map(|found| match found {
        crate::verify::Found::Frame(frame) if frame.header.entry().kind() == crate::EntryKind::HARD_STATE => {
            Some((frame.segment.get(), frame.offset as u64 + 5))
        }
        _ => None,
    });
    found.expect("a hard state")
}

#[test]
fn names_beside_the_log_do_not_depend_on_how_it_is_written() {
    let places = Places::of(Path::new("data/shards/wal/"));
    assert_eq!((places.log, places.parent), (PathBuf::from("data/shards/wal"), PathBuf::from("data/shards")));
    assert_eq!(places.damaged, PathBuf::from("data/shards/wal.damaged"));
    assert_eq!(Places::of(Path::new("wal")).parent, PathBuf::from("."));
}
