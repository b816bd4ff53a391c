//! What a run will be like: the cluster's shape, its limits, its clients, and which faults at what rates. All from the seed.
//!
//! Each fault is switched on or off by itself (swarm testing: Groce et al., ISSTA '12), because some faults hide others.

use wal::testing::SimRng;

use super::front::FrontLimits;
use crate::desk::BetweenCores;
use crate::raft;
use crate::replica::ReadingLimits;
use crate::types::{EntryId, Index, NodeId, Term};

/// One in this many runs puts a disk back to an earlier image.
const PUT_BACK_ONE_IN: u64 = 6;

/// In one of this many runs the logs soon have no room: see `Plan::into_tight`.
const TIGHT_ONE_IN: u64 = 4;

/// One in this many of the others elects a second leader in a term that had one, or the same one in another life.
const SECOND_LEADER_ONE_IN: u64 = 5;

/// In one of this many runs a node joins as a learner.
const LEARNER_ONE_IN: u64 = 4;

/// In one of this many of those no leader stays meanwhile.
const CHURNS_ONE_IN: u64 = 3;

/// In one of this many of the usual runs, and of those with little room, nodes keep their state beside the log.
const KEEPS_ONE_IN: u64 = 6;

/// How often something happens: mean time between two. `None`: never.
pub(super) type Every = Option<u64>;

/// Faults and how often they strike. Unit: us of simulated time between two, on average.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    /// A process dies; its host goes on.
    pub(super) kill: Every,
    /// A host loses power.
    pub(super) power_loss: Every,
    /// Everything loses power at once, or dies at once.
    pub(super) kill_all: Every,
    /// A process is stopped and goes on later.
    pub(super) pause: Every,
    /// Some nodes are cut off from the others, both ways.
    pub(super) partition: Every,
    /// One direction between two nodes is blocked.
    pub(super) one_way: Every,
    /// A connection breaks.
    pub(super) reset: Every,
    /// Bits of a frame flip on their way.
    pub(super) corrupt_frame: Every,
    /// A message arrives once more, long after it was sent.
    pub(super) stale_message: Every,
    /// A disk becomes slow for a while.
    pub(super) slow_disk: Every,
    /// A sync fails.
    pub(super) sync_failure: Every,
    /// A disk has no room for segments for a while.
    pub(super) disk_full: Every,
    /// Durable bytes rot while their node is down.
    pub(super) damage: Every,
    /// A node loses everything that it had on disk.
    pub(super) wipe: Every,
    /// Faults with an aim: see `ambush`.
    pub(super) ambush: Every,
    /// A node is stopped in order: it hands over, answers what it has taken, and ends.
    pub(super) orderly_stop: Every,
    /// A leader is asked to hand over to some node.
    pub(super) transfer: Every,
    /// The disk of a leader becomes slow, or full, for a while.
    pub(super) leader_disk: Every,
    /// A host loses power, and bytes that were certainly durable rot before it starts again.
    pub(super) rot_after_power_loss: Every,
    /// Logs get no room: see `starve`.
    pub(super) starve: Every,
    /// A client leaves a node, whatever it waits for.
    pub(super) client_leaves: Every,
    /// A node parts from a client that waits for nothing, to make room for others.
    pub(super) client_parted: Every,
    /// A core of a node hangs for a while.
    pub(super) core_hangs: Every,
}

/// Limits of a replica that are far away in production; see `ReplicaOptions` and `state_machine::Options`.
#[derive(Clone, Copy, Debug)]
pub(super) struct SmallLimits {
    /// No more than `Plan::pending_limit`.
    pub(super) pending_reads_limit: usize,
    /// Unit: bytes.
    pub(super) queued_write_bytes_limit: u64,
    /// Unit: bytes.
    pub(super) quota_bytes: u64,
    /// Each node adds a little of its own, and all must agree in state and answers. Unit: bytes.
    pub(super) answer_bytes_limit: u32,
}

impl SmallLimits {
    fn choose(rng: &mut SimRng) -> Self {
        Self {
            pending_reads_limit: pick(rng, &[usize::MAX, usize::MAX, 3, 1]),
            queued_write_bytes_limit: pick(rng, &[64 << 10, 64 << 10, 500, 50]),
            quota_bytes: pick(rng, &[u64::MAX, u64::MAX, 60_000, 10_000]),
            answer_bytes_limit: pick(rng, &[32 << 20, 32 << 20, 1_000, 120]),
        }
    }
}

