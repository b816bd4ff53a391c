//! Quorate's load generator: drives puts in a closed loop, measures what clients see, and checks that every
//! acknowledged write is there; and the processes and networks of clusters that are driven so.
//!
//! `quorate bench` and `quorate demo` are thin shells around this. It uses the client library as any user would and
//! knows nothing of a node's insides. Histograms, key plans, timelines and checks are plain values
//! without clock or socket.

pub mod acks;
pub mod check;
pub mod cluster;
mod control;
pub mod failures;
pub mod keys;
pub mod latency;
pub mod limits;
pub mod live;
pub mod load;
pub mod namespaces;
pub mod nodes;
pub mod report;
pub mod target;
pub mod timeline;
pub mod verify;
mod worker;

pub use control::Progress;
