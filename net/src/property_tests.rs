//! Random messages, streams, cuts and damage: what is read is what was written, or an error; never anything else, never a
//! panic, never more memory than the limit allows.
//!
//! `PROPTEST_CASES` sets the number of cases.

use proptest::prelude::*;

use crate::api::{
    CALL_KIND_MAX, CALL_KIND_MIN, Executed, KIND_CANCEL, KIND_PING, KIND_RESPONSE, KIND_RESPONSE_PART, Refused,
    Request, Response, ResponsePart, Status,
};
use crate::deframer::{Deframer, Skipped};
use crate::frame::{FRAME_HEADER_BYTES, Frame, FrameBuilder, FrameError, FrameKind, encode_frame};
use crate::handshake::{ClientLimits, Hello, HelloRole, MAGIC, PROTOCOL_VERSION, Protocol, Verdict, Welcome, sniff};
use crate::limits::{HANDSHAKE_TEXT_BYTES_MAX, MESSAGE_BYTES_MAX};
use crate::samples::with_frame;
use codec::DecodeError;

/// Cases unless the environment says otherwise.
const CASES_DEFAULT: u32 = 10_000;

/// Largest body that the deframers here take. Unit: bytes.
const BODY_BYTES_LIMIT: usize = 300;

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES_DEFAULT);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// A frame that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owned {
    kind: FrameKind,
    flags: u16,
    shard: u32,
    id: u64,
    meta: Vec<u8>,
    rest: Vec<u8>,
}

impl Owned {
    fn of(frame: &Frame<'_>) -> Self {
        Self {
            kind: frame.kind,
            flags: frame.flags,
            shard: frame.shard,
            id: frame.id,
            meta: frame.meta.to_vec(),
            rest: frame.rest.to_vec(),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let mut builder = FrameBuilder::begin(out, self.kind, self.flags, self.shard, self.id);
        out.extend_from_slice(&self.meta);
        builder.end_meta(out);
        out.extend_from_slice(&self.rest);
        builder.finish(out);
    }

    /// The frame without what no checksum here covers.
    fn covered(&self) -> Self {
        Self { rest: vec![0; self.rest.len()], ..self.clone() }
    }
}

fn frame() -> impl Strategy<Value = Owned> {
    let head = (any::<u16>(), any::<u16>(), any::<u32>(), any::<u64>());
    let meta = prop::collection::vec(any::<u8>(), 0..BODY_BYTES_LIMIT / 2);
    let rest = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(any::<u8>(), 0..BODY_BYTES_LIMIT / 2)];
    (head, meta, rest).prop_map(|((kind, flags, shard, id), meta, rest)| Owned {
        kind: FrameKind::new(kind),
        flags,
        shard,
        id,
        meta,
        rest,
    })
}

fn frames() -> impl Strategy<Value = Vec<Owned>> {
    prop::collection::vec(frame(), 0..8)
}

fn stream(frames: &[Owned]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut bytes));
    bytes
}

