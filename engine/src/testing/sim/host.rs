//! A node: its shards' replicas while it is up, their disks while it is down.

use std::collections::{BTreeMap, BTreeSet};

use wal::testing::{SimStorage, salvage_at_once};
use wal::{Log, LogOptions, OpenError, SegmentIdentity, SegmentSeq, Storage};

use super::directory::{CLUSTER, Directory, NoStart, identity_of};
use super::durable::OnDisk;
use super::files::{Files, Made};
use super::front::{Attempt, Front, Waiter};
use super::kept_state::KeptState;
use super::plan::Plan;
use crate::call::{CallKind, Refusal};
use crate::opening::Opening;
use crate::raft::{self, BirthAnswer, BirthRecord, Message, Role, Stage};
use crate::replica::{RepairOptions, Replica, ReplicaOptions};
use crate::state_machine::section::AsOf;
use crate::state_machine::{self, StateMachine};
use crate::testing::{Beat, LastAnswers};
use crate::types::{EntryId, Index, NodeId, Term};
use api::response::Response;

/// Length of a tick as replicas are told. Unit: ms.
pub(super) const TICK_MS: u32 = 10;

/// Time that preparing a segment, a read or a durable record takes at most while the disk is well. Unit: us.
pub(super) const FILE_WORK_US_MAX: u64 = 50_000;

/// Interval at which a replica writes for itself. Unit: ms.
const BEAT_MS: u64 = 500;

/// A shard on a node.
#[derive(Debug)]
pub(super) struct ShardHost {
    /// `None` while the node is down.
    pub(super) replica: Option<Replica<SimStorage>>,
    /// The log's disk while the node is down.
    pub(super) disk: Option<SimStorage>,
    /// The log lost durable entries and has not got them back. Durable; says whether the hard state is certain.
    pub(super) repair: Option<bool>,
    /// The last replica had stopped by itself.
    had_fault: bool,
    /// Where the log comes from. Durable.
    pub(super) birth: BirthRecord,
    /// The disk was wiped, and the node has neither got back what it lost nor learned that it lost nothing.
    pub(super) is_wiped: bool,
    /// The directory is one that was replaced once: its node is a voter no more.
    pub(super) is_outdated: bool,
    /// Durable bytes rotted since the log was last open.
    pub(super) is_damaged: bool,
    /// The state that is kept beside the log. Durable.
    pub(super) kept: Option<KeptState>,
    /// Which files a start finds. Durable.
    pub(super) files: Files,
    /// A turn is on its way.
    pub(super) turn_is_due: bool,
    /// The replica wants connections to these nodes.
    pub(super) linked: BTreeSet<NodeId>,
    /// What its disk holds for good.
    pub(super) on_disk: OnDisk,
    /// Who waits for this replica's answer, and to what.
    pub(super) waiting: BTreeMap<Waiter, Attempt>,
    /// What came of answers that are not whole.
    pub(super) parts: BTreeMap<Waiter, Vec<u8>>,
    /// What the checks saw last.
    pub(super) seen: Seen,
    /// The term in which it was told that its node is going to stop.
    pub(super) told_to_stop: Option<Term>,
    /// Highest revision that this node answered anything from, until its host loses power or its disk is damaged.
    pub(super) shown_revision: u64,
}

/// What the checks saw of a replica last; starts anew with each life, but for what is durable.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) role: Option<(Role, Term)>,
    pub(super) commit_index: Index,
    pub(super) applied_index: Index,
    /// It said that another node has another history.
    pub(super) has_parted: bool,
    /// The entry that its log begins after.
    base: EntryId,
    /// Its entries.
    pub(super) ids: Vec<EntryId>,
    /// Entries that were durable when it went down, or that it lost; it may have acknowledged them.
    pub(super) promised: BTreeSet<EntryId>,
    /// Term and vote that were durable then: it may have told them.
    pub(super) promised_vote: (Term, u64),
}

impl Seen {
    /// The log begins after that entry now.
    pub(super) fn drop_to(&mut self, base: EntryId) {
        let dropped = base.index.get().saturating_sub(self.base.index.get());
        let dropped = usize::try_from(dropped).unwrap_or(usize::MAX).min(self.ids.len());
        self.ids.drain(..dropped);
        self.base = base;
    }
}

