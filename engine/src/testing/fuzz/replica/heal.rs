//! After the nonsense: the node starts again beside two honest ones that know what was committed.

use super::cluster::Cluster;
use super::node::{Disk, NODES, Node};
use super::past::{Entry, Start, entries_of};
use super::story::End;
use super::truth::Truth;
use crate::raft::Role;
use crate::replica::Fault;

/// Ticks within which a cluster of three is whole again. An election takes up to 20.
const HEAL_TICKS: usize = 3000;

/// Ticks in which the honest nodes are watched beside one that was lied to.
const LIED_TO_TICKS: usize = 200;

/// Ticks between two writes that are tried.
const WRITE_EVERY_TICKS: usize = 10;

/// Which node was fuzzed, and how it had started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) number: usize,
    pub(super) start: Start,
}

impl Place {
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
/// else claimed to lead, there are other entries by the same names.
pub(super) fn heal(disks: Vec<Disk>, place: Place, end: &End, committed: &[Entry]) -> Result<(Truth, usize), String> {
    let (number, mut truth) = (place.number, end.truth);
    let left_out = place.is_to_stop().then_some(number);
    let mut cluster = Cluster::start(disks, 9000)?;
    let mut open = None;
    let mut is_done = false;
    for tick in 0..HEAL_TICKS {
        cluster.tick()?;
        if has_namesake(&cluster, number, &end.extra) {
            truth = Truth::LiedTo;
        }
        if truth == Truth::LiedTo && tick >= LIED_TO_TICKS {
            return Ok((truth, tick));
        }
        check_honest(&cluster, place, truth, committed)?;
        if let Some(ticket) = open
            && let Some(answer) = cluster.take_answer(ticket)
        {
            open = None;
            is_done |= answer.is_ok();
        }
        if !is_done && open.is_none() && tick % WRITE_EVERY_TICKS == 0 {
            open = Some(cluster.write(tick / WRITE_EVERY_TICKS % NODES)?);
        }
        let has_stopped = left_out.is_none_or(|number| cluster.nodes.get(number).is_some_and(was_given_up));
        if is_done && has_stopped && cluster.disagreement(left_out).is_none() {
            return Ok((truth, tick));
        }
    }
    let other = "no write is answered, or a log that was given up goes on";
    let reason = cluster.disagreement(left_out).unwrap_or_else(|| other.to_owned());
    Err(format!("a restart does not heal it: after {HEAL_TICKS} ticks {reason}"))
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

fn was_given_up(node: &Node) -> bool {
    matches!(node.replica.fault(), Some(Fault::Outdated(_)))
}

fn check_honest(cluster: &Cluster, place: Place, truth: Truth, committed: &[Entry]) -> Result<(), String> {
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
