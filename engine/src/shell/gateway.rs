//! The client side of one core: takes calls, brings them to the shard they are about, and brings the answers back.
//!
//! A call is checked here once (form, limits, shard) and copied nowhere until it reaches its shard. Shards of this core
//! are called directly, others through the mesh. Everything that waits is bounded; beyond the bound the answer is
//! `overloaded`. The gateway knows nothing of replication.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use net::api::{Executed, REQUEST_HEAD_BYTES, Response, ResponsePart, Status};
use net::handshake::ClientLimits;
use net::shell::Writers;
use prometheus_client::metrics::counter::Counter;

use super::classes::{Slice, give_way};
use super::client_conn::{ClientConn, ReadUnderWay};
use super::handle::HandleReply;
use super::held::{Held, HeldTotal};
use super::limits::{CLIENTS_PARTIAL_BYTES_MAX, PLACES_AT_ONCE, TIMEOUT_MS_MAX};
use super::mesh::{Mesh, MeshMessage};
use super::partial::Partials;
use super::replies::Replies;
use super::shard::Shard;
use super::waits::{NoPlace, Waits};
use crate::call::{Call, Origin, Part, Refusal, TICKET_NUMBER_BITS, Ticket};
use crate::replica::Event;
use crate::types::ShardId;
use api::command::{self, Limits};

/// Bits of a ticket below the core's number: the number of a connection, then that of a place.
const TICKET_CORE_SHIFT: u32 = TICKET_NUMBER_BITS + 32;

/// What is said of a shard of another core that says nothing itself.
const HANGS: &str =
    "the shard says nothing: its core hangs, as it does when the disk does not answer; ask another node";

/// Who waits for an answer.
pub enum Waiting {
    /// A client's connection, under its number for the request; the last is there if it is a read.
    Conn(Rc<ClientConn>, u64, Option<ReadUnderWay>),
    /// A program that embeds the node.
    Handle(HandleReply),
    /// Nobody any more: the answer was given up after a part of it, and what still comes of it is dropped.
    Nobody,
}

/// Limits of a gateway.
#[derive(Clone, Copy, Debug)]
pub struct GatewayLimits {
    /// Limits of commands.
    pub command: Limits,
    /// Shards of the cluster.
    pub shard_count: u32,
    /// Requests of one connection that wait for an answer, at most.
    pub requests_per_connection: u32,
    /// Bytes of requests of this core that wait for an answer, at most. Unit: bytes.
    pub queued_bytes: u64,
}

impl GatewayLimits {
    /// What a client is told of them, so that it waits instead of being refused.
    pub fn told(&self) -> ClientLimits {
        ClientLimits {
            requests: self.requests_per_connection,
            request_bytes: u32::try_from(self.command.request_bytes).unwrap_or(u32::MAX),
            queued_bytes: self.queued_bytes,
        }
    }
}

/// The client side of one core.
pub struct Gateway {
    core: usize,
    limits: GatewayLimits,
    /// This core's shards, by number.
    shards: Vec<Option<Rc<Shard>>>,
    mesh: Rc<Mesh>,
    waits: RefCell<Waits<Waiting>>,
    /// What reads take that are held back until clients take their answers.
    held: HeldTotal,
    /// Number of the connection that was made last; 0 stands for no connection.
    last_conn: Cell<u32>,
    /// Carries answers to this core's clients.
    writers: Rc<Writers>,
    /// Requests of which only a part has arrived.
    partials: Rc<Partials>,
    waiting_total: Arc<AtomicU64>,
    /// Requests that were taken so far.
    taken_count: Cell<u64>,
    /// Connections of this core's clients; some may be gone.
    conns: RefCell<Vec<Weak<ClientConn>>>,
    /// Where clients reach the leader of each shard, for hints.
    leader_hints: Rc<dyn Fn(ShardId) -> Option<String>>,
    /// Shards of other cores that say nothing any more.
    silent: RefCell<BTreeSet<ShardId>>,
}

impl Gateway {
    /// The gateway of `core`, in front of its shards and the mesh.
    pub fn new(
        core: usize,
        limits: GatewayLimits,
        shards: Vec<Option<Rc<Shard>>>,
        mesh: Rc<Mesh>,
        waiting_total: Arc<AtomicU64>,
        leader_hints: Rc<dyn Fn(ShardId) -> Option<String>>,
    ) -> Rc<Self> {
        Rc::new(Self {
            core,
            limits,
            shards,
            mesh,
            waits: RefCell::new(Waits::new(limits.queued_bytes)),
            held: HeldTotal::default(),
            last_conn: Cell::new(0),
            writers: Rc::default(),
            partials: Partials::of_many(CLIENTS_PARTIAL_BYTES_MAX.max(4 * limits.command.request_bytes_limit())),
            waiting_total,
            taken_count: Cell::new(0),
            conns: RefCell::default(),
            leader_hints,
            silent: RefCell::default(),
        })
    }

