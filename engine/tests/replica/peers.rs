//! One shipped replica whose peers are played by the test: what they may send, what finds no room, and which writes wait.

mod hanging_disk;
mod kept;
mod lanes;
mod names;
mod parted;
mod reads;

use std::collections::BTreeMap;

use engine::call::{CallKind, Origin, Part, Refusal, Ticket};
use engine::log_store;
use engine::raft::{self, AppendEntries, AppendOutcome, Message, Speaker};
use engine::replica::{Event, NotTaken, ReplicaOptions};
use engine::state_machine::batch::{self, BatchHeader};
use engine::types::{EntryId, Index, NodeId, Term};
use engine::wire::{self, Incoming};
use net::api::{Executed, Status};
use wal::testing::{SimRng, SimStorage};
use wal::{EntryHeader, Log};

use crate::host::{self, Effect, Host, SHARD, TIMEOUT_TICKS, call, for_each_message, new_disk, open};
use crate::ops::{op_command, put, request, whole};

const SEGMENT_BYTES: u64 = 16 << 10;

fn node_id(number: u64) -> NodeId {
    NodeId::new(number)
}

/// With room for little that is not committed.
fn options(seed: u64) -> ReplicaOptions {
    ReplicaOptions {
        batch_bytes_target: 2 << 10,
        uncommitted_bytes_limit: 8 << 10,
        queued_write_bytes_limit: 64 << 10,
        ..host::options(0, seed)
    }
}

/// What the replica sent to a peer.
#[derive(Debug)]
enum Sent {
    Message(Message),
    Append(AppendEntries),
    Request(u64),
    Reply(u64, Result<usize, Refusal>),
}

/// Node 1 of three.
struct Subject {
    host: Host,
    sent: Vec<(NodeId, Sent)>,
    answers: BTreeMap<u64, Result<Vec<u8>, Refusal>>,
    last_ticket: u64,
    /// Syncs that are asked for do not end.
    disk_hangs: bool,
}

/// The payload of an entry that puts something, as long as that.
fn batch_of(payload_bytes: usize) -> Vec<u8> {
    let encoded = |value: &[u8]| {
        let command = op_command(&put(b"k", value));
        let mut payload = Vec::new();
        batch::encode(BatchHeader::default(), [command.as_slice()], &mut payload);
        payload
    };
    let payload = encoded(&vec![7; payload_bytes - encoded(b"").len()]);
    assert_eq!(payload.len(), payload_bytes, "the rest of a batch has one length");
    payload
}

fn log_with(terms: &[u64], payload_bytes: usize, segment_bytes: u64) -> Log<SimStorage> {
    let mut log = open(0, new_disk(0, segment_bytes, 1));
    if let Some(term) = terms.iter().max() {
        log.append_hard_state(wal::HardStateRecord { term: Term::new(*term), vote: 0 }).expect("room");
    }
    for (index, term) in (1..).zip(terms) {
        let id = EntryId::new(Term::new(*term), Index::new(index));
        let payload = if payload_bytes == 0 { Vec::new() } else { batch_of(payload_bytes) };
        let header = EntryHeader::new(
            id,
            if payload_bytes == 0 { log_store::KIND_NOOP } else { log_store::KIND_COMMANDS },
            &payload,
        );
        if let Some(seq) = log.needs_segment() {
            log.storage_mut().prepare(seq);
        }
        log.append_entry(&header, &payload).expect("room");
    }
    log
}

impl Subject {
    fn new(options: ReplicaOptions, log: Log<SimStorage>) -> Self {
        Self::of(Host::new(options, log))
    }

    fn of(host: Host) -> Self {
        let mut subject = Self { host, sent: Vec::new(), answers: BTreeMap::new(), last_ticket: 0, disk_hangs: false };
        subject.turn();
        for peer in [2, 3] {
            subject.deliver(Event::PeerConnected(node_id(peer)));
        }
        subject
    }

