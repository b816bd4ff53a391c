//! What the descriptor of a connection is needed for: moving it from one executor to another, and setting limits.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use glommio::net::TcpStream;

use crate::patience::Patience;

fn borrow(stream: &TcpStream) -> BorrowedFd<'_> {
    // SAFETY: the descriptor belongs to `stream`, which the result borrows.
    unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }
}

/// Limits how long a connection outlives the other side's silence. Without the limits it works all the same.
pub fn limit_patience(stream: &TcpStream, patience: Patience) {
    if let Err(error) = patience.set(&borrow(stream)) {
        tracing::debug!(%error, "a connection has no limit on silence");
    }
}

/// A second descriptor of a connection, to take it off this executor. Nothing may be buffered in it: read exactly what is needed before.
///
/// # Errors
/// The descriptor could not be duplicated.
pub fn detach(stream: &TcpStream) -> io::Result<OwnedFd> {
    borrow(stream).try_clone_to_owned()
}

/// Brings a connection onto this executor.
#[must_use]
pub fn attach(connection: OwnedFd) -> TcpStream {
    // SAFETY: the descriptor is owned, is given up here, and is a connected TCP socket that `detach` duplicated.
    unsafe { TcpStream::from_raw_fd(connection.into_raw_fd()) }
}
