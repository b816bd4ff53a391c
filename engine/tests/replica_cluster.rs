//! Whole clusters of the shipped replica on simulated disks and a simulated network: what was acknowledged is never lost.
//!
//! Each case is a seed. Messages travel as the bytes that the server would send, are delayed, reordered, and lost when a node
//! crashes; a crash loses what was not synced, in torn pieces. Afterwards the faults stop and every node must hold every
//! acknowledged write, with equal state.

use std::collections::{BTreeMap, BTreeSet};

use api::command::{KeyRange, Op, RangeOp, encode_op_command, encode_range};
use api::response::{OpResponse, Response};
use engine::call::{Call, CallKind, Origin, Part, Ticket};
use engine::replica::{Action, Event, ReadingLimits, Replica, ReplicaOptions};
use engine::types::{NodeId, ShardId};
use engine::{raft, state_machine, wire};
use net::deframer::Deframer;
use wal::testing::{SimRng, SimStorage};
use wal::{Log, LogOptions, SegmentIdentity, SegmentSeq, SyncRequest};

const SHARD: ShardId = ShardId::new(0);
const SEGMENT_BYTES: u64 = 64 * 1024;
const MESSAGE_BYTES_MAX: usize = 1 << 20;
const TIMEOUT_MS: u32 = 400;

struct Node {
    replica: Option<Replica<SimStorage>>,
    /// Its disk while it is down.
    disk: Option<SimStorage>,
    syncs: Vec<SyncRequest>,
    prepares: Vec<SegmentSeq>,
    life: u64,
}

struct Packet {
    from: usize,
    to: usize,
    life: (u64, u64),
    bytes: Vec<u8>,
}

struct Cluster {
    rng: SimRng,
    nodes: Vec<Node>,
    packets: Vec<Packet>,
    /// Writes on the way, by ticket: the key.
    asked: BTreeMap<u64, Vec<u8>>,
    acknowledged: BTreeSet<Vec<u8>>,
    /// Linearizable reads on the way, by ticket: the key, and whether it was acknowledged when the read was sent.
    reads: BTreeMap<u64, (Vec<u8>, bool)>,
    reads_answered: u64,
    last_ticket: u64,
}

fn node_id(node: usize) -> NodeId {
    NodeId::new(node as u64 + 1)
}

fn identity(node: usize) -> SegmentIdentity {
    SegmentIdentity { cluster_id: 1, node_id: node as u64 + 1, shard: 0, shard_count: 1 }
}

fn options(node: usize, count: usize, life: u64, seed: u64) -> ReplicaOptions {
    ReplicaOptions {
        raft: raft::Config {
            id: node_id(node),
            voters: (0..count).map(node_id).collect(),
            election_ticks: 10,
            heartbeat_ticks: 2,
            inflight_messages_limit: 4,
            inflight_bytes_limit: 4096,
            append_bytes_limit: 1024,
            seed: seed ^ (node as u64) << 40 ^ life << 48,
            preferred_leader: None,
        },
        machine: state_machine::Options::default(),
        pipeline_batches_limit: 3,
        batch_bytes_target: 512,
        pending_writes_limit: 64,
        pending_reads_limit: 64,
        relayed_limit: 64,
        quota_bytes: u64::MAX,
        uncommitted_bytes_limit: 1 << 20,
        queued_write_bytes_limit: 1 << 20,
        command: api::command::Limits { request_bytes: 1 << 20, txn_ops: 128, shard_count: 1 },
        apply_bytes_per_turn: 600,
        apply_keys_per_turn: 4096,
        reading: ReadingLimits::default(),
        slow_disk_ticks: 0,
        note_idle_ticks: 5,
        note_busy_ticks: 12,
        relay_id_floor: life << 32,
        part_bytes_max: 1 << 20,
        tick_ms: 10,
        repair: None,
        birth: raft::BirthRecord::default(),
        nonce: 1,
    }
}

