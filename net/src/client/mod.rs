//! The client's end of the client protocol, on tokio: many requests at once over few connections, to whoever leads.
//!
//! It finds the leader by the hints in answers, gives up nodes that fall silent, retries what is certainly safe to retry until
//! the deadline, and says `Unknown` where the outcome is unknown. A write that may have reached a node is never sent twice.
//! Requests beyond what a node takes wait. Payloads stay opaque; the typed client is a package of its own.

mod conn;
mod dial;
mod endpoint;
mod lasting;
mod limits;
mod options;
mod outcome;
mod parts;
mod pool;
mod race;
mod said;
mod waiting;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::api::{Executed, Status};
use crate::limits::REQUEST_BYTES_MAX;
use conn::{Conn, QueuePlace};
pub use endpoint::{Endpoint, EndpointError};
pub use lasting::Opened;
use limits::{ASKED_BESIDE_AFTER, ENDPOINTS_MAX, RETRY_PAUSE_MAX, RETRY_PAUSE_MIN, TIMEOUT_S_MAX};
pub use options::{ClientError, Kind, Options, ServerInfo, Target};
use outcome::{Answer, CallError};
use pool::{Context, Pool};
use race::{Choice, Chooser};
use said::Said;

/// A client of a cluster. Clones share connections, which are closed when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    context: Arc<Context>,
    info: ServerInfo,
    endpoints: Vec<Endpoint>,
    /// Connections to the endpoints of the options, in their order.
    given: Vec<Arc<Pool>>,
    /// Connections to endpoints that hints named.
    hinted: Mutex<HashMap<Endpoint, Arc<Pool>>>,
    /// Who leads each shard, as far as hints told.
    leaders: Mutex<HashMap<u32, Arc<Pool>>>,
    /// Counts up through the given endpoints.
    next: AtomicUsize,
    /// The same endpoints, with other connections: for calls that last.
    lasting: OnceLock<Client>,
}

/// What a call brings.
enum Brought {
    /// The whole answer.
    Whole(Answer),
    /// A call that lasts has begun.
    Begun(Opened),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is complete when it can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request as the caller gave it.
#[derive(Clone, Copy)]
struct Call<'a> {
    kind: Kind,
    shard: u32,
    payload: &'a [u8],
    deadline: Instant,
}

