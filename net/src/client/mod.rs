//! The client's end of the client protocol, on tokio: many requests at once over few connections, to whoever leads.
//!
//! It finds the leader by the hints in answers, retries what is certainly safe to retry until the deadline, and says
//! `Unknown` where the outcome is unknown. A write that may have reached a node is never sent twice. Payloads stay opaque;
//! the typed client is a package of its own.

mod conn;
mod endpoint;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::api::{Executed, RequestKind, Status};
use conn::{Answer, CallError, Conn, ConnectError};
pub use conn::{QUEUE_BYTES_MAX, REQUEST_BYTES_MAX, WAITING_MAX};
pub use endpoint::{Endpoint, EndpointError};

/// First pause before a request is tried again. Unit: ms.
const RETRY_MS_MIN: u64 = 5;
/// Longest pause before a request is tried again. Unit: ms.
const RETRY_MS_MAX: u64 = 200;

/// Endpoints that a client keeps connections to; hints to more are passed over.
const ENDPOINTS_MAX: usize = 256;

/// A request without a limit in time has this one. Unit: s.
const TIMEOUT_S_MAX: u64 = 365 * 24 * 3600;

/// How a client connects.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where nodes are reached: `host:port` or `http://host:port`.
    pub endpoints: Vec<String>,
    /// How long a connection attempt may take.
    pub connect_timeout: Duration,
    /// Connections to each endpoint. More than one only helps when one is saturated.
    pub connections_per_endpoint: usize,
}

/// Who should answer a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// Whoever leads the shard, found by hints; any node passes a request on.
    Leader,
    /// This endpoint and no other.
    Endpoint(&'a Endpoint),
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No endpoint could do it in time; it certainly took no effect.
    #[error("unavailable: {reason}; the request took no effect")]
    Unavailable {
        /// The last reason, with the endpoint it came from.
        reason: String,
    },
    /// It may or may not have taken effect, or still may.
    #[error("outcome unknown: {reason}; the request may or may not have taken effect")]
    Unknown {
        /// What happened, with the endpoint.
        reason: String,
    },
    /// A node refused it; it certainly took no effect.
    #[error("{status}: {message}", status = status.as_str())]
    Refused {
        /// The kind of refusal.
        status: Status,
        /// What was wrong, and what to do.
        message: String,
    },
    /// An endpoint is not written as one.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// There is no endpoint.
    #[error("no endpoint was given")]
    NoEndpoint,
}

/// What a node said of itself when the first connection was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// Its cluster.
    pub cluster_id: u64,
    /// Shards of the cluster.
    pub shard_count: u32,
}

/// A client of a cluster. Clones share connections, which are closed when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: Options,
    endpoints: Vec<Endpoint>,
    info: ServerInfo,
    /// Connections by endpoint, those of the options and those learnt from hints.
    pools: Mutex<HashMap<Endpoint, Arc<Pool>>>,
    /// Who leads each shard, as far as hints told.
    leaders: Mutex<HashMap<u32, Endpoint>>,
    next: AtomicUsize,
}

/// Connections to one endpoint, made when they are first used.
#[derive(Debug)]
struct Pool {
    slots: Vec<tokio::sync::Mutex<Option<Arc<Conn>>>>,
    next: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is a single insertion or removal.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// Connects to the first endpoint that answers.
    ///
    /// # Errors
    /// No endpoint was given, one is not written as one, or none answers: then each one's reason is told.
    pub async fn connect(options: Options) -> Result<Self, ClientError> {
        let parsed: Result<Vec<Endpoint>, _> = options.endpoints.iter().map(|text| text.parse()).collect();
        let endpoints = parsed?;
        if endpoints.is_empty() {
            return Err(ClientError::NoEndpoint);
        }
        let mut reasons = Vec::new();
        for endpoint in &endpoints {
            match Conn::open(endpoint, options.connect_timeout).await {
                Ok((conn, info)) => {
                    let inner = Inner {
                        pools: Mutex::new(HashMap::new()),
                        leaders: Mutex::new(HashMap::new()),
                        next: AtomicUsize::new(0),
                        options,
                        endpoints: endpoints.clone(),
                        info,
                    };
                    let client = Self { inner: Arc::new(inner) };
                    *client.pool(endpoint).slots[0].lock().await = Some(Arc::new(conn));
                    return Ok(client);
                }
                Err(error) => reasons.push(format!("{endpoint}: {}", error.reason)),
            }
        }
        Err(ClientError::Unavailable { reason: reasons.join("; ") })
    }

