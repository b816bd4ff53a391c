//! What somebody does to the identity of a node that is down, and first starts that are interrupted.
//!
//! A node that finds another identity than its own, a damaged one, none among other files, or its lock held must refuse, and change
//! nothing; put right, it must start with everything that it had. What a crash alone leaves must never be refused.

use wal::testing::SimRng;

use super::directory::{CLUSTER, Directory, NoStart, identity_of, text_of};
use super::files::Made;
use super::plan::pick;
use super::world::World;
use crate::types::NodeId;

/// One of so many starts meets an identity that somebody changed.
const TAMPERED_ONE_IN: u64 = 6;

/// One of so many starts with something left to make is interrupted.
const INTERRUPTED_ONE_IN: u64 = 2;

/// Name of the fault.
const TAMPERED: &str = "identity changed";

/// Name of the fault.
const INTERRUPTED: &str = "first start interrupted";

/// What somebody does to a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tampering {
    Removed,
    Cut,
    Rotted,
    OfAnotherNode,
    OfAnotherCluster,
    /// That of the first start, before it was done.
    PutBack,
    Locked,
}

const TAMPERINGS: [Tampering; 7] = [
    Tampering::Removed,
    Tampering::Cut,
    Tampering::Rotted,
    Tampering::OfAnotherNode,
    Tampering::OfAnotherCluster,
    Tampering::PutBack,
    Tampering::Locked,
];

impl World {
    /// Starts a node's process. One that must refuse to start does, and has its directory removed.
    pub(super) fn start_process(&mut self, host: usize) -> Result<(), String> {
        // Of its own, so that a run without this is what it was.
        let rng = &mut SimRng::new(self.plan.seed ^ self.now_us ^ (host as u64) << 56 ^ 0x6469_7265);
        if !self.hosts[host].must_refuse {
            self.tamper(host, rng)?;
        }
        loop {
            let steps_count = 2 * self.hosts[host].shards.len() as u64 + 2;
            // A node that joins would ask like any new one.
            let is_new = !self.hosts[host].directory.is_ready() && self.hosts[host].votes;
            let dies = is_new && rng.chance(1, INTERRUPTED_ONE_IN);
            self.hosts[host].directory.steps_left = dies.then(|| rng.below(steps_count));
            let started = self.hosts[host].start(&self.plan);
            self.hosts[host].directory.steps_left = None;
            let must_refuse = self.hosts[host].must_refuse;
            match started {
                Ok(()) if must_refuse => return Err(format!("node {} starts, although it lost files", host + 1)),
                Ok(()) => {
                    let identity = identity_of(&self.plan, CLUSTER, self.hosts[host].id);
                    return self.hosts[host].directory.check(identity);
                }
                Err(NoStart::Died) => {
                    self.trace.note(self.now_us, || format!("node {} dies during its first start", host + 1));
                    self.count_fault(INTERRUPTED);
                }
                Err(NoStart::Refused(refusal)) if must_refuse => {
                    self.trace.note(self.now_us, || format!("node {} refuses to start: {refusal}", host + 1));
                    self.wipe(host);
                }
                Err(NoStart::Refused(refusal)) => {
                    return Err(format!("node {} does not start: {refusal}", host + 1));
                }
            }
        }
    }

    /// Somebody does something to the directory of a node that is down. The node must refuse to start and change nothing, unless what
    /// was done is harmless; then it is put right.
    fn tamper(&mut self, host: usize, rng: &mut SimRng) -> Result<(), String> {
        let Some(right) = self.hosts[host].directory.identity.clone() else { return Ok(()) };
        if !rng.chance(1, TAMPERED_ONE_IN) {
            return Ok(());
        }
        let tampering = pick(rng, &TAMPERINGS);
        let has_files = self.hosts[host].shards.iter().any(|shard| shard.files.made > Made::Nothing);
        let node = self.hosts[host].id;
        let (other_node, own) = (NodeId::new(node.get() + 1), identity_of(&self.plan, CLUSTER, node));
        let changed = match tampering {
            Tampering::Removed => None,
            Tampering::Cut => Some(right[..index_of(rng, right.len())].to_vec()),
            Tampering::Rotted => {
                let mut rotted = right.clone();
                rotted[index_of(rng, right.len())] ^= 1 << rng.below(8);
                Some(rotted)
            }
            Tampering::OfAnotherNode => Some(text_of(&identity_of(&self.plan, CLUSTER, other_node))),
            Tampering::OfAnotherCluster => Some(text_of(&identity_of(&self.plan, CLUSTER + 1, node))),
            Tampering::PutBack => Some(text_of(&own)),
            Tampering::Locked => Some(right.clone()),
        };
        self.trace.note(self.now_us, || format!("node {}: {tampering:?}, its identity", host + 1));
        self.count_fault(TAMPERED);
        self.hosts[host].directory.identity.clone_from(&changed);
        if tampering == Tampering::PutBack || (tampering == Tampering::Removed && !has_files) {
            return Ok(());
        }
        self.hosts[host].directory.is_locked_by_other = tampering == Tampering::Locked;
        let started = self.hosts[host].start(&self.plan);
        let directory = &mut self.hosts[host].directory;
        directory.is_locked_by_other = false;
        if !matches!(started, Err(NoStart::Refused(_))) {
            return Err(format!("node {} starts, although its identity was changed: {tampering:?}", host + 1));
        }
        if directory.identity != changed {
            return Err(format!("node {} refuses to start, and changes its identity", host + 1));
        }
        directory.identity = Some(right);
        Ok(())
    }

    /// Nothing is left of a directory.
    pub(super) fn remove_directory(&mut self, host: usize) {
        self.hosts[host].directory = Directory::default();
    }
}

fn index_of(rng: &mut SimRng, len: usize) -> usize {
    usize::try_from(rng.below(len as u64)).expect("small")
}
