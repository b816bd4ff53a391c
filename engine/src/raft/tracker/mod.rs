//! What a leader knows of each follower: how far its log agrees and is durable, and what is on its way to it.

mod inflights;
mod progress;

pub use inflights::Inflights;
pub use progress::{Progress, ProgressState};
pub(in crate::raft) use progress::{Rejection, Why};
