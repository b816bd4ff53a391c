//! Warnings that others can cause, said now and then.
//!
//! Whoever reaches a port can make a node complain as often as it likes, and so can a disk. Each kind of complaint is said a few
//! times in a while; further ones are counted, and the next line tells how many they were.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Instant;

use super::limits::{LINES_OF_MEMBERS, LINES_OF_STRANGERS, SAID_PAUSE};

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
    /// A peer sent something that is no sound frame, or one of another shard.
    PeerFrame,
    /// A peer's entries are damaged.
    CorruptAppend,
    /// A message for a peer cannot be encoded.
    NotEncoded,
    /// A client sent something that is no sound frame.
    ClientFrame,
    /// Much waits for clients that do not take it.
    ClientsCrowded,
    /// A client does not take its answers, and others need their room.
    SlowClient,
    /// Places at the peer port are all members'.
    Crowded,
    /// There is no room for writes.
    NoRoom,
    /// A sync of the log takes long.
    SlowDisk,
    /// The node stood still.
    Frozen,
    /// A client speaks another protocol.
    ForeignClient,
    /// Old entries cannot be read by a helper.
    Reading,
    /// A file beside the log cannot be written or removed.
    Files,
    /// A connection with a peer came up, ended, or was not made.
    Link,
    /// Leadership changes hands.
    Leadership,
    /// Peers say that they lost data, or lack what the log does not hold any more.
    Lost,
}

impl Complaint {
    /// Lines within `SAID_PAUSE`.
    const fn lines_max(self) -> u64 {
        match self {
            Self::Link | Self::Leadership | Self::Lost | Self::NoRoom => LINES_OF_MEMBERS,
            _ => LINES_OF_STRANGERS,
        }
    }
}

/// What was said when.
#[derive(Debug, Default)]
pub struct Said {
    kinds: RefCell<BTreeMap<Complaint, Kind>>,
}

#[derive(Debug)]
struct Kind {
    /// When the first line of the present time was said.
    said_at: Instant,
    /// Lines since then.
    said_count: u64,
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
            Some(kind) if now.saturating_duration_since(kind.said_at) < SAID_PAUSE => {
                if kind.said_count < complaint.lines_max() {
                    kind.said_count += 1;
                    return Some(0);
                }
                kind.left_out += 1;
                None
            }
            Some(kind) => {
                (kind.said_at, kind.said_count) = (now, 1);
                Some(std::mem::take(&mut kind.left_out))
            }
            None => {
                kinds.insert(complaint, Kind { said_at: now, said_count: 1, left_out: 0 });
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
            assert_eq!(said.may_say_at(Complaint::Stranger, start + SAID_PAUSE / 2), None);
        }
        assert_eq!(said.may_say_at(Complaint::PeerRefused, start), Some(0), "another kind");
        assert_eq!(said.may_say_at(Complaint::Stranger, start + SAID_PAUSE), Some(99));
        assert_eq!(said.may_say_at(Complaint::Stranger, start + SAID_PAUSE * 2), Some(0));
    }

    #[test]
    fn what_members_do_is_said_more_often_and_not_without_end() {
        let (said, start) = (Said::default(), Instant::now());
        let lines = (0..1000).filter(|_| said.may_say_at(Complaint::Link, start).is_some()).count();
        assert_eq!(lines as u64, LINES_OF_MEMBERS);
        assert_eq!(said.may_say_at(Complaint::Link, start + SAID_PAUSE), Some(1000 - LINES_OF_MEMBERS));
    }
}
