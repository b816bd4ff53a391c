//! What runs on real nodes have in common: recorded clients, waiting until the nodes agree, and the judges of what clients were told.
//!
//! What goes wrong meanwhile, and when, is the business of `chaos` and `certify`.

pub(in crate::cmd) mod clients;

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bench::nodes::{Nodes, NodesError};
use client::{Client, ClientOptions, ShardStatus};
use engine::testing::history::Operation;
use engine::testing::search::{self, Limits, Verdict};
use engine::testing::{history_json, judge};
use tokio::task::JoinHandle;

use self::clients::Worker;

use crate::limits::{CHAOS_POLL, COMPLAINTS_MAX, CONVERGE_WITHIN};

/// How long the judge that searches may.
const SEARCH_LIMITS: Limits = Limits { key_steps: 20_000_000, shard_steps: 20_000_000 };

/// Why the nodes do not agree.
#[derive(Debug, thiserror::Error)]
pub enum ConvergeError {
    /// A node ended by itself, or cannot be watched.
    #[error(transparent)]
    Nodes(#[from] NodesError),
    /// The nodes did not agree after the faults.
    #[error("{within_s} s after the last fault the nodes do not agree: {state}; their logs end with:\n{logs}")]
    Late {
        /// How long was waited. Unit: s.
        within_s: u64,
        /// What they said.
        state: String,
        /// Ends of their logs.
        logs: String,
    },
}

/// What the clients and the faults share.
#[derive(Debug)]
pub(in crate::cmd) struct Shared {
    started: Instant,
    pub(in crate::cmd) endpoints: Vec<String>,
    /// Counts the processes of each node.
    pub(in crate::cmd) lives: Vec<AtomicU64>,
    pub(in crate::cmd) history: Mutex<Vec<Operation>>,
    /// Operations that certainly took no effect, or reads without an answer.
    pub(in crate::cmd) refused: AtomicU64,
    pub(in crate::cmd) is_over: AtomicBool,
    /// What was seen to be wrong, whatever the judges say of the history.
    pub(in crate::cmd) wrong: Mutex<Vec<String>>,
}

impl Shared {
    pub(in crate::cmd) fn new(nodes: &Nodes) -> Self {
        Self {
            started: Instant::now(),
            endpoints: nodes.endpoints(),
            lives: (0..nodes.count()).map(|_| AtomicU64::new(0)).collect(),
            history: Mutex::default(),
            refused: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            wrong: Mutex::default(),
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Something is wrong that no history shows.
    pub(in crate::cmd) fn complain(&self, what: String) {
        let mut wrong = self.wrong.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if wrong.len() < COMPLAINTS_MAX {
            wrong.push(what);
        }
    }

    fn record(&self, operation: Operation) {
        // A panic elsewhere leaves whole operations.
        self.history.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(operation);
    }

    /// What was complained of, or what the judges find; and after how many steps the one that searches gave up, if it did.
    pub(in crate::cmd) fn verdict(&self) -> (Option<String>, Option<u64>) {
        let history = self.history.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (violation, search_gave_up_after) = judge_all(&history);
        let wrong = self.wrong.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        (violation.or_else(|| (!wrong.is_empty()).then(|| wrong.join("; "))), search_gave_up_after)
    }

    /// Operations that were answered, and those of unknown outcome.
    pub(in crate::cmd) fn counts(&self) -> (usize, usize) {
        let history = self.history.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let answered = history.iter().filter(|operation| operation.outcome.is_some()).count();
        (answered, history.len() - answered)
    }

    /// Writes one operation on each line, as JSON.
    pub(in crate::cmd) fn save(&self, path: &Path) -> io::Result<()> {
        let mut file = io::BufWriter::new(std::fs::File::create(path)?);
        for operation in self.history.lock().unwrap_or_else(std::sync::PoisonError::into_inner).iter() {
            writeln!(file, "{}", history_json::to_line(operation))?;
        }
        file.flush()
    }
}

/// Starts clients that work until everything is over.
pub(in crate::cmd) fn spawn_clients(shared: &Arc<Shared>, count: u8, seed: u64, keys: u8) -> Vec<JoinHandle<()>> {
    let workers = (0..usize::from(count)).map(|number| {
        let worker = Worker::new(number, seed, keys.into(), Arc::clone(shared));
        tokio::spawn(worker.run())
    });
    workers.collect()
}

/// Waits for the clients to end. A panic of one is this caller's.
pub(in crate::cmd) async fn join_clients(workers: Vec<JoinHandle<()>>) {
    for worker in workers {
        if let Err(error) = worker.await {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// The statuses of the nodes that answer.
pub(in crate::cmd) async fn statuses(shared: &Shared) -> Vec<ShardStatus> {
    let mut found = Vec::new();
    for endpoint in &shared.endpoints {
        let options = ClientOptions {
            endpoints: vec![endpoint.clone()],
            request_timeout: Duration::from_millis(500),
            connect_timeout: Duration::from_millis(500),
            ..ClientOptions::default()
        };
        if let Ok(client) = Client::connect(options).await
            && let Ok(shards) = client.status(endpoint).await
        {
            found.extend(shards);
        }
    }
    found
}

/// Waits until all nodes run, know a leader, miss nothing and have applied the same.
pub(in crate::cmd) async fn converge(nodes: &mut Nodes, shared: &Shared) -> Result<(), ConvergeError> {
    let started = Instant::now();
    loop {
        nodes.check()?;
        let statuses = statuses(shared).await;
        let is_level = |status: &ShardStatus| {
            status.leader != 0 && status.under_repair.is_none() && status.applied_index == status.last_index
        };
        let first = statuses.first().map(|status| status.applied_index);
        if statuses.len() == shared.endpoints.len()
            && statuses.iter().all(|status| is_level(status) && Some(status.applied_index) == first)
        {
            return Ok(());
        }
        if started.elapsed() > CONVERGE_WITHIN {
            let within_s = CONVERGE_WITHIN.as_secs();
            let state = format!("{statuses:?}");
            return Err(ConvergeError::Late { within_s, state, logs: nodes.log_tails() });
        }
        tokio::time::sleep(CHAOS_POLL).await;
    }
}

/// Both judges: what is wrong, if anything, and after how many steps the one that searches gave up, if it did.
fn judge_all(history: &[Operation]) -> (Option<String>, Option<u64>) {
    let operations: Vec<&Operation> = history.iter().collect();
    if let Err(what) = judge::judge(&operations) {
        return (Some(what), None);
    }
    match search::judge(&operations, SEARCH_LIMITS) {
        Verdict::Linearizable => (None, None),
        Verdict::GaveUp { steps } => (None, Some(steps)),
        Verdict::NotLinearizable(refutation) => (Some(refutation.to_string()), None),
    }
}