impl Cluster {
    fn new(seed: u64, count: usize) -> Self {
        let mut cluster = Self {
            rng: SimRng::new(seed),
            nodes: Vec::new(),
            packets: Vec::new(),
            asked: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            reads: BTreeMap::new(),
            reads_answered: 0,
            last_ticket: 0,
        };
        for node in 0..count {
            let mut disk = SimStorage::new(identity(node), SEGMENT_BYTES, seed ^ node as u64);
            // As the server does before a node first runs.
            disk.prepare(SegmentSeq::FIRST);
            cluster.nodes.push(Node { replica: None, disk: Some(disk), syncs: vec![], prepares: vec![], life: 0 });
            cluster.start(node, seed);
        }
        cluster
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.rng.below(bound as u64)).expect("small")
    }

    fn start(&mut self, node: usize, seed: u64) {
        let count = self.nodes.len().max(3);
        let place = &mut self.nodes[node];
        let disk = place.disk.take().expect("the node is down");
        let options_of_log =
            LogOptions { identity: identity(node), segment_bytes: SEGMENT_BYTES, state: wal::types::EntryId::ZERO };
        let (log, _report) = Log::open(disk, options_of_log).expect("a crash leaves a log that opens");
        place.life += 1;
        let replica = Replica::new(options(node, count, place.life, seed), log);
        place.replica = Some(replica);
        let up: Vec<usize> =
            (0..self.nodes.len()).filter(|other| *other != node && self.nodes[*other].replica.is_some()).collect();
        for other in up {
            self.deliver(node, Event::PeerConnected(node_id(other)));
            self.deliver(other, Event::PeerConnected(node_id(node)));
        }
    }

    fn crash(&mut self, node: usize) {
        let place = &mut self.nodes[node];
        let replica = place.replica.take().expect("the node is up");
        let mut disk = replica.into_storage();
        disk.crash();
        place.disk = Some(disk);
        place.syncs.clear();
        place.prepares.clear();
        self.packets.retain(|packet| packet.from != node && packet.to != node);
        // Clients of the node lose their connection: outcomes stay unknown.
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            if self.nodes[other].replica.is_some() {
                self.deliver(other, Event::PeerDisconnected(node_id(node)));
            }
        }
    }

    fn deliver(&mut self, node: usize, event: Event<'_>) {
        let Some(replica) = self.nodes[node].replica.as_mut() else { return };
        replica.handle(event);
        assert_eq!(replica.fault(), None, "no fault was injected");
        self.carry_out(node);
    }

    /// Does what a replica asks for.
    fn carry_out(&mut self, node: usize) {
        loop {
            let Some(replica) = self.nodes[node].replica.as_mut() else { return };
            let Some(action) = replica.poll_action() else { return };
            match action {
                Action::Send { to, message } => {
                    let mut bytes = Vec::new();
                    replica.encode(&message, SHARD, &mut bytes).expect("the log gives its entries up");
                    let to = usize::try_from(to.get() - 1).expect("small");
                    let life = (self.nodes[node].life, self.nodes[to].life);
                    if self.nodes[to].replica.is_some() {
                        self.packets.push(Packet { from: node, to, life, bytes });
                    }
                }
                Action::Reply { ticket, reply } => {
                    let Part::Last(result) = reply.part else { panic!("every answer here is small") };
                    let body = result.ok().map(|range| replica.body(&range).to_vec());
                    self.on_answer(ticket, body);
                }
                Action::OwnReply { .. } => panic!("nobody asked"),
                Action::Sync(request) => {
                    replica.storage_mut().begin_sync(&request);
                    self.nodes[node].syncs.push(request);
                }
                Action::PrepareSegment(seq) => self.nodes[node].prepares.push(seq),
                Action::FinishRepair => panic!("nothing was damaged"),
                // Nothing waits for it.
                Action::SyncNote | Action::Tell(_) => {}
                Action::Load { .. } => panic!("everything is in memory"),
                Action::PersistBirth(_) => panic!("no node is new"),
            }
        }
    }

    fn on_answer(&mut self, ticket: Ticket, body: Option<Vec<u8>>) {
        if let Some(key) = self.asked.remove(&ticket.0) {
            if body.is_some() {
                self.acknowledged.insert(key);
            }
        } else if let Some((key, was_acknowledged)) = self.reads.remove(&ticket.0)
            && let Some(body) = body
        {
            self.reads_answered += 1;
            let response = Response::decode(&body).expect("an answer decodes");
            let Some(OpResponse::Range { count, .. }) = response.ops.first() else { panic!("a range answers") };
            assert!(*count == 1 || !was_acknowledged, "stale read of {}", String::from_utf8_lossy(&key));
        }
    }

    fn write(&mut self, node: usize) {
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        let key = format!("key-{ticket}").into_bytes();
        let value = vec![b'v'; self.below(200)];
        let mut command = Vec::new();
        encode_op_command(&Op::Put { key: &key, value: &value, lease: 0, prev_kv: false }, &mut command)
            .expect("a valid put");
        self.asked.insert(ticket, key);
        self.ask(node, ticket, CallKind::Write, &command);
    }

    fn read(&mut self, node: usize) {
        let known = self.last_ticket;
        self.last_ticket += 1;
        let key = format!("key-{}", 1 + self.rng.below(known.max(1))).into_bytes();
        let mut request = Vec::new();
        let range = KeyRange { key: &key, range_end: &[] };
        let op = RangeOp { range, limit: 0, revision: 0, keys_only: true, count_only: false };
        encode_range(&op, &mut request).expect("a valid range");
        let was_acknowledged = self.acknowledged.contains(&key);
        self.reads.insert(self.last_ticket, (key, was_acknowledged));
        self.ask(node, self.last_ticket, CallKind::Read, &request);
    }

    fn ask(&mut self, node: usize, ticket: u64, kind: CallKind, payload: &[u8]) {
        let origin = Origin::Local(Ticket(ticket));
        self.deliver(node, Event::Call { origin, call: Call::borrowed(SHARD, kind, TIMEOUT_MS, payload) });
    }

    fn receive(&mut self, at: usize) {
        let packet = self.packets.swap_remove(at);
        let (from, to) = (packet.from, packet.to);
        if packet.life != (self.nodes[from].life, self.nodes[to].life) {
            return;
        }
        let mut deframer = Deframer::new(MESSAGE_BYTES_MAX);
        deframer.feed(&packet.bytes);
        while let Some(frame) = deframer.next_frame().expect("frames are sound") {
            let incoming = wire::decode(&frame).expect("messages decode");
            self.deliver(to, incoming.into_event(node_id(from)));
        }
    }

    fn finish_sync(&mut self, node: usize) {
        if self.nodes[node].syncs.is_empty() {
            return;
        }
        let request = self.nodes[node].syncs.remove(0);
        if let Some(replica) = self.nodes[node].replica.as_mut() {
            replica.storage_mut().complete_sync(request.id);
        }
        self.deliver(node, Event::Synced { id: request.id, result: Ok(()) });
    }

    fn finish_prepare(&mut self, node: usize) {
        let Some(seq) = self.nodes[node].prepares.pop() else { return };
        self.deliver(node, Event::SegmentPrepared(seq));
    }

    /// One random thing happens.
    fn step(&mut self, faults: bool, seed: u64) {
        let node = self.below(self.nodes.len());
        let up = self.nodes[node].replica.is_some();
        match self.below(100) {
            0..45 if !self.packets.is_empty() => {
                let at = self.below(self.packets.len());
                self.receive(at);
            }
            45..60 => self.deliver(node, Event::Turn),
            60..75 => self.finish_sync(node),
            75..80 => self.finish_prepare(node),
            80..84 => self.deliver(node, Event::Tick),
            84..92 if up && faults => self.write(node),
            92..95 if up && faults => self.read(node),
            95 if up && faults && self.below(8) == 0 => self.crash(node),
            96 if !up && self.below(3) == 0 => self.start(node, seed),
            97 if faults && !self.packets.is_empty() => {
                let at = self.below(self.packets.len());
                self.packets.swap_remove(at);
            }
            _ => {}
        }
    }

    /// No more faults: everything is delivered promptly until all nodes agree.
    fn converge(&mut self, seed: u64) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].replica.is_none() {
                self.start(node, seed);
            }
        }
        for round in 0..3000 {
            for node in 0..self.nodes.len() {
                self.deliver(node, Event::Tick);
                self.finish_prepare(node);
                self.deliver(node, Event::Turn);
                self.finish_sync(node);
            }
            while !self.packets.is_empty() {
                self.receive(0);
            }
            let views: Vec<_> = self.nodes.iter().filter_map(|node| Some(node.replica.as_ref()?.view())).collect();
            let first = &views[0];
            let agree = views.iter().all(|view| {
                view.applied_index == first.last_index && view.last_index == first.last_index && view.leader.is_some()
            });
            if agree && self.asked.is_empty() && self.reads.is_empty() {
                return;
            }
            // Requests whose node crashed are never answered.
            if agree && round > 200 {
                return;
            }
        }
        panic!("the cluster does not converge");
    }

    fn check(&self) {
        let replicas: Vec<_> = self.nodes.iter().filter_map(|node| node.replica.as_ref()).collect();
        let digest = replicas[0].machine().digest();
        for replica in &replicas {
            assert_eq!(replica.machine().digest(), digest, "states are equal at equal index");
            for key in &self.acknowledged {
                let mut request = Vec::new();
                let range = KeyRange { key, range_end: &[] };
                let op = RangeOp { range, limit: 0, revision: 0, keys_only: true, count_only: true };
                encode_range(&op, &mut request).expect("a valid range");
                let mut body = Vec::new();
                replica.machine().range(&request, &mut body).expect("a read");
                let response = Response::decode(&body).expect("an answer decodes");
                let found = matches!(response.ops.first(), Some(OpResponse::Range { count: 1, .. }));
                assert!(found, "acknowledged write of {} is lost", String::from_utf8_lossy(key));
            }
        }
    }
}

#[test]
fn acknowledged_writes_survive_crashes_and_reads_are_never_stale() {
    let cases: u64 = std::env::var("QUORATE_REPLICA_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let (mut acknowledged, mut reads) = (0, 0);
    for seed in 0..cases {
        let run = std::panic::catch_unwind(|| {
            let mut cluster = Cluster::new(seed, 3);
            for _ in 0..6000 {
                cluster.step(true, seed);
            }
            cluster.converge(seed);
            cluster.check();
            (cluster.acknowledged.len(), cluster.reads_answered)
        });
        match run {
            Ok((writes, answered)) => {
                acknowledged += writes;
                reads += answered;
            }
            Err(cause) => {
                eprintln!("seed {seed} fails; QUORATE_REPLICA_SEEDS={} runs up to it", seed + 1);
                std::panic::resume_unwind(cause);
            }
        }
    }
    println!("{cases} seeds, {acknowledged} acknowledged writes, {reads} linearizable reads");
    assert!(acknowledged > usize::try_from(cases).expect("few") * 20, "the cases do something: {acknowledged}");
    assert!(reads > cases * 5, "the cases read something: {reads}");
}
