//! Peer messages against their document: tables, golden bytes and code must agree. Then random ones, damage, and random bytes.
//!
//! `PROPTEST_CASES` sets the number of cases.

use std::collections::BTreeMap;

use api::call::{AnsweredBy, CallRow, PayloadForm};
use api::command::{Op, encode_op_command};
use net::api::{Executed, KIND_RESPONSE, KIND_RESPONSE_PART, Status, is_call};
use net::deframer::Deframer;
use net::frame::{FRAME_HEADER_BYTES, Frame, FrameKind};
use proptest::prelude::*;
use proptest::sample::Index as Choice;
use wal::testing::SimStorage;
use wal::{EntryHeader, EntryKind, Log, LogOptions, SegmentIdentity};

use crate::call::{Call, CallKind, Part, Refusal};
use crate::doc_table::WIRE_DOC;
use crate::entries_error::EntriesError;
use crate::log_store::{FormError, KIND_COMMANDS, KIND_MEMBERS, KIND_NOOP};
use crate::raft::{AppendEntries, AppendOutcome, BirthAnswer, Health, Membership, Message, Speaker};
use crate::replica::Event;
use crate::state_machine::batch::{self, BATCH_HEADER_BYTES, BatchHeader, Sender};
use crate::testing::fuzz;
use crate::types::{EntryId, Index, Lineage, NodeId, ShardId, Term};
use crate::wire::{
    EncodeError, Incoming, decode, decode_for, encode_append, encode_message, encode_relay_call, encode_relay_reply,
    kind, parse_entries,
};

/// Cases unless the environment says otherwise.
const CASES_DEFAULT: u32 = 10_000;

const SHARD: ShardId = ShardId::new(3);
const TERM: Term = Term::new(5);
const SEGMENT_BYTES: u64 = 64 << 10;

/// Of the leader that speaks or is answered.
const LIFE: u64 = 0x5a5a;

const SPEAKER: Speaker = Speaker { incarnation: 0xfeed, is_joining: false };

/// Names in the document, as the code has them.
const KINDS: [(FrameKind, &str); 20] = [
    (kind::REQUEST_PRE_VOTE, "RequestPreVote"),
    (kind::PRE_VOTE_RESPONSE, "PreVoteResponse"),
    (kind::REQUEST_VOTE, "RequestVote"),
    (kind::REQUEST_VOTE_RESPONSE, "RequestVoteResponse"),
    (kind::APPEND_ENTRIES, "AppendEntries"),
    (kind::APPEND_ACCEPTED, "AppendEntriesResponse, accepted"),
    (kind::APPEND_REJECTED, "AppendEntriesResponse, rejected"),
    (kind::HEARTBEAT, "Heartbeat"),
    (kind::HEARTBEAT_RESPONSE, "HeartbeatResponse"),
    (kind::TIMEOUT_NOW, "TimeoutNow"),
    (kind::REPAIR_REQUEST, "RepairRequest"),
    (kind::REPAIR_RESPONSE, "RepairResponse"),
    (kind::BIRTH_REQUEST, "BirthRequest"),
    (kind::BIRTH_RESPONSE, "BirthResponse"),
    (kind::APPEND_NO_ROOM, "AppendEntriesResponse, no room"),
    (kind::OUTDATED, "Outdated"),
    (kind::READ_INDEX_REQUEST, "ReadIndexRequest"),
    (kind::READ_INDEX_RESPONSE, "ReadIndexResponse"),
    (kind::APPEND_OTHER_HISTORY, "AppendEntriesResponse, another history"),
    (kind::APPEND_DAMAGED, "AppendEntriesResponse, damaged"),
];

/// Names in the document, as the code has them.
const BIRTH_ANSWERS: [(&str, BirthAnswer); 4] = [
    ("New", BirthAnswer::New),
    ("Known", BirthAnswer::Known),
    ("Stranger", BirthAnswer::Stranger),
    ("Replaced", BirthAnswer::Replaced),
];

fn id(term: u64, index: u64) -> EntryId {
    EntryId::new(Term::new(term), Index::new(index))
}

