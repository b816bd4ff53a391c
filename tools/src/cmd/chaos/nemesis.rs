//! What goes wrong, and when: chosen by the seed, done to processes that this program started.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bench::nodes::Nodes;
use indicatif::ProgressBar;
use powerfs::Remains;
use rustix::process::Signal;
use wal::limits::PAGE_BYTES;
use wal::testing::SimRng;

use super::ChaosError;
use super::faults::{self, Fault};
use super::lab::Lab;
use crate::cmd::power::plan::Cut;
use crate::cmd::recorded::{Shared, statuses};

use crate::limits::{CUT_MS, FAULT_PAUSE_MS, FULL_MS, LASTS_MS};

/// A fault that goes on while others come, and how it ends.
#[derive(Debug)]
enum Lasting {
    Cut(Vec<(usize, usize)>),
    Full(usize),
    /// The process that makes the disk of a node hang ends by itself.
    Hang(usize, Hanging),
}

/// Waits for it when dropped, whatever became of this program: a disk must not stay frozen under its node.
#[derive(Debug)]
struct Hanging(Child);

impl Hanging {
    /// Waits for its end. Fails if the disk did not hang as it should.
    fn end(mut self) -> Result<(), ChaosError> {
        let status = self.0.wait().map_err(io_error("wait for", Path::new("fsfreeze")))?;
        if status.success() { Ok(()) } else { Err(ChaosError::Lab(format!("fsfreeze ended with {status}"))) }
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        if let Err(error) = self.0.wait() {
            eprintln!("cannot wait for the process that lets a disk hang: {error}");
        }
    }
}

/// Whoever does it, and what was done.
#[derive(Debug)]
pub(super) struct Nemesis {
    rng: SimRng,
    lasts: Duration,
    lab: Lab,
    lasting: Vec<(Instant, Lasting)>,
    done: Vec<(Duration, &'static str, String)>,
}

impl Nemesis {
    pub(super) fn new(seed: u64, lasts: Duration, lab: Lab) -> Self {
        Self { rng: SimRng::new(seed), lasts, lab, lasting: Vec::new(), done: Vec::new() }
    }

