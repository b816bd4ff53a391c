//! Logs as earlier terms may have left them: elected leaders that reached some of the others, and then lost their office.
//!
//! Random steps alone rarely get from empty logs to where the interesting conflicts are (thesis figures 3.6 and 3.7). These
//! histories obey Raft's rules, with every vote and entry durable and nothing known to be committed.

use engine::raft::HardState;
use engine::types::{NodeId, Term};

use crate::cluster::node_id;
use crate::sim_log::SimLog;

/// One node at the end of a history: the terms of its entries, and what it voted for last.
#[derive(Clone, Debug, Default)]
struct Past {
    terms: Vec<u64>,
    term: u64,
    vote: Option<NodeId>,
}

impl Past {
    fn last(&self) -> (u64, usize) {
        (self.terms.last().copied().unwrap_or(0), self.terms.len())
    }
}

/// Logs of `count` nodes after one term per number; the number decides who led it and whom its entries reached.
pub fn logs_after(count: usize, numbers: &[u32]) -> Vec<SimLog> {
    let mut nodes = vec![Past::default(); count];
    for (number, term) in numbers.iter().zip(1..) {
        live_through(&mut nodes, *number, term);
    }
    let log = |past: &Past| SimLog::with_terms(&past.terms, HardState { term: Term::new(past.term), vote: past.vote });
    nodes.iter().map(log).collect()
}

/// A term: an election, if the candidate can win it, a few entries, and as many copies of them as get through.
fn live_through(nodes: &mut [Past], number: u32, term: u64) {
    let leader = number as usize % nodes.len();
    let last = nodes[leader].last();
    let voters: Vec<usize> = (0..nodes.len()).filter(|&node| nodes[node].last() <= last).collect();
    if voters.len() <= nodes.len() / 2 {
        return;
    }
    for voter in voters {
        nodes[voter].term = term;
        nodes[voter].vote = Some(node_id(leader as u64 + 1));
    }
    let entries_count = 1 + (number >> 8) as usize % 3;
    nodes[leader].terms.extend(std::iter::repeat_n(term, entries_count));
    let entries = nodes[leader].terms.clone();
    for (at, node) in nodes.iter_mut().enumerate().filter(|(at, _)| *at != leader) {
        let was_reached = number >> (12 + at) & 1 == 1;
        let missing = (number >> 20) as usize % (entries_count + 1);
        if was_reached {
            take(node, &entries[..entries.len() - missing], term);
        }
    }
}

/// A follower takes these entries of the leader: what conflicts is superseded, what agrees is kept.
fn take(node: &mut Past, entries: &[u64], term: u64) {
    if node.term < term {
        node.term = term;
        node.vote = None;
    }
    // Equal terms at equal positions are equal entries, since each term had one leader; all before them is equal too.
    let shared = node.terms.iter().zip(entries).rposition(|(own, other)| own == other).map_or(0, |at| at + 1);
    if shared < entries.len() {
        node.terms = entries.to_vec();
    }
}