fn with_frame<T>(bytes: &[u8], take: impl FnOnce(&Frame<'_>) -> T) -> T {
    let mut deframer = Deframer::new(1 << 20);
    deframer.feed(bytes);
    take(&deframer.next_frame().expect("a sound frame").expect("a whole frame"))
}

fn written(append: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    append(&mut out);
    out
}

/// Only a node under repair asks to be repaired.
fn speaker_of(message: &Message) -> Speaker {
    Speaker { is_joining: matches!(message, Message::RepairRequest { .. }), ..SPEAKER }
}

fn append_response(outcome: AppendOutcome) -> Message {
    Message::AppendEntriesResponse { term: TERM, life: LIFE, outcome }
}

fn other_history(entry: EntryId, lineage: u64) -> AppendOutcome {
    AppendOutcome::OtherHistory { entry, lineage: Lineage::new(lineage) }
}

fn golden_health() -> Health {
    Health { applied_index: Index::new(79), may_lead: true, has_room: false, disk_keeps_up: false }
}

/// The messages without entries whose golden bytes the document has.
fn messages() -> Vec<(&'static str, Message)> {
    let (persisted_index, matched_index, lineage) = (Index::new(88), Index::new(91), Some(Lineage::new(0x77)));
    let (term, life, last, nonce) = (TERM, LIFE, id(4, 90), 0x1234);
    let rejected = AppendOutcome::Rejected { prev_index: Index::new(90), hint: id(3, 70) };
    vec![
        ("RequestPreVote", Message::RequestPreVote { term, last }),
        ("PreVoteResponse", Message::PreVoteResponse { term, campaign_term: Term::new(6), granted: true }),
        ("RequestVote", Message::RequestVote { term, last, transfer: true }),
        ("RequestVoteResponse", Message::RequestVoteResponse { term, granted: false }),
        (
            "AppendEntriesResponse, accepted",
            append_response(AppendOutcome::Accepted { persisted_index, matched_index, lineage }),
        ),
        ("AppendEntriesResponse, rejected", append_response(rejected)),
        (
            "AppendEntriesResponse, no room",
            append_response(AppendOutcome::NoRoom { persisted_index, matched_index, lineage }),
        ),
        (
            "AppendEntriesResponse, damaged",
            append_response(AppendOutcome::Damaged { persisted_index, matched_index, lineage }),
        ),
        ("Heartbeat", Message::Heartbeat { term, life, commit_index: Index::new(80), round: 17 }),
        (
            "HeartbeatResponse",
            Message::HeartbeatResponse {
                term,
                life,
                round: 17,
                persisted_index,
                matched_index,
                lineage,
                health: golden_health(),
            },
        ),
        ("TimeoutNow", Message::TimeoutNow { term, last_index: Index::new(90) }),
        ("RepairRequest", Message::RepairRequest { term, nonce, last, challenge: 0x5678 }),
        (
            "RepairResponse",
            Message::RepairResponse { term, life, nonce, last_index: Index::new(99), challenge: 0x5678 },
        ),
        ("BirthRequest", Message::BirthRequest { term, incarnation: 0xabcd }),
        (
            "BirthResponse",
            Message::BirthResponse { term, asked: 0xabcd, incarnation: 0x9876, answer: BirthAnswer::Stranger },
        ),
        ("Outdated", Message::Outdated { term, incarnation: 0x9876, since: Index::new(77) }),
        ("ReadIndexRequest", Message::ReadIndexRequest { term, leader_life: LIFE, life: 0x4321, batch: 6 }),
        ("ReadIndexResponse", Message::ReadIndexResponse { term, life: 0x4321, batch: 6, index: Index::new(80) }),
        ("AppendEntriesResponse, another history", append_response(other_history(last, 0x1357))),
    ]
}

/// A log of these entries, from index 1.
fn log_of(entries: &[(u64, EntryKind, Vec<u8>)]) -> Log<SimStorage> {
    let identity = SegmentIdentity { cluster_id: 1, node_id: 2, shard: 3, shard_count: 4 };
    let options =
        LogOptions { identity, segment_bytes: SEGMENT_BYTES, state: EntryId::ZERO, state_lineage: Lineage::START };
    let (mut log, _) = Log::open(SimStorage::new(identity, SEGMENT_BYTES, 1), options).expect("an empty log");
    while let Some(seq) = log.needs_segment() {
        log.storage_mut().prepare(seq);
    }
    for (index, (term, kind, payload)) in (1..).zip(entries) {
        let header = EntryHeader::new(id(*term, index), *kind, payload);
        log.append_entry(&header, payload).expect("room");
    }
    log
}

/// A batch that puts `value` at one key.
fn batch_of(value: &[u8]) -> Vec<u8> {
    let mut command = Vec::new();
    let put = Op::Put { key: b"k", value, lease: 0, prev_kv: false };
    encode_op_command(&put, &mut command).expect("a valid command");
    let mut payload = Vec::new();
    batch::encode(BatchHeader::default(), [command.as_slice()], &mut payload);
    payload
}

fn golden_log() -> Log<SimStorage> {
    let mut entries = vec![(4, KIND_NOOP, Vec::new()); 90];
    entries.push((4, KIND_COMMANDS, batch_of(b"one")));
    entries.push((5, KIND_NOOP, Vec::new()));
    log_of(&entries)
}

fn golden_append() -> AppendEntries {
    let prev = id(4, 90);
    let (first, last, prev_lineage) = (Index::new(91), Index::new(92), Lineage::new(0x2468));
    AppendEntries { term: TERM, life: LIFE, prev, prev_lineage, first, last, commit_index: Index::new(80) }
}

fn golden_refusal() -> Refusal {
    Refusal { status: Status::Overloaded, executed: Executed::No, message: "slow down".into() }
}

/// Every message of the document, as the code writes it.
fn all_written() -> BTreeMap<&'static str, Vec<u8>> {
    let mut all: BTreeMap<_, _> = messages()
        .into_iter()
        .map(|(name, message)| (name, written(|out| encode_message(&message, speaker_of(&message), SHARD, out))))
        .collect();
    let append =
        written(|out| encode_append(&golden_append(), SPEAKER, &golden_log(), SHARD, out).expect("in the log"));
    all.insert("AppendEntries", append);
    let relay = |number, kind, payload| {
        let call = Call::borrowed(SHARD, kind, 100, payload);
        written(|out| encode_relay_call(number, &call, out))
    };
    all.insert("A relayed write", relay(9, CallKind::Write, b"command"));
    let of_a_session = Call::borrowed(SHARD, CallKind::Write, 100, b"command").sent_by(Sender::new(7, 258));
    all.insert("A relayed write of a session", written(|out| encode_relay_call(9, &of_a_session, out)));
    all.insert("A relayed read", relay(10, CallKind::Read, b"range"));
    let reply = |number, part| written(|out| encode_relay_reply(number, part, 1000, out));
    all.insert("A relayed answer", reply(9, Part::Last(Ok(b"answer"))));
    all.insert("A relayed part", reply(9, Part::More(b"ans")));
    all.insert("A relayed refusal", reply(10, Part::Last(Err(&golden_refusal()))));
    all
}

