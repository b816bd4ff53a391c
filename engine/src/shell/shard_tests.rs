//! Shards of one voter on a real executor, over real files or over devices that do as the test says; without sockets.

use std::path::Path;
use std::sync::Arc;

use glommio::LocalExecutor;

use super::super::client_conn::ClientConn;
use super::super::client_figures::ClientFigures;
use super::super::gateway::{Gateway, Waiting};
use super::super::guests::Guest;
use super::super::handle::HandleReply;
use super::super::limits::LASTING_UNTAKEN_BYTES_MAX;
use super::super::memory_device::{MemoryDevice, Syncs};
use super::super::mesh::Mesh;
use super::super::metrics::{NodeMetrics, SliceMetrics};
use super::super::node::{gateway_limits, open_shards, replica_options};
use super::super::steps::Steps;
use super::*;
use crate::call::{Call, CallKind, Origin, Part, Refusal, Ticket};
use crate::config::{Config, ValidConfig};
use crate::raft::Stage;
use crate::types::EntryId;
use api::command::{self, KeyRange, Op, RangeOp};
use wal::{Log, LogOptions};

fn config_in(root: &Path) -> ValidConfig {
    let config = Config { data_dir: Some(root.join("data")), segment_bytes: 1 << 20, ..Config::default() };
    Config { max_request_bytes: 1 << 16, ..config }.validate().expect("a single node")
}

/// Runs a shard over the data directory `root` until `test` is done with it.
fn with_shard(root: &Path, test: impl AsyncFn(Rc<Shard>, Rc<Gateway>)) {
    let config = config_in(root);
    let (mut parts, _data_dir) = open_shards(&config, &NodeMetrics::new(1), &Steps::default()).expect("a new log");
    let board = StatusBoard::new(config.name(), config.node_id(), 1);
    LocalExecutor::default().run(async {
        let classes = Classes::create(SliceMetrics::default());
        let shard = Shard::new(parts.remove(0), &board, &nobody(), &helpers(), classes);
        let by_number = vec![Some(Rc::clone(&shard))];
        let gateway = Gateway::new(
            0,
            gateway_limits(&config),
            by_number,
            Mesh::new(1, None, prometheus_client::metrics::counter::Counter::default()),
            Arc::default(),
            Rc::new(|_| None),
        );
        let replies: Rc<dyn Replies> = Rc::clone(&gateway) as _;
        lead(&shard, &replies).await;
        test(Rc::clone(&shard), gateway).await;
        shard.stop();
    });
}

/// Threads that prepare segments.
fn helpers() -> Helpers {
    let helpers = Helpers::default();
    helpers.start(1).expect("a thread");
    helpers
}

/// The roster of shards that have one member each.
fn nobody() -> Roster {
    Roster::new(std::iter::repeat_n(BTreeSet::new(), 2))
}

/// Starts a shard, and waits until it is its own leader.
async fn lead<D: ShardDevice>(shard: &Rc<Shard<D>>, replies: &Rc<dyn Replies>) {
    shard.start(Rc::downgrade(replies), Box::new(|_, _| None));
    while !shard.view().is_leader {
        glommio::timer::sleep(Duration::from_millis(5)).await;
    }
}

fn put_payload(value: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    command::encode_op_command(&Op::Put { key: b"key", value, lease: 0, prev_kv: false }, &mut payload).expect("small");
    payload
}

async fn put(gateway: &Gateway, value: &[u8]) -> GivenAnswer {
    let (reply, answer) = async_channel::bounded(1);
    let call = Call::borrowed(ShardId::new(0), CallKind::Write, 60_000, &put_payload(value)).into_owned();
    gateway.route(call, Waiting::Handle(HandleReply::to(reply)));
    answer.recv().await.expect("an answer")
}

type GivenAnswer = Result<Vec<u8>, Refusal>;

/// Answers that shards gave.
#[derive(Default)]
struct Answers(RefCell<BTreeMap<(ShardId, Ticket), GivenAnswer>>);

impl Replies for Answers {
    fn reply(&self, shard: ShardId, ticket: Ticket, part: Part<&[u8], &Refusal>, _relayed: bool) {
        let Part::Last(answer) = part else { unreachable!("these answers have one part") };
        let answer = answer.map(<[u8]>::to_vec).map_err(Refusal::clone);
        assert!(self.0.borrow_mut().insert((shard, ticket), answer).is_none(), "one answer each");
    }
}

