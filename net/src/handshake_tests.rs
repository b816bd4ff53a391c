//! Handshakes that are wrong in one way each, and the exact error for it. What a sound but unwelcome handshake is answered
//! with is the business of who judges it: the link (`tests/shell`), the client (`tests/client`), the server.

use crate::api::{CALL_KIND_MIN, Request, Response};
use crate::deframer::Deframer;
use crate::frame::{FrameError, FrameKind, encode_frame};
use crate::handshake::{Hello, KIND_HELLO, KIND_WELCOME, MAGIC, Protocol, Verdict, Welcome, sniff};
use crate::limits::HANDSHAKE_BODY_BYTES_MAX;
use crate::samples::{self, with_frame};
use codec::DecodeError;

/// The `Hello` of a peer with its metadata changed, as it is read.
fn hello_with(change: impl FnOnce(&mut Vec<u8>)) -> Result<Hello, DecodeError> {
    let mut bytes = Vec::new();
    samples::peer_hello().encode(&mut bytes);
    changed(&bytes, change, Hello::decode)
}

fn welcome_with(change: impl FnOnce(&mut Vec<u8>)) -> Result<Welcome, DecodeError> {
    let mut bytes = Vec::new();
    samples::welcome().encode(&mut bytes);
    changed(&bytes, change, Welcome::decode)
}

