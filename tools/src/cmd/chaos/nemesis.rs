//! What goes wrong, and when: chosen by the seed, done to processes that this program started.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use wal::testing::SimRng;

use super::{ChaosError, Shared, statuses};
use crate::cmd::demo::nodes::Nodes;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    KillOne,
    KillLeader,
    KillMajority,
    KillAll,
    StopOne,
    StopLeader,
    Damage,
}

const FAULTS: [(Fault, &str, u64); 7] = [
    (Fault::KillOne, "killed one node", 4),
    (Fault::KillLeader, "killed the leader", 4),
    (Fault::KillMajority, "killed a majority", 1),
    (Fault::KillAll, "killed all nodes", 1),
    (Fault::StopOne, "stopped one node", 3),
    (Fault::StopLeader, "stopped the leader", 3),
    (Fault::Damage, "damaged a node's log", 3),
];

/// Pause between two faults. Unit: ms.
const PAUSE_MS: (u64, u64) = (500, 4_000);

/// How long a fault lasts. Unit: ms.
const LASTS_MS: (u64, u64) = (100, 4_000);

/// Whoever does it, and what was done.
#[derive(Debug)]
pub(super) struct Nemesis {
    rng: SimRng,
    lasts: Duration,
    done: Vec<(Duration, &'static str, String)>,
}

impl Nemesis {
    pub(super) fn new(seed: u64, lasts: Duration) -> Self {
        Self { rng: SimRng::new(seed), lasts, done: Vec::new() }
    }

    /// How often each fault struck.
    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for (_, name, _) in &self.done {
            *counts.entry((*name).to_owned()).or_default() += 1;
        }
        counts
    }

    /// Every fault with its time and target.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        self.done.iter().map(|(at, name, target)| format!("{:8.3} s  {name}: {target}", at.as_secs_f64()))
    }

    /// Injects faults one after the other until time is up; all nodes run at the end.
    pub(super) async fn run(
        &mut self,
        nodes: &mut Nodes,
        shared: &Shared,
        progress: &ProgressBar,
    ) -> Result<(), ChaosError> {
        let started = Instant::now();
        while started.elapsed() < self.lasts {
            self.pause(PAUSE_MS).await;
            nodes.check()?;
            let (fault, name) = self.choose();
            let targets = self.targets(fault, shared).await;
            let done = self.strike(fault, &targets, nodes, shared).await?;
            if let Some(what) = done {
                progress.set_message(format!("{name}: {what}"));
                self.done.push((started.elapsed(), name, what));
            }
        }
        Ok(())
    }

    async fn pause(&mut self, (low, high): (u64, u64)) {
        let pause_ms = low + self.rng.below(high - low);
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }

    fn choose(&mut self) -> (Fault, &'static str) {
        let total = FAULTS.iter().map(|(.., weight)| weight).sum();
        let mut left = self.rng.below(total);
        for (fault, name, weight) in FAULTS {
            if left < weight {
                return (fault, name);
            }
            left -= weight;
        }
        (Fault::KillOne, FAULTS[0].1)
    }

    /// Nodes that a fault is done to.
    async fn targets(&mut self, fault: Fault, shared: &Shared) -> Vec<usize> {
        let count = shared.endpoints.len();
        let any = usize::try_from(self.rng.below(count as u64)).expect("few");
        match fault {
            Fault::KillOne | Fault::StopOne | Fault::Damage => vec![any],
            Fault::KillLeader | Fault::StopLeader => {
                let statuses = statuses(shared).await;
                let leader = statuses.iter().find(|status| status.role == "leader");
                let number = leader.and_then(|status| status.name.strip_prefix('n')?.parse::<usize>().ok());
                vec![number.map_or(any, |number| number - 1)]
            }
            Fault::KillMajority => (0..=count / 2).map(|step| (any + step) % count).collect(),
            Fault::KillAll => (0..count).collect(),
        }
    }

    async fn strike(
        &mut self,
        fault: Fault,
        targets: &[usize],
        nodes: &mut Nodes,
        shared: &Shared,
    ) -> Result<Option<String>, ChaosError> {
        let mut what = targets.iter().map(|node| nodes.name(*node).to_owned()).collect::<Vec<_>>().join(", ");
        match fault {
            Fault::StopOne | Fault::StopLeader => {
                nodes.pause(targets[0], true);
                self.pause(LASTS_MS).await;
                nodes.pause(targets[0], false);
            }
            Fault::Damage => {
                // A second node that lacks what it promised would be more than the promise covers.
                let all = statuses(shared).await;
                if all.len() < shared.endpoints.len() || all.iter().any(|status| status.under_repair.is_some()) {
                    return Ok(None);
                }
                nodes.kill(targets[0])?;
                what = self.damage(&nodes.data_dir(targets[0]))?;
                start(nodes, shared, targets[0])?;
            }
            Fault::KillOne | Fault::KillLeader | Fault::KillMajority | Fault::KillAll => {
                for node in targets {
                    nodes.kill(*node)?;
                }
                self.pause(LASTS_MS).await;
                for node in targets {
                    start(nodes, shared, *node)?;
                }
            }
        }
        Ok(Some(what))
    }

    /// Flips a bit where the log of a node that is down was written.
    fn damage(&mut self, data_dir: &Path) -> Result<String, ChaosError> {
        let dir = data_dir.join("shards").join("0000").join("wal");
        let io_error = |action, path: &Path| {
            let path: PathBuf = path.to_owned();
            move |source| ChaosError::Io { action, path, source }
        };
        let entries = std::fs::read_dir(&dir).map_err(io_error("list", &dir))?;
        let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let mut segments: Vec<PathBuf> =
            paths.filter(|path| path.extension().is_some_and(|end| end == "wal")).collect();
        segments.sort();
        let at = usize::try_from(self.rng.below(segments.len().max(1) as u64)).expect("few");
        let Some(path) = segments.get(at) else { return Ok("nothing: it has no segments".to_owned()) };
        let mut bytes = std::fs::read(path).map_err(io_error("read", path))?;
        let written = bytes.iter().rposition(|byte| *byte != 0).map_or(bytes.len(), |last| last + 1);
        let offset = usize::try_from(self.rng.below(written.max(1) as u64)).expect("an offset");
        if let Some(byte) = bytes.get_mut(offset) {
            *byte ^= 1 << self.rng.below(8);
        }
        std::fs::write(path, bytes).map_err(io_error("write", path))?;
        Ok(format!("a bit of byte {offset} of {}", path.display()))
    }
}

fn start(nodes: &mut Nodes, shared: &Shared, node: usize) -> Result<(), ChaosError> {
    if let Some(life) = shared.lives.get(node) {
        life.fetch_add(1, Ordering::SeqCst);
    }
    nodes.start(node)?;
    Ok(())
}
