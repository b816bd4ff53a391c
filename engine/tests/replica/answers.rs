//! Every request gets exactly one answer: across timeouts, lost leaders, failed syncs and entries that cannot be applied.
//!
//! Three shipped replicas on simulated disks; a link can be cut. It does not look at what is durable: the tests of whole
//! clusters do.

use std::collections::{BTreeMap, BTreeSet};

use engine::call::{CallKind, Origin, Part, Refusal, Ticket};
use engine::entries_error::EntriesError;
use engine::raft;
use engine::replica::{Event, Fault, Proposer, Remark, Replica, ReplicaOptions, ReplicaView};
use engine::state_machine::StateMachine;
use engine::state_machine::batch::Sender;
use engine::testing::LastAnswers;
use net::api::{Executed, Status};
use wal::SyncFailure;
use wal::testing::SimRng;

use crate::host::{
    Effect, Host, NODES_COUNT, TIMEOUT_TICKS, call, call_of, for_each_message, new_disk, node_id, node_of, open,
    options,
};
use crate::ops::{op_command, put, request, whole};

const SEGMENT_BYTES: u64 = 1 << 20;
pub const PART_BYTES_MAX: usize = 100;
/// Ticks after which every request that waits has timed out: expiry is looked at every few ticks.
pub const EXPIRED_TICKS: u64 = TIMEOUT_TICKS + 5;

type Answer = Result<Vec<u8>, Refusal>;

/// Three nodes, what is on the way between them, and what clients were told.
pub struct Trio {
    pub nodes: Vec<Host>,
    pub packets: Vec<(usize, usize, Vec<u8>)>,
    /// What is sent from one to the other is lost.
    pub cut: BTreeSet<(usize, usize)>,
    /// Their disks do not answer.
    pub hung: BTreeSet<usize>,
    /// Their next segments are never prepared.
    pub crawling: BTreeSet<usize>,
    asked: BTreeMap<u64, CallKind>,
    pub answers: BTreeMap<u64, Answer>,
    /// Parts of answers, in front of the last ones.
    pub parts: BTreeMap<u64, Vec<Vec<u8>>>,
    pub faults_are_expected: bool,
    last_ticket: u64,
}

impl Trio {
    /// Nodes that know a leader.
    pub fn new(seed: u64) -> Self {
        Self::with(seed, |_| {})
    }

    pub fn with(seed: u64, change: fn(&mut ReplicaOptions)) -> Self {
        Self::of(NODES_COUNT, seed, change, &[], &|_| None)
    }

    /// Nodes that know a leader. Those named keep the answers to commands of sessions.
    pub fn with_sessions(seed: u64, have_sessions: &[usize]) -> Self {
        Self::of(NODES_COUNT, seed, |_| {}, have_sessions, &|_| None)
    }

    /// Nodes that know a leader, with a part each that proposes for itself.
    pub fn with_proposers(seed: u64, proposer: &dyn Fn(usize) -> Box<dyn Proposer>) -> Self {
        Self::of(NODES_COUNT, seed, |_| {}, &[], &|node| Some(proposer(node)))
    }

    /// As many nodes that know a leader.
    fn of(
        nodes_count: usize,
        seed: u64,
        change: fn(&mut ReplicaOptions),
        have_sessions: &[usize],
        proposer: &dyn Fn(usize) -> Option<Box<dyn Proposer>>,
    ) -> Self {
        let nodes = (0..nodes_count).map(|node| {
            let mut options = ReplicaOptions { part_bytes_max: PART_BYTES_MAX, ..options(node, seed) };
            options.raft.founders.truncate(nodes_count);
            change(&mut options);
            let machine = StateMachine::new(options.machine);
            let machine = match have_sessions.contains(&node) {
                true => machine.with_section(Box::new(LastAnswers::default())),
                false => machine,
            };
            let log = open(node, new_disk(node, SEGMENT_BYTES, seed ^ node as u64));
            let replica = Replica::with_state(options, log, machine);
            Host::of(match proposer(node) {
                Some(proposer) => replica.with_proposer(proposer),
                None => replica,
            })
        });
        let mut trio = Self {
            nodes: nodes.collect(),
            packets: Vec::new(),
            cut: BTreeSet::new(),
            hung: BTreeSet::new(),
            crawling: BTreeSet::new(),
            asked: BTreeMap::new(),
            answers: BTreeMap::new(),
            parts: BTreeMap::new(),
            faults_are_expected: false,
            last_ticket: 0,
        };
        for (node, other) in pairs().filter(|(node, other)| (*node).max(*other) < nodes_count) {
            trio.deliver(node, Event::PeerConnected(node_id(other)));
        }
        for _ in 0..100 {
            trio.round();
            if trio.leader().is_some() {
                // The followers hear of it, and everybody gets a second segment.
                (0..5).for_each(|_| trio.round());
                return trio;
            }
        }
        panic!("nobody is elected");
    }

