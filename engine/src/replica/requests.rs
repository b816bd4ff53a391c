//! Requests of clients: into the forming batch on the leader, to the leader from everywhere else, and out when time is up.

use std::borrow::Cow;

use net::api::{Executed, Status};
use wal::{AppendError, Storage};

use super::event::{Action, Origin, Outgoing, Refusal, Reply, Request, RequestKind};
use super::pending::Relayed;
use super::reads::Read;
use super::{Fault, Replica};
use crate::raft::{NotLeader, ReadId};
use crate::types::NodeId;
use api::command;

impl<S: Storage> Replica<S> {
    pub(super) fn on_request(&mut self, request: Request<'_>) {
        if self.refuse_when_closed(&request) {
            return;
        }
        if request.kind == RequestKind::ReadSerializable {
            match self.refuse_serializable() {
                Some(refusal) => self.refuse(request.origin, refusal),
                None => self.queue_serializable_read(&request),
            }
            return;
        }
        if let Err(error) = self.check_relayed(&request) {
            self.refuse(request.origin, Refusal::not_executed(Status::Invalid, error));
            return;
        }
        match self.raft.may_propose() {
            Ok(()) if request.kind == RequestKind::Write => self.propose(request),
            Ok(()) => self.queue_read(request),
            Err(NotLeader { .. }) if self.hold_request(&request) => {}
            Err(NotLeader { leader }) => self.relay(request, leader),
        }
    }

    /// Checks what another node passes on: it may be of another version, and a command that cannot be applied must not get into
    /// the log, where it would stop every replica for good. Clients' requests were checked where they came in.
    fn check_relayed(&self, request: &Request<'_>) -> Result<(), String> {
        if !matches!(request.origin, Origin::Peer { .. }) {
            return Ok(());
        }
        let checked = match request.kind {
            RequestKind::Write => command::validate(request.payload, &self.options.command).map(drop),
            RequestKind::Read | RequestKind::ReadSerializable => {
                command::validate_range(request.payload, &self.options.command)
            }
        };
        checked.map_err(|error| format!("the leader does not take what was passed on to it: {error}"))
    }

