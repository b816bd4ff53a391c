//! What is sent and what arrives; connections that break, are blocked, and come up again.

use std::collections::BTreeSet;

use net::deframer::Deframer;

use super::{Event, Place, World};
use crate::raft::Message;
use crate::replica::{self, Lane, NotTaken, Outgoing};
use crate::testing::sim::network::Packet;
use crate::testing::sim::plan::between;
use crate::types::{NodeId, ShardId};
use crate::wire;

/// Largest frame that a node takes. Unit: bytes.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// One in this many votes is forgotten soon after, where damage is among the faults.
const DAMAGE_VOTER_ONE_IN: u64 = 8;

impl World {
    /// Sends a message, if its lane takes it.
    pub(super) fn send(&mut self, at: Place, to: usize, message: &Outgoing) -> Result<Result<(), NotTaken>, String> {
        self.check_promise(at, to, message)?;
        let lane = Lane::of(message);
        let is_let_in = self.is_linked(at, to) && self.is_linked(Place { host: to, ..at }, at.host);
        let link = self.network.link(at.host, to);
        if !link.is_up || !is_let_in {
            return Ok(Err(NotTaken::NoConnection));
        }
        let incarnation = link.incarnation;
        let mut bytes = Vec::new();
        let replica = self.hosts[at.host].shards[at.shard].replica.as_ref().ok_or("a message of a dead node")?;
        let shard = ShardId::new(u32::try_from(at.shard).map_err(|_| "too many shards")?);
        replica.encode(message, shard, &mut bytes).map_err(|error| format!("a message has no bytes: {error}"))?;
        if !link.takes(at.shard, message, bytes.len(), self.plan.lane_bytes_limit) {
            self.count_fault("full lane");
            return Ok(Err(NotTaken::NoCredit));
        }
        let may_repeat = matches!(message, Outgoing::Raft(_));
        let is_vote = matches!(message, Outgoing::Raft(Message::RequestVoteResponse { granted: true, .. }));
        if is_vote && self.plan.faults.damage.is_some() && self.rng.chance(1, DAMAGE_VOTER_ONE_IN) {
            let life = self.hosts[at.host].life;
            let delay_us = between(&mut self.rng, 1, 30_000);
            self.schedule(delay_us, Event::DamageVoter { at, life });
        }
        self.hand_overs.check_successor((at.host, at.shard), self.hosts[to].id, message)?;
        self.trace.detail(self.now_us, || format!("{} -> {} shard {} {message:?}", at.host + 1, to + 1, at.shard));
        let to_life = self.hosts[to].life;
        let shard = at.shard;
        let packet =
            Packet { from: at.host, to, shard, lane, incarnation, to_life, may_repeat, is_counted: true, bytes };
        self.beats.of(at.host, to, at.shard).note(&packet, message);
        self.dispatch(packet);
        Ok(Ok(()))
    }

    /// A replica wants connections to these nodes and to no others. Those that are up already are noticed soon.
    pub(super) fn link(&mut self, at: Place, nodes: BTreeSet<NodeId>) {
        let (host, life) = (at.host, self.hosts[at.host].life);
        let before = std::mem::replace(&mut self.hosts[host].shards[at.shard].linked, nodes);
        let is_new = |world: &Self, peer: usize| {
            let node = world.hosts[peer].id;
            world.is_linked(at, peer) && !before.contains(&node)
        };
        for peer in self.others(host).filter(|peer| is_new(self, *peer)).collect::<Vec<_>>() {
            if self.network.link(host, peer).is_up {
                let delay_us = between(&mut self.rng, 10, 5_000);
                self.schedule(delay_us, Event::Notice { host, life, peer, up: true });
            }
        }
    }

    /// A shard wants a connection to a node, and lets it in: it is a member, as far as the shard knows. A node that is down
    /// knows nothing.
    fn is_linked(&self, at: Place, peer: usize) -> bool {
        let host = &self.hosts[at.host];
        !host.is_up || host.shards[at.shard].linked.contains(&self.hosts[peer].id)
    }

