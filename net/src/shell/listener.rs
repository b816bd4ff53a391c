//! Listening on a port that all executors of a node share.

use std::net::SocketAddr;
use std::os::fd::{FromRawFd, IntoRawFd};

use glommio::net::TcpListener;
use socket2::{Domain, Protocol, Socket, Type};

use super::limits::LISTEN_BACKLOG;

/// Listens on `address`; every executor of the process may do so on the same one, and the kernel spreads connections.
///
/// Another process that shares its ports the same way is not noticed here; check the address first.
///
/// # Errors
/// What the system says.
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    // SAFETY: the descriptor was just made, nothing else owns it, and it is a listening TCP socket.
    Ok(unsafe { TcpListener::from_raw_fd(socket.into_raw_fd()) })
}
