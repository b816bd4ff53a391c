//! Requests of clients: into the forming batch on the leader, to the leader from everywhere else, and out when time is up.

use std::borrow::Cow;

use net::api::{Executed, Status};
use wal::{AppendError, Storage};

use super::event::{Action, NotTaken, Outgoing, Reply};
use super::pending::Relayed;
use super::turns::Read;
use super::{Fault, Replica};
use crate::call::{AnsweredBy, Call, Meta, Origin, Part, Refusal, Ticket};
use crate::raft::{NotLeader, ReadId};
use crate::types::NodeId;
use net::limits::ANSWER_BYTES_MAX;

/// Why a follower refuses what it would pass on.
const NO_CONNECTION: &str = "this node has no connection to the leader; try again, or ask another node";

impl<S: Storage> Replica<S> {
    pub(super) fn on_call(&mut self, origin: Origin, call: Call<'_>) {
        if self.refuse_when_closed(origin) {
            return;
        }
        if call.meta.sender.is_some()
            && let Err(message) = self.check_sender(&call)
        {
            return self.refuse(origin, Refusal::not_executed(Status::Invalid, message));
        }
        match call.kind.answered_by() {
            AnsweredBy::Leader => {}
            AnsweredBy::Replica => return self.answer_by_itself(origin, call),
            AnsweredBy::Node => {
                let message = format!("a {} is answered by a node, not by one of its shards", call.kind.row().name);
                return self.refuse(origin, Refusal::not_executed(Status::Invalid, message));
            }
        }
        if let Err(error) = self.check_relayed(origin, &call) {
            self.refuse(origin, Refusal::not_executed(Status::Invalid, error));
            return;
        }
        match self.raft.may_propose() {
            Ok(()) if call.kind.writes() => self.propose(origin, call),
            Ok(()) => self.queue_read(origin, call),
            Err(NotLeader { leader }) if self.reads_here(origin, &call, leader) => self.queue_read(origin, call),
            Err(NotLeader { .. }) if self.may_hold(&call) => self.hold(origin, call),
            // Nothing is passed on to a leader with another history: its answers may be at odds with what this node knows.
            Err(NotLeader { .. }) => self.relay(origin, call, self.raft.leader_of_one_history()),
        }
    }

    /// Whether a call may have a sender: whoever sends one relies on its command being applied once.
    fn check_sender(&self, call: &Call<'_>) -> Result<(), &'static str> {
        if !call.kind.writes() {
            return Err("only a write belongs to a session");
        }
        if !self.machine.keeps_answers() {
            return Err("sessions are not built yet: this node cannot see to it that a write is applied once");
        }
        Ok(())
    }

    /// The tick at which a call that arrives now has waited long enough.
    pub(super) fn deadline_of(&self, meta: &Meta) -> u64 {
        self.now_tick + u64::from(meta.timeout_ms).div_ceil(self.options.tick_ms).max(1)
    }

    /// What is left until a tick, at least one tick. Unit: ms.
    pub(super) fn ms_until(&self, deadline_tick: u64) -> u32 {
        let left_ms = deadline_tick.saturating_sub(self.now_tick).max(1).saturating_mul(self.options.tick_ms);
        u32::try_from(left_ms).unwrap_or(u32::MAX)
    }

    /// Checks what another node passes on: it may be of another version, and a command that cannot be applied must not get into
    /// the log, where it would stop every replica for good. Clients' calls were checked where they came in.
    fn check_relayed(&self, origin: Origin, call: &Call<'_>) -> Result<(), String> {
        match origin {
            Origin::Local(_) | Origin::Internal(_) | Origin::Part(_) => Ok(()),
            Origin::Peer { .. } => match call.kind.check(&call.payload, &self.options.command) {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("the leader does not take what was passed on to it: {error}")),
            },
        }
    }

    /// A reason not to take any write now.
    pub(super) fn refuse_write(&mut self, command: &[u8]) -> Option<Refusal> {
        let waiting = self.waiting.writes.len() + self.proposals.len();
        if waiting >= self.options.pending_writes_limit {
            mark!("replica: too many writes wait");
            self.stats.refused_overloaded += 1;
            let message = format!("{waiting} writes wait for a quorum already; slow down and try again");
            return Some(Refusal::not_executed(Status::Overloaded, message));
        }
        let state_bytes = self.machine.state_bytes();
        // Only a full state makes it worth looking into the command again. What frees room, or reads, is always taken: deletes add
        // a mark for each key that is there, and with nothing put meanwhile that is a fraction of the quota.
        if state_bytes >= self.options.quota_bytes && api::command::adds(command) {
            mark!("replica: the quota is used up");
            let message = format!(
                "the state holds {state_bytes} bytes and the quota is {}; deletes and reads go on, but free nothing while old \
                 versions are kept: raise --quota-backend-bytes",
                self.options.quota_bytes
            );
            return Some(Refusal::not_executed(Status::NoSpace, message));
        }
        None
    }

