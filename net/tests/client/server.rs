//! A server that does what a test says, on loopback. It knows frames and messages; what to answer is the test's script.

use std::future::Future;
use std::time::Duration;

use net::api::{Executed, KIND_CANCEL, KIND_PING, Refused, Request, Response, ResponsePart, Status};
use net::client::{Client, ClientError, Endpoint, Kind, Options, Target};
use net::deframer::Deframer;
use net::frame::FrameKind;
use net::handshake::{ClientLimits, Hello, HelloRole, MAGIC, PROTOCOL_VERSION, Verdict, Welcome};
use net::resolve::Resolver;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Longer than any test runs, so that a test which waits for this time to pass shows as one that hangs. Unit: s.
pub const LONG: Duration = Duration::from_secs(3600);

/// Short enough for a test to wait for it; nothing is asserted about how long it takes.
pub const SHORT: Duration = Duration::from_millis(60);

/// No test waits longer than this for anything: one that would hang fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const CLUSTER_ID: u64 = 77;
pub const SHARD: u32 = 3;

/// Waits for something that must happen, but not for ever.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(done) => done,
        Err(_elapsed) => panic!("waited {} s in vain for {what}", PATIENCE.as_secs()),
    }
}

pub struct Server {
    listener: TcpListener,
}

impl Server {
    pub async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.expect("a free port") }
    }

    /// Goes on with a listener that another runtime had.
    pub fn from_std(listener: std::net::TcpListener) -> Self {
        Self { listener: TcpListener::from_std(listener).expect("a listener") }
    }

    pub fn authority(&self) -> String {
        self.listener.local_addr().expect("an address").to_string()
    }

    pub fn endpoint(&self) -> Endpoint {
        self.authority().parse().expect("an endpoint")
    }

    /// Takes a connection and leaves it alone.
    pub async fn accept_raw(&self) -> TcpStream {
        soon("a connection", self.listener.accept()).await.expect("a connection").0
    }

    /// Takes a connection and reads its `Hello`.
    pub async fn accept_hello(&self) -> (Session, Hello) {
        let mut stream = self.accept_raw().await;
        let mut magic = [0; MAGIC.len()];
        soon("magic bytes", stream.read_exact(&mut magic)).await.expect("magic bytes");
        assert_eq!(magic, MAGIC);
        let mut session = Session { stream, deframer: Deframer::new(1 << 30), pings: 0 };
        let hello = session.frame(|frame| Hello::decode(frame).expect("a hello")).await.expect("a frame");
        (session, hello)
    }

    /// Takes a connection and welcomes it.
    pub async fn accept(&self) -> Session {
        self.accept_with(&welcome()).await
    }

    pub async fn accept_with(&self, welcome: &Welcome) -> Session {
        let (mut session, hello) = self.accept_hello().await;
        assert_eq!((hello.version, hello.role), (PROTOCOL_VERSION, HelloRole::Client));
        session.welcome(welcome).await;
        session
    }

    /// Nobody has connected that was not accepted: the next connection is our own.
    pub async fn assert_nobody_waits(&self) {
        let own = TcpStream::connect(self.authority()).await.expect("our own connection");
        let (_accepted, from) = soon("a connection", self.listener.accept()).await.expect("a connection");
        assert_eq!(from, own.local_addr().expect("an address"), "somebody else connected");
    }
}

pub fn welcome() -> Welcome {
    Welcome {
        version: PROTOCOL_VERSION,
        verdict: Verdict::Accepted,
        shard_count: 4,
        cluster: CLUSTER_ID,
        node_id: 1,
        limits: ClientLimits::default(),
        name: "n1".to_owned(),
        client_url: String::new(),
        message: String::new(),
    }
}

/// A connection as the server sees it.
pub struct Session {
    stream: TcpStream,
    deframer: Deframer,
    /// Pings that were answered.
    pub pings: usize,
}

/// Kinds of requests of these tests: what they mean is the server's business.
pub const WRITE: Kind = Kind { number: FrameKind::new(8), writes: true, lasts: false };
pub const READ: Kind = Kind { number: FrameKind::new(9), writes: false, lasts: false };
pub const LASTING: Kind = Kind { number: FrameKind::new(62), writes: false, lasts: true };
pub const STATUS: Kind = Kind { number: FrameKind::new(63), writes: false, lasts: false };
pub const PING: Kind = Kind { number: KIND_PING, writes: false, lasts: false };
pub const CANCEL: Kind = Kind { number: KIND_CANCEL, writes: false, lasts: false };
const KINDS: [Kind; 6] = [WRITE, READ, LASTING, STATUS, PING, CANCEL];

/// A request that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    pub id: u64,
    pub kind: Kind,
    pub shard: u32,
    pub timeout_ms: u32,
    pub payload: Vec<u8>,
}

