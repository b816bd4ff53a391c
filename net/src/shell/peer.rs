//! An outgoing link to a peer: connects, greets, writes what is queued, and starts over when it breaks.
//!
//! One link is one lane; for each peer a shard has three, so that heartbeats never queue behind entries, nor entries behind
//! answers. A link takes frames only while it is up. When it breaks, what is queued is dropped: Raft sends again what is needed.
//! The link reads, too, although a peer sends nothing on it: so the end of a peer is noticed while there is nothing to write.
//!
//! A peer may have several addresses, and some may be dead. An attempt tries all of them, one after the other, the one that
//! answered last first.

use std::cell::RefCell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::{AsyncReadExt, AsyncWriteExt, FutureExt};

use super::greet::{GreetError, read_frame};
use super::limits::{BACKOFF_MS_MAX, BACKOFF_MS_MIN, CONNECT_MS_MAX, CONNECT_ONE_MS_MAX, PEER_ADDRESSES_MAX};
use super::stream::{Stream, limit_patience};
use super::writer::{ConnWriter, NotTaken};
use crate::handshake::{Hello, Verdict, Welcome};
use crate::patience;
use crate::resolve::Resolver;

/// What a link is made with.
#[derive(Clone, Debug)]
pub struct PeerLinkOptions {
    /// Hosts and ports of the peer; the hosts may be names.
    pub authorities: Vec<String>,
    /// Finds their addresses.
    pub resolver: Resolver,
    /// Id of the cluster. Both sides prove that they know it, and neither sends it.
    pub cluster_id: u64,
    /// What to say first. The proof is added for each connection.
    pub hello: Hello,
    /// Bytes that may wait to be written. Unit: bytes.
    pub queue_bytes_limit: usize,
}

/// What happens to a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// The peer took the connection.
    Up {
        /// URL at which clients reach the peer, as the peer says; empty if it says none.
        client_url: String,
    },
    /// The connection broke after it was up.
    Down {
        /// Why.
        reason: String,
    },
    /// An attempt failed. Reported when the reason differs from the last one.
    Failed {
        /// Why.
        reason: String,
    },
    /// The peer refuses this node. The link keeps trying, slowly: the peer may be started again with other settings.
    Refused {
        /// Why.
        verdict: Verdict,
        /// What the peer said.
        message: String,
    },
}

/// A link to a peer. Clones share it.
#[derive(Clone, Debug)]
pub struct PeerLink {
    shared: Rc<RefCell<State>>,
}

#[derive(Debug, Default)]
struct State {
    writer: Option<ConnWriter>,
    closed: bool,
}

impl PeerLink {
    /// A link, and the task that the caller runs for it on this executor. The task calls `report` with every event.
    pub fn new(
        options: PeerLinkOptions,
        report: impl Fn(LinkEvent) + 'static,
    ) -> (Self, impl Future<Output = ()> + 'static) {
        let link = Self { shared: Rc::default() };
        let task = Task { link: link.clone(), options, report, last_failure: None, order: Vec::new() };
        (link, task.run())
    }

    /// Lets `append` add frames to the queue.
    ///
    /// # Errors
    /// The link is down, or its queue is full; then nothing was added.
    pub fn push(&self, append: impl FnOnce(&mut Vec<u8>)) -> Result<(), NotTaken> {
        let writer = self.shared.borrow().writer.clone();
        writer.ok_or(NotTaken::Closed)?.push(append)
    }

    /// The same with a limit of its own; see `ConnWriter::push_within`.
    ///
    /// # Errors
    /// The link is down, or there is no room; then nothing was added.
    pub fn push_within(
        &self,
        bytes_limit: usize,
        bytes: usize,
        append: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), NotTaken> {
        let writer = self.shared.borrow().writer.clone();
        writer.ok_or(NotTaken::Closed)?.push_within(bytes_limit, bytes, append)
    }

    /// Bytes that wait to be handed to the system; `None` while the link is down, so that it takes no frames. Unit: bytes.
    #[must_use]
    pub fn queued_bytes(&self) -> Option<usize> {
        let state = self.shared.borrow();
        state.writer.as_ref().filter(|writer| !writer.is_closed()).map(ConnWriter::queued_bytes)
    }

    /// Ends the link for good, after what is queued was written.
    pub fn close(&self) {
        let mut state = self.shared.borrow_mut();
        state.closed = true;
        if let Some(writer) = state.writer.take() {
            writer.close();
        }
    }

    fn is_closed(&self) -> bool {
        self.shared.borrow().closed
    }
}

struct Task<F> {
    link: PeerLink,
    options: PeerLinkOptions,
    report: F,
    /// What was reported last, so that a failure that repeats is reported once. `None` after a success.
    last_failure: Option<String>,
    /// The peer's addresses in the order in which they are tried.
    order: Vec<SocketAddr>,
}

impl<F: Fn(LinkEvent)> Task<F> {
    async fn run(mut self) {
        let mut backoff_ms = BACKOFF_MS_MIN;
        while !self.link.is_closed() {
            match self.connect().await {
                // Closed while it was connecting: nobody would close this connection any more.
                Ok(_) if self.link.is_closed() => return,
                Ok((stream, client_url)) => {
                    self.last_failure = None;
                    let up_since = Instant::now();
                    self.serve(stream, client_url).await;
                    // A peer that takes connections and drops them is no reason to hurry.
                    if up_since.elapsed() >= Duration::from_millis(BACKOFF_MS_MAX) {
                        backoff_ms = BACKOFF_MS_MIN;
                    }
                }
                Err(event) => self.report_failure(event),
            }
            if !self.link.is_closed() {
                glommio::timer::sleep(Duration::from_millis(backoff_ms)).await;
                backoff_ms = (backoff_ms * 2).min(BACKOFF_MS_MAX);
            }
        }
    }

