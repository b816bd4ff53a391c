//! Simulated storage, for tests of this package and of those above it.
//!
//! Deterministic: everything it does follows from a seed and the calls made. It is source like any other, because the
//! fault model it implements is part of what the log promises.

pub mod fuzz;
pub mod marks;
mod sim_storage;

use std::convert::Infallible;

pub use crate::random::SplitMix64 as SimRng;
pub use sim_storage::SimStorage;

use crate::salvage::{SalvageError, SalvageReport, salvage};
use crate::{Log, LogOptions, SegmentSeq, SyncRequest};

/// Salvages a damaged log into another disk, whose segments and syncs are done at once.
///
/// # Errors
/// As [`salvage`].
pub fn salvage_at_once(
    from: &SimStorage,
    to: SimStorage,
    options: LogOptions,
) -> Result<(Log<SimStorage>, SalvageReport), SalvageError<Infallible>> {
    let prepare = |storage: &mut SimStorage, seq: SegmentSeq| {
        storage.prepare(seq);
        Ok(())
    };
    let sync = |storage: &mut SimStorage, request: &SyncRequest| {
        storage.sync(request);
        Ok(())
    };
    salvage(from, to, options, prepare, sync)
}
