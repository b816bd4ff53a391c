//! What happened in a run, for people: the last events always, all of them on demand.

use std::collections::VecDeque;

/// Events kept when not all are.
const LAST_EVENTS_MAX: usize = 400;

/// The events of a run as lines of text.
#[derive(Debug)]
pub(super) struct Trace {
    keep_all: bool,
    lines: VecDeque<(u64, String)>,
}

impl Trace {
    pub(super) fn new(keep_all: bool) -> Self {
        Self { keep_all, lines: VecDeque::new() }
    }

    /// Notes an event. The text is only made when it will be kept for long enough to be of use.
    pub(super) fn note(&mut self, at_us: u64, text: impl FnOnce() -> String) {
        if !self.keep_all && self.lines.len() == LAST_EVENTS_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back((at_us, text()));
    }

    /// Notes an event of the kind that happens all the time: only when all are kept.
    pub(super) fn detail(&mut self, at_us: u64, text: impl FnOnce() -> String) {
        if self.keep_all {
            self.note(at_us, text);
        }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.iter().map(|(at_us, text)| format!("{:>12.6} {text}", *at_us as f64 / 1e6)).collect()
    }
}
