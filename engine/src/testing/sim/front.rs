//! What a process has between its clients and its shards: a desk for each core, the connections of clients, and what is on its way
//! between the cores.
//!
//! All decisions are the product's own (`desk`). When what happens is up to `world`. Every request gets exactly one answer, whatever
//! becomes of its connection: that is checked here.

use std::collections::{BTreeMap, VecDeque};

use net::api::Status;

use crate::call::{Call, Part, Refusal, Ticket};
use crate::desk::{BetweenCores, Brought, Conversation, Desk, DeskLimits, Ended, Taken};
use crate::types::ShardId;
use api::command::Limits;

/// Limits that are far away in production.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrontLimits {
    /// Cores of a node.
    pub(super) cores: usize,
    /// See `DeskLimits`.
    pub(super) requests_per_connection: u32,
    /// See `DeskLimits`. Unit: bytes.
    pub(super) request_bytes: u64,
    /// See `DeskLimits`. Unit: bytes.
    pub(super) queued_bytes: u64,
    /// See `DeskLimits`.
    pub(super) requests: usize,
    /// Messages that wait on the way from one core to another, beyond which calls are not taken.
    pub(super) queue_len: usize,
    /// Answers on their way between cores.
    pub(super) between: BetweenCores,
    /// There is no room for one in this many parts of answers; 0: there always is.
    pub(super) drops_one_in: u64,
}

/// One request: an attempt at an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Attempt {
    pub(super) op: u64,
    /// Tells it from all others.
    pub(super) number: u64,
}

/// Who waits for a replica's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Waiter {
    /// Somebody at a desk of its node.
    Desk(Ticket),
    /// The node itself.
    Own(u64),
}

/// Names a connection: its core, and its number there.
pub(super) type ConnId = (usize, u32);

/// Whoever waits at a desk.
#[derive(Debug)]
pub(super) struct Asked {
    conn: ConnId,
    attempt: Attempt,
    /// It is a call that lasts.
    lasts: bool,
    /// What came of the answer.
    bytes: Vec<u8>,
}

/// What a client is told.
pub(super) type Told = (Attempt, Result<Vec<u8>, Refusal>);

/// Something on its way to another core.
#[derive(Debug)]
pub(super) enum Message {
    Call { ticket: Ticket, attempt: Attempt, call: Call<'static> },
    Reply { ticket: Ticket, part: Brought },
    Left { shard: ShardId, tickets: Vec<Ticket> },
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Asking {
    /// It goes to a shard of the connection's own core.
    Here(Ticket),
    /// It is on its way to that core.
    Sent(usize),
    /// It was refused, or is not looked at any more: both say the same of it.
    Refused(Told),
}

/// What a client leaves.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// Its requests without an answer.
    pub(super) open: Vec<Attempt>,
    /// The core that its connection is on.
    pub(super) core: usize,
    /// Tickets of its calls at shards of its own core.
    pub(super) here: Vec<(ShardId, Vec<Ticket>)>,
    /// Cores to which a message with the tickets of others is on its way.
    pub(super) sent: Vec<usize>,
    /// There was no way to some shard just now: `tell_unwanted` is to be called again.
    pub(super) is_to_go_on: bool,
}

/// What a part of an answer brings about.
#[derive(Debug)]
pub(super) struct Taking {
    /// What a client is told.
    pub(super) told: Option<Told>,
    /// The core whose shards, or ways to others, are to be told that nobody takes the rest (`tell_unwanted`).
    pub(super) tells: Option<usize>,
}

#[derive(Debug)]
struct Conn {
    client: usize,
    conversation: Conversation,
    /// Requests without an answer.
    open: Vec<Attempt>,
    /// Calls that last.
    lasting: Vec<Attempt>,
    /// The client is gone.
    is_closed: bool,
}

impl Conn {
    const fn list(&mut self, lasts: bool) -> &mut Vec<Attempt> {
        if lasts { &mut self.lasting } else { &mut self.open }
    }

    /// All that it waits for or has opened.
    fn all(&self) -> impl Iterator<Item = Attempt> {
        self.open.iter().chain(&self.lasting).copied()
    }

