//! Calls of a program that embeds the node, from any thread.

use crate::call::{Call, Refusal};

/// Calls of handles that may wait to be taken.
pub const HANDLE_QUEUE_LEN: usize = 4096;

/// Whoever asks for this shard makes a task give up, in tests.
#[cfg(test)]
pub const PANICS: crate::types::ShardId = crate::types::ShardId::new(u32::MAX);

/// The way back to a waiting caller.
pub struct HandleReply(pub(super) async_channel::Sender<Result<Vec<u8>, Refusal>>);

impl HandleReply {
    /// Answers the caller, who may have gone.
    pub fn answer(self, result: Result<Vec<u8>, Refusal>) {
        // The channel has room for the one answer; an error means that the caller dropped its future.
        drop(self.0.try_send(result));
    }
}

/// A call on its way from a handle to the node.
pub struct HandleCall {
    /// What is asked for; not checked.
    pub call: Call<'static>,
    /// Who waits.
    pub reply: HandleReply,
}
