//! What an input makes happen to a node: messages of members and of strangers, requests, time, disks, deaths.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use net::api::Status;

use super::cluster::{put, range};
use super::forge::{Near, speaker_of};
use super::input::Input;
use super::logs::any_speaker;
use super::node::{Disk, NODES, Node, SHARD, Sent, TIMEOUT_MS, TIMEOUT_TICKS, node_id};
use super::past::{Entry, Past, Start, entries_of};
use super::truth::{Facts, Truth};
use super::watch::Watch;
use crate::call::{Call, CallKind, Origin, Part, Refusal, Ticket};
use crate::raft::{Message, Speaker};
use crate::replica::{Event, Fault, NotTaken, Outgoing, Reply};
use crate::types::{EntryId, Index, NodeId};
use crate::wire;

/// Steps of an input; what is left of it does not count.
const STEPS_MAX: usize = 400;

/// Frames that may arrive once more.
const KEPT_FRAMES: usize = 16;

/// A node that no member of the cluster is.
pub(super) const STRANGER: NodeId = NodeId::new(9);

/// A node in the middle of what an input makes of it.
pub(super) struct Story<'a> {
    facts: Facts<'a>,
    pub(super) node: Node,
    pub(super) watch: Watch,
    life: u64,
    last_ticket: u64,
    /// Syncs, segments and the like are done after each step; without, only when a step says so.
    device_is_quick: bool,
    /// Frames that arrived, for another time.
    heard: VecDeque<(NodeId, Vec<u8>)>,
    /// The last messages that the node sent to each peer.
    said: BTreeMap<NodeId, VecDeque<Message>>,
    /// Numbers of requests that it passed on.
    relayed: VecDeque<u64>,
    /// Answers that it gave to requests of peers: to whom, and to which.
    pub(super) replied: VecDeque<(NodeId, u64)>,
    /// It was told to take no request any more, in this life.
    pub(super) is_closed: bool,
    /// Names of what was seen, for a search that looks for more.
    pub(super) features: BTreeSet<u32>,
}

/// A node after the nonsense.
pub(super) struct End {
    pub(super) disk: Disk,
    pub(super) truth: Truth,
    /// Entries of its log after those that were committed before.
    pub(super) extra: Vec<Entry>,
}

impl<'a> Story<'a> {
    pub(super) fn new(
        past: &'a Past,
        start: Start,
        number: usize,
        disk: Disk,
        device_is_quick: bool,
    ) -> Result<Self, String> {
        let life = 1000;
        let node = Node::start(node_id(number), disk, life)?;
        let mut watch = Watch::default();
        watch.on_start(&node, &[])?;
        let mut story = Self {
            facts: Facts { committed: past.committed(start), start, logs: Past::logs(start, number) },
            node,
            watch,
            life,
            last_ticket: 0,
            device_is_quick,
            heard: VecDeque::new(),
            said: BTreeMap::new(),
            relayed: VecDeque::new(),
            replied: VecDeque::new(),
            is_closed: false,
            features: BTreeSet::new(),
        };
        story.observe(0)?;
        Ok(story)
    }

    /// Everything that the input says, and then the end of the node's last life.
    pub(super) fn tell(mut self, input: &mut Input<'_>) -> Result<(End, BTreeSet<u32>), String> {
        let mut steps = 0;
        while !input.is_at_end() && steps < STEPS_MAX {
            steps += 1;
            let choice = input.below(60);
            self.step(choice, input)?;
            self.observe(choice)?;
            // A turn follows whatever arrives, if often not at once.
            if choice % 4 != 3 {
                self.node.handle(Event::Turn)?;
                self.observe(100)?;
            }
            if self.device_is_quick {
                self.end_everything()?;
            }
        }
        self.answer_everybody()?;
        self.watch.check_committed_bytes(&self.node)?;
        let power_is_lost = input.flag();
        let (truth, before) = (self.facts.judge(&self.node)?, self.durable_ids());
        let features = std::mem::take(&mut self.features);
        let (id, facts) = (self.node.id, self.facts);
        let disk = self.node.stop(power_is_lost);
        let again = Node::start(id, disk.clone(), self.life + 1)?;
        self.watch.on_start(&again, &before)?;
        // After a loss of power entries are back that others had superseded, lies among them.
        let mut held = entries_of(&again.replica)?;
        let truth = if facts.are_true(&held, &again) { truth } else { Truth::LiedTo };
        let extra = held.split_off(facts.committed.len().min(held.len()));
        Ok((End { disk, truth, extra }, features))
    }

