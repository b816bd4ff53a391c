//! One node for each address. The cores of a node share its ports (`SO_REUSEPORT`), and the kernel would let another node of the same
//! user share them, too: clients would reach the one or the other by chance.
//!
//! Whoever listens on an address holds a name for it in the kernel's table of abstract Unix sockets, which is one for each network
//! namespace, as ports are, and forgets names when their holder ends. It keeps out nodes and nothing else: other programs are kept
//! out by the port itself.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};

const PREFIX: &str = "quorate-listens-";

/// All names in this network namespace.
const TABLE: &str = "/proc/net/unix";

/// An address is this node's, for as long as this value lives.
#[derive(Debug)]
pub struct PortHold {
    _name: UnixListener,
}

impl PortHold {
    /// Takes an address.
    ///
    /// # Errors
    /// `AddrInUse` if another node has it, or one that overlaps with it.
    pub fn take(address: SocketAddr) -> io::Result<Self> {
        let name = name_of(address);
        let held = UnixListener::bind_addr(&UnixAddr::from_abstract_name(&name)?)?;
        // Of two that overlap and come at the same time both may give way, never none.
        let table = std::fs::read_to_string(TABLE)?;
        let others = table.lines().filter_map(|line| line.split_once('@')).filter(|(_, other)| *other != name);
        if others.filter_map(|(_, other)| address_of(other)).any(|other| overlap(address, other)) {
            return Err(io::Error::from(io::ErrorKind::AddrInUse));
        }
        Ok(Self { _name: held })
    }
}

fn name_of(address: SocketAddr) -> String {
    format!("{PREFIX}{address}")
}

fn address_of(name: &str) -> Option<SocketAddr> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

/// A connection to one could reach the other.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let is_any = |ip: IpAddr| ip.is_unspecified();
    one.port() == other.port() && (one.ip() == other.ip() || is_any(one.ip()) || is_any(other.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(text: &str) -> io::Result<PortHold> {
        PortHold::take(text.parse().expect("an address"))
    }

    #[test]
    fn an_address_has_one_holder_and_is_free_again_afterwards() {
        // A port that no test listens on: only names are taken here.
        let held = take("127.0.0.1:9").expect("nobody has it");
        for (address, is_free) in [
            ("127.0.0.1:9", false),
            ("0.0.0.0:9", false),
            ("[::]:9", false),
            ("127.0.0.2:9", true),
            ("127.0.0.1:10", true),
        ] {
            assert_eq!(take(address).is_ok(), is_free, "{address}");
        }
        drop(held);
        let all = take("0.0.0.0:9").expect("it is free again");
        assert!(take("127.0.0.1:9").is_err());
        drop(all);
        take("127.0.0.1:9").expect("it is free again");
    }
}