fn golden() -> BTreeMap<&'static str, Vec<u8>> {
    WIRE_DOC.all_golden("Golden bytes of peer messages").into_iter().collect()
}

#[test]
fn golden_bytes_are_what_the_code_writes() {
    assert_eq!(golden(), all_written());
}

#[test]
fn golden_bytes_are_read_back() {
    let golden = golden();
    for (name, message) in messages() {
        with_frame(&golden[name], |frame| match decode(frame) {
            Ok(Incoming::Message(speaker, read)) => {
                assert_eq!((speaker, &read), (speaker_of(&message), &message), "{name}");
            }
            other => panic!("{name} was read as {other:?}"),
        });
    }
    with_frame(&golden["AppendEntries"], |frame| match decode(frame) {
        Ok(Incoming::Append(speaker, append, bytes)) => {
            assert_eq!((speaker, append), (SPEAKER, golden_append()));
            let entries = parse_entries(&append, bytes).expect("sound entries");
            let read: Vec<_> = entries.iter().map(|entry| (entry.id(), entry.header.kind(), entry.payload)).collect();
            assert_eq!(read, [(id(4, 91), KIND_COMMANDS, batch_of(b"one").as_slice()), (id(5, 92), KIND_NOOP, &[])]);
        }
        other => panic!("read as {other:?}"),
    });
    for (name, expected) in [
        ("A relayed write", "9: Write of shard 3 for 100 ms, \"command\""),
        ("A relayed write of a session", "9: Write of shard 3 for 100 ms, command 258 of session 7, \"command\""),
        ("A relayed read", "10: Read of shard 3 for 100 ms, \"range\""),
        ("A relayed answer", "9: Last \"answer\""),
        ("A relayed part", "9: More \"ans\""),
        ("A relayed refusal", "10: Overloaded No slow down"),
    ] {
        assert_eq!(with_frame(&golden[name], |frame| relayed(&decode(frame).expect(name))), expected);
    }
}

