//! A peer as a test plays it, on loopback: it listens, greets as the server does, and says what the test wants.

use std::net::SocketAddr;
use std::rc::Rc;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::channels::local_channel::{self, LocalReceiver};
use glommio::net::{TcpListener, TcpStream};
use net::deframer::Deframer;
use net::frame::{FrameKind, encode_frame};
use net::handshake::{ClientLimits, Hello, HelloRole, PROTOCOL_VERSION, Verdict, Welcome};
use net::shell::{Greeting, LinkEvent, PeerLink, PeerLinkOptions, Resolver, greet, listen};

pub const CLUSTER_ID: u64 = 77;
pub const CALLER: u64 = 1;
pub const CALLED: u64 = 2;
pub const SHARDS: u32 = 4;
pub const SHARD: u32 = 3;

pub fn hello(role: HelloRole) -> Hello {
    Hello {
        version: PROTOCOL_VERSION,
        role,
        shard_count: SHARDS,
        shard: SHARD,
        cluster: 0,
        from: CALLER,
        to: CALLED,
        nonce: 0,
        name: "n1".to_owned(),
    }
}

/// An answer of the peer; `send_welcome` puts the proof in the place of `CLUSTER_ID`.
pub fn welcome() -> Welcome {
    Welcome {
        version: PROTOCOL_VERSION,
        verdict: Verdict::Accepted,
        shard_count: SHARDS,
        cluster: CLUSTER_ID,
        node_id: CALLED,
        limits: ClientLimits::default(),
        name: "n2".to_owned(),
        client_url: "http://h:2".to_owned(),
        message: String::new(),
    }
}

pub struct Peer {
    listener: TcpListener,
}

impl Peer {
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().expect("an address"))
    }

    pub fn start_at(address: SocketAddr) -> Self {
        Self { listener: listen(address).expect("a listener") }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("an address")
    }

    /// Takes a connection and says nothing yet.
    pub async fn accept_hello(&self) -> (TcpStream, Hello) {
        let mut stream = self.listener.accept().await.expect("a connection");
        match greet(&mut stream).await {
            Ok(Greeting::Native(hello)) => (stream, hello),
            other => panic!("{other:?}"),
        }
    }

    /// Takes a connection and answers it.
    pub async fn answer(&self, welcome: &Welcome) -> TcpStream {
        let (mut stream, hello) = self.accept_hello().await;
        send_welcome(&mut stream, &hello, welcome).await;
        stream
    }

    pub async fn accept(&self) -> TcpStream {
        self.answer(&welcome()).await
    }

    /// Nobody has connected that was not accepted: the next connection is our own.
    pub async fn assert_nobody_waits(&self) {
        let own = TcpStream::connect(self.address()).await.expect("our own connection");
        let accepted = self.listener.accept().await.expect("a connection");
        assert_eq!(accepted.peer_addr().expect("an address"), own.local_addr().expect("an address"));
    }
}

pub async fn send_welcome(stream: &mut TcpStream, hello: &Hello, welcome: &Welcome) {
    let mut bytes = Vec::new();
    let proof = hello.answer(welcome.cluster).unwrap_or(welcome.cluster);
    Welcome { cluster: proof, ..welcome.clone() }.encode(&mut bytes);
    stream.write_all(&bytes).await.expect("an open connection");
}

/// A link, and what it reports.
pub fn link_to(authority: &str, role: HelloRole, queue_bytes_limit: usize) -> (PeerLink, LocalReceiver<LinkEvent>) {
    let authorities = vec![authority.to_owned()];
    link_with(PeerLinkOptions {
        authorities,
        resolver: Resolver::default(),
        cluster_id: CLUSTER_ID,
        hello: hello(role),
        queue_bytes_limit,
    })
}

/// The same with all options.
pub fn link_with(options: PeerLinkOptions) -> (PeerLink, LocalReceiver<LinkEvent>) {
    let (sender, events) = local_channel::new_unbounded();
    let sender = Rc::new(sender);
    let (link, running) = PeerLink::new(options, move |event| {
        // Nobody listens any more once a test is over.
        drop(sender.try_send(event));
    });
    glommio::spawn_local(running).detach();
    (link, events)
}

/// A frame of this number and size of body.
pub fn frame(id: u64, body_bytes: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_frame(&mut bytes, FrameKind::new(71), 0, SHARD, id, &vec![0; body_bytes]);
    bytes
}

/// Frames off a connection, by their numbers.
pub struct Frames {
    stream: TcpStream,
    deframer: Deframer,
}

impl Frames {
    pub fn of(stream: TcpStream) -> Self {
        Self { stream, deframer: Deframer::new(1 << 24) }
    }

    /// The number of the next frame; `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<u64> {
        loop {
            if let Some(frame) = self.deframer.next_frame().expect("sound frames") {
                return Some(frame.id);
            }
            match self.stream.read(self.deframer.space()).await {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.deframer.advance(read),
            }
        }
    }
}
