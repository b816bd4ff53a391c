//! Raft's safety properties (thesis figure 3.2) on every step, equal states at equal indexes, and hand-overs to those who said that
//! they could take over. Knows logs and claims of replicas; nothing of clients, faults or intentions.

use std::collections::BTreeMap;

use wal::Log;
use wal::testing::SimStorage;

use super::host::{Host, Seen, ShardHost};
use crate::raft::{Health, Message, Progress, ProgressState, Role};
use crate::replica::{Fault, Outgoing, Replica};
use crate::types::{EntryId, Index, NodeId, Term};
use crate::wire::Incoming;

/// A state's hash is taken where this divides the index: walking the whole state at each would take most of the time.
const DIGEST_EVERY: u64 = 16;

/// What has been claimed in one shard so far.
#[derive(Debug, Default)]
pub(super) struct ShardChecks {
    /// Who led each term.
    leaders: BTreeMap<Term, NodeId>,
    /// What precedes each entry, and its checksum: equal ids must be equal entries with equal histories.
    entries: BTreeMap<EntryId, (EntryId, [u8; 4])>,
    /// Every entry that any node took for committed, in order, with the term that it was committed in.
    committed: Vec<(EntryId, Term)>,
    /// State at an index.
    digests: BTreeMap<Index, (u64, NodeId)>,
    /// The entry that all logs of the run began after.
    origin: EntryId,
    /// A node was made to forget what it promised: from then on only what each node may do by itself is checked.
    pub(super) is_broken: bool,
}

fn voters_of(hosts: &[Host]) -> impl Iterator<Item = &Host> {
    hosts.iter().filter(|host| host.votes)
}

/// Nobody who lacks a committed entry can be elected: a quorum has logs that are more up to date than his. Finds what was
/// committed too early (thesis figure 3.7) although its loss would take further faults. Nodes that are down count as neither.
fn check_cannot_be_lost(hosts: &[Host], shard: usize, committed: Option<EntryId>) -> Result<(), String> {
    let Some(id) = committed else { return Ok(()) };
    let may_vote = |host: &&Host| host.votes && host.shards[shard].may_vote();
    let logs = || hosts.iter().filter(may_vote).filter_map(|host| host.shards[shard].replica.as_ref());
    for lacking in logs().filter(|replica| !has_committed(replica.log(), id)) {
        let last = lacking.log().last_id();
        let voters = logs().filter(|voter| last >= voter.log().last_id()).count();
        if voters > voters_of(hosts).count() / 2 {
            return Err(format!("{id} is committed, but a log that ends at {last} without it can win an election"));
        }
    }
    Ok(())
}

/// Whoever leads a later term already has what is committed only now.
fn check_later_leaders(hosts: &[Host], shard: usize, committed: Option<EntryId>, term: Term) -> Result<(), String> {
    let Some(id) = committed else { return Ok(()) };
    for host in hosts {
        let Some(replica) = &host.shards[shard].replica else { continue };
        let view = replica.view();
        if view.role == Role::Leader && view.term > term && !has_committed(replica.log(), id) {
            let (node, later) = (host.id, view.term);
            return Err(format!(
                "leader completeness: {id} is committed in term {term}, {node} leads {later} without it"
            ));
        }
    }
    Ok(())
}

/// Whether a log has an entry that is committed. What it dropped it had.
fn has_committed(log: &Log<SimStorage>, id: EntryId) -> bool {
    id.index < log.base().index || log.term(id.index) == Some(id.term)
}

impl ShardChecks {
    pub(super) fn new(origin: EntryId) -> Self {
        Self { origin, ..Self::default() }
    }

    pub(super) fn leaders_count(&self) -> usize {
        self.leaders.len()
    }

    pub(super) fn committed_count(&self) -> usize {
        self.committed.len()
    }

    /// A node whose repair ends has got back everything that it promised and that may count: what is committed, and what the leader
    /// of its own term has.
    pub(super) fn check_repaired(&self, node: NodeId, shard: &ShardHost) -> Result<(), String> {
        if shard.replica.is_none() || self.is_broken {
            return Ok(());
        }
        for id in shard.seen.promised.iter().filter(|id| !shard.on_disk.holds(**id)) {
            let position = position_behind(self.origin, id.index)?;
            if position.checked_sub(1).and_then(|at| self.committed.get(at)).is_some_and(|(known, _)| known == id) {
                return Err(format!("is repaired without {id}, which it acknowledged and which is committed"));
            }
            if id.term >= shard.on_disk.term {
                return Err(format!("is repaired in term {} without {id}, which it acknowledged", shard.on_disk.term));
            }
        }
        let (term, vote) = shard.seen.promised_vote;
        if vote == node.get() {
            // Its candidacy ended with the process that forgot it: whoever votes for that elects nobody.
            return Ok(());
        }
        let keeps_vote = vote == 0 || [vote, node.get()].contains(&shard.on_disk.vote);
        if shard.on_disk.term < term || (shard.on_disk.term == term && !keeps_vote) {
            let (now, vote_now) = (shard.on_disk.term, shard.on_disk.vote);
            return Err(format!(
                "is repaired in term {now} with a vote for {vote_now}, and had told {term} and {vote}"
            ));
        }
        Ok(())
    }

