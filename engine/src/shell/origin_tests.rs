//! One test for each row of the table in `opening`, on real files.

use std::path::Path;

use wal::limits::FIRST_FRAME_OFFSET;
use wal::note::NOTE_FILE_NAME;
use wal::{EntryHeader, Log, SegmentIdentity};

use super::*;
use crate::log_store::KIND_NOOP;
use crate::types::{EntryId, Index, Term};

const SEGMENT_BYTES: u64 = 64 << 10;
const IDENTITY: SegmentIdentity = SegmentIdentity { cluster_id: 1, node_id: 2, shard: 0, shard_count: 1 };

struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { root: tempfile::tempdir().expect("a temporary directory") };
        fs::create_dir(place.wal_dir()).expect("a directory");
        place
    }

    /// With a record and a log.
    fn with(stage: Stage) -> Self {
        let place = Self::new();
        place.found(false).settle().expect("a first start");
        birth_file::write(&place.wal_dir(), &BirthRecord { incarnation: 7, stage }).expect("written");
        place
    }

    fn wal_dir(&self) -> PathBuf {
        self.root.path().join("wal")
    }

    fn found(&self, is_ready: bool) -> FoundHere {
        FoundHere { wal_dir: self.wal_dir(), is_ready, joins_existing: false, founds_alone: false }
    }

    fn segment(&self) -> PathBuf {
        segment_of(&self.wal_dir()).expect("a segment")
    }

    fn remove_log(&self) {
        fs::remove_dir_all(self.wal_dir()).expect("removed");
        fs::create_dir(self.wal_dir()).expect("a directory");
    }

    fn record(&self) -> Option<BirthRecord> {
        birth_file::read(&self.wal_dir()).expect("readable")
    }
}

struct FoundHere {
    wal_dir: PathBuf,
    is_ready: bool,
    joins_existing: bool,
    founds_alone: bool,
}

impl FoundHere {
    fn settle(&self) -> Result<BirthRecord, StartError> {
        let found = Found {
            shard: ShardId::new(0),
            wal_dir: &self.wal_dir,
            log: LogOptions {
                identity: IDENTITY,
                segment_bytes: SEGMENT_BYTES,
                state: EntryId::ZERO,
                state_lineage: wal::Lineage::START,
            },
            is_ready: self.is_ready,
            has_no_log: segment_of(&self.wal_dir).is_none(),
            founds_alone: self.founds_alone,
            joins_existing: self.joins_existing,
            incarnation: 7,
        };
        found.settle()
    }
}

fn segment_of(wal_dir: &Path) -> Option<PathBuf> {
    let paths = fs::read_dir(wal_dir).expect("listed").map(|entry| entry.expect("an entry").path());
    paths.into_iter().find(|path| path.extension().is_some_and(|end| end == "wal"))
}

fn new_record() -> BirthRecord {
    BirthRecord { incarnation: 7, stage: Stage::New }
}

fn assert_refused(result: Result<BirthRecord, StartError>, what: &str) {
    let text = result.expect_err("refused").to_string();
    assert!(text.contains(what), "{text}");
}

#[test]
fn a_first_start_makes_the_record_and_the_segment() {
    let place = Place::new();
    assert_eq!(place.found(false).settle().expect("a first start"), new_record());
    assert_eq!(place.record(), Some(new_record()));
    assert!(place.segment().exists());
}

#[test]
fn the_only_voter_is_born_at_once() {
    let place = Place::new();
    let born = FoundHere { founds_alone: true, ..place.found(false) }.settle().expect("a first start");
    assert_eq!(born.stage, Stage::Founded(std::collections::BTreeMap::new()));
    assert_eq!(place.record(), Some(born));
}

#[test]
fn a_node_of_an_existing_cluster_starts_under_repair() {
    let place = Place::new();
    let born = FoundHere { joins_existing: true, ..place.found(false) }.settle().expect("a first start");
    assert_eq!(born.stage, Stage::Replaced);
    assert_eq!(place.record(), Some(born));
    assert!(wal::repair::is_marked(&place.wal_dir()).expect("looked"));
}

#[test]
fn without_record_and_log_a_directory_in_use_is_refused() {
    assert_refused(Place::new().found(true).settle(), "the log is gone");
}

#[test]
fn a_log_without_its_record_is_refused() {
    for is_ready in [false, true] {
        let place = Place::with(Stage::Replaced);
        fs::remove_file(birth_file::birth_path(&place.wal_dir())).expect("removed");
        assert_refused(place.found(is_ready).settle(), "it is missing");
    }
}

#[test]
fn a_damaged_record_is_refused() {
    for has_log in [false, true] {
        let place = Place::with(Stage::New);
        fs::write(birth_file::birth_path(&place.wal_dir()), "rot").expect("written");
        if !has_log {
            place.remove_log();
        }
        assert_refused(place.found(false).settle(), "it is damaged");
    }
}

#[test]
fn a_new_node_without_its_segment_gets_one() {
    for is_ready in [false, true] {
        let place = Place::with(Stage::New);
        place.remove_log();
        assert_eq!(place.found(is_ready).settle().expect("nothing was promised"), new_record());
        assert!(place.segment().exists());
    }
}

