//! A network of its own for each node: namespaces, joined by one that routes between them and drops what a fault says.
//!
//! Two processes share the work. The first one makes the namespaces ([`Namespaces`]), runs the program again inside the one in
//! the middle, and removes them whatever became of it. The second one has its clients and its nodes' parent there, and cuts
//! and heals ([`Network`]). A cut drops packets without a word, as a failing switch does: neither side is told.
//!
//! It uses `ip` of iproute2, and needs the right to make namespaces. Nothing outside of them is touched: addresses, routes and
//! rules are theirs. Delays and loss are not injected here; the simulator does that.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::cmd::demo::nodes::Place;

/// Flag that tells the second process where it is.
pub(super) const INSIDE_FLAG: &str = "--inside-namespaces";

/// Pause between two looks at the second process.
const CHILD_POLL: Duration = Duration::from_millis(50);

/// Runs a program, and returns what it complained about if it failed.
pub(super) fn run_tool(program: &str, arguments: &[&str]) -> Result<(), String> {
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

fn hub_name(prefix: &str) -> String {
    format!("{prefix}-hub")
}

fn node_name(prefix: &str, node: usize) -> String {
    format!("{prefix}-n{}", node + 1)
}

/// The namespaces of a run. Dropping them removes them.
#[derive(Debug)]
pub(super) struct Namespaces {
    prefix: String,
    made: Vec<String>,
}

impl Namespaces {
    /// Makes one for each node and one in the middle, or says why that cannot be.
    pub(super) fn create(nodes: usize) -> Result<Self, String> {
        let mut namespaces = Self { prefix: format!("quorate-{}", std::process::id()), made: Vec::new() };
        let hub = hub_name(&namespaces.prefix);
        namespaces.add(&hub)?;
        for node in 0..nodes {
            let name = node_name(&namespaces.prefix, node);
            namespaces.add(&name)?;
            let (device, gateway) = (device(node), Ipv4Addr::new(10, 77, address(node).octets()[2], 1).to_string());
            ip(&["-n", &hub, "link", "add", &device, "type", "veth", "peer", "name", "eth0", "netns", &name])?;
            ip(&["-n", &hub, "addr", "add", &format!("{gateway}/24"), "dev", &device])?;
            ip(&["-n", &hub, "link", "set", &device, "up"])?;
            ip(&["-n", &name, "addr", "add", &format!("{}/24", address(node)), "dev", "eth0"])?;
            ip(&["-n", &name, "link", "set", "eth0", "up"])?;
            ip(&["-n", &name, "route", "add", "default", "via", &gateway])?;
        }
        Ok(namespaces)
    }

    fn add(&mut self, name: &str) -> Result<(), String> {
        ip(&["netns", "add", name])?;
        self.made.push(name.to_owned());
        ip(&["-n", name, "link", "set", "lo", "up"])
    }

    /// Runs this program again in the middle, with the same arguments, and returns how it ended.
    ///
    /// `interrupted` is passed on as SIGTERM: the other process then stops its nodes.
    pub(super) fn run_again(&self, interrupted: &AtomicBool) -> Result<ExitCode, String> {
        let program = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
        let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &hub_name(&self.prefix)]).arg(program).args(arguments);
        command.args([INSIDE_FLAG, &self.prefix]);
        let mut child = command.spawn().map_err(|error| format!("ip: {error}"))?;
        let mut is_told = false;
        loop {
            if let Some(status) = child.try_wait().map_err(|error| format!("ip: {error}"))? {
                let code = status.code().and_then(|code| u8::try_from(code).ok());
                return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
            }
            if interrupted.load(Ordering::Relaxed) && !is_told {
                is_told = true;
                if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                    // It fails only for a child that has ended, which `try_wait` then sees.
                    let _ = kill_process(pid, Signal::TERM);
                }
            }
            std::thread::sleep(CHILD_POLL);
        }
    }
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

/// The network as the process in the middle has it.
#[derive(Debug)]
pub(super) struct Network {
    prefix: String,
    /// How many faults cut each direction, from and to.
    cuts: BTreeMap<(usize, usize), u32>,
}

impl Network {
    /// Lets packets pass from node to node.
    pub(super) fn open(prefix: &str) -> Result<Self, String> {
        let path = "/proc/sys/net/ipv4/ip_forward";
        fs::write(path, "1").map_err(|error| format!("{path}: {error}"))?;
        Ok(Self { prefix: prefix.to_owned(), cuts: BTreeMap::new() })
    }

    /// Where node `node` runs.
    pub(super) fn place(&self, node: usize) -> Place {
        let launcher = ["ip", "netns", "exec", &node_name(&self.prefix, node)].map(str::to_owned).to_vec();
        Place { host: IpAddr::V4(address(node)), launcher }
    }

    /// Drops everything that `from` sends to `to`.
    pub(super) fn cut(&mut self, (from, to): (usize, usize)) -> Result<(), String> {
        let count = self.cuts.entry((from, to)).or_default();
        *count += 1;
        if *count == 1 { rule("add", from, to) } else { Ok(()) }
    }

    /// Undoes one `cut`.
    pub(super) fn heal(&mut self, (from, to): (usize, usize)) -> Result<(), String> {
        let Some(count) = self.cuts.get_mut(&(from, to)) else { return Ok(()) };
        *count -= 1;
        if *count > 0 {
            return Ok(());
        }
        self.cuts.remove(&(from, to));
        rule("del", from, to)
    }
}

fn rule(verb: &str, from: usize, to: usize) -> Result<(), String> {
    ip(&["rule", verb, "iif", &device(from), "to", &address(to).to_string(), "blackhole"])
}