/// Takes all frames out of bytes that arrive in pieces of these lengths, over and over; looks at the memory held on the way.
fn deframe(bytes: &[u8], pieces: &[usize], limit: usize) -> (Vec<Owned>, Result<(), FrameError>) {
    let mut deframer = Deframer::new(limit);
    let mut frames = Vec::new();
    let mut left = bytes;
    let mut pieces = pieces.iter().copied().cycle();
    loop {
        loop {
            match deframer.next_frame() {
                Ok(Some(frame)) => frames.push(Owned::of(&frame)),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
        if left.is_empty() {
            return (frames, Ok(()));
        }
        let space = deframer.space();
        assert!(!space.is_empty(), "room to read into");
        let taken = pieces.next().unwrap_or(usize::MAX).min(space.len()).min(left.len());
        let (now, later) = left.split_at(taken);
        space[..taken].copy_from_slice(now);
        deframer.advance(taken);
        left = later;
        assert!(deframer.held_bytes() <= Deframer::held_bytes_max(limit), "{} bytes held", deframer.held_bytes());
    }
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1..200_usize, 1..10)
}

fn text(limit: u16) -> impl Strategy<Value = String> {
    let cut = move |text: String| {
        text.char_indices().take_while(|(at, c)| at + c.len_utf8() <= limit.into()).map(|(_, c)| c).collect()
    };
    prop_oneof![3 => "[a-z0-9.:/-]{0,40}", 1 => "\\PC{0,600}"].prop_map(cut)
}

fn hello() -> impl Strategy<Value = Hello> {
    let role = prop_oneof![
        Just(HelloRole::Client),
        Just(HelloRole::PeerControl),
        Just(HelloRole::PeerBulk),
        Just(HelloRole::PeerRelay)
    ];
    let numbers = (any::<u32>(), any::<u32>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
    (role, numbers, text(HANDSHAKE_TEXT_BYTES_MAX)).prop_map(
        |(role, (shard_count, shard, cluster, from, to, nonce), name)| Hello {
            version: PROTOCOL_VERSION,
            role,
            shard_count,
            shard,
            cluster,
            from,
            to,
            nonce,
            name,
        },
    )
}

fn welcome() -> impl Strategy<Value = Welcome> {
    let verdict = prop_oneof![
        Just(Verdict::Accepted),
        Just(Verdict::Version),
        Just(Verdict::Cluster),
        Just(Verdict::Node),
        Just(Verdict::Shards),
        Just(Verdict::Member),
        Just(Verdict::Busy),
        Just(Verdict::Stopping)
    ];
    let numbers = (any::<u32>(), any::<u64>(), any::<u64>());
    let limits = (any::<u32>(), any::<u32>(), any::<u64>());
    let texts = (text(HANDSHAKE_TEXT_BYTES_MAX), text(HANDSHAKE_TEXT_BYTES_MAX), text(HANDSHAKE_TEXT_BYTES_MAX));
    (verdict, numbers, limits, texts).prop_map(
        |(
            verdict,
            (shard_count, cluster, node_id),
            (requests, request_bytes, queued_bytes),
            (name, client_url, message),
        )| {
            Welcome {
                version: PROTOCOL_VERSION,
                verdict,
                shard_count,
                cluster,
                node_id,
                limits: ClientLimits { requests, request_bytes, queued_bytes },
                name,
                client_url,
                message,
            }
        },
    )
}

/// Kinds of the client protocol, all but most calls.
const CLIENT_KINDS: [u16; 6] =
    [KIND_PING.get(), KIND_RESPONSE.get(), KIND_RESPONSE_PART.get(), KIND_CANCEL.get(), CALL_KIND_MIN, CALL_KIND_MAX];

fn request_kind() -> impl Strategy<Value = FrameKind> {
    prop_oneof![1 => Just(KIND_PING), 4 => (CALL_KIND_MIN..=CALL_KIND_MAX).prop_map(FrameKind::new)]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..200)
}

/// An answer: hint, and either a body or status, outcome and message.
type Answer = (Option<String>, Result<Vec<u8>, (Status, Executed, String)>);

fn answer() -> impl Strategy<Value = Answer> {
    let status = (1..=11_u8).prop_map(|byte| Status::from_wire(byte).expect("a status"));
    let executed = prop_oneof![Just(Executed::No), Just(Executed::Unknown)];
    let refused = (status, executed, text(MESSAGE_BYTES_MAX)).prop_map(Err);
    (prop::option::of(text(MESSAGE_BYTES_MAX)), prop_oneof![payload().prop_map(Ok), refused])
}

fn borrowed(id: u64, (hint, result): &Answer) -> Response<'_> {
    let result = match result {
        Ok(body) => Ok(body.as_slice()),
        Err((status, executed, message)) => Err(Refused { status: *status, executed: *executed, message }),
    };
    Response { id, leader_hint: hint.as_deref(), result }
}