    /// The node that leads and whose followers know.
    pub fn leader(&self) -> Option<usize> {
        let views: Vec<_> = self.nodes.iter().map(|node| node.replica.view()).collect();
        let leader = views.iter().position(|view| view.is_leader && view.commit_index == view.last_index)?;
        views.iter().all(|view| view.leader == Some(node_id(leader))).then_some(leader)
    }

    pub fn leader_view(&self) -> ReplicaView {
        let mut views = self.nodes.iter().map(|node| node.replica.view());
        views.find(|view| view.is_leader).expect("somebody leads")
    }

    pub fn deliver(&mut self, node: usize, event: Event<'_>) {
        let effects = self.nodes[node].handle(event);
        let fault = self.nodes[node].replica.fault();
        assert!(self.faults_are_expected || fault.is_none(), "no fault was injected: {fault:?}");
        for effect in effects {
            match effect {
                Effect::Sent { to, bytes } => {
                    let to = node_of(to);
                    if !self.cut.contains(&(node, to)) {
                        self.packets.push((node, to, bytes));
                    }
                }
                Effect::Answered { number, part } => self.take_part(number, part),
            }
        }
    }

    fn take_part(&mut self, number: u64, part: Part<Vec<u8>>) {
        assert!(self.asked.contains_key(&number), "nobody asked {number}");
        assert!(!self.answers.contains_key(&number), "request {number} was answered before, and now: {part:?}");
        match part {
            Part::More(bytes) => self.parts.entry(number).or_default().push(bytes),
            Part::Last(result) => {
                let parts = self.parts.get(&number).map(|parts| parts.concat()).unwrap_or_default();
                self.answers.insert(number, result.map(|bytes| [parts, bytes].concat()));
            }
        }
    }

    pub fn ask(&mut self, node: usize, kind: CallKind, payload: &[u8]) -> u64 {
        let origin = Origin::Local(Ticket(self.last_ticket + 1));
        self.ask_as(node, origin, kind, payload)
    }

    /// The node asks for itself.
    pub fn ask_itself(&mut self, node: usize, kind: CallKind, payload: &[u8]) -> u64 {
        let origin = Origin::Internal(self.last_ticket + 1);
        self.ask_as(node, origin, kind, payload)
    }

    /// Somebody of a session asks.
    pub fn ask_of(&mut self, node: usize, kind: CallKind, payload: &[u8], sender: Option<Sender>) -> u64 {
        self.last_ticket += 1;
        self.asked.insert(self.last_ticket, kind);
        self.deliver(node, call_of(Origin::Local(Ticket(self.last_ticket)), kind, payload, sender));
        self.last_ticket
    }

    fn ask_as(&mut self, node: usize, origin: Origin, kind: CallKind, payload: &[u8]) -> u64 {
        self.last_ticket += 1;
        self.asked.insert(self.last_ticket, kind);
        self.deliver(node, call(origin, kind, payload));
        self.last_ticket
    }

    pub fn put(&mut self, node: usize, key: &[u8]) -> u64 {
        self.ask(node, CallKind::Write, &op_command(&put(key, b"v")))
    }

    pub fn read(&mut self, node: usize, key: &[u8]) -> u64 {
        self.ask(node, CallKind::Read, &request(&whole(key, b"")))
    }

    pub fn receive(&mut self, at: usize) {
        let (from, to, bytes) = self.packets.remove(at);
        for_each_message(&bytes, |message| self.deliver(to, message.into_event(node_id(from))));
    }

    pub fn finish_sync(&mut self, node: usize) {
        if self.hung.contains(&node) {
            return;
        }
        if let Some(event) = self.nodes[node].complete_sync() {
            self.deliver(node, event);
        }
    }

    pub fn fail_sync(&mut self, node: usize) {
        let Some(request) = self.nodes[node].syncs.pop() else { return };
        let result = Err(SyncFailure { reason: "injected".to_owned() });
        self.deliver(node, Event::Synced { id: request.id, result });
    }

