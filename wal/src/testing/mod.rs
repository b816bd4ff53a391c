//! Simulated storage, for tests of this package and of those above it.
//!
//! Deterministic: everything it does follows from a seed and the calls made. It is source like any other, because the
//! fault model it implements is part of what the log promises.

pub mod fuzz;
pub mod marks;
mod sim_storage;

pub use crate::random::SplitMix64 as SimRng;
pub use sim_storage::SimStorage;
