//! The wire format against its documentation and its golden bytes: tables, constants and encoders must agree.

use crate::api::{self, Executed, Request, Response, ResponsePart, Status};
use crate::doc_table::{golden, golden_count, layout, numbers, table, texts};
use crate::frame::{FRAME_HEADER_BYTES, FrameBuilder, FrameKind};
use crate::handshake::{self, Hello, MAGIC, Role, Verdict, Welcome};
use crate::samples::{self, with_frame};

/// Number in the bytes that the document gives to a field.
fn number(bytes: &[u8], layout: &[(String, std::ops::Range<usize>)], field: &str) -> u64 {
    let (_, range) = layout.iter().find(|(name, _)| name == field).unwrap_or_else(|| panic!("no field {field}"));
    bytes[range.clone()].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn names(layout: &[(String, std::ops::Range<usize>)]) -> Vec<&str> {
    layout.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn documented_limits_are_the_ones_in_the_code() {
    let limits = [
        ("PROTOCOL_VERSION", usize::from(handshake::PROTOCOL_VERSION)),
        ("FRAME_HEADER_BYTES", FRAME_HEADER_BYTES),
        ("HANDSHAKE_BODY_BYTES_MAX", handshake::HANDSHAKE_BODY_BYTES_MAX),
        ("HANDSHAKE_TEXT_BYTES_MAX", handshake::HANDSHAKE_TEXT_BYTES_MAX.into()),
        ("MESSAGE_BYTES_MAX", api::MESSAGE_BYTES_MAX.into()),
    ];
    let documented: Vec<_> = table("Limits").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(documented, limits.map(|(name, value)| (name.to_owned(), value.to_string())));
}

#[test]
fn documented_kinds_and_flags_are_the_ones_in_the_code() {
    let kinds = |kinds: &[(FrameKind, &str)]| -> Vec<(u64, String)> {
        kinds.iter().map(|&(kind, name)| (kind.get().into(), name.to_owned())).collect()
    };
    assert_eq!(numbers("Handshake"), kinds(&[(handshake::KIND_HELLO, "Hello"), (handshake::KIND_WELCOME, "Welcome")]));
    let client =
        [(api::KIND_PING, "ping"), (api::KIND_RESPONSE, "response"), (api::KIND_RESPONSE_PART, "part of a response")];
    assert_eq!(numbers("Client protocol"), kinds(&client));
    let flags = [
        (api::KIND_RESPONSE, api::FLAG_REFUSED, "REFUSED"),
        (api::KIND_RESPONSE, api::FLAG_LEADER_HINT, "LEADER_HINT"),
    ];
    let documented: Vec<_> = table("Flags").into_iter().map(|row| row[..3].join(" ")).collect();
    assert_eq!(documented, flags.map(|(kind, bit, name)| format!("{} {bit} {name}", kind.get())));
}

#[test]
fn documented_frame_header_is_the_one_in_the_code() {
    let layout = layout("Frame");
    let fields = ["header_crc", "body_len", "meta_len", "meta_crc", "kind", "flags", "shard", "id"];
    assert_eq!(names(&layout), fields);
    assert_eq!(layout.last().map(|(_, range)| range.end), Some(FRAME_HEADER_BYTES));
    let mut bytes = Vec::new();
    let mut builder =
        FrameBuilder::begin(&mut bytes, FrameKind::new(0x0102), 0x0304, 0x0506_0708, 0x090a_0b0c_0d0e_0f10);
    bytes.extend_from_slice(b"meta");
    builder.end_meta(&bytes);
    bytes.extend_from_slice(b"and the rest");
    builder.finish(&mut bytes);
    let values = [
        u64::from(crc32fast::hash(&bytes[4..32])),
        16,
        4,
        u64::from(crc32fast::hash(b"meta")),
        0x0102,
        0x0304,
        0x0506_0708,
        0x090a_0b0c_0d0e_0f10,
    ];
    assert_eq!(fields.map(|field| number(&bytes, &layout, field)), values);
}

#[test]
fn documented_handshake_is_the_one_in_the_code() {
    let hello = samples::peer_hello();
    let mut bytes = Vec::new();
    hello.encode(&mut bytes);
    assert_eq!(bytes[..8], MAGIC);
    let meta = &bytes[8 + FRAME_HEADER_BYTES..];
    let fields = ["version", "role", "reserved", "shard_count", "cluster_id", "from", "to"];
    assert_eq!(names(&layout("Hello")), fields);
    let values = [1, 2, 0, 4, samples::CLUSTER_ID, 0x11, 0x22];
    assert_eq!(fields.map(|field| number(meta, &layout("Hello"), field)), values);
    assert_eq!(texts("Hello"), ["name"]);
    assert_eq!(meta[32..], *b"\x02\0n1");

    let mut bytes = Vec::new();
    samples::refusing_welcome().encode(&mut bytes);
    let meta = &bytes[FRAME_HEADER_BYTES..];
    let fields = [
        "version",
        "verdict",
        "reserved",
        "shard_count",
        "cluster_id",
        "node_id",
        "requests_limit",
        "request_bytes_limit",
        "queued_bytes_limit",
    ];
    assert_eq!(names(&layout("Welcome")), fields);
    let values = [1, 2, 0, 4, samples::CLUSTER_ID, 0x22, 0, 0, 0];
    assert_eq!(fields.map(|field| number(meta, &layout("Welcome"), field)), values);
    let mut accepting = Vec::new();
    samples::welcome().encode(&mut accepting);
    let accepting = &accepting[FRAME_HEADER_BYTES..];
    let limits = ["requests_limit", "request_bytes_limit", "queued_bytes_limit"];
    assert_eq!(limits.map(|field| number(accepting, &layout("Welcome"), field)), [4096, 0x0018_0000, 0x0400_0000]);
    assert_eq!(texts("Welcome"), ["name", "client_url", "message"]);
    assert_eq!(meta[40..], *b"\x02\0n2\0\0\x0d\0other cluster");
}

/// Sets the byte at `at` behind the handshake frame's header and fits the checksums to it.
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
    assert_eq!(numbers("Roles"), roles);
    assert_eq!(numbers("Verdicts"), verdicts);
    for role in [Role::Client, Role::PeerControl, Role::PeerBulk, Role::PeerRelay] {
        let mut bytes = Vec::new();
        Hello { role, ..samples::peer_hello() }.encode(&mut bytes);
        assert_eq!(with_frame(&bytes, Hello::decode).map(|hello| hello.role), Ok(role));
    }
    for (number, name) in numbers("Verdicts") {
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
    assert_eq!(numbers("Statuses"), named);
    let outcomes: Vec<_> = (0..=u8::MAX).filter_map(|byte| Some((byte, Executed::from_wire(byte).ok()?))).collect();
    assert!(outcomes.iter().all(|(byte, executed)| executed.to_wire() == *byte));
    let named: Vec<_> = outcomes.iter().map(|(byte, executed)| (u64::from(*byte), format!("{executed:?}"))).collect();
    assert_eq!(numbers("Executed"), named);
}

#[test]
fn golden_bytes_are_what_the_code_writes() {
    let samples = samples::all();
    assert_eq!(samples.len(), golden_count(), "every block of golden bytes is checked");
    for (name, bytes) in samples {
        assert_eq!(bytes, golden(name), "{name} got {bytes:02x?}");
    }
}

#[test]
fn golden_bytes_are_read_back() {
    let hello = |name| with_frame(&golden(name), Hello::decode);
    assert_eq!(hello("A peer's Hello,"), Ok(samples::peer_hello()));
    assert_eq!(hello("A client's Hello,"), Ok(samples::client_hello()));
    let welcome = |name| with_frame(&golden(name), Welcome::decode);
    assert_eq!(welcome("A Welcome:"), Ok(samples::welcome()));
    assert_eq!(welcome("A Welcome to a peer:"), Ok(samples::peer_welcome()));
    assert_eq!(welcome("A refusing Welcome:"), Ok(samples::refusing_welcome()));
    assert_eq!(welcome("A Welcome to a stranger:"), Ok(samples::stranger_welcome()));
    for (name, request) in [
        ("A call:", samples::call()),
        ("A call without payload:", samples::call_without_payload()),
        ("A ping:", samples::ping()),
    ] {
        with_frame(&golden(name), |frame| assert_eq!(Request::decode(frame), Ok(request), "{name}"));
    }
    for (name, response) in [
        ("A response:", samples::response()),
        ("A response with a hint:", samples::hinted_response()),
        ("A refusal:", samples::refusal()),
        ("A refusal with a hint:", samples::hinted_refusal()),
    ] {
        with_frame(&golden(name), |frame| assert_eq!(Response::decode(frame), Ok(response), "{name}"));
    }
    with_frame(&golden("A part of a response:"), |frame| {
        assert_eq!(ResponsePart::decode(frame), Ok(samples::response_part()));
    });
    with_frame(&golden("A frame with bytes behind its metadata:"), |frame| {
        assert_eq!(
            (frame.kind, frame.shard, frame.meta.len(), frame.rest),
            (FrameKind::new(68), 3, 8, &b"entries"[..])
        );
    });
}
