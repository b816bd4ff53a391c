//! Faults with an aim, in a cluster of three. Faults that strike at random hardly ever line up like this. Two more are in files of
//! their own: a node that loses its whole disk (`wipe`), and in larger clusters a leader that is deposed together with a follower
//! (`minority`).
//!
//! * **A leader is confirmed by old answers and deposed without a word.** It leads a term in which reads are confirmed, hands over and
//!   gets leadership back: its rounds of heartbeats begin at one again. As soon as it knows what is committed, its last heartbeats
//!   of the earlier term arrive once more. If the answers repeated the rounds that they were asked for, they would confirm reads that
//!   nobody has asked about yet. It is stopped and cut off, and the others elect another. A client writes to that one, is answered, and
//!   then reads the same from the deposed leader, which goes on just now: still cut off, it cannot know that it was deposed,
//!   and may answer no read (thesis 6.4).
//! * **A vote is forgotten.** The leader is stopped and cut off, the other two elect one of them; then the voter dies and what it
//!   wrote last rots, or its whole disk is wiped, its candidate is cut off, and the old leader goes on with the voter
//!   at its side. If the voter took the old leader's entries at once they would be acknowledged and committed, and the
//!   new leader lacks them (rule 2 of `docs/durability.md`).
//! * **An entry is forgotten.** One follower is cut off for a while, so that entries are on the leader and the other follower
//!   only; then that one dies, and what it wrote last rots. The leader dies as soon as it counts as repaired. If it did so
//!   before it had everything back it could elect the follower that was away (rule 3).

use super::damage::{damage_end, damage_last_page};
use super::plan::{between, pick};
use super::world::{Event, FaultStep, Place, World};
use crate::replica;
use crate::types::Term;

/// Longest time that the leader is stopped. Unit: us.
const STOPPED_US_MAX: u64 = 4_000_000;

/// Longest time that a follower is cut off. Unit: us.
const AWAY_US_MAX: u64 = 1_000_000;

/// Longest time from damage to the end of a repair. Unit: us.
const HUNT_US: u64 = 5_000_000;

/// Longest time to wait until a leader has led two terms. Unit: us.
const RETURN_US: u64 = 3_000_000;

/// Polling interval meanwhile. Unit: us.
const RETURN_LOOK_EVERY_US: u64 = 1_000;

/// The leader hands over once it has begun this many rounds of heartbeats in its term: reads of the next term, and those that
/// the fault adds, take fewer.
const ROUNDS: (u64, u64) = (4, 16);

/// Time after which a deposed leader goes on even if nobody asked it anything. Unit: us.
const DEPOSED_US: (u64, u64) = (1_000_000, 6_000_000);

/// Polling interval while it is stopped. Unit: us.
const DEPOSED_LOOK_EVERY_US: u64 = 2_000;

/// Polling interval while an ambush waits for its next step. Unit: us.
const LOOK_EVERY_US: u64 = 500;

/// The leader is stopped, and the others may elect another.
#[derive(Clone, Copy, Debug)]
struct Ambush {
    shard: usize,
    leader: usize,
    /// When the leader goes on.
    end_us: u64,
}

/// The voter is down and its vote gone.
#[derive(Clone, Copy, Debug)]
struct Sprung {
    ambush: Ambush,
    candidate: usize,
    voter: usize,
    /// The voter's, when it went down.
    life: u64,
}

/// A follower is away, or under repair.
#[derive(Clone, Copy, Debug)]
struct Hunt {
    leader: usize,
    /// The leader's.
    life: u64,
    /// The follower that forgets.
    at: Place,
    /// When the leader is let off.
    end_us: u64,
}

/// A leader is to lead a second term.
#[derive(Clone, Copy, Debug)]
struct Return {
    at: Place,
    /// The leader's.
    life: u64,
    /// Rounds of heartbeats in its first term.
    rounds: u64,
    /// When this is given up.
    end_us: u64,
}

/// A leader is stopped and cut off.
#[derive(Clone, Copy, Debug)]
struct Deposed {
    at: Place,
    /// The leader's.
    life: u64,
    /// The term that it leads.
    term: Term,
    /// The client that is to write elsewhere and to read from it.
    client: Option<usize>,
    /// When it goes on, whatever happened.
    end_us: u64,
}

