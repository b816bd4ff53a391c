//! A test among network namespaces (`bench::namespaces`): it runs itself again in the middle of them.
//!
//! They end with the test. Where namespaces are not permitted the caller is told why.

use std::process::Stdio;

use bench::namespaces::Namespaces as Made;
use bench::nodes::Place;

use crate::harness::{PATIENCE, leave_out};

/// Tells a test that it runs in the middle, of namespaces with this prefix.
const INSIDE: &str = "QUORATE_TEST_NAMESPACES";

/// Namespaces of one test.
#[derive(Debug)]
pub struct Namespaces {
    made: Made,
    nodes: usize,
}

impl Namespaces {
    /// In the middle: the namespaces. Elsewhere: runs the test of this name again in the middle, fails as it fails, and
    /// returns `None`; also where there can be no namespaces, which is said.
    pub fn enter(nodes: usize, test: &str) -> Option<Self> {
        if let Ok(prefix) = std::env::var(INSIDE) {
            return Some(Self { made: Made::inside(&prefix).expect("a namespace of our own"), nodes });
        }
        let made = match Made::create(nodes) {
            Ok(made) => made,
            Err(reason) => {
                leave_out(&format!("there can be no network namespaces here: {reason}"));
                return None;
            }
        };
        let exe = std::env::current_exe().expect("this test");
        let mut command = made.in_the_middle();
        command.args(["timeout", &(20 * PATIENCE.as_secs()).to_string()]).arg(exe);
        command.args(["--exact", test, "--nocapture"]).env(INSIDE, made.prefix()).stdin(Stdio::null());
        let status = command.status().expect("ip runs");
        assert!(status.success(), "in the namespaces: {status}");
        None
    }

    /// Where node `node` runs.
    pub fn place(&self, node: usize) -> Place {
        self.made.place(node)
    }

    /// Drops every packet from a node and to it, without a word: as if its host had lost power.
    pub fn cut_off(&self, node: usize) {
        self.made.set_cut_off(node, true).expect("a rule of a namespace of our own");
    }

    /// Undoes `cut_off`.
    pub fn bring_back(&self, node: usize) {
        self.made.set_cut_off(node, false).expect("a rule of a namespace of our own");
    }

    /// Drops every packet between a node and the others, both ways; the middle still reaches it.
    pub fn isolate(&self, node: usize) {
        self.set_isolated(node, true);
    }

    /// Undoes `isolate`.
    pub fn join(&self, node: usize) {
        self.set_isolated(node, false);
    }

    fn set_isolated(&self, node: usize, is_isolated: bool) {
        for other in (0..self.nodes).filter(|other| *other != node) {
            for (from, to) in [(node, other), (other, node)] {
                self.made.set_cut(from, to, is_isolated).expect("a rule of a namespace of our own");
            }
        }
    }
}
