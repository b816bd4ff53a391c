//! What a client and the engine share: kinds of calls, commands and answers with their one encoding, ids, the shard of a key, statuses.
//!
//! Plain values. Nothing here knows state, sockets, disks or consensus. How requests and answers travel is `net`'s.

pub mod call;
pub mod command;
pub mod hex;
pub mod ids;
pub mod response;
pub mod status;
