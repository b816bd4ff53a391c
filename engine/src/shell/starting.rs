//! How the start of one core went, told to whoever starts the node. It starts nothing itself.

use std::sync::mpsc;

use super::steps::Steps;

/// A core, and how its next step went.
pub(super) type Told = (usize, Result<(), String>);

/// Tells whoever starts the node how the start of one core went: that it is prepared, then that it listens. Says so too if the core
/// ends without a word.
#[derive(Debug)]
pub struct Starting {
    core: usize,
    result: mpsc::Sender<Told>,
    steps: Steps,
    is_told: bool,
}

impl Starting {
    /// For one core, whose end is told on `result`.
    pub fn new(core: usize, result: mpsc::Sender<Told>, steps: Steps) -> Self {
        Self { core, result, steps, is_told: false }
    }

    /// The core listens, or says why it cannot.
    pub fn tell(mut self, result: Result<(), String>) {
        self.send(result);
    }

    /// Nothing is left that can fail: the core can start its shards once all can.
    pub(super) fn is_prepared(&self) {
        assert!(!self.is_told, "a core that ended starts nothing");
        self.is_at("waiting until all cores are prepared");
        // The starter waits for every core; if it is gone, so is the node.
        drop(self.result.send((self.core, Ok(()))));
    }

    /// The core has come so far.
    pub fn is_at(&self, place: &'static str) {
        self.steps.core_is(self.core, place);
    }

    fn send(&mut self, result: Result<(), String>) {
        self.is_told = true;
        self.is_at(if result.is_ok() { "started" } else { "failed" });
        // The starter waits for every core; if it is gone, so is the node.
        drop(self.result.send((self.core, result)));
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if !self.is_told {
            self.send(Err(format!("core {} ended while it started", self.core)));
        }
    }
}
