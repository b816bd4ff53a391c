//! One connection of a client: requests leave together, answers find their caller by number.
//!
//! A request takes a place first: a node says at the handshake how many requests and bytes of one connection it lets wait, and
//! what would be more waits here. While something is owed and nothing arrives, the node is pinged; if it stays silent, the
//! connection is given up. Whether a request is tried again elsewhere is not decided here.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::dial::{ConnectError, Dialing};
use super::limits::{BUFFER_KEPT_BYTES_MAX, QUEUE_BYTES_MAX, SILENT_LOOKS_MAX, UNSENT_BYTES_MAX, WAITING_MAX};
use super::outcome::{Answer, CallError};
use super::parts::{Heldup, Next, Parts};
use super::waiting::{GivenBack, Taker, Waiting};
use super::{Endpoint, ServerInfo, lock};
use crate::api::{Executed, KIND_RESPONSE_PART, Request, Response, ResponsePart};
use crate::deframer::Deframer;
use crate::frame::FrameKind;
use crate::handshake::{ClientLimits, Hello, Verdict, Welcome};
use crate::limits::{ANSWER_BYTES_MAX, HANDSHAKE_BODY_BYTES_MAX};
use crate::patience;

/// How long a node may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silence {
    /// A connection is given up when something is owed and nothing arrives for so long.
    pub limit: Duration,
    /// A connection on which nothing is owed is pinged after so long.
    pub idle: Duration,
}

/// An open connection. Three tasks serve it; they end with it, so a connection that nobody holds is closed.
#[derive(Debug)]
pub(super) struct Conn {
    shared: Arc<Shared>,
    limits: ClientLimits,
    bytes_limit: u32,
    info: ServerInfo,
    tasks: [AbortHandle; 3],
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
    /// Requests that were sent and not answered yet, those included whose caller is gone: the node still counts them.
    waiting: Mutex<Waiting>,
    /// Callers that do not take the parts that came: nothing more is read meanwhile.
    held_up: Arc<Heldup>,
    /// Places for requests, and for bytes of their payloads. Closed with the connection.
    places: Semaphore,
    bytes: Semaphore,
    /// Changes under the lock of `queue` alone.
    open: AtomicBool,
    /// The other side showed that it is alive since this was last looked at.
    heard: AtomicBool,
    /// Looks in a row that found something owed and no sign of life.
    silent_looks: AtomicU32,
    /// A request was answered, with a refusal perhaps.
    has_answered: AtomicBool,
    /// It broke with requests that may have left, and none was answered before.
    broke_unanswered: AtomicBool,
    /// The watch waits for the first request. Changes under the lock of `queue`.
    is_watch_idle: AtomicBool,
    watch: Notify,
}

/// Requests that have not begun to leave.
#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    /// The numbers of the requests in `bytes`.
    ids: Vec<u64>,
    last_id: u64,
}

/// A place for one request, given back unless the request is sent.
pub(super) struct QueuePlace<'a> {
    conn: &'a Conn,
    bytes: u32,
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        self.conn.shared.give_back(1, self.bytes as usize);
    }
}

impl Conn {
    /// Connects to one of the endpoint's addresses and greets.
    pub(super) async fn open(
        endpoint: &Endpoint,
        dialing: &Dialing,
        silence: Silence,
        is_taken: &AtomicBool,
    ) -> Result<Self, ConnectError> {
        dialing.open(endpoint, is_taken, |address| Self::open_at(address, silence, is_taken)).await
    }

