//! The desk of a core: takes the calls of its clients, gives each a ticket, and finds who waits for an answer by its ticket.
//!
//! Decisions alone: which calls are refused, and what that says of their effect; which core a call goes to; what becomes of the calls
//! of a client that left and of a shard that says nothing; what becomes of answers for which there is no room between cores. Whoever
//! drives it has the connections and the ways to the shards, or simulates them. It knows neither replication nor a clock.
//!
//! Calling order: a call is `check`ed once and taken by `take`. Its ticket then comes back with any number of parts of the answer
//! (`take_part`, or `lose_part` if one was lost on its way) and one last (`last`), or at once by `not_taken`. Until then the call keeps
//! its place, whether anybody waits for it or not; if nobody does any more, its shard is to be told.

mod between;
mod conversation;
mod waits;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use net::api::Status;

pub(crate) use between::{BetweenCores, Brought};
pub(crate) use conversation::Conversation;

use crate::call::{Call, Refusal, TICKET_NUMBER_BITS, Ticket};
use crate::types::ShardId;
use api::command::{CommandError, Limits};
use waits::{NoPlace, Place, Waits};

/// Bits of a ticket below the core's number: the number of a connection, then that of a place.
const TICKET_CORE_SHIFT: u32 = TICKET_NUMBER_BITS + 32;

/// What is said of a shard of another core that says nothing itself.
const HANGS: &str =
    "the shard says nothing: its core hangs, as it does when the disk does not answer; ask another node";

/// Stands for whoever waits without a connection.
pub(crate) const NO_CONN: u32 = 0;

/// Limits of a desk.
#[derive(Clone, Copy, Debug)]
pub struct DeskLimits {
    /// Limits of commands.
    pub command: Limits,
    /// Shards of the cluster.
    pub shard_count: u32,
    /// Requests of one connection that wait for an answer, at most.
    pub requests_per_connection: u32,
    /// Calls of one connection that last, at most.
    pub lasting_per_connection: u32,
    /// Bytes of requests of this core that wait for an answer, at most. Unit: bytes.
    pub queued_bytes: u64,
    /// Requests of this core that wait for an answer, at most. As many more may be given up and not be answered yet.
    pub requests: usize,
    /// Calls of this core that last, at most.
    pub lasting: usize,
}

/// A call that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) struct Taken {
    /// Names it until its last answer.
    pub(crate) ticket: Ticket,
    /// The core that owns its shard.
    pub(crate) owner: usize,
}

/// A call has had its last answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) struct Ended<W> {
    /// Who waited for it; `None`: nobody did any more.
    pub(crate) waiting: Option<W>,
    /// It was a call that lasts.
    pub(crate) lasted: bool,
}

/// The desk of one core. `W` is whoever waits for an answer.
pub(crate) struct Desk<W> {
    core: usize,
    /// Cores of the node.
    cores: usize,
    limits: DeskLimits,
    waits: Waits<W>,
    /// Number of the connection that was made last.
    last_conn: u32,
    /// Shards of other cores that say nothing any more.
    silent: BTreeSet<ShardId>,
    /// Calls whose answers go on and find nobody, by their shards, which are to be told.
    unwanted: BTreeMap<ShardId, BTreeSet<Ticket>>,
}

impl<W> Desk<W> {
    /// The desk of `core`, of so many cores.
    pub(crate) const fn new(core: usize, cores: usize, limits: DeskLimits) -> Self {
        assert!(core < cores, "cores are numbered from 0");
        let waits = Waits::new(limits.queued_bytes, limits.requests, limits.lasting);
        Self { core, cores, limits, waits, last_conn: NO_CONN, silent: BTreeSet::new(), unwanted: BTreeMap::new() }
    }

    /// A number for a connection, by which its calls are known.
    pub(crate) fn number_conn(&mut self) -> u32 {
        self.last_conn = self.last_conn.checked_add(1).unwrap_or(NO_CONN + 1);
        assert_ne!(self.last_conn, NO_CONN, "nobody's number is not given away");
        self.last_conn
    }

    /// The core that owns a shard, the same on every node.
    pub(crate) const fn owner(shard: ShardId, cores: usize) -> usize {
        assert!(cores > 0, "a node has a core");
        shard.get() as usize % cores
    }