    /// Refuses a read if too many wait; says whether it did.
    fn refuse_read(&mut self, origin: Origin) -> bool {
        let waiting = self.waiting.reads.len();
        if waiting < self.options.pending_reads_limit {
            return false;
        }
        mark!("replica: too many reads wait");
        self.stats.refused_overloaded += 1;
        let message = format!("{waiting} reads wait already; slow down and try again");
        self.refuse(origin, Refusal::not_executed(Status::Overloaded, message));
        true
    }

    /// A read of this node's own state waits for nobody, only for its turn among the other reads.
    fn answer_by_itself(&mut self, origin: Origin, call: Call<'_>) {
        if let Some(refusal) = self.refuse_serializable() {
            return self.refuse(origin, refusal);
        }
        if self.refuse_read(origin) {
            return;
        }
        let deadline_tick = self.deadline_of(&call.meta);
        let id = self.waiting.reads.insert(Read { origin, deadline_tick, call: call.into_owned() });
        self.waiting.reads.confirm(id, self.machine.applied_index());
    }

    fn queue_read(&mut self, origin: Origin, call: Call<'_>) {
        if self.refuse_read(origin) {
            return;
        }
        let deadline_tick = self.deadline_of(&call.meta);
        self.ask_about(Read { origin, deadline_tick, call: call.into_owned() });
    }

    /// Has a read confirmed, by this leader or by the one that this node follows.
    pub(super) fn ask_about(&mut self, read: Read) {
        let id = self.waiting.reads.insert(read);
        if self.raft.read_index(ReadId(id), &self.log).is_err()
            && let Some(read) = self.waiting.reads.fail(id)
        {
            let message = "this node can have no read confirmed now; try again";
            self.refuse(read.origin, Refusal::not_executed(Status::Unavailable, message));
        }
        self.after_raft();
    }

    /// Refuses the reads of clients that are gone; otherwise each would be continued until its time is up. Their places are free once they
    /// are answered.
    pub(super) fn on_left(&mut self, tickets: &[Ticket]) {
        assert!(tickets.is_sorted(), "calls that are looked for stand in order");
        for origin in self.waiting.reads.take_left(tickets) {
            let message = "the client left before its read was answered";
            self.refuse(origin, Refusal::not_executed(Status::Unavailable, message));
        }
    }

    /// Passes a call on to the leader, unless a node already did so.
    pub(super) fn relay(&mut self, origin: Origin, call: Call<'_>, leader: Option<NodeId>) {
        let refusal = match (origin, leader) {
            (Origin::Peer { .. }, _) => "the request was passed on to a node that does not lead this shard; try again",
            (_, None) => {
                let message = self.why_no_leader();
                return self.refuse(origin, Refusal::not_executed(Status::Unavailable, message));
            }
            (_, Some(leader)) if leader == self.options.raft.id => "leadership is being handed over; try again",
            (_, Some(leader)) if !self.connected.contains(&leader) => NO_CONNECTION,
            (_, Some(_)) if self.waiting.relays.len() >= self.options.relayed_limit => {
                self.stats.refused_overloaded += 1;
                let message = format!("{} requests wait for the leader already; slow down", self.waiting.relays.len());
                self.refuse(origin, Refusal::not_executed(Status::Overloaded, message));
                return;
            }
            (Origin::Local(_) | Origin::Internal(_) | Origin::Part(_), Some(to)) => {
                let deadline_tick = self.deadline_of(&call.meta);
                let number =
                    self.waiting.relays.insert(Relayed { origin, to, kind: call.kind, deadline_tick, answer_bytes: 0 });
                let message = Outgoing::RelayCall { number, call: call.into_owned() };
                self.out.push(Action::Send { to, message });
                return;
            }
        };
        self.refuse(origin, Refusal::not_executed(Status::Unavailable, refusal));
    }

