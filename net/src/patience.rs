//! How long a connection outlives the other side's silence.
//!
//! A host that loses power or a network that drops everything says nothing; left alone, TCP sends again for a quarter of an hour
//! and a reader waits for ever. This sets two limits of the kernel's: how long sent bytes may stay unacknowledged
//! (`TCP_USER_TIMEOUT`, RFC 5482), which also ends connections to somebody who does not read, and when an idle connection is
//! probed (`SO_KEEPALIVE`). It decides nothing about what to do then: the connection breaks like any other.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// Limits of one kind of connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Sent bytes may stay unacknowledged for so long.
    pub unacknowledged: Duration,
    /// A connection is probed after so long without traffic.
    pub idle: Duration,
    /// Pause between two probes.
    pub probe_interval: Duration,
    /// Probes without an answer that end it.
    pub probes: u32,
}

/// Between nodes: a few election timeouts, so that a node that comes back is reached by a new connection.
pub const PEERS: Patience = Patience {
    unacknowledged: Duration::from_secs(3),
    idle: Duration::from_secs(2),
    probe_interval: Duration::from_secs(1),
    probes: 3,
};

/// Between clients and nodes, which may be far from each other.
pub const CLIENTS: Patience = Patience {
    unacknowledged: Duration::from_secs(30),
    idle: Duration::from_secs(30),
    probe_interval: Duration::from_secs(10),
    probes: 3,
};

impl Patience {
    /// Sets the limits of a TCP connection.
    ///
    /// # Errors
    /// What the system says; the connection works without.
    pub fn set(self, socket: &impl AsFd) -> io::Result<()> {
        let socket = SockRef::from(socket);
        socket.set_tcp_user_timeout(Some(self.unacknowledged))?;
        let keepalive =
            TcpKeepalive::new().with_time(self.idle).with_interval(self.probe_interval).with_retries(self.probes);
        socket.set_tcp_keepalive(&keepalive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_the_sockets_afterwards() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let stream = std::net::TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        for patience in [PEERS, CLIENTS] {
            patience.set(&stream).expect("a TCP socket takes them");
            let socket = SockRef::from(&stream);
            assert_eq!(socket.tcp_user_timeout().expect("readable"), Some(patience.unacknowledged));
            assert!(socket.keepalive().expect("readable"));
            assert_eq!(socket.tcp_keepalive_time().expect("readable"), patience.idle);
            assert_eq!(socket.tcp_keepalive_interval().expect("readable"), patience.probe_interval);
            assert_eq!(socket.tcp_keepalive_retries().expect("readable"), patience.probes);
        }
    }
}
