//! What a connection reads from and writes to: its kind, its limits, and its way from one executor to another.
//!
//! A stream comes from a listener or from an address that was dialled. From there on whoever serves a connection reads and writes, and
//! knows no more of it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use crate::patience::Patience;

/// The stream of a connection.
pub type Stream = glommio::net::TcpStream;

/// A stream between two executors.
pub type Detached = OwnedFd;

fn borrow(stream: &Stream) -> BorrowedFd<'_> {
    // SAFETY: the descriptor belongs to `stream`, which the result borrows.
    unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }
}

/// Limits how long a connection outlives the other side's silence. Without the limits it works all the same.
pub fn limit_patience(stream: &Stream, patience: Patience) {
    if let Err(error) = patience.set(&borrow(stream)) {
        tracing::debug!(%error, "a connection has no limit on silence");
    }
}

/// A second descriptor of a connection, to take it off this executor. Nothing may be buffered in it: read exactly what is needed before.
///
/// # Errors
/// The descriptor could not be duplicated.
pub fn detach(stream: &Stream) -> io::Result<Detached> {
    borrow(stream).try_clone_to_owned()
}

/// Brings a connection onto this executor.
#[must_use]
pub fn attach(connection: Detached) -> Stream {
    // SAFETY: the descriptor is owned, is given up here, and is a connected TCP socket that `detach` duplicated.
    unsafe { Stream::from_raw_fd(connection.into_raw_fd()) }
}
