//! The end of a node's life, at any moment: stops in order and what comes too late for them, deaths half way through what is to be
//! written down, files that are gone.

use super::input::Input;
use super::story::{STRANGER, Story};
use crate::replica::{Event, NotTaken};

/// Steps that may come too late for a node that stopped; those after them are about its end.
const LATE_STEPS: u8 = 44;

impl Story<'_> {
    /// No request is taken any more.
    pub(super) fn close(&mut self) -> Result<(), String> {
        self.is_closed = true;
        self.node.handle(Event::Close)
    }

    /// Everything that waits is refused: the process is about to end.
    pub(super) fn end(&mut self) -> Result<(), String> {
        self.node.handle(Event::Stop)?;
        self.observe(103)?;
        if self.watch.unanswered() > 0 {
            return Err(format!("a stop leaves {} requests without an answer", self.watch.unanswered()));
        }
        self.watch.on_end(&self.node);
        Ok(())
    }

    /// What the shell does when it is told to stop, with less patience and in any part; then what had been under way arrives all the
    /// same, and the node starts again.
    pub(super) fn stop_in_order(&mut self, input: &mut Input<'_>) -> Result<(), String> {
        let parts = input.byte();
        if parts & 1 == 0 {
            self.node.handle(Event::HandOver)?;
            self.observe(105)?;
        }
        let patience = input.below(24);
        for _ in 0..patience {
            self.tick(106, 1)?;
            self.node.handle(Event::Turn)?;
            self.observe(107)?;
        }
        if parts & 2 == 0 {
            self.close()?;
            self.observe(108)?;
        }
        if parts & 4 == 0 {
            self.node.handle(Event::Settle)?;
            self.node.end_note_sync(parts & 8 == 0)?;
            self.observe(109)?;
        }
        self.end()?;
        for _ in 0..input.below(5) {
            let late = input.below(LATE_STEPS);
            self.step(late, input)?;
            self.observe(late)?;
        }
        if self.watch.unanswered() > 0 {
            return Err("a replica that has ended keeps a request".to_owned());
        }
        self.start_again(parts & 16 == 0)
    }

    /// The process ends between two steps of what it writes down about its birth or its repair.
    pub(super) fn die_half_way(&mut self, input: &mut Input<'_>) -> Result<(), String> {
        if self.node.write_half() { self.start_again(input.flag()) } else { Ok(()) }
    }

    /// What seldom happens.
    pub(super) fn unlikely(&mut self, input: &mut Input<'_>) -> Result<(), String> {
        match input.below(6) {
            0 => self.node.handle(Event::Transfer { to: STRANGER }),
            1 => self.node.handle(Event::Transfer { to: self.node.id }),
            2 => {
                self.node.handle(Event::LogNotInPlace("simulated".to_owned()))?;
                let is_stopped = self.node.replica.fault().is_some();
                if is_stopped { Ok(()) } else { Err("a log that is not in its place stops nothing".to_owned()) }
            }
            _ => match self.replied.pop_front() {
                Some((to, number)) => self.node.handle(Event::ReplyDropped { to, number, why: NotTaken::NoCredit }),
                None => Ok(()),
            },
        }
    }
}