    fn deliver(&mut self, event: Event<'_>) {
        for effect in self.host.handle(event) {
            match effect {
                Effect::Sent { to, bytes } => for_each_message(&bytes, |message| {
                    let sent = match message {
                        Incoming::Message(_, message) => Sent::Message(message),
                        Incoming::Append(_, append, _) => Sent::Append(append),
                        Incoming::RelayCall { number, .. } => Sent::Request(number),
                        Incoming::RelayReply { number, part: Part::Last(result) } => {
                            Sent::Reply(number, result.map(<[u8]>::len))
                        }
                        Incoming::RelayReply { .. } => panic!("every answer here is small"),
                    };
                    self.sent.push((to, sent));
                }),
                Effect::Answered { number, part: Part::Last(result) } => {
                    let before = self.answers.insert(number, result);
                    assert!(before.is_none(), "request {number} was answered twice");
                }
                Effect::Answered { .. } => panic!("every answer here is small"),
            }
        }
        self.complete_syncs();
    }

    fn complete_syncs(&mut self) {
        while !self.disk_hangs
            && let Some(event) = self.host.complete_sync()
        {
            self.deliver(event);
        }
    }

    /// What hung goes on.
    fn disk_goes_on(&mut self) {
        self.disk_hangs = false;
        self.complete_syncs();
        self.turn();
    }

    fn turn(&mut self) {
        self.deliver(Event::Turn);
        self.deliver(Event::Turn);
    }

    fn tick(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.deliver(Event::Tick);
            self.turn();
        }
    }

    fn hear(&mut self, from: u64, message: Message) {
        self.deliver(Event::Message { from: node_id(from), speaker: Speaker::default(), message });
        self.turn();
    }

    /// Installs every segment that was asked for.
    fn prepare(&mut self) {
        while let Some(event) = self.host.complete_prepare() {
            self.deliver(event);
            self.turn();
        }
    }

    fn sent(&mut self) -> Vec<(NodeId, Sent)> {
        std::mem::take(&mut self.sent)
    }

    /// Both peers vote for it.
    fn lead(&mut self) {
        let before = self.host.replica.view().term;
        while self.host.replica.view().role == raft::Role::Follower {
            self.tick(1);
        }
        let term = before.next();
        self.hear(2, Message::PreVoteResponse { term: before, campaign_term: term, granted: true });
        self.hear(2, Message::RequestVoteResponse { term, granted: true });
        assert!(self.host.replica.view().is_leader, "{:?}", self.host.replica.view());
        self.sent();
    }

    /// A follower has everything durably.
    fn acknowledge_all(&mut self) {
        let view = self.host.replica.view();
        let (matched_index, persisted_index) = (view.last_index, view.last_index);
        let outcome = AppendOutcome::Accepted { matched_index, persisted_index, lineage: None };
        self.hear(2, Message::AppendEntriesResponse { term: view.term, life: 1, outcome });
    }

    fn put(&mut self, origin: Option<Origin>, value_bytes: usize) -> u64 {
        self.ask(origin, CallKind::Write, &op_command(&put(b"k", &vec![7; value_bytes])))
    }

    fn read(&mut self) -> u64 {
        self.ask(None, CallKind::Read, &request(&whole(b"k", b"")))
    }

    fn ask(&mut self, origin: Option<Origin>, kind: CallKind, payload: &[u8]) -> u64 {
        self.last_ticket += 1;
        let origin = origin.unwrap_or(Origin::Local(Ticket(self.last_ticket)));
        self.deliver(call(origin, kind, payload));
        self.last_ticket
    }

    fn refusal(&self, ticket: u64) -> (Status, Executed) {
        match self.answers.get(&ticket) {
            Some(Err(refusal)) => (refusal.status, refusal.executed),
            other => panic!("request {ticket} was to be refused, its answer is {other:?}"),
        }
    }

    /// Entries `first..=last` of a leader's log, from node 2.
    fn append(&mut self, log: &Log<SimStorage>, first: u64, last: u64, damage: bool) {
        let prev_index = Index::new(first - 1);
        let prev = EntryId::new(if first == 1 { Term::ZERO } else { log.term(prev_index).expect("held") }, prev_index);
        let (term, commit_index) = (log.last_id().term, Index::ZERO);
        let (first, last) = (Index::new(first), Index::new(last));
        let prev_lineage = log.lineage(prev_index).expect("held");
        let append = AppendEntries { term, life: 1, prev, prev_lineage, first, last, commit_index };
        let mut bytes = Vec::new();
        wire::encode_append(&append, Speaker::default(), log, SHARD, &mut bytes).expect("held");
        if damage {
            *bytes.last_mut().expect("bytes") ^= 1;
        }
        for_each_message(&bytes, |message| self.deliver(message.into_event(node_id(2))));
        self.turn();
    }
}