    /// Nothing comes of it any more.
    const fn is_done(&self) -> bool {
        self.is_closed && self.open.is_empty() && self.lasting.is_empty()
    }
}

/// All of it, for one life of a process.
pub(super) struct Front {
    limits: FrontLimits,
    desk_limits: DeskLimits,
    desks: Vec<Desk<Asked>>,
    conns: BTreeMap<ConnId, Conn>,
    /// From one core to another, in their order.
    ways: BTreeMap<(usize, usize), VecDeque<Message>>,
    /// Answers of each core that are on their way to others. Unit: bytes.
    under_way_bytes: Vec<usize>,
}

impl Front {
    pub(super) fn new(limits: FrontLimits, shard_count: u32) -> Self {
        let desk_limits = DeskLimits {
            // Operations choose their keys without looking at shards.
            command: Limits { request_bytes: limits.request_bytes, txn_ops: u32::MAX, shard_count: 1 },
            shard_count,
            requests_per_connection: limits.requests_per_connection,
            lasting_per_connection: limits.requests_per_connection,
            queued_bytes: limits.queued_bytes,
            requests: limits.requests,
            lasting: limits.requests,
        };
        Self {
            limits,
            desk_limits,
            desks: (0..limits.cores).map(|core| Desk::new(core, limits.cores, desk_limits)).collect(),
            conns: BTreeMap::new(),
            ways: BTreeMap::new(),
            under_way_bytes: vec![0; limits.cores],
        }
    }

    /// Nothing is left of it with the process. Returns the requests that nobody answers any more, as far as clients are there.
    pub(super) fn end(&mut self) -> Vec<Attempt> {
        let open = self.conns.values().filter(|conn| !conn.is_closed).flat_map(Conn::all);
        let open = open.collect();
        *self = Self::new(self.limits, self.desk_limits.shard_count);
        open
    }

    /// The core that owns a shard.
    pub(super) fn owner(&self, shard: usize) -> usize {
        Desk::<Asked>::owner(ShardId::new(u32::try_from(shard).expect("few")), self.limits.cores)
    }

    /// The connection that a client has, if it has one.
    pub(super) fn conn_of(&self, client: usize) -> Option<ConnId> {
        self.conns.iter().find(|(_, conn)| conn.client == client && !conn.is_closed).map(|(id, _)| *id)
    }

    /// A client connects, and comes to this core.
    pub(super) fn connect(&mut self, client: usize, core: usize) -> ConnId {
        assert!(self.conn_of(client).is_none(), "a client has one connection to a node");
        let id = (core, self.desks[core].number_conn());
        let conn = Conn {
            client,
            conversation: Conversation::default(),
            open: Vec::new(),
            lasting: Vec::new(),
            is_closed: false,
        };
        self.conns.insert(id, conn);
        id
    }

    /// Connections whose clients are there.
    pub(super) fn conns(&self) -> Vec<ConnId> {
        self.conns.iter().filter(|(_, conn)| !conn.is_closed).map(|(id, _)| *id).collect()
    }

    /// Takes a request of a connection.
    pub(super) fn ask(&mut self, id: ConnId, attempt: Attempt, call: &Call<'_>) -> Result<Asking, String> {
        let conn = self.conns.get_mut(&id).expect("whoever asks is connected");
        if conn.conversation.is_over() {
            // It was on its way when the goodbye was; the next one comes on another connection.
            conn.is_closed = true;
            if conn.is_done() {
                self.conns.remove(&id);
            }
            let refusal = Refusal::not_executed(Status::ShuttingDown, "the connection is over");
            return Ok(Asking::Refused((attempt, Err(refusal))));
        }
        let of_first = Call::borrowed(ShardId::new(0), call.kind, call.meta.timeout_ms, &call.payload);
        if let Err(refusal) = self.desks[id.0].check(&of_first) {
            return Ok(Asking::Refused((attempt, Err(refusal))));
        }
        let lasts = call.kind.lasts();
        if let Err(refusal) = conn.conversation.may_begin(&self.desk_limits, lasts) {
            return Ok(Asking::Refused((attempt, Err(refusal))));
        }
        conn.conversation.begin(lasts);
        conn.list(lasts).push(attempt);
        if conn.open.len() > self.limits.requests_per_connection as usize {
            return Err(format!("{} requests of a connection wait for an answer", conn.open.len()));
        }
        let (core, number) = id;
        let asked = Asked { conn: id, attempt, lasts, bytes: Vec::new() };
        let taken = self.desks[core].take(call, number, asked, lasts);
        let Taken { ticket, owner } = match taken {
            Ok(taken) => taken,
            Err((asked, refusal)) => return self.refused(asked, refusal),
        };
        if owner == core {
            return Ok(Asking::Here(ticket));
        }
        let message = Message::Call { ticket, attempt, call: call.clone().into_owned() };
        if self.try_send(core, owner, message) {
            return Ok(Asking::Sent(owner));
        }
        let (Ended { waiting, .. }, refusal) = self.desks[core].not_taken(ticket);
        self.refused(waiting.ok_or("nobody waits for a call that was just taken")?, refusal)
    }

