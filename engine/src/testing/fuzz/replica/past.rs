//! What happened before the nonsense: a cluster that was born, elected a leader and wrote, all of it honest.

use wal::testing::SimStorage;

use super::cluster::Cluster;
use super::logs::{Logs, SECOND_LOG, first_log};
use super::node::{Disk, NODES, Node, node_id};
use crate::replica::Replica;
use crate::types::{EntryId, Index, NodeId};

/// Writes of the past.
const WRITES: usize = 6;

/// Ticks within which an honest cluster is done with each step.
const PATIENCE_TICKS: usize = 400;

/// A committed entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: EntryId,
    /// Header and payload, as they travel.
    pub(super) bytes: Vec<u8>,
}

/// What was true when the fuzzed node started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    /// What was committed.
    pub(super) committed: &'a [Entry],
    /// The latest revision that a client was told of.
    pub(super) revision: u64,
}

/// The disks of a cluster, and what it committed.
#[derive(Debug)]
pub(super) struct Past {
    /// Every entry, in order; all of them are committed and durable on every node.
    pub(super) entries: Vec<Entry>,
    /// As the nodes have them in the end.
    late: Vec<Disk>,
    /// As they had them half way.
    early: Vec<Disk>,
    /// The leader's, with entries that it told nobody about.
    ahead: Disk,
    leader: usize,
    /// The revision of the last write.
    revision: u64,
    /// Those of nodes that were never started.
    unborn: Vec<Disk>,
    /// As the nodes have them after one lost its directory and was repaired.
    renamed: Vec<Disk>,
    /// Every entry by then, in order.
    renamed_entries: Vec<Entry>,
}

/// The node that lost its directory in the longer past.
const RENAMED: usize = 2;

/// How the node that is going to be fuzzed starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// It has everything.
    Level,
    /// It was away for the second half.
    Behind,
    /// It led, and has entries that nobody else has.
    Ahead,
    /// Its log was lost; it is under repair, and its hard state is certain or not.
    Damaged(bool),
    /// Its whole directory was lost.
    Wiped,
    /// Nobody was ever started.
    Unborn,
    /// It has everything, and the group agreed on the second log of a member that had lost the first one.
    Renamed,
    /// The same, and it is that member with its first log again.
    GivenUp,
}

impl Past {
    /// Lets it happen.
    pub(super) fn new() -> Result<Self, String> {
        let unborn: Vec<Disk> = (0..NODES).map(node_id).map(|id| Disk::new(id, first_log(id))).collect();
        let mut cluster = Cluster::start(unborn.clone(), 1)?;
        let mut early = Vec::new();
        for write in 0..WRITES {
            if write == WRITES / 2 {
                early = cluster.nodes.iter().map(Node::copy_disk).collect();
            }
            settle(&mut cluster)?;
            let ticket = cluster.write(write % NODES)?;
            let mut ticks = 0..PATIENCE_TICKS;
            let answer = ticks.find_map(|_| match cluster.tick() {
                Ok(()) => cluster.take_answer(ticket).map(|answer| answer.map(drop).map_err(|error| error.to_string())),
                Err(error) => Some(Err(error)),
            });
            answer.ok_or("a write of the past is not answered")??;
        }
        settle(&mut cluster)?;
        let leader = cluster.leader().ok_or("the past has no leader")?;
        let entries = entries_of(&cluster.nodes.first().ok_or("no node")?.replica)?;
        let revision = cluster.nodes.first().map_or(0, |node| node.replica.machine().revision().get());
        let late: Vec<Disk> = cluster.nodes.iter().map(Node::copy_disk).collect();
        for _ in 0..2 {
            cluster.write(leader)?;
            let node = cluster.nodes.get_mut(leader).ok_or("no leader")?;
            node.settle()?;
            cluster.drop_mail();
        }
        let ahead = cluster.stop().swap_remove(leader);
        let (renamed, renamed_entries) = renamed(late.clone())?;
        Ok(Self { entries, late, early, ahead, leader, revision, unborn, renamed, renamed_entries })
    }