    fn report_failure(&mut self, event: LinkEvent) {
        let text = format!("{event:?}");
        if self.last_failure.as_ref() != Some(&text) {
            self.last_failure = Some(text);
            (self.report)(event);
        }
    }

    /// Connects and greets. What failed is tried last the next time.
    async fn connect(&mut self) -> Result<(Stream, String), LinkEvent> {
        let found = self.options.resolver.addresses(&self.options.authorities).await.map_err(|error| failed(&error))?;
        self.order.retain(|address| found.contains(address));
        self.order.extend(found.iter().filter(|address| !self.order.contains(address)).copied().collect::<Vec<_>>());
        let limit_ms = if self.order.len() > 1 { CONNECT_ONE_MS_MAX } else { CONNECT_MS_MAX };
        let mut failures = Vec::new();
        let mut refusal = None;
        for _ in 0..self.order.len().min(PEER_ADDRESSES_MAX) {
            if self.link.is_closed() {
                break;
            }
            let Some(&address) = self.order.first() else { break };
            let connecting = async { Ok(self.connect_to(address).await) };
            match glommio::timer::timeout(Duration::from_millis(limit_ms), connecting).await {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(LinkEvent::Failed { reason })) => failures.push(format!("{address}: {reason}")),
                Ok(Err(event)) => refusal = refusal.or(Some(event)),
                Err(_elapsed) => failures.push(format!("{address}: no answer in {limit_ms} ms")),
            }
            self.order.rotate_left(1);
        }
        // A peer that refuses says more than an address that does not answer.
        Err(refusal.unwrap_or_else(|| failed(&failures.join("; "))))
    }

    async fn connect_to(&self, address: SocketAddr) -> Result<(Stream, String), LinkEvent> {
        let mut stream = Stream::connect(address).await.map_err(|error| failed(&error))?;
        stream.set_nodelay(true).map_err(|error| failed(&error))?;
        limit_patience(&stream, patience::PEERS);
        let mut hello = self.options.hello.clone();
        hello.prove(self.options.cluster_id, draw());
        let mut bytes = Vec::new();
        hello.encode(&mut bytes);
        stream.write_all(&bytes).await.map_err(|error| failed(&error))?;
        let mut body = Vec::new();
        let welcome = read_frame(&mut stream, &mut body, |frame| Welcome::decode(&frame)).await;
        let welcome = welcome.and_then(|welcome| welcome.map_err(GreetError::from)).map_err(|error| match error {
            GreetError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                failed(&"the peer closed the connection during the handshake")
            }
            error => failed(&error),
        })?;
        let client_url = welcome.client_url.clone();
        self.check(address, &hello, welcome)?;
        Ok((stream, client_url))
    }

    /// Whether the answer to `hello` is that of the peer.
    fn check(&self, address: SocketAddr, hello: &Hello, welcome: Welcome) -> Result<(), LinkEvent> {
        if welcome.verdict != Verdict::Accepted {
            return Err(LinkEvent::Refused { verdict: welcome.verdict, message: welcome.message });
        }
        if Some(welcome.cluster) != hello.answer(self.options.cluster_id) {
            let message = format!(
                "whoever answers at {address} does not know the id of this cluster: it is no node, or one of another cluster"
            );
            return Err(LinkEvent::Refused { verdict: Verdict::Cluster, message });
        }
        if welcome.node_id != hello.to {
            let message =
                format!("{address} answers as node {:016x}, expected node {:016x}", welcome.node_id, hello.to);
            return Err(LinkEvent::Refused { verdict: Verdict::Node, message });
        }
        if welcome.shard_count != hello.shard_count {
            let message = format!("{address} has {} shards, expected {}", welcome.shard_count, hello.shard_count);
            return Err(LinkEvent::Refused { verdict: Verdict::Shards, message });
        }
        Ok(())
    }

    /// Writes what is queued until the connection breaks or the link is closed.
    async fn serve(&self, stream: Stream, client_url: String) {
        let writer = ConnWriter::new(self.options.queue_bytes_limit);
        self.link.shared.borrow_mut().writer = Some(writer.clone());
        (self.report)(LinkEvent::Up { client_url });
        let (mut reading, mut writing) = futures_lite::io::split(stream);
        let watch = async {
            let mut byte = [0];
            match reading.read(&mut byte).await {
                Ok(0) => "the peer closed the connection".to_owned(),
                Ok(_) => "the peer sent bytes on a connection that it only reads from".to_owned(),
                Err(error) => error.to_string(),
            }
        };
        let write = async {
            match writer.run(&mut writing).await {
                Ok(()) => "the link was closed".to_owned(),
                Err(error) => error.to_string(),
            }
        };
        let reason = watch.or(write).await;
        writer.close();
        self.link.shared.borrow_mut().writer = None;
        (self.report)(LinkEvent::Down { reason });
    }
}

/// A random number for the proof of one connection. The keys of a new hasher are random, and nothing else here needs more.
fn draw() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn failed(error: &impl ToString) -> LinkEvent {
    LinkEvent::Failed { reason: error.to_string() }
}
