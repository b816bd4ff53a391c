//! The server: real disks, connections, time and threads around the deterministic core.
//!
//! `node::Node` is the way in, for the binary and for programs that embed a node. It decides nothing that the core decides.

mod birth_file;
mod callers;
mod classes;
mod client_conn;
mod client_figures;
mod client_requests;
mod core;
mod cores;
pub mod data_dir;
mod device;
mod disk_notices;
mod disk_space;
mod door;
mod ending;
mod exposition;
mod gateway;
mod greetings;
mod guests;
mod handle;
mod held;
mod helpers;
mod http;
mod incoming;
mod leftover;
mod limits;
mod links;
#[cfg(test)]
mod memory_device;
mod mesh;
pub mod metrics;
mod modes;
mod names;
pub mod node;
mod notices;
mod notify;
mod origin;
pub mod panics;
mod partial;
mod peer_conn;
mod ports;
pub mod preflight;
mod process_metrics;
mod replies;
mod room;
mod roster;
mod run_queue;
mod said;
mod shard;
mod silence;
mod slices;
mod slow_clients;
mod standing_metrics;
mod start_error;
mod starting;
mod status;
mod steps;
mod stop_error;
mod taking;
mod tasks;
mod uring;
mod work;

/// What this build keeps logs on. Nothing else here names a kind of device.
type Device = wal::FileDevice;