#[test]
fn life_0_is_refused_in_every_message_but_the_answer_that_is_for_no_leader() {
    // Counted in numbers from the beginning of the metadata: term, incarnation and the flag of a joining sender come first.
    let places = |name: &str| match name {
        "ReadIndexRequest" => vec![3, 4],
        "AppendEntries" | "Heartbeat" | "HeartbeatResponse" | "RepairResponse" | "ReadIndexResponse" => vec![3],
        name if name.starts_with("AppendEntriesResponse") => vec![3],
        _ => Vec::new(),
    };
    let mut lives_count = 0;
    for (name, bytes) in golden() {
        for place in places(name) {
            let is_taken = with_frame(&bytes, |frame| {
                let mut meta = frame.meta.to_vec();
                meta[8 * place..8 * (place + 1)].fill(0);
                decode(&Frame { meta: &meta, ..*frame }).is_ok()
            });
            assert_eq!(is_taken, name == "HeartbeatResponse", "{name} without the life at {place}");
            lives_count += 1;
        }
    }
    assert_eq!(lives_count, 12);
}

/// What is relayed, as text.
fn relayed(incoming: &Incoming<'_>) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    match incoming {
        Incoming::RelayCall { number, call } => {
            let (meta, kind, payload) = (call.meta, call.kind, text(&call.payload));
            let sender =
                meta.sender.map(|sender| format!("command {} of session {}, ", sender.sequence(), sender.session()));
            let sender = sender.unwrap_or_default();
            format!("{number}: {kind:?} of shard {} for {} ms, {sender}{payload:?}", meta.shard, meta.timeout_ms)
        }
        Incoming::RelayReply { number, part: Part::More(bytes) } => format!("{number}: More {:?}", text(bytes)),
        Incoming::RelayReply { number, part: Part::Last(Ok(bytes)) } => format!("{number}: Last {:?}", text(bytes)),
        Incoming::RelayReply { number, part: Part::Last(Err(Refusal { status, executed, message })) } => {
            format!("{number}: {status:?} {executed:?} {message}")
        }
        other => panic!("{other:?} is not relayed"),
    }
}

#[test]
fn documented_answers_are_all_there_are() {
    let wire = |answer| {
        let message = Message::BirthResponse { term: TERM, asked: 1, incarnation: 2, answer };
        let bytes = written(|out| encode_message(&message, speaker_of(&message), SHARD, out));
        u64::from(bytes[bytes.len() - 8])
    };
    let answers = BIRTH_ANSWERS.map(|(name, answer)| (wire(answer), name.to_owned()));
    assert_eq!(WIRE_DOC.numbers("Answers of a BirthResponse"), answers);
}

#[test]
fn a_frame_of_another_shard_is_refused_on_a_connection() {
    // All of them are of shard 3, but for answers.
    let golden = golden();
    let mut answers_count = 0;
    for bytes in golden.values() {
        let (taken, is_right, is_answer) = with_frame(bytes, |frame| {
            let is_answer = [KIND_RESPONSE, KIND_RESPONSE_PART].contains(&frame.kind);
            let taken = |shard| decode_for(ShardId::new(shard), frame).is_ok();
            (taken(2), taken(3) == decode(frame).is_ok(), is_answer)
        });
        assert!(is_right && taken == is_answer);
        answers_count += u32::from(is_answer);
    }
    assert!(golden.len() > 10 && answers_count == 3, "{answers_count}");
}

