//! The window of `AppendEntries` sent to one follower and not yet acknowledged as durable.
//!
//! Bounds what a slow follower can hold up in sockets and its own memory. Knows no messages, only their sizes.

use std::collections::VecDeque;

use crate::types::Index;

/// Messages in flight to one follower, bounded by count and by bytes.
///
/// Invariants: count <= messages_limit; bytes <= bytes_limit, unless a single message exceeds it by itself.
#[derive(Clone, Debug)]
pub struct Inflights {
    messages_limit: usize,
    bytes_limit: u64,
    /// Last index and size of each message. Invariant: last indexes strictly increase.
    messages: VecDeque<(Index, u64)>,
    bytes: u64,
}

impl Inflights {
    /// An empty window.
    #[must_use]
    pub fn new(messages_limit: usize, bytes_limit: u64) -> Self {
        assert!(messages_limit >= 1, "the window must hold a message");
        Self { messages_limit, bytes_limit, messages: VecDeque::new(), bytes: 0 }
    }

    /// Bytes that the next message may have; `None` when no message may be sent.
    ///
    /// An empty window takes a message of any size, so that an entry above the limit can travel at all.
    #[must_use]
    pub fn room_bytes(&self) -> Option<u64> {
        if self.messages.is_empty() {
            return Some(u64::MAX);
        }
        let has_slot = self.messages.len() < self.messages_limit;
        (has_slot && self.bytes < self.bytes_limit).then(|| self.bytes_limit - self.bytes)
    }

    /// Notes a message that left, whose last entry is `last`.
    pub fn add(&mut self, last: Index, bytes: u64) {
        assert!(self.room_bytes().is_some_and(|room| bytes <= room), "a message of {bytes} bytes is too much");
        assert!(self.messages.back().is_none_or(|&(before, _)| before < last), "messages must leave in order");
        self.messages.push_back((last, bytes));
        self.bytes += bytes;
    }

    /// Frees every message whose entries are all at or below `index`.
    pub fn free_to(&mut self, index: Index) {
        while let Some((_, bytes)) = self.messages.pop_front_if(|&mut (last, _)| last <= index) {
            self.bytes -= bytes;
        }
    }

    /// Forgets every message with entries after `index`.
    pub fn forget_after(&mut self, index: Index) {
        while let Some((_, bytes)) = self.messages.pop_back_if(|&mut (last, _)| last > index) {
            self.bytes -= bytes;
        }
    }

    /// Forgets everything in flight.
    pub fn clear(&mut self) {
        self.messages.clear();
        self.bytes = 0;
    }

    /// Messages in flight.
    #[must_use]
    pub fn count(&self) -> usize {
        self.messages.len()
    }

    /// Bytes of entries in flight.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_bounded_by_messages() {
        let mut window = Inflights::new(2, 1000);
        window.add(Index::new(1), 1);
        assert_eq!(window.room_bytes(), Some(999));
        window.add(Index::new(2), 1);
        assert_eq!(window.room_bytes(), None);
        window.free_to(Index::new(1));
        assert_eq!((window.count(), window.bytes()), (1, 1));
        assert_eq!(window.room_bytes(), Some(999));
    }

    #[test]
    fn the_window_is_bounded_by_bytes() {
        let mut window = Inflights::new(10, 100);
        window.add(Index::new(1), 60);
        assert_eq!(window.room_bytes(), Some(40));
        window.add(Index::new(5), 40);
        assert_eq!(window.room_bytes(), None);
        window.free_to(Index::new(4));
        assert_eq!(window.room_bytes(), Some(60));
    }

    #[test]
    fn what_did_not_leave_is_forgotten_from_the_back() {
        let mut window = Inflights::new(10, 100);
        window.add(Index::new(3), 30);
        window.add(Index::new(6), 20);
        window.add(Index::new(7), 10);
        window.forget_after(Index::new(3));
        assert_eq!((window.count(), window.bytes()), (1, 30));
        window.add(Index::new(4), 5);
        assert_eq!((window.count(), window.bytes()), (2, 35));
    }

    #[test]
    fn an_oversized_message_travels_alone() {
        let mut window = Inflights::new(10, 100);
        assert_eq!(window.room_bytes(), Some(u64::MAX));
        window.add(Index::new(1), 5000);
        assert_eq!(window.room_bytes(), None);
        window.free_to(Index::new(1));
        assert_eq!(window.bytes(), 0);
        assert_eq!(window.room_bytes(), Some(u64::MAX));
    }

    #[test]
    fn an_acknowledgement_within_a_message_does_not_free_it() {
        let mut window = Inflights::new(10, 100);
        window.add(Index::new(3), 30);
        window.add(Index::new(6), 30);
        window.free_to(Index::new(5));
        assert_eq!((window.count(), window.bytes()), (1, 30));
        window.clear();
        assert_eq!((window.count(), window.bytes()), (0, 0));
    }
}
