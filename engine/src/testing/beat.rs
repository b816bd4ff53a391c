//! A part of a replica that writes now and then, as parts will that end leases: it shows that the log's time goes on, and that a part hears
//! what became of what it proposed.

use api::command::{KeyRange, Op, encode_op_command};

use crate::call::Refusal;
use crate::replica::Proposer;
use crate::state_machine::StateMachine;
use crate::state_machine::batch::LogTime;

/// A key that is never there.
const KEY: &[u8] = b"\0beat";

/// Deletes a key that is not there, at intervals of the log's time: the state does not change but for its time.
#[derive(Debug)]
pub struct Beat {
    /// Unit: ms.
    interval_ms: u64,
    /// How often at most.
    left: u64,
    /// When it wrote last; `None` = not yet. Of a write that was lost the log's time may know nothing, and stand before it again.
    last: Option<LogTime>,
    is_waiting: bool,
}

impl Beat {
    /// One that writes at such intervals, so often at most.
    #[must_use]
    pub const fn new(interval_ms: u64, count_max: u64) -> Self {
        Self { interval_ms, left: count_max, last: None, is_waiting: false }
    }
}

impl Proposer for Beat {
    fn due(&mut self, time: LogTime, machine: &StateMachine) -> Option<Vec<u8>> {
        assert!(!self.is_waiting, "one write at a time is under way");
        assert!(time >= machine.time(), "the log's time never goes back");
        if self.left == 0 || self.last.is_some_and(|last| time < last.after_ms(self.interval_ms)) {
            return None;
        }
        (self.last, self.is_waiting, self.left) = (Some(time), true, self.left - 1);
        let mut command = Vec::new();
        let delete = Op::Delete { range: KeyRange { key: KEY, range_end: &[] }, prev_kv: false };
        encode_op_command(&delete, &mut command).expect("a valid operation");
        Some(command)
    }

    fn take_answer(&mut self, _answer: Result<&[u8], Refusal>) {
        assert!(self.is_waiting, "each write is answered once");
        self.is_waiting = false;
    }
}