#[test]
fn documented_kinds_are_all_there_are() {
    let kinds = KINDS.map(|(kind, name)| (u64::from(kind.get()), name.to_owned()));
    assert_eq!(WIRE_DOC.numbers("Peer messages"), kinds);
    // A kind that is none is refused whatever its metadata; one that is may want more, or something else.
    let unknown = |raw: u16| {
        let frame = Frame { kind: FrameKind::new(raw), flags: 0, shard: 3, id: 0, meta: &[0; 24], rest: &[] };
        decode(&frame).is_err_and(|error| {
            error.to_string() == format!("the kind of a peer's message has the unknown value {raw}")
        })
    };
    // What is passed on has the kinds of the client protocol.
    let is_passed_on =
        |raw| [KIND_RESPONSE, KIND_RESPONSE_PART].contains(&FrameKind::new(raw)) || is_call(FrameKind::new(raw));
    let of_peers = (0..=u16::MAX).filter(|&raw| !is_passed_on(raw));
    let known: Vec<u64> = of_peers.filter(|&raw| !unknown(raw)).map(u64::from).collect();
    assert_eq!(known, kinds.map(|(kind, _)| kind));
}

#[test]
fn documented_calls_are_the_ones_in_the_code() {
    let documented: Vec<Vec<String>> = WIRE_DOC.table("Calls");
    let coded = CallKind::ALL.map(|kind| {
        let CallRow { name, number, writes, lasts, answered_by, payload } = kind.row();
        let answered_by = match answered_by {
            AnsweredBy::Leader => "the shard's leader",
            AnsweredBy::Replica => "the shard on the node that is asked",
            AnsweredBy::Node => "the node that is asked",
        };
        let payload = match payload {
            PayloadForm::Command => "command",
            PayloadForm::Range => "range request",
            PayloadForm::Nothing => "none",
        };
        let [writes, lasts] = [writes, lasts].map(|is| if is { "yes" } else { "no" });
        assert!(is_call(FrameKind::new(number)), "{kind:?}");
        [number.to_string().as_str(), name, writes, lasts, answered_by, payload].map(str::to_owned).to_vec()
    });
    assert_eq!(documented, coded);
}

#[test]
fn only_what_the_leader_answers_is_passed_on() {
    for kind in CallKind::ALL {
        let bytes = written(|out| encode_relay_call(1, &Call::borrowed(SHARD, kind, 100, b"payload"), out));
        let is_taken = with_frame(&bytes, |frame| decode(frame).is_ok());
        assert_eq!(is_taken, kind.answered_by() == AnsweredBy::Leader, "{kind:?}");
    }
}

#[test]
fn documented_fields_are_the_ones_in_the_code() {
    let golden = golden();
    for row in &WIRE_DOC.table("Peer messages") {
        let fields = row[2].split(';').next().unwrap_or_default();
        let count = 3 + fields.split(',').filter(|field| !field.trim().is_empty()).count();
        with_frame(&golden[row[1].as_str()], |frame| {
            assert_eq!(frame.meta.len(), count * size_of::<u64>(), "{}", row[1]);
            assert_eq!((frame.kind.get().to_string(), frame.flags, frame.id), (row[0].clone(), 0, 0), "{}", row[1]);
        });
    }
}

#[test]
fn entries_that_the_log_does_not_have_are_not_sent() {
    let log = golden_log();
    let mut out = b"in front".to_vec();
    let append = AppendEntries { last: Index::new(93), ..golden_append() };
    assert_eq!(encode_append(&append, SPEAKER, &log, SHARD, &mut out), Err(EncodeError::Gone(Index::new(93))));
    assert_eq!(out, b"in front", "nothing was appended");
}

#[test]
fn entries_of_a_later_term_or_of_the_log_itself_are_refused() {
    let bytes = |header: &EntryHeader| header.as_bytes().to_vec();
    let append = AppendEntries { last: Index::new(91), ..golden_append() };
    let later = EntryHeader::new(id(6, 91), KIND_NOOP, &[]);
    let refused = parse_entries(&append, &bytes(&later)).map(|entries| entries.len());
    assert_eq!(refused, Err(EntriesError::Sequence { got: id(6, 91), expected: Index::new(91) }));
    for kind in [0, EntryKind::HARD_STATE.get(), EntryKind::MARK.get()] {
        let mut entry = bytes(&EntryHeader::new(id(5, 91), KIND_NOOP, &[]));
        entry[24] = kind;
        let crc = crc32fast::hash(&entry[4..]);
        entry[..4].copy_from_slice(&crc.to_le_bytes());
        assert!(matches!(parse_entries(&append, &entry), Err(EntriesError::Entry { .. })), "kind {kind}");
    }
}