/// A shard over a device in memory.
struct InMemory {
    shard: Rc<Shard<MemoryDevice>>,
    answers: Rc<Answers>,
    syncs: Rc<Cell<Syncs>>,
    note_syncs: Rc<Cell<Syncs>>,
    last_ticket: Cell<u64>,
}

impl InMemory {
    fn ask(&self, kind: CallKind, payload: &[u8]) -> Ticket {
        let ticket = Ticket(self.last_ticket.get() + 1);
        self.last_ticket.set(ticket.0);
        let call = Call::borrowed(self.shard.id(), kind, 60_000, payload);
        self.shard.deliver(Event::Call { origin: Origin::Local(ticket), call });
        ticket
    }

    fn put(&self) -> Ticket {
        self.ask(CallKind::Write, &put_payload(b"value"))
    }

    fn answer(&self, ticket: Ticket) -> Option<GivenAnswer> {
        self.answers.0.borrow_mut().remove(&(self.shard.id(), ticket))
    }

    async fn answer_to(&self, ticket: Ticket) -> GivenAnswer {
        loop {
            if let Some(answer) = self.answer(ticket) {
                return answer;
            }
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Runs shards over devices in memory until `test` is done with them.
fn in_memory<const COUNT: usize>(test: impl AsyncFn([&InMemory; COUNT])) {
    // Nothing is made there: no part of these shards looks into a directory.
    let root = Path::new("/nonexistent");
    let config = config_in(root);
    let metrics = NodeMetrics::new(COUNT as u32);
    let board = StatusBoard::new(config.name(), config.node_id(), COUNT as u32);
    LocalExecutor::default().run(async {
        let classes = Classes::create(SliceMetrics::default());
        let answers = Rc::new(Answers::default());
        let replies: Rc<dyn Replies> = Rc::clone(&answers) as _;
        let shards: [InMemory; COUNT] = std::array::from_fn(|number| {
            let id = ShardId::new(number as u32);
            let (cluster_id, node_id) = (config.cluster_id().get(), config.node_id().get());
            let identity = SegmentIdentity { cluster_id, node_id, shard: id.get(), shard_count: COUNT as u32 };
            let segment_bytes = config.segment_bytes();
            let device = MemoryDevice::new(identity, segment_bytes);
            let (syncs, note_syncs) = (Rc::clone(&device.syncs), Rc::clone(&device.note_syncs));
            let options =
                LogOptions { identity, segment_bytes, state: EntryId::ZERO, state_lineage: wal::Lineage::START };
            let (log, _) = Log::open(device, options).expect("a new log");
            let mut options = replica_options(&config, id);
            options.raft.preferred_leader = None;
            options.raft.life = 1;
            let (replica, metrics) = (Replica::new(options, log), metrics.shard(id));
            let (wal_dir, names) = (root.to_owned(), Names::default());
            let parts = ShardParts { id, replica, wal_dir, identity, segment_bytes, metrics, tick_ms: 10, names };
            let shard = Shard::new(parts, &board, &nobody(), &helpers(), classes.clone());
            InMemory { shard, answers: Rc::clone(&answers), syncs, note_syncs, last_ticket: Cell::new(0) }
        });
        for InMemory { shard, .. } in &shards {
            lead(shard, &replies).await;
        }
        test(shards.each_ref()).await;
        shards.iter().for_each(|in_memory| in_memory.shard.stop());
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
fn a_client_that_is_gone_needs_no_answer_to_its_reads() {
    let root = tempfile::tempdir().expect("a directory");
    with_shard(root.path(), async |_shard, gateway| {
        let address = (std::net::Ipv4Addr::LOCALHOST, 1).into();
        let conn = || Rc::new(gateway.new_conn(address, ClientFigures::default()));
        let (gone, stays) = (conn(), conn());
        let mut get = Vec::new();
        let range = KeyRange { key: b"key", range_end: b"" };
        let op = RangeOp { range, limit: 0, revision: 0, keys_only: false, count_only: false };
        command::encode_range(&op, &mut get).expect("a valid range");
        // Nothing is answered before the next turn.
        for (conn, kind, payload) in [
            (&gone, CallKind::Read, &get),
            (&stays, CallKind::Read, &get),
            (&gone, CallKind::Write, &put_payload(b"late")),
        ] {
            gateway.on_call(conn, 1, Call::borrowed(ShardId::new(0), kind, 60_000, payload));
        }
        assert_eq!((gone.waiting_count(), stays.waiting_count()), (2, 1));
        gateway.client_left(&gone);
        assert_eq!(
            (gone.waiting_count(), stays.waiting_count()),
            (1, 1),
            "its write goes on, and nobody else's read is touched"
        );
        gone.all_answered().await;
        stays.all_answered().await;
    });
}

/// A call that lasts, as far as the gateway sees: no kind lasts yet, so a read stands for one, and these tests for the shard that gives
/// parts of its answer. The shard itself says nothing before its next turn.
struct Lasting<'a> {
    gateway: &'a Rc<Gateway>,
    conn: Rc<ClientConn>,
    /// The gateway's task that tells shards of what nobody takes; it goes on when it is polled.
    telling: std::pin::Pin<Box<dyn Future<Output = ()> + 'a>>,
}

impl<'a> Lasting<'a> {
    /// Opens one as request 1 of a new connection.
    fn open(gateway: &'a Rc<Gateway>) -> Self {
        let address = (std::net::Ipv4Addr::LOCALHOST, 1).into();
        let conn = Rc::new(gateway.new_conn(address, ClientFigures::default()));
        let mut get = Vec::new();
        let range = KeyRange { key: b"key", range_end: b"" };
        let op = RangeOp { range, limit: 0, revision: 0, keys_only: false, count_only: false };
        command::encode_range(&op, &mut get).expect("a valid range");
        let call = || Call::borrowed(ShardId::new(0), CallKind::ReadSerializable, 60_000, &get);
        gateway.open(&conn, 1, call());
        gateway.open(&conn, 1, call());
        let this = Self { gateway, conn, telling: Box::pin(Rc::clone(gateway).tell_unwanted()) };
        assert!(this.is_open() && !this.conn.owes_nothing());
        assert_eq!(this.answers(), [(1, Some(net::api::Status::Invalid))], "one of that number is open");
        this
    }

    fn is_open(&self) -> bool {
        self.conn.lasting(1).is_some()
    }

    /// Its shard gives a part.
    fn give(&self, ticket: Ticket, bytes: &[u8]) {
        self.gateway.reply(ShardId::new(0), ticket, Part::More(bytes), false);
    }

    fn tell_shards(&mut self) {
        assert!(futures_lite::future::block_on(futures_lite::future::poll_once(&mut self.telling)).is_none());
    }

    /// What was queued for the client, without parts: it takes all of it.
    fn answers(&self) -> Vec<(u64, Option<net::api::Status>)> {
        let mut taken = Vec::new();
        {
            let mut running = Box::pin(self.conn.writer().run(&mut taken));
            while self.conn.writer().queued_bytes() > 0 {
                drop(futures_lite::future::block_on(futures_lite::future::poll_once(&mut running)));
            }
        }
        let mut deframer = net::deframer::Deframer::new(64 << 20);
        deframer.feed(&taken);
        let mut answers = Vec::new();
        while let Some(frame) = deframer.next_frame().expect("sound") {
            if let Ok(response) = net::api::Response::decode(&frame) {
                answers.push((response.id, response.result.err().map(|refused| refused.status)));
            }
        }
        answers
    }
}

#[test]
fn what_lasts_holds_up_neither_its_connection_nor_a_stop() {
    let root = tempfile::tempdir().expect("a directory");
    with_shard(root.path(), async |_shard, gateway| {
        let lasting = Lasting::open(&gateway);
        let conn = &lasting.conn;
        assert!(conn.is_idle() && conn.may_begin_now() && conn.waiting_count() == 0);
        assert_eq!(gateway.waiting(conn), (0, 1), "an orderly stop waits for nothing");
        conn.all_answered().await;
        gateway.note_conn(conn);
        gateway.say_goodbye();
        assert!(conn.is_over() && lasting.is_open());
        assert_eq!(lasting.answers(), [(0, Some(net::api::Status::ShuttingDown))]);
    });
}

#[test]
fn what_lasts_ends_at_its_shard_when_its_client_cancels_it_or_leaves() {
    let root = tempfile::tempdir().expect("a directory");
    with_shard(root.path(), async |_shard, gateway| {
        let mut cancelled = Lasting::open(&gateway);
        let ticket = cancelled.conn.lasting(1).expect("it is open");
        cancelled.give(ticket, b"a part");
        gateway.cancel(&cancelled.conn, 7);
        gateway.cancel(&cancelled.conn, 1);
        assert!(cancelled.is_open(), "its shard ends it");
        cancelled.tell_shards();
        assert_eq!(cancelled.answers(), [(1, Some(net::api::Status::Unavailable))]);
        assert!(cancelled.conn.owes_nothing() && !cancelled.conn.writer().is_closed(), "its connection goes on");
        gateway.cancel(&cancelled.conn, 1);
        let gone = Lasting::open(&gateway);
        gateway.client_left(&gone.conn);
        assert!(gone.conn.owes_nothing());
    });
}

#[test]
fn what_lasts_ends_when_its_client_takes_too_little_and_its_shard_is_told() {
    let root = tempfile::tempdir().expect("a directory");
    with_shard(root.path(), async |_shard, gateway| {
        let mut slow = Lasting::open(&gateway);
        let ticket = slow.conn.lasting(1).expect("it is open");
        let part = vec![7; 1 << 20];
        for _ in 0..LASTING_UNTAKEN_BYTES_MAX / part.len() + 2 {
            slow.give(ticket, &part);
        }
        assert!(slow.conn.owes_nothing() && !slow.conn.writer().is_closed(), "its connection goes on");
        assert_eq!(slow.answers(), [(1, Some(net::api::Status::Overloaded))]);
        // Its shard would give parts without end.
        slow.give(ticket, &part);
        assert_eq!(gateway.waiting(&slow.conn), (0, 1), "its place is kept until its shard has ended it");
        slow.tell_shards();
        assert_eq!(gateway.waiting(&slow.conn), (0, 0));
        assert!(slow.answers().is_empty(), "nothing follows");
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
fn a_sync_that_ends_before_its_starter_goes_on_is_taken() {
    in_memory(async |[shard]| {
        shard.syncs.set(Syncs::EndAtOnce);
        for _ in 0..3 {
            shard.answer_to(shard.put()).await.expect("acknowledged");
        }
    });
}

#[test]
fn a_sync_that_hangs_holds_up_what_waits_for_it_and_nothing_else() {
    in_memory(async |[sick, well]| {
        sick.answer_to(sick.put()).await.expect("acknowledged");
        sick.syncs.set(Syncs::Hang);
        let waits = sick.put();
        for _ in 0..3 {
            well.answer_to(well.put()).await.expect("another shard has another device");
        }
        let mut get = Vec::new();
        let range = KeyRange { key: b"key", range_end: b"" };
        let op = RangeOp { range, limit: 0, revision: 0, keys_only: false, count_only: false };
        command::encode_range(&op, &mut get).expect("a valid range");
        sick.answer_to(sick.ask(CallKind::ReadSerializable, &get)).await.expect("this rests on no disk");
        assert!(sick.answer(waits).is_none(), "nothing has it durable");
        sick.syncs.set(Syncs::End);
        sick.answer_to(waits).await.expect("acknowledged");
    });
}

#[test]
fn a_sync_that_fails_stops_its_shard_and_acknowledges_nothing() {
    in_memory(async |[sick, well]| {
        sick.syncs.set(Syncs::Fail);
        let refusal = sick.answer_to(sick.put()).await.expect_err("not durable");
        assert!(refusal.message.contains("I/O error that a test made"), "{refusal:?}");
        // What works again proves nothing about what was lost.
        sick.syncs.set(Syncs::End);
        sick.answer_to(sick.put()).await.expect_err("it has stopped for good");
        well.answer_to(well.put()).await.expect("another shard has another device");
    });
}

#[test]
fn a_shard_that_does_not_settle_holds_up_no_other() {
    in_memory(async |[sick, well]| {
        sick.note_syncs.set(Syncs::Hang);
        let stopping = [sick, well].map(|in_memory| Rc::clone(&in_memory.shard));
        let stopped = glommio::spawn_local(async move { Shard::settle_and_stop(&stopping).await });
        while !well.shard.stopping.get() {
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
        assert!(!sick.shard.stopping.get(), "the first is still waited for");
        stopped.await;
        assert!(sick.shard.stopping.get(), "not for ever");
    });
}