impl Client {
    /// Connects to the first endpoint that answers. They are tried at nearly the same time.
    ///
    /// # Errors
    /// No endpoint was given, one is not written as one, or none answers: then each one's reason is told.
    pub async fn connect(options: Options) -> Result<Self, ClientError> {
        let parsed: Result<Vec<Endpoint>, _> = options.endpoints.iter().map(|text| text.parse()).collect();
        let endpoints = parsed?;
        if endpoints.is_empty() {
            return Err(ClientError::NoEndpoint);
        }
        let context = Arc::new(Context::new(&options));
        let given: Vec<_> = endpoints.iter().map(|endpoint| Pool::new(endpoint.clone(), &context)).collect();
        let choice = |(offset, pool): (usize, &Arc<Pool>)| {
            let by = Chooser::Options { next: 0, offset };
            Choice { pool: Arc::clone(pool), by }
        };
        let started = Instant::now();
        match race::connect(given.iter().enumerate().map(choice).collect()).await {
            Ok((choice, conn)) => {
                let next = match choice.by {
                    Chooser::Options { offset, .. } => offset,
                    Chooser::Caller | Chooser::Hint => 0,
                };
                let inner = Inner {
                    context,
                    info: conn.info().clone(),
                    endpoints,
                    given,
                    hinted: Mutex::default(),
                    leaders: Mutex::default(),
                    next: AtomicUsize::new(next),
                    lasting: OnceLock::new(),
                };
                Ok(Self { inner: Arc::new(inner) })
            }
            Err(mut failures) => {
                failures.sort_by_key(|(choice, _)| match choice.by {
                    Chooser::Options { offset, .. } => offset,
                    Chooser::Caller | Chooser::Hint => 0,
                });
                let mut said = Said::default();
                for (choice, error) in failures {
                    said.note(&choice.pool.endpoint, error.reason);
                }
                Err(ClientError::Unavailable { reason: said.into_reason("no endpoint can be used", started.elapsed()) })
            }
        }
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

    /// Sends a request and waits for its answer, at most `timeout`. It waits for a place first, if the connection has as many
    /// requests under way as the node takes.
    ///
    /// For `Target::Leader` it goes on to other endpoints as long as that is safe and there is time. An endpoint that was
    /// asked for alone and can't be used as it is (nothing listens there, it belongs to another cluster) is reported at once.
    /// Dropping the future gives up the answer; a write that was sent may still take effect.
    ///
    /// # Errors
    /// `Unknown` only for writes that may have reached a node; everything else certainly took no effect.
    pub async fn request(
        &self,
        target: Target<'_>,
        kind: Kind,
        shard: u32,
        payload: &[u8],
        timeout: Duration,
    ) -> Result<Vec<u8>, ClientError> {
        assert!(!kind.lasts, "a call that lasts is opened");
        match self.ask(target, kind, shard, payload, timeout).await? {
            Brought::Whole(answer) => Ok(answer.body),
            Brought::Begun(_) => unreachable!("the call does not last"),
        }
    }

    async fn ask(
        &self,
        target: Target<'_>,
        kind: Kind,
        shard: u32,
        payload: &[u8],
        timeout: Duration,
    ) -> Result<Brought, ClientError> {
        check_size(payload.len(), REQUEST_BYTES_MAX)?;
        let started = Instant::now();
        let deadline = started + timeout.min(Duration::from_secs(TIMEOUT_S_MAX));
        let call = Call { kind, shard, payload, deadline };
        let mut pause = RETRY_PAUSE_MIN;
        let mut said = Said::default();
        loop {
            let attempt = self.attempt(target, &call, &mut said, true).await;
            let (error, leader_hint) = match attempt {
                Ok(brought) => {
                    if let Brought::Whole(answer) = &brought {
                        self.note_hint(shard, answer.leader_hint.as_deref());
                    }
                    return Ok(brought);
                }
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::OutOfTime) => return Err(self.unavailable(target, said, started)),
                Err(Attempt::Again { error, leader_hint }) => (error, leader_hint),
            };
            self.note_hint(shard, leader_hint.as_deref());
            let around = scatter(pause);
            if Instant::now() + around >= deadline {
                return Err(error.unwrap_or_else(|| self.unavailable(target, said, started)));
            }
            tokio::time::sleep(around).await;
            pause = (pause * 5 / 4).min(RETRY_PAUSE_MAX);
        }
    }

    /// Nobody could do it in time: says what each endpoint answered.
    fn unavailable(&self, target: Target<'_>, mut said: Said, started: Instant) -> ClientError {
        let not_asked = || "it was not asked".to_owned();
        match target {
            Target::Endpoint(endpoint) => {
                said.complete(endpoint, || {
                    self.known_pool(endpoint).map_or_else(not_asked, |pool| pool.why_not_reached())
                });
            }
            Target::Leader => {
                for pool in &self.inner.given {
                    said.complete(&pool.endpoint, || match pool.open() {
                        Some(_) => not_asked(),
                        None => pool.why_not_reached(),
                    });
                }
            }
        }
        ClientError::Unavailable { reason: said.into_reason("no endpoint could do it", started.elapsed()) }
    }