#[test]
fn entries_that_no_state_machine_can_apply_are_refused() {
    let append = AppendEntries { last: Index::new(91), ..golden_append() };
    let refused = |kind, payload: &[u8]| {
        let header = EntryHeader::new(id(5, 91), kind, payload);
        let bytes = [header.as_bytes(), payload].concat();
        match parse_entries(&append, &bytes) {
            Ok(entries) => panic!("{} entries of kind {kind:?} are taken", entries.len()),
            Err(error) => error,
        }
    };
    let form = |error| EntriesError::Form { index: Index::new(91), error };
    let unknown = EntryKind::new(99);
    assert_eq!(refused(unknown, &[]), form(FormError::Kind(unknown)));
    assert_eq!(refused(KIND_NOOP, b"1"), form(FormError::NoopWithPayload(1)));
    let members = Membership::new([1, 2, 3].map(NodeId::new).to_vec());
    let named = |since| members.with_named(NodeId::new(2), 7, Index::new(since));
    for names in [members.clone(), named(90), named(92), named(90).with_named(NodeId::new(2), 7, Index::new(1 << 61))] {
        assert_eq!(refused(KIND_MEMBERS, &names.encode()), form(FormError::OtherNames));
    }
    let whole = batch_of(b"one");
    for cut in (0..whole.len()).filter(|cut| *cut != BATCH_HEADER_BYTES) {
        let error = refused(KIND_COMMANDS, &whole[..cut]);
        assert!(matches!(error, EntriesError::Form { error: FormError::Commands(_), .. }), "cut at {cut}: {error}");
    }
    // The first byte of the command is its version.
    let mut later = whole;
    later[BATCH_HEADER_BYTES + 8] += 1;
    let error = refused(KIND_COMMANDS, &later);
    assert!(matches!(error, EntriesError::Form { error: FormError::Commands(_), .. }), "{error}");
}

/// A position, a term or a time that may occur.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1..100u64, 0..1u64 << 48]
}

fn message() -> impl Strategy<Value = Message> {
    let parts = (0..messages().len(), prop::array::uniform5(number()), any::<bool>());
    parts.prop_map(|(kind, [term, life, one, two, three], flag)| {
        let (term, last) = (Term::new(term), id(one, two));
        let any_life = life;
        let life = life.max(1);
        let index = Index::new;
        match kind {
            0 => Message::RequestPreVote { term, last },
            1 => Message::PreVoteResponse { term, campaign_term: Term::new(one), granted: flag },
            2 => Message::RequestVote { term, last, transfer: flag },
            3 => Message::RequestVoteResponse { term, granted: flag },
            4 => {
                let (persisted_index, matched_index) = (index(one.min(two)), index(one.max(two)));
                let lineage = flag.then(|| Lineage::new(three.max(1)));
                let outcome = AppendOutcome::Accepted { persisted_index, matched_index, lineage };
                Message::AppendEntriesResponse { term, life, outcome }
            }
            17 => Message::AppendEntriesResponse { term, life, outcome: other_history(last, three) },
            5 => {
                let outcome = AppendOutcome::Rejected { prev_index: index(three), hint: last };
                Message::AppendEntriesResponse { term, life, outcome }
            }
            6 => Message::Heartbeat { term, life, commit_index: index(one), round: two },
            7 => {
                let (persisted_index, matched_index) = (index(one.min(two)), index(one.max(two)));
                let lineage = flag.then(|| Lineage::new(three.max(1)));
                let health = Health { applied_index: index(two), may_lead: flag, has_room: !flag, disk_keeps_up: flag };
                Message::HeartbeatResponse {
                    term,
                    life: any_life,
                    round: three,
                    persisted_index,
                    matched_index,
                    lineage,
                    health,
                }
            }
            8 => Message::TimeoutNow { term, last_index: index(one) },
            9 => Message::RepairRequest { term, nonce: three, last, challenge: one },
            10 => Message::RepairResponse { term, life, nonce: one, last_index: index(two), challenge: three },
            11 => Message::BirthRequest { term, incarnation: one },
            12 => Message::Outdated { term, incarnation: one, since: index(two) },
            13 => Message::ReadIndexRequest { term, leader_life: life, life: one.max(1), batch: two },
            14 => Message::ReadIndexResponse { term, life, batch: two, index: index(three) },
            _ => {
                let answer = BIRTH_ANSWERS[usize::try_from(three % 4).expect("small")].1;
                Message::BirthResponse { term, asked: one, incarnation: two, answer }
            }
        }
    })
}

