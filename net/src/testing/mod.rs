//! What tests and fuzz targets share: checks that hold for any bytes.
//!
//! It makes no bytes and no connections; whoever calls it does.

pub mod fuzz;