    /// A reason not to take any write now.
    pub(super) fn refuse_write(&mut self, command: &[u8]) -> Option<Refusal> {
        let waiting = self.writes.len() + self.proposals.len();
        if waiting >= self.options.pending_writes_limit {
            mark!("replica: too many writes wait");
            self.stats.refused_overloaded += 1;
            let message = format!("{waiting} writes wait for a quorum already; slow down and try again");
            return Some(Refusal::not_executed(Status::Overloaded, message));
        }
        let state_bytes = self.machine.state_bytes();
        // Only a full state makes it worth looking into the command again. What frees room, or reads, is always taken: deletes add
        // a mark for each key that is there, and with nothing put meanwhile that is a fraction of the quota.
        if state_bytes >= self.options.quota_bytes && command::adds(command) {
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
        let waiting = self.reads.len();
        if waiting < self.options.pending_reads_limit {
            return false;
        }
        mark!("replica: too many reads wait");
        self.stats.refused_overloaded += 1;
        let message = format!("{waiting} reads wait already; slow down and try again");
        self.refuse(origin, Refusal::not_executed(Status::Overloaded, message));
        true
    }

    /// A serializable read waits for nobody, only for its turn among the other reads.
    fn queue_serializable_read(&mut self, request: &Request<'_>) {
        if self.refuse_read(request.origin) {
            return;
        }
        let deadline_tick = self.now_tick + request.timeout_ticks;
        let read = Read { origin: request.origin, deadline_tick, payload: request.payload.to_vec() };
        let id = self.reads.insert(read);
        self.reads.confirm(id, self.machine.applied_index());
    }

    fn queue_read(&mut self, request: Request<'_>) {
        if self.refuse_read(request.origin) {
            return;
        }
        let deadline_tick = self.now_tick + request.timeout_ticks;
        let read = Read { origin: request.origin, deadline_tick, payload: request.payload.to_vec() };
        let id = self.reads.insert(read);
        if self.raft.read_index(ReadId(id), &self.log).is_err()
            && let Some(read) = self.reads.fail(id)
        {
            let message = "the leader cannot confirm reads now; try again";
            self.refuse(read.origin, Refusal::not_executed(Status::Unavailable, message));
        }
        self.after_raft();
    }

    /// Passes a request on to the leader, unless a node already did so.
    fn relay(&mut self, request: Request<'_>, leader: Option<NodeId>) {
        let refusal = match (request.origin, leader) {
            (Origin::Peer { .. }, _) => "the request was passed on to a node that does not lead this shard; try again",
            (_, None) => {
                "this shard has no leader: a majority of its nodes is not reachable, or an election is under way"
            }
            (_, Some(leader)) if leader == self.options.raft.id => "leadership is being handed over; try again",
            (_, Some(leader)) if !self.connected.contains(&leader) => "this node has no connection to the leader",
            (_, Some(_)) if self.relays.len() >= self.options.relayed_limit => {
                self.stats.refused_overloaded += 1;
                let message = format!("{} requests wait for the leader already; slow down", self.relays.len());
                self.refuse(request.origin, Refusal::not_executed(Status::Overloaded, message));
                return;
            }
            (Origin::Local(ticket), Some(to)) => {
                let deadline_tick = self.now_tick + request.timeout_ticks;
                let number = self.relays.insert(Relayed { ticket, to, kind: request.kind, deadline_tick });
                let message = Outgoing::RelayRequest {
                    request: number,
                    kind: request.kind,
                    timeout_ticks: request.timeout_ticks,
                    payload: request.payload.to_vec(),
                };
                self.out.push(Action::Send { to, message });
                return;
            }
        };
        self.refuse(request.origin, Refusal::not_executed(Status::Unavailable, refusal));
    }

    pub(super) fn on_relay_reply(&mut self, from: NodeId, request: u64, result: Result<(), Refusal>, body: &[u8]) {
        // A request that timed out here, or of an earlier life of this node: nobody waits for it.
        let Some(relayed) = self.relays.take(request, Some(from)) else {
            mark!("replica: nobody waits for a relayed answer any more");
            return;
        };
        let result = result.map(|()| self.keep_body(body)).map_err(|mut refusal| {
            // Whatever became of a read, it took no effect.
            if relayed.kind != RequestKind::Write {
                refusal.executed = Executed::No;
            }
            refusal
        });
        let reply = Reply { result, relayed: true };
        self.out.push(Action::Reply { ticket: relayed.ticket, reply });
    }

    pub(super) fn on_relay_dropped(&mut self, request: u64) {
        if let Some(relayed) = self.relays.take(request, None) {
            mark!("replica: a relayed request found no room");
            self.stats.refused_overloaded += 1;
            let message = "the connection to the leader is full; slow down and try again";
            self.refuse(Origin::Local(relayed.ticket), Refusal::not_executed(Status::Overloaded, message));
        }
    }

    /// The answer to a relayed request found no room on the connection: a refusal takes its place, which always does.
    ///
    /// Whether the request was a write only the relaying node knows; to it an unknown outcome of a read is none.
    pub(super) fn on_reply_dropped(&mut self, to: NodeId, request: u64) {
        mark!("replica: a relayed answer found no room");
        self.stats.answers_dropped += 1;
        let message =
            "the request was carried out, but its answer found no room on the way back; a read can be sent again";
        let result = Err(Refusal::unknown(Status::Overloaded, message));
        let reply = Reply { result, relayed: false };
        self.out.push(Action::Send { to, message: Outgoing::RelayReply { request, reply } });
    }

    /// Answers every request whose time is up. A write's outcome is then unknown: its command stays in the log, or in the
    /// batch that is being formed.
    pub(super) fn expire_requests(&mut self) {
        let mut expired = Vec::new();
        self.writes.expire(self.now_tick, |origin| expired.push(origin));
        self.proposals.expire_batch(self.now_tick, |origin| expired.push(origin));
        for origin in expired.drain(..) {
            mark!("replica: no quorum made a write durable in time");
            let message = "no quorum made the write durable in time; it may still take effect";
            self.refuse(origin, Refusal::unknown(Status::Timeout, message));
        }
        self.expire_queue();
        self.reads.expire(self.now_tick, |origin| expired.push(origin));
        for origin in expired.drain(..) {
            mark!("replica: no quorum confirmed a leader in time");
            let message = "no quorum confirmed the leader in time for the read";
            self.refuse(origin, Refusal::not_executed(Status::Timeout, message));
        }
        for origin in self.reads.begun.take_expired(self.now_tick) {
            let message = "the read visits more keys than its time allows beside other reads; ask for fewer";
            self.refuse(origin, Refusal::not_executed(Status::Timeout, message));
        }
        self.expire_held();
        for relayed in self.relays.take_expired(self.now_tick) {
            self.refuse_relayed(&relayed, Status::Timeout, "the leader did not answer in time");
        }
    }

    /// Answers a relayed request without having heard of the leader: what became of a write is then unknown.
    pub(super) fn refuse_relayed(&mut self, relayed: &Relayed, status: Status, message: impl Into<Cow<'static, str>>) {
        let refusal = match relayed.kind {
            RequestKind::Write => Refusal::unknown(status, message),
            RequestKind::Read | RequestKind::ReadSerializable => Refusal::not_executed(status, message),
        };
        self.refuse(Origin::Local(relayed.ticket), refusal);
    }

    /// Answers whoever waits at `origin` that the request was not done.
    pub(super) fn refuse(&mut self, origin: Origin, refusal: Refusal) {
        self.reply(origin, Reply { result: Err(refusal), relayed: false });
    }

    /// Queues an answer.
    pub(super) fn reply(&mut self, origin: Origin, reply: Reply) {
        self.out.reply(origin, reply);
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