    /// The core whose desk gave this ticket.
    pub(crate) fn core_of(ticket: Ticket) -> usize {
        usize::try_from(ticket.0 >> TICKET_CORE_SHIFT).unwrap_or(usize::MAX)
    }

    /// Checks a call, once and for all: that the shard exists, and that the payload follows its form, keeps the limits and
    /// belongs to the shard.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn check(&self, call: &Call<'_>) -> Result<(), Refusal> {
        let named = call.meta.shard;
        if named.get() >= self.limits.shard_count {
            let message = format!("shard {named} does not exist, the cluster has {}", self.limits.shard_count);
            return Err(Refusal::not_executed(Status::WrongShard, message));
        }
        if call.meta.sender.is_some() && !call.kind.writes() {
            return Err(Refusal::not_executed(Status::Invalid, "only a write belongs to a session"));
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

    /// Takes a checked call of a connection, or of nobody's (`NO_CONN`). `lasts`: its kind is one that lasts.
    ///
    /// # Errors
    /// It is not taken, and certainly took no effect: whoever waits comes back with what to say.
    pub(crate) fn take(&mut self, call: &Call<'_>, conn: u32, waiting: W, lasts: bool) -> Result<Taken, (W, Refusal)> {
        let shard = call.meta.shard;
        assert!(shard.get() < self.limits.shard_count, "the call was checked");
        if self.silent.contains(&shard) {
            return Err((waiting, Refusal::not_executed(Status::Unavailable, HANGS)));
        }
        let bytes = u32::try_from(call.payload.len()).unwrap_or(u32::MAX);
        let place = if lasts { Place::lasting(waiting, conn, shard) } else { Place::new(waiting, conn, shard, bytes) };
        match self.waits.take(place) {
            Ok(number) => Ok(Taken { ticket: self.ticket(conn, number), owner: Self::owner(shard, self.cores) }),
            Err((waiting, why)) => {
                let message = match why {
                    NoPlace::Bytes(bytes) => {
                        mark!("desk: too many bytes of requests wait");
                        format!("{bytes} bytes of requests wait on this core; slow down and try again")
                    }
                    NoPlace::Lasting(count) => format!("{count} calls that last are open on this core already"),
                    NoPlace::Count => {
                        mark!("desk: too many requests wait");
                        "too many requests wait on this core; slow down and try again".to_owned()
                    }
                };
                Err((waiting, Refusal::not_executed(Status::Overloaded, message)))
            }
        }
    }

    /// A call that was taken could not be brought to its shard's core, which never sees it.
    pub(crate) fn not_taken(&mut self, ticket: Ticket) -> (Ended<W>, Refusal) {
        mark!("desk: the queue to another core is full");
        let message = "the queue to the shard's core is full; slow down and try again";
        (self.last(ticket), Refusal::not_executed(Status::Overloaded, message))
    }

    /// A part of an answer came, and others follow. `take` takes it for whoever waits; `false`: whoever it is waits no longer. Says whether
    /// the shard is to be told that nobody waits (`take_unwanted`).
    #[must_use]
    pub(crate) fn take_part(&mut self, ticket: Ticket, take: impl FnOnce(&mut W) -> bool) -> bool {
        let place = self.place(ticket);
        if place.waiting.as_mut().is_some_and(take) {
            return false;
        }
        mark!("desk: the rest of an answer finds nobody");
        place.waiting = None;
        self.unwant(ticket)
    }

    /// A part of an answer was lost on its way, and others follow, which are dropped. Whoever waits is to be told at once, and the shard by
    /// `take_unwanted`. Says which shard answered.
    pub(crate) fn lose_part(&mut self, ticket: Ticket) -> (ShardId, Option<W>) {
        mark!("desk: a part of an answer was lost between cores");
        let place = self.place(ticket);
        let (shard, waiting) = (place.shard, place.waiting.take());
        self.unwant(ticket);
        (shard, waiting)
    }

    /// Nobody takes more of the answer to a call: its shard is to be told (`take_unwanted`), once. Its last part still comes. Says whether
    /// this is news.
    pub(crate) fn unwant(&mut self, ticket: Ticket) -> bool {
        let place = self.place(ticket);
        let (shard, is_news) = (place.shard, !std::mem::replace(&mut place.is_unwanted, true));
        if is_news {
            self.unwanted.entry(shard).or_default().insert(ticket);
        }
        is_news
    }

    /// Takes the calls of a shard after `after` that is to be told that nobody takes more of their answers (`Event::Left`), in ascending
    /// order. Tell it at once: a call that ends meanwhile gives its ticket to another one. What cannot be told now is given back by
    /// `not_told`, at once as well.
    pub(crate) fn take_unwanted(&mut self, after: Option<ShardId>) -> Option<(ShardId, BTreeSet<Ticket>)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let shard = *self.unwanted.range((from, Bound::Unbounded)).next()?.0;
        self.unwanted.remove_entry(&shard)
    }

