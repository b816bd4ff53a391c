//! What the disks of nodes do: syncs, segments, records, repairs, damage.

use wal::SegmentSeq;
use wal::SyncRequest;

use super::{Event, Place, World};
use crate::raft::{BirthRecord, Message, Stage};
use crate::replica::{self, Outgoing};
use crate::testing::sim::damage::{DAMAGED_LOG, Damage, damage_below_watermark, damage_end};
use crate::testing::sim::plan::between;
use crate::types::Index;

/// Pause before a node without room tries to prepare a segment again. Unit: us.
const PREPARE_RETRY_US: u64 = 500_000;

/// One in this many syncs of the note fails, where syncs fail.
const NOTE_SYNC_FAILS_ONE_IN: u64 = 8;

/// One in this many reads of old entries fails, where syncs fail.
const LOAD_FAILS_ONE_IN: u64 = 30;

/// Name of the fault that strikes with the next sync.
pub(in crate::testing::sim) const FAILED_SYNC: &str = "failed sync";

/// Only a voter says this.
fn elects(message: &Message) -> bool {
    match message {
        Message::RequestPreVote { .. } | Message::RequestVote { .. } => true,
        Message::PreVoteResponse { granted, .. } | Message::RequestVoteResponse { granted, .. } => *granted,
        _ => false,
    }
}

impl World {
    /// A helper thread of the node does something with files, which takes a while.
    pub(super) fn begin_file_work(&mut self, at: Place, end: impl FnOnce(u64) -> Event) {
        let host = &self.hosts[at.host];
        let life = host.life;
        let delay_us = between(&mut self.rng, 1, host.file_work_us_max);
        self.schedule(delay_us, end(life));
    }

    pub(super) fn begin_sync(&mut self, at: Place, request: SyncRequest) {
        let host = &mut self.hosts[at.host];
        let life = host.life;
        let fails = std::mem::take(&mut host.next_sync_fails);
        let slowness = host.slowness;
        if let Some(replica) = host.shards[at.shard].replica.as_mut() {
            replica.storage_mut().begin_sync(&request);
        }
        let (low, high) = self.plan.sync_us;
        let mut delay_us = between(&mut self.rng, low, high) * slowness;
        if self.is_calm {
            delay_us = delay_us.min(self.plan.steady_us());
        }
        self.schedule(delay_us, Event::SyncEnd { at, life, request, fails });
    }

    pub(super) fn end_sync(&mut self, at: Place, life: u64, request: SyncRequest, fails: bool) -> Result<(), String> {
        if !self.is_alive(at.host, life) {
            return Ok(());
        }
        let Some(replica) = self.hosts[at.host].shards[at.shard].replica.as_mut() else { return Ok(()) };
        let id = request.id;
        let result = if fails {
            Err(replica.storage_mut().fail_sync(id))
        } else {
            replica.storage_mut().complete_sync(id);
            Ok(())
        };
        if self.rng.chance(1, 4)
            && let Some(replica) = self.hosts[at.host].shards[at.shard].replica.as_mut()
        {
            replica.storage_mut().write_back();
        }
        self.read_disk(at);
        self.deliver(at, replica::Event::Synced { id, result })?;
        self.hosts[at.host].shards[at.shard].check_claims()?;
        if fails {
            self.count_fault(FAILED_SYNC);
            // Whoever runs the node sees that it stopped, and restarts it.
            self.restart_later(at.host);
        }
        Ok(())
    }

    /// Looks at what has become durable.
    fn read_disk(&mut self, at: Place) {
        let shard = &mut self.hosts[at.host].shards[at.shard];
        if let Some(replica) = &shard.replica {
            shard.on_disk.read_on(replica.log().storage());
        }
    }

    /// A message promises nothing but what is durable.
    pub(super) fn check_promise(&self, at: Place, to: usize, message: &Outgoing) -> Result<(), String> {
        let shard = &self.hosts[at.host].shards[at.shard];
        let Outgoing::Raft(message) = message else { return Ok(()) };
        if !self.hosts[at.host].votes && elects(message) {
            return Err(format!("node {}, a learner, says {message:?}", at.host + 1));
        }
        if !self.hosts[to].votes && matches!(message, Message::TimeoutNow { .. }) {
            return Err(format!("node {} tells node {}, a learner: {message:?}", at.host + 1, to + 1));
        }
        let said = shard.check_promise(self.hosts[at.host].id, self.hosts[to].id, message);
        let said = said.and_then(|()| self.check_same_history(at, to, message));
        said.map_err(|what| format!("node {} shard {}: {what}", at.host + 1, at.shard))
    }

    pub(super) fn end_prepare(&mut self, at: Place, life: u64, seq: SegmentSeq) -> Result<(), String> {
        if !self.is_alive(at.host, life) {
            return Ok(());
        }
        if self.hosts[at.host].disk_is_full {
            self.schedule(PREPARE_RETRY_US, Event::SegmentEnd { at, life, seq });
            return self.deliver(at, replica::Event::SegmentUnavailable("simulated full disk".to_owned()));
        }
        self.deliver(at, replica::Event::SegmentPrepared(seq))
    }

    pub(super) fn end_load(&mut self, at: Place, life: u64, first: Index, last: Index) -> Result<(), String> {
        if !self.is_alive(at.host, life) {
            return Ok(());
        }
        let may_fail = self.plan.faults.sync_failure.is_some() && !self.is_calm;
        if !may_fail || !self.rng.chance(1, LOAD_FAILS_ONE_IN) {
            return self.deliver(at, replica::Event::Loaded { first, last, result: Ok(()) });
        }
        self.count_fault("failed read");
        let result = Err("simulated unreadable sector".to_owned());
        self.deliver(at, replica::Event::Loaded { first, last, result })?;
        self.restart_later(at.host);
        Ok(())
    }