    /// The disks of all nodes, that of the fuzzed one as it starts; and which node that is.
    pub(super) fn disks(&self, start: Start, choice: usize) -> Result<(Vec<Disk>, usize), String> {
        let number = match start {
            Start::Ahead => self.leader,
            Start::GivenUp => RENAMED,
            _ => choice % NODES,
        };
        let mut disks = match start {
            Start::Unborn => self.unborn.clone(),
            Start::Renamed | Start::GivenUp => self.renamed.clone(),
            _ => self.late.clone(),
        };
        let old = disks.get_mut(number).ok_or("no such node")?;
        match start {
            Start::Level | Start::Unborn | Start::Renamed => {}
            Start::Behind => old.clone_from(self.early.get(number).ok_or("no such node")?),
            Start::Ahead => old.clone_from(&self.ahead),
            Start::GivenUp => old.clone_from(self.late.get(number).ok_or("no such node")?),
            Start::Damaged(is_certain) => *old = damaged(node_id(number), old, is_certain)?,
            Start::Wiped => *old = Disk::new(node_id(number), SECOND_LOG),
        }
        Ok((disks, number))
    }

    /// What is committed when the fuzzed node starts.
    pub(super) fn committed(&self, start: Start) -> &[Entry] {
        match start {
            Start::Unborn => &[],
            Start::Renamed | Start::GivenUp => &self.renamed_entries,
            _ => &self.entries,
        }
    }

    /// What is known when the fuzzed node starts.
    pub(super) fn known(&self, start: Start) -> Known<'_> {
        let revision = if start == Start::Unborn { 0 } else { self.revision };
        Known { committed: self.committed(start), revision }
    }

    /// Which log each member has, of which node `number` is the fuzzed one.
    pub(super) fn logs(start: Start, number: usize) -> Logs {
        match start {
            Start::Wiped => Logs::first().with(node_id(number), SECOND_LOG),
            Start::Renamed | Start::GivenUp => Logs::first().with(node_id(RENAMED), SECOND_LOG),
            _ => Logs::first(),
        }
    }
}

/// One node loses its directory, and the others give everything back.
fn renamed(mut disks: Vec<Disk>) -> Result<(Vec<Disk>, Vec<Entry>), String> {
    *disks.get_mut(RENAMED).ok_or("no such node")? = Disk::new(node_id(RENAMED), SECOND_LOG);
    let mut cluster = Cluster::start(disks, 2)?;
    settle(&mut cluster)?;
    let entries = entries_of(&cluster.nodes.first().ok_or("no node")?.replica)?;
    let is_named = cluster.nodes.iter().all(|node| {
        let members = node.replica.log().members();
        members.windows(8).any(|number| number == SECOND_LOG.to_le_bytes())
    });
    let disks = cluster.stop();
    if is_named { Ok((disks, entries)) } else { Err("the group did not agree on the second log".to_owned()) }
}

fn settle(cluster: &mut Cluster) -> Result<(), String> {
    let mut ticks = 0..PATIENCE_TICKS;
    let level = ticks.find_map(|_| match cluster.tick() {
        Ok(()) => (cluster.leader().is_some() && cluster.disagreement(None).is_none()).then_some(Ok(())),
        Err(error) => Some(Err(error)),
    });
    level.ok_or("the past has no end")?
}

/// All entries of a log.
pub(super) fn entries_of(replica: &Replica<SimStorage>) -> Result<Vec<Entry>, String> {
    let log = replica.log();
    let entry = |index: u64| {
        let entry = log.entry(Index::new(index)).map_err(|error| error.to_string())?;
        let entry = entry.ok_or_else(|| format!("entry {index} is not in the log"))?;
        entry.verify().map_err(|error| format!("entry {index}: {error}"))?;
        Ok(Entry { id: entry.id(), bytes: entry.bytes().to_vec() })
    };
    (1..=log.last_id().index.get()).map(entry).collect()
}

/// A new log in the place of one that was lost.
fn damaged(id: NodeId, old: &Disk, is_certain: bool) -> Result<Disk, String> {
    let hard_state = Disk::open(old.storage.clone(), id)?.hard_state();
    let mut fresh = Disk::new(id, 0);
    fresh.repair = Some(is_certain);
    fresh.birth = old.birth.clone();
    if is_certain {
        let mut log = Disk::open(fresh.storage, id)?;
        log.append_hard_state(hard_state).map_err(|error| error.to_string())?;
        while let Some(request) = log.next_sync() {
            log.storage_mut().sync(&request);
            log.on_synced(request.id, Ok(()));
        }
        fresh.storage = log.into_storage();
        fresh.storage.crash_process();
    }
    Ok(fresh)
}
