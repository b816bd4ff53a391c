//! The connections to one endpoint: made when they are first used, by one attempt that everybody shares.
//!
//! No lock is held while a connection opens. An endpoint that could not be reached, or fell silent, is remembered as failed
//! for a while, longer each time, until it answers a request: many that greet do nothing more. Which endpoint is used is decided
//! elsewhere.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::conn::{Conn, Silence};
use super::dial::{ConnectError, Dialing, not_yet};
use super::limits::{FAILED_MS_MAX, FAILED_MS_MIN};
use super::{Endpoint, Options, ServerInfo, lock};

/// What all connections of a client have in common.
#[derive(Debug)]
pub(super) struct Context {
    pub dialing: Dialing,
    pub next_endpoint_after: Duration,
    pub silence: Silence,
    connections_per_endpoint: usize,
    /// The cluster, as the first node that answered told it.
    info: OnceLock<ServerInfo>,
}

impl Context {
    pub fn new(options: &Options) -> Self {
        Self {
            dialing: Dialing {
                timeout: options.connect_timeout,
                next_after: options.next_address_after,
                resolver: options.resolver.clone(),
            },
            next_endpoint_after: options.next_endpoint_after,
            silence: Silence { limit: options.silence_limit, idle: options.idle_ping },
            connections_per_endpoint: options.connections_per_endpoint.max(1),
            info: OnceLock::new(),
        }
    }

    /// All nodes are of the cluster that the first one named.
    fn check(&self, info: &ServerInfo) -> Result<(), ConnectError> {
        let expected = self.info.get_or_init(|| info.clone());
        if info == expected {
            return Ok(());
        }
        Err(ConnectError::lasting(format!(
            "it belongs to cluster {:016x} with {} shards, expected {:016x} with {}",
            info.cluster_id, info.shard_count, expected.cluster_id, expected.shard_count
        )))
    }
}

/// How an attempt ended.
pub(super) type Outcome = Result<Arc<Conn>, ConnectError>;

/// An attempt under way. Clones wait for the same one.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub started: Instant,
    /// The other side has taken the connection.
    is_taken: Arc<AtomicBool>,
    outcome: watch::Receiver<Option<Outcome>>,
}

impl Attempt {
    /// Waits for its end.
    pub async fn outcome(mut self) -> Outcome {
        let given_up = || Err(ConnectError::passing("the attempt to connect was given up".to_owned()));
        match self.outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or_else(given_up),
            // Its runtime ended.
            Err(_closed) => given_up(),
        }
    }

    fn is_under_way(&self) -> bool {
        // The sender is dropped with the task, whose runtime may have ended.
        self.outcome.has_changed().is_ok()
    }
}

/// A connection, or how to get one.
#[derive(Debug)]
pub(super) enum Way {
    Open(Arc<Conn>),
    Opening(Attempt),
}

#[derive(Debug, Default)]
struct Slot {
    conn: Option<Arc<Conn>>,
    attempt: Option<(Attempt, AbortHandle)>,
}

#[derive(Debug, Default)]
struct Health {
    /// Failures in a row.
    failures: u32,
    failed_at: Option<Instant>,
    reason: Option<String>,
}

/// Connections to one endpoint.
#[derive(Debug)]
pub(super) struct Pool {
    pub endpoint: Endpoint,
    context: Arc<Context>,
    slots: Vec<Mutex<Slot>>,
    next: AtomicUsize,
    health: Mutex<Health>,
    /// There are failures in `health`. Changes under its lock.
    has_failed: AtomicBool,
}

impl Drop for Pool {
    fn drop(&mut self) {
        for slot in &self.slots {
            if let Some((_, task)) = &lock(slot).attempt {
                task.abort();
            }
        }
    }
}

impl Pool {
    pub fn new(endpoint: Endpoint, context: &Arc<Context>) -> Arc<Self> {
        Arc::new(Self {
            endpoint,
            slots: (0..context.connections_per_endpoint).map(|_| Mutex::default()).collect(),
            context: Arc::clone(context),
            next: AtomicUsize::new(0),
            health: Mutex::default(),
            has_failed: AtomicBool::new(false),
        })
    }

