//! Peer messages as bytes: what two replicas of a shard say to each other, inside `net`'s frames.
//!
//! Layouts are in `docs/format/wire.md`. This module knows the bytes of messages and nothing of their meaning, which is
//! `raft`'s and `replica`'s. Entries travel as they stand in the log, header and payload, under their own checksum.

use codec::{DecodeError, Reader};
use net::api::{self as frames, Refused};
use net::frame::{Frame, FrameBuilder, FrameKind, encode_frame};
use wal::format::ENTRY_HEADER_BYTES;
use wal::{EntryHeader, Log, ReadError, Storage};

use crate::call::{AnsweredBy, Call, Origin, Part, Refusal};
use crate::entries_error::EntriesError;
use crate::limits::COUNT_HINT_MAX;
use crate::log_store::{FormError, check_form, membership_of};
use crate::raft::{AppendEntries, AppendOutcome, BirthAnswer, Health, Membership, Message, NO_LIFE, Speaker, Tip};
use crate::replica::event::Event;
use crate::types::{EntryId, Index, Lineage, NodeId, ShardId, Term};

/// Terms and indexes from here on are refused: no cluster comes near them, and arithmetic below them cannot overflow.
const NUMBER_LIMIT: u64 = 1 << 62;

/// Kinds of peer frames. A number never changes its meaning within a protocol version.
pub mod kind {
    use net::frame::FrameKind;

    /// `RequestPreVote`.
    pub const REQUEST_PRE_VOTE: FrameKind = FrameKind::new(64);
    /// `PreVoteResponse`.
    pub const PRE_VOTE_RESPONSE: FrameKind = FrameKind::new(65);
    /// `RequestVote`.
    pub const REQUEST_VOTE: FrameKind = FrameKind::new(66);
    /// `RequestVoteResponse`.
    pub const REQUEST_VOTE_RESPONSE: FrameKind = FrameKind::new(67);
    /// `AppendEntries`, with entries after the metadata.
    pub const APPEND_ENTRIES: FrameKind = FrameKind::new(68);
    /// `AppendEntriesResponse`, accepted.
    pub const APPEND_ACCEPTED: FrameKind = FrameKind::new(69);
    /// `AppendEntriesResponse`, rejected.
    pub const APPEND_REJECTED: FrameKind = FrameKind::new(70);
    /// `AppendEntriesResponse`, another history.
    pub(crate) const APPEND_OTHER_HISTORY: FrameKind = FrameKind::new(82);
    /// `AppendEntriesResponse`, without room.
    pub const APPEND_NO_ROOM: FrameKind = FrameKind::new(78);
    /// `Heartbeat`.
    pub const HEARTBEAT: FrameKind = FrameKind::new(71);
    /// `HeartbeatResponse`.
    pub const HEARTBEAT_RESPONSE: FrameKind = FrameKind::new(72);
    /// `TimeoutNow`.
    pub const TIMEOUT_NOW: FrameKind = FrameKind::new(73);
    /// `RepairRequest`.
    pub const REPAIR_REQUEST: FrameKind = FrameKind::new(74);
    /// `RepairResponse`.
    pub const REPAIR_RESPONSE: FrameKind = FrameKind::new(75);
    /// `BirthRequest`.
    pub const BIRTH_REQUEST: FrameKind = FrameKind::new(76);
    /// `BirthResponse`.
    pub const BIRTH_RESPONSE: FrameKind = FrameKind::new(77);
    /// `AppendEntriesResponse`: the entries were damaged.
    pub(crate) const APPEND_DAMAGED: FrameKind = FrameKind::new(83);
    /// `Outdated`.
    pub(crate) const OUTDATED: FrameKind = FrameKind::new(79);
    /// `ReadIndexRequest`.
    pub(crate) const READ_INDEX_REQUEST: FrameKind = FrameKind::new(80);
    /// `ReadIndexResponse`.
    pub(crate) const READ_INDEX_RESPONSE: FrameKind = FrameKind::new(81);
}