/// Everything that is fixed before a run begins.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The seed that it was made from.
    pub(super) seed: u64,
    /// Nodes that vote, from the beginning.
    pub(super) voters: usize,
    /// One node more joins as a learner.
    pub(super) learner: bool,
    /// Shards.
    pub(super) shards: u32,
    /// Size of a log segment. Unit: bytes.
    pub(super) segment_bytes: u64,
    /// The entry that every log begins after; every node's state is at it from the start.
    pub(super) origin: EntryId,
    /// Number of the segment that every log begins with.
    pub(super) first_segment: u64,
    /// Raft's settings; identity and seed are filled in for each replica.
    pub(super) raft: raft::Config,
    /// Leaders of the shards are to be spread over the nodes.
    pub(super) prefers_leaders: bool,
    /// See `ReplicaOptions`.
    pub(super) pipeline_batches_limit: usize,
    /// See `ReplicaOptions`. Unit: bytes.
    pub(super) batch_bytes_target: usize,
    /// See `ReplicaOptions`. Unit: bytes.
    pub(super) apply_bytes_per_turn: u64,
    /// See `ReplicaOptions`.
    pub(super) apply_keys_per_turn: u64,
    /// See `ReplicaOptions`.
    pub(super) reading: ReadingLimits,
    /// Of this many looks at whether old entries are in memory one finds that they are not; 0 = none does.
    pub(super) absent_one_in: u64,
    /// See `state_machine::Options`.
    pub(super) command_keys_limit: u64,
    /// See `ReplicaOptions`.
    pub(super) pending_limit: usize,
    /// Limits that are small in some runs, so that they are met.
    pub(super) limits: SmallLimits,
    /// Cores of each node, and limits between clients and shards.
    pub(super) front: FrontLimits,
    /// See `ReplicaOptions`. Unit: ticks.
    pub(super) slow_disk_ticks: u64,
    /// Length of a tick on a clock that runs right. Unit: us.
    pub(super) tick_us: u64,
    /// Largest deviation of a clock's speed. Unit: thousandths.
    pub(super) clock_skew_permille: u64,
    /// Delay of a message. Unit: us.
    pub(super) delay_us: (u64, u64),
    /// Bytes of entries, and of what is relayed, that may be on their way from one node to another. Unit: bytes.
    pub(super) lane_bytes_limit: usize,
    /// See `ReplicaOptions`. Unit: bytes.
    pub(super) uncommitted_bytes_limit: u64,
    /// One in this many messages takes ten times as long.
    pub(super) spike_one_in: u64,
    /// Time that a sync takes. Unit: us.
    pub(super) sync_us: (u64, u64),
    /// Clients.
    pub(super) clients: usize,
    /// Keys of a shard.
    pub(super) keys: u64,
    /// Longest value. Unit: bytes.
    pub(super) value_bytes: u64,
    /// Pause of a client between two operations. Unit: us.
    pub(super) think_us: (u64, u64),
    /// Time that a client waits for an answer. Unit: us.
    pub(super) timeout_us: u64,
    /// How long faults strike. Unit: us.
    pub(super) chaos_us: u64,
    /// How often a replica writes for itself in a life.
    pub(super) beats_max: u64,
    /// The faults.
    pub(super) faults: Faults,
    /// At the end a direction, or a minority, stays broken while the rest must serve: see `course`.
    pub(super) endures: bool,
    /// While logs have no room no leader stays: see `starve`.
    pub(super) churns: bool,
    /// Nodes keep their state beside the log, and drop what lies before it: see `keeping`. Unit: us between two on one node.
    pub(super) keeps: Every,
    /// The run is one of its own kind, without other faults.
    pub(super) put_back: Option<PutBack>,
}

/// What comes back that should not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PutBack {
    /// An earlier image of a node's disk: see `put_back`.
    Image,
    /// The directory that a node had before it got an empty one: see `replaced`.
    Replaced,
    /// An image of a node's disk from before it voted: see `second_leader`.
    BeforeVote,
    /// An image of a leader's disk from before it campaigned: see `second_life`.
    BeforeCampaign,
}