type Entries = Vec<(u64, EntryKind, Vec<u8>)>;

/// Entries of rising terms.
fn entries() -> impl Strategy<Value = Entries> {
    let payload = prop::collection::vec(any::<u8>(), 0..40);
    prop::collection::vec((0..3u64, any::<bool>(), payload), 1..12).prop_map(|steps| {
        let mut term = 1;
        let entry = |(step, is_noop, payload): (u64, bool, Vec<u8>)| {
            term += step;
            if is_noop { (term, KIND_NOOP, Vec::new()) } else { (term, KIND_COMMANDS, batch_of(&payload)) }
        };
        steps.into_iter().map(entry).collect()
    })
}

/// The announcement of the entries after `prev` up to `last`.
fn announce(entries: &Entries, prev: usize, last: usize, commit_index: u64) -> AppendEntries {
    let prev_term = prev.checked_sub(1).map_or(0, |at| entries[at].0);
    let prev = id(prev_term, prev as u64);
    let term = Term::new(entries.last().map_or(1, |entry| entry.0));
    let commit_index = Index::new(commit_index);
    let (first, last, prev_lineage) = (prev.index.next(), Index::new(last as u64), Lineage::new(commit_index.get()));
    AppendEntries { term, life: LIFE, prev, prev_lineage, first, last, commit_index }
}