/// A message cannot be put into bytes: the log does not give up an entry that it should have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The log cannot read it.
    #[error("an entry to send cannot be read: {0}")]
    Read(#[from] ReadError),
    /// The log does not have it any more: it was superseded since.
    #[error("entry {0} to send is not in the log any more")]
    Gone(Index),
}

/// An entry of an `AppendEntries`, verified.
#[derive(Clone, Debug)]
pub struct WireEntry<'a> {
    /// Its header.
    pub header: EntryHeader,
    /// Its payload.
    pub payload: &'a [u8],
    /// Lineage of the leader's log up to this entry.
    lineage: Lineage,
    /// The membership that it holds, if it holds one.
    pub membership: Option<Membership>,
    /// A command of it has a sender.
    pub(crate) has_senders: bool,
}

impl WireEntry<'_> {
    /// Which entry it is.
    #[must_use]
    pub fn id(&self) -> EntryId {
        self.header.id()
    }

    /// The same, with the lineage of the leader's log up to it.
    #[must_use]
    pub(crate) fn tip(&self) -> Tip {
        Tip { id: self.id(), lineage: self.lineage }
    }
}

/// Bits of `ailments` in a `HeartbeatResponse`: why a follower should not lead.
mod ailment {
    pub const MAY_NOT_LEAD: u64 = 1;
    pub const NO_ROOM: u64 = 2;
    pub const SLOW_DISK: u64 = 4;
    pub const ALL: u64 = MAY_NOT_LEAD | NO_ROOM | SLOW_DISK;
}

fn ailments_of(health: &Health) -> u64 {
    let bit = |is_well: bool, bit: u64| if is_well { 0 } else { bit };
    bit(health.may_lead, ailment::MAY_NOT_LEAD)
        | bit(health.has_room, ailment::NO_ROOM)
        | bit(health.disk_keeps_up, ailment::SLOW_DISK)
}

/// What every message of Raft begins with.
fn head(term: Term, speaker: Speaker) -> [u64; 3] {
    [term.get(), speaker.incarnation, u64::from(speaker.is_joining)]
}

