//! The demo's course: start, write, kill the leader, write on, restart it, let it catch up, verify, stop.
//!
//! It decides what happens when, and times it. How nodes are run, watched and read is its neighbours' business. Every
//! wait here ends at a deadline, and fails at once when a node dies that should not.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bench::check::{CheckReport, Expected};
use bench::cluster::{ClusterConnector, NodeRows};
use bench::keys::KeyPlan;
use bench::limits::SHOW_EVERY;
use bench::live::LiveView;
use bench::load::{Load, LoadOptions, LoadOutcome};
use bench::nodes::Nodes;
use bench::report::grouped;
use bench::verify::{verify_all, verify_last};

use super::DemoError;
use super::observer::Observer;
use super::report::{Observed, Phase, Setup};
use super::view::View;

use crate::limits::{
    CONNECT_TIMEOUT, KILL_AT_PERCENT, LEVEL_WITHIN, READ_TIMEOUT, READY_WITHIN, REQUEST_TIMEOUT, RESTART_AT_PERCENT,
    SPREAD_WITHIN, STATUS_EVERY,
};

/// Seed of the load's jitter; its keys do not depend on it.
const SEED: u64 = 1;

/// Everything the course works on.
pub(super) struct Story<'a> {
    pub(super) setup: &'a Setup,
    pub(super) nodes: &'a mut Nodes,
    pub(super) observer: Observer,
    pub(super) threads: usize,
    pub(super) live: LiveView,
    /// What was seen so far.
    pub(super) observed: Observed,
}