/// A node.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) id: NodeId,
    /// It is one of the voters. Else it joins as a learner.
    pub(super) votes: bool,
    /// Counts its processes.
    pub(super) life: u64,
    pub(super) is_up: bool,
    /// Its process is stopped until then. Unit: us.
    pub(super) paused_until_us: u64,
    /// This core of it hangs until then. Unit: us.
    pub(super) hung: Option<(usize, u64)>,
    /// Length of its ticks on the true clock. Unit: us.
    pub(super) tick_us: u64,
    /// Syncs take this many times as long.
    pub(super) slowness: u64,
    /// No room for segments.
    pub(super) disk_is_full: bool,
    /// Preparing a segment takes as long as this at most, as do reads and records. Unit: us.
    pub(super) file_work_us_max: u64,
    /// Its last process died without the host losing power, and no sync had failed: the disk holds all that was stored.
    pub(super) disk_is_whole: bool,
    /// The next sync fails.
    pub(super) next_sync_fails: bool,
    /// Whose directory it has, and whether it may use it.
    pub(super) directory: Directory,
    /// Files are lost without which it must not start.
    pub(super) must_refuse: bool,
    /// Its desks, and the connections of clients.
    pub(super) front: Front,
    pub(super) shards: Vec<ShardHost>,
}

impl Host {
    /// A node that was never started.
    pub(super) fn new(plan: &Plan, number: usize, tick_us: u64) -> Self {
        let shards = (0..plan.shards).map(|shard| {
            let disk = new_disk(plan, number, shard, 0);
            ShardHost {
                replica: None,
                disk: Some(disk),
                repair: repair_of_new_log(plan, number),
                had_fault: false,
                birth: birth_record(plan, number, shard, 0),
                is_wiped: false,
                is_outdated: false,
                is_damaged: false,
                kept: None,
                files: Files::NONE,
                turn_is_due: false,
                linked: BTreeSet::new(),
                on_disk: OnDisk::default(),
                waiting: BTreeMap::new(),
                parts: BTreeMap::new(),
                seen: Seen::default(),
                told_to_stop: None,
                shown_revision: 0,
            }
        });
        Self {
            id: NodeId::new(number as u64 + 1),
            votes: number < plan.voters,
            life: 0,
            is_up: false,
            paused_until_us: 0,
            hung: None,
            tick_us,
            slowness: 1,
            disk_is_full: false,
            file_work_us_max: FILE_WORK_US_MAX,
            disk_is_whole: false,
            next_sync_fails: false,
            directory: Directory::default(),
            must_refuse: false,
            front: Front::new(plan.front, plan.shards),
            shards: shards.collect(),
        }
    }

    /// What names this life of a shard's replica.
    pub(super) const fn raft_life(&self, shard: usize) -> u64 {
        self.life << 8 | shard as u64
    }

    /// Starts the process, by the steps of a real one.
    pub(super) fn start(&mut self, plan: &Plan) -> Result<(), NoStart> {
        self.life += 1;
        let identity = identity_of(plan, CLUSTER, self.id);
        let is_unused = self.shards.iter().all(|shard| shard.files.made == Made::Nothing);
        let is_ready = self.directory.enter(is_unused, &identity)?;
        for number in 0..plan.shards {
            self.settle(plan, number, is_ready)?;
        }
        if !is_ready {
            self.directory.mark_ready(identity)?;
        }
        let mut replicas = Vec::new();
        for number in 0..plan.shards {
            let (options, nonce) = (self.log_options(plan, number), self.raft_life(number as usize));
            let shard = &mut self.shards[number as usize];
            let disk = shard.disk.take().expect("a disk without a replica");
            let log = shard.open(disk, options).map_err(|error| NoStart::Refused(error.to_string()))?;
            let repair = shard.repair.map(|hard_state_is_certain| RepairOptions {
                nonce,
                hard_state_is_certain,
                damage: "simulated".to_owned(),
            });
            let birth = (shard.birth.clone(), nonce);
            let options = replica_options(plan, self.id, self.life, number, repair, birth);
            let begin = AsOf { applied: plan.origin, ..AsOf::EMPTY };
            let machine = match &self.shards[number as usize].kept {
                Some(kept) => kept.restore(options.machine).map_err(NoStart::Refused)?,
                None => StateMachine::at(options.machine, begin).with_section(Box::new(LastAnswers::default())),
            };
            let beats_max = if plan.put_back.is_some() { 0 } else { plan.beats_max };
            let beat = Beat::new(BEAT_MS, beats_max);
            replicas.push(Replica::with_state(options, log, machine).with_proposer(Box::new(beat)));
        }
        for (shard, replica) in self.shards.iter_mut().zip(replicas) {
            shard.on_disk = OnDisk::of(replica.log().storage(), replica.log().base());
            shard.replica = Some(replica);
        }
        self.is_up = true;
        Ok(())
    }