fn put(out: &mut Vec<u8>, numbers: &[u64]) {
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

/// Appends the frame of a message without entries.
///
/// # Panics
/// If it is an `AppendEntries`, which `encode_append` encodes.
pub fn encode_message(message: &Message, speaker: Speaker, shard: ShardId, out: &mut Vec<u8>) {
    let mut meta = Vec::with_capacity(64);
    put(&mut meta, &head(message.term(), speaker));
    let kind = match message {
        Message::RequestPreVote { last, .. } => {
            put(&mut meta, &[last.term.get(), last.index.get()]);
            kind::REQUEST_PRE_VOTE
        }
        Message::RequestVote { last, transfer, .. } => {
            put(&mut meta, &[last.term.get(), last.index.get(), u64::from(*transfer)]);
            kind::REQUEST_VOTE
        }
        Message::PreVoteResponse { campaign_term, granted, .. } => {
            put(&mut meta, &[campaign_term.get(), u64::from(*granted)]);
            kind::PRE_VOTE_RESPONSE
        }
        Message::RequestVoteResponse { granted, .. } => {
            put(&mut meta, &[u64::from(*granted)]);
            kind::REQUEST_VOTE_RESPONSE
        }
        Message::AppendEntries(_) => panic!("AppendEntries are encoded with their entries"),
        Message::AppendEntriesResponse { life, outcome, .. } => {
            put(&mut meta, &[*life]);
            put_outcome(outcome, &mut meta)
        }
        Message::Heartbeat { life, commit_index, round, .. } => {
            put(&mut meta, &[*life, commit_index.get(), *round]);
            kind::HEARTBEAT
        }
        Message::HeartbeatResponse { life, round, persisted_index, matched_index, lineage, health, .. } => {
            put(&mut meta, &[*life, *round]);
            put_holding(*persisted_index, *matched_index, *lineage, &mut meta);
            put(&mut meta, &[health.applied_index.get(), ailments_of(health)]);
            kind::HEARTBEAT_RESPONSE
        }
        Message::TimeoutNow { last_index, .. } => {
            put(&mut meta, &[last_index.get()]);
            kind::TIMEOUT_NOW
        }
        Message::RepairRequest { nonce, last, challenge, .. } => {
            put(&mut meta, &[*nonce, last.term.get(), last.index.get(), *challenge]);
            kind::REPAIR_REQUEST
        }
        Message::RepairResponse { life, nonce, last_index, challenge, .. } => {
            put(&mut meta, &[*life, *nonce, last_index.get(), *challenge]);
            kind::REPAIR_RESPONSE
        }
        Message::BirthRequest { incarnation, .. } => {
            put(&mut meta, &[*incarnation]);
            kind::BIRTH_REQUEST
        }
        Message::BirthResponse { asked, incarnation, answer, .. } => {
            put(&mut meta, &[*asked, *incarnation, birth_answer_to_wire(*answer)]);
            kind::BIRTH_RESPONSE
        }
        Message::ReadIndexRequest { leader_life, life, batch, .. } => {
            put(&mut meta, &[*leader_life, *life, *batch]);
            kind::READ_INDEX_REQUEST
        }
        Message::ReadIndexResponse { life, batch, index, .. } => {
            put(&mut meta, &[*life, *batch, index.get()]);
            kind::READ_INDEX_RESPONSE
        }
        Message::Outdated { incarnation, since, .. } => {
            put(&mut meta, &[*incarnation, since.get()]);
            kind::OUTDATED
        }
    };
    encode_frame(out, kind, 0, shard.get(), 0, &meta);
}

/// What a follower has of its leader's log. A lineage that it does not know is 0.
fn put_holding(persisted_index: Index, matched_index: Index, lineage: Option<Lineage>, meta: &mut Vec<u8>) {
    put(meta, &[persisted_index.get(), matched_index.get(), lineage.unwrap_or(Lineage::START).get()]);
}

fn put_outcome(outcome: &AppendOutcome, meta: &mut Vec<u8>) -> FrameKind {
    match outcome {
        AppendOutcome::Accepted { persisted_index, matched_index, lineage } => {
            put_holding(*persisted_index, *matched_index, *lineage, meta);
            kind::APPEND_ACCEPTED
        }
        AppendOutcome::NoRoom { persisted_index, matched_index, lineage } => {
            put_holding(*persisted_index, *matched_index, *lineage, meta);
            kind::APPEND_NO_ROOM
        }
        AppendOutcome::Damaged { persisted_index, matched_index, lineage } => {
            put_holding(*persisted_index, *matched_index, *lineage, meta);
            kind::APPEND_DAMAGED
        }
        AppendOutcome::Rejected { prev_index, hint } => {
            put(meta, &[prev_index.get(), hint.term.get(), hint.index.get()]);
            kind::APPEND_REJECTED
        }
        AppendOutcome::OtherHistory { entry, lineage } => {
            put(meta, &[entry.term.get(), entry.index.get(), lineage.get()]);
            kind::APPEND_OTHER_HISTORY
        }
    }
}

const fn birth_answer_to_wire(answer: BirthAnswer) -> u64 {
    match answer {
        BirthAnswer::New => 0,
        BirthAnswer::Known => 1,
        BirthAnswer::Stranger => 2,
        BirthAnswer::Replaced => 3,
    }
}

/// Appends the frame of an `AppendEntries`, with its entries as they stand in the log.
///
/// # Errors
/// The log does not give up an entry; nothing was appended.
pub fn encode_append<S: Storage>(
    append: &AppendEntries,
    speaker: Speaker,
    log: &Log<S>,
    shard: ShardId,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let mut builder = FrameBuilder::begin(out, kind::APPEND_ENTRIES, 0, shard.get(), 0);
    let prev = append.prev;
    let last = append.last.max(prev.index);
    put(out, &head(append.term, speaker));
    put(out, &[append.life, prev.term.get(), prev.index.get(), append.prev_lineage.get()]);
    put(out, &[last.get(), append.commit_index.get()]);
    builder.end_meta(out);
    let mut index = prev.index;
    while index < last {
        index = index.next();
        match log.entry(index) {
            Ok(Some(entry)) => out.extend_from_slice(entry.bytes()),
            Ok(None) => {
                builder.abandon(out);
                return Err(EncodeError::Gone(index));
            }
            Err(error) => {
                builder.abandon(out);
                return Err(error.into());
            }
        }
    }
    builder.finish(out);
    Ok(())
}

/// Names and payload sizes of the entries of an `AppendEntries`, as they are announced: nothing is verified. Ends early where
/// the bytes make no sense. For a look at what it would take to append them.
pub fn announced_entries(bytes: &[u8]) -> impl Iterator<Item = (EntryId, usize)> {
    let mut reader = Reader::new(bytes);
    std::iter::from_fn(move || {
        let header = EntryHeader::parse(reader.bytes("an entry's header", ENTRY_HEADER_BYTES).ok()?).ok()?;
        reader.bytes("an entry's payload", header.payload_len()).ok()?;
        Some((header.id(), header.payload_len()))
    })
}

/// Takes the entries of an `AppendEntries` apart, and verifies of each its checksum and that a state machine can apply it.
///
/// # Errors
/// They are not those announced, damaged, or of no use; none may be used.
pub fn parse_entries<'a>(append: &AppendEntries, bytes: &'a [u8]) -> Result<Vec<WireEntry<'a>>, EntriesError> {
    let count = usize::try_from(append.entries_count()).unwrap_or(usize::MAX);
    let mut entries = Vec::with_capacity(count.min(COUNT_HINT_MAX));
    let mut reader = Reader::new(bytes);
    let (mut index, mut lineage) = (append.prev.index, append.prev_lineage);
    while index < append.last {
        index = index.next();
        let damaged = |error| EntriesError::Entry { index, error };
        let header = EntryHeader::parse(reader.bytes("an entry's header", ENTRY_HEADER_BYTES)?).map_err(damaged)?;
        let payload = reader.bytes("an entry's payload", header.payload_len())?;
        header.verify(payload).map_err(damaged)?;
        if header.id().index != index || header.id().term > append.term || !header.kind().is_entry() {
            return Err(EntriesError::Sequence { got: header.id(), expected: index });
        }
        let refused = |error| EntriesError::Form { index, error };
        let has_senders = check_form(header.kind(), payload).map_err(refused)?;
        let membership = membership_of(header.kind(), payload).map_err(refused)?;
        if membership.as_ref().is_some_and(|membership| !membership.is_of_entry(index)) {
            return Err(refused(FormError::OtherNames));
        }
        lineage = header.lineage_behind(lineage);
        entries.push(WireEntry { header, payload, lineage, membership, has_senders });
    }
    reader.finish("the entries of an AppendEntries")?;
    Ok(entries)
}