    pub(super) fn step(&mut self, choice: u8, input: &mut Input<'_>) -> Result<(), String> {
        match choice {
            0..=11 => self.any_message(input),
            12..=17 => self.any_append(input),
            18..=27 => self.answer_of_peer(input),
            28 => self.hear_again(input),
            29 => self.relayed_request(input),
            30..=32 => self.request_of_client(input),
            33..=36 => {
                let count = input.below(16) + 1;
                self.tick(choice, count)
            }
            37 => self.node.end_sync(true),
            38 => self.device(input),
            39 => self.node.end_prepare(true),
            40 => self.node.end_rest(),
            41 | 42 => self.connection(input),
            43 => self.relay_reply(input),
            44 => self.restart(input),
            45 => self.unsent(input),
            46 => self.leadership(input),
            47 => self.of_no_member(None, input),
            48 | 49 => self.any_message_of_any_log(input),
            50 | 51 => self.any_append_of_any_log(input),
            52 => self.told_outdated(input),
            53 => {
                let speaker = any_speaker(self.node.id, input);
                self.of_no_member(Some(speaker), input)
            }
            54 => self.close(),
            55 => self.stop_in_order(input),
            56 => self.die_half_way(input),
            57 => self.unlikely(input),
            58 => self.hear_from_another(input),
            _ => self.tick(choice, 12),
        }
    }

    pub(super) fn tick(&mut self, choice: u8, count: u8) -> Result<(), String> {
        for _ in 0..count {
            self.node.handle(Event::Tick)?;
            self.observe(choice)?;
        }
        Ok(())
    }

