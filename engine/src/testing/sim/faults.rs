//! What goes wrong, and how it ends: processes, hosts, connections and disks.

use std::collections::BTreeSet;

use wal::constants::FIRST_FRAME_OFFSET;
use wal::testing::{SimRng, SimStorage};
use wal::{SegmentSeq, Storage};

use super::ambush::{Ambush, Deposed, Hunt, Return, Sprung};
use super::clients::Answer;
use super::plan::{Every, Faults, between, pick, wait_us};
use super::wipe::WipePlan;
use super::world::{Event, Place, World};
use crate::replica;

/// The end of a fault.
#[derive(Debug)]
pub(super) enum Undo {
    /// A node starts, if it is down.
    Start { host: usize, life: u64 },
    /// Directions are open again.
    Unblock(Vec<(usize, usize)>),
    /// A connection breaks for having been silent too long.
    Break { from: usize, to: usize, incarnation: u64 },
    /// The stopped leader goes on, or another was elected meanwhile.
    Ambush(Ambush),
    /// The voter that was struck meets the old leader.
    Sprung(Sprung),
    /// A follower forgets what it wrote last, and the other one is back.
    Forget(Hunt),
    /// The leader dies when that follower is repaired.
    Hunt(Hunt),
    /// A leader hands over and gets leadership back.
    Return(Return),
    /// A leader is stopped and cut off.
    Depose { at: Place, life: u64 },
    /// It goes on when it was deposed and is asked something.
    Deposed(Deposed),
    /// The followers and the leader of a shard are to meet without what one of them had.
    Wipe(WipePlan),
    /// A node that just voted dies, and what it wrote last rots.
    DamageVoter { at: Place, life: u64 },
    /// An orderly stop goes on: requests are refused from here on.
    Close { host: usize, life: u64 },
    /// An orderly stop ends.
    End { host: usize, life: u64 },
    /// A disk is as fast as before.
    Fast { host: usize },
    /// A disk has room again.
    Room { host: usize },
}

/// Name of the fault that also comes with others.
const DAMAGED_LOG: &str = "damaged log";

/// Name of the fault that strikes with the next sync.
pub(super) const FAILED_SYNC: &str = "failed sync";

type Rate = fn(&Faults) -> Every;
type Damage = fn(&mut SimStorage, &mut SimRng, u64) -> String;
/// Says whether it struck: not everything can be done at every moment.
type Strike = fn(&mut World) -> Result<bool, String>;

/// Every kind of fault: its name, how often it strikes, what it does.
const KINDS: [(&str, Rate, Strike); 17] = [
    ("process killed", |faults| faults.kill, |world| world.kill_some(false)),
    ("power lost", |faults| faults.power_loss, |world| world.kill_some(true)),
    ("everything killed", |faults| faults.kill_all, World::kill_all),
    ("process stopped", |faults| faults.pause, World::pause_some),
    ("partition", |faults| faults.partition, World::partition),
    ("one way blocked", |faults| faults.one_way, World::block_one_way),
    ("connection broken", |faults| faults.reset, World::break_some),
    ("stale message", |faults| faults.stale_message, World::deliver_stale),
    ("slow disk", |faults| faults.slow_disk, World::slow_some),
    (FAILED_SYNC, |faults| faults.sync_failure, World::fail_some_sync),
    (DAMAGED_LOG, |faults| faults.damage, World::damage_some),
    ("full disk", |faults| faults.disk_full, World::fill_some),
    ("disk wiped", |faults| faults.wipe, World::wipe_some),
    ("ambush", |faults| faults.ambush, World::lay_ambush),
    ("orderly stop", |faults| faults.orderly_stop, World::stop_some),
    ("leadership transfer", |faults| faults.transfer, World::transfer_some),
    ("leader's disk", |faults| faults.leader_disk, World::spoil_leaders_disk),
];

