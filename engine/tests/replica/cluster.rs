//! Whole clusters of the shipped replica on simulated disks and a simulated network: what was acknowledged is never lost.
//!
//! Each case is a seed. Messages travel as the bytes that the server would send, are delayed, reordered, and lost when a node
//! crashes; a crash loses what was not synced, in torn pieces. Afterwards the faults stop and every node must hold every
//! acknowledged write, with equal state.

use std::collections::{BTreeMap, BTreeSet};

use api::command::RangeOp;
use api::response::{OpResponse, Response};
use engine::call::{CallKind, Origin, Part, Ticket};
use engine::raft;
use engine::replica::{Event, ReplicaOptions};
use wal::testing::{SimRng, SimStorage};

use crate::host::{self, Effect, Host, call, for_each_message, new_disk, node_id, node_of, open};
use crate::ops::{op_command, put, request, whole};

const SEGMENT_BYTES: u64 = 64 * 1024;

struct Node {
    host: Option<Host>,
    /// Its disk while it is down.
    disk: Option<SimStorage>,
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

/// With limits that are reached.
fn options(node: usize, life: u64, seed: u64) -> ReplicaOptions {
    let roomy = host::options(node, seed ^ life << 48);
    ReplicaOptions {
        raft: raft::Config { inflight_bytes_limit: 4096, append_bytes_limit: 1024, life, ..roomy.raft },
        pipeline_batches_limit: 3,
        batch_bytes_target: 512,
        pending_writes_limit: 64,
        pending_reads_limit: 64,
        relayed_limit: 64,
        apply_bytes_per_turn: 600,
        relay_id_floor: life << 32,
        ..roomy
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
            let disk = new_disk(node, SEGMENT_BYTES, seed ^ node as u64);
            cluster.nodes.push(Node { host: None, disk: Some(disk), life: 0 });
            cluster.start(node, seed);
        }
        cluster
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.rng.below(bound as u64)).expect("small")
    }

    fn start(&mut self, node: usize, seed: u64) {
        let place = &mut self.nodes[node];
        let log = open(node, place.disk.take().expect("the node is down"));
        place.life += 1;
        place.host = Some(Host::new(options(node, place.life, seed), log));
        let up: Vec<usize> =
            (0..self.nodes.len()).filter(|other| *other != node && self.nodes[*other].host.is_some()).collect();
        for other in up {
            self.deliver(node, Event::PeerConnected(node_id(other)));
            self.deliver(other, Event::PeerConnected(node_id(node)));
        }
    }

    fn crash(&mut self, node: usize) {
        let place = &mut self.nodes[node];
        let mut disk = place.host.take().expect("the node is up").replica.into_storage();
        disk.crash();
        place.disk = Some(disk);
        self.packets.retain(|packet| packet.from != node && packet.to != node);
        // Clients of the node lose their connection: outcomes stay unknown.
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            if self.nodes[other].host.is_some() {
                self.deliver(other, Event::PeerDisconnected(node_id(node)));
            }
        }
    }

    fn deliver(&mut self, node: usize, event: Event<'_>) {
        let Some(host) = self.nodes[node].host.as_mut() else { return };
        let effects = host.handle(event);
        assert_eq!(host.replica.fault(), None, "no fault was injected");
        for effect in effects {
            match effect {
                Effect::Sent { to, bytes } => {
                    let to = node_of(to);
                    let life = (self.nodes[node].life, self.nodes[to].life);
                    if self.nodes[to].host.is_some() {
                        self.packets.push(Packet { from: node, to, life, bytes });
                    }
                }
                Effect::Answered { number, part: Part::Last(result) } => self.on_answer(number, result.ok()),
                Effect::Answered { .. } => panic!("every answer here is small"),
            }
        }
    }

    fn on_answer(&mut self, number: u64, body: Option<Vec<u8>>) {
        if let Some(key) = self.asked.remove(&number) {
            if body.is_some() {
                self.acknowledged.insert(key);
            }
            return;
        }
        let (key, was_acknowledged) = self.reads.remove(&number).expect("somebody waits for it");
        if let Some(body) = body {
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
        let write = op_command(&put(&key, &value));
        self.asked.insert(ticket, key);
        self.ask(node, ticket, CallKind::Write, &write);
    }

    fn read(&mut self, node: usize) {
        let known = self.last_ticket;
        self.last_ticket += 1;
        let key = format!("key-{}", 1 + self.rng.below(known.max(1))).into_bytes();
        let read = request(&RangeOp { keys_only: true, ..whole(&key, b"") });
        let was_acknowledged = self.acknowledged.contains(&key);
        self.reads.insert(self.last_ticket, (key, was_acknowledged));
        self.ask(node, self.last_ticket, CallKind::Read, &read);
    }

    fn ask(&mut self, node: usize, ticket: u64, kind: CallKind, payload: &[u8]) {
        self.deliver(node, call(Origin::Local(Ticket(ticket)), kind, payload));
    }

    fn receive(&mut self, at: usize) {
        let packet = self.packets.swap_remove(at);
        let (from, to) = (packet.from, packet.to);
        if packet.life != (self.nodes[from].life, self.nodes[to].life) {
            return;
        }
        for_each_message(&packet.bytes, |message| self.deliver(to, message.into_event(node_id(from))));
    }

    fn finish_sync(&mut self, node: usize) {
        if let Some(event) = self.nodes[node].host.as_mut().and_then(Host::complete_sync) {
            self.deliver(node, event);
        }
    }

    fn finish_prepare(&mut self, node: usize) {
        if let Some(event) = self.nodes[node].host.as_mut().and_then(Host::complete_prepare) {
            self.deliver(node, event);
        }
    }

    /// One random thing happens.
    fn step(&mut self, faults: bool, seed: u64) {
        let node = self.below(self.nodes.len());
        let up = self.nodes[node].host.is_some();
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
            if self.nodes[node].host.is_none() {
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
            let views: Vec<_> = self.nodes.iter().filter_map(|node| Some(node.host.as_ref()?.replica.view())).collect();
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
        let replicas: Vec<_> = self.nodes.iter().filter_map(|node| Some(&node.host.as_ref()?.replica)).collect();
        let digest = replicas[0].machine().digest();
        for replica in &replicas {
            assert_eq!(replica.machine().digest(), digest, "states are equal at equal index");
            for key in &self.acknowledged {
                let request = request(&RangeOp { keys_only: true, count_only: true, ..whole(key, b"") });
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