    fn near(&self) -> Near<'_> {
        let view = self.node.replica.view();
        let log = self.node.replica.log();
        let (term, commit_index, committed) = (view.term, view.commit_index, self.facts.committed);
        Near { term, life: self.life, commit_index, log, committed }
    }

    /// One of the two other members.
    pub(super) fn peer(&self, input: &mut Input<'_>) -> NodeId {
        let mut peers = (0..NODES).map(node_id).filter(|peer| *peer != self.node.id);
        peers.nth(usize::from(input.below(2))).unwrap_or(STRANGER)
    }

    fn hear(&mut self, from: NodeId, bytes: Vec<u8>) -> Result<(), String> {
        let before = self.node.replica.view();
        self.node.hear(from, &bytes)?;
        self.watch.check_outdated(&self.node, &before)?;
        if self.heard.len() == KEPT_FRAMES {
            self.heard.pop_front();
        }
        self.heard.push_back((from, bytes));
        Ok(())
    }

    fn hear_message(&mut self, from: NodeId, speaker: Option<Speaker>, message: &Message) -> Result<(), String> {
        let speaker = speaker.unwrap_or_else(|| speaker_of(&self.facts.logs, from, message));
        let mut bytes = Vec::new();
        wire::encode_message(message, speaker, SHARD, &mut bytes);
        self.hear(from, bytes)
    }

    /// A log of its own is what most members speak for.
    fn append_speaker(&self, from: NodeId) -> Speaker {
        Speaker { incarnation: self.facts.logs.of(from).unwrap_or_default(), is_joining: false }
    }

    fn any_message(&mut self, input: &mut Input<'_>) -> Result<(), String> {
        let from = self.peer(input);
        let message = self.near().any_message(input);
        self.hear_message(from, None, &message)
    }

    fn any_message_of_any_log(&mut self, input: &mut Input<'_>) -> Result<(), String> {
        let from = self.peer(input);
        let speaker = any_speaker(from, input);
        let message = self.near().any_message(input);
        self.hear_message(from, Some(speaker), &message)
    }

    fn told_outdated(&mut self, input: &mut Input<'_>) -> Result<(), String> {
        let from = self.peer(input);
        let message = self.near().any_outdated(input);
        self.hear_message(from, None, &message)
    }

    fn any_append(&mut self, input: &mut Input<'_>) -> Result<(), String> {
        let from = self.peer(input);
        let append = self.near().any_append(self.append_speaker(from), input);
        self.hear(from, append)
    }

    fn any_append_of_any_log(&mut self, input: &mut Input<'_>) -> Result<(), String> {
        let from = self.peer(input);
        let speaker = any_speaker(from, input);
        let append = self.near().any_append(speaker, input);
        self.hear(from, append)
    }

    fn answer_of_peer(&mut self, input: &mut Input<'_>) -> Result<(), String> {
        let from = self.peer(input);
        let Some(message) = self.said.get_mut(&from).and_then(VecDeque::pop_front) else { return Ok(()) };
        let Some(answer) = self.near().answer_to(&message, input) else { return Ok(()) };
        self.hear_message(from, None, &answer)
    }

    /// What one said arrives in the name of another.
    fn hear_from_another(&mut self, input: &mut Input<'_>) -> Result<(), String> {
        let from = self.peer(input);
        let at = usize::from(input.byte()) % self.heard.len().max(1);
        let bytes = self.heard.get(at).map(|(_, bytes)| bytes.clone());
        bytes.map_or(Ok(()), |bytes| self.hear(from, bytes))
    }

    fn hear_again(&mut self, input: &mut Input<'_>) -> Result<(), String> {
        let at = usize::from(input.byte()) % self.heard.len().max(1);
        let Some((from, bytes)) = self.heard.get(at).cloned() else { return Ok(()) };
        self.node.hear(from, &bytes).map(drop)
    }

    /// Messages of a stranger, or of somebody with this node's own id: they change nothing and are not answered.
    fn of_no_member(&mut self, speaker: Option<Speaker>, input: &mut Input<'_>) -> Result<(), String> {
        let from = if input.flag() { STRANGER } else { self.node.id };
        if self.node.has_peer(from) {
            // A false leader's entry made it one.
            return Ok(());
        }
        let before = self.shape();
        let bytes = if input.flag() {
            self.near().any_append(speaker.unwrap_or_else(|| self.append_speaker(from)), input)
        } else {
            let message = self.near().any_message(input);
            let mut bytes = Vec::new();
            let speaker = speaker.unwrap_or_else(|| speaker_of(&self.facts.logs, from, &message));
            wire::encode_message(&message, speaker, SHARD, &mut bytes);
            bytes
        };
        let sent_before = self.node.sent.len();
        self.node.hear(from, &bytes)?;
        // What the node says now it may have wanted to say all along, but not to them.
        let is_answered = self.node.sent.iter().skip(sent_before).any(|sent| sent.to == from);
        if is_answered || self.shape() != before {
            return Err(format!("node {from} is no peer, and changes {before} to {}", self.shape()));
        }
        Ok(())
    }

    /// What no stranger may change.
    fn shape(&self) -> String {
        let view = self.node.replica.view();
        let log = self.node.replica.log();
        let (role, leader, term, commit_index) = (view.role, view.leader, view.term, view.commit_index);
        let (last, lost, birth, repair) = (log.last_id(), view.lost, view.birth, view.repair);
        format!("{role:?} {leader:?} {term} {commit_index} {last} {lost:?} {birth:?} {repair:?}")
    }

    fn ask(&mut self, origin: Option<Origin>, kind: CallKind, payload: &[u8]) -> Result<(), String> {
        let origin = origin.unwrap_or_else(|| {
            self.last_ticket += 1;
            self.watch.expect_answer(self.last_ticket, kind);
            Origin::Local(Ticket(self.last_ticket))
        });
        self.node.handle(Event::Call { origin, call: Call::borrowed(SHARD, kind, TIMEOUT_MS, payload) })?;
        let is_answered = self.node.answers.iter().any(|(ticket, _)| *ticket == self.last_ticket);
        if self.is_closed && origin == Origin::Local(Ticket(self.last_ticket)) && !is_answered {
            return Err("a closed replica keeps a request".to_owned());
        }
        Ok(())
    }

    fn request_of_client(&mut self, input: &mut Input<'_>) -> Result<(), String> {
        let choice = input.below(8);
        let size = usize::from(input.byte()) * 8;
        match choice {
            0..=4 => self.ask(None, CallKind::Write, &put(&vec![choice; size])),
            5 | 6 => self.ask(None, CallKind::Read, &range()),
            _ => self.ask(None, CallKind::ReadSerializable, &range()),
        }
    }

    fn relayed_request(&mut self, input: &mut Input<'_>) -> Result<(), String> {
        let from = self.peer(input);
        let choice = input.byte();
        let kind = if choice & 1 == 0 { CallKind::Write } else { CallKind::Read };
        let payload = match (choice >> 1) & 3 {
            0 => put(&[choice; 40]),
            1 => range(),
            2 => vec![choice; usize::from(input.byte())],
            _ => Vec::new(),
        };
        let mut bytes = Vec::new();
        let timeout_ms = if choice & 8 == 0 { TIMEOUT_MS } else { u32::MAX };
        let call = Call::borrowed(SHARD, kind, timeout_ms, &payload);
        wire::encode_relay_call(input.byte().into(), &call, &mut bytes);
        self.hear(from, bytes)
    }

    fn relay_reply(&mut self, input: &mut Input<'_>) -> Result<(), String> {
        let from = self.peer(input);
        let choice = input.byte();
        let request = if choice & 1 == 0 { self.relayed.pop_front().unwrap_or(7) } else { u64::from(choice) };
        let refusal = Refusal::unknown(Status::Overloaded, "no");
        let body = vec![choice; usize::from(choice)];
        let part = match choice >> 1 & 3 {
            0 => Part::Last(Ok(body.as_slice())),
            1 => Part::Last(Err(&refusal)),
            _ => Part::More(body.as_slice()),
        };
        let mut bytes = Vec::new();
        wire::encode_relay_reply(request, part, 64, &mut bytes);
        self.hear(from, bytes)
    }

    /// Something of the disk ends, well or not.
    fn device(&mut self, input: &mut Input<'_>) -> Result<(), String> {
        match input.below(8) {
            0 => self.node.end_sync(false),
            1 => self.node.end_note_sync(false),
            2 | 3 => self.node.end_note_sync(true),
            4 => self.node.end_prepare(false),
            _ => {
                self.node.write_back();
                Ok(())
            }
        }
    }

    fn end_everything(&mut self) -> Result<(), String> {
        self.node.end_sync(true)?;
        self.node.end_prepare(true)?;
        self.node.end_note_sync(true)?;
        self.node.end_rest()?;
        self.observe(101)?;
        self.node.handle(Event::Turn)?;
        self.observe(102)
    }

    fn connection(&mut self, input: &mut Input<'_>) -> Result<(), String> {
        let peer = self.peer(input);
        let is_up = input.flag();
        self.node.handle(if is_up { Event::PeerConnected(peer) } else { Event::PeerDisconnected(peer) })
    }

    /// A message that the node sent did not leave.
    fn unsent(&mut self, input: &mut Input<'_>) -> Result<(), String> {
        let to = self.peer(input);
        if let Some(number) = self.relayed.pop_front() {
            return self.node.handle(Event::RelayDropped { number, why: NotTaken::NoCredit });
        }
        let message = self.said.get_mut(&to).and_then(VecDeque::pop_back);
        // With credit used up nothing would be sent before there is some again, and nobody here says so.
        let event = message.and_then(|message| Event::of_unsent(to, &Outgoing::Raft(message), NotTaken::NoConnection));
        event.map_or(Ok(()), |event| self.node.handle(event))
    }

    /// Leadership is to go elsewhere, or nothing is to be taken any more.
    fn leadership(&mut self, input: &mut Input<'_>) -> Result<(), String> {
        let to = self.peer(input);
        match input.below(3) {
            // It may refuse, and tells so.
            0 => self.node.handle(Event::Transfer { to }),
            1 => self.node.handle(Event::HandOver),
            _ => self.node.handle(Event::Settle),
        }
    }

    fn restart(&mut self, input: &mut Input<'_>) -> Result<(), String> {
        let choice = input.byte();
        if choice & 2 == 0 {
            self.end()?;
        }
        self.start_again(choice & 1 == 1)
    }

    /// The process dies, or its host, and starts again.
    pub(super) fn start_again(&mut self, power_is_lost: bool) -> Result<(), String> {
        self.watch.check_committed_bytes(&self.node)?;
        self.life += 1;
        let before = self.durable_ids();
        let id = self.node.id;
        let disk = self.node.copy_disk();
        let old = std::mem::replace(&mut self.node, Node::start(id, disk, self.life)?);
        self.node = Node::start(id, old.stop(power_is_lost), self.life)?;
        self.watch.on_start(&self.node, &before)?;
        self.said.clear();
        self.relayed.clear();
        self.replied.clear();
        self.is_closed = false;
        Ok(())
    }

    fn durable_ids(&self) -> Vec<EntryId> {
        let log = self.node.replica.log();
        let indexes = (1..=log.persisted_index().get()).map(Index::new);
        indexes.filter_map(|index| log.term(index).map(|term| EntryId::new(term, index))).collect()
    }

    /// Time passes until every request is answered, whatever the disk and the peers do.
    fn answer_everybody(&mut self) -> Result<(), String> {
        for _ in 0..TIMEOUT_TICKS + 20 {
            self.node.handle(Event::Tick)?;
            self.node.handle(Event::Turn)?;
            self.observe(104)?;
        }
        if self.watch.unanswered() > 0 && self.node.replica.fault().is_none() {
            return Err(format!("{} requests are not answered in time", self.watch.unanswered()));
        }
        Ok(())
    }

    /// Checks what the node did, and notes what it said.
    pub(super) fn observe(&mut self, choice: u8) -> Result<(), String> {
        let sent = self.watch.observe(&mut self.node)?;
        if let Some(fault @ Fault::Apply { .. }) = self.node.replica.fault() {
            return Err(format!("an entry that cannot be applied was appended: {fault}"));
        }
        let mut last_kind = None;
        for Sent { to, message, .. } in sent {
            match message {
                Outgoing::Raft(message) => {
                    last_kind = Some(std::mem::discriminant(&message));
                    let said = self.said.entry(to).or_default();
                    if said.len() == KEPT_FRAMES {
                        said.pop_front();
                    }
                    said.push_back(message);
                }
                Outgoing::RelayCall { number, .. } => self.relayed.push_back(number),
                Outgoing::RelayReply { number, reply: Reply { part: Part::Last(Ok(_)), .. } } => {
                    if self.replied.len() == KEPT_FRAMES {
                        self.replied.pop_front();
                    }
                    self.replied.push_back((to, number));
                }
                Outgoing::RelayReply { .. } => {}
            }
        }
        let view = self.node.replica.view();
        let fault = self.node.replica.fault().map(std::mem::discriminant);
        // Coarse on purpose: what tells every input from every other one tells nothing.
        let positions =
            (view.last_index == view.persisted_index, view.last_index == view.commit_index, view.term.get() > 1 << 20);
        let name = format!(
            "{:?} {:?} {} {fault:?} {last_kind:?} {positions:?} {} {} {}",
            self.facts.start,
            view.role,
            view.leader.is_some(),
            view.transfer.is_some(),
            view.repair.is_some_and(|repair| repair.raft.goal_index.is_some()),
            choice.min(60),
        );
        self.features.insert(crc32fast::hash(name.as_bytes()));
        Ok(())
    }
}