/// A replica with its first segment and nothing in it.
fn fresh(options: ReplicaOptions) -> Subject {
    Subject::new(options, log_with(&[], 0, SEGMENT_BYTES))
}

/// The lineage depends on what the entries carry, and is tested elsewhere.
fn without_lineage(mut outcome: AppendOutcome) -> AppendOutcome {
    if let AppendOutcome::Accepted { lineage, .. }
    | AppendOutcome::NoRoom { lineage, .. }
    | AppendOutcome::Damaged { lineage, .. } = &mut outcome
    {
        *lineage = None;
    }
    outcome
}

fn outcomes(sent: Vec<(NodeId, Sent)>) -> Vec<AppendOutcome> {
    let outcome = |(_, sent)| match sent {
        Sent::Message(Message::AppendEntriesResponse { outcome, .. }) => Some(without_lineage(outcome)),
        _ => None,
    };
    sent.into_iter().filter_map(outcome).collect()
}

#[test]
fn a_follower_without_room_verifies_nothing_and_goes_on_once_it_has_some() {
    let mut subject = fresh(options(1));
    let leader = log_with(&[1; 40], 1000, 1 << 20);
    let mut last = 0;
    loop {
        subject.append(&leader, last + 1, last + 1, false);
        let outcomes = outcomes(subject.sent());
        match outcomes.last() {
            Some(AppendOutcome::Accepted { persisted_index, .. }) => last = persisted_index.get(),
            Some(AppendOutcome::NoRoom { matched_index, persisted_index, .. }) => {
                assert_eq!((matched_index.get(), persisted_index.get()), (last, last));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(last > 5, "the first segment takes some");
    for _ in 0..100 {
        subject.append(&leader, last + 1, last + 3, true);
        assert!(matches!(outcomes(subject.sent()).as_slice(), [AppendOutcome::NoRoom { .. }]));
    }
    assert_eq!(subject.host.replica.stats().appends_corrupt, 0, "no checksum was computed");
    // What it holds already is acknowledged again, room or not.
    subject.append(&leader, last, last, false);
    assert!(
        matches!(outcomes(subject.sent()).as_slice(), [AppendOutcome::NoRoom { persisted_index, .. }] if persisted_index.get() == last)
    );
    subject.prepare();
    let got = outcomes(subject.sent());
    assert!(matches!(got.as_slice(), [AppendOutcome::NoRoom { .. }, AppendOutcome::Accepted { .. }, ..]), "{got:?}");
    subject.append(&leader, last + 1, last + 3, true);
    assert_eq!(subject.host.replica.stats().appends_corrupt, 1);
    assert!(matches!(outcomes(subject.sent()).as_slice(), [AppendOutcome::Damaged { .. }]));
    subject.append(&leader, last + 1, last + 3, false);
    let got = outcomes(subject.sent());
    assert!(
        matches!(got.last(), Some(AppendOutcome::Accepted { persisted_index, .. }) if persisted_index.get() == last + 3),
        "{got:?}"
    );
}

#[test]
fn writes_wait_for_the_next_segment_in_their_order() {
    let mut subject = fresh(options(2));
    subject.lead();
    subject.acknowledge_all();
    let mut tickets = Vec::new();
    while subject.host.replica.stats().writes_queued < 10 {
        tickets.push(subject.put(None, 1000));
        subject.turn();
        subject.acknowledge_all();
        assert!(tickets.len() < 100, "a segment is full at some time");
    }
    assert!(subject.answers.values().all(Result::is_ok), "nothing is refused");
    for _ in 0..20 {
        subject.prepare();
        subject.acknowledge_all();
    }
    let mut revisions = Vec::new();
    for ticket in &tickets {
        revisions.push(subject.answers.get(ticket).expect("answered").clone().expect("done"));
    }
    assert!(revisions.is_sorted(), "the order is kept: answers begin with their revision");
}

#[test]
fn what_earlier_terms_left_in_the_log_holds_up_no_write() {
    let log = log_with(&[1; 30], 0, 1 << 20);
    let options = ReplicaOptions { uncommitted_bytes_limit: 120, ..options(3) };
    let mut subject = Subject::new(options, log);
    subject.prepare();
    subject.lead();
    let ticket = subject.put(None, 10);
    subject.turn();
    assert_eq!(subject.host.replica.stats().writes_proposed, 1, "31 uncommitted entries are no reason to wait");
    // More of the own term wait, and none is refused.
    let others: Vec<u64> = (0..5).map(|_| subject.put(None, 100)).collect();
    assert!(subject.host.replica.stats().writes_queued > 0);
    for _ in 0..10 {
        subject.acknowledge_all();
    }
    assert!(subject.answers[&ticket].is_ok());
    assert!(others.iter().all(|ticket| subject.answers[ticket].is_ok()), "{:?}", subject.answers);
}

/// A leader whose first segment is full and where one write waits.
fn full_leader(seed: u64) -> (Subject, u64) {
    let mut subject = fresh(options(seed));
    subject.lead();
    subject.acknowledge_all();
    loop {
        let ticket = subject.put(None, 2000);
        subject.turn();
        subject.acknowledge_all();
        if subject.host.replica.stats().writes_queued > 0 {
            return (subject, ticket);
        }
    }
}

#[test]
fn the_queue_is_bounded_and_who_leaves_it_is_told_that_nothing_happened() {
    let (mut subject, first) = full_leader(4);
    let mut tickets = vec![first];
    let refused = loop {
        let ticket = subject.put(None, 2000);
        if subject.answers.contains_key(&ticket) {
            break ticket;
        }
        tickets.push(ticket);
    };
    assert_eq!(subject.refusal(refused), (Status::Overloaded, Executed::No));
    assert!((20..40).contains(&tickets.len()), "{} of 2000 bytes in 64 KiB", tickets.len());
    let term = subject.host.replica.view().term.next();
    subject.hear(2, Message::Heartbeat { term, life: 1, commit_index: Index::ZERO, round: 1 });
    for ticket in tickets {
        assert_eq!(subject.refusal(ticket), (Status::Unavailable, Executed::No));
    }

    let (mut subject, ticket) = full_leader(5);
    for _ in 0..TIMEOUT_TICKS + 5 {
        subject.tick(1);
        subject.acknowledge_all();
    }
    assert_eq!(subject.refusal(ticket), (Status::Timeout, Executed::No));
    subject.prepare();
    subject.acknowledge_all();
    assert_eq!(subject.host.replica.view().pending_writes_count, 0);

    let (mut subject, ticket) = full_leader(6);
    subject.deliver(Event::SegmentUnavailable("the disk is full".to_owned()));
    subject.turn();
    assert_eq!(subject.refusal(ticket), (Status::NoSpace, Executed::No));
}

#[test]
fn an_answer_without_room_on_the_way_back_becomes_a_refusal() {
    let mut subject = fresh(options(7));
    subject.lead();
    subject.acknowledge_all();
    subject.sent();
    let origin = Origin::Peer { node: node_id(3), number: 77 };
    subject.put(Some(origin), 10);
    subject.turn();
    subject.acknowledge_all();
    let is_reply = |(to, sent): &(NodeId, Sent)| *to == node_id(3) && matches!(sent, Sent::Reply(77, Ok(_)));
    assert!(subject.sent().iter().any(is_reply));
    subject.deliver(Event::ReplyDropped { to: node_id(3), number: 77, why: NotTaken::NoCredit });
    match subject.sent().as_slice() {
        [(to, Sent::Reply(77, Err(refusal)))] => {
            assert_eq!((*to, refusal.status, refusal.executed), (node_id(3), Status::Overloaded, Executed::Unknown));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn to_the_node_that_passed_it_on_a_lost_answer_is_unknown_for_a_write_and_harmless_for_a_read() {
    // A node under repair answers no reads itself.
    let repair = engine::replica::RepairOptions { nonce: 1, hard_state_is_certain: true, damage: String::new() };
    let mut subject = fresh(ReplicaOptions { repair: Some(repair), ..options(8) });
    let term = Term::new(1);
    subject.hear(2, Message::Heartbeat { term, life: 1, commit_index: Index::ZERO, round: 1 });
    subject.sent();
    let (write, read) = (subject.put(None, 10), subject.read());
    let numbers: Vec<u64> = subject
        .sent()
        .into_iter()
        .filter_map(|(_, sent)| match sent {
            Sent::Request(number) => Some(number),
            _ => None,
        })
        .collect();
    for number in numbers {
        let part = Part::Last(Err(Refusal::unknown(Status::Overloaded, "dropped")));
        subject.deliver(Event::RelayReply { from: node_id(2), number, part });
    }
    assert_eq!(subject.refusal(write), (Status::Overloaded, Executed::Unknown));
    assert_eq!(subject.refusal(read), (Status::Overloaded, Executed::No));
}

/// A number as a stranger would choose it: small, near what the replica has, or huge.
fn number(rng: &mut SimRng, near: u64) -> u64 {
    match rng.below(4) {
        0 => rng.below(4),
        1 | 2 => (near + rng.below(5)).saturating_sub(2),
        _ => (1 << 62) - 1 - rng.below(3),
    }
}

fn any_message(rng: &mut SimRng, term: u64, index: u64) -> Message {
    let own = Term::new(term);
    let term = Term::new(if rng.chance(2, 3) { own.get() } else { number(rng, own.get()) });
    let flag = rng.chance(1, 2);
    let (one, other) = (Index::new(number(rng, index)), Index::new(number(rng, index)));
    let entry = EntryId::new(Term::new(number(rng, own.get())), one);
    match rng.below(12) {
        0 => Message::RequestPreVote { term, last: entry },
        1 => Message::PreVoteResponse { term, campaign_term: Term::new(number(rng, own.get())), granted: flag },
        2 => Message::RequestVote { term, last: entry, transfer: flag },
        3 => Message::RequestVoteResponse { term, granted: flag },
        4 => {
            let outcome = AppendOutcome::Accepted { matched_index: one, persisted_index: other, lineage: None };
            Message::AppendEntriesResponse { term, life: 1, outcome }
        }
        5 => {
            let outcome = AppendOutcome::NoRoom { matched_index: one, persisted_index: other, lineage: None };
            Message::AppendEntriesResponse { term, life: 1, outcome }
        }
        6 => {
            let outcome = AppendOutcome::Rejected { prev_index: other, hint: entry };
            Message::AppendEntriesResponse { term, life: 1, outcome }
        }
        7 => Message::Heartbeat { term, life: 1, commit_index: one, round: number(rng, 3) },
        8 => Message::HeartbeatResponse {
            term,
            life: 1,
            round: number(rng, 3),
            matched_index: one,
            persisted_index: other,
            lineage: None,
            health: raft::Health::default(),
        },
        9 => Message::TimeoutNow { term, last_index: one },
        10 => Message::RepairRequest { term, nonce: number(rng, 3), last: entry, challenge: number(rng, 3) },
        _ => {
            Message::RepairResponse { term, life: 1, nonce: number(rng, 3), last_index: one, challenge: number(rng, 3) }
        }
    }
}

#[test]
fn well_formed_messages_that_make_no_sense_trip_no_assertion() {
    for seed in 0..300 {
        let rng = &mut SimRng::new(seed);
        let mut subject = Subject::new(options(seed), log_with(&[1, 1, 2], 0, SEGMENT_BYTES));
        for _ in 0..300 {
            let view = subject.host.replica.view();
            let from = node_id(1 + rng.below(4));
            match rng.below(12) {
                0..=6 => {
                    let message = any_message(rng, view.term.get(), view.last_index.get());
                    subject.deliver(Event::Message { from, speaker: Speaker::default(), message });
                }
                7 | 8 => {
                    let (term, prev) = (Term::new(number(rng, view.term.get())), number(rng, view.last_index.get()));
                    let prev = EntryId::new(Term::new(number(rng, view.term.get())), Index::new(prev));
                    let mut append = AppendEntries {
                        term,
                        life: 1,
                        prev,
                        prev_lineage: subject.host.replica.log().lineage(prev.index).unwrap_or_default(),
                        first: prev.index.next(),
                        last: prev.index,
                        commit_index: view.commit_index,
                    };
                    let mut bytes = Vec::new();
                    for _ in 0..rng.below(3) {
                        append.last = append.last.next();
                        let id = EntryId::new(Term::new(number(rng, term.get())), append.last);
                        bytes.extend_from_slice(zerocopy::IntoBytes::as_bytes(&EntryHeader::new(
                            id,
                            log_store::KIND_NOOP,
                            &[],
                        )));
                    }
                    subject.deliver(Event::Append { from, speaker: Speaker::default(), append, entries: &bytes });
                }
                9 => subject.tick(1 + rng.below(12)),
                10 => subject.prepare(),
                _ => {
                    subject.put(None, 10);
                }
            }
            subject.turn();
            // A message may raise the term by 2^32, and a campaign by one more.
            let term_max = view.term.get() + (1 << 32) + 1;
            assert!(subject.host.replica.view().term.get() <= term_max, "one message does not use the terms up");
        }
    }
}

#[test]
fn who_finds_no_leader_is_told_which_nodes_lost_their_data_or_are_new() {
    let message_of = |subject: &Subject, ticket: u64| match &subject.answers[&ticket] {
        Err(refusal) => refusal.message.clone().into_owned(),
        Ok(_) => panic!("nobody leads"),
    };
    let mut subject = fresh(options(47));
    let ticket = subject.put(None, 10);
    let plain = message_of(&subject, ticket);
    assert!(plain.contains("no leader") && !plain.contains("lost data"), "{plain}");
    let question = |challenge| Message::RepairRequest { term: Term::ZERO, nonce: 7, last: EntryId::ZERO, challenge };
    for node in [2, 3] {
        subject.hear(node, question(0));
        let challenge = subject.sent().into_iter().find_map(|(to, sent)| match sent {
            Sent::Message(Message::RepairResponse { challenge, .. }) if to == node_id(node) => Some(challenge),
            _ => None,
        });
        subject.hear(node, question(challenge.expect("an answer")));
    }
    let (write, read) = (subject.put(None, 10), subject.read());
    for ticket in [write, read] {
        let message = message_of(&subject, ticket);
        assert!(
            message.contains(&format!("nodes that lost data: {}, {}; the others", node_id(2), node_id(3))),
            "{message}"
        );
        assert_eq!(subject.refusal(ticket), (Status::Unavailable, Executed::No));
    }

    let birth = raft::BirthRecord { incarnation: 7, stage: raft::Stage::New };
    let mut subject = fresh(ReplicaOptions { birth, ..options(48) });
    let ticket = subject.put(None, 10);
    let message = message_of(&subject, ticket);
    let awaited =
        format!("this node is new and waits to hear whether these nodes are, too: {}, {}", node_id(2), node_id(3));
    assert!(message.contains(&awaited), "{message}");
}

#[test]
fn a_replacement_says_that_it_waits_to_be_taken_in() {
    let birth = raft::BirthRecord { incarnation: 7, stage: raft::Stage::Replaced };
    let repair = engine::replica::RepairOptions { nonce: 1, hard_state_is_certain: false, damage: "x".to_owned() };
    let mut subject = fresh(ReplicaOptions { birth, repair: Some(repair), ..options(49) });
    let shown = |subject: &Subject| subject.host.replica.view().repair.expect("under repair").to_string();
    let awaited = format!("waits to hear the terms of nodes {} {};", node_id(2), node_id(3));
    assert!(shown(&subject).starts_with(&awaited), "{}", shown(&subject));
    let answer =
        Message::RepairResponse { term: Term::new(1), life: 1, nonce: 1, last_index: Index::ZERO, challenge: 0 };
    for node in [2, 3] {
        subject.hear(node, answer.clone());
    }
    assert!(shown(&subject).starts_with("waits for a leader that takes its new log in"), "{}", shown(&subject));
}

#[test]
fn a_stopped_replica_shows_no_leader_that_has_been_silent_for_an_election_timeout() {
    let mut subject = fresh(options(50));
    let election_ticks = u64::from(host::options(0, 50).raft.election_ticks);
    let heartbeat = |term| Message::Heartbeat { term: Term::new(term), life: 1, commit_index: Index::ZERO, round: 1 };
    let shown = |subject: &Subject| subject.host.replica.view().leader;
    subject.hear(2, heartbeat(1));
    subject.deliver(Event::LogNotInPlace("it is elsewhere".to_owned()));
    assert_eq!(shown(&subject), Some(node_id(2)));
    subject.tick(election_ticks);
    assert_eq!(shown(&subject), None, "nothing was heard of it since");
    for (node, term) in [(2, 1), (3, 2), (3, 2)] {
        subject.hear(node, heartbeat(term));
        subject.tick(election_ticks - 1);
        assert_eq!(shown(&subject), Some(node_id(node)));
        subject.hear(2, heartbeat(1));
        subject.tick(1);
        assert_eq!(shown(&subject).is_some(), (node, term) == (2, 1), "the word of a deposed leader changes nothing");
    }
}