/// The follower that is to forget does so now.
#[derive(Clone, Copy, Debug)]
struct Forget(Hunt);

/// A leader is to be stopped and cut off.
#[derive(Clone, Copy, Debug)]
struct Depose {
    at: Place,
    /// The leader's.
    life: u64,
}

impl FaultStep for Ambush {
    fn go_on(self: Box<Self>, world: &mut World) -> Result<(), String> {
        world.watch_ambush(*self)
    }
}

impl FaultStep for Sprung {
    fn go_on(self: Box<Self>, world: &mut World) -> Result<(), String> {
        world.end_ambush(*self)
    }
}

impl FaultStep for Forget {
    fn go_on(self: Box<Self>, world: &mut World) -> Result<(), String> {
        world.forget_entries(self.0)
    }
}

impl FaultStep for Hunt {
    fn go_on(self: Box<Self>, world: &mut World) -> Result<(), String> {
        world.hunt_leader(*self);
        Ok(())
    }
}

impl FaultStep for Return {
    fn go_on(self: Box<Self>, world: &mut World) -> Result<(), String> {
        world.go_on_returning(*self)
    }
}

impl FaultStep for Depose {
    fn go_on(self: Box<Self>, world: &mut World) -> Result<(), String> {
        world.depose(self.at, self.life);
        Ok(())
    }
}

impl FaultStep for Deposed {
    fn go_on(self: Box<Self>, world: &mut World) -> Result<(), String> {
        world.watch_deposed(*self);
        Ok(())
    }
}

impl World {
    /// Starts one of the ambushes in a random shard. Returns `false` if the shard has no leader.
    pub(super) fn lay_ambush(&mut self) -> Result<bool, String> {
        let shard = usize::try_from(self.rng.below(self.plan.shards.into())).expect("few");
        let leader = (0..self.hosts.len()).find(|host| self.leads(*host, shard).is_some());
        let Some(leader) = leader else { return Ok(false) };
        if !self.are_three_voters() {
            return Ok(self.begin_minority(Place { host: leader, shard }));
        }
        match self.rng.below(4) {
            0 => self.stop_leader(leader, shard),
            1 => self.separate_follower(leader, shard),
            2 => return self.begin_wiping(leader, shard),
            _ => self.return_leader(Place { host: leader, shard }),
        }
        Ok(true)
    }

    /// A leader is to hand over, get leadership back, and be deposed.
    fn return_leader(&mut self, at: Place) {
        let rounds = between(&mut self.rng, ROUNDS.0, ROUNDS.1);
        let plan = Return { at, life: self.hosts[at.host].life, rounds, end_us: self.now_us + RETURN_US };
        self.schedule(RETURN_LOOK_EVERY_US, Event::Fault(Box::new(plan)));
    }

    /// Goes on with it.
    fn go_on_returning(&mut self, plan: Return) -> Result<(), String> {
        let Return { at, life, end_us, .. } = plan;
        if self.is_calm || self.now_us > end_us || !self.is_alive(at.host, life) {
            return Ok(());
        }
        let followers: Vec<usize> = (0..self.hosts.len()).filter(|host| *host != at.host).collect();
        if let Some(term) = self.leads(at.host, at.shard) {
            if self.has_committed_in(at, term) && self.repeat_old_beats(at, &followers, term) {
                // The old answers are there by then.
                let delay_us = 2 * self.plan.delay_us.1 + between(&mut self.rng, 0, 5_000);
                self.schedule(delay_us, Event::Fault(Box::new(Depose { at, life })));
                return Ok(());
            }
            let rounds = followers.iter().map(|to| self.beats.of(at.host, *to, at.shard).rounds_of(term)).max();
            if rounds >= Some(plan.rounds) {
                let to = pick(&mut self.rng, &followers);
                self.transfer(at, to)?;
            }
        } else if let Some(&host) = followers.iter().find(|host| self.leads(**host, at.shard).is_some()) {
            self.transfer(Place { host, ..at }, at.host)?;
        }
        self.schedule(RETURN_LOOK_EVERY_US, Event::Fault(Box::new(plan)));
        Ok(())
    }

