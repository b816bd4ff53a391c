//! A shard of one voter on a real executor and real files, without sockets.

use std::path::Path;
use std::sync::Arc;

use glommio::LocalExecutor;

use super::super::gateway::{Gateway, Waiting};
use super::super::handle::HandleReply;
use super::super::mesh::Mesh;
use super::super::metrics::{NodeMetrics, SliceMetrics};
use super::super::node::{gateway_limits, open_shards};
use super::super::steps::Steps;
use super::*;
use crate::call::{Call, CallKind, Refusal};
use crate::config::Config;
use crate::raft::Stage;
use api::command::{self, Op};

/// Runs a shard over the data directory `root` until `test` is done with it.
fn with_shard(root: &Path, test: impl AsyncFn(Rc<Shard>, Rc<Gateway>)) {
    with_shards(root, 1, async |shards, gateway| test(Rc::clone(&shards[0]), gateway).await);
}

/// The same with so many shards.
fn with_shards(root: &Path, count: u32, test: impl AsyncFn(Vec<Rc<Shard>>, Rc<Gateway>)) {
    let config = Config { data_dir: Some(root.join("data")), segment_bytes: 1 << 20, ..Config::default() };
    let config = Config { max_request_bytes: 1 << 16, shards: count, ..config }.validate().expect("a single node");
    let (parts, _data_dir) = open_shards(&config, &NodeMetrics::new(count), &Steps::default()).expect("new logs");
    let board = StatusBoard::new(config.name(), config.node_id(), count);
    LocalExecutor::default().run(async {
        let classes = Classes::create(SliceMetrics::default());
        let shards: Vec<_> =
            parts.into_iter().map(|parts| Shard::new(parts, &board, &Helpers::default(), classes.clone())).collect();
        let by_number = shards.iter().cloned().map(Some).collect();
        let gateway =
            Gateway::new(0, gateway_limits(&config), by_number, Mesh::new(1, None), Arc::default(), Rc::new(|_| None));
        let replies: Rc<dyn Replies> = Rc::clone(&gateway) as _;
        for shard in &shards {
            shard.start(Rc::downgrade(&replies), BTreeMap::new());
            while !shard.view().is_leader {
                glommio::timer::sleep(Duration::from_millis(5)).await;
            }
        }
        test(shards.clone(), gateway).await;
        shards.iter().for_each(Shard::stop);
    });
}

async fn put(gateway: &Gateway, value: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut payload = Vec::new();
    command::encode_op_command(&Op::Put { key: b"key", value, lease: 0, prev_kv: false }, &mut payload).expect("small");
    let (reply, answer) = async_channel::bounded(1);
    let call = Call::borrowed(ShardId::new(0), CallKind::Write, 60_000, &payload);
    gateway.route(call, Waiting::Handle(HandleReply::to(reply)));
    answer.recv().await.expect("an answer")
}

#[test]
fn a_sync_that_ends_before_its_starter_goes_on_is_taken() {
    let root = tempfile::tempdir().expect("a directory");
    with_shard(root.path(), async |shard, gateway| {
        shard.syncs_at_once.set(true);
        for _ in 0..3 {
            put(&gateway, b"value").await.expect("acknowledged");
        }
    });
}

#[test]
fn a_log_that_is_not_in_its_place_acknowledges_nothing_more() {
    let root = tempfile::tempdir().expect("a directory");
    with_shard(root.path(), async |shard, gateway| {
        put(&gateway, b"before").await.expect("acknowledged");
        std::fs::rename(root.path().join("data"), root.path().join("moved")).expect("renamed");
        while shard.fault().is_none() {
            glommio::timer::sleep(Duration::from_millis(20)).await;
        }
        let refusal = put(&gateway, b"after").await.expect_err("refused");
        assert!(refusal.message.contains("not in its place") && refusal.message.contains("data"), "{refusal:?}");
    });
}

#[test]
fn a_place_that_cannot_be_looked_at_for_a_moment_stops_nothing() {
    let root = tempfile::tempdir().expect("a directory");
    with_shard(root.path(), async |shard, gateway| {
        let (data, moved) = (root.path().join("data"), root.path().join("moved"));
        // A link to itself: nobody can tell what is behind it.
        let hide = || {
            std::fs::rename(&data, &moved).expect("renamed");
            std::os::unix::fs::symlink(&data, &data).expect("a link");
        };
        hide();
        while shard.blind_looks.get() == 0 {
            glommio::timer::sleep(Duration::from_millis(20)).await;
        }
        std::fs::remove_file(&data).expect("the link");
        std::fs::rename(&moved, &data).expect("renamed");
        while shard.blind_looks.get() > 0 {
            glommio::timer::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(shard.fault(), None);
        put(&gateway, b"value").await.expect("acknowledged");
        // For good it is no place for a log.
        hide();
        while shard.fault().is_none() {
            glommio::timer::sleep(Duration::from_millis(20)).await;
        }
        let fault = shard.fault().expect("it stopped");
        assert!(fault.contains("not in its place") && fault.contains("cannot be looked at"), "{fault}");
    });
}

/// Moves a node's directory aside and puts a copy in its place.
fn replace_by_copy(root: &Path) {
    let (data, moved) = (root.join("data"), root.join("moved"));
    std::fs::rename(&data, &moved).expect("renamed");
    let copied = std::process::Command::new("cp").arg("-r").arg(&moved).arg(&data).status();
    assert!(copied.expect("cp runs").success());
}

#[test]
fn no_segment_is_prepared_where_the_log_is_not() {
    let root = tempfile::tempdir().expect("a directory");
    with_shard(root.path(), async |shard, gateway| {
        replace_by_copy(root.path());
        let segments = || std::fs::read_dir(shard.wal_dir.as_path()).expect("the copy").count();
        let before = segments();
        // More than all segments that are ready hold.
        for _ in 0..100 {
            if put(&gateway, &[7; 60_000]).await.is_err() {
                break;
            }
        }
        assert!(shard.fault().is_some());
        assert_eq!(segments(), before, "nothing new in the directory that took the log's place");
    });
}

#[test]
fn no_record_is_changed_where_the_log_is_not() {
    let root = tempfile::tempdir().expect("a directory");
    with_shard(root.path(), async |shard, _gateway| {
        replace_by_copy(root.path());
        // The copy lacks what its node had promised.
        let record = |stage| BirthRecord { incarnation: 7, stage };
        birth_file::persist(&shard.wal_dir, &record(Stage::Replaced)).expect("written");
        Rc::clone(&shard).finish_repair().await;
        Rc::clone(&shard).persist_birth(record(Stage::Restored)).await;
        assert!(wal::repair::is_marked(&shard.wal_dir).expect("looked"), "the copy is still under repair");
        assert_eq!(birth_file::read(&shard.wal_dir).expect("readable"), Some(record(Stage::Replaced)));
        let fault = shard.fault().expect("it stopped");
        assert!(fault.contains("not in its place"), "{fault}");
    });
}

#[test]
fn a_shard_that_does_not_settle_holds_up_no_other() {
    let root = tempfile::tempdir().expect("a directory");
    with_shards(root.path(), 2, async |shards, _gateway| {
        shards[0].note_syncs_hang.set(true);
        let stopping = shards.clone();
        let stopped = glommio::spawn_local(async move { Shard::settle_and_stop(&stopping).await });
        while !shards[1].stopping.get() {
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
        assert!(!shards[0].stopping.get(), "the first is still waited for");
        stopped.await;
        assert!(shards[0].stopping.get(), "not for ever");
    });
}