/// Every decoder on one frame. Whatever one of them accepts has exactly the bytes that it is written with.
fn decode_all(frame: &Frame<'_>) {
    let same = |encode: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        encode(&mut out);
        with_frame(&out, |again| assert_eq!(again, frame));
    };
    if let Some(hello) = Hello::decode(frame).ok().filter(|hello| hello.version == PROTOCOL_VERSION) {
        same(&|out| hello.encode(out));
    }
    if let Some(welcome) = Welcome::decode(frame).ok().filter(|welcome| welcome.version == PROTOCOL_VERSION) {
        same(&|out| welcome.encode(out));
    }
    if let Ok(request) = Request::decode(frame) {
        same(&|out| request.encode(out));
    }
    if let Ok(response) = Response::decode(frame) {
        same(&|out| response.encode(out));
    }
    if let Ok(part) = ResponsePart::decode(frame) {
        same(&|out| part.encode(out));
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn frames_are_the_same_in_whatever_pieces_they_arrive(frames in frames(), pieces in pieces()) {
        prop_assert_eq!(deframe(&stream(&frames), &pieces, BODY_BYTES_LIMIT), (frames, Ok(())));
    }

    #[test]
    fn a_frame_over_the_limit_is_passed_over_and_the_others_are_the_same(
        before in frames(), after in frames(), id in any::<u64>(), over in 1_usize..2000, pieces in pieces()
    ) {
        let mut bytes = stream(&before);
        encode_frame(&mut bytes, FrameKind::new(CALL_KIND_MIN), 0, 0, id, &vec![7; BODY_BYTES_LIMIT + over]);
        bytes.extend_from_slice(&stream(&after));
        let mut deframer = Deframer::new(BODY_BYTES_LIMIT);
        let (mut taken, mut skipped) = (Vec::new(), Vec::new());
        let mut pieces = pieces.iter().copied().cycle();
        let mut left = bytes.as_slice();
        while !left.is_empty() {
            let piece = pieces.next().unwrap_or(1).clamp(1, left.len());
            let (now, later) = left.split_at(piece);
            deframer.feed(now);
            left = later;
            loop {
                match deframer.next_frame().map(|frame| frame.map(|frame| Owned::of(&frame))) {
                    Ok(Some(frame)) => taken.push(frame),
                    Ok(None) => break,
                    Err(error) => {
                        let expected = FrameError::TooLarge { got: BODY_BYTES_LIMIT + over, limit: BODY_BYTES_LIMIT };
                        prop_assert_eq!(error, expected);
                        prop_assert_eq!(deframer.skip_too_large(BODY_BYTES_LIMIT + over - 1), None, "a bound on what is skipped");
                        skipped.extend(deframer.skip_too_large(BODY_BYTES_LIMIT + over));
                    }
                }
                prop_assert!(deframer.held_bytes() <= Deframer::held_bytes_max(BODY_BYTES_LIMIT));
            }
        }
        prop_assert_eq!(skipped, vec![Skipped { id, body_bytes: BODY_BYTES_LIMIT + over }]);
        prop_assert_eq!(taken, before.into_iter().chain(after).collect::<Vec<_>>());
    }

    #[test]
    fn a_stream_that_is_cut_off_gives_its_whole_frames(frames in frames(), pieces in pieces(), cut in any::<prop::sample::Index>()) {
        let bytes = stream(&frames);
        let cut = cut.index(bytes.len() + 1);
        let mut end = 0;
        let whole = frames.iter().take_while(|frame| {
            end += FRAME_HEADER_BYTES + frame.meta.len() + frame.rest.len();
            end <= cut
        });
        let whole: Vec<_> = whole.cloned().collect();
        prop_assert_eq!(deframe(&bytes[..cut], &pieces, BODY_BYTES_LIMIT), (whole, Ok(())));
    }

    #[test]
    fn a_flipped_bit_is_an_error_or_lies_where_entries_protect_themselves(
        frames in prop::collection::vec(frame(), 1..8),
        pieces in pieces(),
        bit in any::<prop::sample::Index>(),
    ) {
        let mut bytes = stream(&frames);
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let (got, result) = deframe(&bytes, &pieces, BODY_BYTES_LIMIT);
        let covered = |frames: &[Owned]| frames.iter().map(Owned::covered).collect::<Vec<_>>();
        prop_assert_eq!(covered(&got), covered(&frames[..got.len()]), "no frame differs");
        match result {
            Ok(()) => {
                prop_assert_eq!(got.len(), frames.len());
                let differing: usize = got.iter().zip(&frames).filter(|(got, sent)| got.rest != sent.rest).count();
                prop_assert_eq!(differing, 1, "the bit is in bytes that no checksum here covers");
            }
            Err(_) => prop_assert_eq!(&got[..], &frames[..got.len()], "frames before the damage are whole"),
        }
    }

    #[test]
    fn a_body_over_the_limit_is_refused_before_any_of_it_is_stored(frame in frame(), pieces in pieces(), limit in 0..BODY_BYTES_LIMIT) {
        let body = frame.meta.len() + frame.rest.len();
        let (frames, result) = deframe(&stream(std::slice::from_ref(&frame)), &pieces, limit);
        if body > limit {
            prop_assert_eq!((frames, result), (Vec::new(), Err(FrameError::TooLarge { got: body, limit })));
        } else {
            prop_assert_eq!((frames, result), (vec![frame], Ok(())));
        }
    }

    #[test]
    fn any_bytes_are_an_error_or_wait_for_more(bytes in prop::collection::vec(any::<u8>(), 0..500), pieces in pieces()) {
        let (frames, result) = deframe(&bytes, &pieces, BODY_BYTES_LIMIT);
        prop_assert_eq!(frames, Vec::new());
        prop_assert_eq!(result.is_err(), bytes.len() >= FRAME_HEADER_BYTES);
        let _protocol: Protocol = sniff(&bytes);
    }

    #[test]
    fn handshakes_round_trip(hello in hello(), welcome in welcome()) {
        let mut bytes = Vec::new();
        hello.encode(&mut bytes);
        prop_assert_eq!(sniff(&bytes), Protocol::Native);
        prop_assert_eq!(with_frame(&bytes, Hello::decode), Ok(hello));
        let mut bytes = Vec::new();
        welcome.encode(&mut bytes);
        prop_assert_eq!(with_frame(&bytes, Welcome::decode), Ok(welcome));
    }

    #[test]
    fn requests_round_trip(
        id in any::<u64>(),
        kind in request_kind(),
        shard in any::<u32>(),
        timeout_ms in any::<u32>(),
        (session, sequence) in prop_oneof![Just((0, 0)), (1..=u64::MAX, any::<u64>())],
        payload in payload(),
    ) {
        let is_ping = kind == KIND_PING;
        let payload = if is_ping { &[] } else { payload.as_slice() };
        let (session, sequence) = if is_ping { (0, 0) } else { (session, sequence) };
        let request = Request { id, kind, shard, timeout_ms, session, sequence, payload };
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        with_frame(&bytes, |frame| {
            prop_assert_eq!(Request::decode(frame), Ok(request));
            prop_assert!(Response::decode(frame).is_err());
            Ok(())
        })?;
    }

    #[test]
    fn answers_round_trip(id in any::<u64>(), answer in answer()) {
        let response = borrowed(id, &answer);
        let mut bytes = Vec::new();
        response.encode(&mut bytes);
        with_frame(&bytes, |frame| {
            prop_assert_eq!(Response::decode(frame), Ok(response));
            prop_assert!(Request::decode(frame).is_err());
            Ok(())
        })?;
    }

    /// Metadata whose checksums fit: what a hostile or broken sender can make.
    #[test]
    fn decoders_accept_nothing_but_what_they_write(
        kind in prop::sample::select([1, 2, 64].into_iter().chain(CLIENT_KINDS).collect::<Vec<_>>()),
        flags in 0..9_u16,
        shard in 0..3_u32,
        id in 0..3_u64,
        meta in prop::collection::vec(prop_oneof![2 => 0..4_u8, 1 => any::<u8>()], 0..60),
        rest in prop::bool::weighted(0.1),
    ) {
        let rest: &[u8] = if rest { b"rest" } else { b"" };
        decode_all(&Frame { kind: FrameKind::new(kind), flags, shard, id, meta: &meta, rest });
    }

    /// The metadata of a sound message, cut off or with one byte changed, under checksums that fit.
    #[test]
    fn decoders_survive_sound_messages_that_were_changed(
        hello in hello(), answer in answer(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let mut hello_bytes = Vec::new();
        hello.encode(&mut hello_bytes);
        let mut answer_bytes = Vec::new();
        borrowed(1, &answer).encode(&mut answer_bytes);
        for bytes in [&hello_bytes[MAGIC.len()..], &answer_bytes] {
            with_frame(bytes, |frame| {
                let mut meta = frame.meta.to_vec();
                let at = at.index(meta.len().max(1));
                match meta.get_mut(at) {
                    Some(changed) if !cut => *changed = byte,
                    _ => meta.truncate(at),
                }
                decode_all(&Frame { meta: &meta, ..*frame });
            });
        }
    }

    #[test]
    fn a_handshake_of_another_version_tells_its_version_and_nothing_else(version in any::<u16>(), tail in payload()) {
        prop_assume!(version != PROTOCOL_VERSION);
        let mut meta = version.to_le_bytes().to_vec();
        meta.extend_from_slice(&tail);
        let frame = Frame { kind: FrameKind::new(1), flags: 0, shard: 0, id: 0, meta: &meta, rest: &[] };
        prop_assert_eq!(Hello::decode(&frame).map(|hello| hello.version), Ok(version));
        let frame = Frame { kind: FrameKind::new(2), ..frame };
        let welcome = Welcome::decode(&frame).map(|welcome| (welcome.version, welcome.verdict));
        prop_assert_eq!(welcome, Ok((version, Verdict::Version)));
    }
}

#[test]
fn texts_are_cut_at_their_limit_between_characters() {
    let long = format!("a{}", "é".repeat(600));
    let response = Response {
        id: 1,
        leader_hint: None,
        result: Err(Refused { status: Status::Invalid, executed: Executed::No, message: &long }),
    };
    let mut bytes = Vec::new();
    response.encode(&mut bytes);
    with_frame(&bytes, |frame| {
        let Ok(Response { result: Err(refused), .. }) = Response::decode(frame) else { panic!("no refusal") };
        assert_eq!(refused.message, &long[..1023]);
    });
}

#[test]
fn a_text_over_its_limit_is_refused_before_it_is_read() {
    let mut meta = vec![1, 0];
    meta.extend_from_slice(&(MESSAGE_BYTES_MAX + 1).to_le_bytes());
    let frame = Frame { kind: KIND_RESPONSE, flags: 2, shard: 0, id: 1, meta: &meta, rest: &[] };
    let error = DecodeError::TooLong { what: "the message of an answer", got: 1025, limit: 1024 };
    assert_eq!(Response::decode(&frame), Err(error));
}