    /// Puts a packet on its way, or holds it back.
    pub(in crate::testing::sim) fn dispatch(&mut self, packet: Packet) {
        let (from, to) = (packet.from, packet.to);
        if self.plan.faults.stale_message.is_some() && !self.is_calm {
            self.network.keep_some(&mut self.rng, &packet);
        }
        if self.network.link(from, to).is_blocked {
            if !self.network.link(from, to).hold(packet) {
                self.break_link(from, to);
            }
            return;
        }
        let (low, high) = self.plan.delay_us;
        let mut delay_us = between(&mut self.rng, low, high);
        if self.rng.chance(1, self.plan.spike_one_in) {
            delay_us *= 10;
        }
        if self.is_calm {
            // No cluster elects a leader for good whose messages take longer than elections.
            delay_us = delay_us.min(self.plan.steady_us());
        }
        let at_us = self.network.link(from, to).arrival_us(packet.lane, self.now_us, delay_us);
        self.schedule_at(at_us, Event::Packet(packet));
    }

    pub(super) fn receive(&mut self, packet: Packet) -> Result<(), String> {
        let Packet { from, to, shard, incarnation, to_life, .. } = packet;
        let (lane, life) = (packet.lane, self.hosts[from].life);
        for shard in self.network.link(from, to).arrived(&packet, self.plan.lane_bytes_limit) {
            let delay_us = between(&mut self.rng, 1, 100);
            self.schedule(delay_us, Event::LaneHasRoom { at: Place { host: from, shard }, life, to, lane });
        }
        if !self.is_alive(to, to_life) {
            return Ok(());
        }
        // Bytes of a connection that is gone: lost, or read late.
        if self.network.link(from, to).incarnation != incarnation && self.rng.chance(1, 2) {
            return Ok(());
        }
        let mut bytes = packet.bytes;
        if self.plan.faults.corrupt_frame.is_some() && !self.is_calm && self.rng.chance(1, 500) {
            self.count_fault("corrupt frame");
            let at = usize::try_from(self.rng.below(bytes.len() as u64)).map_err(|_| "a long frame")?;
            bytes[at] ^= 1 << self.rng.below(8);
        }
        let mut deframer = Deframer::new(FRAME_BYTES_MAX);
        deframer.feed(&bytes);
        let from_id = self.hosts[from].id;
        let shard_id = ShardId::new(u32::try_from(shard).map_err(|_| "too many shards")?);
        loop {
            let Ok(frame) = deframer.next_frame() else {
                // As the server does: bytes that make no sense end the connection.
                self.break_link(from, to);
                return Ok(());
            };
            let Some(frame) = frame else { return Ok(()) };
            let Ok(incoming) = wire::decode_for(shard_id, &frame) else {
                self.break_link(from, to);
                return Ok(());
            };
            let term = self.leads(to, shard);
            self.hand_overs.note_report((to, shard), from_id, term, &incoming);
            self.deliver(Place { host: to, shard }, incoming.into_event(from_id))?;
        }
    }

    pub(in crate::testing::sim) fn block(&mut self, pairs: Vec<(usize, usize)>) {
        let for_us = between(&mut self.rng, 10_000, 8_000_000);
        for &(from, to) in &pairs {
            self.network.link(from, to).is_blocked = true;
            if self.rng.chance(1, 2) {
                let incarnation = self.network.link(from, to).incarnation;
                let delay_us = between(&mut self.rng, 1_000, for_us);
                self.schedule(delay_us, Event::Break { from, to, incarnation });
            }
        }
        self.schedule(for_us, Event::Unblock(pairs));
    }

    pub(in crate::testing::sim) fn unblock(&mut self, pairs: &[(usize, usize)]) {
        let opened: Vec<_> = pairs.iter().filter(|pair| !self.cut_for_good.contains(pair)).copied().collect();
        for (from, to) in opened {
            let link = self.network.link(from, to);
            link.is_blocked = false;
            for packet in link.release() {
                self.dispatch(packet);
            }
        }
    }

    /// A connection breaks while both processes live.
    pub(in crate::testing::sim) fn break_link(&mut self, from: usize, to: usize) {
        self.drop_link(from, to, false);
    }

