//! The wire format against its documentation and its golden bytes: tables, constants and encoders must agree.

use crate::api::{self, Executed, Request, Response, ResponsePart, Status};
use crate::doc_table::{WIRE_DOC, values};
use crate::frame::{FRAME_HEADER_BYTES, FrameBuilder, FrameKind};
use crate::handshake::{self, Hello, HelloRole, MAGIC, Verdict, Welcome};
use crate::limits;
use crate::samples::{self, with_frame};

fn named<const N: usize>(values: [(&str, u64); N]) -> Vec<(String, u64)> {
    values.map(|(name, value)| (name.to_owned(), value)).into()
}

#[test]
fn documented_limits_are_the_ones_in_the_code() {
    let limits = [
        ("PROTOCOL_VERSION", usize::from(handshake::PROTOCOL_VERSION)),
        ("FRAME_HEADER_BYTES", FRAME_HEADER_BYTES),
        ("HANDSHAKE_BODY_BYTES_MAX", limits::HANDSHAKE_BODY_BYTES_MAX),
        ("HANDSHAKE_TEXT_BYTES_MAX", limits::HANDSHAKE_TEXT_BYTES_MAX.into()),
        ("MESSAGE_BYTES_MAX", limits::MESSAGE_BYTES_MAX.into()),
    ];
    let documented: Vec<_> = WIRE_DOC.table("Limits").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(documented, limits.map(|(name, value)| (name.to_owned(), value.to_string())));
}

#[test]
fn documented_kinds_and_flags_are_the_ones_in_the_code() {
    let kinds = |kinds: &[(FrameKind, &str)]| -> Vec<(u64, String)> {
        kinds.iter().map(|&(kind, name)| (kind.get().into(), name.to_owned())).collect()
    };
    assert_eq!(
        WIRE_DOC.numbers("Handshake"),
        kinds(&[(handshake::KIND_HELLO, "Hello"), (handshake::KIND_WELCOME, "Welcome")])
    );
    let client = [
        (api::KIND_PING, "ping"),
        (api::KIND_RESPONSE, "response"),
        (api::KIND_RESPONSE_PART, "part of a response"),
        (api::KIND_CANCEL, "cancel"),
    ];
    assert_eq!(WIRE_DOC.numbers("Client protocol"), kinds(&client));
    let calls = format!("{}..={}", api::CALL_KIND_MIN, api::CALL_KIND_MAX);
    let response = api::KIND_RESPONSE.get().to_string();
    let flags = [
        (&response, api::FLAG_REFUSED, "REFUSED"),
        (&response, api::FLAG_LEADER_HINT, "LEADER_HINT"),
        (&calls, api::FLAG_SENDER, "SENDER"),
    ];
    let documented: Vec<_> = WIRE_DOC.table("Flags").into_iter().map(|row| row[..3].join(" ")).collect();
    assert_eq!(documented, flags.map(|(kind, bit, name)| format!("{kind} {bit} {name}")));
}

#[test]
fn documented_frame_header_is_the_one_in_the_code() {
    let layout = WIRE_DOC.layout("Frame");
    assert_eq!(layout.last().map(|(_, range)| range.end), Some(FRAME_HEADER_BYTES));
    let mut bytes = Vec::new();
    let mut builder =
        FrameBuilder::begin(&mut bytes, FrameKind::new(0x0102), 0x0304, 0x0506_0708, 0x090a_0b0c_0d0e_0f10);
    bytes.extend_from_slice(b"meta");
    builder.end_meta(&bytes);
    bytes.extend_from_slice(b"and the rest");
    builder.finish(&mut bytes);
    let expected = named([
        ("header_crc", u64::from(crc32fast::hash(&bytes[4..32]))),
        ("body_len", 16),
        ("meta_len", 4),
        ("meta_crc", u64::from(crc32fast::hash(b"meta"))),
        ("kind", 0x0102),
        ("flags", 0x0304),
        ("shard", 0x0506_0708),
        ("id", 0x090a_0b0c_0d0e_0f10),
    ]);
    assert_eq!(values(&bytes, &layout), expected);
}

