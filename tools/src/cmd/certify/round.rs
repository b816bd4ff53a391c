//! One cluster from its first start over some power cuts to its judgement. Each begins with empty disks, so that a run of any length takes
//! no more memory or room.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use api::status::SHARD_STOPPED;
use bench::nodes::{NodesError, Shape};
use indicatif::ProgressBar;
use powerfs::Remains;
use wal::random::SplitMix64;

use super::CertifyError;
use super::rack::Rack;
use crate::cmd::power::PowerError;
use crate::cmd::power::plan::{Cut, How};
use crate::cmd::recorded::clients::read_everything;
use crate::cmd::recorded::{ConvergeError, Shared, converge, join_clients, spawn_clients};

use crate::limits::{CHAOS_POLL, CONVERGE_WITHIN};

/// What one cluster goes through.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) seed: u64,
    pub(super) cuts: u32,
    pub(super) nodes: u8,
    pub(super) clients: u8,
    pub(super) keys: u8,
    pub(super) program: PathBuf,
    pub(super) flags: Vec<String>,
    pub(super) dir: PathBuf,
    pub(super) keep: bool,
    /// Where the history goes if something is wrong.
    pub(super) history: PathBuf,
}

/// What was counted, in one round or in several.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) cuts: u32,
    pub(super) cuts_of_all_nodes: u32,
    pub(super) cuts_while_starting: u32,
    pub(super) remains: Remains,
    pub(super) acknowledged: u64,
    pub(super) unknown: u64,
    pub(super) refused: u64,
    pub(super) read_back: u64,
    pub(super) search_gave_up: u32,
    pub(super) violation: Option<String>,
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        self.cuts += other.cuts;
        self.cuts_of_all_nodes += other.cuts_of_all_nodes;
        self.cuts_while_starting += other.cuts_while_starting;
        self.remains.add(other.remains);
        self.acknowledged += other.acknowledged;
        self.unknown += other.unknown;
        self.refused += other.refused;
        self.read_back += other.read_back;
        self.search_gave_up += other.search_gave_up;
        self.violation = self.violation.take().or(other.violation);
    }

    /// For people, while others go on.
    pub(super) fn line(&self) -> String {
        let Self { cuts, acknowledged, unknown, read_back, .. } = self;
        let Remains { sectors_kept, sectors_lost, names_kept, names_lost } = self.remains;
        let verdict = if self.violation.is_some() { "SOMETHING IS WRONG" } else { "nothing lost" };
        format!(
            "{cuts} cuts, {acknowledged} acknowledged, {unknown} unknown, {read_back} read back; not synced: {sectors_kept} sectors \
             kept, {sectors_lost} lost, {names_kept} names kept, {names_lost} lost; {verdict}"
        )
    }
}

/// Why a round ended early.
enum Early {
    /// The nodes did what they must not.
    Wrong(String),
    /// It could not go on.
    Failed(CertifyError),
}

impl From<CertifyError> for Early {
    fn from(error: CertifyError) -> Self {
        match error {
            // A node that refuses to start with what a cut left is a finding.
            CertifyError::Nodes(NodesError::NodeDied { .. })
            | CertifyError::Power(PowerError::Nodes(NodesError::NodeDied { .. })) => Self::Wrong(error.to_string()),
            _ => Self::Failed(error),
        }
    }
}

impl From<ConvergeError> for Early {
    fn from(error: ConvergeError) -> Self {
        match error {
            ConvergeError::Nodes(error) => CertifyError::Nodes(error).into(),
            ConvergeError::Late { .. } => Self::Wrong(error.to_string()),
        }
    }
}