impl Plan {
    /// The plan that belongs to a seed.
    #[must_use]
    pub(super) fn from_seed(seed: u64) -> Self {
        let rng = &mut SimRng::new(seed);
        let voters = pick(rng, &[1, 2, 3, 3, 3, 3, 3, 3, 4, 5, 5, 5, 6, 7]);
        let tick_us = pick(rng, &[5_000, 10_000, 20_000]);
        let heartbeat_ticks = u32::try_from(between(rng, 1, 4)).expect("small");
        let election_ticks = heartbeat_ticks * u32::try_from(between(rng, 4, 12)).expect("small");
        let raft = raft::Config {
            id: NodeId::new(1),
            founders: (1..=voters as u64).map(NodeId::new).collect(),
            election_ticks,
            heartbeat_ticks,
            inflight_messages_limit: usize::try_from(between(rng, 1, 16)).expect("small"),
            inflight_bytes_limit: between(rng, 1, 16 << 10),
            append_bytes_limit: between(rng, 1, 4 << 10),
            life: 0,
            seed,
            preferred_leader: None,
        };
        let (delay_min_us, sync_min_us) = (between(rng, 20, 500), between(rng, 50, 500));
        let (think_min_us, value_bytes) = (between(rng, 100, 20_000), pick(rng, &[16, 64, 300, 1000]));
        let timeout_us = between(rng, 300_000, 3_000_000);
        let more = &mut SimRng::new(seed ^ 0x6d6f_7265);
        let faults = Faults::choose(rng, more);
        // Small enough that reads and entries take several turns, and some commands visit too many keys. From numbers of their own,
        // so that everything else stays what it was for each seed.
        let work = &mut SimRng::new(seed ^ 0x3042);
        // From numbers of their own, too.
        let start = &mut SimRng::new(seed ^ 0x6f72_6967);
        let begins_late = start.chance(2, 3);
        let origin = EntryId::new(Term::new(between(start, 1, 9)), Index::new(between(start, 1, 1 << 20)));
        let plan = Self {
            seed,
            voters,
            // From a number of its own, so that everything else stays what it was for each seed.
            learner: SimRng::new(seed ^ 0x6c65_6172_6e73).chance(1, LEARNER_ONE_IN),
            shards: pick(rng, &[1, 1, 1, 2, 3]),
            // Small ones fill up: moving on to the next segment is part of every run.
            origin: if begins_late { origin } else { EntryId::ZERO },
            first_segment: if begins_late { between(start, 1, 1000) } else { 1 },
            segment_bytes: pick(rng, &[16, 32, 64, 256]) * 1024,
            raft,
            prefers_leaders: rng.chance(1, 3),
            pipeline_batches_limit: usize::try_from(between(rng, 1, 8)).expect("small"),
            batch_bytes_target: usize::try_from(between(rng, 1, 4096)).expect("small"),
            apply_bytes_per_turn: between(rng, 1, 8192),
            reading: small_reading(work),
            apply_keys_per_turn: pick(work, &[1, 2, 5, 10, 1_000]),
            command_keys_limit: pick(work, &[3, 5, 8, 1_000]),
            // Drawn from the seed alone, so that the rest of the plan stays what it was before there was this.
            absent_one_in: pick(&mut SimRng::new(!seed), &[0, 0, 1, 3, 20]),
            pending_limit: usize::try_from(between(rng, 2, 200)).expect("small"),
            slow_disk_ticks: pick(rng, &[0, 3, 20, 100]),
            tick_us,
            clock_skew_permille: pick(rng, &[0, 10, 100, 300]),
            delay_us: (delay_min_us, delay_min_us + between(rng, 1, 20_000)),
            spike_one_in: pick(rng, &[10, 100, 100_000]),
            sync_us: (sync_min_us, sync_min_us + between(rng, 1, 20_000)),
            clients: usize::try_from(between(rng, 1, 12)).expect("small"),
            keys: between(rng, 1, 12),
            value_bytes,
            think_us: (think_min_us, think_min_us + between(rng, 1, 200_000)),
            timeout_us,
            chaos_us: between(rng, 5, 40) * 1_000_000,
            faults,
            uncommitted_bytes_limit: pick(rng, &[256 << 10, 16 << 10, 4 << 10, 1 << 10]),
            lane_bytes_limit: pick(rng, &[64 << 20, 64 << 20, 64 << 10, 4 << 10, 1 << 10]),
            endures: more.chance(1, 3),
            churns: false,
            keeps: None,
            // Drawn from the seed alone.
            beats_max: pick(&mut SimRng::new(seed ^ 0x6265_6174), &[0, 0, 0, 10]),
            put_back: None,
            limits: SmallLimits::choose(more),
            front: small_front(seed),
        };
        plan.of_its_kind(rng.chance(1, PUT_BACK_ONE_IN))
    }