    fn finish_prepare(&mut self, node: usize) {
        if self.crawling.contains(&node) {
            return;
        }
        if let Some(event) = self.nodes[node].complete_prepare() {
            self.deliver(node, event);
        }
    }

    /// Everything that is due is done: turns, syncs, messages.
    pub fn settle(&mut self) {
        for _ in 0..20 {
            for node in 0..self.nodes.len() {
                self.finish_prepare(node);
                self.deliver(node, Event::Turn);
                self.finish_sync(node);
            }
            while !self.packets.is_empty() {
                self.receive(0);
            }
        }
    }

    /// A tick passes, and everything that is due is done.
    pub fn round(&mut self) {
        (0..self.nodes.len()).for_each(|node| self.deliver(node, Event::Tick));
        self.settle();
    }

    pub fn isolate(&mut self, node: usize) {
        self.cut.extend(pairs().filter(|(from, to)| *from == node || *to == node));
    }

    pub fn refusal(&self, ticket: u64) -> (Status, Executed) {
        match self.answers.get(&ticket) {
            Some(Err(refusal)) => (refusal.status, refusal.executed),
            other => panic!("request {ticket} was to be refused, its answer is {other:?}"),
        }
    }

    pub fn check_all_answered(&self) {
        let unanswered: Vec<_> = self.asked.keys().filter(|ticket| !self.answers.contains_key(ticket)).collect();
        assert!(unanswered.is_empty(), "never answered: {unanswered:?}");
    }
}

fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..NODES_COUNT).flat_map(|from| (0..NODES_COUNT).map(move |to| (from, to))).filter(|(from, to)| from != to)
}

#[test]
fn a_write_in_the_forming_batch_times_out_and_is_not_answered_again() {
    let mut trio = Trio::new(1);
    let leader = trio.leader().expect("there is one");
    // The followers hear their leader, but nothing becomes durable there.
    trio.hung.extend((0..NODES_COUNT).filter(|node| *node != leader));
    // More than the pipeline takes: the last ones stay in the forming batch.
    let mut tickets = Vec::new();
    for _ in 0..6 {
        tickets.push(trio.put(leader, b"k"));
        trio.settle();
    }
    (0..EXPIRED_TICKS).for_each(|_| trio.round());
    assert_eq!(trio.leader_view().pending_writes_count, tickets.len(), "they keep their places");
    for ticket in &tickets {
        assert_eq!(trio.refusal(*ticket), (Status::Timeout, Executed::Unknown));
    }
    // One more waits in the same batch; then the leader loses its office and gives the batch up. `take_part` checks that
    // nobody is told twice.
    let late = trio.put(leader, b"k");
    trio.isolate(leader);
    (0..30).for_each(|_| trio.round());
    assert_eq!(trio.refusal(late), (Status::Unavailable, Executed::No));
    trio.cut.clear();
    trio.hung.clear();
    (0..60).for_each(|_| trio.round());
    trio.check_all_answered();
    let leader = trio.leader().expect("a new one");
    let ticket = trio.put(leader, b"after");
    trio.settle();
    assert!(trio.answers[&ticket].is_ok());
}

#[test]
fn a_command_that_cannot_be_applied_leaves_no_request_without_an_answer() {
    let mut alone = Trio::of(1, 2, |_| {}, &[], &|_| None);
    alone.faults_are_expected = true;
    alone.hung.insert(0);
    let before = alone.put(0, b"before");
    // The gateway validates; a replica takes the bytes of its own clients as they are.
    let bad = alone.ask(0, CallKind::Write, b"no command");
    let behind = alone.put(0, b"behind");
    alone.settle();
    alone.hung.clear();
    alone.settle();
    assert!(matches!(alone.nodes[0].replica.fault(), Some(Fault::Apply { .. })), "the leader was to stop");
    assert!(alone.answers[&before].is_ok(), "what was applied is acknowledged");
    for ticket in [bad, behind] {
        assert_eq!(alone.refusal(ticket), (Status::Internal, Executed::Unknown));
    }
    alone.check_all_answered();
}