    /// An open connection, or the attempt that may bring one; it is begun now if there is none.
    pub fn way(self: &Arc<Self>) -> Way {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.slots.len();
        let mut slot = lock(&self.slots[at]);
        self.drop_closed(&mut slot);
        if let Some(conn) = &slot.conn {
            return Way::Open(Arc::clone(conn));
        }
        if let Some((attempt, _)) = slot.attempt.as_ref().filter(|(attempt, _)| attempt.is_under_way()) {
            return Way::Opening(attempt.clone());
        }
        let (sender, outcome) = watch::channel(None);
        let is_taken = Arc::<AtomicBool>::default();
        let attempt = Attempt { started: Instant::now(), is_taken: Arc::clone(&is_taken), outcome };
        let pool = Arc::downgrade(self);
        let (endpoint, context) = (self.endpoint.clone(), Arc::clone(&self.context));
        let task = tokio::spawn(async move {
            let opened = Conn::open(&endpoint, &context.dialing, context.silence, &is_taken).await;
            let outcome = opened.and_then(|conn| context.check(conn.info()).map(|()| Arc::new(conn)));
            if let Some(pool) = pool.upgrade() {
                pool.attempt_ended(at, &outcome);
            }
            sender.send_replace(Some(outcome));
        });
        slot.attempt = Some((attempt.clone(), task.abort_handle()));
        Way::Opening(attempt)
    }

    /// An open connection, if there is one at the first look.
    pub fn open(&self) -> Option<Arc<Conn>> {
        let at = self.next.load(Ordering::Relaxed) % self.slots.len();
        let conn = lock(&self.slots[at]).conn.as_ref().filter(|conn| conn.is_open()).map(Arc::clone)?;
        self.next.fetch_add(1, Ordering::Relaxed);
        Some(conn)
    }

    fn attempt_ended(&self, at: usize, outcome: &Outcome) {
        let mut slot = lock(&self.slots[at]);
        slot.attempt = None;
        match outcome {
            Ok(conn) => {
                slot.conn = Some(Arc::clone(conn));
                // How often it failed stays: what counts is that it answers.
                lock(&self.health).reason = None;
            }
            Err(error) => self.failed(&error.reason),
        }
    }

    /// It answered a request.
    pub(crate) fn answered(&self) {
        if self.has_failed.load(Ordering::Relaxed) {
            let mut health = lock(&self.health);
            *health = Health::default();
            self.has_failed.store(false, Ordering::Relaxed);
        }
    }

    /// Lets closed connections go. A node that fell silent counts as failed, and one that greets and then answers nothing.
    pub(crate) fn sweep(&self) {
        for slot in &self.slots {
            self.drop_closed(&mut lock(slot));
        }
    }

    fn drop_closed(&self, slot: &mut Slot) {
        if let Some(conn) = slot.conn.take_if(|conn| !conn.is_open())
            && let Some(reason) = conn.failure()
        {
            self.failed(reason);
        }
    }

    fn failed(&self, reason: &str) {
        let mut health = lock(&self.health);
        health.failures = health.failures.saturating_add(1);
        health.failed_at = Some(Instant::now());
        health.reason = Some(reason.to_owned());
        self.has_failed.store(true, Ordering::Relaxed);
    }

    /// Until when others need not be tried beside an attempt: a moment, and not even that for an endpoint that failed before.
    pub(crate) fn patience_ends(&self, attempt: &Attempt) -> Instant {
        let has_failed = lock(&self.health).failures > 0;
        if has_failed { attempt.started } else { attempt.started + self.context.next_endpoint_after }
    }

    /// True if it failed a short while ago: others are better.
    pub(crate) fn is_passed_over(&self) -> bool {
        let health = lock(&self.health);
        let pause_ms = FAILED_MS_MIN.saturating_mul(1 << health.failures.saturating_sub(1).min(16)).min(FAILED_MS_MAX);
        health.failed_at.is_some_and(|at| at.elapsed() < Duration::from_millis(pause_ms))
    }

    /// Why there is no connection now.
    pub(crate) fn why_not_reached(&self) -> String {
        if let Some(reason) = lock(&self.health).reason.clone() {
            return reason;
        }
        let under_way = |slot: &Mutex<Slot>| {
            lock(slot).attempt.as_ref().map(|(attempt, _)| attempt.is_taken.load(Ordering::Relaxed))
        };
        match self.slots.iter().filter_map(under_way).max() {
            Some(is_taken) => format!("{} in time", not_yet(is_taken)),
            None => "it was not asked".to_owned(),
        }
    }
}
