//! Tests of the Raft core against simulated logs and a simulated network.
//!
//! `paper` shows single rules where Ongaro's thesis states them; `transcripts` replays written scenes; `births` and
//! `members` are about nodes with new logs, `sick_disks` about who takes over from a leader that cannot write; `properties`
//! runs random clusters and checks Raft's guarantees after every step. All share one `cluster`, whose `checks` know nothing
//! of what a test wants.

mod births;
mod checks;
mod cluster;
mod histories;
mod history;
mod hostile;
mod known;
mod lives;
mod members;
mod paper;
mod paper_replication;
mod properties;
mod sick_disks;
mod sim_log;
mod stopping;
mod trace;
mod transcripts;