    /// Looks at the replica of `shard` on `hosts[at]` after something happened to it.
    pub(super) fn observe(&mut self, hosts: &mut [Host], at: usize, shard: usize) -> Result<(), String> {
        let node = hosts[at].id;
        let mut seen = std::mem::take(&mut hosts[at].shards[shard].seen);
        let outcome = match &hosts[at].shards[shard].replica {
            Some(replica) => self.check(hosts, node, shard, replica, &mut seen),
            None => Ok(()),
        };
        hosts[at].shards[shard].seen = seen;
        outcome.map_err(|what| format!("node {} shard {shard}: {what}", at + 1))
    }

    fn check(
        &mut self,
        hosts: &[Host],
        node: NodeId,
        shard: usize,
        replica: &Replica<SimStorage>,
        seen: &mut Seen,
    ) -> Result<(), String> {
        // What lies before the log is committed and applied from the start.
        let base_index = replica.log().base().index;
        seen.commit_index = seen.commit_index.max(base_index);
        self.check_entries(replica, seen)?;
        let view = replica.view();
        if let (false, Some(Fault::Contradiction(contradiction))) = (self.is_broken, replica.fault()) {
            return Err(format!("nobody forgot anything, but {contradiction}"));
        }
        if self.is_broken {
            seen.commit_index = view.commit_index;
            return Ok(());
        }
        let role = (view.role, view.term);
        let is_voter = voters_of(hosts).any(|host| host.id == node);
        if view.role != Role::Follower && !is_voter {
            return Err(format!("is a learner, and {:?}", view.role));
        }
        if view.role == Role::Leader && seen.role != Some(role) {
            self.check_leader(node, view.term, replica)?;
        }
        seen.role = Some(role);
        if view.commit_index > seen.commit_index {
            let is_leader = view.role == Role::Leader;
            self.check_commit(hosts, shard, seen.commit_index, view.commit_index, view.term, is_leader, replica)?;
        } else if view.commit_index < seen.commit_index {
            return Err(format!("takes back what was committed: {} after {}", view.commit_index, seen.commit_index));
        }
        seen.commit_index = view.commit_index;
        if let Some(told_at) = view.transfer.and_then(|transfer| transfer.told_at)
            && view.last_index > told_at
        {
            let last = view.last_index;
            return Err(format!("appended {last} after its successor was told to take over at {told_at}"));
        }
        if view.applied_index > view.commit_index {
            return Err(format!("applied {} and committed {}", view.applied_index, view.commit_index));
        }
        if view.applied_index > seen.applied_index && view.applied_index.get().is_multiple_of(DIGEST_EVERY) {
            self.check_digest(node, replica)?;
        }
        seen.applied_index = view.applied_index;
        Ok(())
    }

    /// Log matching: entries with equal ids are equal, and so is everything before them.
    fn check_entries(&mut self, replica: &Replica<SimStorage>, seen: &mut Seen) -> Result<(), String> {
        let log = replica.log();
        let last = log.last_id();
        let base = log.base();
        seen.drop_to(base);
        let known = position_behind(base, last.index)?;
        let index_at = |position: usize| base.index.plus(position as u64);
        if seen.ids.len() == known && seen.ids.last().is_none_or(|id| *id == last) {
            return Ok(());
        }
        // Backwards to where nothing is new: a suffix may have been superseded.
        let mut first_new = known;
        while first_new > 0 {
            let index = index_at(first_new);
            let term = log.term(index).ok_or_else(|| format!("has no entry at {index} before its last, {last}"))?;
            if seen.ids.get(first_new - 1) == Some(&EntryId::new(term, index)) {
                break;
            }
            first_new -= 1;
        }
        let committed = position_behind(base, seen.commit_index)?;
        if first_new < seen.ids.len() && first_new < committed {
            return Err(format!(
                "supersedes {}, and knew entries up to {} to be committed",
                seen.ids[first_new], seen.commit_index
            ));
        }
        seen.ids.truncate(first_new);
        for number in first_new + 1..=known {
            let index = index_at(number);
            let entry = log.entry(index).map_err(|error| error.to_string())?.ok_or("an entry is gone")?;
            entry.verify().map_err(|error| format!("entry {} in the log: {error}", entry.id()))?;
            let id = entry.id();
            let before = seen.ids.last().copied().unwrap_or(base);
            let checksum = *entry.header().as_bytes().first_chunk().ok_or("a header without a checksum")?;
            let found = *self.entries.entry(id).or_insert((before, checksum));
            if found != (before, checksum) && !self.is_broken {
                return Err(format!("log matching: entry {id} follows {before} here and {} elsewhere", found.0));
            }
            seen.ids.push(id);
        }
        Ok(())
    }

