//! What tests and fuzz targets share: checks that hold for any bytes, and the replay of what fuzzing found.
//!
//! It makes no bytes and no connections; whoever calls it does.

pub mod corpus;
pub mod fuzz;
