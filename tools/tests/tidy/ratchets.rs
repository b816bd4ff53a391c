//! Exceptions from the size rules. Entries are lowered or removed, never raised or added for new code.

use crate::sizes::{FileRatchet, FunctionRatchet};

/// Files over the limit, with their present length.
pub const FILES: &[FileRatchet] = &[];

/// Functions over the limit, with their present length.
pub const FUNCTIONS: &[FunctionRatchet] = &[];

/// Files whose imports run in a circle.
pub const CIRCLES: &[&str] = &[];