    /// What it cannot do here.
    pub(super) fn lacks(&self) -> Vec<String> {
        self.lab.lacks()
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

    /// Injects faults until time is up; at the end all nodes run, and networks and disks are as they were.
    pub(super) async fn run(
        &mut self,
        nodes: &mut Nodes,
        shared: &Shared,
        progress: &ProgressBar,
    ) -> Result<(), ChaosError> {
        let started = Instant::now();
        while started.elapsed() < self.lasts {
            self.pause(FAULT_PAUSE_MS).await;
            self.end(Instant::now())?;
            nodes.check()?;
            let (fault, name) = self.choose();
            let targets = self.targets(fault, shared).await;
            if targets.is_empty() {
                // Nobody leads just now, or nobody says so.
                continue;
            }
            let done = self.strike(fault, &targets, nodes, shared).await?;
            if let Some(what) = done {
                progress.set_message(format!("{name}: {what}"));
                self.done.push((started.elapsed(), name, what));
            }
        }
        while let Some(last) = self.lasting.iter().map(|(until, _)| *until).max() {
            self.end(last)?;
        }
        Ok(())
    }

    /// Ends the faults whose time is up at `now`.
    fn end(&mut self, now: Instant) -> Result<(), ChaosError> {
        let (over, going_on) = std::mem::take(&mut self.lasting).into_iter().partition(|(until, _)| *until <= now);
        self.lasting = going_on;
        for (_, lasting) in Vec::from_iter::<Vec<_>>(over) {
            match (lasting, &mut self.lab) {
                (Lasting::Cut(cuts), Lab { network: Ok(network), .. }) => {
                    cuts.into_iter().try_for_each(|cut| network.heal(cut)).map_err(ChaosError::Lab)?;
                }
                (Lasting::Full(node), Lab { disks: Ok(disks), .. }) => {
                    disks.empty(node).map_err(|source| io_error("empty the disk of", Path::new("a node"))(source))?;
                }
                (Lasting::Hang(_, hanging), _) => hanging.end()?,
                (lasting, _) => drop(lasting),
            }
        }
        Ok(())
    }

    fn lasts_ms(&mut self, (low, high): (u64, u64)) -> u64 {
        low + self.rng.below(high - low)
    }

    fn until(&mut self, range: (u64, u64)) -> Instant {
        Instant::now() + Duration::from_millis(self.lasts_ms(range))
    }

    async fn pause(&mut self, range: (u64, u64)) {
        let pause_ms = self.lasts_ms(range);
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }

    fn choose(&mut self) -> (Fault, &'static str) {
        let faults = faults::available(&self.lab);
        let total = faults.iter().map(|(.., weight)| weight).sum();
        let mut left = self.rng.below(total);
        for (fault, name, weight) in faults {
            if left < weight {
                return (fault, name);
            }
            left -= weight;
        }
        unreachable!("one of the weights covers what is below their sum")
    }

    /// Nodes that a fault is done to; none if it is for the leader and none is known.
    async fn targets(&mut self, fault: Fault, shared: &Shared) -> Vec<usize> {
        let count = shared.endpoints.len();
        let any = usize::try_from(self.rng.below(count as u64)).expect("few");
        match fault {
            Fault::KillMajority | Fault::PowerMajority => (0..=count / 2).map(|step| (any + step) % count).collect(),
            Fault::KillAll | Fault::PowerAll => (0..count).collect(),
            Fault::CutPair => vec![any, (any + 1) % count],
            fault if fault.hits_leader() => {
                let statuses = statuses(shared).await;
                // Of two that think so, the one of the later term is right.
                let leaders = statuses.iter().filter(|status| status.role == "leader");
                let leader = leaders.max_by_key(|status| status.term);
                let number = leader.and_then(|status| status.name.strip_prefix('n')?.parse::<usize>().ok());
                number.map(|number| number - 1).into_iter().collect()
            }
            _ => vec![any],
        }
    }

    /// Does it. `None`: it does not fit the moment, and nothing was done.
    async fn strike(
        &mut self,
        fault: Fault,
        targets: &[usize],
        nodes: &mut Nodes,
        shared: &Shared,
    ) -> Result<Option<String>, ChaosError> {
        let mut what = targets.iter().map(|node| nodes[*node].name.clone()).collect::<Vec<_>>().join(", ");
        let target = targets[0];
        match fault {
            Fault::StopOne | Fault::StopLeader => {
                nodes[target].signal(Signal::STOP);
                self.pause(LASTS_MS).await;
                nodes[target].signal(Signal::CONT);
            }
            Fault::Damage | Fault::Wipe => {
                if !self.may_lose_data(target, shared).await {
                    return Ok(None);
                }
                nodes.kill(target)?;
                let data_dir = nodes[target].data_dir.clone();
                if fault == Fault::Damage {
                    what = format!("{what}, {}", self.damage(&data_dir)?);
                } else {
                    std::fs::remove_dir_all(&data_dir).map_err(io_error("remove", &data_dir))?;
                }
                start(nodes, shared, target)?;
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
            Fault::PowerOne | Fault::PowerLeader | Fault::PowerMajority | Fault::PowerAll => {
                let remains = self.cut_power(targets, nodes).await?;
                what = format!("{what}, {remains}");
                self.pause(LASTS_MS).await;
                for node in targets {
                    start(nodes, shared, *node)?;
                }
            }
            Fault::CutOne | Fault::CutLeader | Fault::CutOutgoing | Fault::CutIncoming | Fault::CutPair => {
                let cuts = cuts(fault, targets, shared.endpoints.len());
                self.cut(cuts)?;
            }
            Fault::FillOne | Fault::FillLeader
                if self.lab.disks.as_ref().is_ok_and(|disks| disks.is_filled(target)) =>
            {
                return Ok(None);
            }
            Fault::FillOne | Fault::FillLeader => what = format!("{what}, {}", self.fill(target)?),
            Fault::SlowOne | Fault::SlowLeader | Fault::HangOne if self.hangs(target) => return Ok(None),
            Fault::SlowOne | Fault::SlowLeader => {
                let (times, hang_ms, free_ms) = (5 + self.rng.below(20), self.lasts_ms((20, 300)), 20);
                what = format!("{what}, {times} times {hang_ms} ms");
                self.hang(target, times, hang_ms, free_ms)?;
            }
            Fault::HangOne => {
                let hang_ms = self.lasts_ms((500, 4_000));
                what = format!("{what}, {hang_ms} ms");
                self.hang(target, 1, hang_ms, 0)?;
            }
        }
        Ok(Some(what))
    }

    /// A second node that lacks what it promised would be more than the promise covers, and the repair needs room.
    async fn may_lose_data(&self, target: usize, shared: &Shared) -> bool {
        let all = statuses(shared).await;
        let is_filled = self.lab.disks.as_ref().is_ok_and(|disks| disks.is_filled(target));
        let is_whole = |status: &client::ShardStatus| status.under_repair.is_none() && status.new.is_none();
        !is_filled && all.len() >= shared.endpoints.len().max(3) && all.iter().all(is_whole)
    }

    /// Returns what was left, in words.
    async fn cut_power(&mut self, targets: &[usize], nodes: &mut Nodes) -> Result<String, ChaosError> {
        let cut = Cut::of(targets.iter().map(|node| 1 << node).sum(), &mut self.rng);
        let Some(power) = &mut self.lab.power else { return Ok(String::new()) };
        let left = power.cut(nodes, &cut).await?;
        let Remains { sectors_kept, sectors_lost, names_kept, names_lost } = left;
        Ok(format!(
            "not synced: {sectors_kept} sectors kept, {sectors_lost} lost, {names_kept} names kept, {names_lost} lost"
        ))
    }

    fn cut(&mut self, cuts: Vec<(usize, usize)>) -> Result<(), ChaosError> {
        let until = self.until(CUT_MS);
        if let Ok(network) = &mut self.lab.network {
            cuts.iter().try_for_each(|cut| network.cut(*cut)).map_err(ChaosError::Lab)?;
        }
        self.lasting.push((until, Lasting::Cut(cuts)));
        Ok(())
    }

    /// Returns what was done, in words.
    fn fill(&mut self, node: usize) -> Result<String, ChaosError> {
        let until = self.until(FULL_MS);
        let Ok(disks) = &mut self.lab.disks else { return Ok(String::new()) };
        let bytes = disks.fill(node).map_err(|source| io_error("fill the disk of", Path::new("a node"))(source))?;
        self.lasting.push((until, Lasting::Full(node)));
        Ok(format!("with {bytes} bytes"))
    }

    /// True if a process makes the disk of this node hang, now or soon again.
    fn hangs(&self, node: usize) -> bool {
        self.lasting.iter().any(|(_, lasting)| matches!(lasting, Lasting::Hang(of, _) if *of == node))
    }

    fn hang(&mut self, node: usize, times: u64, hang_ms: u64, free_ms: u64) -> Result<(), ChaosError> {
        let Ok(disks) = &self.lab.disks else { return Ok(()) };
        let child = disks.hang(node, times, hang_ms, free_ms).map_err(io_error("start", Path::new("sh")))?;
        let until = Instant::now() + Duration::from_millis(times * (hang_ms + free_ms));
        self.lasting.push((until, Lasting::Hang(node, Hanging(child))));
        Ok(())
    }

    /// Flips a bit or wipes a page where the log of a node that is down was written.
    fn damage(&mut self, data_dir: &Path) -> Result<String, ChaosError> {
        let dir = data_dir.join("shards").join("0000").join("wal");
        let entries = std::fs::read_dir(&dir).map_err(io_error("list", &dir))?;
        let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let mut segments: Vec<PathBuf> =
            paths.filter(|path| path.extension().is_some_and(|end| end == "wal")).collect();
        segments.sort();
        let at = usize::try_from(self.rng.below(segments.len().max(1) as u64)).expect("few");
        let nothing = || ChaosError::Lab(format!("{} has nothing to damage", dir.display()));
        let path = segments.get(at).ok_or_else(nothing)?;
        let mut bytes = std::fs::read(path).map_err(io_error("read", path))?;
        let written = bytes.iter().rposition(|byte| *byte != 0).map_or(bytes.len(), |last| last + 1);
        let offset = usize::try_from(self.rng.below(written.max(1) as u64)).expect("an offset");
        let start = offset / PAGE_BYTES * PAGE_BYTES;
        let page = start..bytes.len().min(start + PAGE_BYTES);
        // A page of zeros can't be wiped.
        let wipes = self.rng.chance(1, 3) && bytes[page.clone()].iter().any(|byte| *byte != 0);
        let (start, length, what) = if wipes {
            bytes[page.clone()].fill(0);
            (start, page.len(), format!("the page at {start}"))
        } else {
            *bytes.get_mut(offset).ok_or_else(nothing)? ^= 1 << self.rng.below(8);
            (offset, 1, format!("a bit of byte {offset}"))
        };
        let file = std::fs::File::options().write(true).open(path).map_err(io_error("open", path))?;
        file.write_all_at(&bytes[start..start + length], start as u64).map_err(io_error("write", path))?;
        Ok(format!("{what} of {}", path.display()))
    }
}

/// The directions, from and to, that a fault cuts.
fn cuts(fault: Fault, targets: &[usize], count: usize) -> Vec<(usize, usize)> {
    let target = targets[0];
    let others = || (0..count).filter(|other| *other != target);
    let outgoing = || others().map(|other| (target, other));
    let incoming = || others().map(|other| (other, target));
    match fault {
        Fault::CutOutgoing => outgoing().collect(),
        Fault::CutIncoming => incoming().collect(),
        Fault::CutPair => vec![(target, targets[1]), (targets[1], target)],
        _ => outgoing().chain(incoming()).collect(),
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ChaosError {
    let path = path.to_owned();
    move |source| ChaosError::Io { action, path, source }
}

fn start(nodes: &mut Nodes, shared: &Shared, node: usize) -> Result<(), ChaosError> {
    if let Some(life) = shared.lives.get(node) {
        life.fetch_add(1, Ordering::SeqCst);
    }
    nodes.start(node)?;
    Ok(())
}
