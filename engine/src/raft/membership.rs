//! Who the members of a group are, who of them votes, what a quorum is, and which log of each member counts.
//!
//! A membership is the payload of an entry of the log (`docs/format/members.md`); `membership_history` keeps those of the past. Two sets
//! of voters stand side by side while one takes over from the other (joint consensus, thesis 4.3): both must agree to everything. Nothing
//! proposes such a change yet. Learners get all entries and count in no quorum (thesis 4.2.1).

use std::collections::BTreeMap;

use codec::{DecodeError, Reader};

use crate::limits::MEMBERS_MAX;
use crate::types::{Index, NodeId};

/// Version of the encoding.
const VERSION: u32 = 1;

/// Longest encoding. Unit: bytes.
pub(crate) const MEMBERSHIP_BYTES_MAX: usize = 8 + MEMBERS_MAX * 32;

/// A role of a member: it votes. A member without any is a learner.
const ROLE_VOTER: u64 = 1;

/// A role of a member: it votes until a change of voters is complete.
const ROLE_OUTGOING_VOTER: u64 = 2;

const ROLES_ALL: u64 = ROLE_VOTER | ROLE_OUTGOING_VOTER;

/// The log of a member that counts: the only one whose messages the group accepts from it. See `membership_history`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// Drawn when the log was made. Never 0.
    pub(crate) incarnation: u64,
    /// The entry that said so first.
    pub(crate) since: Index,
}

/// The members of one Raft group.
///
/// Invariant: at least one voter; each list is sorted, without repetition; learners vote in no set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    voters: Vec<NodeId>,
    /// The voters before, while these are taking over; else empty.
    outgoing: Vec<NodeId>,
    learners: Vec<NodeId>,
    /// The logs that the group agreed on, of members that lost an earlier one. Any log of another member counts.
    named: BTreeMap<NodeId, Named>,
}

impl Membership {
    /// The membership of these voters. Panics when there is none or one is named twice.
    #[must_use]
    pub fn new(mut voters: Vec<NodeId>) -> Self {
        assert!(!voters.is_empty(), "a Raft group needs a voter");
        voters.sort_unstable();
        assert!(voters.windows(2).all(|pair| pair[0] != pair[1]), "a voter is named twice: {voters:?}");
        Self { voters, outgoing: Vec::new(), learners: Vec::new(), named: BTreeMap::new() }
    }

    /// The same members, of which one has another log from entry `since` on.
    #[must_use]
    pub fn with_named(&self, id: NodeId, incarnation: u64, since: Index) -> Self {
        assert!(incarnation != 0 && since > Index::ZERO, "entry {since} names the log {incarnation:x} of node {id}");
        assert!(
            self.named(id).is_none_or(|before| before.since < since),
            "a log of node {id} is named twice at {since}"
        );
        let mut next = self.clone();
        next.named.insert(id, Named { incarnation, since });
        next
    }

    /// The same members and one learner more, whose log counts from entry `since` on.
    ///
    /// Panics if it is a member already, or there are too many (`has_place`).
    #[must_use]
    pub fn with_learner(&self, id: NodeId, incarnation: u64, since: Index) -> Self {
        assert!(!self.is_member(id), "node {id} is a member already");
        assert!(self.has_place(), "a group has at most {MEMBERS_MAX} members");
        let mut next = self.clone();
        next.learners.push(id);
        next.learners.sort_unstable();
        next.with_named(id, incarnation, since)
    }

    /// The same members without the logs that were named by entries after `base`, and without the learners that joined by these entries.
    #[must_use]
    pub(super) fn known_at(mut self, base: Index) -> Self {
        let named = &self.named;
        self.learners.retain(|id| named.get(id).is_none_or(|named| named.since <= base));
        self.named.retain(|_, named| named.since <= base);
        self
    }

    /// The voters, in ascending order; those that are taking over while the voters change.
    #[must_use]
    pub fn voters(&self) -> &[NodeId] {
        &self.voters
    }

    /// Everybody who votes, in either set; in ascending order, each once.
    #[must_use]
    pub(crate) fn all_voters(&self) -> Vec<NodeId> {
        let mut all = [&self.voters[..], &self.outgoing].concat();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Everybody who gets entries; in ascending order, each once.
    #[must_use]
    pub(crate) fn all_members(&self) -> Vec<NodeId> {
        let mut all = [self.all_voters(), self.learners.clone()].concat();
        all.sort_unstable();
        all
    }

    /// Whether `id` votes.
    #[must_use]
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.voters.binary_search(&id).is_ok() || self.outgoing.binary_search(&id).is_ok()
    }

