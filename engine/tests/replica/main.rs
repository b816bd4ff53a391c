//! Shipped replicas on simulated disks: one whose peers the test plays, three with cut links, and whole clusters under faults.

mod answers;
mod calls;
mod cluster;
mod host;
mod ops;
mod own;
mod peers;
mod work;
