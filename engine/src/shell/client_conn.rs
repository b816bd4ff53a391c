//! The answers of one client's connection, in any order. What arrives on it is taken by `client_requests`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use net::api::{Executed, Refused, Response, ResponsePart, Status};
use net::shell::{ConnWriter, Writers};

use super::client_figures::ClientFigures;
use super::guests::Guest;
use super::held::{Held, HeldTotal, Reads};
use super::limits::{
    CLIENT_ANSWER_BYTES_MAX, CLIENT_PUT_OFF_BYTES, CORE_ANSWER_BYTES_MAX, CORE_CROWDED_BYTES, CORE_ROOM_AGAIN_BYTES,
    LASTING_UNTAKEN_BYTES_MAX, READ_PAUSE_BYTES, SHARE_BYTES_MAX, SHARE_BYTES_MIN, SMALL_ANSWER_BYTES,
};
use super::partial::GivenUp;
use super::taking::{Taking, TakingTime};
use crate::call::{Refusal, Ticket};
use crate::desk::{Conversation, DeskLimits};

/// What takes the place of a large answer while too much waits. All reads of a round are answered at once, and clients may be slow
/// to take it all.
const NO_ROOM: Refused<'static> = Refused {
    status: Status::Overloaded,
    executed: Executed::Unknown,
    message: "too many bytes of answers wait for clients of this node; this one was dropped, read again later",
};

/// Why a call that lasts ends.
const TAKES_TOO_LITTLE: Refused<'static> = Refused {
    status: Status::Overloaded,
    executed: Executed::No,
    message: "its client takes too little of what waits for it; open the call again from where it ended",
};

/// What the connections of one core have in common.
#[derive(Debug, Default)]
pub(super) struct OfCore {
    /// Their writers.
    pub(super) writers: Rc<Writers>,
    /// What the reads take that they hold back.
    pub(super) held: HeldTotal,
    /// Time for which their clients could take answers.
    pub(super) taking_time: Rc<TakingTime>,
}

/// What all tasks of a connection share.
#[derive(Debug)]
pub struct ClientConn {
    /// Number of this connection within its core.
    number: u32,
    /// Who is at the other end, for people.
    address: SocketAddr,
    writer: ConnWriter,
    /// The writers of all connections of this core.
    writers: Rc<Writers>,
    conversation: Cell<Conversation>,
    reads: Reads,
    /// Calls that last, by the client's numbers for them.
    lasting: RefCell<BTreeMap<u64, Ticket>>,
    /// When bytes arrived last.
    read_at: Cell<Instant>,
    /// When the bytes of the last request arrived; `None` before the first.
    asked_at: Cell<Option<Instant>>,
    /// The task that waits until every request is answered (`all_answered`).
    last_answer: RefCell<Option<Waker>>,
    /// How the client takes its answers.
    taking: Taking,
    /// Counts what is refused, and answers in whose place a refusal was sent.
    figures: ClientFigures,
}

/// A read that a shard has and has not answered.
#[derive(Debug)]
pub(super) struct ReadUnderWay {
    conn: Rc<ClientConn>,
    /// Bytes of its answer so far. Unit: bytes.
    bytes: usize,
    /// The read itself, if its answer may find no room.
    again: Option<Held>,
}

impl ReadUnderWay {
    /// So many bytes of its answer have come. `true`: there is no room for them on the core, or much waits for the client, and nothing
    /// came before; the read is held back again.
    pub(super) fn is_put_off(&mut self, bytes: usize) -> bool {
        let is_first = self.bytes == 0;
        self.bytes = self.bytes.saturating_add(bytes);
        let has_no_room = |conn: &ClientConn| {
            conn.has_no_room_for(bytes) || (bytes > 0 && conn.writer.queued_bytes() > CLIENT_PUT_OFF_BYTES)
        };
        let Some(read) = self.again.take_if(|_| is_first && has_no_room(&self.conn)) else { return false };
        let is_held = self.conn.reads.hold(read).is_ok();
        self.conn.writer.look_again();
        is_held
    }
}

impl Drop for ReadUnderWay {
    fn drop(&mut self) {
        self.conn.reads.ended(self.bytes);
    }
}

impl ClientConn {
    /// A connection of this core on which nothing was asked yet. `figures` are the node's.
    pub(super) fn new(number: u32, address: SocketAddr, of_core: &OfCore, figures: ClientFigures) -> Self {
        let writers = Rc::clone(&of_core.writers);
        Self {
            number,
            address,
            writer: ConnWriter::among(CLIENT_ANSWER_BYTES_MAX, Rc::clone(&writers)),
            writers,
            conversation: Cell::default(),
            reads: Reads::new(Rc::clone(&of_core.held)),
            lasting: RefCell::default(),
            read_at: Cell::new(Instant::now()),
            asked_at: Cell::new(None),
            last_answer: RefCell::default(),
            taking: Taking::new(Rc::clone(&of_core.taking_time)),
            figures,
        }
    }

