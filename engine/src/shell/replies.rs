//! Who takes the answers of a shard. The gateway does; a shard needs not know it.

use crate::call::{Part, Refusal, Ticket};
use crate::types::ShardId;

/// Brings answers to those who wait for them.
pub trait Replies {
    /// Takes a part of the answer to a call that a shard was given. `relayed`: another node gave it, and the client would have been quicker
    /// there.
    fn reply(&self, shard: ShardId, ticket: Ticket, part: Part<&[u8], &Refusal>, relayed: bool);
}
