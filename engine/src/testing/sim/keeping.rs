//! Nodes that keep their state beside the log and drop what lies before it, as checkpoints will do it.
//!
//! A state is read in slices as of one entry while later ones are applied, and counts once it is whole. The next start reads it and
//! the log behind it; that it gives the same state as the entries themselves is what the digests show.
//!
//! Nobody can send a state to another node yet. So a state is kept only as of an entry that every node has durably, and nothing in
//! these runs takes away what a node has.

use super::host::ShardHost;
use super::kept_state::KeptState;
use super::plan::{between, wait_us};
use super::world::{Event, FaultStep, Place, World};
use crate::replica;
use crate::state_machine::ChunkCursor;
use crate::state_machine::section::AsOf;

/// Most keys of one slice.
const SLICE_KEYS_MAX: u64 = 6;

/// Longest pause between two slices. Unit: us.
const SLICE_US_MAX: u64 = 20_000;

/// Name of what is counted.
const KEPT: &str = "state kept";

/// A node is to begin with keeping its state.
#[derive(Debug)]
struct Begin(Place);

/// A state that is being written.
#[derive(Debug)]
struct Write {
    at: Place,
    life: u64,
    state: KeptState,
    cursor: ChunkCursor,
}

/// The files of dropped segments are removed.
#[derive(Debug)]
struct Removal {
    at: Place,
    life: u64,
}

impl FaultStep for Begin {
    fn go_on(self: Box<Self>, world: &mut World) -> Result<(), String> {
        world.begin_keeping(self.0)
    }
}

impl FaultStep for Write {
    fn go_on(self: Box<Self>, world: &mut World) -> Result<(), String> {
        world.go_on_keeping(*self)
    }
}

impl FaultStep for Removal {
    fn go_on(self: Box<Self>, world: &mut World) -> Result<(), String> {
        world.end_removal(self.at, self.life);
        Ok(())
    }
}

impl World {
    /// Every node keeps states, if that is part of the run.
    pub(super) fn schedule_keeping(&mut self) {
        for host in 0..self.hosts.len() {
            for shard in 0..self.hosts[host].shards.len() {
                self.keep_later(Place { host, shard });
            }
        }
    }

    fn keep_later(&mut self, at: Place) {
        if let Some(mean_us) = self.plan.keeps {
            let delay_us = wait_us(&mut self.rng, mean_us);
            self.schedule(delay_us, Event::Fault(Box::new(Begin(at))));
        }
    }

    /// True if every other node has the entry durably, so that nobody will ever need it from this one. That its own log has it durably is
    /// for the replica to say.
    fn is_with_all_others(&self, at: Place, state: &AsOf) -> bool {
        let has = |shard: &ShardHost| !shard.birth.is_new() && shard.has_promised(state.applied);
        self.hosts.iter().enumerate().all(|(other, host)| other == at.host || has(&host.shards[at.shard]))
    }

    fn begin_keeping(&mut self, at: Place) -> Result<(), String> {
        self.keep_later(at);
        let Some(replica) = self.hosts[at.host].shards[at.shard].replica.as_ref() else { return Ok(()) };
        let may_begin = replica.state_being_kept().is_none()
            && replica.state_to_keep().is_some_and(|as_of| self.is_with_all_others(at, &as_of));
        if !may_begin {
            return Ok(());
        }
        self.hand_over(at, replica::Event::KeepState)?;
        let Some(replica) = self.hosts[at.host].shards[at.shard].replica.as_ref() else { return Ok(()) };
        let as_of = *replica.state_being_kept().ok_or("a state that can be kept is not begun")?.as_of();
        let lineage =
            replica.log().lineage(as_of.applied.index).expect("what is applied is in the log, or it begins there");
        let state = KeptState { as_of, lineage, chunks: Vec::new() };
        let life = self.hosts[at.host].life;
        let write = Write { at, life, state, cursor: ChunkCursor::default() };
        self.schedule(1, Event::Fault(Box::new(write)));
        Ok(())
    }

    fn go_on_keeping(&mut self, mut write: Write) -> Result<(), String> {
        let Write { at, life, .. } = write;
        if !self.is_alive(at.host, life) {
            return Ok(());
        }
        let mut keys = between(&mut self.rng, 1, SLICE_KEYS_MAX);
        let bytes_limit = usize::try_from(between(&mut self.rng, 1, 4_000)).expect("small");
        let here = &mut self.hosts[at.host].shards[at.shard];
        let Some(replica) = here.replica.as_ref() else { return Ok(()) };
        let Some(reading) = replica.state_being_kept().filter(|_| replica.fault().is_none()) else { return Ok(()) };
        let mut chunk = Vec::new();
        let is_last = replica.machine().chunk(reading, &mut write.cursor, &mut keys, bytes_limit, &mut chunk);
        write.state.chunks.push(chunk);
        if !is_last {
            let delay_us = between(&mut self.rng, 1, SLICE_US_MAX);
            self.schedule(delay_us, Event::Fault(Box::new(write)));
            return Ok(());
        }
        let as_of = write.state.as_of;
        here.kept = Some(write.state);
        self.trace
            .note(self.now_us, || format!("node {} shard {} keeps its state as of {as_of:?}", at.host + 1, at.shard));
        self.count_fault(KEPT);
        self.deliver(at, replica::Event::StateKept)
    }

    /// The files go on a helper thread, as long as the node lives.
    pub(super) fn begin_removal(&mut self, at: Place) {
        let life = self.hosts[at.host].life;
        if let Some(replica) = self.hosts[at.host].shards[at.shard].replica.as_mut() {
            replica.storage_mut().begin_removal();
        }
        let delay_us = between(&mut self.rng, 1, self.hosts[at.host].file_work_us_max);
        self.schedule(delay_us, Event::Fault(Box::new(Removal { at, life })));
    }

    fn end_removal(&mut self, at: Place, life: u64) {
        if self.is_alive(at.host, life)
            && let Some(replica) = self.hosts[at.host].shards[at.shard].replica.as_mut()
        {
            replica.storage_mut().complete_removal();
        }
    }
}