    /// Does what a start decides from what it finds of a shard. What it makes lies ready since the disk is empty.
    fn settle(&mut self, plan: &Plan, number: u32, is_ready: bool) -> Result<(), NoStart> {
        let node = usize::try_from(self.id.get() - 1).expect("few");
        let options = self.log_options(plan, number);
        let shard = &mut self.shards[number as usize];
        match shard.opening(is_ready, options, first_segment(plan)).map_err(NoStart::Refused)? {
            Opening::Open(_) => {}
            Opening::Make => {
                self.directory.step()?;
                shard.files.made = Made::Record;
                self.directory.step()?;
                shard.files.made = Made::Log;
            }
            Opening::MakeSegment(_) => {
                self.directory.step()?;
                shard.files.made = Made::Log;
            }
            Opening::MakeAnew(_) => {
                shard.disk = Some(new_disk(plan, node, number, self.life));
                shard.is_damaged = false;
            }
            Opening::Replace(record) => shard.birth = BirthRecord { stage: Stage::Replaced, ..record },
            Opening::RefuseLogGone => return Err(NoStart::Refused("the log is gone".to_owned())),
            Opening::RefuseRecord(reason) => return Err(NoStart::Refused(reason)),
        }
        Ok(())
    }

    pub(super) fn log_options(&self, plan: &Plan, shard: u32) -> LogOptions {
        let node = usize::try_from(self.id.get() - 1).expect("few");
        let kept = self.shards[shard as usize].kept.as_ref();
        LogOptions {
            identity: identity(plan, node, shard),
            segment_bytes: plan.segment_bytes,
            state: kept.map_or(plan.origin, |kept| kept.as_of.applied),
            state_lineage: kept.map_or(wal::Lineage::START, |kept| kept.lineage),
        }
    }

    /// The process ends; with `power_is_lost` the host does. Returns the requests that nobody answers any more.
    pub(super) fn stop(&mut self, power_is_lost: bool) -> Vec<Attempt> {
        let mut unanswered = self.front.end();
        for shard in &mut self.shards {
            if let Some(replica) = shard.replica.take() {
                shard.had_fault = replica.fault().is_some();
                if !shard.lacks_data() {
                    shard.seen.promised.clear();
                }
                shard.seen.promised.extend(shard.on_disk.claimed_ids(replica.log()));
                let vote = shard.on_disk.claimed_vote(replica.log());
                // What it lost may say more.
                if !shard.lacks_data() || vote.0 > shard.seen.promised_vote.0 {
                    shard.seen.promised_vote = vote;
                }
                let mut disk = replica.into_storage();
                if power_is_lost {
                    shard.shown_revision = 0;
                    disk.crash();
                } else {
                    disk.crash_process();
                }
                shard.disk = Some(disk);
            }
            let Seen { promised, promised_vote, .. } = std::mem::take(&mut shard.seen);
            shard.seen = Seen { promised, promised_vote, ..Seen::default() };
            shard.turn_is_due = false;
            shard.told_to_stop = None;
            shard.linked.clear();
            let own = |(waiter, attempt)| matches!(waiter, Waiter::Own(_)).then_some(attempt);
            unanswered.extend(std::mem::take(&mut shard.waiting).into_iter().filter_map(own));
            shard.parts.clear();
        }
        let no_fault = |shard: &ShardHost| !shard.had_fault;
        self.disk_is_whole = !power_is_lost && self.shards.iter().all(no_fault);
        self.is_up = false;
        self.paused_until_us = 0;
        self.hung = None;
        self.next_sync_fails = false;
        unanswered
    }
}

impl ShardHost {
    /// What a start decides, looking at what is there.
    pub(super) fn opening(
        &mut self,
        is_ready: bool,
        options: LogOptions,
        first: SegmentSeq,
    ) -> Result<Opening, String> {
        let disk = self.disk.as_mut().expect("a disk without a replica");
        self.files.opening(is_ready, &self.birth, self.repair.is_some(), disk, options, first)
    }

    /// Opens the log as the server does: a damaged one is salvaged, and the node is under repair from then on.
    fn open(&mut self, mut disk: SimStorage, options: LogOptions) -> Result<Log<SimStorage>, OpenError> {
        if !std::mem::take(&mut self.is_damaged) {
            return Log::open(disk, options).map(|(log, _)| log);
        }
        let is_corrupt = Log::open(&mut disk, options).is_err_and(|error| error.corruption().is_some());
        if !is_corrupt {
            return Log::open(disk, options).map(|(log, _)| log);
        }
        let fresh = SimStorage::new(options.identity, options.segment_bytes, disk.segments().len() as u64);
        let (mut log, report) = salvage_at_once(&disk, fresh, options).expect("a simulated disk takes what is whole");
        log.storage_mut().sync_note();
        self.repair = Some(self.repair.unwrap_or(true) && report.hard_state_is_certain);
        Ok(log)
    }