    /// Tells it from the other connections of its core.
    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    /// Who is at the other end, for people.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What carries the answers away.
    pub fn writer(&self) -> &ConnWriter {
        &self.writer
    }

    /// The next request may be taken.
    ///
    /// While much waits for the clients of this core, a client that asks for more than its share waits with it: its connection
    /// would not outlive the answers.
    pub(super) fn has_room(&self) -> bool {
        let queued_bytes = self.writer.queued_bytes();
        if !self.reads.has_room() {
            return false;
        }
        if !self.is_crowded() {
            return queued_bytes <= READ_PAUSE_BYTES;
        }
        queued_bytes + self.waiting_count() as usize * SMALL_ANSWER_BYTES <= self.share_bytes()
    }

    /// Waits until the next request may be taken, or nothing can be answered any more. One task may wait.
    pub(super) async fn room(&self) {
        // Every answer that falls due is queued, and this looks again when bytes of the queue have left.
        self.writer.room_when(|_| self.has_room()).await;
    }

    /// Much waits for the clients of this core.
    pub(super) fn is_crowded(&self) -> bool {
        self.writers.queued_bytes() > CORE_CROWDED_BYTES
    }

    /// Another read may be answered with much while much waits, for this client or those of its core: it must be one that can be asked
    /// again. No answer takes more than `largest_bytes`.
    pub(super) fn may_put_off(&self, largest_bytes: usize) -> bool {
        let under_way = self.reads.under_way();
        let all_bytes = largest_bytes.saturating_mul(under_way + 1).saturating_add(self.writer.queued_bytes());
        self.is_crowded() || (under_way > 0 && all_bytes > CLIENT_PUT_OFF_BYTES)
    }

    /// Too much waits for the clients of this core for an answer of so many bytes to wait, too.
    fn has_no_room_for(&self, answer_bytes: usize) -> bool {
        answer_bytes > SMALL_ANSWER_BYTES && self.writers.queued_bytes() > CORE_ANSWER_BYTES_MAX
    }

    /// A read whose answer found no room on this core may be asked again.
    fn has_room_again(&self) -> bool {
        self.writers.queued_bytes() <= CORE_ROOM_AGAIN_BYTES
    }

    /// True if a read that is held back may be brought to its shard while `queued_bytes` wait for the client.
    fn may_begin_held(&self, queued_bytes: usize) -> bool {
        self.reads.has_next(self.has_room_again()) && self.may_begin_read(queued_bytes)
    }

    /// True if another read may be brought to its shard while `queued_bytes` wait for the client.
    fn may_begin_read(&self, queued_bytes: usize) -> bool {
        let limit = if self.is_crowded() { self.share_bytes() } else { READ_PAUSE_BYTES };
        self.reads.may_begin(queued_bytes, limit)
    }

    /// True if a new read may be brought to its shard at once: none is held back, and there is room for its answer.
    pub(super) fn may_begin_now(&self) -> bool {
        self.reads.held_count() == 0 && self.may_begin_read(self.writer.queued_bytes())
    }

    /// Holds back a read that `request_began` counted. Returns the read if there is no room for it.
    pub(super) fn hold(&self, read: Held) -> Result<(), Held> {
        self.reads.hold(read)
    }

    /// Waits until a read that is held back may be begun, and returns it; or returns the reads whose time is over before that. Waits for
    /// as long as no read is held back. One that waits for room on its core does not keep those behind it.
    ///
    /// The task that takes the connection's requests and writes its answers must poll this after both: every change of what this waits
    /// for wakes that task.
    pub(super) async fn next_held(&self) -> Result<Held, Vec<Held>> {
        loop {
            self.writer.room_when(|_| self.reads.held_count() > 0).await;
            if self.writer.is_closed() {
                return std::future::pending().await;
            }
            if !self.may_begin_held(self.writer.queued_bytes()) {
                let deadline = self.reads.first_deadline();
                let may_begin = async {
                    // One that is held back meanwhile may have less time.
                    let is_over =
                        |queued_bytes| self.may_begin_held(queued_bytes) || self.reads.first_deadline() < deadline;
                    self.writer.room_when(is_over).await;
                    Ok(())
                };
                let patience = deadline.map(|at| at.saturating_duration_since(Instant::now()));
                if glommio::timer::timeout(patience.unwrap_or_default(), may_begin).await.is_err() {
                    return Err(self.reads.take_late(Instant::now()));
                }
                continue;
            }
            if let Some(read) = self.reads.take(self.has_room_again()) {
                return Ok(read);
            }
        }
    }

