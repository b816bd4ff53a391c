//! What the disks of nodes do: syncs, segments, records, repairs, damage.

use wal::SegmentSeq;
use wal::SyncRequest;

use super::{Event, Place, World};
use crate::raft::{BirthRecord, Stage};
use crate::replica;
use crate::testing::sim::damage::{DAMAGED_LOG, Damage, damage_end};
use crate::testing::sim::host::Host;
use crate::testing::sim::plan::between;
use crate::types::Index;

/// Time that preparing a segment, a read or a durable record takes at most. Unit: us.
const FILE_WORK_US_MAX: u64 = 50_000;

/// Pause before a node without room tries to prepare a segment again. Unit: us.
const PREPARE_RETRY_US: u64 = 500_000;

/// One of so many syncs of the note fails, where syncs fail.
const NOTE_SYNC_FAILS_ONE_IN: u64 = 8;

/// Name of the fault that strikes with the next sync.
pub(in crate::testing::sim) const FAILED_SYNC: &str = "failed sync";

impl World {
    /// A helper thread of the node does something with files, which takes a while.
    pub(super) fn begin_file_work(&mut self, at: Place, end: impl FnOnce(u64) -> Event) {
        let life = self.hosts[at.host].life;
        let delay_us = between(&mut self.rng, 1, FILE_WORK_US_MAX);
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
        self.deliver(at, replica::Event::Synced { id, result })?;
        if fails {
            self.count_fault(FAILED_SYNC);
            // Whoever runs the node sees that it stopped, and restarts it.
            self.restart_later(at.host);
        }
        Ok(())
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
        self.deliver(at, replica::Event::Loaded { first, last, result: Ok(()) })
    }

    pub(super) fn end_repair(&mut self, at: Place, life: u64) -> Result<(), String> {
        if !self.is_alive(at.host, life) {
            return Ok(());
        }
        let shard = &mut self.hosts[at.host].shards[at.shard];
        shard.repair = None;
        shard.is_wiped = false;
        shard.seen.promised.clear();
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

    /// A new node's record is durable, and what it says the node is becomes true.
    pub(super) fn end_birth(&mut self, at: Place, life: u64, record: BirthRecord) -> Result<(), String> {
        if !self.is_alive(at.host, life) {
            return Ok(());
        }
        let shard = &mut self.hosts[at.host].shards[at.shard];
        if record.stage == Stage::Replaced {
            shard.repair = Some(false);
        } else {
            // It promised nothing before, so that it lost nothing.
            shard.is_wiped = false;
        }
        self.trace.note(self.now_us, || format!("node {} shard {} is born: {record:?}", at.host + 1, at.shard));
        self.hosts[at.host].shards[at.shard].birth = record;
        self.deliver(at, replica::Event::BirthPersisted)
    }

    /// Damages a log if the fault model promises its repair. Says whether it did.
    pub(in crate::testing::sim) fn damage_log(&mut self, at: Place, damage: Damage) -> bool {
        let Place { host, shard } = at;
        let lacks = |host: &Host| host.shards[shard].lacks_data();
        if self.hosts.len() < 3 || self.hosts.iter().any(lacks) {
            return false;
        }
        if self.hosts[host].is_up {
            self.kill(host, false);
            self.restart_later(host);
        }
        if !self.hosts[host].disk_is_whole {
            return false;
        }
        let rng = &mut self.rng;
        let place = &mut self.hosts[host].shards[shard];
        let Some(disk) = place.disk.as_mut() else { return false };
        let what = damage(disk, rng, self.plan.segment_bytes);
        place.is_damaged = true;
        place.shown_revision = 0;
        self.trace.note(self.now_us, || format!("node {} shard {shard}: {what}", host + 1));
        self.count_fault(DAMAGED_LOG);
        true
    }

    /// A node that just voted dies, and what it wrote last rots.
    pub(super) fn damage_voter(&mut self, at: Place, life: u64) {
        if self.hosts[at.host].life == life && !self.is_calm {
            self.damage_log(at, damage_end);
        }
    }
}