    /// A node's own state is never older than what the node once answered from it.
    pub(super) fn check_shown(
        &mut self,
        kind: CallKind,
        result: &Result<Vec<u8>, Refusal>,
        is_relayed: bool,
    ) -> Result<(), String> {
        let Ok(body) = result else { return Ok(()) };
        let revision = Response::decode(body).map_err(|error| error.to_string())?.revision;
        if kind == CallKind::ReadSerializable && revision < self.shown_revision {
            let shown = self.shown_revision;
            return Err(format!(
                "a serializable read is answered at revision {revision}, after this node showed {shown}"
            ));
        }
        if !is_relayed {
            self.shown_revision = self.shown_revision.max(revision);
        }
        Ok(())
    }

    /// Nor would it if it were asked now.
    pub(super) fn check_would_show(&self) -> Result<(), String> {
        let Some(replica) = self.replica.as_ref().filter(|replica| replica.shows_own_state()) else { return Ok(()) };
        let (revision, shown) = (replica.machine().revision().get(), self.shown_revision);
        if revision < shown {
            return Err(format!(
                "a serializable read would be answered at revision {revision}, after this node showed {shown}"
            ));
        }
        Ok(())
    }

    /// What is noted as committed is of no term that a loss of power could take back: the leader of an earlier term, which this node
    /// would follow then, need not have it.
    pub(super) fn check_noted(&self) -> Result<(), String> {
        let Some(replica) = self.replica.as_ref().filter(|_| !self.lacks_data()) else { return Ok(()) };
        let noted = replica.log().noted().committed;
        let (durable_term, _) = self.on_disk.claimed_vote(replica.log());
        if noted.term > durable_term {
            return Err(format!("notes {noted} as committed, and only term {durable_term} is durable"));
        }
        Ok(())
    }

    /// The log claims nothing to be durable that is not on the disk.
    pub(super) fn check_claims(&self) -> Result<(), String> {
        self.replica.as_ref().map_or(Ok(()), |replica| self.on_disk.check_claims(replica.log()))
    }

    /// A message that leaves promises nothing but what is durable: in the log, and in the records beside it.
    pub(super) fn check_promise(&self, node: NodeId, to: NodeId, message: &Message) -> Result<(), String> {
        let Some(replica) = &self.replica else { return Ok(()) };
        let is_about_birth = matches!(message, Message::BirthRequest { .. } | Message::BirthResponse { .. });
        if self.birth.is_new() && !is_about_birth {
            return Err(format!("its record says that it is new, and it says {message:?}"));
        }
        let elects = match message {
            Message::PreVoteResponse { granted, .. } | Message::RequestVoteResponse { granted, .. } => *granted,
            // A round that it confirms keeps a leader in office.
            Message::HeartbeatResponse { round, .. } => *round > 0,
            Message::RequestPreVote { .. }
            | Message::RequestVote { .. }
            | Message::AppendEntries(_)
            | Message::Heartbeat { .. }
            | Message::TimeoutNow { .. } => true,
            _ => false,
        };
        if self.repair.is_some() && elects {
            return Err(format!("its mark says that it is under repair, and it says {message:?}"));
        }
        if let Message::BirthResponse { incarnation, answer, .. } = message
            && (*incarnation != self.birth.incarnation || (*answer == BirthAnswer::New) != self.birth.is_new())
        {
            return Err(format!("its record is {:?}, and it says {message:?}", self.birth));
        }
        self.check_health(message)?;
        self.on_disk.check_promise(node, to, replica.log(), message)
    }

    /// Its replica was told that the node is going to stop.
    pub(super) fn note_told_to_stop(&mut self) {
        let told = self.replica.as_ref().map(|replica| replica.view().term);
        self.told_to_stop = self.told_to_stop.or(told);
    }

    /// A node that is going to stop does not say that it may lead. What it said before may still wait for its disk, so that terms
    /// that began since are judged alone.
    fn check_health(&self, message: &Message) -> Result<(), String> {
        let Message::HeartbeatResponse { term, health, .. } = message else { return Ok(()) };
        match self.told_to_stop {
            Some(told) if health.may_lead && *term > told => {
                Err(format!("it is going to stop, and says in term {term} that it may lead"))
            }
            _ => Ok(()),
        }
    }

    /// It may not have all that it promised.
    pub(super) fn lacks_data(&self) -> bool {
        self.repair.is_some() || self.is_damaged || self.is_wiped || self.is_outdated
    }

