//! The client side of one core: takes calls, brings them to the shard they are about, and brings the answers back.
//!
//! What is taken, what is refused and who gets which answer is decided by the desk, in the core (`desk`). Here are the connections, the
//! shards of this core, which are called directly, and the mesh to those of others. A call is copied nowhere until it reaches its shard.
//! The gateway knows nothing of replication.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use net::api::{Executed, REQUEST_HEAD_BYTES, Response, ResponsePart, Status};
use net::handshake::ClientLimits;

use super::classes::{Slice, give_way};
use super::client_conn::{ClientConn, OfCore, ReadUnderWay};
use super::client_figures::ClientFigures;
use super::handle::HandleReply;
use super::held::Held;
use super::limits::{CLIENTS_PARTIAL_BYTES_MAX, PLACES_AT_ONCE, TIMEOUT_MS_MAX, UNWANTED_RETRY_PAUSE};
use super::mesh::{Mesh, MeshMessage};
use super::notify::Notify;
use super::partial::Partials;
use super::replies::Replies;
use super::shard::Shard;
use super::taking::TakingTime;
use crate::call::{Call, Origin, Part, Refusal, Ticket};
use crate::desk::{Desk, DeskLimits, Ended, NO_CONN, Taken};
use crate::limits::{ANSWER_HEADS_BYTES, RANGE_BYTES_LIMIT};
use crate::replica::Event;
use crate::types::ShardId;
use api::command;

/// What a client's connection waits for.
pub(super) enum Awaited {
    /// An answer that comes once, to a write or to a read that was not begun.
    Answer,
    /// The answer to a read that was begun.
    Read(ReadUnderWay),
    /// An answer that goes on.
    Lasting,
}

/// Who waits for an answer.
pub(super) enum Waiting {
    /// A client's connection, under its number for the request.
    Conn(Rc<ClientConn>, u64, Awaited),
    /// A program that embeds the node.
    Handle(HandleReply),
}

/// The client side of one core.
pub struct Gateway {
    core: usize,
    limits: DeskLimits,
    /// Decides.
    desk: RefCell<Desk<Waiting>>,
    /// This core's shards, by number.
    shards: Vec<Option<Rc<Shard>>>,
    mesh: Rc<Mesh>,
    /// Reads that were held back so far.
    held_back_count: Cell<u64>,
    /// What the connections of this core's clients have in common.
    of_core: OfCore,
    /// Requests of which only a part has arrived.
    partials: Rc<Partials>,
    /// Requests of the node that wait for an answer, without the calls that last.
    waiting_total: Arc<AtomicU64>,
    /// Shards are to be told that nobody takes the rest of some answers.
    has_unwanted: Notify,
    /// Requests that were taken so far.
    taken_count: Cell<u64>,
    /// Connections of this core's clients; some may be gone.
    conns: RefCell<Vec<Weak<ClientConn>>>,
    /// Where clients reach the leader of each shard, for hints.
    leader_hints: Rc<dyn Fn(ShardId) -> Option<String>>,
}

impl Gateway {
    /// The gateway of `core`, in front of its shards and the mesh.
    pub fn new(
        core: usize,
        limits: DeskLimits,
        shards: Vec<Option<Rc<Shard>>>,
        mesh: Rc<Mesh>,
        waiting_total: Arc<AtomicU64>,
        leader_hints: Rc<dyn Fn(ShardId) -> Option<String>>,
    ) -> Rc<Self> {
        Rc::new(Self {
            core,
            limits,
            desk: RefCell::new(Desk::new(core, mesh.cores(), limits)),
            shards,
            mesh,
            held_back_count: Cell::new(0),
            of_core: OfCore::default(),
            partials: Partials::of_many(CLIENTS_PARTIAL_BYTES_MAX.max(4 * limits.command.request_bytes_limit())),
            waiting_total,
            has_unwanted: Notify::default(),
            taken_count: Cell::new(0),
            conns: RefCell::default(),
            leader_hints,
        })
    }

    /// Limits of this gateway.
    pub fn limits(&self) -> &DeskLimits {
        &self.limits
    }

    /// What a client is told of the limits, so that it waits instead of being refused.
    pub(super) fn told(&self) -> ClientLimits {
        ClientLimits {
            requests: self.limits.requests_per_connection,
            request_bytes: u32::try_from(self.limits.command.request_bytes).unwrap_or(u32::MAX),
            queued_bytes: self.limits.queued_bytes,
        }
    }

    /// A connection of a client of this core at this address. `figures` are the node's.
    pub(super) fn new_conn(&self, address: SocketAddr, figures: ClientFigures) -> ClientConn {
        let number = self.desk.borrow_mut().number_conn();
        ClientConn::new(number, address, &self.of_core, figures)
    }