    /// A shard could not be told of these calls. Those that have not ended are told another time.
    pub(crate) fn not_told(&mut self, shard: ShardId, tickets: impl IntoIterator<Item = Ticket>) {
        self.unwanted.entry(shard).or_default().extend(tickets);
    }

    /// The last part of an answer came, so that the call's place is free.
    pub(crate) fn last(&mut self, ticket: Ticket) -> Ended<W> {
        // Looked at first: a ticket that names another call's place must not free it.
        let place = self.place(ticket);
        let (lasted, shard) = (place.lasts(), place.shard);
        // The next call at this place may have the same ticket.
        if let Some(unwanted) = self.unwanted.get_mut(&shard) {
            unwanted.remove(&ticket);
        }
        let waiting = self.waits.remove(place_of(ticket)).and_then(|place| place.waiting);
        mark!("desk: nobody waits for an answer any more" if waiting.is_none());
        Ended { waiting, lasted }
    }

    /// A client's connection is gone. Its calls keep their places, since their answers name these. Returns their tickets, for each shard
    /// in ascending order: reads among them need not be gone on with.
    pub(crate) fn left(&self, conn: u32) -> BTreeMap<ShardId, Vec<Ticket>> {
        assert_ne!(conn, NO_CONN, "it has a number");
        let mut left: BTreeMap<ShardId, Vec<Ticket>> = BTreeMap::new();
        for (number, place) in self.waits.iter().filter(|(_, place)| place.conn == conn) {
            mark!("desk: a client left while calls waited");
            left.entry(place.shard).or_default().push(self.ticket(conn, number));
        }
        left
    }

    /// A shard of another core says nothing any more: new calls for it are refused, those that it was given are taken from their places by
    /// `give_up_some`.
    pub(crate) fn fell_silent(&mut self, shard: ShardId) {
        assert_ne!(Self::owner(shard, self.cores), self.core, "a core does not watch itself");
        self.silent.insert(shard);
    }

    /// It says something again.
    pub(crate) fn speaks(&mut self, shard: ShardId) {
        self.silent.remove(&shard);
    }

    /// Looks through `count` places from `first` on for calls of a silent shard. Returns who waited for them, and where to go on, if there
    /// are more. The calls leave their room to others; their answers may still come. Nothing more is given up once the shard speaks
    /// again: it answers what it was given, before and since.
    pub(crate) fn give_up_some(&mut self, shard: ShardId, first: usize, count: usize) -> (Vec<W>, Option<usize>) {
        assert!(count > 0, "there is an end to it");
        if !self.silent.contains(&shard) {
            return (Vec::new(), None);
        }
        let mut waiting = Vec::new();
        let end = first + count;
        for number in first..end.min(self.waits.len()) {
            if let Some(place) = self.waits.get_mut(number).filter(|place| place.shard == shard) {
                mark!("desk: calls of a silent shard are given up" if place.waiting.is_some());
                waiting.extend(place.waiting.take());
                self.waits.give_up(number);
            }
        }
        (waiting, Some(end).filter(|end| *end < self.waits.len()))
    }

    /// What is said to those who waited for a shard that fell silent: it may do what they asked for all the same.
    pub(crate) fn silence() -> Refusal {
        Refusal::unknown(Status::Unavailable, HANGS)
    }

    /// The place of a call that has not had its last answer.
    fn place(&mut self, ticket: Ticket) -> &mut Place<W> {
        assert_eq!(Self::core_of(ticket), self.core, "answers come to the core that asked");
        let place = self.waits.get_mut(place_of(ticket)).expect("nothing follows the last part of an answer");
        assert_eq!(place.conn, conn_of(ticket), "an answer finds the call that it is for");
        place
    }