    /// It is under repair, runs, and knows its term and vote: it tells others what it knows.
    pub(super) fn is_certain_under_repair(&self) -> bool {
        self.replica.is_some() && self.repair == Some(true) && !self.is_damaged && !self.is_wiped
    }

    /// It may vote.
    pub(super) fn may_vote(&self) -> bool {
        self.repair.is_none() && !self.birth.is_new() && !self.is_outdated
    }

    /// The entry is durable here, or was so when the node went down or lost it.
    pub(super) fn has_promised(&self, id: EntryId) -> bool {
        (self.replica.is_some() && self.on_disk.holds(id)) || self.seen.promised.contains(&id)
    }
}

fn identity(plan: &Plan, node: usize, shard: u32) -> SegmentIdentity {
    SegmentIdentity { cluster_id: CLUSTER, node_id: node as u64 + 1, shard, shard_count: plan.shards }
}

/// The record of a log that is made; `wipes` tells those of one shard on one node apart.
pub(super) fn birth_record(plan: &Plan, node: usize, shard: u32, wipes: u64) -> BirthRecord {
    let incarnation = plan.seed ^ (node as u64 + 1) << 48 ^ u64::from(shard) << 40 ^ wipes;
    if node < plan.voters {
        BirthRecord::of_new_log(incarnation, plan.voters == 1)
    } else {
        // As the server does for a node that joins a cluster which exists.
        BirthRecord { incarnation, stage: Stage::Replaced }
    }
}

/// What is marked beside a log that is made: one of a node that joins is under repair, and its hard state is not known.
pub(super) fn repair_of_new_log(plan: &Plan, node: usize) -> Option<bool> {
    (node >= plan.voters).then_some(false)
}

/// The segment with which all logs begin.
pub(super) fn first_segment(plan: &Plan) -> SegmentSeq {
    SegmentSeq::new(plan.first_segment).expect("a segment number")
}

/// An empty disk with the first segment of a log, as a node has it before it first runs.
pub(super) fn new_disk(plan: &Plan, node: usize, shard: u32, wipes: u64) -> SimStorage {
    let seed = plan.seed ^ (node as u64) << 20 ^ u64::from(shard) << 30 ^ wipes << 50;
    let mut disk = SimStorage::new(identity(plan, node, shard), plan.segment_bytes, seed);
    disk.prepare(first_segment(plan));
    disk.set_absent_one_in(plan.absent_one_in);
    disk
}

fn replica_options(
    plan: &Plan,
    id: NodeId,
    life: u64,
    shard: u32,
    repair: Option<RepairOptions>,
    (birth, nonce): (BirthRecord, u64),
) -> ReplicaOptions {
    let voters = &plan.raft.founders;
    let preferred_leader = plan.prefers_leaders.then(|| voters[shard as usize % voters.len()]);
    let seed = plan.seed ^ life << 40 ^ u64::from(shard) << 52;
    ReplicaOptions {
        raft: raft::Config { id, life: nonce, seed, preferred_leader, ..plan.raft.clone() },
        machine: state_machine::Options {
            command_keys_limit: plan.command_keys_limit,
            ..state_machine::Options::default()
        },
        answer_bytes_limit: plan.limits.answer_bytes_limit + u32::try_from(id.get()).expect("few") * 8,
        pipeline_batches_limit: plan.pipeline_batches_limit,
        batch_bytes_target: plan.batch_bytes_target,
        pending_writes_limit: plan.pending_limit,
        pending_reads_limit: plan.pending_limit.min(plan.limits.pending_reads_limit),
        relayed_limit: plan.pending_limit,
        quota_bytes: plan.limits.quota_bytes,
        uncommitted_bytes_limit: plan.uncommitted_bytes_limit,
        queued_write_bytes_limit: plan.limits.queued_write_bytes_limit,
        command: api::command::Limits { request_bytes: 1 << 20, txn_ops: 128, shard_count: plan.shards },
        apply_bytes_per_turn: plan.apply_bytes_per_turn,
        // Each node cuts its work in its own way, and all must come to the same.
        apply_keys_per_turn: plan.apply_keys_per_turn + id.get() - 1,
        reading: plan.reading,
        slow_disk_ticks: plan.slow_disk_ticks,
        note_idle_ticks: 5,
        note_busy_ticks: 12,
        relay_id_floor: life << 32,
        // Small enough for answers of several parts, in most clusters.
        part_bytes_max: usize::try_from(16 + plan.seed % 100).expect("small"),
        tick_ms: TICK_MS.into(),
        repair,
        birth,
    }
}