    /// Election safety; leader completeness: a leader has everything that was committed in earlier terms.
    fn check_leader(&mut self, node: NodeId, term: Term, replica: &Replica<SimStorage>) -> Result<(), String> {
        let known = *self.leaders.entry(term).or_insert(node);
        if known != node {
            return Err(format!("election safety: {known} leads term {term} too"));
        }
        let earlier = self.committed.iter().rev().find(|(_, committed_in)| *committed_in < term);
        match earlier {
            Some((last, _)) if !has_committed(replica.log(), *last) => {
                Err(format!("leader completeness: leads term {term} without the committed entry {last}"))
            }
            _ => Ok(()),
        }
    }

    /// State machine safety; and whatever a leader commits is durable on a quorum, or was when it was acknowledged.
    #[expect(clippy::too_many_arguments, reason = "what was committed, by whom, and what it is held against")]
    fn check_commit(
        &mut self,
        hosts: &[Host],
        shard: usize,
        from: Index,
        to: Index,
        term: Term,
        is_leader: bool,
        replica: &Replica<SimStorage>,
    ) -> Result<(), String> {
        for index in (from.get() + 1..=to.get()).map(Index::new) {
            let entry_term = replica.log().term(index).ok_or_else(|| format!("committed {index} without having it"))?;
            let id = EntryId::new(entry_term, index);
            let at = position_behind(self.origin, index)? - 1;
            match self.committed.get(at) {
                Some((known, _)) if *known != id => {
                    return Err(format!("state machine safety: committed {id}, but {known} is"));
                }
                Some(_) => {}
                None => {
                    let holders = voters_of(hosts).filter(|host| host.shards[shard].has_promised(id)).count();
                    let voters_count = voters_of(hosts).count();
                    if holders <= voters_count / 2 {
                        return Err(format!("committed {id}, durable on {holders} of {voters_count} voters"));
                    }
                    if !is_leader && at != self.committed.len() {
                        return Err(format!("a follower committed {id} before any leader did"));
                    }
                    self.committed.push((id, term));
                }
            }
        }
        let last = replica.log().term(to).map(|term| EntryId::new(term, to));
        check_later_leaders(hosts, shard, last, term)?;
        check_cannot_be_lost(hosts, shard, last)
    }

    /// Equal states at equal indexes.
    pub(super) fn check_digest(&mut self, node: NodeId, replica: &Replica<SimStorage>) -> Result<(), String> {
        let (index, digest) = (replica.machine().applied_index(), replica.machine().digest());
        let (known, first) = *self.digests.entry(index).or_insert((digest, node));
        if known == digest {
            return Ok(());
        }
        Err(format!("state at index {index} differs from that of node {first}"))
    }
}

/// Position of an entry in a log: 0 for the entry that the log begins after.
fn position_behind(base: EntryId, index: Index) -> Result<usize, String> {
    let position = index.get().checked_sub(base.index.get()).ok_or_else(|| format!("{index} lies before {base}"))?;
    usize::try_from(position).map_err(|_| "a log without bounds".to_owned())
}

/// What found no room on the connection does not count as sent, unless the follower has said that it arrived.
pub(super) fn check_unsent(replica: &Replica<SimStorage>, unsent: (NodeId, Index)) -> Result<(), String> {
    let (to, prev_index) = unsent;
    // A probe counts on nothing that was sent before it.
    let replicates = |progress: &&Progress| progress.state() == ProgressState::Replicate;
    let Some(progress) = replica.progress_of(to).filter(replicates) else { return Ok(()) };
    let sent_index = prev_index.max(progress.received_index()).max(progress.match_index());
    if progress.next_index() > sent_index.next() {
        let next_index = progress.next_index();
        return Err(format!("entries behind {prev_index} to node {to} did not leave, but {next_index} is sent next"));
    }
    Ok(())
}

/// What followers told the leaders of each shard: leader (from 0), shard, term, follower.
#[derive(Debug, Default)]
pub(super) struct HandOverChecks {
    reports: BTreeMap<(usize, usize, Term, NodeId), Health>,
}

impl HandOverChecks {
    /// A follower tells a node how it is, which leads that term, if any. `at` is the node's place: from 0, and the shard.
    pub(super) fn note_report(
        &mut self,
        at: (usize, usize),
        from: NodeId,
        leads: Option<Term>,
        incoming: &Incoming<'_>,
    ) {
        if let Incoming::Message(_, Message::HeartbeatResponse { term, health, .. }) = incoming
            && leads == Some(*term)
        {
            self.reports.insert((at.0, at.1, *term, from), *health);
        }
    }

    /// Whoever is told to take over said last that it could.
    pub(super) fn check_successor(&self, at: (usize, usize), to: NodeId, message: &Outgoing) -> Result<(), String> {
        let Outgoing::Raft(Message::TimeoutNow { term, .. }) = message else { return Ok(()) };
        let report = self.reports.get(&(at.0, at.1, *term, to));
        match report {
            Some(Health { may_lead: true, has_room: true, disk_keeps_up: true, .. }) => Ok(()),
            report => Err(format!("node {} tells {to} to take over, which said {report:?}", at.0 + 1)),
        }
    }
}