    /// Limits of this gateway.
    pub fn limits(&self) -> &GatewayLimits {
        &self.limits
    }

    /// A connection of a client of this core. `answers_dropped` counts for the node.
    pub(super) fn new_conn(&self, answers_dropped: Counter) -> ClientConn {
        let number = self.last_conn.get().wrapping_add(1);
        self.last_conn.set(number);
        ClientConn::new(number, Rc::clone(&self.writers), Rc::clone(&self.held), answers_dropped)
    }

    /// Counts requests of which only a part has arrived.
    pub fn partials(&self) -> &Rc<Partials> {
        &self.partials
    }

    /// This core's shard of that number, if it owns it.
    pub fn shard(&self, shard: ShardId) -> Option<&Rc<Shard>> {
        self.shards.get(shard.get() as usize)?.as_ref()
    }

    /// Notes a client's connection, to tell it when the node stops.
    pub fn note_conn(&self, conn: &Rc<ClientConn>) {
        let mut conns = self.conns.borrow_mut();
        // Amortized: those that are gone are looked for when the vector would grow.
        if conns.len() == conns.capacity() {
            conns.retain(|conn| conn.strong_count() > 0);
        }
        conns.push(Rc::downgrade(conn));
    }

    /// Tells every client that nothing more is taken here.
    pub fn say_goodbye(&self) {
        self.conns.borrow().iter().filter_map(Weak::upgrade).for_each(|conn| conn.say_goodbye());
    }

    /// Requests that were taken so far: whether clients are still busy shows in its growth.
    pub fn taken_count(&self) -> u64 {
        self.taken_count.get()
    }

    /// Takes a call of a client's connection, under the client's number for it.
    pub(super) fn on_call(&self, conn: &Rc<ClientConn>, id: u64, mut call: Call<'_>) {
        if let Err(refusal) = self.check(&call) {
            return conn.refuse(id, refusal.status, &refusal.message);
        }
        if conn.waiting_count() >= self.limits.requests_per_connection {
            let message = format!(
                "{} requests of this connection wait for an answer already; the limit is --max-requests-per-connection",
                conn.waiting_count()
            );
            return conn.refuse(id, Status::Overloaded, &message);
        }
        conn.request_began();
        call.meta.timeout_ms = call.meta.timeout_ms.clamp(1, TIMEOUT_MS_MAX);
        if call.kind.writes() {
            return self.route(call, Waiting::Conn(Rc::clone(conn), id, None));
        }
        if conn.may_begin_now() {
            return self.begin_read(conn, id, call);
        }
        let deadline = Instant::now() + Duration::from_millis(call.meta.timeout_ms.into());
        if let Err(read) = conn.hold(Held { id, deadline, call: call.into_owned() }) {
            let message = "reads wait on this core until clients take their answers, and there is no room for more of them; slow \
                           down and try again";
            let refusal = Refusal::not_executed(Status::Overloaded, message);
            self.answer_refused(read.call.meta.shard, Waiting::Conn(Rc::clone(conn), id, None), &refusal);
        }
    }

    fn begin_read(&self, conn: &Rc<ClientConn>, id: u64, call: Call<'_>) {
        self.route(call, Waiting::Conn(Rc::clone(conn), id, Some(conn.read_began())));
    }

