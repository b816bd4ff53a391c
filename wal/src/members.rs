//! Who the members of the group are, as far as the log keeps it: what stands before its first entry, and the entries that say
//! something else. The encoding is the owner's; nothing here reads it.
//!
//! The origin of a segment repeats what is in force where the segment begins. So whatever suffix of the segments is left says the same
//! of its entries, also of those that supersede others.

use crate::types::Index;

/// The members, by the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct MembersHistory {
    /// In force before the first of `later`; empty if nothing was ever said.
    base: Box<[u8]>,
    /// The entries of the log that say who the members are, in ascending order. Each is in force until the next.
    later: Vec<(Index, Box<[u8]>)>,
}

impl MembersHistory {
    pub(crate) const fn new(base: Box<[u8]>) -> Self {
        Self { base, later: Vec::new() }
    }

    /// What is in force before the log's first entry.
    pub(crate) fn base(&self) -> &[u8] {
        &self.base
    }

    /// What is in force after the log's last entry.
    pub(crate) fn current(&self) -> &[u8] {
        self.later.last().map_or(&self.base, |(_, members)| members)
    }

    /// The entries that say who the members are, in ascending order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Index, &[u8])> {
        self.later.iter().map(|(index, members)| (*index, &**members))
    }

    /// An entry was appended at `index`, in place of all entries from there on. `members` is the membership that it holds, if it holds
    /// one.
    pub(crate) fn put(&mut self, index: Index, members: Option<&[u8]>) {
        while self.later.pop_if(|(entry, _)| *entry >= index).is_some() {}
        self.later.extend(members.map(|members| (index, members.into())));
        assert!(self.later.is_sorted_by_key(|(entry, _)| *entry), "entries stand in order");
    }

    /// The log begins after entry `base` from now on.
    pub(crate) fn drop_to(&mut self, base: Index) {
        let dropped_count = self.later.partition_point(|(entry, _)| *entry <= base);
        if let Some((_, members)) = self.later.drain(..dropped_count).next_back() {
            self.base = members;
        }
        assert!(self.later.first().is_none_or(|(entry, _)| *entry > base), "entries up to {base} are gone");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(number: u64) -> Index {
        Index::new(number)
    }

    #[test]
    fn what_is_superseded_or_dropped_leaves_what_was_in_force_before() {
        let mut members = MembersHistory::new(b"base".as_slice().into());
        for (at, said) in [(1, None), (2, Some(b"two".as_slice())), (3, None), (4, Some(b"four")), (5, Some(b"five"))] {
            members.put(index(at), said);
        }
        assert_eq!((members.base(), members.current()), (b"base".as_slice(), b"five".as_slice()));
        members.put(index(5), None);
        assert_eq!(members.current(), b"four");
        members.drop_to(index(1));
        assert_eq!(members.base(), b"base");
        members.drop_to(index(3));
        assert_eq!((members.base(), members.current()), (b"two".as_slice(), b"four".as_slice()));
        assert_eq!(members.entries().collect::<Vec<_>>(), [(index(4), b"four".as_slice())]);
        members.put(index(4), None);
        assert_eq!(members.current(), b"two");
    }
}
