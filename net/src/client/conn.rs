//! One connection of a client: requests leave together, answers find their caller by number.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use super::{Endpoint, ServerInfo, lock};
use crate::api::{Executed, Request, RequestKind, Response, Status};
use crate::deframer::Deframer;
use crate::handshake::{HANDSHAKE_BODY_BYTES_MAX, Hello, PROTOCOL_VERSION, Role, Verdict, Welcome};
use crate::patience;

/// Largest answer that a client takes. Unit: bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Requests that may wait for their answer on one connection; more are refused as overloaded.
pub const WAITING_MAX: usize = 1 << 16;

/// Once so many bytes of requests wait to be written on one connection, more are refused as overloaded. Unit: bytes.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// Largest payload of a request. Unit: bytes.
pub const REQUEST_BYTES_MAX: usize = QUEUE_BYTES_MAX;

/// Buffers larger than this are not kept. Unit: bytes.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub body: Vec<u8>,
    pub leader_hint: Option<String>,
}

/// Why a call has no answer.
#[derive(Debug)]
pub(super) enum CallError {
    /// The request did not leave.
    NotSent(String),
    /// The connection broke after the request may have left.
    Broken(String),
    /// The node refused it.
    Refused { status: Status, executed: Executed, message: String, leader_hint: Option<String> },
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) struct ConnectError {
    pub reason: String,
    /// Trying again at once is of no use: somebody has to start or change something first.
    pub is_lasting: bool,
}

impl ConnectError {
    pub const fn lasting(reason: String) -> Self {
        Self { reason, is_lasting: true }
    }

    pub const fn passing(reason: String) -> Self {
        Self { reason, is_lasting: false }
    }
}

type Reply = oneshot::Sender<Result<Answer, CallError>>;

/// An open connection. Two tasks move its bytes; they end with it, so a connection that nobody holds is closed.
#[derive(Debug)]
pub(super) struct Conn {
    shared: Arc<Shared>,
    tasks: [AbortHandle; 2],
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// What callers and tasks share. Where both locks are needed, `queue` is taken first.
#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    queued: Notify,
    waiting: Mutex<HashMap<u64, Reply>>,
    /// Changes under the lock of `queue` alone.
    open: AtomicBool,
}

/// Requests that have not begun to leave.
#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    /// The numbers of the requests in `bytes`.
    ids: Vec<u64>,
    last_id: u64,
}

impl Conn {
    /// Connects and greets.
    pub async fn open(endpoint: &Endpoint, timeout: Duration) -> Result<(Self, ServerInfo), ConnectError> {
        match tokio::time::timeout(timeout, Self::open_without_limit(endpoint)).await {
            Ok(result) => result,
            Err(_elapsed) => Err(ConnectError::passing(format!("no connection within {} ms", timeout.as_millis()))),
        }
    }

    async fn open_without_limit(endpoint: &Endpoint) -> Result<(Self, ServerInfo), ConnectError> {
        let addresses = tokio::net::lookup_host(endpoint.authority()).await;
        let addresses: Vec<_> = addresses.map_err(|error| ConnectError::lasting(error.to_string()))?.collect();
        let stream = TcpStream::connect(addresses.as_slice()).await.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => ConnectError::lasting(format!("nothing listens there: {error}")),
            _ => ConnectError::passing(error.to_string()),
        })?;
        let passing = |error: io::Error| ConnectError::passing(error.to_string());
        stream.set_nodelay(true).map_err(passing)?;
        patience::CLIENTS.set(&stream).map_err(passing)?;
        let (mut reading, mut writing) = stream.into_split();
        writing.write_all(&hello()).await.map_err(passing)?;
        let mut deframer = Deframer::new(HANDSHAKE_BODY_BYTES_MAX);
        let welcome = read_welcome(&mut reading, &mut deframer).await.map_err(ConnectError::passing)?;
        match welcome.verdict {
            Verdict::Accepted => {}
            Verdict::Busy | Verdict::Stopping => {
                return Err(ConnectError::passing(format!("refused: {}", welcome.message)));
            }
            _ => return Err(ConnectError::lasting(format!("refused: {}", welcome.message))),
        }
        deframer.set_body_bytes_limit(ANSWER_BYTES_MAX);
        let info = ServerInfo { cluster_id: welcome.cluster_id, shard_count: welcome.shard_count };
        Ok((Self::start(reading, writing, deframer), info))
    }

    fn start(reading: OwnedReadHalf, writing: OwnedWriteHalf, deframer: Deframer) -> Self {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            queued: Notify::new(),
            waiting: Mutex::default(),
            open: AtomicBool::new(true),
        });
        let write = tokio::spawn(write(Running(Arc::clone(&shared)), writing));
        let read = tokio::spawn(read(Running(Arc::clone(&shared)), reading, deframer));
        Self { shared, tasks: [write.abort_handle(), read.abort_handle()] }
    }

    /// Requests are still taken.
    pub fn is_open(&self) -> bool {
        self.shared.is_open()
    }

    /// Sends a request and waits for its answer. Dropping the future gives up the answer, not the request.
    pub async fn call(
        &self,
        kind: RequestKind,
        shard: u32,
        timeout_ms: u32,
        payload: &[u8],
    ) -> Result<Answer, CallError> {
        let (reply, answer) = oneshot::channel();
        let id = self.shared.enqueue(reply, |id| Request { id, kind, shard, timeout_ms, payload })?;
        let _forget = Forget { shared: &self.shared, id };
        self.shared.queued.notify_one();
        answer.await.unwrap_or_else(|_dropped| Err(CallError::Broken("the connection was closed".to_owned())))
    }
}