fn changed<T>(
    bytes: &[u8],
    change: impl FnOnce(&mut Vec<u8>),
    decode: impl FnOnce(&crate::frame::Frame<'_>) -> T,
) -> T {
    with_frame(bytes, |frame| {
        let mut meta = frame.meta.to_vec();
        change(&mut meta);
        decode(&crate::frame::Frame { meta: &meta, ..*frame })
    })
}

#[test]
fn another_version_is_told_whatever_else_is_there() {
    let version = |hello: Result<Hello, _>| hello.map(|hello| hello.version);
    assert_eq!(version(hello_with(|meta| meta[0] = 2)), Ok(2));
    assert_eq!(version(hello_with(|meta| *meta = vec![2, 0])), Ok(2), "nothing else has to be there");
    assert_eq!(version(hello_with(|meta| meta[..3].copy_from_slice(&[0, 1, 99]))), Ok(256), "an unknown role");
    let welcome = welcome_with(|meta| meta[..3].copy_from_slice(&[2, 0, 99])).expect("a welcome of version 2");
    assert_eq!(welcome.verdict, Verdict::Version);
    assert_eq!(welcome.message, "the node speaks protocol 2, expected 1");
    let short = DecodeError::Short { what: "the version in the handshake", got: 1, expected: 2 };
    assert_eq!(hello_with(|meta| meta.truncate(1)), Err(short));
}

#[test]
fn fields_with_unknown_values_are_named() {
    let unknown = |what, got| Err(DecodeError::Unknown { what, got });
    assert_eq!(hello_with(|meta| meta[2] = 0).map(|_| ()), unknown("the role in the handshake", 0));
    assert_eq!(hello_with(|meta| meta[2] = 5).map(|_| ()), unknown("the role in the handshake", 5));
    assert_eq!(hello_with(|meta| meta[3] = 1).map(|_| ()), unknown("a reserved byte of the handshake", 1));
    assert_eq!(welcome_with(|meta| meta[2] = 8).map(|_| ()), unknown("the verdict of the handshake", 8));
    assert_eq!(welcome_with(|meta| meta[3] = 7).map(|_| ()), unknown("a reserved byte of the handshake", 7));
}

#[test]
fn a_handshake_that_is_too_long_or_cut_off_is_refused() {
    let trailing = DecodeError::Trailing { what: "the handshake", got: 2 };
    assert_eq!(hello_with(|meta| meta.extend_from_slice(b"xx")), Err(trailing));
    let trailing = DecodeError::Trailing { what: "the welcome", got: 1 };
    assert_eq!(welcome_with(|meta| meta.push(0)), Err(trailing));
    let text = DecodeError::TooLong { what: "the name in the handshake", got: 513, limit: 512 };
    assert_eq!(hello_with(|meta| meta[40..42].copy_from_slice(&513_u16.to_le_bytes())), Err(text));
    let text = DecodeError::NotText { what: "the name in the handshake" };
    assert_eq!(hello_with(|meta| meta[42] = 0xff), Err(text));
    let mut expected = vec![("the version in the handshake", 0..2), ("the role in the handshake", 2..3)];
    expected.extend([("a reserved byte of the handshake", 3..4), ("the shard count in the handshake", 4..8)]);
    expected.extend([("the cluster in the handshake", 8..16), ("the caller in the handshake", 16..24)]);
    expected.extend([("the node called in the handshake", 24..32), ("the nonce in the handshake", 32..40)]);
    expected.push(("the name in the handshake", 40..44));
    for (field, range) in expected {
        for cut in range {
            match hello_with(|meta| meta.truncate(cut)) {
                Err(DecodeError::Short { what, .. }) => assert_eq!(what, field, "cut to {cut} bytes"),
                other => panic!("cut to {cut} bytes: {other:?}"),
            }
        }
    }
}

#[test]
fn the_frame_of_a_handshake_carries_nothing_else() {
    let with = |flags, shard, id| {
        let mut bytes = Vec::new();
        samples::welcome().encode(&mut bytes);
        with_frame(&bytes, |frame| {
            Welcome::decode(&crate::frame::Frame { flags, shard, id, ..*frame }).map(|welcome| welcome.cluster)
        })
    };
    assert_eq!(with(0, 0, 0), Ok(samples::CLUSTER_ID));
    for (got, flags, shard, id) in [(1, 1, 0, 0), (2, 0, 2, 0), (3, 0, 0, 3)] {
        let error = DecodeError::Unknown { what: "a reserved byte of the handshake", got };
        assert_eq!(with(flags, shard, id), Err(error));
    }
}

#[test]
fn another_kind_of_frame_is_no_handshake() {
    let mut bytes = Vec::new();
    encode_frame(&mut bytes, FrameKind::new(CALL_KIND_MIN), 0, 0, 1, &[0; 4]);
    let error = |what| DecodeError::Unknown { what, got: CALL_KIND_MIN.into() };
    with_frame(&bytes, |frame| {
        assert_eq!(Hello::decode(frame), Err(error("the kind of a handshake frame")));
        assert_eq!(Welcome::decode(frame), Err(error("the kind of a handshake frame")));
        assert_eq!(Response::decode(frame), Err(error("the kind of an answer")));
    });
    let mut bytes = Vec::new();
    encode_frame(&mut bytes, KIND_HELLO, 0, 0, 1, &[0; 4]);
    let unknown = DecodeError::Unknown { what: "the kind of a request", got: 1 };
    with_frame(&bytes, |frame| assert_eq!(Request::decode(frame), Err(unknown)));
}

#[test]
fn a_handshake_over_its_limit_is_refused_by_its_header() {
    for (body, expected) in [
        (HANDSHAKE_BODY_BYTES_MAX, None),
        (HANDSHAKE_BODY_BYTES_MAX + 1, Some(FrameError::TooLarge { got: 2049, limit: 2048 })),
    ] {
        let mut bytes = Vec::new();
        encode_frame(&mut bytes, KIND_WELCOME, 0, 0, 0, &vec![0; body]);
        let mut deframer = Deframer::new(HANDSHAKE_BODY_BYTES_MAX);
        deframer.feed(&bytes[..32]);
        assert_eq!(deframer.next_frame().err(), expected, "{body} bytes");
    }
}

#[test]
fn the_first_bytes_tell_the_protocol() {
    for (first, expected) in [
        (&b"QUORATE\n"[..], Protocol::Native),
        (b"QUORATE\n\x01\x02", Protocol::Native),
        (b"QUORATE", Protocol::NeedMore),
        (b"", Protocol::NeedMore),
        (b"QUORATE\r", Protocol::Unknown),
        (b"quorate\n", Protocol::Unknown),
        (b"GET /health HTTP/1.1\r\n", Protocol::Http),
        (b"P", Protocol::NeedMore),
        (b"PUT ", Protocol::Http),
        (b"PATCH ", Protocol::Http),
        (b"PRI * HTTP/2.0\r\n", Protocol::Unknown),
        (b"\x16\x03\x01\x02", Protocol::Unknown),
        (b"\0", Protocol::Unknown),
    ] {
        assert_eq!(sniff(first), expected, "{first:?}");
    }
    for len in 0..MAGIC.len() {
        assert_eq!(sniff(&MAGIC[..len]), Protocol::NeedMore, "{len} bytes");
    }
}

#[test]
fn random_bytes_behind_the_magic_are_a_damaged_header() {
    let mut deframer = Deframer::new(HANDSHAKE_BODY_BYTES_MAX);
    deframer.feed(b"GET / HTTP/1.1\r\nhost: a\r\naccept: */*\r\n\r\n");
    let error = deframer.next_frame().expect_err("no frame");
    assert!(matches!(error, FrameError::HeaderChecksum { got: 0x2054_4547, .. }), "{error}");
}
