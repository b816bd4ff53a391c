//! The numbers the log labels its frames with: terms, indexes, and byte positions.
//!
//! This module only names things; it gives them no meaning. What a term is for is Raft's business (`engine`).

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// The value before the first one.
            pub const ZERO: Self = Self(0);

            /// Wraps a raw number.
            #[must_use]
            pub const fn new(raw: u64) -> Self {
                Self(raw)
            }

            /// The raw number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The next value. Panics on overflow, which 2^64 increments do not reach.
            #[must_use]
            pub const fn next(self) -> Self {
                self.plus(1)
            }

            /// This value plus `n`. Panics on overflow.
            #[must_use]
            pub const fn plus(self, n: u64) -> Self {
                match self.0.checked_add(n) {
                    Some(raw) => Self(raw),
                    None => panic!("number overflow"),
                }
            }

            /// The value before this one; zero stays zero.
            #[must_use]
            pub const fn prev(self) -> Self {
                Self(self.0.saturating_sub(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A Raft term. 0 = before the first election. Source: Ongaro's thesis 3.3.
    Term
);
number!(
    /// A position in the replicated log, counted in entries. 1-based; 0 = none. Source: thesis 3.3.
    Index
);
number!(
    /// A byte position in the log's files: `segment_seq * segment_bytes + offset`. An index is not an `Lsn`.
    Lsn
);

/// What names one entry for ever: two entries with the same id are the same entry (log matching, thesis 3.5).
///
/// Ordered by term, then index: the order in which logs are compared for being up to date (thesis 3.6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Term in which a leader created the entry.
    pub term: Term,
    /// Position of the entry.
    pub index: Index,
}

impl EntryId {
    /// The position before the first entry that was ever made.
    pub const ZERO: Self = Self { term: Term::ZERO, index: Index::ZERO };

    /// Names the entry at `index` that was created in `term`.
    #[must_use]
    pub const fn new(term: Term, index: Index) -> Self {
        Self { term, index }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.index)
    }
}

/// What the log keeps of a hard state: what a node must remember about elections before it takes part in one. Source: thesis 3.8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardStateRecord {
    /// Current term.
    pub term: Term,
    /// Node that got this node's vote in `term`; 0 = none.
    pub vote: u64,
}

impl HardStateRecord {
    /// Whether this hard state may come after `before`: terms never fall, a vote never changes within its term.
    #[must_use]
    pub fn may_follow(&self, before: &Self) -> bool {
        self.term > before.term || self.term == before.term && (before.vote == 0 || before.vote == self.vote)
    }
}
