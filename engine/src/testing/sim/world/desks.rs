//! Requests of clients at the desks of a node's cores: on their way to a shard, and their answers on the way back.

use super::{Event, Place, World};
use crate::call::{Call, Origin, Part, Refusal, Ticket};
use crate::replica;
use crate::testing::sim::clients::Answer;
use crate::testing::sim::front::{Asking, Attempt, Leaving, Message, Taking, Told, Waiter};
use crate::testing::sim::plan::between;
use crate::types::ShardId;
use net::api::{Executed, Status};

/// Longest time that a message takes from one core to another. Unit: us.
const BETWEEN_US_MAX: u64 = 300;

impl World {
    /// A request has arrived at a node that is up.
    pub(super) fn ask_node(&mut self, at: Place, attempt: Attempt, call: Call<'_>) -> Result<(), String> {
        // A node's own calls are like those of clients to everybody.
        if attempt.number % 8 == 7 {
            return self.call(at, Waiter::Own(attempt.number), attempt, call);
        }
        let client = self.clients.running(attempt.op).operation.client;
        let front = &mut self.hosts[at.host].front;
        let conn = front.conn_of(client);
        let conn = match conn {
            Some(conn) => conn,
            None => {
                let core = usize::try_from(self.front_rng.below(self.plan.front.cores as u64)).expect("few");
                front.connect(client, core)
            }
        };
        match front.ask(conn, attempt, &call)? {
            Asking::Here(ticket) => self.call(at, Waiter::Desk(ticket), attempt, call),
            Asking::Sent(to) => {
                self.send_between(at.host, conn.0, to);
                Ok(())
            }
            Asking::Refused(told) => {
                self.tell(told);
                Ok(())
            }
        }
    }

    /// A call has come to its shard.
    fn call(&mut self, at: Place, waiter: Waiter, attempt: Attempt, call: Call<'_>) -> Result<(), String> {
        let origin = match waiter {
            Waiter::Desk(ticket) => Origin::Local(ticket),
            Waiter::Own(number) => Origin::Internal(number),
        };
        let before = self.hosts[at.host].shards[at.shard].waiting.insert(waiter, attempt);
        if let Some(before) = before {
            return Err(format!("node {} gives the ticket of {before:?} to {attempt:?}", at.host + 1));
        }
        self.deliver(at, replica::Event::Call { origin, call })
    }

    fn send_between(&mut self, host: usize, from: usize, to: usize) {
        assert_ne!(from, to, "a core needs no way to itself");
        let life = self.hosts[host].life;
        let delay_us = between(&mut self.front_rng, 1, BETWEEN_US_MAX);
        self.schedule(delay_us, Event::Between { host, life, from, to });
    }

    /// The next message from one core of a node to another has arrived.
    pub(super) fn arrive_between(&mut self, host: usize, life: u64, from: usize, to: usize) -> Result<(), String> {
        if !self.is_alive(host, life) {
            return Ok(());
        }
        match self.hosts[host].front.arrived(from, to) {
            Message::Call { ticket, attempt, call } => {
                let shard = usize::try_from(call.meta.shard.get()).expect("few");
                self.call(Place { host, shard }, Waiter::Desk(ticket), attempt, call)
            }
            Message::Reply { ticket, part } => self.take_part(host, ticket, part),
            Message::Left { shard, tickets } => self.tell_left(host, shard, &tickets),
        }
    }

    fn tell_left(&mut self, host: usize, shard: ShardId, tickets: &[Ticket]) -> Result<(), String> {
        let shard = usize::try_from(shard.get()).expect("few");
        self.deliver(Place { host, shard }, replica::Event::Left(tickets))
    }

    /// A replica gave a part of an answer. What is not whole is nothing to anybody.
    pub(super) fn reply_part(
        &mut self,
        at: Place,
        waiter: Waiter,
        part: Part<Vec<u8>>,
        is_relayed: bool,
    ) -> Result<(), String> {
        let shard = &mut self.hosts[at.host].shards[at.shard];
        let number = at.host + 1;
        let Some(attempt) = shard.waiting.get(&waiter).copied() else {
            return Err(format!("node {number} goes on answering {waiter:?} after the last part: {part:?}"));
        };
        let kind = self.clients.kind(attempt.op);
        match part.as_ref() {
            Part::More(bytes) => {
                shard.parts.entry(waiter).or_default().extend(bytes);
                self.report.parts_count += 1;
            }
            Part::Last(result) => {
                shard.waiting.remove(&waiter);
                let parts = shard.parts.remove(&waiter).unwrap_or_default();
                let whole = result.map(|bytes| [&parts[..], bytes].concat()).map_err(Refusal::clone);
                shard.check_shown(kind, &whole, is_relayed)?;
                self.note_void(attempt, &whole);
                if let Waiter::Own(_) = waiter {
                    self.tell((attempt, whole));
                }
            }
        }
        let Waiter::Desk(ticket) = waiter else { return Ok(()) };
        let front = &mut self.hosts[at.host].front;
        let from = front.owner(at.shard);
        let borrowed = match part.as_ref() {
            Part::More(bytes) => Part::More(&bytes[..]),
            Part::Last(result) => Part::Last(result.map(|bytes| &bytes[..])),
        };
        if let Some(to) = front.reply(from, ticket, borrowed) {
            self.send_between(at.host, from, to);
            return Ok(());
        }
        self.take_part(at.host, ticket, Ok(part))
    }