impl Round {
    /// Runs and judges it.
    pub(super) async fn run(&self, progress: &ProgressBar) -> Result<Tally, CertifyError> {
        let shape = Shape { nodes: self.nodes.into(), shards: 1, cores: 1, flags: self.flags.clone() };
        let mut rack = Rack::create(self.program.clone(), shape, &self.dir, self.keep)?;
        let shared = Arc::new(Shared::new(&rack.nodes));
        let mut tally = Tally::default();
        match self.go_through(&mut rack, &shared, &mut tally, progress).await {
            Ok(()) => {}
            Err(Early::Wrong(what)) => shared.complain(what),
            Err(Early::Failed(error)) => return Err(error),
        }
        shared.is_over.store(true, Ordering::SeqCst);
        let (violation, search_gave_up_after) = shared.verdict();
        let (acknowledged, unknown) = shared.counts();
        tally.acknowledged = acknowledged as u64;
        tally.unknown = unknown as u64;
        tally.refused = shared.refused.load(Ordering::Relaxed);
        tally.search_gave_up = u32::from(search_gave_up_after.is_some());
        if let Some(violation) = violation {
            let path = &self.history;
            let io_error = |source| CertifyError::Io { action: "write", path: path.clone(), source };
            shared.save(path).map_err(io_error)?;
            tally.violation = Some(format!("{violation}\nthe history is in {}", path.display()));
        }
        Ok(tally)
    }

    async fn go_through(
        &self,
        rack: &mut Rack,
        shared: &Arc<Shared>,
        tally: &mut Tally,
        progress: &ProgressBar,
    ) -> Result<(), Early> {
        let mut random = SplitMix64::new(self.seed);
        let all = (1 << self.nodes) - 1;
        let mut cuts_left = self.cuts;
        rack.start(all, shared)?;
        if cuts_left > 1 && random.chance(1, 2) {
            let cut = Cut::draw_first(&mut random, self.nodes);
            cuts_left -= 1;
            self.cut(rack, shared, tally, progress, &cut).await?;
        }
        converge(&mut rack.nodes, shared).await?;
        let workers = spawn_clients(shared, self.clients, random.next_u64(), self.keys);
        for _ in 0..cuts_left {
            let cut = Cut::draw(&mut random, self.nodes);
            self.wait_for_answers(rack, shared, cut.answers_before).await?;
            self.cut(rack, shared, tally, progress, &cut).await?;
        }
        shared.is_over.store(true, Ordering::SeqCst);
        join_clients(workers).await;
        progress.set_message("waiting for the nodes to agree");
        converge(&mut rack.nodes, shared).await?;
        let (before, _) = shared.counts();
        read_everything(shared, self.keys.into()).await;
        tally.read_back = (shared.counts().0 - before) as u64;
        // A node that does not stop, or a shard that stopped by itself, is a failure like a lost write.
        rack.nodes.stop().into_iter().for_each(|complaint| shared.complain(complaint));
        let stopped = rack.nodes.lines_with(SHARD_STOPPED).map_err(CertifyError::from)?;
        stopped.into_iter().for_each(|line| shared.complain(line));
        Ok(())
    }

    async fn cut(
        &self,
        rack: &mut Rack,
        shared: &Shared,
        tally: &mut Tally,
        progress: &ProgressBar,
        cut: &Cut,
    ) -> Result<(), Early> {
        tally.cuts += 1;
        tally.cuts_of_all_nodes += u32::from(cut.victims.count_ones() == u32::from(self.nodes));
        tally.cuts_while_starting += u32::from(cut.answers_before == 0);
        let remains = rack.cut(cut).await?;
        tally.remains.add(remains);
        progress.inc(1);
        let how = match cut.how {
            How::At(trigger) => format!("at {trigger:?}"),
            How::AfterDeath => "after their death".to_owned(),
        };
        progress.set_message(format!("{} nodes {how}: {remains:?}", cut.victims.count_ones()));
        Ok(rack.start(cut.victims, shared)?)
    }

    /// Waits until so many more answers came than there are.
    async fn wait_for_answers(&self, rack: &mut Rack, shared: &Shared, count: usize) -> Result<(), Early> {
        let wanted = shared.counts().0 + count;
        let started = Instant::now();
        while shared.counts().0 < wanted {
            rack.nodes.check().map_err(CertifyError::from)?;
            if started.elapsed() > CONVERGE_WITHIN {
                let within_s = CONVERGE_WITHIN.as_secs();
                return Err(Early::Wrong(format!(
                    "no {count} answers within {within_s} s after a power cut; the nodes' logs end with:\n{}",
                    rack.nodes.log_tails()
                )));
            }
            tokio::time::sleep(CHAOS_POLL).await;
        }
        Ok(())
    }
}