impl Story<'_> {
    /// Runs the whole course, up to and including the verification.
    pub(super) async fn run(mut self) -> Result<(Observed, LoadOutcome), DemoError> {
        self.start_nodes().await?;
        let mut load = Load::start(self.load_options(), self.connector()).await?;
        let total = Duration::from_secs(self.setup.seconds);
        let origin = load.origin();
        self.watch_until(origin + total * KILL_AT_PERCENT / 100, &load, "").await?;
        let victim = self.kill_leader(&mut load).await?;
        self.watch_failover(origin + total * RESTART_AT_PERCENT / 100, &load, victim).await?;
        self.nodes.start(victim)?;
        load.next_phase();
        let restarted = Instant::now();
        self.observed.restarted_at = restarted - origin;
        self.live.story(&format!("{} is started again", self.nodes[victim].name));
        let caught_up = self.watch_catch_up(origin + total, &mut load, victim, restarted).await?;
        self.watch_until(origin + total, &load, "all nodes up again").await?;
        let outcome = load.finish().await?;
        self.live.finish();
        let ended = Instant::now();
        if !caught_up {
            self.wait_for_catch_up(victim, restarted).await?;
        }
        self.wait_until_level().await?;
        self.observed.level = ended.elapsed();
        self.verify(&outcome).await?;
        Ok((self.observed, outcome))
    }

    async fn start_nodes(&mut self) -> Result<(), DemoError> {
        let begun = Instant::now();
        for node in 0..self.setup.nodes {
            self.nodes.start(node)?;
        }
        let shard_count = self.shard_count();
        let mut ready_at = None;
        loop {
            self.nodes.check()?;
            let view = self.observer.look().await;
            if view.is_ready(shard_count) {
                let since = *ready_at.get_or_insert_with(Instant::now);
                let is_spread = view.leader_count(shard_count) == shard_count.min(self.setup.nodes);
                if is_spread || since.elapsed() > SPREAD_WITHIN {
                    let leader = view.leader(0).map_or("?", |node| self.nodes[node].name.as_str());
                    let took_ms = begun.elapsed().as_millis();
                    self.live.story(&format!("{} nodes are up after {took_ms} ms, {leader} leads", self.setup.nodes));
                    return Ok(());
                }
            } else if begun.elapsed() > READY_WITHIN {
                return Err(DemoError::NotReady { within_s: READY_WITHIN.as_secs(), logs: self.nodes.log_tails() });
            }
            tokio::time::sleep(STATUS_EVERY).await;
        }
    }

    /// Shows progress until `deadline`.
    async fn watch_until(&mut self, deadline: Instant, load: &Load, note: &str) -> Result<(), DemoError> {
        loop {
            self.nodes.check()?;
            self.live.show(load.origin().elapsed(), load.progress(), note);
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            tokio::time::sleep(left.min(SHOW_EVERY)).await;
        }
    }

    /// Kills the leader of shard 0 and returns its number.
    async fn kill_leader(&mut self, load: &mut Load) -> Result<usize, DemoError> {
        let view = self.observer.look().await;
        let name_of = |node: Option<usize>| node.map_or("?", |node| self.nodes[node].name.as_str()).to_owned();
        self.observed.shard_leaders = (0..self.shard_count()).map(|shard| name_of(view.leader(shard))).collect();
        let victim = view.leader(0).ok_or(DemoError::NoLeader)?;
        load.next_phase();
        self.observed.killed_at = load.origin().elapsed();
        self.nodes.kill(victim)?;
        self.observer.forget(victim);
        let count = grouped(load.progress().acknowledged_count);
        self.live.story(&format!("{} leads; it is killed (SIGKILL) after {count} writes", self.nodes[victim].name));
        Ok(victim)
    }

    /// Watches the others elect a leader and write on, until `deadline`.
    async fn watch_failover(&mut self, deadline: Instant, load: &Load, victim: usize) -> Result<(), DemoError> {
        let killed = load.origin() + self.observed.killed_at;
        while Instant::now() < deadline {
            self.nodes.check()?;
            self.live.show(load.origin().elapsed(), load.progress(), "no leader");
            let view = self.look_until(deadline).await;
            if let Some(leader) = view.and_then(|view| view.leader(0)).filter(|&leader| leader != victim) {
                let took = killed.elapsed();
                self.observed.election = Some(took);
                let name = &self.nodes[leader].name;
                self.live.story(&format!("{name} was seen to lead {} ms after the kill", took.as_millis()));
                return self.watch_until(deadline, load, "one node down").await;
            }
            tokio::time::sleep(STATUS_EVERY).await;
        }
        Ok(())
    }

    /// Watches `victim` catch up under load until `deadline`; whether it has.
    async fn watch_catch_up(
        &mut self,
        deadline: Instant,
        load: &mut Load,
        victim: usize,
        restarted: Instant,
    ) -> Result<bool, DemoError> {
        let mut goal = None;
        while Instant::now() < deadline {
            self.nodes.check()?;
            self.live.show(load.origin().elapsed(), load.progress(), "catching up");
            let Some(view) = self.look_until(deadline).await else { return Ok(false) };
            if self.has_reached(&view, &mut goal, victim) {
                load.next_phase();
                self.note_catch_up(victim, restarted.elapsed(), true);
                return Ok(true);
            }
            tokio::time::sleep(STATUS_EVERY).await;
        }
        Ok(false)
    }

    /// Waits until `victim` has caught up now that the load has ended.
    async fn wait_for_catch_up(&mut self, victim: usize, restarted: Instant) -> Result<(), DemoError> {
        let begun = Instant::now();
        let mut goal = None;
        loop {
            let view = self.observer.look().await;
            if self.has_reached(&view, &mut goal, victim) {
                break;
            }
            self.check_level_time(begun).await?;
            tokio::time::sleep(STATUS_EVERY).await;
        }
        self.note_catch_up(victim, restarted.elapsed(), false);
        Ok(())
    }

    /// A look at the nodes that is given up at `deadline`: the load's schedule waits for no node's answer.
    async fn look_until(&mut self, deadline: Instant) -> Option<View> {
        tokio::time::timeout_at(deadline.into(), self.observer.look()).await.ok()
    }

    /// Whether `victim` has applied in `view` what the others had committed one look ago, kept in `goal`.
    fn has_reached(&self, view: &View, goal: &mut Option<Vec<u64>>, victim: usize) -> bool {
        let committed = view.commit_indexes(self.shard_count(), Some(victim));
        let has_reached = goal.as_ref().is_some_and(|goal| view.has_applied(victim, goal));
        *goal = committed.iter().all(|&index| index > 0).then_some(committed);
        has_reached
    }

    fn note_catch_up(&mut self, victim: usize, took: Duration, under_load: bool) {
        self.observed.catchup = took;
        self.observed.caught_up_under_load = under_load;
        let name = &self.nodes[victim].name;
        let when = if under_load { "under load" } else { "after the load had ended" };
        self.live.story(&format!("{name} has caught up {when}, {} ms after its restart", took.as_millis()));
    }

    async fn wait_until_level(&mut self) -> Result<(), DemoError> {
        let begun = Instant::now();
        while !self.observer.look().await.is_level(self.shard_count()) {
            self.check_level_time(begun).await?;
            tokio::time::sleep(STATUS_EVERY).await;
        }
        Ok(())
    }

    async fn check_level_time(&mut self, begun: Instant) -> Result<(), DemoError> {
        self.nodes.check()?;
        if begun.elapsed() <= LEVEL_WITHIN {
            return Ok(());
        }
        let applied = self.observer.look().await.applied_text(self.shard_count());
        Err(DemoError::NotLevel { within_s: LEVEL_WITHIN.as_secs(), applied, logs: self.nodes.log_tails() })
    }

    /// Reads every acknowledged write back from every node, then the last of each worker through the leader.
    async fn verify(&mut self, outcome: &LoadOutcome) -> Result<(), DemoError> {
        let begun = Instant::now();
        let expected = Expected::new(outcome.writes.clone(), self.setup.value_bytes, self.setup.shards);
        let expected = Rc::new(expected);
        let count = grouped(expected.acknowledged_count());
        self.live.story(&format!("load ended; reading {count} acknowledged writes back from every node"));
        for (node, endpoint) in self.nodes.endpoints().into_iter().enumerate() {
            let rows = NodeRows::serializable(&self.connector_to(vec![endpoint.clone()]), endpoint).await?;
            let report = verify_all(&expected, &Rc::new(rows)).await?;
            self.nodes.check()?;
            self.take_findings(node, &report);
        }
        let rows = NodeRows::linearizable(&self.connector_to(self.nodes.endpoints())).await?;
        let report = verify_last(&expected, &Rc::new(rows)).await?;
        self.observed.lost = self.observed.lost.max(report.lost_count());
        self.show_examples("a linearizable read", &report);
        self.observed.verify = begun.elapsed();
        Ok(())
    }

    fn take_findings(&mut self, node: usize, report: &CheckReport) {
        let name = self.nodes[node].name.clone();
        let observed = &mut self.observed;
        observed.lost = observed.lost.max(report.lost_count());
        observed.unexpected = observed.unexpected.max(report.unexpected_count);
        observed.unknown_present = observed.unknown_present.max(report.unknown_present_count);
        let (verified, lost) = (grouped(report.verified_count), report.lost_count());
        self.live.story(&format!("{name}: {verified} verified, {lost} lost"));
        self.show_examples(&name, report);
        self.observed.lost_by_node.insert(name, lost);
    }

    fn show_examples(&self, reader: &str, report: &CheckReport) {
        for example in &report.examples {
            self.live.story(&format!("{reader}: {example}"));
        }
    }

    fn shard_count(&self) -> usize {
        self.setup.shards as usize
    }

    fn load_options(&self) -> LoadOptions {
        LoadOptions {
            outstanding: self.setup.outstanding,
            connections: self.setup.connections,
            threads: self.threads,
            value_bytes: self.setup.value_bytes,
            keys: KeyPlan::Tracked { shard_count: self.setup.shards },
            seed: SEED,
            phases: Phase::COUNT,
        }
    }

    fn connector(&self) -> ClusterConnector {
        let endpoints = self.nodes.endpoints();
        ClusterConnector { endpoints, request_timeout: REQUEST_TIMEOUT, connect_timeout: CONNECT_TIMEOUT }
    }

    fn connector_to(&self, endpoints: Vec<String>) -> ClusterConnector {
        ClusterConnector { endpoints, request_timeout: READ_TIMEOUT, connect_timeout: CONNECT_TIMEOUT }
    }
}