    /// Tries once. What went wrong is noted in `said`, if another attempt may help.
    ///
    /// A read that is not answered for long is asked elsewhere beside it, once, if `may_ask_beside`: a node may answer pings and do
    /// nothing else.
    async fn attempt(
        &self,
        target: Target<'_>,
        call: &Call<'_>,
        said: &mut Said,
        may_ask_beside: bool,
    ) -> Result<Brought, Attempt> {
        let (choice, conn) = self.connection(target, call, said).await?;
        let endpoint = &choice.pool.endpoint;
        if let Some(limit) = conn.request_bytes_limit() {
            check_size(call.payload.len(), limit).map_err(Attempt::Final)?;
        }
        let place = match tokio::time::timeout_at(call.deadline, conn.place(call.payload.len())).await {
            Ok(Some(place)) => place,
            Ok(None) => {
                self.give_up(call.shard, &choice);
                said.note(endpoint, "the connection was closed while the request waited for a place".to_owned());
                return Err(Attempt::Again { error: None, leader_hint: None });
            }
            Err(_elapsed) => {
                let message = format!(
                    "{endpoint}: as many requests as the node takes of one connection waited for their answers all the time"
                );
                return Err(Attempt::Final(ClientError::Refused { status: Status::Overloaded, message }));
            }
        };
        let answer = send(endpoint, &conn, place, call);
        let mut answer = std::pin::pin!(tokio::time::timeout_at(call.deadline, answer));
        let is_read = !call.kind.writes && !call.kind.lasts;
        let is_repeatable = target == Target::Leader && is_read && self.inner.given.len() > 1;
        let outcome = if may_ask_beside && is_repeatable {
            match tokio::time::timeout(ASKED_BESIDE_AFTER, &mut answer).await {
                Ok(outcome) => outcome,
                Err(_elapsed) => {
                    self.give_up(call.shard, &choice);
                    said.note(endpoint, format!("no answer within {} ms", ASKED_BESIDE_AFTER.as_millis()));
                    tokio::select! {
                        outcome = &mut answer => outcome,
                        beside = Box::pin(self.attempt(target, call, said, false)) => return beside,
                    }
                }
            }
        } else {
            answer.await
        };
        match outcome {
            Ok(Ok(brought)) => {
                choice.pool.answered();
                Ok(brought)
            }
            Ok(Err(error)) => {
                if matches!(error, CallError::Refused { .. }) {
                    choice.pool.answered();
                }
                Err(self.judge(target, call, &choice, error, said))
            }
            Err(_elapsed) => {
                // It may hang: others are asked first from now on.
                self.give_up(call.shard, &choice);
                if call.kind.writes {
                    return Err(Attempt::Final(unknown(endpoint, "no answer in time")));
                }
                said.note(endpoint, "no answer in time".to_owned());
                Err(Attempt::OutOfTime)
            }
        }
    }

    /// What becomes of a request that was refused, or whose connection broke.
    fn judge(
        &self,
        target: Target<'_>,
        call: &Call<'_>,
        choice: &Choice,
        error: CallError,
        said: &mut Said,
    ) -> Attempt {
        let endpoint = &choice.pool.endpoint;
        let is_write = call.kind.writes;
        let (reason, leader_hint, error) = match error {
            CallError::NotSent(reason) => (reason, None, None),
            CallError::Broken(reason) if is_write => {
                self.give_up(call.shard, choice);
                return Attempt::Final(unknown(endpoint, &reason));
            }
            CallError::Broken(reason) => (reason, None, None),
            CallError::Refused { status, executed: Executed::Unknown, message, leader_hint } => {
                let reason = format!("{}: {message}", status.as_str());
                if is_write {
                    self.give_up(call.shard, choice);
                    self.note_hint(call.shard, leader_hint.as_deref());
                    return Attempt::Final(unknown(endpoint, &reason));
                }
                (reason, leader_hint, None)
            }
            CallError::Refused { status: Status::Unavailable | Status::ShuttingDown, message, leader_hint, .. } => {
                said.is_without_leader = true;
                (message, leader_hint, None)
            }
            // The node stopped serving the shard; another may lead it.
            CallError::Refused { status: status @ Status::Internal, message, leader_hint, .. }
                if target == Target::Leader =>
            {
                let reason = format!("{}: {message}", status.as_str());
                (reason, leader_hint, Some(ClientError::Refused { status, message }))
            }
            CallError::Refused { status: status @ Status::Overloaded, message, .. } => {
                // The node is the right one, and has no room just now.
                said.note(endpoint, format!("{}: {message}", status.as_str()));
                let error = Some(ClientError::Refused { status, message });
                return Attempt::Again { error, leader_hint: None };
            }
            CallError::Refused { status, message, .. } => {
                if status == Status::Timeout {
                    // What it waited for may hang: others are asked first from now on.
                    self.give_up(call.shard, choice);
                }
                return Attempt::Final(ClientError::Refused { status, message });
            }
        };
        self.give_up(call.shard, choice);
        said.note(endpoint, reason);
        Attempt::Again { error, leader_hint }
    }

