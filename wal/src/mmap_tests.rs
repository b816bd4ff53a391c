//! The log on real files: prepared, mapped, synced, reopened, and looked at by the offline checker.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use tempfile::TempDir;

use crate::device::{LogDevice, PrepareError};
use crate::format::EntryHeader;
use crate::mapped::NoteFile;
use crate::mmap::FileDevice;
use crate::prepare::prepare_segment;
use crate::test_support::{IDENTITY, KIND, id, payload, prepare_files, seq};
use crate::types::{EntryId, HardStateRecord, Index, Term};
use crate::verify::{Found, VerifyError, verify};
use crate::{DamageKind, Log, LogOptions, OpenError, SegmentIdentity, Storage, Tail};

const SEGMENT_BYTES: u64 = 64 << 10;
const OPTIONS: LogOptions = LogOptions {
    identity: IDENTITY,
    segment_bytes: SEGMENT_BYTES,
    state: EntryId::ZERO,
    state_lineage: crate::Lineage::START,
};

fn open(dir: &Path) -> Result<(Log<FileDevice>, crate::RecoveryReport), OpenError> {
    Log::open(FileDevice::open(dir).expect("a directory"), OPTIONS)
}

fn sync_all(log: &mut Log<FileDevice>) {
    while let Some(request) = log.next_sync() {
        let result = log.storage().sync_blocking(&request);
        log.on_synced(request.id, result);
    }
    assert_eq!((log.latched(), log.durable_lsn()), (None, log.end_lsn()));
}

fn append_many(log: &mut Log<FileDevice>, indexes: std::ops::RangeInclusive<u64>, bytes: usize) {
    for index in indexes {
        prepare_files(log, SEGMENT_BYTES);
        let payload = payload(1, index, bytes);
        log.append_entry(&EntryHeader::new(id(1, index), KIND, &payload), &payload).expect("room");
    }
}

/// A directory with a log of 40 durable entries in three segments, a hard state, and a mark.
fn a_log() -> TempDir {
    let dir = TempDir::new().expect("a directory");
    let (mut log, report) = open(dir.path()).expect("an empty log");
    assert_eq!(report.segments_count, 0);
    prepare_files(&mut log, SEGMENT_BYTES);
    log.append_hard_state(HardStateRecord { term: Term::new(1), vote: 22 }).expect("room");
    append_many(&mut log, 1..=40, 4000);
    sync_all(&mut log);
    prepare_files(&mut log, SEGMENT_BYTES);
    log.append_mark().expect("room");
    sync_all(&mut log);
    dir
}

fn path_of(dir: &TempDir, segment: u64) -> std::path::PathBuf {
    dir.path().join(seq(segment).file_name())
}

fn change(dir: &TempDir, segment: u64, offset: u64, change: impl Fn(&mut u8), count: usize) {
    let file = OpenOptions::new().read(true).write(true).open(path_of(dir, segment)).expect("the segment");
    let mut bytes = vec![0; count];
    file.read_exact_at(&mut bytes, offset).expect("in the file");
    bytes.iter_mut().for_each(change);
    file.write_all_at(&bytes, offset).expect("writable");
}

#[test]
fn a_log_in_files_reopens_and_goes_on() {
    let dir = a_log();
    for round in 0..3 {
        let (mut log, report) = open(dir.path()).expect("sound");
        let last = 40 + round * 10;
        assert_eq!((report.last, report.tail), (id(1, last), Tail::Clean));
        assert_eq!(log.hard_state(), HardStateRecord { term: Term::new(1), vote: 22 });
        assert_eq!(log.persisted_index(), Index::new(last));
        for index in 1..=last {
            let entry = log.entry(Index::new(index)).expect("readable").expect("present");
            assert_eq!((entry.payload(), entry.verify()), (&payload(1, index, 4000)[..], Ok(())));
        }
        append_many(&mut log, last + 1..=last + 10, 4000);
        sync_all(&mut log);
    }
    let report = verify(dir.path()).expect("a log");
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.last, report.identity, report.tail), (id(1, 70), Some(IDENTITY), Some(Tail::Clean)));
}