    /// Bytes of answers that wait for clients of this core, and of reads that are held back.
    pub(super) fn untaken_bytes(&self) -> (usize, usize) {
        (self.of_core.writers.queued_bytes(), self.of_core.held.get())
    }

    /// Time for which the clients of this core could take answers.
    pub(super) fn taking_time(&self) -> &TakingTime {
        &self.of_core.taking_time
    }

    /// Reads that were held back so far.
    pub(super) fn held_back_count(&self) -> u64 {
        self.held_back_count.get()
    }

    /// Connections of this core's clients.
    pub(super) fn conns(&self) -> Vec<Rc<ClientConn>> {
        self.conns.borrow().iter().filter_map(Weak::upgrade).collect()
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
        self.conns().iter().for_each(|conn| conn.say_goodbye());
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
        if call.kind.lasts() {
            return self.open(conn, id, call);
        }
        if let Err(refusal) = conn.may_begin(&self.limits) {
            return conn.refuse(id, refusal.status, &refusal.message);
        }
        conn.request_began();
        call.meta.timeout_ms = call.meta.timeout_ms.clamp(1, TIMEOUT_MS_MAX);
        if call.kind.writes() {
            return self.route(call, Waiting::Conn(Rc::clone(conn), id, Awaited::Answer));
        }
        if conn.may_begin_now() {
            // Of most reads nobody asks when their time is over.
            let deadline = || Instant::now() + Duration::from_millis(call.meta.timeout_ms.into());
            let deadline = conn.may_put_off(self.largest_answer_bytes()).then(deadline);
            return self.begin_read(conn, id, call, deadline);
        }
        self.held_back_count.set(self.held_back_count.get() + 1);
        let deadline = Instant::now() + Duration::from_millis(call.meta.timeout_ms.into());
        let read = Held { id, deadline, call: call.into_owned(), needs_room: false };
        if let Err(read) = conn.hold(read) {
            let message = "reads wait on this core until clients take their answers, and there is no room for more of them; slow \
                           down and try again";
            let refusal = Refusal::not_executed(Status::Overloaded, message);
            self.answer_refused(read.call.meta.shard, Waiting::Conn(Rc::clone(conn), id, Awaited::Answer), &refusal);
        }
    }

    /// Takes a checked call that lasts. It is no read: it takes no room of theirs and holds none of them back.
    pub(super) fn open(&self, conn: &Rc<ClientConn>, id: u64, mut call: Call<'_>) {
        if let Err(refusal) = conn.may_open(id, &self.limits) {
            return conn.refuse(id, refusal.status, &refusal.message);
        }
        conn.lasting_began();
        // This is the time until it begins.
        call.meta.timeout_ms = call.meta.timeout_ms.clamp(1, TIMEOUT_MS_MAX);
        self.route(call, Waiting::Conn(Rc::clone(conn), id, Awaited::Lasting));
    }

    /// A client takes no more of the answer to a call of its connection. Its shard is told if that is a call that lasts; any other is
    /// answered all the same.
    pub(super) fn cancel(&self, conn: &ClientConn, id: u64) {
        let is_news = conn.lasting(id).is_some_and(|ticket| self.desk.borrow_mut().unwant(ticket));
        if is_news {
            self.has_unwanted.notify();
        }
    }

    /// No answer to a read takes more. Unit: bytes.
    fn largest_answer_bytes(&self) -> usize {
        RANGE_BYTES_LIMIT + ANSWER_HEADS_BYTES + self.limits.command.request_bytes_limit()
    }

    /// Brings a read to its shard. With a deadline it is asked again if its answer finds no room.
    fn begin_read(&self, conn: &Rc<ClientConn>, id: u64, call: Call<'_>, deadline: Option<Instant>) {
        let again = deadline.map(|deadline| Held { id, deadline, call: call.clone().into_owned(), needs_room: true });
        self.route(call, Waiting::Conn(Rc::clone(conn), id, Awaited::Read(conn.read_began(again))));
    }

