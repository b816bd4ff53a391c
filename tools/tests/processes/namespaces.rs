//! A network of its own for each node of a test, joined by one in the middle where the test itself runs.
//!
//! A test that wants it runs itself again in the middle. Nothing outside of the namespaces is touched, and they end with the
//! test. Where namespaces are not permitted the caller is told why.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use crate::harness::PATIENCE;

/// Tells a test that it runs in the middle, of namespaces with this prefix.
const INSIDE: &str = "QUORATE_TEST_NAMESPACES";

/// Namespaces of one test. The process that made them removes them.
#[derive(Debug)]
pub struct Namespaces {
    prefix: String,
    nodes: usize,
    made: Vec<String>,
}

/// Rules before this one concern every packet; behind it only those that are passed on from node to node.
const LOCAL_RULE: &str = "100";

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

/// Where node `node`, from 0, is reached.
pub fn address(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 78, u8::try_from(node + 1).expect("few nodes"), 2)
}

fn device(node: usize) -> String {
    format!("q{}", node + 1)
}

impl Namespaces {
    fn hub(&self) -> String {
        format!("{}-hub", self.prefix)
    }

    fn node(&self, node: usize) -> String {
        format!("{}-n{}", self.prefix, node + 1)
    }

    fn create(nodes: usize) -> Result<Self, String> {
        let prefix = format!("quorate-test-{}", std::process::id());
        let mut namespaces = Self { prefix, nodes, made: Vec::new() };
        let hub = namespaces.hub();
        namespaces.add(&hub)?;
        for node in 0..nodes {
            let (name, device) = (namespaces.node(node), device(node));
            namespaces.add(&name)?;
            let gateway = Ipv4Addr::new(10, 78, address(node).octets()[2], 1).to_string();
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
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        // Local addresses are looked up first of all by default; here there is room before that.
        ip(&["-n", name, "rule", "add", "pref", LOCAL_RULE, "lookup", "local"])?;
        ip(&["-n", name, "rule", "del", "pref", "0"])
    }

    /// In the middle: the namespaces. Elsewhere: runs the test of this name again in the middle, fails as it fails, and
    /// returns `None`; also where there can be no namespaces, which is said.
    pub fn enter(nodes: usize, test: &str) -> Option<Self> {
        if let Ok(prefix) = std::env::var(INSIDE) {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("a namespace of our own");
            return Some(Self { prefix, nodes, made: Vec::new() });
        }
        let namespaces = match Self::create(nodes) {
            Ok(namespaces) => namespaces,
            Err(reason) => {
                println!("left out, since there can be no network namespaces here: {reason}");
                return None;
            }
        };
        let exe = std::env::current_exe().expect("this test");
        let mut command = Command::new("timeout");
        command.arg((20 * PATIENCE.as_secs()).to_string()).args(["ip", "netns", "exec", &namespaces.hub()]);
        command.arg(exe).args(["--exact", test, "--nocapture"]).env(INSIDE, &namespaces.prefix).stdin(Stdio::null());
        let status = command.status().expect("ip runs");
        assert!(status.success(), "in the namespaces: {status}");
        None
    }

    /// What runs a program where node `node` is.
    pub fn launcher(&self, node: usize) -> Vec<String> {
        ["ip", "netns", "exec", &self.node(node)].map(str::to_owned).to_vec()
    }

    /// Drops every packet from a node and to it, without a word: as if its host had lost power.
    pub fn cut_off(&self, node: usize) {
        self.change("add", &self.host_rules(node));
    }

    /// Undoes `cut_off`.
    pub fn bring_back(&self, node: usize) {
        self.change("del", &self.host_rules(node));
    }

    /// Drops every packet between a node and the others, both ways; the middle still reaches it.
    pub fn isolate(&self, node: usize) {
        self.change("add", &self.peer_rules(node));
    }

    /// Undoes `isolate`.
    pub fn join(&self, node: usize) {
        self.change("del", &self.peer_rules(node));
    }

    /// Each side drops what arrives: what leaves is not refused with an error.
    fn host_rules(&self, node: usize) -> Vec<String> {
        vec![format!("pref 10 iif {}", device(node)), format!("-n {} pref 10 iif eth0", self.node(node))]
    }

    fn peer_rules(&self, node: usize) -> Vec<String> {
        let others = (0..self.nodes).filter(|other| *other != node);
        let to_it = others.map(|other| format!("pref 200 iif {} to {}", device(other), address(node)));
        to_it.chain([format!("pref 200 iif {}", device(node))]).collect()
    }

    fn change(&self, verb: &str, rules: &[String]) {
        for rule in rules {
            let mut words: Vec<&str> = rule.split(' ').collect();
            let at = if words[0] == "-n" { 2 } else { 0 };
            words.splice(at..at, ["rule", verb]);
            words.push("blackhole");
            ip(&words).expect("a rule of a namespace of our own");
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