    /// Whether `id` gets entries.
    #[must_use]
    pub(crate) fn is_member(&self, id: NodeId) -> bool {
        self.is_voter(id) || self.learners.binary_search(&id).is_ok()
    }

    /// Whether there may be one member more.
    #[must_use]
    pub(super) fn has_place(&self) -> bool {
        self.all_members().len() < MEMBERS_MAX
    }

    /// The log of this member that the group agreed on, if it ever had to.
    #[must_use]
    pub(crate) fn named(&self, id: NodeId) -> Option<Named> {
        self.named.get(&id).copied()
    }

    /// Whether entry `index` may give these roles where those of `before` were in force: the same nodes vote, and no member is gone. If it
    /// adds a learner, it names that learner's log. A learner that joined before this log's base may be news to this node (`known_at`).
    #[must_use]
    pub(crate) fn keeps_roles_of(&self, before: &Self, index: Index, base: Index) -> bool {
        let is_kept = |id: &NodeId| before.learners.binary_search(id).is_ok();
        let is_news = |named: Named| named.since == index || named.since <= base;
        let joins = |id: &NodeId| !before.is_member(*id) && self.named(*id).is_some_and(is_news);
        let voters_stay = self.voters == before.voters && self.outgoing == before.outgoing;
        let learners_stay = before.learners.iter().all(|id| self.learners.binary_search(id).is_ok());
        voters_stay && learners_stay && self.learners.iter().all(|id| is_kept(id) || joins(id))
    }

    /// True if entry `index` may hold this membership: it names exactly one log as of itself, and all others as of entries before it. An
    /// entry that names nothing new has no reason. One that names a log as of a later entry would keep that entry from naming it.
    #[must_use]
    pub(crate) fn is_of_entry(&self, index: Index) -> bool {
        let is_news = |named: &&Named| named.since == index;
        self.named.values().filter(is_news).count() == 1 && self.named.values().all(|named| named.since <= index)
    }

    /// Whether entry `index` may hold this membership where `before` was in force: every log that was named before is named again, except
    /// that the entry itself may name one new log, of one member.
    ///
    /// A node that took an entry which leaves a named log out would accept again the log that was given up for it. No leader makes such an
    /// entry. A log that was named before this log's base may be news to this node, or newer than the one that it knows (`known_at`).
    #[must_use]
    pub(crate) fn repeats_names_of(&self, before: &Self, index: Index, base: Index) -> bool {
        assert!(index > base, "entry {index} is behind the log's base {base}");
        let is_kept = |(id, named): (&NodeId, &Named)| match before.named(*id) {
            Some(known) if named.since == index => known.incarnation != named.incarnation,
            Some(known) => known == *named || (known.since < named.since && named.since <= base),
            None => named.since == index || named.since <= base,
        };
        self.named.iter().all(is_kept) && before.named.keys().all(|id| self.named.contains_key(id))
    }

    /// Whether this log of a member may count: the group agreed on no other.
    #[must_use]
    pub(crate) fn may_count(&self, id: NodeId, incarnation: u64) -> bool {
        self.named(id).is_none_or(|named| named.incarnation == incarnation)
    }

