//! One node for each address. The cores of a node share its ports (`SO_REUSEPORT`), and the kernel would let another node of the same
//! user share them, too: clients would reach the one or the other by chance.
//!
//! Whoever listens on an address holds a name for it in the kernel's table of abstract Unix sockets, which is one for each network
//! namespace, as ports are, and forgets names when their holder ends. It keeps out nodes and nothing else: other programs are kept
//! out by the port itself. On a host that has no such names for this process a node does without, and says so.

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
    /// `None` if this process can have no such name.
    _name: Option<UnixListener>,
}

impl PortHold {
    /// Takes an address. Where names cannot be held or looked at (a sandbox without Unix sockets, or without `/proc`), two nodes
    /// could share a port, which is said.
    ///
    /// # Errors
    /// `AddrInUse` if another node has it, or one that overlaps with it.
    pub fn take(address: SocketAddr) -> io::Result<Self> {
        let name = name_of(address);
        let held = UnixAddr::from_abstract_name(&name).and_then(|name| UnixListener::bind_addr(&name));
        let held = match held {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            held => held.inspect_err(|error| warn(address, error)).ok(),
        };
        // Of two that overlap and come at the same time both may give way, never none.
        match std::fs::read(TABLE) {
            Ok(table) if is_overlapped(address, &name, &table) => Err(io::Error::from(io::ErrorKind::AddrInUse)),
            Ok(_) => Ok(Self { _name: held }),
            Err(error) => {
                warn(address, &error);
                Ok(Self { _name: held })
            }
        }
    }
}

fn warn(address: SocketAddr, error: &io::Error) {
    tracing::warn!(%address, %error, "whether another node shares this address cannot be told: {TABLE} and abstract Unix sockets tell it");
}

/// Whether another name of the table stands for an address that overlaps with this one. Other programs' names may be any bytes.
fn is_overlapped(address: SocketAddr, name: &str, table: &[u8]) -> bool {
    let table = String::from_utf8_lossy(table);
    let others = table.lines().filter_map(|line| line.split_once('@')).filter(|(_, other)| *other != name);
    others.filter_map(|(_, other)| address_of(other)).any(|other| overlap(address, other))
}

fn name_of(address: SocketAddr) -> String {
    format!("{PREFIX}{address}")
}

fn address_of(name: &str) -> Option<SocketAddr> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

/// True if a connection to one could reach the other.
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

    #[test]
    fn names_of_other_programs_keep_nobody_out() {
        let names: [&[u8]; 3] = [&[0xff, 0xfe], b"quorate-listens-\xff", b"two@signs@quorate-listens-127.0.0.1:11"];
        let bound = names.map(|name| {
            let name = UnixAddr::from_abstract_name(name).expect("a name");
            UnixListener::bind_addr(&name).expect("nobody has it")
        });
        let held = take("127.0.0.1:11").expect("no node has it");
        assert!(take("0.0.0.0:11").is_err(), "nodes are found among such names");
        drop((bound, held));
    }
}