    pub(super) fn on_relay_reply(&mut self, from: NodeId, number: u64, part: Part<&[u8]>) {
        // A request that timed out here, or of an earlier life of this node: nobody waits for it.
        let Some(relayed) = self.waiting.relays.next_part(number, from, &part) else {
            mark!("replica: nobody waits for a relayed answer any more");
            return;
        };
        let part = match part {
            _ if relayed.answer_bytes > ANSWER_BYTES_MAX => {
                let message = format!("the leader's answer has more than {ANSWER_BYTES_MAX} bytes");
                return self.refuse_relayed(&relayed, Status::TooLarge, message);
            }
            Part::More(bytes) => Part::More(self.keep_body(bytes)),
            Part::Last(Ok(bytes)) => Part::Last(Ok(self.keep_body(bytes))),
            Part::Last(Err(mut refusal)) => {
                // Whatever became of a read, it took no effect.
                if !relayed.kind.writes() {
                    refusal.executed = Executed::No;
                }
                Part::Last(Err(refusal))
            }
        };
        self.reply(relayed.origin, Reply { part, relayed: true });
    }

    pub(super) fn on_relay_dropped(&mut self, number: u64, why: NotTaken) {
        let Some(relayed) = self.waiting.relays.take(number, None) else { return };
        let refusal = match why {
            NotTaken::NoCredit => {
                mark!("replica: a relayed request found no room");
                self.stats.refused_overloaded += 1;
                Refusal::not_executed(
                    Status::Overloaded,
                    "the connection to the leader is full; slow down and try again",
                )
            }
            NotTaken::NoConnection | NotTaken::NotEncoded => Refusal::not_executed(Status::Unavailable, NO_CONNECTION),
        };
        self.refuse(relayed.origin, refusal);
    }

    /// The answer to a relayed request found no room on the connection: a refusal takes its place, which always does.
    ///
    /// Whether the request was a write only the relaying node knows; to it an unknown outcome of a read is none.
    pub(super) fn on_reply_dropped(&mut self, to: NodeId, number: u64, why: NotTaken) {
        if why == NotTaken::NoConnection {
            // The node that passed it on knows that, too, and has given it up.
            return;
        }
        mark!("replica: a relayed answer found no room");
        self.stats.answers_dropped += 1;
        let message =
            "the request was carried out, but its answer found no room on the way back; a read can be sent again";
        self.refuse(Origin::Peer { node: to, number }, Refusal::unknown(Status::Overloaded, message));
    }

    /// Answers every request whose time is up. A write's outcome is then unknown: its command stays in the log, or in the
    /// batch that is being formed.
    pub(super) fn expire_requests(&mut self) {
        let mut expired = Vec::new();
        self.waiting.writes.expire(self.now_tick, |origin| expired.push(origin));
        self.proposals.expire_batch(self.now_tick, |origin| expired.push(origin));
        for origin in expired.drain(..) {
            mark!("replica: no quorum made a write durable in time");
            let message = "no quorum made the write durable in time; it may still take effect";
            self.refuse(origin, Refusal::unknown(Status::Timeout, self.with_lost_nodes(message)));
        }
        self.expire_queue();
        self.waiting.reads.expire(self.now_tick, |origin| expired.push(origin));
        for origin in expired.drain(..) {
            mark!("replica: no quorum confirmed a leader in time");
            let message = "no quorum confirmed the leader in time for the read";
            self.refuse(origin, Refusal::not_executed(Status::Timeout, self.with_lost_nodes(message)));
        }
        for origin in self.waiting.reads.begun.take_expired(self.now_tick) {
            let message = "the read visits more keys than its time allows beside other reads; ask for fewer";
            self.refuse(origin, Refusal::not_executed(Status::Timeout, message));
        }
        self.expire_held();
        for relayed in self.waiting.relays.take_expired(self.now_tick) {
            self.refuse_relayed(&relayed, Status::Timeout, "the leader did not answer in time");
        }
    }

    /// Answers a relayed request without having heard of the leader: what became of a write is then unknown.
    pub(super) fn refuse_relayed(&mut self, relayed: &Relayed, status: Status, message: impl Into<Cow<'static, str>>) {
        let refusal = if relayed.kind.writes() {
            Refusal::unknown(status, message)
        } else {
            Refusal::not_executed(status, message)
        };
        self.refuse(relayed.origin, refusal);
    }

    /// Answers whoever waits at `origin` that the request was not done.
    pub(super) fn refuse(&mut self, origin: Origin, refusal: Refusal) {
        self.reply(origin, Reply { part: Part::Last(Err(refusal)), relayed: false });
    }

    /// Queues a part of an answer.
    pub(super) fn reply(&mut self, origin: Origin, reply: Reply) {
        self.out.reply(origin, reply, &mut self.own);
    }

    /// Copies an encoded response to the reply buffer.
    pub(super) fn keep_body(&mut self, body: &[u8]) -> std::ops::Range<usize> {
        self.out.keep_body(body)
    }

    /// The log failed: this replica stops taking part.
    pub(super) fn latch(&mut self, error: &AppendError) {
        self.stop_with(Fault::Log(error.to_string()));
    }
}