/// Appends the frame of a call that this node passes on: it has the form in which clients' calls arrive.
pub fn encode_relay_call(number: u64, call: &Call<'_>, out: &mut Vec<u8>) {
    call.as_request(number).encode(out);
}

/// Appends the frames of a part of the answer to a call that a peer passed on: they have the form in which clients get theirs. One
/// with more than `bytes_max` goes as several.
pub fn encode_relay_reply(number: u64, part: Part<&[u8], &Refusal>, bytes_max: usize, out: &mut Vec<u8>) {
    let bytes = part.bytes().unwrap_or_default();
    let (mut rest, bytes_max) = (bytes, bytes_max.max(1));
    while rest.len() > bytes_max {
        let (bytes, behind) = rest.split_at(bytes_max);
        frames::ResponsePart { id: number, bytes }.encode(out);
        rest = behind;
    }
    match part {
        Part::More(_) => frames::ResponsePart { id: number, bytes: rest }.encode(out),
        Part::Last(result) => {
            let result = result.map(|_| rest).map_err(Refusal::as_refused);
            frames::Response { id: number, leader_hint: None, result }.encode(out);
        }
    }
}

/// A peer's frame, taken apart.
#[derive(Debug)]
pub enum Incoming<'a> {
    /// A message without entries.
    Message(Speaker, Message),
    /// `AppendEntries`, its entries not verified yet.
    Append(Speaker, AppendEntries, &'a [u8]),
    /// A call that the peer passes on.
    RelayCall {
        /// The peer's number for it.
        number: u64,
        /// What is asked for; not checked.
        call: Call<'a>,
    },
    /// The answer to a call that this node passed on.
    RelayReply {
        /// This node's number for it.
        number: u64,
        /// The next part of the answer.
        part: Part<&'a [u8]>,
    },
}