#[test]
fn documented_handshake_is_the_one_in_the_code() {
    let hello = samples::peer_hello();
    let mut bytes = Vec::new();
    hello.encode(&mut bytes);
    assert_eq!(bytes[..8], MAGIC);
    let meta = &bytes[8 + FRAME_HEADER_BYTES..];
    let expected = named([
        ("version", 1),
        ("role", 2),
        ("reserved", 0),
        ("shard_count", 4),
        ("cluster", hello.cluster),
        ("from", 0x11),
        ("to", 0x22),
        ("nonce", samples::NONCE),
    ]);
    assert_eq!(values(meta, &WIRE_DOC.layout("Hello")), expected);
    assert_eq!(WIRE_DOC.texts("Hello"), ["name"]);
    assert_eq!(meta[40..], *b"\x02\0n1");

    let expected = |verdict, cluster, node_id, [requests, request_bytes, queued_bytes]: [u64; 3]| {
        named([
            ("version", 1),
            ("verdict", verdict),
            ("reserved", 0),
            ("shard_count", 4),
            ("cluster", cluster),
            ("node_id", node_id),
            ("requests_limit", requests),
            ("request_bytes_limit", request_bytes),
            ("queued_bytes_limit", queued_bytes),
        ])
    };
    let layout = WIRE_DOC.layout("Welcome");
    let mut accepting = Vec::new();
    samples::welcome().encode(&mut accepting);
    let found = values(&accepting[FRAME_HEADER_BYTES..], &layout);
    assert_eq!(found, expected(0, samples::CLUSTER_ID, 0, [4096, 0x0018_0000, 0x0400_0000]));
    let mut refusing = Vec::new();
    samples::refusing_welcome().encode(&mut refusing);
    let meta = &refusing[FRAME_HEADER_BYTES..];
    assert_eq!(
        values(meta, &layout),
        expected(2, hello.answer(samples::CLUSTER_ID).expect("it knows the cluster"), 0x22, [0; 3])
    );
    assert_eq!(WIRE_DOC.texts("Welcome"), ["name", "client_url", "message"]);
    assert_eq!(meta[40..], *b"\x02\0n2\0\0\x0d\0other cluster");
}

/// Sets the byte at `at` after the handshake frame's header and fits the checksums to it.
fn with_meta_byte(bytes: &[u8], at: usize, byte: u8) -> Vec<u8> {
    with_frame(bytes, |frame| {
        let mut meta = frame.meta.to_vec();
        meta[at] = byte;
        let mut out = Vec::new();
        crate::frame::encode_frame(&mut out, frame.kind, frame.flags, frame.shard, frame.id, &meta);
        out
    })
}

#[test]
fn documented_roles_and_verdicts_are_all_there_are() {
    let mut hello = Vec::new();
    samples::peer_hello().encode(&mut hello);
    let mut welcome = Vec::new();
    samples::welcome().encode(&mut welcome);
    let mut roles = Vec::new();
    let mut verdicts = Vec::new();
    for byte in 0..=u8::MAX {
        if let Ok(Hello { role, .. }) = with_frame(&with_meta_byte(&hello, 2, byte), Hello::decode) {
            roles.push((u64::from(byte), format!("{role:?}")));
        }
        if let Ok(Welcome { verdict, .. }) = with_frame(&with_meta_byte(&welcome, 2, byte), Welcome::decode) {
            verdicts.push((u64::from(byte), format!("{verdict:?}")));
        }
    }
    assert_eq!(WIRE_DOC.numbers("Roles"), roles);
    assert_eq!(WIRE_DOC.numbers("Verdicts"), verdicts);
    for role in [HelloRole::Client, HelloRole::PeerControl, HelloRole::PeerBulk, HelloRole::PeerRelay] {
        let mut bytes = Vec::new();
        Hello { role, ..samples::peer_hello() }.encode(&mut bytes);
        assert_eq!(with_frame(&bytes, Hello::decode).map(|hello| hello.role), Ok(role));
    }
    for (number, name) in WIRE_DOC.numbers("Verdicts") {
        let at = usize::try_from(number).expect("small");
        let verdict = [
            Verdict::Accepted,
            Verdict::Version,
            Verdict::Cluster,
            Verdict::Node,
            Verdict::Shards,
            Verdict::Member,
            Verdict::Busy,
            Verdict::Stopping,
        ][at];
        let mut bytes = Vec::new();
        Welcome { verdict, ..samples::welcome() }.encode(&mut bytes);
        assert_eq!((bytes[FRAME_HEADER_BYTES + 2], format!("{verdict:?}")), (number.to_le_bytes()[0], name));
    }
}