/// Flips a bit of what was written last.
pub(super) fn damage_end(disk: &mut SimStorage, rng: &mut SimRng, _segment_bytes: u64) -> String {
    let (seq, end) = written_end(disk);
    let offset = end.saturating_sub(1 + usize::try_from(rng.below(40)).expect("small"));
    disk.flip_bit(seq, offset, 1);
    format!("bit 1 of byte {offset} of segment {seq}, at its end, flips")
}

/// Loses the page that was written last.
pub(super) fn damage_last_page(disk: &mut SimStorage, _rng: &mut SimRng, _segment_bytes: u64) -> String {
    let (seq, end) = written_end(disk);
    let offset = end.saturating_sub(1);
    disk.zero_page(seq, offset);
    format!("the page at {offset} of segment {seq}, its last, turns to zeros")
}

/// The last segment in use and the end of what was written to it.
fn written_end(disk: &SimStorage) -> (SegmentSeq, usize) {
    let end = |seq: &SegmentSeq| disk.bytes(*seq).iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let is_used = |seq: &SegmentSeq| end(seq) > FIRST_FRAME_OFFSET;
    let seq = disk.segments().into_iter().rfind(is_used).unwrap_or(SegmentSeq::FIRST);
    (seq, end(&seq))
}

/// Damages one place, anywhere, with a preference for the end of the log. Says what it did.
fn damage(disk: &mut SimStorage, rng: &mut SimRng, segment_bytes: u64) -> String {
    let segments = disk.segments();
    let mut choose = || {
        let seq = pick(rng, &segments);
        let bytes = disk.bytes(seq);
        let written = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
        let limit = if rng.chance(2, 3) { written as u64 } else { segment_bytes };
        let tail = if rng.chance(1, 3) { limit.min(2048) } else { limit };
        let offset = limit - 1 - rng.below(tail);
        (seq, usize::try_from(offset).expect("within a segment"))
    };
    let ((seq, offset), (from_seq, from)) = (choose(), choose());
    match rng.below(12) {
        0..4 => {
            let bit = u8::try_from(rng.below(8)).expect("a bit");
            disk.flip_bit(seq, offset, bit);
            format!("bit {bit} of byte {offset} of segment {seq} flips")
        }
        4..7 => {
            disk.zero_page(seq, offset);
            format!("the page at {offset} of segment {seq} turns to zeros")
        }
        7 | 8 => {
            disk.truncate(seq, offset);
            format!("segment {seq} is cut at {offset}")
        }
        9 => {
            let last = *segments.last().expect("a log has segments");
            disk.remove(last);
            format!("segment {last} is lost")
        }
        10 => {
            disk.misdirect((from_seq, from), (seq, offset));
            format!("the page at {offset} of segment {seq} gets the bytes at {from} of segment {from_seq}")
        }
        _ => {
            disk.flip_note_bit(usize::try_from(rng.below(32)).expect("small"), 3);
            "a bit of the note flips".to_owned()
        }
    }
}

impl World {
    pub(super) fn schedule_faults(&mut self) {
        for (number, (_, every, _)) in KINDS.iter().enumerate() {
            if let Some(mean_us) = every(&self.plan.faults) {
                let delay_us = wait_us(&mut self.rng, mean_us);
                self.schedule(delay_us, Event::Strike(number));
            }
        }
    }

    pub(super) fn strike(&mut self, kind: usize) -> Result<(), String> {
        if self.is_calm {
            return Ok(());
        }
        let (name, every, strike) = KINDS[kind];
        if strike(self)? {
            self.count_fault(name);
        }
        if let Some(mean_us) = every(&self.plan.faults) {
            let delay_us = wait_us(&mut self.rng, mean_us);
            self.schedule(delay_us, Event::Strike(kind));
        }
        Ok(())
    }

