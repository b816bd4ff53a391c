//! After the nonsense: the node starts again beside two honest ones that know what was committed.

use super::cluster::Cluster;
use super::node::{Disk, NODES, Node, node_id};
use super::past::{Entry, Known, Start, entries_of};
use super::reads::Freshness;
use super::story::End;
use super::truth::Truth;
use crate::raft::Role;
use crate::replica::Fault;
use crate::types::{EntryId, Index};

/// Ticks within which a cluster of three is whole again. An election takes up to 20.
const HEAL_TICKS: usize = 3000;

/// Ticks in which the honest nodes are watched beside one that was lied to.
const LIED_TO_TICKS: usize = 200;

/// Ticks between two writes that are tried.
const WRITE_EVERY_TICKS: usize = 10;

/// Ticks between two reads at each node.
const READ_EVERY_TICKS: usize = 4;

/// Ticks for which a node is cut off. The others elect a leader meanwhile, and commit.
const CUT_OFF_TICKS: usize = 60;

/// Which node was fuzzed, how it had started, and what the cluster has to cope with afterwards.
#[derive(Clone, Copy, Debug)]
pub(super) struct TrialPlace {
    pub(super) number: usize,
    pub(super) start: Start,
    pub(super) trial: Trial,
}

/// What the cluster has to cope with once it starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trial {
    Nothing,
    /// The node that was fuzzed is cut off from the others for a while.
    FuzzedCutOff,
    /// Once a write is committed the leader is cut off for a while.
    LeaderCutOff,
}

impl Trial {
    pub(super) fn of(choice: usize) -> Self {
        match choice % 4 {
            2 => Self::FuzzedCutOff,
            3 => Self::LeaderCutOff,
            _ => Self::Nothing,
        }
    }
}

impl TrialPlace {
    /// Its log had been given up before any nonsense: it is to stop.
    fn is_to_stop(self) -> bool {
        self.start == Start::GivenUp
    }
}

/// Runs the cluster on these disks, that of node `place` after the nonsense. Returns how many ticks it took.
///
/// With a clean truth a write is committed and all nodes get level, without any of them stopping; but one whose log had been given up
/// stops, and leads nobody. In any case no honest node loses what was committed: rather it stops.
///
/// Returns the truth, too, for it may show only now that the node was lied to: if somebody is elected in the very term that somebody
/// else claimed to lead, there are other entries by the same names; and if somebody commits in an earlier term, a node that was away
/// meanwhile brings entries that exclude these.
pub(super) fn heal(disks: Vec<Disk>, place: TrialPlace, end: &End, known: Known<'_>) -> Result<(Truth, usize), String> {
    let (number, mut truth) = (place.number, end.truth);
    let left_out = place.is_to_stop().then_some(number);
    let mut course = Course::new(Cluster::start(disks, 9000)?, known.revision);
    if place.trial == Trial::FuzzedCutOff {
        course.cut_off(number, 0);
    }
    for tick in 0..HEAL_TICKS {
        course.tick(tick)?;
        if has_namesake(&course.cluster, number, &end.extra) || has_rival(&course.cluster, number, end, known.committed)
        {
            truth = Truth::LiedTo;
        }
        if truth == Truth::LiedTo && tick >= LIED_TO_TICKS {
            return Ok((truth, tick));
        }
        check_honest(&course.cluster, place, truth, known.committed)?;
        course.take_answers(truth)?;
        let is_to_be_cut = course.is_done && place.trial == Trial::LeaderCutOff && course.cut_off_until.is_none();
        if is_to_be_cut && let Some(leader) = course.cluster.leader() {
            course.cut_off(leader, tick);
        }
        let cluster = &course.cluster;
        let has_stopped = left_out.is_none_or(|number| cluster.nodes.get(number).is_some_and(was_given_up));
        if course.is_done && has_stopped && cluster.cut_off.is_none() && cluster.disagreement(left_out).is_none() {
            return Ok((truth, tick));
        }
    }
    let other = "no write is answered, or a log that was given up goes on";
    let reason = course.cluster.disagreement(left_out).unwrap_or_else(|| other.to_owned());
    Err(format!("a restart does not heal it: after {HEAL_TICKS} ticks {reason}"))
}

/// A cluster with clients that write and read.
#[derive(Debug)]
struct Course {
    cluster: Cluster,
    reads: Freshness,
    /// The write that is under way.
    open: Option<u64>,
    /// A write was answered, since the last time that a node was cut off.
    is_done: bool,
    cut_off_until: Option<usize>,
}

impl Course {
    fn new(cluster: Cluster, revision: u64) -> Self {
        Self { cluster, reads: Freshness::new(revision), open: None, is_done: false, cut_off_until: None }
    }

