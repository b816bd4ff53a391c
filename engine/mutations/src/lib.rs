//! The engine's core with planted bugs, to see whether the simulator finds them. No product contains it.
//!
//! The bugs stand in `bugs/`, as changes of the engine's sources; the build script makes the copy that is compiled here. With no
//! bug switched on the copy does what the engine does. Without the feature `planted` this package is empty.

#[cfg(feature = "planted")]
pub mod planted;

// The engine's own unit tests are not for the copy.
#[cfg(all(feature = "planted", not(test)))]
include!(concat!(env!("OUT_DIR"), "/lib.rs"));