    /// Brings the reads that a connection holds back to their shards, each when its client has taken enough of its answers, or
    /// refuses it when its time is over. Ends with the connection.
    pub(super) async fn begin_held_reads(&self, conn: &Rc<ClientConn>) {
        let slice = Slice::default();
        loop {
            match conn.next_held().await {
                Ok(Held { id, deadline, mut call, .. }) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    call.meta.timeout_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX).clamp(1, TIMEOUT_MS_MAX);
                    let may_put_off = conn.may_put_off(self.largest_answer_bytes());
                    self.begin_read(conn, id, call, may_put_off.then_some(deadline));
                    slice.spend(0).await;
                }
                Err(late) => {
                    let message = "it waited until answers were taken, those to other reads of its connection, or of other clients \
                                   of this node; read faster, or try again later";
                    let refusal = Refusal::not_executed(Status::Timeout, message);
                    for Held { id, call, .. } in late {
                        self.answer_refused(
                            call.meta.shard,
                            Waiting::Conn(Rc::clone(conn), id, Awaited::Answer),
                            &refusal,
                        );
                    }
                }
            }
        }
    }

    /// What is said of a request whose frame has a body of `body_bytes`.
    pub fn too_large(&self, body_bytes: usize) -> String {
        let got = body_bytes.saturating_sub(REQUEST_HEAD_BYTES);
        command::CommandError::TooLarge { got, limit: self.limits.command.request_bytes }.to_string()
    }

    /// Checks a call, once and for all.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn check(&self, call: &Call<'_>) -> Result<(), Refusal> {
        self.desk.borrow().check(call)
    }

    /// Brings a checked call to its shard.
    pub(super) fn route(&self, call: Call<'_>, waiting: Waiting) {
        let shard = call.meta.shard;
        let (conn, opened) = match &waiting {
            Waiting::Conn(conn, id, Awaited::Lasting) => (conn.number(), Some((Rc::clone(conn), *id))),
            Waiting::Conn(conn, ..) => (conn.number(), None),
            Waiting::Handle(_) => (NO_CONN, None),
        };
        let taken = self.desk.borrow_mut().take(&call, conn, waiting, opened.is_some());
        let Taken { ticket, owner } = match taken {
            Ok(taken) => taken,
            Err((waiting, refusal)) => return self.answer_refused(shard, waiting, &refusal),
        };
        match opened {
            Some((conn, id)) => conn.note_lasting(id, ticket),
            None => _ = self.waiting_total.fetch_add(1, Ordering::Relaxed),
        }
        self.taken_count.set(self.taken_count.get() + 1);
        if let Some(shard) = self.shard(shard) {
            return shard.deliver(Event::Call { origin: Origin::Local(ticket), call });
        }
        let message = MeshMessage::Call { ticket, call: call.into_owned() };
        if self.mesh.try_send(owner, message).is_err() {
            let (ended, refusal) = self.desk.borrow_mut().not_taken(ticket);
            self.answer_last(shard, ended, Err(&refusal), false);
        }
    }

    /// Takes a part of the answer to a call that waits on this core.
    pub(super) fn reply_here(&self, shard: ShardId, ticket: Ticket, part: Part<&[u8], &Refusal>, relayed: bool) {
        match part {
            Part::More(bytes) => {
                if self.desk.borrow_mut().take_part(ticket, |waiting| waiting.take_part(bytes)) {
                    self.has_unwanted.notify();
                }
            }
            Part::Last(result) => {
                let ended = self.desk.borrow_mut().last(ticket);
                self.answer_last(shard, ended, result, relayed);
            }
        }
    }

    /// Refuses a call of this core of whose answer a part was lost. What still comes of it is dropped.
    pub(super) fn give_up(&self, ticket: Ticket, why: &Refusal) {
        let (shard, waiting) = self.desk.borrow_mut().lose_part(ticket);
        self.has_unwanted.notify();
        if let Some(waiting) = waiting {
            self.answer_refused(shard, waiting, why);
        }
    }

    /// A client's connection is gone: tells the shards that the reads it waits for need not be continued, nor what it has opened.
    pub(super) fn client_left(&self, conn: &ClientConn) {
        if conn.owes_nothing() {
            return;
        }
        let left = self.desk.borrow().left(conn.number());
        for (shard, tickets) in left {
            if let Err(tickets) = self.tell_left(shard, tickets) {
                self.desk.borrow_mut().not_told(shard, tickets);
                self.has_unwanted.notify();
            }
        }
    }

    /// Tells shards that nobody takes the rest of some answers, for ever. They are not told within the event that brings a part of one.
    pub(super) async fn tell_unwanted(self: Rc<Self>) {
        loop {
            self.has_unwanted.wait().await;
            let mut is_to_go_on = false;
            let mut told = None;
            loop {
                // Nothing that was taken from the desk is held over a pause: meanwhile a ticket may go to another call.
                let next = self.desk.borrow_mut().take_unwanted(told);
                let Some((shard, tickets)) = next else { break };
                told = Some(shard);
                if let Err(tickets) = self.tell_left(shard, tickets.into_iter().collect()) {
                    self.desk.borrow_mut().not_told(shard, tickets);
                    is_to_go_on = true;
                }
                give_way().await;
            }
            if is_to_go_on {
                glommio::timer::sleep(UNWANTED_RETRY_PAUSE).await;
                self.has_unwanted.notify();
            }
        }
    }

    /// Requests of the node that wait for an answer, and calls of a connection that have a place.
    #[cfg(test)]
    pub(super) fn waiting(&self, conn: &ClientConn) -> (u64, usize) {
        let places = self.desk.borrow().left(conn.number()).values().map(Vec::len).sum();
        (self.waiting_total.load(Ordering::Relaxed), places)
    }

    /// Tells a shard which calls need not be gone on with. Returns them if there is no room on the way to its core.
    fn tell_left(&self, shard: ShardId, tickets: Vec<Ticket>) -> Result<(), Vec<Ticket>> {
        if let Some(shard) = self.shard(shard) {
            shard.deliver(Event::Left(&tickets));
            return Ok(());
        }
        let message = MeshMessage::Left { shard, tickets: tickets.clone() };
        self.mesh.try_send(self.mesh.owner(shard), message).map_err(|()| tickets)
    }

    /// A shard of another core says nothing any more: new calls for it are refused, nobody goes on waiting for those that it was given,
    /// and these take no room from calls for other shards.
    pub(super) async fn shard_fell_silent(&self, shard: ShardId) {
        self.desk.borrow_mut().fell_silent(shard);
        let refusal = Desk::<Waiting>::silence();
        let mut next = Some(0);
        while let Some(first) = next {
            let (given_up, rest) = self.desk.borrow_mut().give_up_some(shard, first, PLACES_AT_ONCE);
            for waiting in given_up {
                self.answer_refused(shard, waiting, &refusal);
            }
            next = rest;
            give_way().await;
        }
    }

    /// It says something again.
    pub(super) fn shard_speaks(&self, shard: ShardId) {
        self.desk.borrow_mut().speaks(shard);
    }

    /// Gives the last part of an answer to whoever waits for it.
    fn answer_last(&self, shard: ShardId, ended: Ended<Waiting>, body: Result<&[u8], &Refusal>, relayed: bool) {
        if !ended.lasted {
            self.waiting_total.fetch_sub(1, Ordering::Relaxed);
        }
        match ended.waiting {
            Some(Waiting::Conn(conn, id, mut awaited)) => {
                if awaited.is_put_off(body.map_or(0, <[u8]>::len)) {
                    return;
                }
                let wants_hint = relayed || body.is_err_and(asks_elsewhere);
                let hint = if wants_hint { (self.leader_hints)(shard) } else { None };
                let response = Response { id, leader_hint: hint.as_deref(), result: body.map_err(Refusal::as_refused) };
                awaited.answer(&conn, &response);
            }
            Some(Waiting::Handle(reply)) => reply.answer(body.map_err(Refusal::clone)),
            None => {}
        }
    }

    /// Answers a call of which its shard says nothing.
    fn answer_refused(&self, shard: ShardId, waiting: Waiting, refusal: &Refusal) {
        match waiting {
            Waiting::Conn(conn, id, awaited) => {
                let hint = if asks_elsewhere(refusal) { (self.leader_hints)(shard) } else { None };
                let response = Response { id, leader_hint: hint.as_deref(), result: Err(refusal.as_refused()) };
                awaited.answer(&conn, &response);
            }
            Waiting::Handle(reply) => reply.answer(Err(refusal.clone())),
        }
    }
}