    async fn open_at(address: SocketAddr, silence: Silence, is_taken: &AtomicBool) -> Result<Self, ConnectError> {
        let stream = TcpStream::connect(address).await.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => ConnectError::lasting(format!("nothing listens there: {error}")),
            _ => ConnectError::passing(error.to_string()),
        })?;
        is_taken.store(true, Ordering::Relaxed);
        let passing = |error: io::Error| ConnectError::passing(error.to_string());
        stream.set_nodelay(true).map_err(passing)?;
        patience::CLIENTS.set(&stream).map_err(passing)?;
        SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX).map_err(passing)?;
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
        Ok(Self::start(reading, writing, deframer, &welcome, silence))
    }

    fn start(
        reading: OwnedReadHalf,
        writing: OwnedWriteHalf,
        deframer: Deframer,
        welcome: &Welcome,
        silence: Silence,
    ) -> Self {
        let limits = welcome.limits;
        // A limit of 0 was not told.
        let or_max = |told: usize, max: usize| if told == 0 { max } else { told.min(max) };
        let places = or_max(limits.requests as usize, WAITING_MAX);
        let bytes = or_max(usize::try_from(limits.queued_bytes).unwrap_or(usize::MAX), QUEUE_BYTES_MAX);
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            queued: Notify::new(),
            waiting: Mutex::default(),
            held_up: Arc::default(),
            places: Semaphore::new(places),
            bytes: Semaphore::new(bytes),
            open: AtomicBool::new(true),
            heard: AtomicBool::new(false),
            silent_looks: AtomicU32::new(0),
            has_answered: AtomicBool::new(false),
            broke_unanswered: AtomicBool::new(false),
            is_watch_idle: AtomicBool::new(false),
            watch: Notify::new(),
        });
        let write = tokio::spawn(write(Running(Arc::clone(&shared)), writing)).abort_handle();
        let read = tokio::spawn(read(Running(Arc::clone(&shared)), reading, deframer)).abort_handle();
        let served = [write.clone(), read.clone()];
        let watch = tokio::spawn(watch(Running(Arc::clone(&shared)), silence, served)).abort_handle();
        let info = ServerInfo { cluster_id: welcome.cluster, shard_count: welcome.shard_count };
        let bytes_limit = u32::try_from(bytes).unwrap_or(u32::MAX);
        Self { shared, limits, bytes_limit, info, tasks: [write, read, watch] }
    }

    /// What the node said of its cluster.
    pub const fn info(&self) -> &ServerInfo {
        &self.info
    }

    /// True if requests are still taken.
    pub fn is_open(&self) -> bool {
        self.shared.is_open()
    }

    /// Why the node that it led to is not to be trusted for a while, once the connection is closed: it fell silent, or left
    /// requests without having answered any.
    pub(crate) fn failure(&self) -> Option<&'static str> {
        if self.shared.silent_looks.load(Ordering::Relaxed) >= SILENT_LOOKS_MAX {
            Some("it fell silent")
        } else if self.shared.broke_unanswered.load(Ordering::Relaxed) {
            Some("it closed the connection before it answered anything")
        } else {
            None
        }
    }

    /// The largest payload that the node takes, if it said so. Unit: bytes.
    pub fn request_bytes_limit(&self) -> Option<usize> {
        (self.limits.request_bytes > 0).then_some(self.limits.request_bytes as usize)
    }

    /// Waits for a place for a request with this many bytes; `None` once the connection is closed. Callers are served in their
    /// order. Dropping the future, or the place, frees the place.
    pub async fn place(&self, payload_bytes: usize) -> Option<QueuePlace<'_>> {
        // A request that is larger than everything waits until it is alone.
        let bytes = u32::try_from(payload_bytes).unwrap_or(u32::MAX).min(self.bytes_limit);
        let place = self.shared.places.acquire().await.ok()?;
        self.shared.bytes.acquire_many(bytes).await.ok()?.forget();
        place.forget();
        Some(QueuePlace { conn: self, bytes })
    }

    /// Sends a request and waits for its answer. Dropping the future gives up the answer, not the request, which keeps its
    /// place until the node has answered it.
    pub async fn call(
        &self,
        place: QueuePlace<'_>,
        kind: FrameKind,
        shard: u32,
        deadline: Instant,
        payload: &[u8],
    ) -> Result<Answer, CallError> {
        let timeout_ms = ms_until(deadline);
        let (taker, answer) = Taker::of_whole();
        self.shared.enqueue(taker, place.bytes, |id| Request {
            id,
            kind,
            shard,
            timeout_ms,
            session: 0,
            sequence: 0,
            payload,
        })?;
        // Whoever takes the answer gives it back.
        std::mem::forget(place);
        self.shared.queued.notify_one();
        answer.await.unwrap_or_else(|_dropped| Err(CallError::Broken("the connection was closed".to_owned())))
    }

    /// Sends a call that lasts. Its place is free again once it has begun, with its first part.
    pub(super) fn open_stream(
        self: &Arc<Self>,
        place: QueuePlace<'_>,
        kind: FrameKind,
        shard: u32,
        deadline: Instant,
        payload: &[u8],
    ) -> Result<Stream, CallError> {
        let timeout_ms = ms_until(deadline);
        let parts = Parts::new(&self.shared.held_up);
        let taker = Taker::OfParts(Arc::clone(&parts));
        let id = self.shared.enqueue(taker, place.bytes, |id| Request {
            id,
            kind,
            shard,
            timeout_ms,
            session: 0,
            sequence: 0,
            payload,
        })?;
        std::mem::forget(place);
        self.shared.queued.notify_one();
        Ok(Stream { conn: Arc::clone(self), parts, id, is_over: false })
    }
}