    /// A connection for the request, and whose choice it was.
    async fn connection(
        &self,
        target: Target<'_>,
        call: &Call<'_>,
        said: &mut Said,
    ) -> Result<(Choice, Arc<Conn>), Attempt> {
        let order = match target {
            Target::Endpoint(endpoint) => {
                let Some(pool) = self.pool(endpoint) else {
                    let reason = format!("{endpoint}: this client talks to {ENDPOINTS_MAX} other endpoints already");
                    return Err(Attempt::Final(ClientError::Unavailable { reason }));
                };
                vec![Choice { pool, by: Chooser::Caller }]
            }
            Target::Leader => match self.at_once(call.shard) {
                Ok(found) => return Ok(found),
                Err(order) => order,
            },
        };
        match tokio::time::timeout_at(call.deadline, race::connect(order)).await {
            Ok(Ok((choice, conn))) => {
                self.prefer(&choice);
                Ok((choice, conn))
            }
            Ok(Err(failures)) => {
                for (choice, error) in failures {
                    let endpoint = &choice.pool.endpoint;
                    if error.is_lasting && choice.by == Chooser::Caller {
                        let reason = format!("{endpoint}: {}", error.reason);
                        return Err(Attempt::Final(ClientError::Unavailable { reason }));
                    }
                    self.give_up(call.shard, &choice);
                    said.note(endpoint, error.reason);
                }
                Err(Attempt::Again { error: None, leader_hint: None })
            }
            Err(_elapsed) => Err(Attempt::OutOfTime),
        }
    }

    /// The connection that needs no waiting, or in which order to try: the leader if it is known, then the given endpoints
    /// from the present one on; those that failed a short while ago go last.
    fn at_once(&self, shard: u32) -> Result<(Choice, Arc<Conn>), Vec<Choice>> {
        let leader = lock(&self.inner.leaders).get(&shard).cloned();
        let mut hint = leader.map(|pool| Choice { pool, by: Chooser::Hint });
        if let Some(choice) = &hint {
            if let Some(conn) = choice.pool.open() {
                return Ok((choice.clone(), conn));
            }
            if choice.pool.is_passed_over() {
                self.give_up(shard, choice);
                hint = None;
            }
        }
        let next = self.inner.next.load(Ordering::Relaxed);
        let count = self.inner.given.len();
        let given = |offset: usize| Choice {
            pool: Arc::clone(&self.inner.given[next.wrapping_add(offset) % count]),
            by: Chooser::Options { next, offset },
        };
        if hint.is_none() {
            let choice = given(0);
            if let Some(conn) = choice.pool.open() {
                return Ok((choice, conn));
            }
        }
        let is_hinted = |choice: &Choice| hint.as_ref().is_some_and(|hint| Arc::ptr_eq(&hint.pool, &choice.pool));
        let others = (0..count).map(given).filter(|choice| !is_hinted(choice)).collect::<Vec<_>>();
        let mut order: Vec<Choice> = hint.into_iter().chain(others).collect();
        order.sort_by_key(|choice| choice.pool.is_passed_over());
        Err(order)
    }

    /// An endpoint that works goes on being used: nobody else waits for those before it.
    fn prefer(&self, choice: &Choice) {
        if let Chooser::Options { next, offset } = choice.by
            && offset > 0
        {
            self.move_on(next, offset);
        }
    }