    /// What the first node said of its cluster.
    #[must_use]
    pub fn info(&self) -> &ServerInfo {
        &self.inner.info
    }

    /// The endpoints that this client was given.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.inner.endpoints
    }

    /// Sends a request and waits for its answer, at most `timeout`.
    ///
    /// For `Target::Leader` it goes on to other endpoints as long as that is safe and there is time. An endpoint that was
    /// asked for alone and can't be used as it is (nothing listens there, it belongs to another cluster) is reported at once.
    ///
    /// # Errors
    /// `Unknown` only for writes that may have reached a node; everything else certainly took no effect.
    pub async fn request(
        &self,
        target: Target<'_>,
        kind: RequestKind,
        shard: u32,
        payload: &[u8],
        timeout: Duration,
    ) -> Result<Vec<u8>, ClientError> {
        if payload.len() > REQUEST_BYTES_MAX {
            let message = format!("the request has {} bytes, the limit is {REQUEST_BYTES_MAX}", payload.len());
            return Err(ClientError::Refused { status: Status::TooLarge, message });
        }
        let deadline = Instant::now() + timeout.min(Duration::from_secs(TIMEOUT_S_MAX));
        let mut pause_ms = RETRY_MS_MIN;
        let mut last_reason = None;
        loop {
            let choice = match target {
                Target::Endpoint(endpoint) => Choice { endpoint: endpoint.clone(), by: Chooser::Caller },
                Target::Leader => self.choose(shard),
            };
            let reason = match self.attempt(&choice.endpoint, kind, shard, payload, deadline).await {
                Ok(answer) => {
                    self.note_hint(shard, answer.leader_hint.as_deref());
                    return Ok(answer.body);
                }
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::OutOfTime) => {
                    let reason = last_reason.unwrap_or_else(|| format!("{}: no connection in time", choice.endpoint));
                    return Err(ClientError::Unavailable { reason });
                }
                Err(Attempt::Again { reason, is_lasting, leader_hint }) => {
                    let reason = format!("{}: {reason}", choice.endpoint);
                    if is_lasting && choice.by == Chooser::Caller {
                        return Err(ClientError::Unavailable { reason });
                    }
                    self.give_up(shard, &choice);
                    self.note_hint(shard, leader_hint.as_deref());
                    reason
                }
            };
            let pause = Duration::from_millis(pause_ms);
            if Instant::now() + pause >= deadline {
                return Err(ClientError::Unavailable { reason });
            }
            last_reason = Some(reason);
            tokio::time::sleep(pause).await;
            pause_ms = (pause_ms * 2).min(RETRY_MS_MAX);
        }
    }

    async fn attempt(
        &self,
        endpoint: &Endpoint,
        kind: RequestKind,
        shard: u32,
        payload: &[u8],
        deadline: Instant,
    ) -> Result<Answer, Attempt> {
        let conn = match tokio::time::timeout_at(deadline, self.connection(endpoint)).await {
            Ok(Ok(conn)) => conn,
            Ok(Err(ConnectError { reason, is_lasting })) => {
                return Err(Attempt::Again { reason, is_lasting, leader_hint: None });
            }
            Err(_elapsed) => return Err(Attempt::OutOfTime),
        };
        let left_ms = deadline.saturating_duration_since(Instant::now()).as_millis();
        let timeout_ms = u32::try_from(left_ms).unwrap_or(u32::MAX);
        let write = kind == RequestKind::Write;
        let call = conn.call(kind, shard, timeout_ms, payload);
        let unknown_or = |reason: String, safe: fn(String) -> Attempt| {
            if write {
                Attempt::Final(ClientError::Unknown { reason: format!("{endpoint}: {reason}") })
            } else {
                safe(reason)
            }
        };
        match tokio::time::timeout_at(deadline, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(CallError::NotSent(reason))) => Err(Attempt::again(reason)),
            Ok(Err(CallError::Broken(reason))) => Err(unknown_or(reason, Attempt::again)),
            Ok(Err(CallError::Refused { status, executed: Executed::Unknown, message, .. })) => {
                Err(unknown_or(format!("{}: {message}", status.as_str()), Attempt::again))
            }
            Ok(Err(CallError::Refused {
                status: Status::Unavailable | Status::ShuttingDown,
                message: reason,
                leader_hint,
                ..
            })) => Err(Attempt::Again { reason, is_lasting: false, leader_hint }),
            Ok(Err(CallError::Refused { status, message, .. })) => {
                Err(Attempt::Final(ClientError::Refused { status, message }))
            }
            Err(_elapsed) => {
                let reason = "no answer in time".to_owned();
                let reason = if write { reason } else { format!("{endpoint}: {reason}") };
                Err(unknown_or(reason, |reason| Attempt::Final(ClientError::Unavailable { reason })))
            }
        }
    }

    /// The leader's endpoint if known, else the next of the options.
    fn choose(&self, shard: u32) -> Choice {
        if let Some(endpoint) = lock(&self.inner.leaders).get(&shard) {
            return Choice { endpoint: endpoint.clone(), by: Chooser::Hint };
        }
        let next = self.inner.next.load(Ordering::Relaxed);
        let endpoint = self.inner.endpoints[next % self.inner.endpoints.len()].clone();
        Choice { endpoint, by: Chooser::Options { next } }
    }

    /// The choice was of no use. Many requests may find that at once: only the first of them changes what the others choose.
    fn give_up(&self, shard: u32, choice: &Choice) {
        match choice.by {
            Chooser::Caller => {}
            Chooser::Hint => {
                let mut leaders = lock(&self.inner.leaders);
                if leaders.get(&shard) == Some(&choice.endpoint) {
                    leaders.remove(&shard);
                }
            }
            Chooser::Options { next } => {
                let after = next.wrapping_add(1);
                // Somebody else has moved on already otherwise.
                let _moved = self.inner.next.compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }

    fn note_hint(&self, shard: u32, hint: Option<&str>) {
        let Some(hint) = hint.and_then(|hint| hint.parse::<Endpoint>().ok()) else { return };
        let pools = lock(&self.inner.pools);
        if pools.len() < ENDPOINTS_MAX || pools.contains_key(&hint) {
            lock(&self.inner.leaders).insert(shard, hint);
        }
    }

    fn pool(&self, endpoint: &Endpoint) -> Arc<Pool> {
        let mut pools = lock(&self.inner.pools);
        if let Some(pool) = pools.get(endpoint) {
            return Arc::clone(pool);
        }
        let count = self.inner.options.connections_per_endpoint.max(1);
        let slots = (0..count).map(|_| tokio::sync::Mutex::new(None)).collect();
        let pool = Arc::new(Pool { slots, next: AtomicUsize::new(0) });
        pools.insert(endpoint.clone(), Arc::clone(&pool));
        pool
    }

    /// An open connection to the endpoint, made now if need be; others that want the same one wait for it.
    async fn connection(&self, endpoint: &Endpoint) -> Result<Arc<Conn>, ConnectError> {
        let pool = self.pool(endpoint);
        let slot = pool.next.fetch_add(1, Ordering::Relaxed) % pool.slots.len();
        let mut slot = pool.slots[slot].lock().await;
        if let Some(conn) = slot.as_ref().filter(|conn| conn.is_open()) {
            return Ok(Arc::clone(conn));
        }
        let (conn, info) = Conn::open(endpoint, self.inner.options.connect_timeout).await?;
        if info != self.inner.info {
            return Err(ConnectError::lasting(format!(
                "it belongs to cluster {:016x} with {} shards, expected {:016x} with {}",
                info.cluster_id, info.shard_count, self.inner.info.cluster_id, self.inner.info.shard_count
            )));
        }
        let conn = Arc::new(conn);
        *slot = Some(Arc::clone(&conn));
        Ok(conn)
    }
}

/// Where a request goes next.
struct Choice {
    endpoint: Endpoint,
    by: Chooser,
}

/// Who chose it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Chooser {
    /// The caller, and no other will do.
    Caller,
    /// A node's hint.
    Hint,
    /// The endpoints of the options, at this count.
    Options { next: usize },
}

/// How an attempt ended that brought no answer.
enum Attempt {
    /// It certainly took no effect: try again, if that is not known to be of no use.
    Again { reason: String, is_lasting: bool, leader_hint: Option<String> },
    /// Trying again is not safe, or useless.
    Final(ClientError),
    /// The deadline passed before anything was sent.
    OutOfTime,
}

impl Attempt {
    const fn again(reason: String) -> Self {
        Self::Again { reason, is_lasting: false, leader_hint: None }
    }
}
