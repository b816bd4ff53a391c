//! Messages of any kind, with numbers near what the node has, at the ends of their range, and anywhere.

use net::frame::FrameBuilder;
use wal::testing::SimStorage;
use wal::{EntryHeader, EntryKind, Log};

use super::cluster::put;
use super::input::Input;
use super::logs::{Logs, any_log, first_log};
use super::node::{NODES, SHARD, node_id};
use super::past::Entry;
use crate::log_store::{KIND_COMMANDS, KIND_NOOP};
use crate::raft::{AppendOutcome, BirthAnswer, Health, Message, Speaker};
use crate::state_machine::batch::{self, BatchHeader};
use crate::types::{EntryId, Index, Lineage, NodeId, Term};
use crate::wire::kind;

/// Numbers from here on are no terms and indexes for a decoder.
const NUMBER_LIMIT: u64 = 1 << 62;

/// What the node has, for numbers near that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Near<'a> {
    pub(super) term: Term,
    /// The node's life.
    pub(super) life: u64,
    pub(super) commit_index: Index,
    pub(super) log: &'a Log<SimStorage>,
    /// What was committed before the nonsense began.
    pub(super) committed: &'a [Entry],
}

impl Near<'_> {
    /// A life of a leader that is an invention, mostly the same. `number` is one that was read already, so that inputs which were kept go
    /// on as before.
    const fn leader_life(number: u64) -> u64 {
        if number % 16 == 5 { 8 } else { 7 }
    }

    /// The life of the node that an answer to it names. `number` as above.
    const fn answered_life(&self, number: u64) -> u64 {
        match number % 16 {
            5 => self.life - 1,
            6 => 0,
            _ => self.life,
        }
    }

    /// What a follower says of the lineage at an index: the truth, mostly.
    fn lineage_at(&self, index: Index) -> Option<Lineage> {
        match index.get() % 16 {
            7 => Some(Lineage::new(index.get())),
            11 => None,
            _ => self.log.lineage(index).filter(|lineage| *lineage != Lineage::START),
        }
    }

    fn any_append_response(&self, term: Term, input: &mut Input<'_>) -> Message {
        let outcome = self.any_outcome(input);
        let number = match outcome {
            AppendOutcome::Accepted { matched_index: index, .. }
            | AppendOutcome::NoRoom { matched_index: index, .. }
            | AppendOutcome::Damaged { matched_index: index, .. }
            | AppendOutcome::Rejected { prev_index: index, .. }
            | AppendOutcome::OtherHistory { entry: EntryId { index, .. }, .. } => index.get(),
        };
        Message::AppendEntriesResponse { term, life: self.answered_life(number), outcome }
    }

    fn any_term(&self, input: &mut Input<'_>) -> Term {
        let own = self.term.get();
        Term::new(match input.below(20) {
            0..=8 => own,
            9..=11 => own + 1,
            12 => own.saturating_sub(1),
            13 => own + 2,
            14 => input.byte().into(),
            15 => own + (1 << 20),
            16 => own + (1 << 32),
            17 => own + (1 << 32) + 1,
            18 => own + (1 << 40),
            _ => NUMBER_LIMIT - 1 - u64::from(input.below(3)),
        })
    }

    pub(super) fn any_index(&self, input: &mut Input<'_>) -> Index {
        let (last, commit) = (self.log.last_id().index.get(), self.commit_index.get());
        Index::new(match input.below(16) {
            0..=4 => last,
            5 => last + 1,
            6 => last.saturating_sub(1),
            7 => last + 3,
            8..=9 => commit,
            10 => commit.saturating_sub(1),
            11 => 0,
            12 => 1,
            13 => input.byte().into(),
            14 => last + (1 << 32),
            _ => NUMBER_LIMIT - 1 - u64::from(input.below(3)),
        })
    }

    fn term_at(&self, index: Index) -> Term {
        self.log.term(index).unwrap_or(Term::ZERO)
    }

    fn any_id(&self, input: &mut Input<'_>) -> EntryId {
        match input.below(8) {
            0..=2 => self.log.last_id(),
            3 => EntryId::new(self.term_at(self.commit_index), self.commit_index),
            4 => EntryId::ZERO,
            5 => {
                let at = usize::from(input.byte()) % self.committed.len().max(1);
                self.committed.get(at).map_or(EntryId::ZERO, |entry| entry.id)
            }
            6 => EntryId::new(self.any_term(input), self.log.last_id().index),
            _ => EntryId::new(self.any_term(input), self.any_index(input)),
        }
    }

    fn any_round(input: &mut Input<'_>) -> u64 {
        match input.below(6) {
            0 => 0,
            1..=3 => input.below(8).into(),
            4 => u64::MAX,
            _ => 1 << 40,
        }
    }

    fn any_health(&self, input: &mut Input<'_>) -> Health {
        let choice = input.byte();
        let applied_index = if choice & 8 == 0 { self.log.last_id().index } else { self.any_index(input) };
        Health { applied_index, may_lead: choice & 1 == 0, has_room: choice & 2 == 0, disk_keeps_up: choice & 4 == 0 }
    }

    fn any_outcome(&self, input: &mut Input<'_>) -> AppendOutcome {
        let choice = input.below(4);
        let (one, other) = (self.any_index(input), self.any_index(input));
        let lineage = self.lineage_at(one);
        match choice {
            0 | 1 => AppendOutcome::Accepted { matched_index: one, persisted_index: other, lineage },
            2 if one <= other => AppendOutcome::NoRoom { matched_index: one, persisted_index: other, lineage },
            2 => AppendOutcome::Damaged { matched_index: one, persisted_index: other, lineage },
            // From a byte that was read already, so that inputs which were kept go on as before.
            _ if one.get() % 4 == 3 => {
                AppendOutcome::OtherHistory { entry: self.any_id(input), lineage: Lineage::new(other.get()) }
            }
            _ => AppendOutcome::Rejected { prev_index: one, hint: self.any_id(input) },
        }
    }

    /// A message without entries.
    pub(super) fn any_message(&self, input: &mut Input<'_>) -> Message {
        let choice = input.below(17);
        let term = self.any_term(input);
        match choice {
            0 => Message::RequestPreVote { term, last: self.any_id(input) },
            1 => Message::PreVoteResponse { term, campaign_term: self.any_term(input), granted: input.flag() },
            2 | 3 => Message::RequestVote { term, last: self.any_id(input), transfer: input.flag() },
            4 => Message::RequestVoteResponse { term, granted: input.flag() },
            5 | 6 => self.any_append_response(term, input),
            7 | 8 => {
                let (commit_index, round) = (self.any_index(input), Self::any_round(input));
                Message::Heartbeat { term, life: Self::leader_life(round), commit_index, round }
            }
            9 => {
                let round = Self::any_round(input);
                let (matched_index, persisted_index) = (self.any_index(input), self.any_index(input));
                let (life, health) = (self.answered_life(round), self.any_health(input));
                let lineage = self.lineage_at(matched_index);
                Message::HeartbeatResponse { term, life, round, matched_index, persisted_index, lineage, health }
            }
            10 => Message::TimeoutNow { term, last_index: self.any_index(input) },
            // Nobody drew these challenges; `answer_to` has those that somebody did.
            11 => {
                let (nonce, last) = (Self::any_round(input), self.any_id(input));
                Message::RepairRequest { term, nonce, last, challenge: nonce }
            }
            12 => {
                let (nonce, last_index) = (Self::any_round(input), self.any_index(input));
                Message::RepairResponse { term, life: Self::leader_life(nonce), nonce, last_index, challenge: nonce }
            }
            13 => Message::BirthRequest { term, incarnation: Self::any_incarnation(input) },
            14 => Message::BirthResponse {
                term,
                asked: Self::any_incarnation(input),
                incarnation: Self::any_incarnation(input),
                answer: any_birth_answer(input),
            },
            15 => self.any_outdated(input),
            _ => {
                let (life, batch) = (Self::any_round(input), Self::any_round(input));
                match input.flag() {
                    true => Message::ReadIndexRequest { term, leader_life: self.answered_life(batch), life, batch },
                    false => Message::ReadIndexResponse { term, life, batch, index: self.any_index(input) },
                }
            }
        }
    }

    /// The word that a log was given up: true, invented, or about a log that nobody has.
    pub(super) fn any_outdated(&self, input: &mut Input<'_>) -> Message {
        let term = self.any_term(input);
        let node = node_id(usize::from(input.byte()) % NODES);
        Message::Outdated { term, incarnation: any_log(node, input), since: self.any_index(input) }
    }

    fn any_incarnation(input: &mut Input<'_>) -> u64 {
        // The first incarnations of the nodes are among these numbers.
        100 + u64::from(input.below(4))
    }

    /// What a peer may say to the last message that the node sent to it, true or not.
    pub(super) fn answer_to(&self, message: &Message, input: &mut Input<'_>) -> Option<Message> {
        let term = if input.below(4) == 3 { self.any_term(input) } else { message.term() };
        let is_yes = input.below(4) != 3;
        Some(match message {
            Message::RequestPreVote { term: campaign_term, .. } => Message::PreVoteResponse {
                term: if is_yes { campaign_term.prev() } else { term },
                campaign_term: *campaign_term,
                granted: is_yes,
            },
            Message::RequestVote { .. } => Message::RequestVoteResponse { term, granted: is_yes },
            Message::RequestVoteResponse { granted: true, .. } | Message::TimeoutNow { .. } => {
                Message::Heartbeat { term, life: Self::leader_life(0), commit_index: self.any_index(input), round: 0 }
            }
            Message::AppendEntries(append) => {
                let persisted_index = if is_yes { append.last } else { self.any_index(input) };
                let lineage = self.lineage_at(append.last);
                let accepted = AppendOutcome::Accepted { matched_index: append.last, persisted_index, lineage };
                if input.below(4) == 3 {
                    self.any_append_response(term, input)
                } else {
                    Message::AppendEntriesResponse { term, life: append.life, outcome: accepted }
                }
            }
            Message::Heartbeat { life, round, .. } => {
                let matched_index = if is_yes { self.log.last_id().index } else { self.any_index(input) };
                let health = self.any_health(input);
                let persisted_index = matched_index;
                let (life, round, lineage) = (*life, *round, self.lineage_at(matched_index));
                Message::HeartbeatResponse { term, life, round, matched_index, persisted_index, lineage, health }
            }
            Message::RepairRequest { nonce, .. } => {
                let end = Index::new(self.committed.len() as u64);
                let last_index = if is_yes { end } else { self.any_index(input) };
                let challenge = last_index.get();
                let (term, life) = (self.any_term(input), Self::leader_life(challenge));
                Message::RepairResponse { term, life, nonce: *nonce, last_index, challenge }
            }
            Message::RepairResponse { nonce, challenge, .. } => {
                Message::RepairRequest { term, nonce: *nonce, last: self.any_id(input), challenge: *challenge }
            }
            Message::ReadIndexRequest { life, batch, .. } => {
                let index = if is_yes { self.log.last_id().index } else { self.any_index(input) };
                Message::ReadIndexResponse { term, life: *life, batch: *batch, index }
            }
            Message::BirthRequest { incarnation: asked, .. } => Message::BirthResponse {
                term,
                asked: *asked,
                incarnation: Self::any_incarnation(input),
                answer: any_birth_answer(input),
            },
            _ => return None,
        })
    }

    /// `AppendEntries` of which some is true: entries of the past, entries that nobody has, damaged ones, none.
    pub(super) fn any_append(&self, speaker: Speaker, input: &mut Input<'_>) -> Vec<u8> {
        let term = self.any_term(input);
        let prev = self.any_id(input);
        let count = u64::from(input.below(5));
        let commit_index = self.any_index(input);
        let choice = input.below(16);
        let last = if choice == 15 { self.any_index(input).get() } else { prev.index.get() + count };
        let prev_lineage = if choice == 14 { Lineage::new(commit_index.get()) } else { self.lineage_of(prev) };
        let mut entries = Vec::new();
        let mut before = prev;
        for _ in 0..count {
            self.any_entry(input, term, &mut before, &mut entries);
        }
        let mut bytes = Vec::new();
        let mut builder = FrameBuilder::begin(&mut bytes, kind::APPEND_ENTRIES, 0, SHARD.get(), 0);
        let (incarnation, is_joining) = (speaker.incarnation, u64::from(speaker.is_joining));
        let life = Self::leader_life(commit_index.get());
        let place = [life, prev.term.get(), prev.index.get(), prev_lineage.get(), last, commit_index.get()];
        for number in [term.get(), incarnation, is_joining].into_iter().chain(place) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        builder.end_meta(&bytes);
        bytes.extend_from_slice(&entries);
        builder.finish(&mut bytes);
        bytes
    }

    /// The lineage of an entry in the node's log, or in the history that was committed; an invented one of an entry in neither.
    fn lineage_of(&self, id: EntryId) -> Lineage {
        if let Some(lineage) = self.log.lineage(id.index).filter(|_| self.term_at(id.index) == id.term) {
            return lineage;
        }
        let up_to = usize::try_from(id.index.get()).ok().and_then(|count| self.committed.get(..count));
        let headers = up_to.unwrap_or_default().iter().filter_map(|entry| EntryHeader::parse(&entry.bytes).ok());
        headers.fold(Lineage::START, |before, header| header.lineage_behind(before))
    }

    /// Adds an entry that follows `before`, more or less.
    fn any_entry(&self, input: &mut Input<'_>, term: Term, before: &mut EntryId, out: &mut Vec<u8>) {
        let id = EntryId::new(before.term.max(term.min(self.term)).max(Term::new(1)), before.index.next());
        let choice = input.below(26);
        let at = usize::try_from(before.index.get()).ok();
        if choice < 8
            && let Some(entry) = at.and_then(|at| self.committed.get(at))
        {
            out.extend_from_slice(&entry.bytes);
            *before = entry.id;
            return;
        }
        let command = put(&[choice]);
        let mut commands = Vec::new();
        batch::encode(BatchHeader::default(), [command.as_slice()], &mut commands);
        let (id, kind, payload) = match choice {
            14 => (EntryId::new(self.any_term(input), id.index), KIND_NOOP, Vec::new()),
            15 => (EntryId::new(id.term, self.any_index(input).max(Index::new(1))), KIND_NOOP, Vec::new()),
            // A batch with a sound checksum and a wrong byte: what it says may make no sense, and often nobody can apply it.
            16 => {
                let at = usize::from(input.byte()) % commands.len();
                if let Some(byte) = commands.get_mut(at) {
                    *byte = input.byte();
                }
                (id, KIND_COMMANDS, commands)
            }
            17 => (id, EntryKind::new(1 + input.byte() % 100), Vec::new()),
            20.. => {
                let (kind, payload) = self.any_membership(id.index, input);
                (id, kind, payload)
            }
            8..=13 => (id, KIND_COMMANDS, commands),
            _ => (id, KIND_NOOP, Vec::new()),
        };
        let start = out.len();
        out.extend_from_slice(EntryHeader::new(id, kind, &payload).as_bytes());
        out.extend_from_slice(&payload);
        if choice == 18
            && let Some(byte) = out.get_mut(start..).and_then(|entry| entry.last_mut())
        {
            *byte ^= 1;
        }
        *before = id;
    }
}

/// The log that a forged message speaks for. Who asks to be repaired may do so for a log that takes the place of a lost one; all
/// else comes from the log that its node has.
pub(super) fn speaker_of(logs: &Logs, from: NodeId, message: &Message) -> Speaker {
    let log = logs.of(from).unwrap_or_else(|| first_log(from));
    match message {
        Message::RepairRequest { nonce, .. } => Speaker { incarnation: log + (nonce & 2), is_joining: nonce & 1 == 1 },
        _ => Speaker { incarnation: log, is_joining: false },
    }
}

fn any_birth_answer(input: &mut Input<'_>) -> BirthAnswer {
    match input.below(4) {
        0 => BirthAnswer::New,
        1 => BirthAnswer::Known,
        2 => BirthAnswer::Stranger,
        _ => BirthAnswer::Replaced,
    }
}