    pub(super) fn undo(&mut self, undo: Undo) -> Result<(), String> {
        match undo {
            Undo::Start { host, life } => {
                if self.hosts[host].life == life {
                    // It may have stopped by itself and still be there.
                    self.kill(host, false);
                    self.start(host)?;
                }
            }
            Undo::Unblock(pairs) => self.unblock(&pairs),
            Undo::Break { from, to, incarnation } => {
                if self.network.link(from, to).incarnation == incarnation {
                    self.break_link(from, to);
                }
            }
            Undo::Ambush(ambush) => self.watch_ambush(ambush)?,
            Undo::Sprung(sprung) => self.end_ambush(sprung)?,
            Undo::Forget(hunt) => self.forget_entries(hunt)?,
            Undo::Hunt(hunt) => self.hunt_leader(hunt),
            Undo::Return(plan) => self.go_on_returning(plan)?,
            Undo::Depose { at, life } => self.depose(at, life),
            Undo::Deposed(deposed) => self.watch_deposed(deposed),
            Undo::DamageVoter { at, life } => {
                if self.hosts[at.host].life == life && !self.is_calm {
                    self.damage_log(at, damage_end);
                }
            }
            Undo::Close { host, life } => self.close_node(host, life),
            Undo::End { host, life } => self.end_stop(host, life)?,
            Undo::Wipe(plan) => self.go_on_wiping(plan)?,
            Undo::Fast { host } => self.hosts[host].slowness = 1,
            Undo::Room { host } => self.hosts[host].disk_is_full = false,
        }
        Ok(())
    }

    /// Ends every fault: all nodes run, everything is connected, disks work.
    pub(super) fn calm_down(&mut self) -> Result<(), String> {
        self.is_calm = true;
        self.trace.note(self.now_us, || "faults end".to_owned());
        let pairs = self.network.pairs();
        self.unblock(&pairs);
        for host in 0..self.hosts.len() {
            let node = &mut self.hosts[host];
            node.paused_until_us = 0;
            node.slowness = 1;
            node.disk_is_full = false;
            node.next_sync_fails = false;
            let has_stopped =
                |shard: &super::host::ShardHost| shard.replica.as_ref().is_none_or(|replica| replica.fault().is_some());
            if node.shards.iter().any(has_stopped) {
                self.kill(host, false);
                self.start(host)?;
            }
        }
        Ok(())
    }

    pub(super) fn start(&mut self, host: usize) -> Result<(), String> {
        if self.hosts[host].is_up {
            return Ok(());
        }
        self.hosts[host].start(&self.plan).map_err(|error| format!("node {} does not start: {error}", host + 1))?;
        let life = self.hosts[host].life;
        self.trace.note(self.now_us, || format!("node {} starts, life {life}", host + 1));
        self.schedule(self.hosts[host].tick_us, Event::Tick { host, life });
        for shard in 0..self.hosts[host].shards.len() {
            self.deliver(Place { host, shard }, replica::Event::Turn)?;
        }
        for to in self.others(host) {
            let incarnation = self.network.link(host, to).incarnation;
            let delay_us = between(&mut self.rng, 100, 20_000);
            self.schedule(delay_us, Event::Connect { from: host, to, incarnation });
        }
        Ok(())
    }

