//! The messages whose bytes stand in `docs/format/wire.md`, for tests that need one of each kind.
//!
//! It makes values and bytes; what they must look like is checked elsewhere.

use crate::api::{CALL_KIND_MAX, CALL_KIND_MIN, Executed, Refused, Request, Response, ResponsePart, Status};
use crate::deframer::Deframer;
use crate::frame::{Frame, FrameBuilder, FrameKind};
use crate::handshake::{ClientLimits, Hello, HelloRole, MAGIC, PROTOCOL_VERSION, Verdict, Welcome};

pub(crate) const CLUSTER_ID: u64 = 0x0102_0304_0506_0708;

/// What the peer drew.
pub(crate) const NONCE: u64 = 0x1112_1314_1516_1718;

/// A message of each kind: its name in the document, and the bytes that the code makes.
pub(crate) fn all() -> Vec<(&'static str, Vec<u8>)> {
    let bytes = |append: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        append(&mut out);
        out
    };
    vec![
        ("A frame with bytes behind its metadata", entries_frame()),
        ("A peer's Hello", bytes(&|out| peer_hello().encode(out))),
        ("A client's Hello", bytes(&|out| Hello::of_client().encode(out))),
        ("A Welcome to a client", bytes(&|out| welcome().encode(out))),
        ("A Welcome to a peer", bytes(&|out| peer_welcome().encode(out))),
        ("A refusing Welcome", bytes(&|out| refusing_welcome().encode(out))),
        ("A Welcome to a stranger", bytes(&|out| stranger_welcome().encode(out))),
        ("A call", bytes(&|out| call().encode(out))),
        ("A call without payload", bytes(&|out| call_without_payload().encode(out))),
        ("A call of a session", bytes(&|out| call_of_a_session().encode(out))),
        ("A ping", bytes(&|out| ping().encode(out))),
        ("A cancel", bytes(&|out| cancel().encode(out))),
        ("A response", bytes(&|out| response().encode(out))),
        ("A response with a hint", bytes(&|out| hinted_response().encode(out))),
        ("A part of a response", bytes(&|out| response_part().encode(out))),
        ("A refusal", bytes(&|out| refusal().encode(out))),
        ("A refusal with a hint", bytes(&|out| hinted_refusal().encode(out))),
    ]
}

/// A frame like those that carry entries: not all of its body is metadata.
pub(crate) fn entries_frame() -> Vec<u8> {
    let mut out = Vec::new();
    let mut builder = FrameBuilder::begin(&mut out, FrameKind::new(68), 0, 3, 0);
    out.extend_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    builder.end_meta(&out);
    out.extend_from_slice(b"entries");
    builder.finish(&mut out);
    out
}

pub(crate) fn peer_hello() -> Hello {
    let mut hello = Hello {
        version: PROTOCOL_VERSION,
        role: HelloRole::PeerControl,
        shard_count: 4,
        shard: 3,
        cluster: 0,
        from: 0x11,
        to: 0x22,
        nonce: 0,
        name: "n1".to_owned(),
    };
    hello.prove(CLUSTER_ID, NONCE);
    hello
}

pub(crate) fn welcome() -> Welcome {
    Welcome {
        version: PROTOCOL_VERSION,
        verdict: Verdict::Accepted,
        shard_count: 4,
        cluster: CLUSTER_ID,
        node_id: 0,
        limits: ClientLimits { requests: 4096, request_bytes: 0x0018_0000, queued_bytes: 0x0400_0000 },
        name: String::new(),
        client_url: String::new(),
        message: String::new(),
    }
}

pub(crate) fn peer_welcome() -> Welcome {
    let cluster = peer_hello().answer(CLUSTER_ID).expect("it knows the cluster");
    let (node_id, name) = (0x22, "n2".to_owned());
    Welcome {
        cluster,
        node_id,
        name,
        limits: ClientLimits::default(),
        client_url: "http://h:2".to_owned(),
        ..welcome()
    }
}

pub(crate) fn refusing_welcome() -> Welcome {
    Welcome {
        verdict: Verdict::Cluster,
        message: "other cluster".to_owned(),
        client_url: String::new(),
        ..peer_welcome()
    }
}

pub(crate) fn stranger_welcome() -> Welcome {
    Welcome::to_stranger(Verdict::Cluster, "other cluster".to_owned())
}

pub(crate) const fn call() -> Request<'static> {
    Request {
        id: 7,
        kind: FrameKind::new(CALL_KIND_MIN),
        shard: 3,
        timeout_ms: 5000,
        session: 0,
        sequence: 0,
        payload: b"command",
    }
}

pub(crate) const fn call_without_payload() -> Request<'static> {
    Request {
        id: 10,
        kind: FrameKind::new(CALL_KIND_MAX),
        shard: 0,
        timeout_ms: 250,
        session: 0,
        sequence: 0,
        payload: b"",
    }
}

pub(crate) const fn call_of_a_session() -> Request<'static> {
    Request { session: 0x0102_0304_0506_0708, sequence: 258, ..call() }
}

pub(crate) const fn ping() -> Request<'static> {
    Request::ping(11, 1000)
}

pub(crate) const fn cancel() -> Request<'static> {
    Request::cancel(12)
}

pub(crate) const fn response() -> Response<'static> {
    Response { id: 7, leader_hint: None, result: Ok(b"answer") }
}

pub(crate) const fn response_part() -> ResponsePart<'static> {
    ResponsePart { id: 7, bytes: b"ans" }
}

pub(crate) const fn hinted_response() -> Response<'static> {
    Response { id: 8, leader_hint: Some("http://h:1"), result: Ok(b"answer") }
}

pub(crate) const fn refusal() -> Response<'static> {
    let refused = Refused { status: Status::Overloaded, executed: Executed::No, message: "slow down" };
    Response { id: 9, leader_hint: None, result: Err(refused) }
}

pub(crate) const fn hinted_refusal() -> Response<'static> {
    let refused = Refused { status: Status::Unavailable, executed: Executed::Unknown, message: "no quorum" };
    Response { id: 10, leader_hint: Some("http://h:1"), result: Err(refused) }
}

/// Hands the only frame in `bytes` to `take`; magic bytes in front are passed over.
pub(crate) fn with_frame<T>(bytes: &[u8], take: impl FnOnce(&Frame<'_>) -> T) -> T {
    let mut deframer = Deframer::new(1 << 20);
    deframer.feed(bytes.strip_prefix(MAGIC.as_slice()).unwrap_or(bytes));
    let taken = take(&deframer.next_frame().expect("a sound frame").expect("a whole frame"));
    assert_eq!(deframer.next_frame(), Ok(None), "one frame");
    taken
}
