//! Warnings that others can cause, said now and then.
//!
//! Whoever reaches a port can make a node complain as often as it likes. Each kind of complaint is said once in a while; the
//! ones in between are counted, and the next line tells how many they were.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Time between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(10);

/// Kinds of complaints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Complaint {
    /// A connection to the peer port ended before it said who it is, or said nonsense.
    Stranger,
    /// A peer was refused in the handshake.
    PeerRefused,
    /// A client was refused in the handshake.
    ClientRefused,
    /// A connection could not be accepted.
    NotAccepted,
    /// A peer's message makes no sense.
    Nonsense,
    /// A peer's entries are damaged.
    CorruptAppend,
}

/// What was said when.
#[derive(Debug, Default)]
pub struct Said {
    kinds: RefCell<BTreeMap<Complaint, Kind>>,
}

#[derive(Debug)]
struct Kind {
    said_at: Instant,
    left_out: u64,
}

impl Said {
    /// Whether a complaint is to be said now; if so, how many of its kind were left out since the last.
    pub fn may_say(&self, complaint: Complaint) -> Option<u64> {
        self.may_say_at(complaint, Instant::now())
    }

    fn may_say_at(&self, complaint: Complaint, now: Instant) -> Option<u64> {
        let mut kinds = self.kinds.borrow_mut();
        match kinds.get_mut(&complaint) {
            Some(kind) if now.saturating_duration_since(kind.said_at) < PAUSE => {
                kind.left_out += 1;
                None
            }
            Some(kind) => {
                kind.said_at = now;
                Some(std::mem::take(&mut kind.left_out))
            }
            None => {
                kinds.insert(complaint, Kind { said_at: now, left_out: 0 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_said_once_in_a_while_and_the_rest_is_counted() {
        let (said, start) = (Said::default(), Instant::now());
        assert_eq!(said.may_say_at(Complaint::Stranger, start), Some(0));
        for _ in 0..99 {
            assert_eq!(said.may_say_at(Complaint::Stranger, start + PAUSE / 2), None);
        }
        assert_eq!(said.may_say_at(Complaint::PeerRefused, start), Some(0), "another kind");
        assert_eq!(said.may_say_at(Complaint::Stranger, start + PAUSE), Some(99));
        assert_eq!(said.may_say_at(Complaint::Stranger, start + PAUSE * 2), Some(0));
    }
}