    /// A leader answers no reads before an entry of its own term is committed.
    pub(super) fn has_committed_in(&self, at: Place, term: Term) -> bool {
        let replica = self.hosts[at.host].shards[at.shard].replica.as_ref();
        replica.is_some_and(|replica| replica.log().term(replica.view().commit_index) == Some(term))
    }

    /// Heartbeats of an earlier term arrive once more. `false` if there are none of later rounds than this term has.
    fn repeat_old_beats(&mut self, at: Place, followers: &[usize], term: Term) -> bool {
        let mut is_repeated = false;
        for &to in followers {
            if let Some(packet) = self.beats.of(at.host, to, at.shard).take_later_round(term) {
                self.schedule(1, Event::Packet(packet));
                is_repeated = true;
            }
        }
        is_repeated
    }

    /// A leader is asked to hand over to a node. `false` if it does not.
    pub(super) fn transfer(&mut self, at: Place, to: usize) -> Result<bool, String> {
        let successor = self.hosts[to].id;
        self.hand_over(at, replica::Event::Transfer { to: successor })?;
        let Some(replica) = self.hosts[at.host].shards[at.shard].replica.as_ref() else { return Ok(false) };
        let is_begun = replica.view().transfer.is_some_and(|transfer| transfer.to == successor);
        self.deliver(at, replica::Event::Turn)?;
        Ok(is_begun)
    }

    /// A leader is stopped and cut off.
    fn depose(&mut self, at: Place, life: u64) {
        if self.is_calm || !self.is_alive(at.host, life) {
            return;
        }
        let Some(term) = self.leads(at.host, at.shard) else { return };
        self.trace.note(self.now_us, || format!("node {} is stopped and cut off, and is to be deposed", at.host + 1));
        self.cut_off(at.host);
        let end_us = self.now_us + between(&mut self.rng, DEPOSED_US.0, DEPOSED_US.1);
        self.watch_deposed(Deposed { at, life, term, client: None, end_us });
    }

    /// Waits until another leads and a client that knows of its writes reads from the stopped one, which then goes on. It stays cut
    /// off for a little longer.
    fn watch_deposed(&mut self, mut deposed: Deposed) {
        let Deposed { at, life, term, client, end_us } = deposed;
        if self.is_calm || !self.is_alive(at.host, life) {
            self.join_all();
            return;
        }
        let asks = client.is_some_and(|client| self.clients.has_begun_script(client));
        if asks || self.now_us >= end_us {
            let arrives_us = self.plan.delay_us.1;
            let stopped_us = between(&mut self.rng, 0, arrives_us);
            self.trace.note(self.now_us, || format!("node {} goes on in {stopped_us} us, asked: {asks}", at.host + 1));
            self.hosts[at.host].paused_until_us = self.now_us + stopped_us;
            let for_us = arrives_us + between(&mut self.rng, 1_000, 500_000);
            let pairs = self.network.pairs();
            self.schedule(for_us, Event::Unblock(pairs));
            return;
        }
        self.hosts[at.host].paused_until_us = self.now_us + 2 * DEPOSED_LOOK_EVERY_US;
        if client.is_none() {
            let later = |host: &usize| self.leads(*host, at.shard).is_some_and(|led| led > term);
            let successor = (0..self.hosts.len()).find(later);
            deposed.client = successor.and_then(|successor| self.clients.lure(at.shard, successor, at.host));
        }
        self.schedule(DEPOSED_LOOK_EVERY_US, Event::Fault(Box::new(deposed)));
    }

    fn separate_follower(&mut self, leader: usize, shard: usize) {
        let followers: Vec<usize> = (0..self.hosts.len()).filter(|host| *host != leader).collect();
        let host = pick(&mut self.rng, &followers);
        let away = 3 - leader - host;
        self.trace.note(self.now_us, || format!("node {} is cut off, node {} is going to forget", away + 1, host + 1));
        self.cut_off(away);
        let away_us = between(&mut self.rng, 20_000, AWAY_US_MAX);
        let life = self.hosts[leader].life;
        let hunt = Hunt { leader, life, at: Place { host, shard }, end_us: self.now_us + away_us + HUNT_US };
        self.schedule(away_us, Event::Fault(Box::new(Forget(hunt))));
    }

