//! What becomes of clients' requests: on their way to a node, and back.

use super::{Event, Place, World};
use crate::call::Call;
use crate::state_machine::batch::Sender;
use crate::testing::sim::clients::Answer;
use crate::testing::sim::front::Attempt;
use crate::testing::sim::host::TICK_MS;
use crate::testing::sim::plan::between;
use crate::types::ShardId;
use api::response::Response;
use net::api::Executed;

/// Pause before an operation that was refused is tried again. Unit: us.
const RETRY_US: (u64, u64) = (5_000, 100_000);

impl World {
    /// A client begins its next operation.
    pub(super) fn ask(&mut self, client: usize) {
        let Some((op, deadline_us)) = self.clients.begin(client, &self.plan, self.now_us) else { return };
        self.schedule_at(deadline_us, Event::GiveUp { op });
        self.send_request(op, 0);
    }

    fn send_request(&mut self, op: u64, pause_us: u64) {
        let operation = &self.clients.running(op).operation;
        let (client, shard) = (operation.client, operation.shard);
        let host = match self.clients.home(client) {
            Some(home) if !self.rng.chance(1, 10) || self.clients.is_finishing() => home,
            _ => usize::try_from(self.rng.below(self.hosts.len() as u64)).expect("few"),
        };
        let (low, high) = self.plan.delay_us;
        let delay_us = pause_us + between(&mut self.rng, low, high);
        let attempt = self.clients.attempt(op);
        self.schedule(delay_us, Event::Arrive { attempt, at: Place { host, shard } });
    }

    /// A request arrives, even if nobody waits for it any more.
    pub(super) fn arrive(&mut self, attempt: Attempt, at: Place) -> Result<(), String> {
        if !self.hosts[at.host].is_up {
            let delay_us = between(&mut self.rng, 10, 5_000);
            self.schedule(delay_us, Event::Answer { attempt, answer: Answer::Broken { was_sent: false } });
            return Ok(());
        }
        let life = self.hosts[at.host].life;
        let running = self.clients.running(attempt.op);
        running.attempts_count += 1;
        running.operation.process = (at.host, life);
        let (kind, payload) = (running.operation.input.kind(), running.encode());
        // What is left of the client's time.
        let left_us = running.deadline_us.saturating_sub(self.now_us).max(1);
        let timeout_ticks = u32::try_from(left_us.div_ceil(self.plan.tick_us)).expect("short");
        let shard = ShardId::new(u32::try_from(at.shard).expect("few"));
        let call = Call::borrowed(shard, kind, timeout_ticks * TICK_MS, &payload);
        // Every other client has a session. Nobody looks for its writes that were applied before, so that judges see a second time.
        let client = self.clients.client_of(attempt.op) as u64;
        let sender = Sender::new(client + 1, attempt.op).filter(|_| kind.writes() && client % 2 == 1);
        self.ask_node(at, attempt, call.sent_by(sender))
    }

    pub(super) fn answer(&mut self, Attempt { op, number }: Attempt, answer: Answer) {
        let now_us = self.now_us;
        let running = self.clients.running(op);
        // Of a connection that it took for broken a client hears nothing any more.
        if !running.is_open || running.last_attempt != number {
            return;
        }
        let operation = &mut running.operation;
        let client = operation.client;
        let is_write = operation.input.kind().writes();
        match answer {
            Answer::Done(body) => {
                let response = Response::decode(&body).expect("a replica's answer decodes");
                operation.outcome = Some((now_us, response));
                let home = operation.process.0;
                self.clients.note_answer(op, home);
                self.report.answered_count += 1;
                self.close(op);
            }
            Answer::Broken { was_sent: true } if is_write => {
                self.report.unknown_count += 1;
                self.clients.leave_home(client);
                self.close(op);
            }
            Answer::Broken { .. } => self.retry(op),
            Answer::Refused(refusal) if refusal.is_safe_to_retry() => self.retry(op),
            Answer::Refused(refusal) => {
                let is_void = refusal.executed == Executed::No;
                operation.is_void = is_void;
                *(if is_void { &mut self.report.refused_count } else { &mut self.report.unknown_count }) += 1;
                self.clients.leave_home(client);
                self.close(op);
            }
        }
    }

    /// Tries again elsewhere, while there is time.
    fn retry(&mut self, op: u64) {
        let client = self.clients.running(op).operation.client;
        // Everything that is asked at the end is asked at one node.
        if !self.clients.is_finishing() {
            self.clients.leave_home(client);
        }
        let delay_us = between(&mut self.rng, RETRY_US.0, RETRY_US.1);
        if self.now_us + delay_us < self.clients.running(op).deadline_us {
            self.send_request(op, delay_us);
        }
    }

    /// The client has waited enough: an operation that nobody may carry out any more had no effect, else it is unknown.
    pub(super) fn give_up(&mut self, op: u64) {
        if self.clients.running(op).is_open {
            self.report.unknown_count += 1;
            let client = self.clients.running(op).operation.client;
            self.clients.leave_home(client);
            self.close(op);
        }
    }

    fn close(&mut self, op: u64) {
        let client = self.clients.close(op);
        let (low, high) = if self.clients.is_finishing() { (1, 100) } else { self.plan.think_us };
        let delay_us = between(&mut self.rng, low, high);
        self.schedule(delay_us, Event::Ask { client });
    }
}