    /// Brings the reads that a connection holds back to their shards, each when its client has taken enough of its answers, or
    /// refuses it when its time is over. Ends with the connection.
    pub(super) async fn begin_held_reads(&self, conn: &Rc<ClientConn>) {
        let slice = Slice::default();
        loop {
            match conn.next_held().await {
                Ok(Held { id, deadline, mut call }) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    call.meta.timeout_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX).clamp(1, TIMEOUT_MS_MAX);
                    self.begin_read(conn, id, call);
                    slice.spend(0).await;
                }
                Err(late) => {
                    let message = "it waited for others of its connection: they were not answered in time, or their answers not taken";
                    let refusal = Refusal::not_executed(Status::Timeout, message);
                    for Held { id, call, .. } in late {
                        self.answer_refused(call.meta.shard, Waiting::Conn(Rc::clone(conn), id, None), &refusal);
                    }
                }
            }
        }
    }

    /// What is said of a request whose frame has a body of so many bytes.
    pub fn too_large(&self, body_bytes: usize) -> String {
        let got = body_bytes.saturating_sub(REQUEST_HEAD_BYTES);
        command::CommandError::TooLarge { got, limit: self.limits.command.request_bytes }.to_string()
    }

    /// Checks a call, once and for all: that the shard exists, and that the payload follows its form, keeps the limits and
    /// belongs to the shard.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn check(&self, call: &Call<'_>) -> Result<(), Refusal> {
        let named = call.meta.shard;
        if named.get() >= self.limits.shard_count {
            let message = format!("shard {named} does not exist, the cluster has {}", self.limits.shard_count);
            return Err(Refusal::not_executed(Status::WrongShard, message));
        }
        match call.kind.check(&call.payload, &self.limits.command) {
            Ok(Some(shard)) if shard != named => {
                let message = format!("the key belongs to shard {shard}, the request names shard {named}");
                Err(Refusal::not_executed(Status::WrongShard, message))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(Refusal::not_executed(status_of(&error), error.to_string())),
        }
    }

    /// Brings a checked call to its shard.
    pub fn route(&self, call: Call<'_>, waiting: Waiting) {
        let (shard, bytes) = (call.meta.shard, u32::try_from(call.payload.len()).unwrap_or(u32::MAX));
        if self.silent.borrow().contains(&shard) {
            return self.answer_refused(shard, waiting, &Refusal::not_executed(Status::Unavailable, HANGS));
        }
        let Some(ticket) = self.take_place(waiting, shard, bytes) else { return };
        self.taken_count.set(self.taken_count.get() + 1);
        if let Some(shard) = self.shard(shard) {
            return shard.deliver(Event::Call { origin: Origin::Local(ticket), call });
        }
        let message = MeshMessage::Call { ticket, call: call.into_owned() };
        if self.mesh.try_send(self.mesh.owner(shard), message).is_err() {
            let message = "the queue to the shard's core is full; slow down and try again";
            let refusal = Refusal::not_executed(Status::Overloaded, message);
            self.reply_here(shard, ticket, Part::Last(Err(&refusal)), false);
        }
    }

    /// Keeps `waiting` until its answer comes; `None` if there is no room, and then it was answered.
    fn take_place(&self, waiting: Waiting, shard: ShardId, bytes: u32) -> Option<Ticket> {
        let conn = match &waiting {
            Waiting::Conn(conn, ..) => conn.number(),
            Waiting::Handle(_) | Waiting::Nobody => 0,
        };
        let taken = self.waits.borrow_mut().take(waiting, shard, bytes);
        match taken {
            Ok(number) => {
                self.waiting_total.fetch_add(1, Ordering::Relaxed);
                Some(self.ticket(conn, number))
            }
            Err((waiting, why)) => {
                let message = match why {
                    NoPlace::Bytes(bytes) => {
                        format!("{bytes} bytes of requests wait on this core; slow down and try again")
                    }
                    NoPlace::Count => "too many requests wait on this core; slow down and try again".to_owned(),
                };
                self.answer_refused(shard, waiting, &Refusal::not_executed(Status::Overloaded, message));
                None
            }
        }
    }

    /// Takes a part of the answer to a call that waits on this core.
    pub(super) fn reply_here(&self, shard: ShardId, ticket: Ticket, part: Part<&[u8], &Refusal>, relayed: bool) {
        let number = Self::place_of(ticket);
        match part {
            Part::More(bytes) => {
                let mut waits = self.waits.borrow_mut();
                let place = waits.get_mut(number);
                place.expect("nothing follows the last part of an answer").waiting.take_part(bytes);
            }
            Part::Last(result) => self.reply_last(shard, number, result, relayed),
        }
    }

    /// Refuses a call of this core of whose answer a part was lost. What still comes of it is dropped.
    pub(super) fn give_up(&self, ticket: Ticket, why: &Refusal) {
        let number = Self::place_of(ticket);
        let (shard, waiting) = {
            let mut waits = self.waits.borrow_mut();
            let place = waits.get_mut(number).expect("nothing follows the last part of an answer");
            (place.shard, std::mem::replace(&mut place.waiting, Waiting::Nobody))
        };
        self.answer_refused(shard, waiting, why);
    }

    /// A client's connection is gone: reads that it waits for need not be gone on with. Without room on the way to another core they are,
    /// until their time is up.
    pub(super) fn client_left(&self, conn: &Rc<ClientConn>) {
        if conn.waiting_count() == 0 {
            return;
        }
        let mut left: BTreeMap<ShardId, Vec<Ticket>> = BTreeMap::new();
        for (number, place) in self.waits.borrow().iter() {
            if let Waiting::Conn(waiting, ..) = &place.waiting
                && Rc::ptr_eq(waiting, conn)
            {
                left.entry(place.shard).or_default().push(self.ticket(conn.number(), number));
            }
        }
        for (shard, tickets) in left {
            if let Some(shard) = self.shard(shard) {
                shard.deliver(Event::Left(&tickets));
            } else if self.mesh.try_send(self.mesh.owner(shard), MeshMessage::Left { shard, tickets }).is_err() {
                tracing::debug!(%shard, "the queue to the shard's core is full: reads of a client that left go on");
            }
        }
    }

    /// The ticket of a place, for a connection.
    fn ticket(&self, conn: u32, number: u32) -> Ticket {
        let core = (self.core as u64) << TICKET_CORE_SHIFT;
        Ticket(core | u64::from(conn) << TICKET_NUMBER_BITS | u64::from(number))
    }

    /// A shard of another core says nothing any more: new calls for it are refused, nobody goes on waiting for those that it was given,
    /// and these take no room from calls for other shards.
    pub(super) async fn shard_fell_silent(&self, shard: ShardId) {
        self.silent.borrow_mut().insert(shard);
        let refusal = Refusal::unknown(Status::Unavailable, HANGS);
        let mut first = 0;
        while first < self.waits.borrow().len() {
            for number in first..first + PLACES_AT_ONCE {
                let waiting = {
                    let mut waits = self.waits.borrow_mut();
                    let of_shard = waits.get_mut(number).filter(|place| place.shard == shard);
                    let waiting = of_shard.map(|place| std::mem::replace(&mut place.waiting, Waiting::Nobody));
                    if waiting.is_some() {
                        waits.give_up(number);
                    }
                    waiting
                };
                if let Some(waiting) = waiting {
                    self.answer_refused(shard, waiting, &refusal);
                }
            }
            first += PLACES_AT_ONCE;
            give_way().await;
        }
    }

    /// It says something again.
    pub(super) fn shard_speaks(&self, shard: ShardId) {
        self.silent.borrow_mut().remove(&shard);
    }

    fn place_of(ticket: Ticket) -> usize {
        usize::try_from(ticket.0 & ((1 << TICKET_NUMBER_BITS) - 1)).unwrap_or(usize::MAX)
    }

    /// Takes the last part of an answer, and gives its place free.
    fn reply_last(&self, shard: ShardId, number: usize, body: Result<&[u8], &Refusal>, relayed: bool) {
        let taken = self.waits.borrow_mut().remove(number);
        let waiting = taken.expect("a request is answered exactly once").waiting;
        self.waiting_total.fetch_sub(1, Ordering::Relaxed);
        match waiting {
            Waiting::Conn(conn, id, mut read) => {
                if let Some(read) = &mut read {
                    read.note(body.map_or(0, <[u8]>::len));
                }
                let wants_hint = relayed || body.is_err_and(asks_elsewhere);
                let hint = if wants_hint { (self.leader_hints)(shard) } else { None };
                conn.answer(&Response { id, leader_hint: hint.as_deref(), result: body.map_err(Refusal::as_refused) });
            }
            Waiting::Handle(reply) => reply.answer(body.map_err(Refusal::clone)),
            Waiting::Nobody => {}
        }
    }

    /// Answers a call of which its shard says nothing.
    fn answer_refused(&self, shard: ShardId, waiting: Waiting, refusal: &Refusal) {
        match waiting {
            Waiting::Conn(conn, id, _) => {
                let hint = if asks_elsewhere(refusal) { (self.leader_hints)(shard) } else { None };
                conn.answer(&Response { id, leader_hint: hint.as_deref(), result: Err(refusal.as_refused()) });
            }
            Waiting::Handle(reply) => reply.answer(Err(refusal.clone())),
            Waiting::Nobody => {}
        }
    }
}

