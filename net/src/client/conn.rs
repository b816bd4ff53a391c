//! One connection of a client: requests leave together, answers find their caller by number.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, oneshot};

use super::{Endpoint, ServerInfo, lock};
use crate::api::{Executed, Request, RequestKind, Response, Status};
use crate::deframer::Deframer;
use crate::handshake::{Hello, PROTOCOL_VERSION, Role, Verdict, Welcome};

/// Largest answer that a client takes. Unit: bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Requests that may wait for their answer on one connection.
const WAITING_MAX: usize = 1 << 16;

/// Bytes of requests that may wait to be written. Unit: bytes.
const QUEUE_BYTES_MAX: usize = 64 << 20;

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
    Refused { status: Status, executed: Executed, message: String },
}

type Reply = oneshot::Sender<Result<Answer, CallError>>;

/// An open connection.
#[derive(Debug)]
pub(super) struct Conn {
    queue: Mutex<Vec<u8>>,
    queued: Notify,
    waiting: Mutex<HashMap<u64, Reply>>,
    last_id: AtomicU64,
    open: AtomicBool,
}

impl Conn {
    /// Connects and greets.
    pub async fn open(endpoint: &Endpoint, timeout: Duration) -> Result<(Arc<Self>, ServerInfo), String> {
        match tokio::time::timeout(timeout, Self::open_without_limit(endpoint)).await {
            Ok(result) => result,
            Err(_elapsed) => Err(format!("no connection within {} ms", timeout.as_millis())),
        }
    }

    async fn open_without_limit(endpoint: &Endpoint) -> Result<(Arc<Self>, ServerInfo), String> {
        let stream = TcpStream::connect(endpoint.authority()).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (mut reading, mut writing) = stream.into_split();
        let mut hello = Vec::new();
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
        .encode(&mut hello);
        writing.write_all(&hello).await.map_err(|error| error.to_string())?;
        let mut deframer = Deframer::new(ANSWER_BYTES_MAX);
        let welcome = read_welcome(&mut reading, &mut deframer).await?;
        if welcome.verdict != Verdict::Accepted {
            return Err(format!("refused: {}", welcome.message));
        }
        let info = ServerInfo { cluster_id: welcome.cluster_id, shard_count: welcome.shard_count };
        let conn = Arc::new(Self {
            queue: Mutex::new(Vec::new()),
            queued: Notify::new(),
            waiting: Mutex::new(HashMap::new()),
            last_id: AtomicU64::new(0),
            open: AtomicBool::new(true),
        });
        tokio::spawn(Arc::clone(&conn).write(writing));
        tokio::spawn(Arc::clone(&conn).read(reading, deframer));
        Ok((conn, info))
    }

    /// Requests are still taken.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Sends a request and waits for its answer. Dropping the future gives up the answer, not the request.
    pub async fn call(
        &self,
        kind: RequestKind,
        shard: u32,
        timeout_ms: u32,
        payload: &[u8],
    ) -> Result<Answer, CallError> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let (reply, answer) = oneshot::channel();
        {
            let mut waiting = lock(&self.waiting);
            // Checked under the lock that `fail` takes, so that no request is left behind.
            if !self.is_open() {
                return Err(CallError::NotSent("the connection is closed".to_owned()));
            }
            if waiting.len() >= WAITING_MAX {
                return Err(overloaded("requests wait on this connection"));
            }
            waiting.insert(id, reply);
        }
        let guard = Forget { conn: self, id };
        {
            let mut queue = lock(&self.queue);
            if queue.len() >= QUEUE_BYTES_MAX {
                return Err(overloaded("bytes wait to be sent on this connection"));
            }
            Request { id, kind, shard, timeout_ms, payload }.encode(&mut queue);
        }
        self.queued.notify_one();
        let answer = answer.await;
        drop(guard);
        answer.unwrap_or_else(|_dropped| Err(CallError::Broken("the connection was closed".to_owned())))
    }

    async fn write(self: Arc<Self>, mut writing: OwnedWriteHalf) {
        let mut bytes = Vec::new();
        while self.is_open() {
            std::mem::swap(&mut bytes, &mut *lock(&self.queue));
            if bytes.is_empty() {
                self.queued.notified().await;
                continue;
            }
            if let Err(error) = writing.write_all(&bytes).await {
                self.fail(&error.to_string());
                return;
            }
            bytes.clear();
        }
    }

    async fn read(self: Arc<Self>, mut reading: OwnedReadHalf, mut deframer: Deframer) {
        let reason = loop {
            if let Err(reason) = self.take_answers(&mut deframer) {
                break reason;
            }
            match reading.read(deframer.space()).await {
                Ok(0) => break "the node closed the connection".to_owned(),
                Ok(read) => deframer.advance(read),
                Err(error) => break error.to_string(),
            }
        };
        self.fail(&reason);
    }

    /// Hands every complete answer to its caller.
    fn take_answers(&self, deframer: &mut Deframer) -> Result<(), String> {
        while let Some(frame) = deframer.next_frame().map_err(|error| error.to_string())? {
            let response = Response::decode(&frame).map_err(|error| error.to_string())?;
            // A caller that gave up is not there any more.
            let Some(reply) = lock(&self.waiting).remove(&response.id) else { continue };
            let result = match response.result {
                Ok(body) => Ok(Answer { body: body.to_vec(), leader_hint: response.leader_hint.map(str::to_owned) }),
                Err(refused) => Err(CallError::Refused {
                    status: refused.status,
                    executed: refused.executed,
                    message: refused.message.to_owned(),
                }),
            };
            drop(reply.send(result));
        }
        Ok(())
    }

    /// The connection is over: every caller learns it.
    fn fail(&self, reason: &str) {
        let mut waiting = lock(&self.waiting);
        self.open.store(false, Ordering::Release);
        for (_, reply) in waiting.drain() {
            drop(reply.send(Err(CallError::Broken(reason.to_owned()))));
        }
        drop(waiting);
        self.queued.notify_one();
    }
}

/// Forgets a request whose caller is gone.
struct Forget<'a> {
    conn: &'a Conn,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.conn.waiting).remove(&self.id);
    }
}

fn overloaded(what: &str) -> CallError {
    let message = format!("too many {what}; slow down and try again");
    CallError::Refused { status: Status::Overloaded, executed: Executed::No, message }
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