    /// The follower that was there loses what it wrote last, and the other one is back.
    fn forget_entries(&mut self, hunt: Hunt) -> Result<(), String> {
        let Hunt { leader, life, at, .. } = hunt;
        let still_leads = self.hosts[leader].life == life && self.leads(leader, at.shard).is_some();
        if self.is_calm || !still_leads {
            self.join_all();
            return Ok(());
        }
        let damage = if self.rng.chance(1, 2) { damage_end } else { damage_last_page };
        let is_damaged = self.damage_log(at, damage);
        self.join_all();
        if !is_damaged {
            return Ok(());
        }
        self.start(at.host)?;
        for (from, to) in self.network.pairs() {
            let incarnation = self.network.link(from, to).incarnation;
            self.connect(from, to, incarnation);
        }
        self.schedule(LOOK_EVERY_US, Event::Fault(Box::new(hunt)));
        Ok(())
    }

    /// The leader dies as soon as the follower counts as repaired.
    fn hunt_leader(&mut self, hunt: Hunt) {
        let Hunt { leader, life, at, end_us } = hunt;
        if self.is_calm || self.now_us > end_us || self.hosts[leader].life != life || !self.hosts[leader].is_up {
            return;
        }
        if self.hosts[at.host].shards[at.shard].repair.is_some() {
            self.schedule(LOOK_EVERY_US, Event::Fault(Box::new(hunt)));
        } else {
            self.kill(leader, false);
            self.restart_later(leader);
        }
    }

    /// Stops the leader and cuts it off.
    fn stop_leader(&mut self, leader: usize, shard: usize) {
        let end_us = self.now_us + between(&mut self.rng, 50_000, STOPPED_US_MAX);
        self.trace.note(self.now_us, || format!("node {} is stopped and cut off until {end_us} us", leader + 1));
        self.hosts[leader].paused_until_us = end_us;
        self.cut_off(leader);
        let ambush = Ambush { shard, leader, end_us };
        self.schedule(LOOK_EVERY_US, Event::Fault(Box::new(ambush)));
    }

    /// Waits for the election, then springs the trap; gives up when the leader goes on.
    fn watch_ambush(&mut self, ambush: Ambush) -> Result<(), String> {
        let Ambush { shard, leader, end_us } = ambush;
        let old_term = self.hosts[leader].shards[shard].replica.as_ref().map(|replica| replica.view().term);
        let elected = (0..self.hosts.len())
            .find(|host| *host != leader && self.leads(*host, shard).is_some_and(|term| Some(term) > old_term));
        let Some(candidate) = elected.filter(|_| old_term.is_some() && !self.is_calm) else {
            if self.now_us < end_us && !self.is_calm {
                self.schedule(LOOK_EVERY_US, Event::Fault(Box::new(ambush)));
            } else {
                self.join_all();
            }
            return Ok(());
        };
        let voter = 3 - leader - candidate;
        let life = self.hosts[voter].life;
        let damage = if self.rng.chance(1, 2) { damage_end } else { damage_last_page };
        let is_struck = match self.rng.below(3) {
            0 => self.wipe_one(voter),
            _ => self.damage_log(Place { host: voter, shard }, damage),
        };
        if !is_struck {
            self.join_all();
            return Ok(());
        }
        self.cut_off(candidate);
        let sprung = Sprung { ambush, candidate, voter, life };
        let delay_us = end_us.saturating_sub(self.now_us) + between(&mut self.rng, 0, 5_000);
        self.schedule(delay_us, Event::Fault(Box::new(sprung)));
        Ok(())
    }

    /// The voter starts again and meets the old leader; the candidate stays away for a while.
    fn end_ambush(&mut self, sprung: Sprung) -> Result<(), String> {
        let Sprung { ambush: Ambush { leader, .. }, candidate, voter, life } = sprung;
        if self.is_calm {
            return Ok(());
        }
        if self.hosts[voter].life == life {
            self.start(voter)?;
        }
        let pairs = [(leader, voter), (voter, leader)];
        self.unblock(&pairs);
        for (from, to) in pairs {
            let incarnation = self.network.link(from, to).incarnation;
            self.connect(from, to, incarnation);
        }
        self.trace.note(self.now_us, || format!("node {} is still cut off", candidate + 1));
        let for_us = between(&mut self.rng, 10_000, 3_000_000);
        let pairs = self.network.pairs();
        self.schedule(for_us, Event::Unblock(pairs));
        Ok(())
    }
}
