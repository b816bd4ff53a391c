//! Simulation and checking: whole clusters of the shipped core on simulated disks, links and clocks, and judges of what
//! their clients saw.
//!
//! Source like any other, behind the feature `testing`: the fault model is part of what the product promises. Nothing here is
//! used by a server.

mod beat;
pub mod fuzz;
pub mod history;
pub mod history_json;
pub mod judge;
mod last_answers;
pub mod search;
pub mod sim;

pub use beat::Beat;
pub use last_answers::LastAnswers;
