//! Who takes the answers of a shard. The gateway does; a shard needs not know it.

use crate::call::{Refusal, Ticket};
use crate::types::ShardId;

/// Brings answers to those who wait for them.
pub trait Replies {
    /// Takes the answer to a call that a shard was given. `relayed`: another node gave it, and the client would have been quicker
    /// there.
    fn reply(&self, shard: ShardId, ticket: Ticket, body: Result<&[u8], &Refusal>, relayed: bool);
}
