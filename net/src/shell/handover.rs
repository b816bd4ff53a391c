//! Moving an open connection from one executor to another.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use glommio::net::TcpStream;

/// A second descriptor of a connection, to take it off this executor. Nothing may be buffered in it: read exactly what is needed before.
///
/// # Errors
/// The descriptor could not be duplicated.
pub fn detach(stream: &TcpStream) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor belongs to `stream`, which outlives this function.
    let borrowed = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    borrowed.try_clone_to_owned()
}

/// Brings a connection onto this executor.
#[must_use]
pub fn attach(connection: OwnedFd) -> TcpStream {
    // SAFETY: the descriptor is owned, is given up here, and is a connected TCP socket that `detach` duplicated.
    unsafe { TcpStream::from_raw_fd(connection.into_raw_fd()) }
}