fn ms_until(deadline: Instant) -> u32 {
    u32::try_from(deadline.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(u32::MAX)
}

/// The answer to a call that lasts, at its caller. Dropping it ends the call; the connection stays.
#[derive(Debug)]
pub(super) struct Stream {
    conn: Arc<Conn>,
    parts: Arc<Parts>,
    id: u64,
    is_over: bool,
}

impl Stream {
    /// Waits for the next part, or the end. Nothing comes after the end.
    pub(super) async fn next(&mut self) -> Option<Next> {
        if self.is_over {
            return None;
        }
        let next = self.parts.next().await;
        self.is_over = matches!(next, Next::End(_));
        Some(next)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.is_over {
            self.parts.leave();
            self.conn.shared.cancel(self.id);
        }
    }
}

impl Shared {
    fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    fn give_back(&self, places: usize, bytes: usize) {
        self.places.add_permits(places);
        self.bytes.add_permits(bytes);
    }

    /// Queues the request that `make` makes of its number, which is returned. It has a place with so many bytes.
    fn enqueue<'a>(&self, taker: Taker, bytes: u32, make: impl FnOnce(u64) -> Request<'a>) -> Result<u64, CallError> {
        let mut queue = lock(&self.queue);
        // Checked under the lock that `fail` takes, so that no request is left behind.
        if !self.is_open() {
            return Err(CallError::NotSent("the connection is closed".to_owned()));
        }
        let id = queue.last_id + 1;
        lock(&self.waiting).insert(id, taker, bytes);
        queue.last_id = id;
        queue.ids.push(id);
        make(id).encode(&mut queue.bytes);
        if self.is_watch_idle.swap(false, Ordering::Relaxed) {
            self.watch.notify_one();
        }
        Ok(id)
    }

    /// Tells the node that nobody takes the answer to a call any more, unless it has ended.
    fn cancel(&self, id: u64) {
        let mut queue = lock(&self.queue);
        if !self.is_open() || !lock(&self.waiting).cancel(id) {
            return;
        }
        Request::cancel(id).encode(&mut queue.bytes);
        // An answer is owed now.
        if self.is_watch_idle.swap(false, Ordering::Relaxed) {
            self.watch.notify_one();
        }
        drop(queue);
        self.queued.notify_one();
    }

    /// Asks the node to say something. Its answer is nobody's; that something arrives is what counts.
    fn ping(&self, timeout: Duration) {
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        {
            let mut queue = lock(&self.queue);
            queue.last_id += 1;
            let id = queue.last_id;
            Request::ping(id, timeout_ms).encode(&mut queue.bytes);
        }
        self.queued.notify_one();
    }

    /// Hands every complete answer, and every part that its caller takes by itself, to its caller.
    fn take_answers(&self, deframer: &mut Deframer) -> Result<(), String> {
        let mut given_back = GivenBack::default();
        let result = self.take_all(deframer, &mut given_back);
        if given_back.places > 0 {
            self.give_back(given_back.places, given_back.bytes);
            self.has_answered.store(true, Ordering::Relaxed);
        }
        result
    }

    fn take_all(&self, deframer: &mut Deframer, given_back: &mut GivenBack) -> Result<(), String> {
        while let Some(frame) = deframer.next_frame().map_err(|error| error.to_string())? {
            if frame.kind == KIND_RESPONSE_PART {
                let part = ResponsePart::decode(&frame).map_err(|error| error.to_string())?;
                lock(&self.waiting).take_part(&part, given_back)?;
                continue;
            }
            let response = Response::decode(&frame).map_err(|error| error.to_string())?;
            let leader_hint = response.leader_hint.map(str::to_owned);
            let result = match response.result {
                Err(refused) if response.id == 0 => {
                    let reason = format!("the node closes the connection: {}", refused.message);
                    if refused.executed == Executed::No {
                        // A goodbye: the node looked at nothing that it has not answered.
                        self.end(&reason, CallError::NotSent);
                    }
                    return Err(reason);
                }
                Ok(body) => Ok((body, leader_hint)),
                Err(refused) => Err(CallError::Refused {
                    status: refused.status,
                    executed: refused.executed,
                    message: refused.message.to_owned(),
                    leader_hint,
                }),
            };
            // Callers that queue requests wait for this lock: nothing is copied under it.
            let taker = lock(&self.waiting).remove(response.id, given_back);
            // A ping's answer is nobody's.
            if let Some(taker) = taker {
                taker.end(result);
            }
        }
        Ok(())
    }

    /// The connection is over: every caller learns it, and whether its request can have left.
    fn fail(&self, reason: &str) {
        if !self.has_answered.load(Ordering::Relaxed) && lock(&self.waiting).is_owed() {
            self.broke_unanswered.store(true, Ordering::Relaxed);
        }
        self.end(reason, CallError::Broken);
    }

    /// The connection is over; `sent` says what becomes of requests that may have left.
    fn end(&self, reason: &str, sent: fn(String) -> CallError) {
        let mut queue = lock(&self.queue);
        if !self.open.swap(false, Ordering::AcqRel) {
            return;
        }
        self.places.close();
        self.bytes.close();
        let Queue { ids, .. } = std::mem::take(&mut *queue);
        let mut waiting = lock(&self.waiting);
        let mut given_back = GivenBack::default();
        for id in ids {
            if let Some(taker) = waiting.remove(id, &mut given_back) {
                taker.end(Err(CallError::NotSent(reason.to_owned())));
            }
        }
        for taker in waiting.drain() {
            taker.end(Err(sent(reason.to_owned())));
        }
        drop(waiting);
        drop(queue);
        self.queued.notify_one();
        self.watch.notify_one();
    }
}