    /// Bytes of answers that each connection may leave unread while too many wait. Unit: bytes.
    fn share_bytes(&self) -> usize {
        let share = CORE_CROWDED_BYTES / self.writers.queues_count().max(1);
        share.clamp(SHARE_BYTES_MIN, SHARE_BYTES_MAX)
    }

    /// True if too many bytes wait on this core, and too many of them waited for this client before it was sent more. One that had taken
    /// what it was sent may get an answer that is larger than its share.
    fn was_over_share(&self, bytes_before: usize) -> bool {
        self.writers.queued_bytes() > CORE_ANSWER_BYTES_MAX && bytes_before > self.share_bytes()
    }

    /// What waits for the client, and for how long it has taken next to nothing of it, as far as it was looked at. Unit: bytes.
    pub(super) fn untaken(&self) -> (usize, Duration) {
        let queued_bytes = self.writer.queued_bytes();
        (queued_bytes, self.taking.untaken_for(queued_bytes))
    }

    /// What the reads take that are held back. Unit: bytes.
    pub(super) fn held_bytes(&self) -> usize {
        self.reads.held_bytes()
    }

    /// Ends it at once: the client does not take its answers, and others need their room.
    pub(super) fn close_as_slow(&self) {
        self.writer.abort();
    }

    /// Requests of this connection that wait for an answer, without the calls that last.
    pub fn waiting_count(&self) -> u32 {
        self.conversation.get().waiting_count()
    }

    /// Nothing that was asked for on this connection is under way.
    pub(super) fn owes_nothing(&self) -> bool {
        self.conversation.get().owes_nothing()
    }

    /// Whether another request may begin.
    ///
    /// # Errors
    /// As many wait already.
    pub(super) fn may_begin(&self, limits: &DeskLimits) -> Result<(), Refusal> {
        self.conversation.get().may_begin(limits, false)
    }

    /// Whether another call that lasts may begin, under the client's number for it.
    ///
    /// # Errors
    /// As many last already, or one of this number does.
    pub(super) fn may_open(&self, id: u64, limits: &DeskLimits) -> Result<(), Refusal> {
        if self.lasting.borrow().contains_key(&id) {
            let message = format!("a call that lasts has number {id} already on this connection");
            return Err(Refusal::not_executed(Status::Invalid, message));
        }
        self.conversation.get().may_begin(limits, true)
    }

    /// A call that lasts was taken, and will be ended by `end_lasting`.
    pub(super) fn lasting_began(&self) {
        self.asked_at.set(Some(self.read_at.get()));
        self.converse(|conversation| conversation.begin(true));
    }

    /// It has this ticket.
    pub(super) fn note_lasting(&self, id: u64, ticket: Ticket) {
        let before = self.lasting.borrow_mut().insert(id, ticket);
        assert!(before.is_none(), "a number names one call that lasts");
    }

    /// The ticket of a call that lasts.
    pub(super) fn lasting(&self, id: u64) -> Option<Ticket> {
        self.lasting.borrow().get(&id).copied()
    }

    /// Ends a call that `lasting_began` counted.
    pub(super) fn end_lasting(&self, response: &Response<'_>) {
        self.lasting.borrow_mut().remove(&response.id);
        let was_last_request = self.converse(|conversation| conversation.answered(true));
        assert!(!was_last_request, "nobody waits for what lasts");
        self.push(response);
    }

    /// Queues a part of what lasts. `false`: the client takes too little, and the call has ended.
    pub(super) fn take_lasting(&self, part: &ResponsePart<'_>) -> bool {
        let queued_bytes = self.writer.queued_bytes();
        if queued_bytes > LASTING_UNTAKEN_BYTES_MAX || self.has_no_room_for(part.bytes.len()) {
            self.end_lasting(&Response { id: part.id, leader_hint: None, result: Err(TAKES_TOO_LITTLE) });
            return false;
        }
        self.push_frame(|out| part.encode(out));
        true
    }

    /// Bytes arrived just now.
    pub(super) fn bytes_arrived(&self) {
        self.read_at.set(Instant::now());
    }

    /// A request was taken and will be answered by `answer`.
    pub fn request_began(&self) {
        self.asked_at.set(Some(self.read_at.get()));
        self.converse(|conversation| conversation.begin(false));
    }

    /// A read is brought to its shard, and goes on until the result is dropped. Should its answer find no room, it is held back as `again`.
    pub(super) fn read_began(self: &Rc<Self>, again: Option<Held>) -> ReadUnderWay {
        self.reads.began();
        ReadUnderWay { conn: Rc::clone(self), bytes: 0, again }
    }

