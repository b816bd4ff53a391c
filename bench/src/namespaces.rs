//! A network of its own for each node: namespaces, joined by one in the middle that routes between them and drops what a cut says.
//!
//! Two processes share the work. The first one makes the namespaces ([`Namespaces::create`]), runs a program in the middle
//! ([`Namespaces::in_the_middle`]), and removes them whatever became of it. The second one has its clients and its nodes' parent
//! there ([`Namespaces::inside`]), and cuts and heals. A cut drops packets without a word, as a failing switch does: neither side
//! is told.
//!
//! It uses `ip` of iproute2, and needs the right to make namespaces. Nothing outside of them is touched: addresses, routes and
//! rules are theirs. Delays and loss are not injected here; the simulator does that.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};

use crate::nodes::Place;

/// Rules before this one concern every packet; after it only those that are passed on from node to node.
const LOCAL_RULE: &str = "100";

/// Runs a program, and returns what it complained about if it failed.
///
/// # Errors
/// It could not be run, or failed.
pub fn run_tool(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {}: {}", arguments.join(" "), said.trim()))
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    run_tool("ip", arguments)
}

/// Address of node `node`, from 0.
fn address(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, u8::try_from(node + 1).expect("few nodes"), 2)
}

/// Name of the device that leads to node `node` in the middle.
fn device(node: usize) -> String {
    format!("q{}", node + 1)
}

/// One namespace for each node and one in the middle. Who made them removes them when dropping this.
#[derive(Debug)]
pub struct Namespaces {
    prefix: String,
    made: Vec<String>,
}

impl Namespaces {
    /// Makes one for each node and one in the middle.
    ///
    /// # Errors
    /// Why that cannot be; nothing is left of it.
    pub fn create(nodes: usize) -> Result<Self, String> {
        let mut namespaces = Self { prefix: format!("quorate-{}", std::process::id()), made: Vec::new() };
        let hub = namespaces.hub();
        namespaces.add(&hub)?;
        for node in 0..nodes {
            let (name, device) = (namespaces.node(node), device(node));
            namespaces.add(&name)?;
            let gateway = Ipv4Addr::new(10, 77, address(node).octets()[2], 1).to_string();
            ip(&["-n", &hub, "link", "add", &device, "type", "veth", "peer", "name", "eth0", "netns", &name])?;
            ip(&["-n", &hub, "addr", "add", &format!("{gateway}/24"), "dev", &device])?;
            ip(&["-n", &hub, "link", "set", &device, "up"])?;
            ip(&["-n", &name, "addr", "add", &format!("{}/24", address(node)), "dev", "eth0"])?;
            ip(&["-n", &name, "link", "set", "eth0", "up"])?;
            ip(&["-n", &name, "route", "add", "default", "via", &gateway])?;
        }
        Ok(namespaces)
    }

    /// Those with this prefix, seen from a process in the middle. Lets packets pass from node to node.
    ///
    /// # Errors
    /// This process is not in the middle, or may not change that.
    pub fn inside(prefix: &str) -> Result<Self, String> {
        let path = "/proc/sys/net/ipv4/ip_forward";
        std::fs::write(path, "1").map_err(|error| format!("{path}: {error}"))?;
        Ok(Self { prefix: prefix.to_owned(), made: Vec::new() })
    }

    /// What their names begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A command that runs a program in the middle, once that and its arguments are added.
    #[must_use]
    pub fn in_the_middle(&self) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.hub()]);
        command
    }

    /// Where node `node` runs.
    #[must_use]
    pub fn place(&self, node: usize) -> Place {
        let launcher = ["ip", "netns", "exec", &self.node(node)].map(str::to_owned).to_vec();
        Place { host: IpAddr::V4(address(node)), launcher }
    }

    /// Drops everything that node `from` sends to node `to`, or no longer does. The middle still reaches both.
    ///
    /// # Errors
    /// `ip` failed.
    pub fn set_cut(&self, from: usize, to: usize, is_cut: bool) -> Result<(), String> {
        let (device, to) = (device(from), address(to).to_string());
        ip(&["rule", verb(is_cut), "pref", "200", "iif", &device, "to", &to, "blackhole"])
    }

    /// Drops every packet from a node and to it, the middle's too, or no longer does: as if its host had lost power. Each side
    /// drops what arrives, so that what leaves is not refused with an error.
    ///
    /// # Errors
    /// `ip` failed.
    pub fn set_cut_off(&self, node: usize, is_cut_off: bool) -> Result<(), String> {
        let verb = verb(is_cut_off);
        ip(&["rule", verb, "pref", "10", "iif", &device(node), "blackhole"])?;
        ip(&["-n", &self.node(node), "rule", verb, "pref", "10", "iif", "eth0", "blackhole"])
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.prefix)
    }

    fn node(&self, node: usize) -> String {
        format!("{}-n{}", self.prefix, node + 1)
    }

    fn add(&mut self, name: &str) -> Result<(), String> {
        ip(&["netns", "add", name])?;
        self.made.push(name.to_owned());
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        // Local addresses are looked up first of all by default; here there is room before that.
        ip(&["-n", name, "rule", "add", "pref", LOCAL_RULE, "lookup", "local"])?;
        ip(&["-n", name, "rule", "del", "pref", "0"])
    }
}

fn verb(is_added: bool) -> &'static str {
    if is_added { "add" } else { "del" }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.made {
            if let Err(error) = ip(&["netns", "del", name]) {
                eprintln!("a network namespace is left: {error}");
            }
        }
    }
}