/// Held by a task of a connection: however the task ends, with its runtime for one, nobody goes on waiting for it.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fail("the connection was closed here");
    }
}

async fn write(running: Running, writing: OwnedWriteHalf) {
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
        if let Err(error) = write_all(shared, &writing, &bytes).await {
            shared.fail(&error.to_string());
            return;
        }
        bytes.clear();
        if bytes.capacity() > BUFFER_KEPT_BYTES_MAX {
            bytes = Vec::new();
        }
    }
}

/// Writes everything. That the kernel takes more after it took nothing shows that the node takes what it is sent.
async fn write_all(shared: &Shared, writing: &OwnedWriteHalf, bytes: &[u8]) -> io::Result<()> {
    let mut left = bytes;
    let mut has_waited = false;
    while !left.is_empty() {
        match writing.try_write(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                left = left.get(written..).unwrap_or_default();
                if std::mem::take(&mut has_waited) {
                    shared.heard.store(true, Ordering::Relaxed);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                writing.writable().await?;
                has_waited = true;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn read(running: Running, mut reading: OwnedReadHalf, mut deframer: Deframer) {
    let shared = &running.0;
    let reason = loop {
        if let Err(reason) = shared.take_answers(&mut deframer) {
            break reason;
        }
        shared.held_up.until_free().await;
        match reading.read(deframer.space()).await {
            Ok(0) => break "the node closed the connection".to_owned(),
            Ok(read) => {
                shared.heard.store(true, Ordering::Relaxed);
                deframer.advance(read);
            }
            Err(error) => break error.to_string(),
        }
    };
    shared.fail(&reason);
}

/// Looks for signs of life as long as something is owed, and gives the connection up if there are none.
///
/// It counts looks, not time: a process that was stopped itself finds its answers before it looks a second time.
async fn watch(running: Running, silence: Silence, served: [AbortHandle; 2]) {
    let shared = &running.0;
    let pause = silence.limit / SILENT_LOOKS_MAX;
    let mut is_pinged = false;
    while shared.is_open() {
        let is_owed = is_pinged || lock(&shared.waiting).is_owed();
        if !is_owed {
            is_pinged = wait_until_owed(shared, silence).await;
            continue;
        }
        tokio::time::sleep(pause).await;
        // What nobody here reads is not the node's silence.
        if shared.heard.swap(false, Ordering::Relaxed) || shared.held_up.is_held_up() {
            is_pinged = false;
            shared.silent_looks.store(0, Ordering::Relaxed);
            continue;
        }
        let looks = shared.silent_looks.fetch_add(1, Ordering::Relaxed) + 1;
        if looks >= SILENT_LOOKS_MAX {
            let reason = format!(
                "the node did not say anything for {} ms, not even to a ping; the connection was given up",
                silence.limit.as_millis()
            );
            shared.fail(&reason);
            served.iter().for_each(AbortHandle::abort);
            return;
        }
        if !is_pinged {
            is_pinged = true;
            shared.ping(silence.limit);
        }
    }
}

/// Returns once a request was queued, or after a ping because nothing was for long: then `true`.
async fn wait_until_owed(shared: &Shared, silence: Silence) -> bool {
    {
        let _queue = lock(&shared.queue);
        if !shared.is_open() || lock(&shared.waiting).is_owed() {
            return false;
        }
        shared.is_watch_idle.store(true, Ordering::Relaxed);
    }
    let is_idle = tokio::time::timeout(silence.idle, shared.watch.notified()).await.is_err();
    shared.heard.store(false, Ordering::Relaxed);
    if is_idle {
        shared.ping(silence.limit);
    }
    is_idle
}

fn hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    Hello::of_client().encode(&mut bytes);
    bytes
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