#[test]
fn followers_do_not_take_a_command_that_cannot_be_applied_and_outlive_its_leader() {
    let mut trio = Trio::new(2);
    let leader = trio.leader().expect("there is one");
    let before = trio.put(leader, b"before");
    trio.settle();
    let bad = trio.ask(leader, CallKind::Write, b"no command");
    trio.settle();
    (0..EXPIRED_TICKS).for_each(|_| trio.round());
    assert!(trio.answers[&before].is_ok());
    assert_eq!(trio.refusal(bad), (Status::Timeout, Executed::Unknown));
    for follower in (0..NODES_COUNT).filter(|node| *node != leader) {
        let is_told =
            |remark: &Remark| matches!(remark, Remark::CorruptAppend { error: EntriesError::Form { .. }, .. });
        let remarks = &trio.nodes[follower].remarks;
        assert!(remarks.iter().any(is_told), "{remarks:?}");
    }
    trio.isolate(leader);
    (0..60).for_each(|_| trio.round());
    trio.cut.clear();
    (0..60).for_each(|_| trio.round());
    let leader = trio.leader().expect("a new one, and the old one follows it");
    let ticket = trio.put(leader, b"after");
    trio.settle();
    assert!(trio.answers[&ticket].is_ok());
}

#[test]
fn a_stopped_leader_names_an_heir_at_once_and_sends_clients_to_it() {
    let mut trio = Trio::new(8);
    let leader = trio.leader().expect("there is one");
    trio.faults_are_expected = true;
    trio.hung.insert(leader);
    let pending = trio.put(leader, b"pending");
    trio.deliver(leader, Event::Turn);
    trio.fail_sync(leader);
    assert_eq!(trio.refusal(pending), (Status::Internal, Executed::Unknown));
    let view = trio.nodes[leader].replica.view();
    assert!(!view.is_leader && view.leader.is_none(), "it leads nobody any more: {view:?}");
    // Far less than an election timeout, which no tick even begins.
    trio.settle();
    let successor = trio.nodes.iter().position(|node| node.replica.view().is_leader).expect("the successor leads");
    assert_eq!(trio.nodes[leader].replica.view().leader, Some(node_id(successor)), "it heard of that");
    let write = trio.put(leader, b"k");
    let read = trio.read(leader, b"k");
    assert_eq!(trio.refusal(write), (Status::Unavailable, Executed::No));
    assert_eq!(trio.refusal(read), (Status::Unavailable, Executed::No));
    let done = trio.put(successor, b"k");
    trio.settle();
    assert!(trio.answers[&done].is_ok());
}

#[test]
fn a_leader_whose_process_ends_without_a_successor_names_an_heir() {
    let mut trio = Trio::new(8);
    let leader = trio.leader().expect("there is one");
    trio.deliver(leader, Event::Stop);
    // No tick begins.
    trio.settle();
    let successor = trio.nodes.iter().position(|node| node.replica.view().is_leader).expect("the successor leads");
    assert_ne!(successor, leader);
}

#[test]
fn writes_that_arrive_while_leadership_is_handed_over_are_done_by_the_next_leader() {
    let mut trio = Trio::new(9);
    let leader = trio.leader().expect("there is one");
    // One in the batch that is being formed, one after it.
    let before = trio.put(leader, b"before");
    trio.deliver(leader, Event::HandOver);
    let meanwhile: Vec<u64> = (0..3).map(|_| trio.put(leader, b"meanwhile")).collect();
    let read = trio.read(leader, b"before");
    assert!(trio.answers.is_empty(), "nothing is refused");
    (0..4).for_each(|_| trio.round());
    trio.settle();
    assert!(!trio.nodes[leader].replica.view().is_leader && trio.leader().is_some());
    for ticket in meanwhile.into_iter().chain([before, read]) {
        assert!(trio.answers[&ticket].is_ok(), "{:?}", trio.answers[&ticket]);
    }
    assert!(trio.nodes[leader].replica.owes_no_answer());
    trio.deliver(leader, Event::Close);
    let late = trio.put(leader, b"late");
    assert_eq!(trio.refusal(late), (Status::ShuttingDown, Executed::No));
}

#[test]
fn a_transfer_that_is_given_up_lets_what_waited_be_done_here() {
    let mut trio = Trio::new(10);
    let leader = trio.leader().expect("there is one");
    let to = (leader + 1) % NODES_COUNT;
    trio.hung.insert(to);
    let first = trio.put(leader, b"first");
    trio.settle();
    assert!(trio.answers[&first].is_ok());
    trio.deliver(leader, Event::Transfer { to: node_id(to) });
    let transfer = trio.leader_view().transfer.expect("it was well a moment ago");
    assert_eq!(transfer.to, node_id(to));
    let held = trio.put(leader, b"held");
    trio.settle();
    assert!(!trio.answers.contains_key(&held));
    (0..12).for_each(|_| trio.round());
    trio.settle();
    assert!(trio.nodes[leader].replica.view().is_leader);
    assert!(trio.answers[&held].is_ok(), "{:?}", trio.answers[&held]);
}