impl Awaited {
    /// So many bytes of it have come. `true`: it is a read that is asked again (`ReadUnderWay::is_put_off`).
    fn is_put_off(&mut self, bytes: usize) -> bool {
        match self {
            Self::Read(read) => read.is_put_off(bytes),
            Self::Answer | Self::Lasting => false,
        }
    }

    /// It has ended with this.
    fn answer(&self, conn: &ClientConn, response: &Response<'_>) {
        match self {
            Self::Answer | Self::Read(_) => conn.answer(response),
            Self::Lasting => conn.end_lasting(response),
        }
    }
}

impl Waiting {
    /// Takes a part of the answer. `false`: it was answered with a refusal instead, or is asked again, and waits no longer.
    fn take_part(&mut self, bytes: &[u8]) -> bool {
        match self {
            Self::Conn(conn, id, Awaited::Lasting) => conn.take_lasting(&ResponsePart { id: *id, bytes }),
            Self::Conn(conn, id, awaited) => {
                !awaited.is_put_off(bytes.len()) && conn.take_part(&ResponsePart { id: *id, bytes })
            }
            Self::Handle(reply) => {
                reply.take_part(bytes);
                true
            }
        }
    }
}

impl Replies for Gateway {
    /// Brings a part of an answer back to whoever waits for it, on whatever core that is.
    fn reply(&self, shard: ShardId, ticket: Ticket, part: Part<&[u8], &Refusal>, relayed: bool) {
        let core = Desk::<Waiting>::core_of(ticket);
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