    /// The ticket of a place, for a connection.
    const fn ticket(&self, conn: u32, number: u32) -> Ticket {
        let core = (self.core as u64) << TICKET_CORE_SHIFT;
        Ticket(core | (conn as u64) << TICKET_NUMBER_BITS | number as u64)
    }
}

fn place_of(ticket: Ticket) -> usize {
    usize::try_from(ticket.0 & ((1 << TICKET_NUMBER_BITS) - 1)).unwrap_or(usize::MAX)
}

fn conn_of(ticket: Ticket) -> u32 {
    let number = ticket.0 >> TICKET_NUMBER_BITS & u64::from(u32::MAX);
    u32::try_from(number).expect("32 bits are left")
}

fn status_of(error: &CommandError) -> Status {
    if error.is_too_large() { Status::TooLarge } else { Status::Invalid }
}

#[cfg(test)]
mod tests {
    use net::api::Executed;

    use super::*;
    use crate::call::CallKind;

    const LIMITS: DeskLimits = DeskLimits {
        command: Limits { request_bytes: 1 << 10, txn_ops: 8, shard_count: 2 },
        shard_count: 2,
        requests_per_connection: 2,
        lasting_per_connection: 2,
        queued_bytes: 100,
        requests: 3,
        lasting: 1,
    };

    fn take(desk: &mut Desk<&'static str>, shard: u32, conn: u32, bytes: usize) -> Result<Taken, Refusal> {
        let payload = vec![0; bytes];
        let call = Call::borrowed(ShardId::new(shard), CallKind::Write, 100, &payload);
        desk.take(&call, conn, "somebody", false).map_err(|(_, refusal)| refusal)
    }