    /// Answers a request that `request_began` counted.
    pub fn answer(&self, response: &Response<'_>) {
        if self.converse(|conversation| conversation.answered(false))
            && let Some(waker) = self.last_answer.borrow_mut().take()
        {
            waker.wake();
        }
        if response.result.as_ref().is_ok_and(|body| self.has_no_room_for(body.len())) {
            self.figures.answers_dropped.inc();
            self.push(&Response { id: response.id, leader_hint: response.leader_hint, result: Err(NO_ROOM) });
        } else {
            self.push(response);
        }
    }

    /// Queues a part of the answer to a request that `request_began` counted. `false`: there was no room, and the request is
    /// answered with that.
    pub(super) fn take_part(&self, part: &ResponsePart<'_>) -> bool {
        if self.writers.queued_bytes() > CORE_ANSWER_BYTES_MAX {
            self.figures.answers_dropped.inc();
            self.answer(&Response { id: part.id, leader_hint: None, result: Err(NO_ROOM) });
            return false;
        }
        self.push_frame(|out| part.encode(out));
        true
    }

    /// Answers a request that was not taken: it certainly took no effect.
    pub fn refuse(&self, id: u64, status: Status, message: &str) {
        let result = Err(Refused { status, executed: Executed::No, message });
        self.push(&Response { id, leader_hint: None, result });
    }

    /// Waits until no request of this connection waits for its answer. One task may wait.
    pub async fn all_answered(&self) {
        poll_fn(|cx| {
            if self.waiting_count() == 0 {
                return Poll::Ready(());
            }
            *self.last_answer.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Tells the client that nothing more is taken and that whatever it got no answer to took no effect.
    ///
    /// Says nothing while requests wait for an answer: for those it would be untrue.
    pub fn say_goodbye(&self) {
        self.say_farewell(Status::ShuttingDown, "it is shutting down");
    }

    /// Tells the client that the rest of its request is not waited for any more, so that request took no effect.
    ///
    /// A message without a request's number speaks of all requests. So nothing is said while others wait for an answer.
    pub fn say_given_up(&self, why: GivenUp) {
        self.say_farewell(Status::Overloaded, &why.to_string());
    }

    fn say_farewell(&self, status: Status, message: &str) {
        if let Some(goodbye) = self.converse(|conversation| conversation.goodbye(status, message)) {
            self.push(&Response { id: 0, leader_hint: None, result: Err(goodbye.as_refused()) });
        }
    }

    fn converse<T>(&self, change: impl FnOnce(&mut Conversation) -> T) -> T {
        let mut conversation = self.conversation.get();
        let result = change(&mut conversation);
        self.conversation.set(conversation);
        result
    }

    /// True if the goodbye was said: requests that still arrive are not looked at.
    pub fn is_over(&self) -> bool {
        self.conversation.get().is_over()
    }

    /// Queues an answer that nobody counted.
    pub fn push(&self, response: &Response<'_>) {
        if let Err(refused) = &response.result {
            self.figures.refused(refused.status);
        }
        self.push_frame(|out| response.encode(out));
    }

    fn push_frame(&self, append: impl FnOnce(&mut Vec<u8>)) {
        // A client that is gone needs no answer; one that does not read its answers loses its connection.
        // One that closed its side still gets what is queued.
        let before = self.writer.queued_bytes();
        let is_refused = self.writer.push(append).is_err() && !self.writer.is_closed();
        self.taking.pushed(self.writer.queued_bytes() - before);
        if is_refused || self.was_over_share(before) {
            self.writer.abort();
        }
    }
}

impl Guest for ClientConn {
    fn asked_at(&self) -> Option<Instant> {
        self.asked_at.get()
    }

    fn is_idle(&self) -> bool {
        // Reads are held back for as long as the client takes nothing, or others do.
        let held_count = self.reads.held_count();
        let queued_bytes = self.writer.queued_bytes();
        let is_taken = queued_bytes == 0 && held_count == 0;
        self.waiting_count() as usize == held_count && (is_taken || self.taking.is_stuck(queued_bytes))
    }

    /// Ends the connection. What the client has sent meanwhile is not looked at; the client is told so, and sends it again on another
    /// connection. A client that does not take its answers is told nothing.
    fn make_room(&self) {
        assert!(self.is_idle(), "nobody loses an answer that it takes");
        if self.writer.queued_bytes() > 0 {
            return self.writer.abort();
        }
        self.say_farewell(
            Status::Overloaded,
            "the connection was idle when newer ones needed its place; connect again",
        );
        self.writer.close();
    }

    fn cut(&self) {
        self.writer.abort();
    }
}

#[cfg(test)]
#[path = "client_conn_tests.rs"]
mod tests;
