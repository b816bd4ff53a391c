//! What the nodes say of themselves at one moment, and what follows from it: who leads, who lags, who is level.
//!
//! Plain values; `observer` fills them from `status` answers.

/// State of one shard on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ShardState {
    /// Identity of the node.
    pub(super) node_id: u64,
    /// Identity of the leader it knows; 0 = none.
    pub(super) leader: u64,
    pub(super) is_leader: bool,
    pub(super) term: u64,
    pub(super) commit_index: u64,
    pub(super) applied_index: u64,
}

/// Answers of all nodes in one round; None for a node that gave none. Shards are in order of their number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    pub(super) nodes: Vec<Option<Vec<ShardState>>>,
}

impl View {
    /// The node that leads `shard`: of those that say so, the one of the highest term.
    pub(super) fn leader(&self, shard: usize) -> Option<usize> {
        let states = (0..self.nodes.len()).filter_map(|node| Some((node, self.state(node, shard)?)));
        let leaders = states.filter(|(_, state)| state.is_leader);
        leaders.max_by_key(|(_, state)| state.term).map(|(node, _)| node)
    }

    /// Whether every node answers and, for every shard, knows the same leader, which agrees.
    pub(super) fn is_ready(&self, shard_count: usize) -> bool {
        (0..shard_count).all(|shard| {
            let leader = self.leader(shard).and_then(|node| self.state(node, shard));
            leader.is_some_and(|leader| {
                self.states(shard).all(|state| state.is_some_and(|state| state.leader == leader.node_id))
            })
        })
    }

    /// Number of nodes that lead at least one shard.
    pub(super) fn leader_count(&self, shard_count: usize) -> usize {
        let leaders = (0..shard_count).filter_map(|shard| self.leader(shard));
        leaders.collect::<std::collections::BTreeSet<_>>().len()
    }

    /// Highest commit index of each shard on any node but `except`; 0 for a shard nobody answered for.
    pub(super) fn commit_indexes(&self, shard_count: usize, except: Option<usize>) -> Vec<u64> {
        let highest = |shard| {
            let nodes = (0..self.nodes.len()).filter(|&node| Some(node) != except);
            nodes.filter_map(|node| self.state(node, shard)).map(|state| state.commit_index).max().unwrap_or(0)
        };
        (0..shard_count).map(highest).collect()
    }

    /// Whether `node` answers and has applied at least `indexes`, by shard.
    pub(super) fn has_applied(&self, node: usize, indexes: &[u64]) -> bool {
        let mut wanted = indexes.iter().enumerate();
        wanted.all(|(shard, &index)| self.state(node, shard).is_some_and(|state| state.applied_index >= index))
    }

    /// Whether every node answers and has applied exactly what is committed, on every shard.
    pub(super) fn is_level(&self, shard_count: usize) -> bool {
        let committed = self.commit_indexes(shard_count, None);
        (0..shard_count).zip(committed).all(|(shard, index)| {
            self.states(shard).all(|state| state.is_some_and(|state| state.applied_index == index))
        })
    }

    /// Applied indexes as text, for messages: `n1 12, n2 12, n3 none` for each shard.
    pub(super) fn applied_text(&self, shard_count: usize) -> String {
        let of_shard = |shard| {
            let each = self.states(shard).zip(1..).map(|(state, number)| match state {
                Some(state) => format!("n{number} {}", state.applied_index),
                None => format!("n{number} no answer"),
            });
            format!("shard {shard}: {}", each.collect::<Vec<_>>().join(", "))
        };
        (0..shard_count).map(of_shard).collect::<Vec<_>>().join("; ")
    }

    fn state(&self, node: usize, shard: usize) -> Option<&ShardState> {
        self.nodes.get(node)?.as_ref()?.get(shard)
    }

    fn states(&self, shard: usize) -> impl Iterator<Item = Option<&ShardState>> {
        self.nodes.iter().map(move |node| node.as_ref()?.get(shard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Node `node_id`, which follows `leader` in `term` and has committed and applied as given.
    fn state(node_id: u64, leader: u64, term: u64, commit_index: u64, applied_index: u64) -> ShardState {
        ShardState { node_id, leader, is_leader: leader == node_id, term, commit_index, applied_index }
    }

    fn view(states: [Option<ShardState>; 3]) -> View {
        View { nodes: states.into_iter().map(|state| state.map(|state| vec![state])).collect() }
    }

    #[test]
    fn the_leader_of_the_highest_term_leads() {
        let deposed = state(1, 1, 4, 9, 9);
        let elected = state(2, 2, 5, 9, 9);
        let split = view([Some(deposed), Some(elected), Some(state(3, 2, 5, 9, 9))]);
        assert_eq!(split.leader(0), Some(1));
        assert!(!split.is_ready(1), "one node still takes itself for the leader");
        assert_eq!(view([None, None, Some(state(3, 0, 5, 9, 9))]).leader(0), None);
    }

    #[test]
    fn ready_needs_every_node_and_every_shard() {
        let ready = view([Some(state(1, 1, 4, 9, 9)), Some(state(2, 1, 4, 9, 9)), Some(state(3, 1, 4, 9, 8))]);
        assert!(ready.is_ready(1));
        assert!(!ready.is_ready(2));
        let mut one_missing = ready.clone();
        one_missing.nodes[1] = None;
        assert!(!one_missing.is_ready(1));
        assert_eq!(ready.leader_count(1), 1);
    }

    #[test]
    fn level_means_everything_committed_is_applied_everywhere() {
        let behind = view([Some(state(1, 1, 4, 9, 9)), Some(state(2, 1, 4, 9, 9)), Some(state(3, 1, 4, 8, 8))]);
        assert!(!behind.is_level(1));
        assert_eq!(behind.commit_indexes(1, None), [9]);
        assert_eq!(behind.commit_indexes(1, Some(0)), [9]);
        assert!(behind.has_applied(1, &[9]) && !behind.has_applied(2, &[9]) && behind.has_applied(2, &[8]));
        assert!(!behind.has_applied(1, &[9, 0]), "no answer for shard 1");
        let level = view([Some(state(1, 1, 4, 9, 9)), Some(state(2, 1, 4, 9, 9)), Some(state(3, 1, 4, 9, 9))]);
        assert!(level.is_level(1));
        assert_eq!(level.applied_text(1), "shard 0: n1 9, n2 9, n3 9");
    }
}