    /// Most runs are of the usual kind.
    fn of_its_kind(self, is_put_back: bool) -> Self {
        // From numbers of their own, so that all other runs stay what they were before there was this.
        let twice = &mut SimRng::new(self.seed ^ 0x7477_6963_6520);
        let elects_twice = twice.chance(1, SECOND_LEADER_ONE_IN);
        let put_back = if twice.chance(1, 4) { PutBack::BeforeCampaign } else { PutBack::BeforeVote };
        let tight = &mut SimRng::new(self.seed ^ 0x7469_6768);
        let is_tight = tight.chance(1, TIGHT_ONE_IN);
        match (is_put_back, elects_twice) {
            (true, _) => self.into_put_back(),
            (false, true) => Self { put_back: Some(put_back), ..self.into_put_back() },
            (false, false) if is_tight => self.into_tight(tight).into_keeping(),
            (false, false) => self.into_keeping(),
        }
    }

    /// In some runs nodes keep their state beside the log. Nothing makes them need entries that were dropped then: no node joins, and none
    /// loses what it had durably.
    fn into_keeping(self) -> Self {
        // From numbers of their own, so that all other runs stay what they were before there was this.
        let rng = &mut SimRng::new(self.seed ^ 0x6b65_6570);
        if !rng.chance(1, KEEPS_ONE_IN) {
            return self;
        }
        let faults = Faults { damage: None, wipe: None, rot_after_power_loss: None, ambush: None, ..self.faults };
        let segment_bytes = self.segment_bytes.min(32 << 10);
        Self { learner: false, keeps: Some(1000 * between(rng, 50, 2_000)), segment_bytes, faults, ..self }
    }

    /// Small segments that fill up fast, writes that wait for room for a short time only, and elections that follow each other closely.
    /// Logs get no room now and then; few other faults strike, so that it lasts.
    fn into_tight(self, rng: &mut SimRng) -> Self {
        let raft = raft::Config {
            heartbeat_ticks: 1,
            election_ticks: u32::try_from(between(rng, 6, 8)).expect("small"),
            ..self.raft
        };
        let (timeout_us_min, timeout_us_max) = pick(rng, &[(20_000, 60_000), (200_000, 2_000_000)]);
        let churns = rng.chance(1, CHURNS_ONE_IN);
        let faults = Faults {
            starve: Some(1000 * between(rng, 300, 1_000)),
            reset: self.faults.reset,
            client_leaves: self.faults.client_leaves,
            core_hangs: self.faults.core_hangs.filter(|_| rng.chance(1, 3)),
            kill: self.faults.kill.filter(|_| rng.chance(1, 3)),
            power_loss: self.faults.power_loss.filter(|_| rng.chance(1, 3)),
            ambush: self.faults.ambush.filter(|_| rng.chance(1, 3)),
            ..Faults::default()
        };
        Self {
            segment_bytes: 16 << 10,
            raft,
            tick_us: 5_000,
            delay_us: (50, 50 + between(rng, 1, 2_000)),
            sync_us: (50, 50 + between(rng, 1, 2_000)),
            spike_one_in: self.spike_one_in.max(100),
            slow_disk_ticks: pick(rng, &[3, 10, 20]),
            clients: usize::try_from(between(rng, 6, 12)).expect("small"),
            value_bytes: pick(rng, &[300, 1_000]),
            think_us: (100, between(rng, 200, 20_000)),
            timeout_us: between(rng, timeout_us_min, timeout_us_max),
            chaos_us: if churns { between(rng, 12, 18) } else { between(rng, 6, 12) } * 1_000_000,
            pending_limit: usize::try_from(between(rng, 3, 30)).expect("small"),
            limits: SmallLimits { quota_bytes: u64::MAX, ..self.limits },
            faults,
            churns,
            ..self
        }
    }

    /// Three nodes and one shard, and nothing that goes wrong but what the run is about.
    fn into_put_back(self) -> Self {
        let founders = (1..=3).map(NodeId::new).collect();
        let raft = raft::Config { founders, ..self.raft };
        let clients = self.clients.max(3);
        let faults = Faults::default();
        // From a number of its own, so that the runs of one kind stay what they were before there was the other.
        let is_image = SimRng::new(self.seed ^ 0x6f6c_6420).chance(3, 4);
        let put_back = Some(if is_image { PutBack::Image } else { PutBack::Replaced });
        Self { voters: 3, learner: false, shards: 1, raft, prefers_leaders: false, clients, faults, put_back, ..self }
    }
}