    /// A client that was just there is told that its request was refused.
    fn refused(&mut self, asked: Asked, refusal: Refusal) -> Result<Asking, String> {
        let told = self.answer(asked, Err(refusal))?;
        Ok(Asking::Refused(told.expect("the client has just asked")))
    }

    /// Sends a message to another core, if there is room.
    fn try_send(&mut self, from: usize, to: usize, message: Message) -> bool {
        assert_ne!(from, to, "a core needs no way to itself");
        let way = self.ways.entry((from, to)).or_default();
        let has_room = way.len() < self.limits.queue_len;
        if has_room {
            way.push_back(message);
        }
        has_room
    }

    /// Brings a part of an answer towards whoever waits for it. Returns the core that it goes to, if it goes to another one.
    pub(super) fn reply(&mut self, from: usize, ticket: Ticket, part: Part<&[u8], &Refusal>) -> Option<usize> {
        let to = Desk::<Asked>::core_of(ticket);
        assert!(to < self.limits.cores, "some core asked");
        if to == from {
            return None;
        }
        let (part, _) = self.limits.between.bring(part, self.under_way_bytes[from]);
        self.under_way_bytes[from] += bytes_of(&part);
        self.ways.entry((from, to)).or_default().push_back(Message::Reply { ticket, part });
        Some(to)
    }

    /// The next message from one core to another has arrived.
    pub(super) fn arrived(&mut self, from: usize, to: usize) -> Message {
        let message = self.ways.get_mut(&(from, to)).and_then(VecDeque::pop_front).expect("as many as were sent");
        if let Message::Reply { part, .. } = &message {
            assert!(self.under_way_bytes[from] >= bytes_of(part), "what is on its way was counted");
            self.under_way_bytes[from] -= bytes_of(part);
        }
        message
    }

    /// A part of an answer has come to the core that asked; `has_room`: to be taken by the client.
    pub(super) fn take_part(&mut self, ticket: Ticket, part: Brought, has_room: bool) -> Result<Taking, String> {
        let core = Desk::<Asked>::core_of(ticket);
        let desk = &mut self.desks[core];
        let mut is_unwanted = false;
        let (asked, result) = match part {
            Ok(Part::More(bytes)) => {
                let mut lost = None;
                is_unwanted = desk.take_part(ticket, |asked| {
                    asked.bytes.extend(bytes);
                    lost = (!has_room).then_some((asked.conn, asked.attempt, asked.lasts));
                    has_room
                });
                let asked = lost.map(|(conn, attempt, lasts)| Asked { conn, attempt, lasts, bytes: Vec::new() });
                (asked, Err(Refusal::unknown(Status::Overloaded, "simulated: no room for answers")))
            }
            Ok(Part::Last(result)) => (desk.last(ticket).waiting, result),
            Err(refusal) => {
                is_unwanted = true;
                (desk.lose_part(ticket).1, Err(refusal))
            }
        };
        let tells = is_unwanted.then_some(core);
        let Some(mut asked) = asked else { return Ok(Taking { told: None, tells }) };
        let before = std::mem::take(&mut asked.bytes);
        let told = self.answer(asked, result.map(|bytes| [before, bytes].concat()))?;
        Ok(Taking { told, tells })
    }

    /// A core tells shards that nobody takes the rest of some answers.
    pub(super) fn tell_unwanted(&mut self, core: usize) -> Leaving {
        let mut leaving = Leaving { core, ..Leaving::default() };
        let mut told = None;
        while let Some((shard, tickets)) = self.desks[core].take_unwanted(told) {
            told = Some(shard);
            self.leave(&mut leaving, shard, tickets.into_iter().collect());
        }
        leaving
    }