    /// A connection ends. Both ends notice; late if nobody is there any more to say so.
    pub(super) fn drop_link(&mut self, from: usize, to: usize, is_silent: bool) {
        let link = self.network.link(from, to);
        let was_up = std::mem::take(&mut link.is_up);
        let incarnation = link.begin_another();
        drop(link.release());
        let notice_us = if is_silent { (200_000, 5_000_000) } else { (10, 5_000) };
        if was_up {
            self.network.link(from, to).end_is_unseen = is_silent;
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
    pub(in crate::testing::sim) fn connect(&mut self, from: usize, to: usize, incarnation: u64) {
        let link = self.network.link(from, to);
        if link.is_up || link.incarnation != incarnation || !self.hosts[from].is_up {
            return;
        }
        if self.hosts[to].is_up && self.hosts[to].paused_until_us <= self.now_us && self.network.is_open(from, to) {
            self.network.link(from, to).is_up = true;
            let life = self.hosts[from].life;
            let delay_us = between(&mut self.rng, 10, 5_000);
            self.schedule(delay_us, Event::Notice { host: from, life, peer: to, up: true });
            if std::mem::take(&mut self.network.link(from, to).end_is_unseen) {
                self.schedule(1, Event::Replaced { host: to, life: self.hosts[to].life, peer: from });
            }
            let life = self.hosts[to].life;
            let delay_us = between(&mut self.rng, 10, 5_000);
            self.schedule(delay_us, Event::Notice { host: to, life, peer: from, up: true });
        } else {
            let delay_us = between(&mut self.rng, 10_000, 500_000);
            self.schedule(delay_us, Event::Connect { from, to, incarnation });
        }
    }

    /// A node learns of a connection what the server would tell its replicas.
    pub(in crate::testing::sim) fn notice(
        &mut self,
        host: usize,
        life: u64,
        peer: usize,
        up: bool,
    ) -> Result<(), String> {
        if !self.hosts[host].is_up || self.hosts[host].life != life {
            return Ok(());
        }
        let node = self.hosts[peer].id;
        for shard in 0..self.hosts[host].shards.len() {
            let at = Place { host, shard };
            if !up {
                self.deliver(at, replica::Event::PeerDisconnected(node))?;
            }
            let is_up = self.network.link(host, peer).is_up && self.network.link(peer, host).is_up;
            if is_up && self.is_linked(at, peer) {
                self.deliver(at, replica::Event::PeerConnected(node))?;
            }
        }
        Ok(())
    }

    /// A node whose peer was gone without a word hears it on a new connection. The end of the old one comes late.
    pub(super) fn replaced(&mut self, host: usize, life: u64, peer: usize) -> Result<(), String> {
        let from = self.hosts[peer].id;
        for shard in 0..self.hosts[host].shards.len() {
            for lane in [Lane::Control, Lane::Bulk, Lane::Relay] {
                if self.is_alive(host, life) {
                    self.deliver(Place { host, shard }, replica::Event::LaneReplaced { from, lane })?;
                }
            }
        }
        Ok(())
    }

    /// A replica is told that a lane has room again.
    pub(super) fn has_room(&mut self, at: Place, life: u64, to: usize, lane: Lane) -> Result<(), String> {
        if !self.is_alive(at.host, life) {
            return Ok(());
        }
        let to = self.hosts[to].id;
        self.deliver(at, replica::Event::LaneHasRoom { to, lane })
    }

    /// A node's replicas are told which entries have not left yet. What the system has taken they do not see.
    pub(super) fn tell_entries_that_wait(&mut self, host: usize) -> Result<(), String> {
        for peer in (0..self.plan.nodes()).filter(|peer| *peer != host) {
            if !self.network.link(host, peer).entries_wait() || self.rng.chance(1, 2) {
                continue;
            }
            let to = self.hosts[peer].id;
            for shard in 0..self.hosts[host].shards.len() {
                self.deliver(Place { host, shard }, replica::Event::EntriesWait { to })?;
            }
        }
        Ok(())
    }

    /// Blocks a node off from all others, both ways.
    pub(in crate::testing::sim) fn cut_off(&mut self, host: usize) {
        for (from, to) in self.network.pairs() {
            if from == host || to == host {
                self.network.link(from, to).is_blocked = true;
            }
        }
    }

    /// Opens all directions.
    pub(in crate::testing::sim) fn join_all(&mut self) {
        let pairs = self.network.pairs();
        self.unblock(&pairs);
    }
}