impl Waiting {
    /// Takes a part of the answer.
    fn take_part(&mut self, bytes: &[u8]) {
        match self {
            Self::Conn(conn, id, read) => {
                if let Some(read) = read {
                    read.note(bytes.len());
                }
                if !conn.take_part(&ResponsePart { id: *id, bytes }) {
                    *self = Self::Nobody;
                }
            }
            Self::Handle(reply) => reply.take_part(bytes),
            Self::Nobody => {}
        }
    }
}

impl Replies for Gateway {
    /// Brings a part of an answer back to whoever waits for it, on whatever core that is.
    fn reply(&self, shard: ShardId, ticket: Ticket, part: Part<&[u8], &Refusal>, relayed: bool) {
        let core = usize::try_from(ticket.0 >> TICKET_CORE_SHIFT).unwrap_or(usize::MAX);
        if core == self.core {
            return self.reply_here(shard, ticket, part, relayed);
        }
        let answer = self.mesh.answer(part);
        self.mesh.send(core, MeshMessage::Reply { shard, ticket, answer, relayed });
    }
}

/// Another node may do what was refused here.
fn asks_elsewhere(refusal: &Refusal) -> bool {
    refusal.executed == Executed::No && matches!(refusal.status, Status::Unavailable | Status::ShuttingDown)
}

fn status_of(error: &command::CommandError) -> Status {
    if error.is_too_large() { Status::TooLarge } else { Status::Invalid }
}