    /// Tells a shard which calls need not be gone on with. If there is no way to it just now, they are told another time.
    fn leave(&mut self, leaving: &mut Leaving, shard: ShardId, tickets: Vec<Ticket>) {
        let owner = Desk::<Asked>::owner(shard, self.limits.cores);
        if owner == leaving.core {
            leaving.here.push((shard, tickets));
        } else if self.try_send(leaving.core, owner, Message::Left { shard, tickets: tickets.clone() }) {
            leaving.sent.push(owner);
        } else {
            self.desks[leaving.core].not_told(shard, tickets);
            leaving.is_to_go_on = true;
        }
    }

    /// A request has its answer. `None`: its client is gone.
    fn answer(&mut self, asked: Asked, result: Result<Vec<u8>, Refusal>) -> Result<Option<Told>, String> {
        let Asked { conn: id, attempt, lasts, .. } = asked;
        let conn = self.conns.get_mut(&id).ok_or_else(|| format!("{attempt:?} is answered after all were"))?;
        let place = conn.list(lasts).iter().position(|open| *open == attempt);
        conn.list(lasts).remove(place.ok_or_else(|| format!("{attempt:?} is answered a second time: {result:?}"))?);
        if conn.conversation.answered(lasts) != (!lasts && conn.open.is_empty()) {
            return Err(format!(
                "the connection of {attempt:?} has {} requests open, and says otherwise",
                conn.open.len()
            ));
        }
        if conn.is_closed {
            if conn.is_done() {
                self.conns.remove(&id);
            }
            return Ok(None);
        }
        Ok(Some((attempt, result)))
    }

    /// A client is gone.
    pub(super) fn close(&mut self, id: ConnId) -> Leaving {
        let conn = self.conns.get_mut(&id).expect("whoever leaves was there");
        assert!(!conn.is_closed, "a client leaves once");
        conn.is_closed = true;
        let open: Vec<Attempt> = conn.all().collect();
        let (core, number) = id;
        let mut leaving = Leaving { open, core, ..Leaving::default() };
        if conn.conversation.owes_nothing() {
            assert!(conn.is_done(), "what it waits for is known");
            self.conns.remove(&id);
            return leaving;
        }
        for (shard, tickets) in self.desks[core].left(number) {
            self.leave(&mut leaving, shard, tickets);
        }
        leaving
    }

    /// A client is told that nothing more is taken on its connection, which closes. Returns what it is told of its requests without an
    /// answer; `None`: it is not said now.
    pub(super) fn say_goodbye(&mut self, id: ConnId) -> Option<Vec<Told>> {
        let conn = self.conns.get_mut(&id).expect("whoever is told is there");
        assert!(!conn.is_closed, "who left hears nothing");
        let goodbye = conn.conversation.goodbye(Status::ShuttingDown, "simulated: others need its place")?;
        Some(conn.all().map(|attempt| (attempt, Err(goodbye.clone()))).collect())
    }

    /// A shard of another core says nothing any more. Returns what clients are told.
    pub(super) fn fell_silent(&mut self, core: usize, shard: ShardId) -> Result<Vec<Told>, String> {
        self.desks[core].fell_silent(shard);
        let (mut told, mut next) = (Vec::new(), Some(0));
        while let Some(first) = next {
            let (asked, rest) = self.desks[core].give_up_some(shard, first, 2);
            for asked in asked {
                told.extend(self.answer(asked, Err(Desk::<Asked>::silence()))?);
            }
            next = rest;
        }
        Ok(told)
    }

    /// It says something again.
    pub(super) fn speaks(&mut self, core: usize, shard: ShardId) {
        self.desks[core].speaks(shard);
    }

    /// Requests that have no answer, whoever waits for it.
    pub(super) fn open_count(&self) -> usize {
        self.conns.values().map(|conn| conn.all().count()).sum()
    }
}

fn bytes_of(part: &Brought) -> usize {
    part.as_ref().ok().and_then(|part| part.as_ref().bytes()).map_or(0, Vec::len)
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").field("limits", &self.limits).field("conns", &self.conns).finish_non_exhaustive()
    }
}
