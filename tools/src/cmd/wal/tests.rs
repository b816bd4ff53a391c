//! Real logs on disk: sound, torn, and damaged in each of the ways a disk or a person damages them.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use wal::device::LogDevice;
use wal::types::{EntryId, Index, Term};
use wal::{EntryHeader, FileDevice, Log, LogOptions, SegmentIdentity, SegmentSeq, Storage};

use super::*;
use engine::log_store::KIND_COMMANDS;

const SEGMENT_BYTES: u64 = 64 << 10;
const IDENTITY: SegmentIdentity = SegmentIdentity { cluster_id: 1, node_id: 0xab, shard: 0, shard_count: 1 };
const FIRST_SEGMENT: &str = "0000000000000001.wal";
/// Where the first entry's frame begins, after the segment's origin. Unit: bytes.
const FIRST_ENTRY: u64 = 4096 + 96;

/// A data directory whose only log holds 20 entries of 1,000 bytes, all synced but the last.
fn data_dir() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = root.path().join("shards/0000/wal");
    fs::create_dir_all(&dir).expect("created");
    let mut storage = FileDevice::open(&dir).expect("opened");
    storage.install(storage.preparing(SegmentSeq::FIRST, IDENTITY, SEGMENT_BYTES)().expect("prepared"));
    let options = LogOptions {
        identity: IDENTITY,
        segment_bytes: SEGMENT_BYTES,
        state: EntryId::ZERO,
        state_lineage: wal::Lineage::START,
    };
    let (mut log, _) = Log::open(storage, options).expect("a new log");
    for index in 1..=20u8 {
        let id = EntryId::new(Term::new(1), Index::new(index.into()));
        let payload = [index; 1000];
        log.append_entry(&EntryHeader::new(id, KIND_COMMANDS, &payload), &payload).expect("appended");
        if index < 20 {
            let request = log.next_sync().expect("something to sync");
            let result = log.storage().sync_blocking(&request);
            log.on_synced(request.id, result);
        }
    }
    root
}

fn run_on(dir: &Path, command: fn(LogArgs) -> WalCommand, form: WriteOut) -> (bool, String) {
    let mut out = Vec::new();
    let command = command(LogArgs { dir: dir.to_owned() });
    let sound = run(&command, &mut Printer::new(form, &mut out)).expect("a log");
    (sound, String::from_utf8(out).expect("text"))
}

fn change(root: &Path, change: impl FnOnce(&fs::File)) {
    let path = root.join("shards/0000/wal").join(FIRST_SEGMENT);
    change(&OpenOptions::new().read(true).write(true).open(path).expect("the first segment"));
}

fn flip(file: &fs::File, offset: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("read");
    file.write_all_at(&[byte[0] ^ 0x10], offset).expect("written");
}