    /// Voters that make a quorum: a majority.
    #[must_use]
    pub(crate) fn quorum_count(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// Whether the others are a quorum without this node: only then can it be repaired.
    #[must_use]
    pub(crate) fn can_repair(&self, id: NodeId) -> bool {
        self.quorum_has(|other| other != id)
    }

    /// Whether `holds` is true of a quorum: of a majority of each set of voters. Learners are not asked.
    pub fn quorum_has(&self, mut holds: impl FnMut(NodeId) -> bool) -> bool {
        let mut count = |set: &[NodeId]| set.iter().filter(|&&id| holds(id)).count();
        let outgoing_agree = self.outgoing.is_empty() || count(&self.outgoing) > self.outgoing.len() / 2;
        outgoing_agree && count(&self.voters) >= self.quorum_count()
    }

    /// Highest index that a quorum has reached, where `reached(voter)` is how far each one is.
    pub(crate) fn quorum_index(&self, reached: impl Fn(NodeId) -> Index) -> Index {
        let candidates = self.voters.iter().chain(&self.outgoing).map(|&id| reached(id));
        candidates.filter(|&index| self.quorum_has(|id| reached(id) >= index)).max().unwrap_or(Index::ZERO)
    }

    /// The payload of an entry.
    #[must_use]
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut roles: BTreeMap<NodeId, u64> = self.learners.iter().map(|&id| (id, 0)).collect();
        for (set, bit) in [(&self.voters, ROLE_VOTER), (&self.outgoing, ROLE_OUTGOING_VOTER)] {
            for &id in set {
                *roles.entry(id).or_default() |= bit;
            }
        }
        let count = u32::try_from(roles.len()).expect("few");
        let mut out = [VERSION.to_le_bytes(), count.to_le_bytes()].concat();
        for (id, roles) in roles {
            let (incarnation, since) =
                self.named(id).map_or((0, Index::ZERO), |named| (named.incarnation, named.since));
            for number in [id.get(), roles, incarnation, since.get()] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        assert!(out.len() <= MEMBERSHIP_BYTES_MAX, "{} bytes of members", out.len());
        out
    }

    /// Reads the payload of an entry.
    ///
    /// # Errors
    /// The bytes are no membership, or one of a later version.
    pub(crate) fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let unknown = |what: &'static str, got: u64| Err(DecodeError::Unknown { what, got });
        let mut reader = Reader::new(payload);
        let version = reader.u32("the version of a membership")?;
        if version != VERSION {
            return unknown("the version of a membership", version.into());
        }
        let count = reader.u32("the number of members")?;
        if count as usize > MEMBERS_MAX {
            return unknown("the number of members", count.into());
        }
        let (mut voters, mut outgoing, mut learners) = (Vec::new(), Vec::new(), Vec::new());
        let (mut named, mut before) = (BTreeMap::new(), None);
        for _ in 0..count {
            let id = NodeId::new(reader.u64("the id of a member")?);
            let roles = reader.u64("the roles of a member")?;
            let incarnation = reader.u64("the log of a member")?;
            let since = Index::new(reader.u64("the entry that named the log of a member")?);
            if before.replace(id).is_some_and(|before| before >= id) {
                return unknown("the order of members", id.get());
            }
            if roles & !ROLES_ALL != 0 {
                return unknown("the roles of a member", roles);
            }
            if (incarnation == 0) != (since == Index::ZERO) || since.get() >= 1 << 62 {
                return unknown("the entry that named the log of a member", since.get());
            }
            let sets = [(&mut voters, ROLE_VOTER), (&mut outgoing, ROLE_OUTGOING_VOTER)];
            sets.into_iter().filter(|(_, bit)| roles & bit != 0).for_each(|(set, _)| set.push(id));
            if roles == 0 {
                learners.push(id);
            }
            if incarnation != 0 {
                named.insert(id, Named { incarnation, since });
            }
        }
        reader.finish("a membership")?;
        if voters.is_empty() {
            return unknown("the number of voters", 0);
        }
        assert!(voters.is_sorted() && outgoing.is_sorted() && learners.is_sorted(), "members stand in order");
        assert!(named.len() <= count as usize, "only members have logs");
        Ok(Self { voters, outgoing, learners, named })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc_table::{MEMBERS_DOC, values};

    fn membership(count: u64) -> Membership {
        Membership::new((1..=count).map(NodeId::new).collect())
    }

    #[test]
    fn a_quorum_is_a_majority() {
        let quorums: Vec<_> = (1..=7).map(|count| membership(count).quorum_count()).collect();
        assert_eq!(quorums, [1, 2, 2, 3, 3, 4, 4]);
    }

    #[test]
    fn the_quorum_index_is_what_a_majority_reached() {
        let reached = [0, 7, 3, 9, 3, 5];
        let index =
            |count| membership(count).quorum_index(|id| Index::new(reached[usize::try_from(id.get()).unwrap()]));
        assert_eq!(index(1), Index::new(7));
        assert_eq!(index(2), Index::new(3));
        assert_eq!(index(3), Index::new(7));
        assert_eq!(index(4), Index::new(3));
        assert_eq!(index(5), Index::new(5));
    }

    #[test]
    fn an_entry_names_one_log_as_of_itself() {
        let name = |of: Membership, id, since| of.with_named(NodeId::new(id), 7, Index::new(since));
        let (first, index) = (name(membership(3), 1, 4), Index::new(9));
        assert!(first.is_of_entry(Index::new(4)) && name(first.clone(), 2, 9).is_of_entry(index));
        assert!(name(first.clone(), 1, 9).is_of_entry(index), "the same member lost its log again");
        assert!(!membership(3).is_of_entry(index), "nothing new");
        assert!(!first.is_of_entry(index), "nothing new");
        assert!(!first.is_of_entry(Index::new(3)), "an entry to come");
        assert!(!name(name(first, 2, 9), 3, 9).is_of_entry(index), "two at once");
    }

    #[test]
    fn an_entry_repeats_every_name_but_the_one_that_it_changes() {
        let name = |of: &Membership, id, log, since| of.with_named(NodeId::new(id), log, Index::new(since));
        let follows = |next: &Membership, before: &Membership, base| {
            next.repeats_names_of(before, Index::new(9), Index::new(base))
        };
        let (nobody, one) = (membership(3), name(&membership(3), 1, 7, 4));
        assert!(follows(&name(&nobody, 2, 7, 9), &nobody, 0) && follows(&name(&one, 2, 7, 9), &one, 0));
        assert!(follows(&name(&one, 1, 8, 9), &one, 0), "the same member lost its log again");
        assert!(!follows(&name(&nobody, 2, 7, 9), &one, 0), "a name is left out");
        assert!(!follows(&name(&nobody, 1, 7, 9), &one, 0), "the log that counts already is no news");
        assert!(!follows(&name(&name(&nobody, 1, 7, 3), 2, 7, 9), &one, 0), "it was named later");
        assert!(!follows(&name(&name(&nobody, 1, 8, 4), 2, 7, 9), &one, 0), "that entry named another log");
        assert!(!follows(&name(&one, 2, 7, 9), &nobody, 3), "no entry of the log named it");
        assert!(follows(&name(&one, 2, 7, 9), &nobody, 4), "an entry before the log may have named it");
        let renamed = name(&name(&one, 1, 8, 6), 2, 7, 9);
        assert!(follows(&renamed, &one, 6), "an entry before the log may have named another log since");
        assert!(!follows(&renamed, &one, 5), "no entry of the log named another log since");
        assert!(!follows(&name(&name(&nobody, 1, 8, 3), 2, 7, 9), &one, 6), "it goes back to before that entry");
        assert!(!follows(&name(&name(&nobody, 1, 8, 4), 2, 7, 9), &one, 6), "that entry named another log");
    }

    #[test]
    fn the_document_says_how_a_membership_is_written() {
        let membership = membership(3).with_named(NodeId::new(2), 0x9876, Index::new(77));
        let golden = MEMBERS_DOC.all_golden("Golden bytes").remove(0).1;
        assert_eq!(membership.encode(), golden);
        let (head, member) = (MEMBERS_DOC.layout("Membership"), MEMBERS_DOC.layout("Member"));
        let found =
            |layout: &[_], bytes: &[u8]| values(bytes, layout).into_iter().map(|(_, value)| value).collect::<Vec<_>>();
        assert_eq!(found(&head, &golden), [VERSION.into(), 3]);
        let second = &golden[8 + 32..][..32];
        assert_eq!(found(&member, second), [2, ROLE_VOTER, 0x9876, 77]);
        let roles = [(ROLE_VOTER, "voter"), (ROLE_OUTGOING_VOTER, "outgoing voter")];
        assert_eq!(MEMBERS_DOC.numbers("Roles"), roles.map(|(bit, name)| (bit, name.to_owned())));
    }

    #[test]
    fn while_voters_change_both_sets_must_agree() {
        let ids = |from: u64, to: u64| (from..=to).map(NodeId::new).collect::<Vec<_>>();
        let joint = Membership { outgoing: ids(1, 3), ..Membership::new(ids(3, 5)) };
        let agree = |those: &[u64]| joint.quorum_has(|id| those.contains(&id.get()));
        assert!(agree(&[1, 3, 4]) && agree(&[1, 2, 4, 5]));
        assert!(!agree(&[1, 2, 3]) && !agree(&[3, 4, 5]) && !agree(&[1, 4, 5]));
        let reached = |id: NodeId| Index::new([0, 9, 9, 4, 3, 7][usize::try_from(id.get()).unwrap()]);
        assert_eq!(joint.quorum_index(reached), Index::new(4));
    }

    proptest::proptest! {
        /// Two quorums of memberships that follow each other share a node, whoever votes before and after: so none of them decides
        /// without the other (thesis 4.3). Learners decide nothing.
        #[test]
        fn quorums_of_neighbouring_memberships_share_a_node(before: u8, after: u8, learners: u8, one: u8, index: [u8; 8]) {
            let ids = |bits: u8| (0..8).filter(|at| bits >> at & 1 == 1).map(NodeId::new).collect::<Vec<_>>();
            proptest::prop_assume!(before != 0 && after != 0);
            let learners = ids(learners & !before & !after);
            let of = |voters: u8, outgoing: u8| {
                let membership = Membership::new(ids(voters));
                Membership { outgoing: ids(outgoing), learners: learners.clone(), ..membership }
            };
            let holds = |bits: u8| move |id: NodeId| bits >> id.get() & 1 == 1;
            let (old, joint, new) = (of(before, 0), of(after, before), of(after, 0));
            for (left, right) in [(&old, &joint), (&joint, &joint), (&joint, &new)] {
                proptest::prop_assert!(!left.quorum_has(holds(one)) || !right.quorum_has(holds(!one)));
            }
            proptest::prop_assert_eq!(
                joint.quorum_has(holds(one)),
                old.quorum_has(holds(one)) && new.quorum_has(holds(one))
            );
            for membership in [&old, &joint, &new] {
                let voters: u8 = membership.all_voters().iter().map(|id| 1_u8 << id.get()).sum();
                proptest::prop_assert_eq!(membership.quorum_has(holds(one)), membership.quorum_has(holds(one & voters)));
                let reached = |id: NodeId| Index::new(index[usize::try_from(id.get()).unwrap()].into());
                let decided = membership.quorum_index(reached);
                proptest::prop_assert!(membership.quorum_has(|id| reached(id) >= decided));
                proptest::prop_assert!(!membership.quorum_has(|id| reached(id) > decided));
            }
        }
    }

    #[test]
    fn an_entry_may_add_the_learner_whose_log_it_names_and_changes_no_other_part() {
        let ids = |from: u64, to: u64| (from..=to).map(NodeId::new).collect::<Vec<_>>();
        let follows =
            |next: &Membership, before: &Membership, base| next.keeps_roles_of(before, Index::new(9), Index::new(base));
        let before = membership(3).with_learner(NodeId::new(7), 70, Index::new(4));
        let joined = before.with_learner(NodeId::new(5), 50, Index::new(9));
        assert_eq!((&joined.learners, joined.voters()), (&[ids(5, 5), ids(7, 7)].concat(), &ids(1, 3)[..]));
        assert!(follows(&joined, &before, 0) && joined.is_of_entry(Index::new(9)));
        assert!(follows(&before.with_named(NodeId::new(7), 71, Index::new(9)), &before, 0), "a learner lost its log");
        assert!(!follows(&joined, &membership(3), 0), "two at once");
        assert!(follows(&joined, &membership(3), 4), "the other one may have joined before the log begins");
        assert!(!follows(&membership(3).with_learner(NodeId::new(5), 50, Index::new(9)), &before, 0), "one is gone");
        let promoted = Membership { learners: Vec::new(), voters: [ids(1, 3), ids(7, 7)].concat(), ..before.clone() };
        assert!(!follows(&promoted, &before, 0) && !follows(&membership(4), &membership(3), 0));
        let demoted = Membership { learners: ids(3, 3), ..membership(2).with_named(NodeId::new(3), 30, Index::new(9)) };
        assert!(!follows(&demoted, &membership(3), 0));
        assert_eq!(before.clone().known_at(Index::new(3)), membership(3));
        assert_eq!(before.clone().known_at(Index::new(4)), before);
    }

    #[test]
    fn a_membership_is_read_as_it_was_written_and_nothing_else_is_one() {
        let ids = |from: u64, to: u64| (from..=to).map(NodeId::new).collect::<Vec<_>>();
        let learning = Membership { outgoing: ids(1, 3), learners: ids(7, 8), ..Membership::new(ids(3, 5)) };
        let learning = learning.with_named(NodeId::new(4), u64::MAX, Index::new(9));
        for membership in [membership(1), membership(31), learning.clone()] {
            assert_eq!(Membership::decode(&membership.encode()), Ok(membership));
        }
        let bytes = learning.encode();
        for cut in 0..bytes.len() {
            assert!(Membership::decode(&bytes[..cut]).is_err(), "{cut} bytes");
        }
        let refuses = |at: usize, byte: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            assert!(Membership::decode(&bytes).is_err(), "byte {at} is {byte}");
        };
        // Version, count, order of ids, roles, a log without an entry that named it, an entry that named none.
        for (at, byte) in [(0, 2), (4, 32), (8, 9), (16, 4), (24, 1), (32, 1)] {
            refuses(at, byte);
        }
        let nobody_votes = [1_u32.to_le_bytes(), 0_u32.to_le_bytes()].concat();
        assert!(Membership::decode(&nobody_votes).is_err());
    }
}
