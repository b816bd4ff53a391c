//! The client against servers that do what a script says, on loopback. No time is asserted: a client that waits where it
//! should not shows as a test that gives up after a long while.

mod addresses;
mod answers;
mod failures;
mod lasting;
mod lifetime;
mod limits;
mod server;
mod silence;
