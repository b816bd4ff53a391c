//! The parts of an answer on their way from a connection to a caller that takes them one by one.
//!
//! What came and was not taken is bounded: beyond the bound nothing more is read from the connection until the caller has taken half of
//! it. So a caller that takes nothing holds up the node, and every other call that lasts on the same connection; calls that end have
//! connections of their own (`lasting`).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::limits::{PART_HEAD_BYTES, PARTS_BYTES_MAX};
use super::lock;
use super::outcome::Outcome;

/// How many callers of a connection do not take what came for them.
#[derive(Debug, Default)]
pub(super) struct Heldup {
    count: AtomicUsize,
    freed: Notify,
}

impl Heldup {
    /// Some caller does not.
    pub(super) fn is_held_up(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// Waits until nobody holds the connection up. One task may wait.
    pub(super) async fn until_free(&self) {
        while self.is_held_up() {
            self.freed.notified().await;
        }
    }
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    Part(Vec<u8>),
    End(Outcome),
}

/// The parts of one answer.
#[derive(Debug)]
pub(super) struct Parts {
    state: Mutex<State>,
    came: Notify,
    held_up: Arc<Heldup>,
}

#[derive(Debug, Default)]
struct State {
    parts: VecDeque<Vec<u8>>,
    /// What `parts` take. Unit: bytes.
    bytes: usize,
    /// How the answer ended.
    end: Option<Outcome>,
    /// Too much waits for the caller.
    holds_up: bool,
    /// The caller takes nothing more.
    is_left: bool,
}

impl Parts {
    /// None has come. `held_up` is the connection's.
    pub(super) fn new(held_up: &Arc<Heldup>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), came: Notify::new(), held_up: Arc::clone(held_up) })
    }

    /// A part has come.
    pub(super) fn push(&self, bytes: &[u8]) {
        {
            let mut state = lock(&self.state);
            if state.is_left {
                return;
            }
            state.bytes += bytes.len() + PART_HEAD_BYTES;
            state.parts.push_back(bytes.to_vec());
            if state.bytes > PARTS_BYTES_MAX && !std::mem::replace(&mut state.holds_up, true) {
                self.held_up.count.fetch_add(1, Ordering::AcqRel);
            }
        }
        self.came.notify_one();
    }

    /// The answer has ended.
    pub(super) fn end(&self, outcome: Outcome) {
        {
            let mut state = lock(&self.state);
            assert!(state.end.is_none(), "an answer ends once");
            state.end = Some(outcome);
            // Nothing more comes, so that nothing need be held up.
            self.free(&mut state);
        }
        self.came.notify_one();
    }

    /// Waits for the next part, or the end. One task may wait.
    pub(super) async fn next(&self) -> Next {
        loop {
            if let Some(next) = self.take() {
                return next;
            }
            self.came.notified().await;
        }
    }

    fn take(&self) -> Option<Next> {
        let mut state = lock(&self.state);
        let Some(part) = state.parts.pop_front() else { return state.end.take().map(Next::End) };
        assert!(state.bytes >= part.len() + PART_HEAD_BYTES, "what waits was counted");
        state.bytes -= part.len() + PART_HEAD_BYTES;
        if state.bytes <= PARTS_BYTES_MAX / 2 {
            self.free(&mut state);
        }
        Some(Next::Part(part))
    }

    /// The caller takes nothing more.
    pub(super) fn leave(&self) {
        let mut state = lock(&self.state);
        state.is_left = true;
        state.parts.clear();
        state.bytes = 0;
        self.free(&mut state);
    }

    /// The caller takes nothing more.
    pub(super) fn is_left(&self) -> bool {
        lock(&self.state).is_left
    }

    fn free(&self, state: &mut State) {
        if std::mem::take(&mut state.holds_up) {
            let before = self.held_up.count.fetch_sub(1, Ordering::AcqRel);
            assert!(before > 0, "whoever holds the connection up was counted");
            self.held_up.freed.notify_one();
        }
    }
}
