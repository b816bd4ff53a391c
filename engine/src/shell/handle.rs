//! Calls of a program that embeds the node, from any thread.

use crate::call::{Call, Refusal};

/// Whoever asks for this shard makes a task give up, in tests.
#[cfg(test)]
pub const PANICS: crate::types::ShardId = crate::types::ShardId::new(u32::MAX);

/// Whoever asks for this shard makes the core that takes it hang for as long as `HOLDS` is locked, in tests.
#[cfg(test)]
pub const HANGS: crate::types::ShardId = crate::types::ShardId::new(u32::MAX - 1);

/// See `HANGS`.
#[cfg(test)]
pub static HOLDS: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// A core hangs, or is about to in the same task.
#[cfg(test)]
pub(super) static IS_HANGING: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// The way back to a waiting caller.
pub struct HandleReply {
    caller: async_channel::Sender<Result<Vec<u8>, Refusal>>,
    /// Parts of the answer that have come.
    parts: Vec<u8>,
}

impl HandleReply {
    /// The way back to whoever holds the other end of this channel, which has room for one answer.
    pub(super) const fn to(caller: async_channel::Sender<Result<Vec<u8>, Refusal>>) -> Self {
        Self { caller, parts: Vec::new() }
    }

    /// Keeps a part of the answer until the rest is there.
    pub(super) fn take_part(&mut self, bytes: &[u8]) {
        self.parts.extend_from_slice(bytes);
    }

    /// Answers the caller, who may have gone.
    pub fn answer(self, result: Result<&[u8], Refusal>) {
        let Self { caller, mut parts } = self;
        let whole = result.map(|bytes| {
            parts.extend_from_slice(bytes);
            parts
        });
        // The channel has room for the one answer; an error means that the caller dropped its future.
        drop(caller.try_send(whole));
    }
}

/// A call on its way from a handle to the node.
pub struct HandleCall {
    /// What is asked for; not checked.
    pub call: Call<'static>,
    /// Who waits.
    pub reply: HandleReply,
}