#[test]
fn the_only_voter_gets_its_segment_after_an_interrupted_first_start_and_never_again() {
    let place = Place::with(Stage::Founded(std::collections::BTreeMap::new()));
    place.remove_log();
    assert_refused(place.found(true).settle(), "the log is gone");
    assert_eq!(Some(place.found(false).settle().expect("nothing was promised")), place.record());
    assert!(place.segment().exists());
}

#[test]
fn a_new_node_opens_its_empty_log() {
    let place = Place::with(Stage::New);
    let before = fs::read(place.segment()).expect("a segment");
    assert_eq!(place.found(true).settle().expect("nothing happened"), new_record());
    assert_eq!(fs::read(place.segment()).expect("a segment"), before);
}

#[test]
fn a_new_node_makes_a_damaged_log_anew() {
    let place = Place::with(Stage::New);
    let good = fs::read(place.segment()).expect("a segment");
    fs::write(place.segment(), &good[..100]).expect("cut");
    assert_eq!(place.found(true).settle().expect("nothing was promised"), new_record());
    assert_eq!(fs::read(place.segment()).expect("a segment").len(), good.len());
}

#[test]
fn a_mark_without_its_record_makes_a_replacement() {
    let place = Place::with(Stage::New);
    wal::repair::mark_as_lost(&place.wal_dir(), "all of it").expect("marked");
    assert_eq!(place.found(true).settle().expect("goes on").stage, Stage::Replaced);
    assert_eq!(place.record().expect("a record").stage, Stage::Replaced);
}

/// A record that says `new` beside a log with a durable entry.
fn an_old_record_beside_a_log_in_use() -> Place {
    let place = Place::with(Stage::New);
    let storage = Device::open(&place.wal_dir()).expect("the log's files");
    let options = LogOptions {
        identity: IDENTITY,
        segment_bytes: SEGMENT_BYTES,
        state: EntryId::ZERO,
        state_lineage: wal::Lineage::START,
    };
    let (mut log, _) = Log::open(storage, options).expect("a log");
    let header = EntryHeader::new(EntryId::new(Term::new(1), Index::new(1)), KIND_NOOP, &[]);
    log.append_entry(&header, &[]).expect("room");
    while let Some(request) = log.next_sync() {
        let result = log.storage_mut().sync_blocking(&request);
        log.on_synced(request.id, result);
    }
    place
}

#[test]
fn an_old_record_beside_a_log_in_use_is_refused() {
    let place = an_old_record_beside_a_log_in_use();
    assert_refused(place.found(true).settle(), "never took part");
}

#[test]
fn an_old_record_beside_a_damaged_log_in_use_is_refused_and_nothing_is_removed() {
    type Damage = fn(&Place);
    let remove_note = |place: &Place| fs::remove_file(place.wal_dir().join(NOTE_FILE_NAME)).expect("removed");
    let flip = |place: &Place, offset: usize| {
        let mut bytes = fs::read(place.segment()).expect("a segment");
        bytes[offset] ^= 1;
        fs::write(place.segment(), bytes).expect("written");
    };
    let damages: [(&str, Damage); 3] = [
        ("the frame and the header of its segment", |place| {
            let mut bytes = fs::read(place.segment()).expect("a segment");
            (bytes[40], bytes[FIRST_FRAME_OFFSET + 9]) = (bytes[40] ^ 1, bytes[FIRST_FRAME_OFFSET + 9] ^ 1);
            fs::write(place.segment(), bytes).expect("written");
        }),
        ("all of the segment's contents", |place| {
            let bytes = fs::read(place.segment()).expect("a segment");
            fs::write(place.segment(), vec![0; bytes.len()]).expect("written");
        }),
        ("the end of the file", |place| {
            let bytes = fs::read(place.segment()).expect("a segment");
            fs::write(place.segment(), &bytes[..100]).expect("cut");
        }),
    ];
    let listed = |place: &Place| {
        let paths = fs::read_dir(place.wal_dir()).expect("listed").map(|entry| entry.expect("an entry").path());
        let mut found: Vec<_> = paths.map(|path| (fs::read(&path).expect("a file"), path)).collect();
        found.sort();
        found
    };
    for (what, damage) in damages {
        let place = an_old_record_beside_a_log_in_use();
        damage(&place);
        let before = listed(&place);
        assert_refused(place.found(true).settle(), "something was written to its log");
        assert_eq!(listed(&place), before, "{what}");
    }
    // Without the note the log's own bytes tell.
    let place = an_old_record_beside_a_log_in_use();
    flip(&place, 40);
    remove_note(&place);
    assert_refused(place.found(true).settle(), "something was written to its log");
}

#[test]
fn a_born_node_without_its_log_is_refused() {
    for is_ready in [false, true] {
        let place = Place::with(Stage::Replaced);
        place.remove_log();
        assert_refused(place.found(is_ready).settle(), "the log is gone");
    }
}

#[test]
fn a_born_node_opens_its_log() {
    let place = Place::with(Stage::Founded(std::collections::BTreeMap::new()));
    let before = place.record();
    assert_eq!(Some(place.found(true).settle().expect("nothing happened")), before);
}
