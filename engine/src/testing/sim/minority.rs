//! A fault with an aim, in clusters of five and more: a deposed leader keeps a follower.
//!
//! A leader and one of its followers are stopped and cut off together, and the others elect another leader. A client writes to that
//! one, is answered, and then reads the same from the follower, which goes on just now together with its old leader. The two reach each
//! other and nobody else. The leader cannot know that it was deposed, and the follower believes in it. So the leader may not say up to
//! where the read must see before a quorum has confirmed it (thesis 6.4), and none does.

use super::plan::{between, pick};
use super::world::{Event, FaultStep, Place, World};
use crate::types::Term;

/// Fewest voters: the others must be a quorum without the two.
const VOTERS_MIN: usize = 5;

/// Time after which the two go on even if nobody asked anything. Unit: us.
const STOPPED_US: (u64, u64) = (1_000_000, 6_000_000);

/// Polling interval while they are stopped. Unit: us.
const LOOK_EVERY_US: u64 = 2_000;

/// A leader and a follower are stopped and cut off from all others.
#[derive(Clone, Copy, Debug)]
struct Minority {
    shard: usize,
    /// The leader and the follower.
    hosts: [usize; 2],
    /// Theirs.
    lives: [u64; 2],
    /// The term in which the one leads the other.
    term: Term,
    /// The client that is to write elsewhere and to read from the follower.
    client: Option<usize>,
    /// When they go on, whatever happened.
    end_us: u64,
}

impl FaultStep for Minority {
    fn go_on(self: Box<Self>, world: &mut World) -> Result<(), String> {
        world.watch_minority(*self);
        Ok(())
    }
}

impl World {
    /// Stops this leader and a follower of it. `false` if it has none, or if the others would be no quorum.
    pub(super) fn begin_minority(&mut self, at: Place) -> bool {
        let Some(term) = self.leads(at.host, at.shard).filter(|_| self.plan.voters >= VOTERS_MIN) else { return false };
        let id = self.hosts[at.host].id;
        let follows = |host: &usize| {
            let replica = self.hosts[*host].shards[at.shard].replica.as_ref();
            *host != at.host && replica.is_some_and(|replica| replica.view().leader == Some(id))
        };
        let followers: Vec<usize> = (0..self.plan.voters).filter(follows).collect();
        if followers.is_empty() {
            return false;
        }
        let hosts = [at.host, pick(&mut self.rng, &followers)];
        self.trace.note(self.now_us, || {
            format!("nodes {} and {} are stopped and cut off, and another is to lead", hosts[0] + 1, hosts[1] + 1)
        });
        for (from, to) in self.network.pairs() {
            if hosts.contains(&from) != hosts.contains(&to) {
                self.network.link(from, to).is_blocked = true;
            }
        }
        let end_us = self.now_us + between(&mut self.rng, STOPPED_US.0, STOPPED_US.1);
        let lives = hosts.map(|host| self.hosts[host].life);
        self.watch_minority(Minority { shard: at.shard, hosts, lives, term, client: None, end_us });
        true
    }

    /// Waits until another leads and a client that knows of its writes reads from the follower. Then the two go on, and stay cut off for
    /// a little longer.
    fn watch_minority(&mut self, mut minority: Minority) {
        let Minority { shard, hosts, lives, term, client, end_us } = minority;
        if self.is_calm || !hosts.iter().zip(lives).all(|(host, life)| self.is_alive(*host, life)) {
            self.join_all();
            return;
        }
        let asks = client.is_some_and(|client| self.clients.has_begun_script(client));
        if asks || self.now_us >= end_us {
            let arrives_us = self.plan.delay_us.1;
            let stopped_us = between(&mut self.rng, 0, arrives_us);
            self.trace.note(self.now_us, || format!("the two go on in {stopped_us} us, asked: {asks}"));
            for host in hosts {
                self.hosts[host].paused_until_us = self.now_us + stopped_us;
            }
            // The question and its answer are there by then.
            let for_us = 3 * arrives_us + between(&mut self.rng, 1_000, 500_000);
            let pairs = self.network.pairs();
            self.schedule(for_us, Event::Unblock(pairs));
            return;
        }
        for host in hosts {
            self.hosts[host].paused_until_us = self.now_us + 2 * LOOK_EVERY_US;
        }
        if client.is_none() {
            let later = |host: &usize| self.leads(*host, shard).is_some_and(|led| led > term);
            let successor = (0..self.hosts.len()).find(later);
            minority.client = successor.and_then(|successor| self.clients.lure(shard, successor, hosts[1]));
        }
        self.schedule(LOOK_EVERY_US, Event::Fault(Box::new(minority)));
    }
}