    fn cut_off(&mut self, number: usize, tick: usize) {
        assert!(number < NODES && self.cluster.cut_off.is_none(), "one node at a time is cut off, not {number} too");
        self.cluster.cut_off = Some(node_id(number));
        self.cut_off_until = Some(tick + CUT_OFF_TICKS);
        self.is_done = false;
    }

    fn tick(&mut self, tick: usize) -> Result<(), String> {
        if self.cut_off_until.is_some_and(|until| until == tick) {
            assert!(self.cluster.cut_off.is_some(), "only who was cut off is heard again");
            self.cluster.cut_off = None;
        }
        if !self.is_done && self.open.is_none() && tick.is_multiple_of(WRITE_EVERY_TICKS) {
            self.open = Some(self.cluster.write(tick / WRITE_EVERY_TICKS % NODES)?);
        }
        if tick.is_multiple_of(READ_EVERY_TICKS) {
            self.reads.ask(&mut self.cluster)?;
        }
        self.cluster.tick()
    }

    /// What a node that was lied to answers is not looked at, nor what others answer whom it may lead.
    fn take_answers(&mut self, truth: Truth) -> Result<(), String> {
        if let Some(ticket) = self.open
            && let Some(answer) = self.cluster.take_answer(ticket)
        {
            self.open = None;
            if let Ok(answer) = answer {
                self.is_done = true;
                if truth == Truth::Clean {
                    self.reads.on_written(ticket.to_le_bytes().to_vec(), &answer)?;
                }
            }
        }
        if truth == Truth::Clean { self.reads.check(&mut self.cluster) } else { Ok(()) }
    }
}

/// An honest node has another entry by the name of one that the fuzzed node brought along.
fn has_namesake(cluster: &Cluster, number: usize, extra: &[Entry]) -> bool {
    let honest = cluster.nodes.iter().enumerate().filter(|(at, _)| *at != number);
    honest.map(|(_, node)| node.replica.log()).any(|log| {
        extra.iter().any(|ours| {
            let theirs = log.entry(ours.id.index).ok().flatten();
            theirs.is_some_and(|theirs| theirs.id() == ours.id && theirs.bytes() != ours.bytes)
        })
    })
}

/// The honest nodes committed something else, in a term not later than that of the last entry that the fuzzed node brought along. The
/// leader of a term is known to a quorum, which elects nobody in an earlier term any more: so no leader made that entry.
fn has_rival(cluster: &Cluster, number: usize, end: &End, committed: &[Entry]) -> bool {
    let Some(last) = end.extra.last() else { return false };
    let honest = cluster.nodes.iter().enumerate().filter(|(at, _)| *at != number);
    honest.map(|(_, node)| &node.replica).any(|replica| {
        let behind = committed.len() as u64 + 1..=replica.view().commit_index.get();
        let mut ids = behind.map(Index::new).filter_map(|index| Some(EntryId::new(replica.log().term(index)?, index)));
        ids.any(|id| id.term <= last.id.term && end.extra.iter().all(|ours| ours.id != id))
    })
}

fn was_given_up(node: &Node) -> bool {
    matches!(node.replica.fault(), Some(Fault::Outdated(_)))
}

fn check_honest(cluster: &Cluster, place: TrialPlace, truth: Truth, committed: &[Entry]) -> Result<(), String> {
    for (at, node) in cluster.nodes.iter().enumerate() {
        let is_fuzzed = at == place.number;
        let is_to_stop = is_fuzzed && place.is_to_stop();
        if is_to_stop && truth == Truth::Clean && node.replica.view().role == Role::Leader {
            return Err(format!("node {} leads with a log that was given up", node.id));
        }
        match node.replica.fault() {
            Some(fault) if truth == Truth::Clean && !(is_to_stop && was_given_up(node)) => {
                return Err(format!("node {} stops although nobody was lied to: {fault}", node.id));
            }
            // Somebody asked in another node's name to be repaired, and the group gave that one's log up.
            Some(Fault::Contradiction(_) | Fault::Outdated(_)) => {}
            Some(fault) => return Err(format!("node {} stops: {fault}", node.id)),
            None if !is_fuzzed => check_keeps(node, committed)?,
            None => {}
        }
    }
    Ok(())
}

/// An honest node has what was committed.
fn check_keeps(node: &Node, committed: &[Entry]) -> Result<(), String> {
    let log = node.replica.log();
    let is_kept = committed.iter().all(|entry| log.term(entry.id.index) == Some(entry.id.term));
    if is_kept {
        return Ok(());
    }
    let held: Vec<_> = entries_of(&node.replica)?.iter().map(|entry| entry.id).collect();
    Err(format!("node {} lost what was committed, and does not say so: {held:?}", node.id))
}