#[test]
fn requests_to_a_leader_that_is_gone_are_answered_before_their_time_is_up() {
    let mut trio = Trio::new(5);
    let leader = trio.leader().expect("there is one");
    let follower = (leader + 1) % NODES_COUNT;
    trio.isolate(leader);
    let appended = trio.put(leader, b"k");
    let (write, read) = (trio.put(follower, b"k"), trio.read(follower, b"k"));
    let asked = [appended, write, read];
    let mut ticks = 0;
    while asked.iter().any(|ticket| !trio.answers.contains_key(ticket)) {
        trio.round();
        ticks += 1;
    }
    assert!(ticks < TIMEOUT_TICKS, "{ticks} ticks");
    assert_eq!(trio.refusal(appended), (Status::Unavailable, Executed::Unknown), "it is in the log of the old leader");
    assert_eq!(trio.refusal(write), (Status::Unavailable, Executed::Unknown), "the old leader may have got it");
    assert!(trio.answers[&read].is_ok(), "the next leader was asked: {:?}", trio.answers[&read]);
}

/// Random requests, cut links, hung and failing disks, commands that cannot be applied, ticks and stops.
fn run_random(seed: u64) -> (usize, usize, usize) {
    let mut trio = Trio::new(seed);
    trio.faults_are_expected = true;
    let mut rng = SimRng::new(seed);
    let mut below = |bound: u64| rng.below(bound);
    for _ in 0..1500 {
        let node = usize::try_from(below(3)).expect("small");
        match below(100) {
            0..30 if !trio.packets.is_empty() => {
                let at = below(trio.packets.len() as u64);
                trio.receive(usize::try_from(at).expect("small"));
            }
            30..45 => trio.deliver(node, Event::Turn),
            45..58 => trio.finish_sync(node),
            58..60 => trio.finish_prepare(node),
            60..75 => {
                trio.put(node, b"k");
            }
            75..80 => {
                trio.read(node, b"k");
            }
            80..92 => (0..3).for_each(|node| trio.deliver(node, Event::Tick)),
            92 => trio.isolate(node),
            93 => trio.cut.clear(),
            94 => {
                trio.hung.insert(node);
            }
            95 => trio.hung.clear(),
            96 => {
                let other = (node + 1) % NODES_COUNT;
                trio.deliver(node, Event::PeerDisconnected(node_id(other)));
                trio.deliver(node, Event::PeerConnected(node_id(other)));
            }
            97 => trio.deliver(node, Event::HandOver),
            98 if below(20) == 0 => trio.fail_sync(node),
            99 if below(20) == 0 => {
                trio.ask(node, CallKind::Write, b"no command");
            }
            _ => {}
        }
    }
    // From here on only time passes. Followers hear nothing, so what waits there waits for its time too.
    trio.packets.clear();
    for _ in 0..EXPIRED_TICKS {
        (0..3).for_each(|node| trio.deliver(node, Event::Tick));
        trio.packets.clear();
    }
    trio.check_all_answered();
    for node in 0..NODES_COUNT {
        trio.deliver(node, Event::Stop);
    }
    let acknowledged = trio.answers.values().filter(|answer| answer.is_ok()).count();
    let unknown =
        trio.answers.values().filter(|answer| matches!(answer, Err(refusal) if refusal.executed == Executed::Unknown));
    let stopped = trio.nodes.iter().filter(|node| node.replica.fault().is_some()).count();
    (acknowledged, unknown.count(), stopped)
}