impl Session {
    async fn frame<T>(&mut self, take: impl FnOnce(&net::frame::Frame<'_>) -> T) -> Option<T> {
        loop {
            if let Some(frame) = self.deframer.next_frame().expect("sound frames") {
                return Some(take(&frame));
            }
            match soon("bytes of the client", self.stream.read(self.deframer.space())).await {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.deframer.advance(read),
            }
        }
    }

    /// The next request; `None` once the client has closed the connection. Pings before it are answered.
    pub async fn next(&mut self) -> Option<Arrived> {
        loop {
            let arrived = self.next_of_any_kind().await?;
            if arrived.kind != PING {
                return Some(arrived);
            }
            self.pings += 1;
            self.answer(arrived.id, b"").await;
        }
    }

    /// The next request or ping.
    pub async fn next_of_any_kind(&mut self) -> Option<Arrived> {
        let take = |frame: &net::frame::Frame<'_>| {
            let request = Request::decode(frame).expect("a request");
            let Request { id, kind, shard, timeout_ms, payload, .. } = request;
            let kind = *KINDS.iter().find(|known| known.number == kind).expect("a kind of these tests");
            Arrived { id, kind, shard, timeout_ms, payload: payload.to_vec() }
        };
        self.frame(take).await
    }

    /// The next request, which is there or will come.
    pub async fn request(&mut self) -> Arrived {
        self.next().await.expect("a request and not the end of the connection")
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        soon("room for bytes", self.stream.write_all(bytes)).await.expect("an open connection");
    }

    pub async fn welcome(&mut self, welcome: &Welcome) {
        let mut bytes = Vec::new();
        welcome.encode(&mut bytes);
        self.send(&bytes).await;
    }

    pub async fn respond(&mut self, response: &Response<'_>) {
        let mut bytes = Vec::new();
        response.encode(&mut bytes);
        self.send(&bytes).await;
    }

    pub async fn answer(&mut self, id: u64, body: &[u8]) {
        self.respond(&Response { id, leader_hint: None, result: Ok(body) }).await;
    }

    pub async fn send_part(&mut self, id: u64, bytes: &[u8]) {
        let mut frame = Vec::new();
        ResponsePart { id, bytes }.encode(&mut frame);
        self.send(&frame).await;
    }

    pub async fn refuse(&mut self, id: u64, status: Status, executed: Executed, message: &str) {
        self.respond(&Response { id, leader_hint: None, result: Err(Refused { status, executed, message }) }).await;
    }

    /// The client has sent everything that it will send until it is answered.
    ///
    /// Every other task of the runtime gets its turns first, and then nothing lies in the connection.
    pub async fn has_nothing_more(&mut self) -> bool {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        tokio::time::timeout(SHORT, self.next()).await.is_err()
    }

    /// The bytes of the connection as they come, without a look at them.
    pub const fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Answers requests with their own payloads until the client closes the connection; the number of requests.
    pub async fn echo(&mut self) -> usize {
        let mut count = 0;
        while let Some(request) = self.next().await {
            self.answer(request.id, &request.payload).await;
            count += 1;
        }
        count
    }
}

/// An address at which nothing listens, as long as the value lives.
pub struct DeadEnd {
    _reserved: TcpSocket,
    pub authority: String,
}

impl DeadEnd {
    pub fn reserve() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let authority = socket.local_addr().expect("an address").to_string();
        Self { _reserved: socket, authority }
    }
}

pub async fn connect(endpoints: &[String]) -> Result<Client, ClientError> {
    connect_within(endpoints, LONG).await
}

pub async fn connect_within(endpoints: &[String], connect_timeout: Duration) -> Result<Client, ClientError> {
    connect_with(Options { connect_timeout, ..options(endpoints) }).await
}

pub async fn connect_with(options: Options) -> Result<Client, ClientError> {
    soon("a client", Client::connect(options)).await
}

/// Options of a client that does nothing by the clock.
pub fn options(endpoints: &[String]) -> Options {
    Options {
        endpoints: endpoints.to_vec(),
        connect_timeout: LONG,
        connections_per_endpoint: 1,
        next_endpoint_after: LONG,
        next_address_after: LONG,
        resolver: Resolver::default(),
        silence_limit: LONG,
        idle_ping: LONG,
    }
}

/// A client of one server, and the server's end of its connection.
pub async fn pair(server: &Server) -> (Client, Session) {
    let endpoints = [server.authority()];
    let (client, session) = tokio::join!(connect(&endpoints), server.accept());
    (client.expect("a client"), session)
}

/// A client of two servers; it is connected to the first.
pub async fn client_of(first: &Server, second: &Server) -> (Client, Session) {
    let endpoints = [first.authority(), second.authority()];
    let (client, session) = tokio::join!(connect(&endpoints), first.accept());
    (client.expect("a client"), session)
}

pub async fn write(client: &Client, payload: &[u8]) -> Result<Vec<u8>, ClientError> {
    soon("the answer to a write", client.request(Target::Leader, WRITE, SHARD, payload, LONG)).await
}

pub async fn read(client: &Client, payload: &[u8]) -> Result<Vec<u8>, ClientError> {
    soon("the answer to a read", client.request(Target::Leader, READ, SHARD, payload, LONG)).await
}

/// Runs a request beside the test.
pub fn spawn_request(
    client: &Client,
    kind: Kind,
    payload: &[u8],
) -> tokio::task::JoinHandle<Result<Vec<u8>, ClientError>> {
    let (client, payload) = (client.clone(), payload.to_vec());
    let request = async move { client.request(Target::Leader, kind, SHARD, &payload, LONG).await };
    tokio::spawn(async move { soon("an answer", request).await })
}
