//! Quorate's wire: frames with checksums, the handshake, the client protocol, and what moves them.
//!
//! The core (`frame`, `deframer`, `handshake`, `api`) is deterministic: no clock, no sockets, no threads. The shell
//! (`shell`, on glommio) moves frames for the server; `client` (on tokio) is the client's end; `testing` is what the
//! fuzz targets check. This package knows no key-value semantics and no disk: payloads are opaque bytes.

pub mod api;
pub mod deframer;
pub mod frame;
pub mod handshake;
pub mod limits;
mod proof;

#[cfg(feature = "shell")]
pub mod shell;

#[cfg(any(feature = "shell", feature = "client"))]
pub mod patience;

#[cfg(any(feature = "shell", feature = "client"))]
pub mod resolve;

#[cfg(feature = "client")]
pub mod client;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
mod doc_table;
#[cfg(test)]
mod format_tests;
#[cfg(test)]
mod handshake_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod samples;