#[test]
fn documented_statuses_and_outcomes_are_all_there_are() {
    let statuses: Vec<_> = (0..=u8::MAX).filter_map(|byte| Some((byte, Status::from_wire(byte).ok()?))).collect();
    assert!(statuses.iter().all(|(byte, status)| status.to_wire() == *byte));
    let named: Vec<_> = statuses.iter().map(|(byte, status)| (u64::from(*byte), status.as_str().to_owned())).collect();
    assert_eq!(WIRE_DOC.numbers("Statuses"), named);
    let outcomes: Vec<_> = (0..=u8::MAX).filter_map(|byte| Some((byte, Executed::from_wire(byte).ok()?))).collect();
    assert!(outcomes.iter().all(|(byte, executed)| executed.to_wire() == *byte));
    let named: Vec<_> = outcomes.iter().map(|(byte, executed)| (u64::from(*byte), format!("{executed:?}"))).collect();
    assert_eq!(WIRE_DOC.numbers("Executed"), named);
}

#[test]
fn golden_bytes_are_what_the_code_writes() {
    let samples = samples::all();
    assert_eq!(samples.len(), WIRE_DOC.all_golden("Golden bytes").len(), "every block of golden bytes is checked");
    for (name, bytes) in samples {
        assert_eq!(bytes, WIRE_DOC.golden(name), "{name} got {bytes:02x?}");
    }
}

#[test]
fn golden_bytes_are_read_back() {
    let hello = |name| with_frame(&WIRE_DOC.golden(name), Hello::decode);
    assert_eq!(hello("A peer's Hello"), Ok(samples::peer_hello()));
    assert_eq!(hello("A client's Hello"), Ok(Hello::of_client()));
    let welcome = |name| with_frame(&WIRE_DOC.golden(name), Welcome::decode);
    assert_eq!(welcome("A Welcome to a client"), Ok(samples::welcome()));
    assert_eq!(welcome("A Welcome to a peer"), Ok(samples::peer_welcome()));
    assert_eq!(welcome("A refusing Welcome"), Ok(samples::refusing_welcome()));
    assert_eq!(welcome("A Welcome to a stranger"), Ok(samples::stranger_welcome()));
    for (name, request) in [
        ("A call", samples::call()),
        ("A call without payload", samples::call_without_payload()),
        ("A call of a session", samples::call_of_a_session()),
        ("A ping", samples::ping()),
        ("A cancel", samples::cancel()),
    ] {
        with_frame(&WIRE_DOC.golden(name), |frame| assert_eq!(Request::decode(frame), Ok(request), "{name}"));
    }
    for (name, response) in [
        ("A response", samples::response()),
        ("A response with a hint", samples::hinted_response()),
        ("A refusal", samples::refusal()),
        ("A refusal with a hint", samples::hinted_refusal()),
    ] {
        with_frame(&WIRE_DOC.golden(name), |frame| assert_eq!(Response::decode(frame), Ok(response), "{name}"));
    }
    with_frame(&WIRE_DOC.golden("A part of a response"), |frame| {
        assert_eq!(ResponsePart::decode(frame), Ok(samples::response_part()));
    });
    with_frame(&WIRE_DOC.golden("A frame with bytes behind its metadata"), |frame| {
        assert_eq!(
            (frame.kind, frame.shard, frame.meta.len(), frame.rest),
            (FrameKind::new(68), 3, 8, &b"entries"[..])
        );
    });
}
