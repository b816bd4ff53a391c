//! Shell tests follow.
fn main() {}
