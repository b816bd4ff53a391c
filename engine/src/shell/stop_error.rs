//! Why a node did not end in order, and what of it is left.

use super::limits::{CORE_ENDS_WITHIN, HELPERS_WITHIN};

/// What went wrong while a node stopped. What it acknowledged is safe; it always is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// A core's thread ended with an error.
    #[error("core {core} did not end well: {reason}")]
    Core {
        /// Which core.
        core: usize,
        /// What its executor said.
        reason: String,
    },
    /// A core hangs. Its thread goes on, and the node keeps its data directory and its addresses until this process ends.
    #[error(
        "core {core} did not end within {CORE_ENDS_WITHIN:?}: it hangs, as it does when the disk does not answer; the data \
         directory stays locked until this process ends"
    )]
    CoreHangs {
        /// The first such core.
        core: usize,
    },
    /// A helper thread still works in the data directory, which the node keeps until this process ends.
    #[error(
        "a helper thread still works in the data directory after {HELPERS_WITHIN:?}: the disk may hang; the directory stays \
         locked until this process ends"
    )]
    HelperHangs,
}