    pub(super) fn end_repair(&mut self, at: Place, life: u64) -> Result<(), String> {
        if !self.is_alive(at.host, life) {
            return Ok(());
        }
        let node = self.hosts[at.host].id;
        let repaired = self.checks[at.shard].check_repaired(node, &self.hosts[at.host].shards[at.shard]);
        repaired.map_err(|what| format!("node {} shard {}: {what}", at.host + 1, at.shard))?;
        let shard = &mut self.hosts[at.host].shards[at.shard];
        shard.repair = None;
        if shard.birth.stage == Stage::Replaced {
            shard.birth.stage = Stage::Restored;
        }
        shard.is_wiped = false;
        shard.seen.promised.clear();
        shard.seen.promised_vote = (shard.on_disk.term, shard.on_disk.vote);
        self.report.repairs_count += 1;
        self.trace.note(self.now_us, || format!("node {} shard {} is repaired", at.host + 1, at.shard));
        self.deliver(at, replica::Event::RepairFinished)
    }

    pub(super) fn begin_note_sync(&mut self, at: Place) {
        let host = &mut self.hosts[at.host];
        let (life, slowness) = (host.life, host.slowness);
        if let Some(replica) = host.shards[at.shard].replica.as_mut() {
            replica.storage_mut().begin_note_sync();
        }
        let (low, high) = self.plan.sync_us;
        let delay_us = between(&mut self.rng, low, high) * slowness;
        self.schedule(delay_us, Event::NoteSyncEnd { at, life });
    }

    pub(super) fn end_note_sync(&mut self, at: Place, life: u64) -> Result<(), String> {
        if !self.hosts[at.host].is_up || self.hosts[at.host].life != life {
            return Ok(());
        }
        let may_fail = self.plan.faults.sync_failure.is_some() && !self.is_calm;
        let fails = may_fail && self.rng.chance(1, NOTE_SYNC_FAILS_ONE_IN);
        let Some(replica) = self.hosts[at.host].shards[at.shard].replica.as_mut() else { return Ok(()) };
        let result = if fails {
            Err(replica.storage_mut().fail_note_sync())
        } else {
            replica.storage_mut().complete_note_sync();
            Ok(())
        };
        self.deliver(at, replica::Event::NoteSynced(result))
    }

    /// A new node that turned out to be a replacement is marked as under repair; its record comes next.
    pub(super) fn end_birth_mark(&mut self, at: Place, life: u64, record: BirthRecord) {
        if self.is_alive(at.host, life) {
            self.hosts[at.host].shards[at.shard].repair = Some(false);
            self.begin_file_work(at, |life| Event::BirthEnd { at, life, record });
        }
    }

    /// A new node's record is durable, and what it says the node is becomes true.
    pub(super) fn end_birth(&mut self, at: Place, life: u64, record: BirthRecord) -> Result<(), String> {
        if !self.is_alive(at.host, life) {
            return Ok(());
        }
        let shard = &mut self.hosts[at.host].shards[at.shard];
        if record.stage != Stage::Replaced {
            // It promised nothing before, so that it lost nothing.
            shard.is_wiped = false;
            if let Some(id) = shard.seen.promised.last().filter(|_| !self.checks[at.shard].is_broken) {
                return Err(format!("node {} takes part as if it were new, and had {id} durably", at.host + 1));
            }
        }
        self.trace.note(self.now_us, || format!("node {} shard {} is born: {record:?}", at.host + 1, at.shard));
        self.hosts[at.host].shards[at.shard].birth = record;
        self.deliver(at, replica::Event::BirthPersisted)
    }

    /// Damages a log if the fault model promises its repair. Says whether it did.
    pub(in crate::testing::sim) fn damage_log(&mut self, at: Place, damage: Damage) -> bool {
        if !self.may_lose(at.host, at.shard) {
            return false;
        }
        if self.hosts[at.host].is_up {
            self.kill(at.host, false);
            self.restart_later(at.host);
        }
        self.hosts[at.host].disk_is_whole && self.rot(at, damage)
    }

    /// A host loses power, and durable bytes rot before it starts again: those that a frame which is left says were durable.
    pub(in crate::testing::sim) fn rot_after_power_loss(&mut self, at: Place) -> bool {
        if !self.may_lose(at.host, at.shard) {
            return false;
        }
        if self.hosts[at.host].is_up {
            self.kill(at.host, true);
            self.restart_later(at.host);
        }
        self.rot(at, damage_below_watermark)
    }

    fn rot(&mut self, at: Place, damage: Damage) -> bool {
        let Place { host, shard } = at;
        let is_new = self.hosts[host].shards[shard].birth.is_new();
        if is_new && !self.may_wipe(host) {
            return false;
        }
        let rng = &mut self.rng;
        let place = &mut self.hosts[host].shards[shard];
        let Some(disk) = place.disk.as_mut() else { return false };
        let Some(what) = damage(disk, rng, self.plan.segment_bytes) else { return false };
        place.is_damaged = true;
        place.shown_revision = 0;
        self.trace.note(self.now_us, || format!("node {} shard {shard}: {what}", host + 1));
        self.count_fault(DAMAGED_LOG);
        if is_new {
            self.expect_refusal(at);
        }
        true
    }

    /// A node that just voted dies, and what it wrote last rots.
    pub(super) fn damage_voter(&mut self, at: Place, life: u64) {
        if self.hosts[at.host].life == life && !self.is_calm {
            self.damage_log(at, damage_end);
        }
    }
}