/// What a peer gets out of the bytes of an `AppendEntries`; `None` if it takes nothing.
fn taken(bytes: &[u8]) -> Option<(AppendEntries, Entries)> {
    let mut deframer = Deframer::new(1 << 20);
    deframer.feed(bytes);
    let frame = deframer.next_frame().ok()??;
    let Incoming::Append(_, append, rest) = decode(&frame).ok()? else { return None };
    let entries = parse_entries(&append, rest).ok()?;
    let entry =
        |entry: &crate::wire::WireEntry<'_>| (entry.id().term.get(), entry.header.kind(), entry.payload.to_vec());
    Some((append, entries.iter().map(entry).collect()))
}

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES_DEFAULT);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn messages_are_read_as_they_were_written(message in message(), shard in any::<u32>(), node in any::<u64>()) {
        let bytes = written(|out| encode_message(&message, speaker_of(&message), ShardId::new(shard), out));
        with_frame(&bytes, |frame| {
            assert_eq!(frame.shard, shard);
            match decode(frame).map(|incoming| -> Event<'_> { incoming.into_event(NodeId::new(node)) }) {
                Ok(Event::Message { from, speaker, message: read }) => {
                    assert_eq!((from, speaker, &read), (NodeId::new(node), speaker_of(&message), &message));
                }
                other => panic!("{message:?} was read as {other:?}"),
            }
        });
    }

    #[test]
    fn entries_arrive_as_they_stand_in_the_log_or_not_at_all(
        entries in entries(), ends in any::<[Choice; 2]>(), commit_index in number(), damage in any::<Choice>(), bit in 0..8,
    ) {
        let ends = ends.map(|end| end.index(entries.len() + 1));
        let (prev, last) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
        let append = announce(&entries, prev, last, commit_index);
        let mut bytes = written(|out| encode_append(&append, SPEAKER, &log_of(&entries), SHARD, out).expect("in the log"));
        prop_assert_eq!(taken(&bytes), Some((append, entries[prev..last].to_vec())));
        let at = damage.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        prop_assert_eq!(taken(&bytes), None);
    }

    #[test]
    fn what_is_relayed_arrives(
        number in any::<u64>(), is_read in any::<bool>(), timeout_ms in any::<u32>(), payload in prop::collection::vec(any::<u8>(), 0..60),
        (session, sequence) in prop_oneof![Just((0, 0)), any::<(u64, u64)>()],
        (status, executed) in (0..u8::MAX, 0..2u8), message in ".{0,400}",
    ) {
        let kind = if is_read { CallKind::Read } else { CallKind::Write };
        let call = Call::borrowed(SHARD, kind, timeout_ms, &payload).sent_by(Sender::new(session, sequence));
        let bytes = written(|out| encode_relay_call(number, &call, out));
        let shown = |incoming: &Incoming<'_>| format!("{incoming:?}");
        let expected = shown(&Incoming::RelayCall { number, call: call.clone() });
        prop_assert_eq!(with_frame(&bytes, |frame| shown(&decode(frame).expect("a relayed request"))), expected);
        let bytes = written(|out| encode_relay_reply(number, Part::Last(Ok(&payload)), usize::MAX, out));
        let expected = shown(&Incoming::RelayReply { number, part: Part::Last(Ok(&payload)) });
        prop_assert_eq!(with_frame(&bytes, |frame| shown(&decode(frame).expect("a relayed answer"))), expected);
        if let (Ok(status), Ok(executed)) = (Status::from_wire(status % 16), Executed::from_wire(executed)) {
            let refusal = Refusal { status, executed, message: message.into() };
            let bytes = written(|out| encode_relay_reply(number, Part::Last(Err(&refusal)), 1, out));
            let Ok(Incoming::RelayReply { part: Part::Last(Err(read)), .. }) =
                with_frame(&bytes, |frame| decode(frame).map(owned))
            else {
                panic!("{refusal:?} did not arrive");
            };
            let is_whole = refusal.message.len() <= 1024;
            prop_assert!(refusal.message.starts_with(read.message.as_ref()), "{refusal:?} was read as {read:?}");
            prop_assert!(!is_whole || read == refusal, "{refusal:?} was read as {read:?}");
        }
    }

    #[test]
    fn a_long_answer_goes_in_parts(body in prop::collection::vec(any::<u8>(), 0..200), bytes_max in 1..60_usize, ends in any::<bool>()) {
        let sent = if ends { Part::Last(Ok(body.as_slice())) } else { Part::More(body.as_slice()) };
        let mut deframer = Deframer::new(bytes_max);
        deframer.feed(&written(|out| encode_relay_reply(7, sent, bytes_max, out)));
        let (mut arrived, mut has_ended) = (Vec::new(), false);
        while let Some(frame) = deframer.next_frame().expect("no body is longer than a part may be") {
            prop_assert!(!has_ended, "something follows the last part");
            let Ok(Incoming::RelayReply { number: 7, part }) = decode(&frame) else { panic!("{frame:?}") };
            has_ended = matches!(part, Part::Last(_));
            arrived.extend_from_slice(part.bytes().expect("no refusal"));
        }
        prop_assert_eq!((arrived, has_ended), (body, ends));
    }

    #[test]
    fn damaged_messages_break_nothing(name in any::<Choice>(), head in any::<[u8; 6]>(), at in any::<Choice>(), byte in any::<u8>()) {
        let all = all_written();
        let (_, bytes) = all.iter().nth(name.index(all.len())).expect("a message");
        let mut input = with_frame(bytes, |frame| {
            let [kind, rest_bytes] = [frame.kind.get().to_le_bytes()[0], frame.rest.len().to_le_bytes()[0]];
            [kind, frame.flags.to_le_bytes()[0], head[2], frame.id.to_le_bytes()[0], rest_bytes, head[5]].to_vec()
        });
        input.extend_from_slice(&bytes[FRAME_HEADER_BYTES..]);
        fuzz::peer_message(&input);
        let at = at.index(input.len());
        input[at] = byte;
        fuzz::peer_message(&input);
    }

    #[test]
    fn any_bytes_are_taken_or_refused(kind in 60..90u8, bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        fuzz::peer_message(&[&[kind], bytes.as_slice()].concat());
    }
}

/// A refusal without the frame that it came in.
fn owned(incoming: Incoming<'_>) -> Incoming<'static> {
    match incoming {
        Incoming::RelayReply { number, part: Part::Last(Err(refusal)) } => {
            Incoming::RelayReply { number, part: Part::Last(Err(refusal)) }
        }
        other => panic!("{other:?} is no refusal"),
    }
}
