//! Quorate's engine: the Raft core, the key-value state machine, the replica that joins them with the log, and the server.
//!
//! The core is deterministic: no clock, no sockets, no files, no threads, no randomness but a seed. The shell (`shell`, on
//! glommio) drives it with real devices. Bytes on disk are `wal`'s, frames and connections `net`'s.

// Marks a branch that is rare, or rare under a condition: the simulator must reach it. Expands to nothing without the feature
// `testing`.
#[cfg(any(test, feature = "testing"))]
macro_rules! mark {
    ($name:literal) => {
        wal::testing::marks::reach($name)
    };
    ($name:literal if $condition:expr) => {
        if $condition {
            wal::testing::marks::reach($name);
        }
    };
}
#[cfg(not(any(test, feature = "testing")))]
macro_rules! mark {
    ($($ignored:tt)*) => {};
}

pub mod call;
pub mod config;
#[cfg(any(feature = "shell", feature = "testing"))]
pub(crate) mod desk;
#[cfg(any(feature = "shell", feature = "testing"))]
pub(crate) mod directory;
pub mod entries_error;
pub mod limits;
pub mod log_store;
#[cfg(any(feature = "shell", feature = "testing"))]
pub(crate) mod opening;
pub mod raft;
pub mod replica;
pub mod state_machine;
pub mod types;
pub mod wire;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

#[cfg(feature = "shell")]
pub mod shell;

#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
mod doc_table;
#[cfg(test)]
mod wire_tests;