#[test]
fn a_sound_log_is_accepted_by_all_its_names() {
    let root = data_dir();
    for inner in ["", "shards/0000", "shards/0000/wal"] {
        let (sound, text) = run_on(&root.path().join(inner), WalCommand::Verify, WriteOut::Simple);
        assert!(sound, "{text}");
        assert!(text.contains(": sound: cluster 0000000000000001, node 00000000000000ab, shard 0 of 1, "), "{text}");
        assert!(text.contains("20 entries, last entry: index 20 of term 1"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    let (_, json) = run_on(root.path(), WalCommand::Verify, WriteOut::Json);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json[0]["sound"], &json[0]["last_index"]), (&true.into(), &20.into()));
    assert_eq!(json[0]["tail"]["state"], "clean");
}

#[test]
fn damage_is_named_by_segment_offset_and_kind() {
    type Damage = fn(&fs::File);
    let damages: [(&str, &str, Damage); 4] = [
        ("a flipped bit in the middle", "payload", |file| flip(file, FIRST_ENTRY + 5 * 1048 + 500)),
        ("a flipped bit of a frame's header", "frame-header", |file| flip(file, FIRST_ENTRY + 5 * 1048 + 20)),
        ("a zeroed page", "zeroed-page", |file| file.write_all_at(&[0; 4096], 8192).expect("written")),
        ("a truncated file", "truncated", |file| file.set_len(10_000).expect("truncated")),
    ];
    for (what, kind, damage) in damages {
        let root = data_dir();
        change(root.path(), damage);
        let (sound, text) = run_on(root.path(), WalCommand::Verify, WriteOut::Simple);
        assert!(!sound, "{what}: {text}");
        assert!(text.contains("damage: log segment ") && text.contains("offset "), "{what}: {text}");
        let (_, json) = run_on(root.path(), WalCommand::Verify, WriteOut::Json);
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let kinds: Vec<&str> = json[0]["damages"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|damage| damage["kind"].as_str())
            .collect();
        assert!(kinds.contains(&kind), "{what}: {json}");
        assert!(json[0]["damages"][0]["segment"].as_str().expect("a name").contains(FIRST_SEGMENT), "{what}: {json}");
    }
}

#[test]
fn a_torn_tail_is_named_and_no_damage() {
    let root = data_dir();
    change(root.path(), |file| flip(file, FIRST_ENTRY + 19 * 1048 + 500));
    let (sound, text) = run_on(root.path(), WalCommand::Verify, WriteOut::Simple);
    assert!(sound, "{text}");
    assert!(
        text.contains("torn tail, would be cut at the next start: segment 0000000000000001.wal, offset "),
        "{text}"
    );
    let (_, json) = run_on(root.path(), WalCommand::Verify, WriteOut::Json);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json[0]["tail"]["state"], &json[0]["last_index"]), (&"torn".into(), &19.into()));
}

#[test]
fn dump_prints_every_frame_in_order() {
    let root = data_dir();
    let (sound, text) = run_on(root.path(), WalCommand::Dump, WriteOut::Simple);
    assert!(sound, "{text}");
    assert_eq!(text.lines().filter(|line| line.contains(" commands ")).count(), 20, "{text}");
    assert!(text.ends_with("clean end\n"), "{text}");
    let (_, json) = run_on(root.path(), WalCommand::Dump, WriteOut::Json);
    assert_eq!((json.lines().count(), json.ends_with("]\n")), (1, true), "{json}");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let found = json.as_array().expect("a list");
    let origin = &found[0]["frame"];
    assert_eq!(
        (&origin["kind"], &origin["offset"], &origin["base_index"]),
        (&"origin".into(), &4096.into(), &0.into())
    );
    assert_eq!((&found[1]["frame"]["index"], &found[1]["frame"]["offset"]), (&1.into(), &FIRST_ENTRY.into()));
    assert!(
        text.contains(" origin ") && text.contains("; behind entry index 0 of term 0, hard state: term 0"),
        "{text}"
    );
    assert_eq!(found.last().expect("an end")["tail"]["state"], "clean");
}

#[test]
fn a_dump_that_cannot_be_whole_prints_no_half_of_its_json() {
    let root = data_dir();
    fs::create_dir_all(root.path().join("shards/0001/wal")).expect("created");
    let mut out = Vec::new();
    let command = WalCommand::Dump(LogArgs { dir: root.path().to_owned() });
    let error = run(&command, &mut Printer::new(WriteOut::Json, &mut out)).expect_err("the second log has no segments");
    assert!(error.to_string().contains("shards/0001/wal"), "{error}");
    assert_eq!(String::from_utf8_lossy(&out), "");
}

#[test]
fn directories_without_a_log_are_named() {
    let root = tempfile::tempdir().expect("temporary directory");
    let error = |dir: &Path| log_dirs(dir).expect_err("no log").to_string();
    assert!(error(root.path()).contains("is neither a node's data directory"));
    assert!(error(&root.path().join("none")).starts_with("cannot list "));
    fs::create_dir(root.path().join("shards")).expect("created");
    assert!(error(root.path()).contains("is neither a node's data directory"));
}