impl<'a> Incoming<'a> {
    /// The event that this is, coming from a peer.
    #[must_use]
    pub fn into_event<P>(self, from: NodeId) -> Event<'a, P> {
        match self {
            Self::Message(speaker, message) => Event::Message { from, speaker, message },
            Self::Append(speaker, append, entries) => Event::Append { from, speaker, append, entries },
            Self::RelayCall { number, call } => Event::Call { origin: Origin::Peer { node: from, number }, call },
            Self::RelayReply { number, part } => Event::RelayReply { from, number, part },
        }
    }
}

struct Fields<'a> {
    reader: Reader<'a>,
}

impl Fields<'_> {
    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.reader.u64("a field of a peer's message")
    }

    fn number(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let got = self.u64()?;
        if got < NUMBER_LIMIT { Ok(got) } else { Err(DecodeError::Unknown { what, got }) }
    }

    fn term(&mut self) -> Result<Term, DecodeError> {
        self.number("a term in a peer's message").map(Term::new)
    }

    fn index(&mut self) -> Result<Index, DecodeError> {
        self.number("an index in a peer's message").map(Index::new)
    }

    fn entry_id(&mut self) -> Result<EntryId, DecodeError> {
        let term = self.term()?;
        Ok(EntryId::new(term, self.index()?))
    }

    fn lineage(&mut self) -> Result<Lineage, DecodeError> {
        self.u64().map(Lineage::new)
    }

    /// A lineage that may be unknown: 0.
    fn known_lineage(&mut self) -> Result<Option<Lineage>, DecodeError> {
        self.lineage().map(|lineage| (lineage != Lineage::START).then_some(lineage))
    }

    fn health(&mut self) -> Result<Health, DecodeError> {
        let applied_index = self.index()?;
        let ailments = self.u64()?;
        if ailments & !ailment::ALL != 0 {
            return Err(DecodeError::Unknown { what: "the ailments of a follower", got: ailments });
        }
        let lacks = |bit: u64| ailments & bit == 0;
        Ok(Health {
            applied_index,
            may_lead: lacks(ailment::MAY_NOT_LEAD),
            has_room: lacks(ailment::NO_ROOM),
            disk_keeps_up: lacks(ailment::SLOW_DISK),
        })
    }

    fn outcome(&mut self, kind: FrameKind) -> Result<AppendOutcome, DecodeError> {
        if kind == kind::APPEND_REJECTED {
            return Ok(AppendOutcome::Rejected { prev_index: self.index()?, hint: self.entry_id()? });
        }
        if kind == kind::APPEND_OTHER_HISTORY {
            return Ok(AppendOutcome::OtherHistory { entry: self.entry_id()?, lineage: self.lineage()? });
        }
        let (persisted_index, matched_index, lineage) = (self.index()?, self.index()?, self.known_lineage()?);
        Ok(match kind {
            kind::APPEND_NO_ROOM => AppendOutcome::NoRoom { persisted_index, matched_index, lineage },
            kind::APPEND_DAMAGED => AppendOutcome::Damaged { persisted_index, matched_index, lineage },
            _ => AppendOutcome::Accepted { persisted_index, matched_index, lineage },
        })
    }

    /// A life of a node. No node draws 0, and whoever believed in a leader without a life would refuse the real one for a whole term.
    fn life(&mut self) -> Result<u64, DecodeError> {
        match self.u64()? {
            NO_LIFE => Err(DecodeError::Unknown { what: "a life in a peer's message", got: NO_LIFE }),
            life => Ok(life),
        }
    }

    fn outdated(&mut self, term: Term) -> Result<Message, DecodeError> {
        Ok(Message::Outdated { term, incarnation: self.u64()?, since: self.index()? })
    }

    fn repair_response(&mut self, term: Term) -> Result<Message, DecodeError> {
        let (life, nonce, last_index) = (self.life()?, self.u64()?, self.index()?);
        Ok(Message::RepairResponse { term, life, nonce, last_index, challenge: self.u64()? })
    }

    fn read_index_request(&mut self, term: Term) -> Result<Message, DecodeError> {
        let (leader_life, life, batch) = (self.life()?, self.life()?, self.u64()?);
        Ok(Message::ReadIndexRequest { term, leader_life, life, batch })
    }

    fn read_index_response(&mut self, term: Term) -> Result<Message, DecodeError> {
        let (life, batch) = (self.life()?, self.u64()?);
        Ok(Message::ReadIndexResponse { term, life, batch, index: self.index()? })
    }

    /// An `AppendEntries` without its entries.
    fn append(mut self, term: Term) -> Result<AppendEntries, DecodeError> {
        let (life, prev, prev_lineage) = (self.life()?, self.entry_id()?, self.lineage()?);
        let (last, commit_index) = (self.index()?, self.index()?);
        self.reader.finish("AppendEntries")?;
        if last < prev.index {
            return Err(DecodeError::Unknown { what: "the last index of an AppendEntries", got: last.get() });
        }
        Ok(AppendEntries { term, life, prev, prev_lineage, first: prev.index.next(), last, commit_index })
    }

    fn birth_response(&mut self, term: Term) -> Result<Message, DecodeError> {
        let (asked, incarnation) = (self.u64()?, self.u64()?);
        Ok(Message::BirthResponse { term, asked, incarnation, answer: self.birth_answer()? })
    }

    fn birth_answer(&mut self) -> Result<BirthAnswer, DecodeError> {
        match self.u64()? {
            0 => Ok(BirthAnswer::New),
            1 => Ok(BirthAnswer::Known),
            2 => Ok(BirthAnswer::Stranger),
            3 => Ok(BirthAnswer::Replaced),
            got => Err(DecodeError::Unknown { what: "the answer of a BirthResponse", got }),
        }
    }

    fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.u64()? {
            0 => Ok(false),
            1 => Ok(true),
            got => Err(DecodeError::Unknown { what: "a flag of a peer's message", got }),
        }
    }
}