#[test]
fn what_was_stored_without_a_sync_is_there_if_only_the_process_ended() {
    let dir = a_log();
    let (mut log, _) = open(dir.path()).expect("sound");
    append_many(&mut log, 41..=45, 100);
    log.begin_batch(id(1, 46), KIND, 0).expect("room");
    log.batch_push(&[b"half a batch"]).expect("room");
    drop(log);
    let report = verify(dir.path()).expect("a log");
    assert!(report.is_sound(), "{report:?}");
    let Some(Tail::Torn(torn)) = report.tail else { panic!("{report:?}") };
    let (log, recovered) = open(dir.path()).expect("sound");
    assert_eq!((recovered.last, recovered.tail), (id(1, 45), Tail::Torn(torn)));
    assert_eq!(log.persisted_index(), Index::new(45));
    drop(log);
    assert_eq!(verify(dir.path()).expect("a log").tail, Some(Tail::Clean), "the remains are gone");
}

#[test]
fn a_batch_is_formed_in_the_mapping() {
    let dir = TempDir::new().expect("a directory");
    let (mut log, _) = open(dir.path()).expect("an empty log");
    prepare_files(&mut log, SEGMENT_BYTES);
    log.begin_batch(id(1, 1), KIND, 100).expect("room");
    for part in 0..50 {
        log.batch_push(&[&[part; 4], &[part; 256]]).expect("room");
    }
    log.finish_batch().expect("a batch");
    sync_all(&mut log);
    drop(log);
    let (log, _) = open(dir.path()).expect("sound");
    let entry = log.entry(Index::new(1)).expect("readable").expect("present");
    assert_eq!((entry.payload().len(), entry.verify()), (50 * 260, Ok(())));
}

#[test]
fn another_nodes_directory_is_refused_unchanged() {
    let dir = a_log();
    let before = fs::read(path_of(&dir, 3)).expect("the segment");
    let options = LogOptions { identity: SegmentIdentity { node_id: 1, ..IDENTITY }, ..OPTIONS };
    let error = Log::open(FileDevice::open(dir.path()).expect("a directory"), options).map(|_| ());
    let error = error.expect_err("another node's log");
    assert!(matches!(error, OpenError::Identity { .. }), "{error}");
    assert!(error.to_string().contains("node id"), "{error}");
    assert_eq!(fs::read(path_of(&dir, 3)).expect("the segment"), before);
}