    /// Moves on from the given endpoint at this count, unless somebody else did already.
    fn move_on(&self, next: usize, by: usize) {
        let after = next.wrapping_add(by);
        let _moved = self.inner.next.compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The choice was of no use. Many requests may find that at once: only the first of them changes what the others choose.
    fn give_up(&self, shard: u32, choice: &Choice) {
        choice.pool.sweep();
        match choice.by {
            Chooser::Caller => {}
            Chooser::Hint => {
                let mut leaders = lock(&self.inner.leaders);
                if leaders.get(&shard).is_some_and(|pool| Arc::ptr_eq(pool, &choice.pool)) {
                    leaders.remove(&shard);
                }
            }
            Chooser::Options { next, offset } => {
                // A connection that was won from behind others has been preferred since: the count stands at it.
                let at = next.wrapping_add(offset);
                self.move_on(at, 1);
            }
        }
    }

    /// Takes the leader from a hint, unless it could not be reached a short while ago.
    fn note_hint(&self, shard: u32, hint: Option<&str>) {
        let Some(hint) = hint.and_then(|hint| hint.parse::<Endpoint>().ok()) else { return };
        if let Some(pool) = self.pool(&hint).filter(|pool| !pool.is_passed_over()) {
            lock(&self.inner.leaders).insert(shard, pool);
        }
    }

    fn known_pool(&self, endpoint: &Endpoint) -> Option<Arc<Pool>> {
        let given = self.inner.given.iter().find(|pool| pool.endpoint == *endpoint);
        given.cloned().or_else(|| lock(&self.inner.hinted).get(endpoint).cloned())
    }

    /// The connections to an endpoint; `None` if there are too many endpoints already.
    fn pool(&self, endpoint: &Endpoint) -> Option<Arc<Pool>> {
        if let Some(pool) = self.known_pool(endpoint) {
            return Some(pool);
        }
        let mut hinted = lock(&self.inner.hinted);
        if hinted.len() >= ENDPOINTS_MAX {
            return None;
        }
        let pool = hinted.entry(endpoint.clone()).or_insert_with(|| Pool::new(endpoint.clone(), &self.inner.context));
        Some(Arc::clone(pool))
    }
}

/// Sends a call on a connection, and waits for its answer, or until it has begun to last.
async fn send(
    endpoint: &Endpoint,
    conn: &Arc<Conn>,
    place: QueuePlace<'_>,
    call: &Call<'_>,
) -> Result<Brought, CallError> {
    let Kind { number, lasts, .. } = call.kind;
    if lasts {
        let stream = conn.open_stream(place, number, call.shard, call.deadline, call.payload)?;
        return Opened::begin(endpoint, stream).await.map(Brought::Begun);
    }
    conn.call(place, number, call.shard, call.deadline, call.payload).await.map(Brought::Whole)
}

/// A random time, three to five quarters of `pause`. What failed together, when a connection broke, does not come again together.
fn scatter(pause: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    pause * 3 / 4 + pause / 2 * (random % 1024) as u32 / 1024
}

fn check_size(got: usize, limit: usize) -> Result<(), ClientError> {
    if got <= limit {
        return Ok(());
    }
    let message = format!("the request has {got} bytes, the limit is {limit}; nothing was sent");
    Err(ClientError::Refused { status: Status::TooLarge, message })
}

fn unknown(endpoint: &Endpoint, reason: &str) -> ClientError {
    ClientError::Unknown { reason: format!("{endpoint}: {reason}") }
}

/// How an attempt ended that brought no answer.
enum Attempt {
    /// It certainly took no effect: another may help. Without time for one, `error` is told, or what each endpoint said.
    Again { error: Option<ClientError>, leader_hint: Option<String> },
    /// Trying again is not safe, or useless.
    Final(ClientError),
    /// The deadline passed, and it certainly took no effect.
    OutOfTime,
}