#[test]
fn every_request_is_answered_exactly_once_whatever_happens() {
    let cases: u64 = std::env::var("QUORATE_ANSWER_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    let (mut acknowledged, mut unknown, mut stopped) = (0, 0, 0);
    for seed in 0..cases {
        let (more_acknowledged, more_unknown, more_stopped) = match std::panic::catch_unwind(|| run_random(seed)) {
            Ok(counts) => counts,
            Err(cause) => {
                eprintln!("seed {seed} fails; QUORATE_ANSWER_SEEDS={} runs up to it", seed + 1);
                std::panic::resume_unwind(cause);
            }
        };
        acknowledged += more_acknowledged;
        unknown += more_unknown;
        stopped += more_stopped;
    }
    println!("{cases} seeds: {acknowledged} acknowledged, {unknown} of unknown outcome, {stopped} nodes stopped");
    let at_least = usize::try_from(cases).expect("few");
    assert!(acknowledged > at_least * 5 && unknown > at_least && stopped > at_least / 10, "the cases do something");
}

#[test]
fn uncommitted_writes_are_bounded_in_bytes() {
    let mut trio = Trio::new(5);
    let leader = trio.leader().expect("there is one");
    trio.hung.extend((0..NODES_COUNT).filter(|node| *node != leader));
    let value = vec![b'v'; 100 << 10];
    let large = op_command(&put(b"k", &value));
    let mut tickets = Vec::new();
    for _ in 0..40 {
        tickets.push(trio.ask(leader, CallKind::Write, &large));
        trio.settle();
    }
    let (taken, refused): (Vec<u64>, Vec<u64>) =
        tickets.into_iter().partition(|ticket| !trio.answers.contains_key(ticket));
    assert!((10..35).contains(&taken.len()), "a MiB and a batch are taken: {} writes", taken.len());
    assert!(refused.iter().all(|ticket| trio.refusal(*ticket) == (Status::Overloaded, Executed::No)));
    trio.hung.clear();
    (0..10).for_each(|_| trio.round());
    assert!(taken.iter().all(|ticket| trio.answers[ticket].is_ok()), "what was taken is done once there is a quorum");
    let after = trio.put(leader, b"after");
    trio.settle();
    assert!(trio.answers[&after].is_ok());
}

#[test]
fn reads_of_one_round_are_answered_in_turns_of_bounded_size() {
    let mut trio = Trio::new(6);
    let leader = trio.leader().expect("there is one");
    let value = vec![b'v'; 400 << 10];
    for key in [b"a", b"b", b"c", b"d", b"e", b"f"] {
        let large = op_command(&put(key, &value));
        trio.ask(leader, CallKind::Write, &large);
        trio.settle();
    }
    let all = request(&whole(b"a", b"z"));
    let tickets: Vec<u64> = (0..32).map(|_| trio.ask(leader, CallKind::Read, &all)).collect();
    let (mut most, mut turns) = (0, 0);
    while !tickets.iter().all(|ticket| trio.answers.contains_key(ticket)) {
        let before = trio.answers.len();
        trio.deliver(leader, Event::Turn);
        turns += 1;
        most = most.max(trio.answers.len() - before);
        while !trio.packets.is_empty() {
            trio.receive(0);
        }
    }
    assert!(tickets.iter().all(|ticket| trio.answers[ticket].is_ok()));
    // Each is made in slices, several turns long, and leaves as a whole.
    assert!(most == 1 && turns > 2 * tickets.len(), "{most} answers of 2.4 MB in one of {turns} turns");
}

#[test]
fn terms_without_room_in_the_log_silence_a_node_until_there_is_some() {
    let mut trio = Trio::new(7);
    let leader = trio.leader().expect("there is one");
    let (node, other) = ((leader + 1) % NODES_COUNT, (leader + 2) % NODES_COUNT);
    trio.isolate(node);
    let last = trio.nodes[other].replica.log().last_id();
    // No segment gets ready: terms fill the one there is, and its reserve.
    let mut term = trio.leader_view().term;
    let votes = |trio: &mut Trio, term| {
        let message = raft::Message::RequestVote { term, last, transfer: true };
        trio.deliver(node, Event::Message { from: node_id(other), speaker: raft::Speaker::default(), message });
        trio.deliver(node, Event::Turn);
        trio.finish_sync(node);
    };
    for _ in 0..100_000 {
        term = term.next();
        votes(&mut trio, term);
        if trio.nodes[node].replica.view().term < term {
            break;
        }
    }
    let silenced_at = trio.nodes[node].replica.view().term;
    assert!(silenced_at < term, "it was to run out of room");
    assert!(trio.nodes[node].replica.fault().is_none());
    for _ in 0..20 {
        trio.deliver(node, Event::Tick);
        trio.deliver(node, Event::Turn);
    }
    assert_eq!(trio.nodes[node].replica.log().hard_state().term.next(), silenced_at, "the last term is not written");
    trio.finish_prepare(node);
    trio.deliver(node, Event::Tick);
    votes(&mut trio, term);
    assert_eq!(trio.nodes[node].replica.log().hard_state().term, term);
    trio.cut.clear();
    (0..80).for_each(|_| trio.round());
    let leader = trio.leader().expect("all three agree on one");
    let ticket = trio.put(leader, b"after");
    trio.settle();
    assert!(trio.answers[&ticket].is_ok());
}