impl Shared {
    fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Queues the request that `make` makes of its number.
    fn enqueue<'a>(&self, reply: Reply, make: impl FnOnce(u64) -> Request<'a>) -> Result<u64, CallError> {
        let mut queue = lock(&self.queue);
        // Checked under the lock that `fail` takes, so that no request is left behind.
        if !self.is_open() {
            return Err(CallError::NotSent("the connection is closed".to_owned()));
        }
        if queue.bytes.len() >= QUEUE_BYTES_MAX {
            return Err(overloaded("bytes wait to be sent on this connection"));
        }
        let id = queue.last_id + 1;
        {
            let mut waiting = lock(&self.waiting);
            if waiting.len() >= WAITING_MAX {
                return Err(overloaded("requests wait on this connection"));
            }
            waiting.insert(id, reply);
        }
        queue.last_id = id;
        queue.ids.push(id);
        make(id).encode(&mut queue.bytes);
        Ok(id)
    }

    /// Hands every complete answer to its caller.
    fn take_answers(&self, deframer: &mut Deframer) -> Result<(), String> {
        while let Some(frame) = deframer.next_frame().map_err(|error| error.to_string())? {
            let response = Response::decode(&frame).map_err(|error| error.to_string())?;
            let leader_hint = response.leader_hint.map(str::to_owned);
            let result = match response.result {
                Err(refused) if response.id == 0 => {
                    return Err(format!("the node closes the connection: {}", refused.message));
                }
                Ok(body) => Ok(Answer { body: body.to_vec(), leader_hint }),
                Err(refused) => Err(CallError::Refused {
                    status: refused.status,
                    executed: refused.executed,
                    message: refused.message.to_owned(),
                    leader_hint,
                }),
            };
            // A caller that gave up is not there any more.
            if let Some(reply) = lock(&self.waiting).remove(&response.id) {
                drop(reply.send(result));
            }
        }
        Ok(())
    }

    /// The connection is over: every caller learns it, and whether its request can have left.
    fn fail(&self, reason: &str) {
        let mut queue = lock(&self.queue);
        if !self.open.swap(false, Ordering::AcqRel) {
            return;
        }
        let Queue { ids, .. } = std::mem::take(&mut *queue);
        let mut waiting = lock(&self.waiting);
        for id in ids {
            if let Some(reply) = waiting.remove(&id) {
                drop(reply.send(Err(CallError::NotSent(reason.to_owned()))));
            }
        }
        for (_, reply) in waiting.drain() {
            drop(reply.send(Err(CallError::Broken(reason.to_owned()))));
        }
        drop(waiting);
        drop(queue);
        self.queued.notify_one();
    }
}

/// Held by a task of a connection: however the task ends, with its runtime for one, nobody goes on waiting for it.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fail("the connection was closed here");
    }
}

async fn write(running: Running, mut writing: OwnedWriteHalf) {
    let shared = &running.0;
    let mut bytes = Vec::new();
    while shared.is_open() {
        {
            let mut queue = lock(&shared.queue);
            std::mem::swap(&mut bytes, &mut queue.bytes);
            // From here on they may have left.
            queue.ids.clear();
        }
        if bytes.is_empty() {
            shared.queued.notified().await;
            continue;
        }
        if let Err(error) = writing.write_all(&bytes).await {
            shared.fail(&error.to_string());
            return;
        }
        bytes.clear();
        if bytes.capacity() > KEPT_BYTES_MAX {
            bytes = Vec::new();
        }
    }
}

async fn read(running: Running, mut reading: OwnedReadHalf, mut deframer: Deframer) {
    let shared = &running.0;
    let reason = loop {
        if let Err(reason) = shared.take_answers(&mut deframer) {
            break reason;
        }
        match reading.read(deframer.space()).await {
            Ok(0) => break "the node closed the connection".to_owned(),
            Ok(read) => deframer.advance(read),
            Err(error) => break error.to_string(),
        }
    };
    shared.fail(&reason);
}

/// Forgets a request whose caller is gone.
struct Forget<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.shared.waiting).remove(&self.id);
    }
}

fn hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    Hello {
        version: PROTOCOL_VERSION,
        role: Role::Client,
        shard_count: 0,
        shard: 0,
        cluster_id: 0,
        from: 0,
        to: 0,
        name: String::new(),
        client_url: String::new(),
    }
    .encode(&mut bytes);
    bytes
}

fn overloaded(what: &str) -> CallError {
    let message = format!("too many {what}; slow down and try again");
    CallError::Refused { status: Status::Overloaded, executed: Executed::No, message, leader_hint: None }
}

async fn read_welcome(reading: &mut OwnedReadHalf, deframer: &mut Deframer) -> Result<Welcome, String> {
    loop {
        if let Some(frame) = deframer.next_frame().map_err(|error| error.to_string())? {
            return Welcome::decode(&frame).map_err(|error| error.to_string());
        }
        match reading.read(deframer.space()).await {
            Ok(0) => return Err("the node closed the connection during the handshake".to_owned()),
            Ok(read) => deframer.advance(read),
            Err(error) => return Err(error.to_string()),
        }
    }
}