    fn others(&self, host: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.hosts.len()).filter(move |other| *other != host)
    }

    pub(super) fn random_host(&mut self) -> usize {
        usize::try_from(self.rng.below(self.hosts.len() as u64)).expect("few")
    }

    pub(super) fn kill(&mut self, host: usize, power_is_lost: bool) {
        if !self.hosts[host].is_up {
            return;
        }
        self.trace.note(self.now_us, || format!("node {} dies, power lost: {power_is_lost}", host + 1));
        for op in self.hosts[host].stop(power_is_lost) {
            // Some clients see the connection break, others wait until they have waited enough.
            if self.rng.chance(1, 2) {
                let delay_us = between(&mut self.rng, 10, 50_000);
                self.schedule(delay_us, Event::Answer { op, answer: Answer::Broken { was_sent: true } });
            }
        }
        for other in self.others(host) {
            self.drop_link(host, other, power_is_lost);
            self.drop_link(other, host, power_is_lost);
        }
    }

    pub(super) fn restart_later(&mut self, host: usize) {
        let life = self.hosts[host].life;
        let delay_us = between(&mut self.rng, 10_000, 5_000_000);
        self.schedule(delay_us, Event::Undo(Undo::Start { host, life }));
    }

    fn kill_some(&mut self, power_is_lost: bool) -> Result<bool, String> {
        let host = self.random_host();
        let is_up = self.hosts[host].is_up;
        if is_up {
            self.kill(host, power_is_lost);
            self.restart_later(host);
        }
        Ok(is_up)
    }

    fn kill_all(&mut self) -> Result<bool, String> {
        let power_is_lost = self.rng.chance(1, 2);
        let any_is_up = self.hosts.iter().any(|host| host.is_up);
        for host in 0..self.hosts.len() {
            if self.hosts[host].is_up {
                self.kill(host, power_is_lost);
                self.restart_later(host);
            }
        }
        Ok(any_is_up)
    }

    fn pause_some(&mut self) -> Result<bool, String> {
        let host = self.random_host();
        let for_us = between(&mut self.rng, 1_000, 5_000_000);
        let is_up = self.hosts[host].is_up;
        if is_up {
            self.trace.note(self.now_us, || format!("node {} is stopped for {for_us} us", host + 1));
            self.hosts[host].paused_until_us = self.now_us + for_us;
        }
        Ok(is_up)
    }

    fn partition(&mut self) -> Result<bool, String> {
        let side: BTreeSet<usize> = (0..self.hosts.len()).filter(|_| self.rng.chance(1, 2)).collect();
        let crosses = |pair: &(usize, usize)| side.contains(&pair.0) != side.contains(&pair.1);
        let pairs: Vec<_> = self.network.pairs().into_iter().filter(crosses).collect();
        self.trace.note(self.now_us, || format!("nodes {side:?} (from 0) are cut off from the others"));
        let cuts = !pairs.is_empty();
        self.block(pairs);
        Ok(cuts)
    }

    fn block_one_way(&mut self) -> Result<bool, String> {
        let pairs = self.network.pairs();
        let Some(count) = u64::try_from(pairs.len()).ok().filter(|count| *count > 0) else { return Ok(false) };
        let pair = pairs[usize::try_from(self.rng.below(count)).expect("few")];
        self.trace.note(self.now_us, || format!("{} -> {} is blocked", pair.0 + 1, pair.1 + 1));
        self.block(vec![pair]);
        Ok(true)
    }

    fn block(&mut self, pairs: Vec<(usize, usize)>) {
        let for_us = between(&mut self.rng, 10_000, 8_000_000);
        for &(from, to) in &pairs {
            self.network.link(from, to).is_blocked = true;
            if self.rng.chance(1, 2) {
                let incarnation = self.network.link(from, to).incarnation;
                let delay_us = between(&mut self.rng, 1_000, for_us);
                self.schedule(delay_us, Event::Undo(Undo::Break { from, to, incarnation }));
            }
        }
        self.schedule(for_us, Event::Undo(Undo::Unblock(pairs)));
    }

    pub(super) fn unblock(&mut self, pairs: &[(usize, usize)]) {
        for &(from, to) in pairs {
            let link = self.network.link(from, to);
            link.is_blocked = false;
            for packet in link.release() {
                self.dispatch(packet);
            }
        }
    }

    fn break_some(&mut self) -> Result<bool, String> {
        let pairs = self.network.pairs();
        let Some(count) = u64::try_from(pairs.len()).ok().filter(|count| *count > 0) else { return Ok(false) };
        let (from, to) = pairs[usize::try_from(self.rng.below(count)).expect("few")];
        let was_up = self.network.link(from, to).is_up;
        self.break_link(from, to);
        Ok(was_up)
    }

    fn deliver_stale(&mut self) -> Result<bool, String> {
        let kept = self.network.take_kept(&mut self.rng);
        let is_there = kept.is_some();
        if let Some(packet) = kept {
            self.schedule(1, Event::Packet(packet));
        }
        Ok(is_there)
    }

    fn slow_some(&mut self) -> Result<bool, String> {
        let host = self.random_host();
        self.hosts[host].slowness = between(&mut self.rng, 5, 200);
        let for_us = between(&mut self.rng, 100_000, 5_000_000);
        self.schedule(for_us, Event::Undo(Undo::Fast { host }));
        Ok(true)
    }

    /// Counted where the sync fails: the node may die before.
    fn fail_some_sync(&mut self) -> Result<bool, String> {
        let host = self.random_host();
        self.hosts[host].next_sync_fails = true;
        Ok(false)
    }

    /// Durable bytes of one shard's log rot while its node is down.
    ///
    /// Only where the fault model promises repair: the others are a quorum, none of them lacks what it promised, and the
    /// node's process died without its host losing power (see `docs/durability.md`).
    fn damage_some(&mut self) -> Result<bool, String> {
        let host = self.random_host();
        let shard = usize::try_from(self.rng.below(self.plan.shards.into())).expect("few");
        self.damage_log(Place { host, shard }, damage);
        // It has counted itself, as those have that come with another fault.
        Ok(false)
    }

    /// Damages a log if the fault model promises its repair. Says whether it did.
    pub(super) fn damage_log(&mut self, at: Place, damage: Damage) -> bool {
        let Place { host, shard } = at;
        let lacks = |host: &super::host::Host| host.shards[shard].lacks_data();
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

    fn fill_some(&mut self) -> Result<bool, String> {
        let host = self.random_host();
        self.hosts[host].disk_is_full = true;
        let for_us = between(&mut self.rng, 100_000, 10_000_000);
        self.schedule(for_us, Event::Undo(Undo::Room { host }));
        Ok(true)
    }

    /// A connection breaks while both processes live.
    pub(super) fn break_link(&mut self, from: usize, to: usize) {
        self.drop_link(from, to, false);
    }

    /// A connection ends. Both ends notice; late if nobody is there any more to say so.
    fn drop_link(&mut self, from: usize, to: usize, is_silent: bool) {
        let link = self.network.link(from, to);
        let was_up = std::mem::take(&mut link.is_up);
        let incarnation = link.begin_another();
        drop(link.release());
        let notice_us = if is_silent { (200_000, 5_000_000) } else { (10, 5_000) };
        if was_up {
            for (host, peer) in [(from, to), (to, from)] {
                let life = self.hosts[host].life;
                let delay_us = between(&mut self.rng, notice_us.0, notice_us.1);
                self.schedule(delay_us, Event::Notice { host, life, peer, up: false });
            }
        }
        let delay_us = between(&mut self.rng, 1_000, 500_000);
        self.schedule(delay_us, Event::Connect { from, to, incarnation });
    }

    /// A node tries to connect to a peer, until it succeeds or either end of the old connection is gone.
    pub(super) fn connect(&mut self, from: usize, to: usize, incarnation: u64) {
        let link = self.network.link(from, to);
        if link.is_up || link.incarnation != incarnation || !self.hosts[from].is_up {
            return;
        }
        if self.hosts[to].is_up && self.hosts[to].paused_until_us <= self.now_us && self.network.is_open(from, to) {
            self.network.link(from, to).is_up = true;
            let life = self.hosts[from].life;
            let delay_us = between(&mut self.rng, 10, 5_000);
            self.schedule(delay_us, Event::Notice { host: from, life, peer: to, up: true });
        } else {
            let delay_us = between(&mut self.rng, 10_000, 500_000);
            self.schedule(delay_us, Event::Connect { from, to, incarnation });
        }
    }

    /// A node learns of a connection what the server would tell its replicas.
    pub(super) fn notice(&mut self, host: usize, life: u64, peer: usize, up: bool) -> Result<(), String> {
        if !self.hosts[host].is_up || self.hosts[host].life != life {
            return Ok(());
        }
        let node = self.hosts[peer].id;
        for shard in 0..self.hosts[host].shards.len() {
            let at = Place { host, shard };
            if !up {
                self.deliver(at, replica::Event::PeerDisconnected(node))?;
            }
            if self.network.link(host, peer).is_up {
                self.deliver(at, replica::Event::PeerConnected(node))?;
            }
        }
        Ok(())
    }
}