#[test]
fn verify_and_open_name_the_same_damage() {
    type Case = (&'static str, fn(&TempDir), u64, fn(DamageKind) -> bool);
    let cases: [Case; 6] = [
        (
            "a bit in a payload",
            |dir| change(dir, 2, 10_000, |byte| *byte ^= 4, 1),
            2,
            |kind| matches!(kind, DamageKind::Payload(_)),
        ),
        (
            "a bit in a frame header",
            |dir| change(dir, 1, 4096 + 88 + 56 + 9, |byte| *byte ^= 1, 1),
            1,
            |kind| kind == DamageKind::FrameHeader,
        ),
        (
            "a page of zeros",
            |dir| change(dir, 1, 20480, |byte| *byte = 0, 4096),
            1,
            |kind| kind == DamageKind::ZeroedPage { page_offset: 20480 },
        ),
        (
            "a file cut off",
            |dir| truncate(dir, 2, 30_000),
            2,
            |kind| kind == DamageKind::Truncated { got_bytes: 30_000, expected_bytes: SEGMENT_BYTES as usize },
        ),
        ("an empty file", |dir| truncate(dir, 1, 0), 1, |kind| matches!(kind, DamageKind::Truncated { .. })),
        (
            "a bad segment header",
            |dir| change(dir, 2, 40, |byte| *byte ^= 1, 1),
            2,
            |kind| matches!(kind, DamageKind::SegmentHeader(_)),
        ),
    ];
    for (name, damage, segment, is_kind) in cases {
        let dir = a_log();
        damage(&dir);
        let report = verify(dir.path()).expect("a log");
        assert!(!report.is_sound(), "{name}");
        let first = report.damages[0];
        assert!(first.segment == seq(segment) && is_kind(first.kind), "{name}: {first}");
        let error = open(dir.path()).map(|_| ()).expect_err(name);
        let corruption = error.corruption().unwrap_or_else(|| panic!("{name}: {error}"));
        assert_eq!(corruption.damages, report.damages, "{name}");
        assert!(error.to_string().contains(&seq(segment).file_name()), "{name}: {error}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let dir = a_log();
    fs::remove_file(path_of(&dir, 2)).expect("the segment");
    let report = verify(dir.path()).expect("a log");
    assert_eq!((report.damages[0].segment, report.damages_count), (seq(2), 1));
    assert!(report.damages[0].to_string().contains("segment missing"), "{}", report.damages[0]);
    assert!(open(dir.path()).is_err());
}

#[test]
fn a_torn_tail_is_no_damage_and_is_described() {
    let dir = a_log();
    let (mut log, _) = open(dir.path()).expect("sound");
    append_many(&mut log, 41..=41, 5000);
    let (segment, offset) = log.place_of(Index::new(41)).expect("the entry");
    drop(log);
    change(&dir, segment.get(), offset as u64 + 2048, |byte| *byte = 0, 1024);
    let report = verify(dir.path()).expect("a log");
    assert!(report.is_sound(), "{report:?}");
    let Some(Tail::Torn(torn)) = report.tail else { panic!("{report:?}") };
    assert_eq!((torn.segment, torn.offset, torn.last_entry), (segment, offset, Some(id(1, 41))));
    let (log, _) = open(dir.path()).expect("cut");
    assert_eq!(log.last_id(), id(1, 40));
}

#[test]
fn leftovers_of_a_preparation_are_removed_and_strangers_kept() {
    let dir = a_log();
    let leftover = dir.path().join("0000000000000099.wal.preparing");
    fs::write(&leftover, b"half").expect("writable");
    let stranger = dir.path().join("notes.txt");
    fs::write(&stranger, b"mine").expect("writable");
    open(dir.path()).expect("sound");
    assert!(!leftover.exists() && stranger.exists());
}

#[test]
fn a_segment_is_prepared_once_and_in_full() {
    let dir = TempDir::new().expect("a directory");
    let prepared = prepare_segment(dir.path(), seq(1), IDENTITY, SEGMENT_BYTES, None).expect("space");
    assert_eq!(prepared.seq(), seq(1));
    let bytes = fs::read(path_of(&dir, 1)).expect("the segment");
    assert_eq!(bytes.len() as u64, SEGMENT_BYTES);
    assert!(bytes[128..].iter().all(|byte| *byte == 0));
    let again = prepare_segment(dir.path(), seq(1), IDENTITY, SEGMENT_BYTES, None).expect_err("it is there");
    assert!(matches!(again, PrepareError::Exists { .. }), "{again}");
    let mut names: Vec<_> =
        fs::read_dir(dir.path()).expect("a directory").map(|entry| entry.expect("a file").file_name()).collect();
    names.sort_unstable();
    assert_eq!(names, ["0000000000000001.wal", "durable"], "nothing is left behind");
    let nonce = |segment| crate::segment::SegmentHeader::parse(&fs::read(path_of(&dir, segment)).expect("a file"));
    prepare_segment(dir.path(), seq(2), IDENTITY, SEGMENT_BYTES, Some(crate::LogNonce::new(1))).expect("space");
    assert_ne!(nonce(1).expect("a header").nonce, nonce(2).expect("a header").nonce);
}

#[test]
fn a_segment_without_space_is_an_error_with_numbers() {
    let dir = TempDir::new().expect("a directory");
    let bytes = 1 << 30;
    let free = rustix::fs::statvfs(dir.path()).expect("a file system");
    if free.f_bavail * free.f_frsize > bytes {
        let error = PrepareError::NoSpace { path: dir.path().into(), needed_bytes: 2, available_bytes: 1 };
        assert!(error.to_string().contains("2 bytes needed, 1 available"), "{error}");
        return;
    }
    let error = prepare_segment(dir.path(), seq(1), IDENTITY, bytes, None).expect_err("no space");
    assert!(matches!(error, PrepareError::NoSpace { .. }), "{error}");
}

#[test]
fn directories_that_cannot_be_used_say_why() {
    let dir = TempDir::new().expect("a directory");
    let missing = FileDevice::open(&dir.path().join("none")).map(|_| ()).expect_err("no directory");
    assert!(missing.to_string().contains("create the data directory"), "{missing}");
    let file = dir.path().join("file");
    File::create(&file).expect("writable");
    let not_a_directory = FileDevice::open(&file).map(|_| ()).expect_err("a file");
    assert!(not_a_directory.to_string().contains("file"), "{not_a_directory}");
    assert!(matches!(verify(dir.path()), Err(VerifyError::NoSegments { .. })));
    assert!(matches!(verify(&file), Err(VerifyError::Io(_))));
}

#[test]
fn the_walk_shows_every_frame() {
    let dir = a_log();
    let files = crate::verify::LogFiles::open(dir.path()).expect("a log");
    let (mut entries, mut local, mut tails) = (Vec::new(), 0, 0);
    for found in files.walk() {
        match found {
            Found::Frame(frame) => match frame.entry_id() {
                Some(id) => entries.push(id.index.get()),
                None => local += 1,
            },
            Found::Damage(damage) => panic!("{damage}"),
            Found::Tail(_) => tails += 1,
        }
    }
    assert_eq!((entries, tails), ((1..=40).collect(), 1));
    assert!(local >= 2, "a hard state and a mark");
    assert!(files.segments().all(|(_, bytes)| bytes as u64 == SEGMENT_BYTES));
}

#[test]
fn syncs_go_to_the_file_that_is_mapped_wherever_its_path_leads() {
    let dir = a_log();
    let storage = FileDevice::open(dir.path()).expect("a directory");
    let mapped = File::open(path_of(&dir, 3)).expect("the segment").metadata().expect("a file").ino();
    fs::rename(path_of(&dir, 3), dir.path().join("elsewhere")).expect("renamed");
    fs::write(path_of(&dir, 3), b"another file").expect("writable");
    let synced = storage.sync_file(seq(3)).expect("the segment").metadata().expect("a file").ino();
    assert_eq!(synced, mapped);
    assert!(storage.place().check().is_err(), "and it is noticed");
    assert!(storage.sync_file(seq(99)).is_none());
    assert!(storage.contains(seq(3)) && storage.bytes(seq(99)).is_empty());
}

fn truncate(dir: &TempDir, segment: u64, bytes: u64) {
    let file = OpenOptions::new().write(true).open(path_of(dir, segment)).expect("the segment");
    file.set_len(bytes).expect("writable");
}

#[test]
fn a_log_that_was_copied_with_holes_gets_blocks_where_it_will_be_written() {
    let dir = a_log();
    let copy = TempDir::new().expect("a directory");
    for segment in 1..=5 {
        let to = path_of(&copy, segment);
        let paths = [path_of(&dir, segment), to];
        let args = [OsStr::new("--sparse=always"), paths[0].as_os_str(), paths[1].as_os_str()];
        assert!(std::process::Command::new("cp").args(args).status().expect("cp runs").success());
    }
    let parts_of = |segment| {
        let file = File::open(path_of(&copy, segment)).expect("the segment");
        let parts = crate::cache::parts_without_space(&file, 4096..SEGMENT_BYTES).expect("known");
        parts.iter().map(|part| (part.start, part.end)).collect::<Vec<_>>()
    };
    assert_eq!(parts_of(5), [(4096, SEGMENT_BYTES)], "the file system keeps holes");
    let (mut log, report) = open(copy.path()).expect("sound");
    assert_eq!(report.last, id(1, 40));
    let (last, _) = log.writing_end();
    for segment in last.get()..=5 {
        assert_eq!(parts_of(segment), [], "segment {segment}");
    }
    append_many(&mut log, 41..=60, 4000);
    sync_all(&mut log);
}

#[test]
fn opening_writes_to_no_segment_that_is_as_it_should_be() {
    let dir = a_log();
    let times = || -> Vec<_> {
        let changed = |segment| path_of(&dir, segment).metadata().expect("the segment").modified().expect("a time");
        (1..=5).map(changed).collect()
    };
    let before = times();
    let (log, report) = open(dir.path()).expect("sound");
    assert_eq!((report.tail, report.segments_count), (Tail::Clean, 5));
    drop(log);
    assert_eq!(times(), before);
    // And where there are remains, they go.
    change(&dir, 5, 40_000, |byte| *byte = 9, 3);
    open(dir.path()).expect("sound");
    let bytes = fs::read(path_of(&dir, 5)).expect("the segment");
    assert!(bytes[4096..].iter().all(|byte| *byte == 0));
    assert_eq!(times()[..4], before[..4]);
}

#[test]
fn a_prepared_segment_that_rots_or_is_lost_is_made_anew() {
    let losses: [fn(&TempDir, u64); 3] = [
        |dir, segment| change(dir, segment, 40, |byte| *byte ^= 1, 1),
        |dir, segment| truncate(dir, segment, 0),
        |dir, segment| fs::remove_file(path_of(dir, segment)).expect("the segment"),
    ];
    for lose in losses {
        let dir = a_log();
        lose(&dir, 4);
        let report = verify(dir.path()).expect("a log");
        assert!(report.is_sound() && report.unused_from == Some(seq(4)), "{report:?}");
        let (mut log, report) = open(dir.path()).expect("it holds nothing");
        assert_eq!((report.last, report.unused_from, log.needs_segment()), (id(1, 40), Some(seq(4)), Some(seq(4))));
        append_many(&mut log, 41..=80, 4000);
        sync_all(&mut log);
        drop(log);
        assert_eq!(open(dir.path()).expect("sound").1.last, id(1, 80));
    }
}

#[test]
fn the_parts_of_entries_lie_where_the_entries_do_across_segments() {
    let dir = a_log();
    let (log, _) = open(dir.path()).expect("a log");
    let (first, last) = (Index::new(3), Index::new(38));
    let parts = log.parts_of(first, last);
    assert_eq!(parts.len(), 3, "{parts:?}");
    assert_eq!(log.place_of(first), Some((parts[0].0, parts[0].1.start)));
    let (seq, start) = log.place_of(last).expect("it is there");
    let entry = log.entry(last).expect("readable").expect("it is there");
    assert_eq!(seq, parts[2].0);
    assert!(parts[2].1.end >= start + entry.bytes().len() && parts[2].1.start == 0, "{parts:?}");
    assert!(log.parts_of(first, Index::new(41)).is_empty());
    let reading = log.storage().reading_in(parts).expect("descriptors");
    std::thread::spawn(reading).join().expect("no panic").expect("readable");
    assert!(log.is_resident(first, last));
}

/// A log of several segments whose first ones were dropped, with the files still there; and its state.
fn with_dropped_segments(dir: &TempDir) -> (Log<FileDevice>, LogOptions) {
    let (mut log, _) = open(dir.path()).expect("an empty log");
    append_many(&mut log, 1..=40, 5000);
    sync_all(&mut log);
    let first = log.drop_before(Index::new(25)).expect("whole segments");
    assert!(first > seq(2) && !log.storage().contains(seq(1)) && path_of(dir, 1).exists());
    let state = EntryId::new(log.term(Index::new(25)).expect("held"), Index::new(25));
    (log, LogOptions { state, ..OPTIONS })
}

#[test]
fn the_removal_of_dropped_segments_learns_of_a_failure_that_another_sync_of_the_note_learned_of_before() {
    use std::io::{Seek, SeekFrom};
    let dir = TempDir::new().expect("a directory");
    let note = NoteFile::open(dir.path()).expect("a note");
    // The system reports a failure once for each open file, and the place to read at is each open file's own, too.
    (&*note.file).seek(SeekFrom::Start(7)).expect("a place");
    assert_eq!((&*note.file_for_removal).stream_position().expect("a place"), 0, "it is opened once, not twice");
    let inode = |file: &File| file.metadata().expect("a file").ino();
    assert_eq!(inode(&note.file), inode(&note.file_for_removal));
}

#[test]
fn the_files_of_dropped_segments_are_removed_by_a_helper_or_at_the_next_start() {
    for (number, is_removed) in [(0, true), (1, false)] {
        let dir = TempDir::new().expect("a directory");
        let (mut log, options) = with_dropped_segments(&dir);
        let (base, first) = (log.base(), log.storage().segments()[0]);
        if is_removed {
            log.storage_mut().removing_dropped().expect("files to remove")().expect("removed");
            assert!(!path_of(&dir, 1).exists() && log.storage_mut().removing_dropped().is_none());
            log.storage().place().check().expect("what is left is in its place");
            append_many(&mut log, 41..=60, 5000);
            sync_all(&mut log);
        }
        drop(log);
        let report = verify(dir.path()).expect("a log");
        assert!(report.is_sound(), "{number}");
        assert_eq!((report.base, report.dropped_count == 0), (base, is_removed));
        let storage = FileDevice::open(dir.path()).expect("files");
        let (log, report) = Log::open(storage, options).expect("sound");
        assert_eq!((report.base, log.storage().segments()[0]), (base, first));
        assert!((1..first.get()).all(|segment| !path_of(&dir, segment).exists()), "all of them are gone");
    }
}

#[test]
fn a_log_on_files_is_begun_anew_behind_an_entry() {
    let dir = TempDir::new().expect("a directory");
    let base = EntryId::new(Term::new(1), Index::new(500));
    let options = LogOptions { state: base, ..OPTIONS };
    let origin =
        crate::Origin { base, hard_state: HardStateRecord { term: Term::new(2), vote: 3 }, ..Default::default() };
    let storage = FileDevice::open(dir.path()).expect("an empty directory");
    let mut log = Log::begin(storage, options, origin.clone()).expect("nothing is there");
    append_many(&mut log, 501..=510, 5000);
    sync_all(&mut log);
    drop(log);
    let storage = FileDevice::open(dir.path()).expect("files");
    let (log, report) = Log::open(storage, options).expect("sound");
    assert_eq!((report.base, report.last.index, log.hard_state()), (base, Index::new(510), origin.hard_state));
    // Without the state that it goes on from it is of no use.
    drop(log);
    let error = open(dir.path()).map(|_| ()).expect_err("entries are missing");
    assert!(error.to_string().contains("entries missing"), "{error}");
}

#[test]
fn a_sealed_segment_keeps_no_descriptor_and_is_still_read_and_told_apart() {
    let dir = a_log();
    let (log, _) = open(dir.path()).expect("a log");
    let last = log.storage().segments().len() as u64;
    let (active, sealed) = (log.place_of(Index::new(40)).expect("it is there").0, seq(1));
    assert!(log.storage().sync_file(active).is_some() && active.get() > 1);
    for number in 1..=last {
        let is_open = log.storage().sync_file(seq(number)).is_some();
        assert_eq!(is_open, seq(number) >= active, "segment {number}");
    }
    let read = |log: &Log<FileDevice>| {
        let reading = log.storage().reading_in(vec![(sealed, 0..4096)]).expect("descriptors");
        std::thread::spawn(reading).join().expect("no panic")
    };
    read(&log).expect("the file is in its place");
    log.storage().place().check().expect("everything is in its place");
    // Another file in its place is noticed, and is not read for it.
    let path = dir.path().join(sealed.file_name());
    fs::copy(&path, path.with_extension("copy")).expect("copied");
    fs::rename(path.with_extension("copy"), &path).expect("renamed");
    assert!(log.storage().place().check().is_err());
    let error = read(&log).expect_err("it is another file").to_string();
    assert!(error.contains("expected inode"), "{error}");
}

#[test]
fn a_segment_is_sealed_once_durability_has_passed_it() {
    let dir = a_log();
    let (mut log, _) = open(dir.path()).expect("a log");
    let before = log.place_of(Index::new(40)).expect("it is there").0;
    append_many(&mut log, 41..=80, 4000);
    let after = log.place_of(Index::new(80)).expect("it is there").0;
    assert!(after > before);
    assert!(log.storage().sync_file(before).is_some(), "it is not durable yet");
    sync_all(&mut log);
    assert!(log.storage().sync_file(before).is_none());
    assert!(log.storage().sync_file(after).is_some());
}