    /// A part of an answer has come to the core whose client asked.
    fn take_part(&mut self, host: usize, ticket: Ticket, part: Result<Part<Vec<u8>>, Refusal>) -> Result<(), String> {
        let one_in = self.plan.front.drops_one_in;
        let has_room = self.is_calm || one_in == 0 || !self.front_rng.chance(1, one_in);
        let Taking { told, tells } = self.hosts[host].front.take_part(ticket, part, has_room)?;
        if let Some(told) = told {
            self.tell(told);
        }
        if let Some(core) = tells {
            self.tell_unwanted_soon(host, core);
        }
        Ok(())
    }

    /// Not within the event that brought a part: a node tells its shards in a task of its own.
    fn tell_unwanted_soon(&mut self, host: usize, core: usize) {
        let life = self.hosts[host].life;
        let delay_us = between(&mut self.front_rng, 1, BETWEEN_US_MAX);
        self.schedule(delay_us, Event::Unwanted { host, life, core });
    }

    /// A core of a node tells shards that nobody takes the rest of some answers.
    pub(super) fn tell_unwanted(&mut self, host: usize, life: u64, core: usize) -> Result<(), String> {
        if !self.is_alive(host, life) {
            return Ok(());
        }
        let leaving = self.hosts[host].front.tell_unwanted(core);
        self.tell_all_left(host, leaving)
    }

    fn tell_all_left(&mut self, host: usize, leaving: Leaving) -> Result<(), String> {
        for (shard, tickets) in leaving.here {
            self.tell_left(host, shard, &tickets)?;
        }
        for to in leaving.sent {
            self.send_between(host, leaving.core, to);
        }
        if leaving.is_to_go_on {
            self.tell_unwanted_soon(host, leaving.core);
        }
        Ok(())
    }

    /// What a client is told is on its way to it.
    pub(in crate::testing::sim) fn tell(&mut self, (attempt, result): Told) {
        self.note_void(attempt, &result);
        let answer = match result {
            Ok(body) => Answer::Done(body),
            Err(refusal) => Answer::Refused(refusal),
        };
        let (low, high) = self.plan.delay_us;
        let delay_us = between(&mut self.rng, low, high);
        self.schedule(delay_us, Event::Answer { attempt, answer });
    }

    /// An attempt certainly takes no effect, if somebody said so.
    fn note_void(&mut self, attempt: Attempt, result: &Result<Vec<u8>, Refusal>) {
        // What every replica refuses alike when it applies the entry is in the log, and takes no effect there.
        let is_in_no_log = |refusal: &Refusal| {
            refusal.executed == Executed::No
                && refusal.status != Status::FutureRevision
                && refusal.status != Status::TooLarge
        };
        if result.as_ref().is_err_and(is_in_no_log) {
            self.clients.running(attempt.op).void.insert(attempt.number);
        }
    }

    /// A client leaves a node, whatever it waits for, and takes its requests for lost.
    pub(in crate::testing::sim) fn leave_some(&mut self) -> Result<bool, String> {
        let host = self.random_host();
        let conns = self.hosts[host].front.conns();
        if conns.is_empty() {
            return Ok(false);
        }
        let conn = conns[usize::try_from(self.rng.below(conns.len() as u64)).expect("few")];
        let mut leaving = self.hosts[host].front.close(conn);
        let open = std::mem::take(&mut leaving.open);
        self.trace.note(self.now_us, || format!("a client leaves node {}, with {open:?} open", host + 1));
        let leaves_requests = !open.is_empty();
        for attempt in open {
            let delay_us = between(&mut self.rng, 10, 5_000);
            self.schedule(delay_us, Event::Answer { attempt, answer: Answer::Broken { was_sent: true } });
        }
        self.tell_all_left(host, leaving)?;
        Ok(leaves_requests)
    }

    /// A connection must make room for others.
    pub(in crate::testing::sim) fn part_from_some(&mut self) -> Result<bool, String> {
        let host = self.random_host();
        let conns = self.hosts[host].front.conns();
        if conns.is_empty() {
            return Ok(false);
        }
        let conn = conns[usize::try_from(self.rng.below(conns.len() as u64)).expect("few")];
        Ok(self.say_goodbye(host, conn))
    }

    /// A client is told that nothing more is taken on its connection. Says whether it was.
    fn say_goodbye(&mut self, host: usize, conn: (usize, u32)) -> bool {
        let Some(told) = self.hosts[host].front.say_goodbye(conn) else { return false };
        self.trace.note(self.now_us, || format!("node {} parts from a client", host + 1));
        for told in told {
            self.tell(told);
        }
        true
    }

    /// A node that stops tells all clients.
    pub(in crate::testing::sim) fn say_goodbye_to_all(&mut self, host: usize) {
        for conn in self.hosts[host].front.conns() {
            self.say_goodbye(host, conn);
        }
    }
}