/// Takes a frame apart that came on a peer's connection of this shard.
///
/// # Errors
/// It is another shard's, or does not follow the format; the connection should be closed.
pub fn decode_for<'a>(shard: ShardId, frame: &Frame<'a>) -> Result<Incoming<'a>, DecodeError> {
    // Answers name none: who asked knows by the number.
    let is_answer = [frames::KIND_RESPONSE, frames::KIND_RESPONSE_PART].contains(&frame.kind);
    if !is_answer && frame.shard != shard.get() {
        let what = "the shard of a peer's message, on a connection of another shard,";
        return Err(DecodeError::Unknown { what, got: frame.shard.into() });
    }
    decode(frame)
}

/// Takes a peer's frame apart, of whatever shard.
///
/// # Errors
/// It does not follow the format.
pub fn decode<'a>(frame: &Frame<'a>) -> Result<Incoming<'a>, DecodeError> {
    if frame.kind != kind::APPEND_ENTRIES && !frame.rest.is_empty() {
        return Err(DecodeError::Trailing { what: "a peer's message", got: frame.rest.len() });
    }
    if frame.kind == frames::KIND_RESPONSE {
        return decode_relay_reply(frame);
    }
    if frame.kind == frames::KIND_RESPONSE_PART {
        let frames::ResponsePart { id: number, bytes } = frames::ResponsePart::decode(frame)?;
        return Ok(Incoming::RelayReply { number, part: Part::More(bytes) });
    }
    if frames::is_call(frame.kind) {
        return decode_relay_call(frame);
    }
    if frame.flags != 0 {
        return Err(DecodeError::Unknown { what: "the flags of a peer's message", got: frame.flags.into() });
    }
    if frame.id != 0 {
        return Err(DecodeError::Unknown { what: "the id of a peer's message", got: frame.id });
    }
    let mut fields = Fields { reader: Reader::new(frame.meta) };
    let term = fields.term()?;
    let speaker = Speaker { incarnation: fields.u64()?, is_joining: fields.flag()? };
    let message = match frame.kind {
        kind::REQUEST_PRE_VOTE => Message::RequestPreVote { term, last: fields.entry_id()? },
        kind::PRE_VOTE_RESPONSE => {
            let campaign_term = fields.term()?;
            Message::PreVoteResponse { term, campaign_term, granted: fields.flag()? }
        }
        kind::REQUEST_VOTE => Message::RequestVote { term, last: fields.entry_id()?, transfer: fields.flag()? },
        kind::REQUEST_VOTE_RESPONSE => Message::RequestVoteResponse { term, granted: fields.flag()? },
        kind::APPEND_ENTRIES => return Ok(Incoming::Append(speaker, fields.append(term)?, frame.rest)),
        kind::APPEND_ACCEPTED
        | kind::APPEND_NO_ROOM
        | kind::APPEND_DAMAGED
        | kind::APPEND_REJECTED
        | kind::APPEND_OTHER_HISTORY => {
            Message::AppendEntriesResponse { term, life: fields.life()?, outcome: fields.outcome(frame.kind)? }
        }
        kind::HEARTBEAT => {
            Message::Heartbeat { term, life: fields.life()?, commit_index: fields.index()?, round: fields.u64()? }
        }
        kind::HEARTBEAT_RESPONSE => Message::HeartbeatResponse {
            term,
            // It may answer no leader of its term (`NO_LIFE`).
            life: fields.u64()?,
            round: fields.u64()?,
            persisted_index: fields.index()?,
            matched_index: fields.index()?,
            lineage: fields.known_lineage()?,
            health: fields.health()?,
        },
        kind::TIMEOUT_NOW => Message::TimeoutNow { term, last_index: fields.index()? },
        kind::REPAIR_REQUEST => {
            Message::RepairRequest { term, nonce: fields.u64()?, last: fields.entry_id()?, challenge: fields.u64()? }
        }
        kind::REPAIR_RESPONSE => fields.repair_response(term)?,
        kind::BIRTH_REQUEST => Message::BirthRequest { term, incarnation: fields.u64()? },
        kind::BIRTH_RESPONSE => fields.birth_response(term)?,
        kind::READ_INDEX_REQUEST => fields.read_index_request(term)?,
        kind::READ_INDEX_RESPONSE => fields.read_index_response(term)?,
        kind::OUTDATED => fields.outdated(term)?,
        kind => return Err(unknown_kind(kind)),
    };
    fields.reader.finish("a peer's message")?;
    Ok(Incoming::Message(speaker, message))
}

fn unknown_kind(kind: FrameKind) -> DecodeError {
    DecodeError::Unknown { what: "the kind of a peer's message", got: kind.get().into() }
}

fn decode_relay_call<'a>(frame: &Frame<'a>) -> Result<Incoming<'a>, DecodeError> {
    let call = Call::of_request(&frames::Request::decode(frame)?)?;
    if call.kind.answered_by() != AnsweredBy::Leader {
        // Whoever is asked answers it; a node that passes it on is of another version, or mad.
        return Err(DecodeError::Unknown {
            what: "the kind of a call that was passed on",
            got: frame.kind.get().into(),
        });
    }
    Ok(Incoming::RelayCall { number: frame.id, call })
}

fn decode_relay_reply<'a>(frame: &Frame<'a>) -> Result<Incoming<'a>, DecodeError> {
    let frames::Response { id: number, leader_hint, result } = frames::Response::decode(frame)?;
    if leader_hint.is_some() {
        return Err(DecodeError::Unknown { what: "the flags of a peer's message", got: frame.flags.into() });
    }
    let refusal =
        |Refused { status, executed, message }| Refusal { status, executed, message: message.to_owned().into() };
    Ok(Incoming::RelayReply { number, part: Part::Last(result.map_err(refusal)) })
}