/// From numbers of its own, so that everything else stays what it was for each seed.
fn small_front(seed: u64) -> FrontLimits {
    let rng = &mut SimRng::new(seed ^ 0x6672_6f6e_7420);
    FrontLimits {
        cores: pick(rng, &[1, 1, 2, 2, 3]),
        request_bytes: pick(rng, &[1 << 20, 1 << 20, 1 << 20, 300]),
        requests_per_connection: pick(rng, &[10_000, 10_000, 3, 1]),
        queued_bytes: pick(rng, &[1 << 30, 4_000, 2_500, 1_500]),
        requests: pick(rng, &[100_000, 100_000, 8, 3]),
        queue_len: pick(rng, &[4096, 4096, 2, 1]),
        between: BetweenCores {
            bytes_limit: pick(rng, &[256 << 20, 2_000, 500, 200]),
            small_bytes: pick(rng, &[200, 100, 20]),
        },
        drops_one_in: pick(rng, &[0, 0, 20, 4]),
    }
}

fn small_reading(rng: &mut SimRng) -> ReadingLimits {
    ReadingLimits {
        keys_per_turn: between(rng, 1, 12),
        keys_per_slice: between(rng, 1, 6),
        kept_bytes_limit: pick(rng, &[0, 200, 2_000, 64 << 20]),
    }
}

impl Plan {
    /// Nodes, whether they vote or not.
    #[must_use]
    pub(super) fn nodes(&self) -> usize {
        self.voters + usize::from(self.learner)
    }

    /// Delays and syncs no longer than this leave a leader in office. Unit: us.
    #[must_use]
    pub(super) fn steady_us(&self) -> u64 {
        let election_us = u64::from(self.raft.election_ticks) * self.tick_us * (1000 - self.clock_skew_permille) / 1000;
        (election_us / 8).max(1)
    }
}

impl Faults {
    /// `more` has numbers of its own for the faults that came later, so that the others stay what they were for each seed.
    fn choose(rng: &mut SimRng, more: &mut SimRng) -> Self {
        let calm = rng.chance(1, 20);
        let mut every = |min_ms: u64, max_ms: u64| {
            let mean_us = between(rng, min_ms, max_ms) * 1000;
            (!calm && rng.chance(1, 2)).then_some(mean_us)
        };
        Self {
            kill: every(500, 8_000),
            power_loss: every(500, 8_000),
            kill_all: every(3_000, 20_000),
            pause: every(500, 8_000),
            partition: every(500, 8_000),
            one_way: every(500, 8_000),
            reset: every(200, 5_000),
            corrupt_frame: every(500, 8_000),
            stale_message: every(20, 500),
            slow_disk: every(1_000, 10_000),
            sync_failure: every(2_000, 20_000),
            disk_full: every(2_000, 20_000),
            damage: every(1_000, 8_000),
            ambush: every(500, 3_000),
            orderly_stop: every(500, 8_000),
            transfer: every(100, 4_000),
            leader_disk: every(1_000, 10_000),
            // The last, so that it changes nothing about the others.
            wipe: every(500, 5_000),
            rot_after_power_loss: more.chance(1, 3).then(|| 1000 * between(more, 1_000, 8_000)),
            starve: None,
            client_leaves: more.chance(1, 2).then(|| 1000 * between(more, 20, 1_000)),
            client_parted: more.chance(1, 3).then(|| 1000 * between(more, 20, 1_000)),
            core_hangs: more.chance(1, 2).then(|| 1000 * between(more, 500, 8_000)),
        }
    }
}

pub(super) fn pick<T: Copy>(rng: &mut SimRng, from: &[T]) -> T {
    from[usize::try_from(rng.below(from.len() as u64)).expect("an index")]
}

/// A number in `low..=high`.
pub(super) fn between(rng: &mut SimRng, low: u64, high: u64) -> u64 {
    low + rng.below(high - low + 1)
}

/// A time until the next event of a kind that happens every `mean_us` on average, in no pattern.
pub(super) fn wait_us(rng: &mut SimRng, mean_us: u64) -> u64 {
    // The minimum over many small chances would be exponential; two uniform numbers come close enough.
    1 + rng.below(mean_us) + rng.below(mean_us)
}