    const fn ended(waiting: Option<&'static str>) -> Ended<&'static str> {
        Ended { waiting, lasted: false }
    }

    #[test]
    fn what_is_not_taken_took_no_effect_and_leaves_no_trace() {
        let mut desk = Desk::new(1, 2, LIMITS);
        let conn = desk.number_conn();
        let first = take(&mut desk, 0, conn, 60).expect("room");
        assert_eq!((first.owner, Desk::<&str>::core_of(first.ticket)), (0, 1));
        let refused = take(&mut desk, 1, conn, 41).expect_err("too many bytes");
        assert_eq!((refused.status, refused.executed), (Status::Overloaded, Executed::No));
        let (waiting, refusal) = desk.not_taken(first.ticket);
        assert_eq!((waiting, refusal.executed), (ended(Some("somebody")), Executed::No));
        assert!(desk.left(conn).is_empty() && take(&mut desk, 1, conn, 100).is_ok());
    }

    #[test]
    fn calls_of_a_client_that_left_keep_their_places_until_they_are_answered() {
        let mut desk = Desk::new(0, 1, LIMITS);
        let (gone, stays) = (desk.number_conn(), desk.number_conn());
        let [first, second] = [0, 1].map(|shard| take(&mut desk, shard, gone, 10).expect("room").ticket);
        let third = take(&mut desk, 0, stays, 10).expect("room").ticket;
        let left = BTreeMap::from([(ShardId::new(0), vec![first]), (ShardId::new(1), vec![second])]);
        assert_eq!(desk.left(gone), left);
        assert!(take(&mut desk, 0, stays, 10).is_err(), "their places are not free");
        assert_eq!(desk.last(second), ended(Some("somebody")));
        let again = take(&mut desk, 0, stays, 10).expect("a place is free").ticket;
        assert_eq!((again.0 ^ second.0) & 0xfffff, 0, "the same place, under another ticket");
        assert_eq!([first, third, again].map(|ticket| desk.last(ticket)), [ended(Some("somebody")); 3]);
    }

    #[test]
    #[should_panic(expected = "an answer finds the call that it is for")]
    fn an_answer_never_goes_to_another_connection() {
        let mut desk = Desk::new(0, 1, LIMITS);
        let (one, other) = (desk.number_conn(), desk.number_conn());
        let first = take(&mut desk, 0, one, 10).expect("room").ticket;
        assert_eq!(desk.last(first), ended(Some("somebody")));
        let second = take(&mut desk, 0, other, 10).expect("room").ticket;
        assert_eq!(place_of(first), place_of(second));
        let _nobodys = desk.last(first);
    }

    #[test]
    fn calls_of_a_shard_that_says_nothing_end_once_and_its_late_answers_find_nobody() {
        let mut desk = Desk::new(1, 2, LIMITS);
        let conn = desk.number_conn();
        let silent = take(&mut desk, 0, conn, 60).expect("room").ticket;
        let other = take(&mut desk, 1, conn, 10).expect("room").ticket;
        desk.fell_silent(ShardId::new(0));
        let refused = take(&mut desk, 0, conn, 1).expect_err("it says nothing");
        assert_eq!((refused.status, refused.executed), (Status::Unavailable, Executed::No));
        assert_eq!(desk.give_up_some(ShardId::new(0), 0, 1), (vec!["somebody"], Some(1)));
        assert_eq!(desk.give_up_some(ShardId::new(0), 1, 1), (Vec::new(), None));
        assert_eq!(Desk::<&str>::silence().executed, Executed::Unknown);
        assert!(take(&mut desk, 1, conn, 80).is_ok(), "they leave their room to others");
        desk.speaks(ShardId::new(0));
        let next = take(&mut desk, 0, conn, 1).expect("it speaks again").ticket;
        assert_eq!(desk.give_up_some(ShardId::new(0), 0, 10), (Vec::new(), None), "it answers what it is given");
        assert_eq!(desk.last(next), ended(Some("somebody")));
        assert!(desk.take_part(silent, |_| unreachable!("nobody waits for it")), "it need not go on");
        assert_eq!((desk.last(silent), desk.last(other)), (ended(None), ended(Some("somebody"))));
    }

    #[test]
    fn whoever_does_not_take_a_part_waits_no_longer_and_the_rest_is_dropped() {
        let mut desk = Desk::new(0, 1, LIMITS);
        let [slow, unlucky] = [10, 10].map(|bytes| take(&mut desk, 0, NO_CONN, bytes).expect("room").ticket);
        assert!(!desk.take_part(slow, |_| true) && desk.take_part(slow, |_| false));
        assert!(!desk.take_part(slow, |_| unreachable!("nobody waits for it")));
        assert_eq!(
            [desk.lose_part(unlucky), desk.lose_part(unlucky)].map(|(_, waiting)| waiting),
            [Some("somebody"), None]
        );
        let shard = ShardId::new(0);
        assert_eq!(desk.take_unwanted(Some(shard)), None, "no shard comes after it");
        assert_eq!(desk.take_unwanted(None), Some((shard, BTreeSet::from([slow, unlucky]))), "their shard is told");
        assert_eq!(desk.take_unwanted(None), None, "once");
        desk.not_told(shard, [slow, unlucky]);
        assert_eq!(
            (desk.last(slow), desk.take_unwanted(None).map(|(_, left)| left)),
            (ended(None), Some(BTreeSet::from([unlucky]))),
            "what has ended goes without"
        );
        assert_eq!(desk.last(unlucky), ended(None));
        // The next call at the same place has the same ticket, and is wanted.
        let next = take(&mut desk, 0, NO_CONN, 10).expect("room").ticket;
        assert!(next == unlucky && desk.take_unwanted(None).is_none());
    }

    #[test]
    fn what_lasts_has_a_limit_of_its_own_and_says_so_at_its_end() {
        let mut desk = Desk::new(0, 1, LIMITS);
        let payload = [0; 90];
        let call = Call::borrowed(ShardId::new(0), CallKind::ReadSerializable, 100, &payload);
        let lasting = desk.take(&call, NO_CONN, "somebody", true).expect("room").ticket;
        let (_, refused) = desk.take(&call, NO_CONN, "somebody", true).expect_err("one may last");
        assert_eq!((refused.status, refused.executed), (Status::Overloaded, Executed::No));
        assert!(take(&mut desk, 0, NO_CONN, 90).is_ok(), "it takes no room of others");
        assert_eq!(desk.last(lasting), Ended { waiting: Some("somebody"), lasted: true });
        assert!(desk.take(&call, NO_CONN, "somebody", true).is_ok());
    }

    #[test]
    fn connections_have_numbers_of_their_own_and_none_has_nobodys() {
        let mut desk: Desk<()> = Desk::new(0, 1, LIMITS);
        assert_eq!([desk.number_conn(), desk.number_conn()], [1, 2]);
        desk.last_conn = u32::MAX;
        assert_eq!(desk.number_conn(), 1);
    }
}
