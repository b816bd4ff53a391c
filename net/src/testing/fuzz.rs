//! What the fuzz targets in `net/fuzz` check, so that a plain test can replay their corpus.
//!
//! Nothing here makes inputs. Each function takes any bytes and panics if the wire breaks a promise over them: no panic, no
//! memory beyond the limit, and nothing accepted that is not exactly what this package would have written.

use crate::api::{Request, Response, ResponsePart};
use crate::deframer::Deframer;
use crate::frame::{FRAME_HEADER_BYTES, Frame, FrameBuilder, FrameError, FrameKind};
use crate::handshake::{Hello, KIND_HELLO, KIND_WELCOME, MAGIC, PROTOCOL_VERSION, Protocol, Verdict, Welcome, sniff};
use crate::limits::HANDSHAKE_BODY_BYTES_MAX;

/// Bytes in front of the stream in an input of `deframer`.
const STREAM_HEAD_BYTES: usize = 4;

/// Bytes in front of the body in an input of a message's target.
const MESSAGE_HEAD_BYTES: usize = 6;

/// A stream of any bytes, in pieces.
///
/// The input: bit 0 of the first byte makes the checksums fit first, so that what lies after them is reached; the second
/// byte is the length of the pieces less one; two bytes are the limit of a body; the stream follows.
pub fn deframer(data: &[u8]) {
    let Some((&[mode, piece, limit_low, limit_high], stream)) = data.split_first_chunk::<STREAM_HEAD_BYTES>() else {
        return;
    };
    let limit = usize::from(u16::from_le_bytes([limit_low, limit_high]));
    let mut stream = stream.to_vec();
    if mode & 1 == 1 {
        fit_checksums(&mut stream);
    }
    let (end, result) = take_frames(&stream, usize::from(piece) + 1, limit);
    let (end_at_once, result_at_once) = take_frames(&stream, usize::MAX, limit);
    assert_eq!((end, &result), (end_at_once, &result_at_once), "the pieces make no difference");
    let rest = stream.get(end..).unwrap_or_default();
    let header_is_there = rest.len() >= FRAME_HEADER_BYTES;
    match result {
        Ok(()) => assert!(!header_is_there || announced_bytes(rest) > rest.len(), "a whole frame was left"),
        Err(FrameError::TooLarge { got, limit: told }) => {
            assert!(got > limit && told == limit && header_is_there, "{got} bytes refused under a limit of {limit}");
        }
        Err(FrameError::Inconsistent { meta, body }) => assert!(meta > body && header_is_there),
        Err(FrameError::HeaderChecksum { got, expected } | FrameError::MetaChecksum { got, expected }) => {
            assert!(got != expected && header_is_there);
        }
    }
}

/// Takes all frames; where the last whole one ended, and what was after it.
fn take_frames(stream: &[u8], piece: usize, limit: usize) -> (usize, Result<(), FrameError>) {
    let mut deframer = Deframer::new(limit);
    let mut left = stream;
    let mut end = 0;
    loop {
        loop {
            match deframer.next_frame() {
                Ok(Some(frame)) => {
                    let bytes = written(&frame);
                    assert!(bytes.len() - FRAME_HEADER_BYTES <= limit, "a body over the limit");
                    assert_eq!(stream.get(end..end + bytes.len()), Some(bytes.as_slice()), "the frame in the stream");
                    end += bytes.len();
                }
                Ok(None) => break,
                Err(error) => return (end, Err(error)),
            }
        }
        if left.is_empty() {
            return (end, Ok(()));
        }
        let space = deframer.space();
        let taken = piece.min(space.len()).min(left.len());
        let (now, later) = left.split_at(taken);
        space.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
        deframer.advance(taken);
        left = later;
        assert!(deframer.held_bytes() <= Deframer::held_bytes_max(limit), "{} bytes held", deframer.held_bytes());
    }
}

/// The bytes of a frame as this package writes it.
#[must_use]
pub fn written(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut builder = FrameBuilder::begin(&mut bytes, frame.kind, frame.flags, frame.shard, frame.id);
    bytes.extend_from_slice(frame.meta);
    builder.end_meta(&bytes);
    bytes.extend_from_slice(frame.rest);
    builder.finish(&mut bytes);
    bytes
}

fn number(bytes: &[u8], at: usize) -> usize {
    let field = bytes.get(at..at + 4).and_then(|field| field.try_into().ok()).unwrap_or([0; 4]);
    usize::try_from(u32::from_le_bytes(field)).unwrap_or(usize::MAX)
}

/// Length of the frame whose header is at the front.
fn announced_bytes(header: &[u8]) -> usize {
    FRAME_HEADER_BYTES.saturating_add(number(header, 4))
}

/// Sets the checksums of every frame that the lengths in the headers make out.
fn fit_checksums(stream: &mut [u8]) {
    let mut left = stream;
    while left.len() >= FRAME_HEADER_BYTES {
        let (body, meta) = (number(left, 4), number(left, 8));
        if let Some(meta) = left.get(FRAME_HEADER_BYTES..FRAME_HEADER_BYTES.saturating_add(meta)) {
            let crc = crc32fast::hash(meta);
            left.iter_mut().skip(12).zip(crc.to_le_bytes()).for_each(|(to, from)| *to = from);
        }
        let crc = crc32fast::hash(left.get(4..FRAME_HEADER_BYTES).unwrap_or_default());
        left.iter_mut().zip(crc.to_le_bytes()).for_each(|(to, from)| *to = from);
        let end = FRAME_HEADER_BYTES.saturating_add(body).min(left.len());
        left = left.split_at_mut(end).1;
    }
}

/// A frame whose checksums fit, made of an input: kind, flags, shard, id and length of what is not metadata, a byte each;
/// one byte that is not used; then the body.
fn message<'a>(data: &'a [u8], kinds: &[FrameKind]) -> Option<Frame<'a>> {
    let (&[kind, flags, shard, id, rest_bytes, _], body) = data.split_first_chunk::<MESSAGE_HEAD_BYTES>()?;
    let kind = kinds.get(usize::from(kind)).copied().unwrap_or_else(|| FrameKind::new(kind.into()));
    let (meta, rest) = body.split_at(body.len() - body.len().min(rest_bytes.into()));
    Some(Frame { kind, flags: flags.into(), shard: shard.into(), id: id.into(), meta, rest })
}

/// What a decoder accepted is written back as exactly the frame that it accepted.
fn assert_is_written_as(frame: &Frame<'_>, encode: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = Vec::new();
    encode(&mut bytes);
    let frame_bytes = bytes.strip_prefix(MAGIC.as_slice()).unwrap_or(&bytes);
    assert_eq!(frame_bytes, written(frame), "{frame:?}");
}

/// The first words of a connection: any bytes for the protocol, then either side's frame.
pub fn handshake(data: &[u8]) {
    check_sniffing(data);
    let Some(frame) = message(data, &[KIND_HELLO, KIND_WELCOME]) else { return };
    let hello = Hello::decode(&frame);
    assert!(hello.is_err() || frame.kind == KIND_HELLO, "{frame:?}");
    // Of another version only the version is there.
    if let Some(hello) = hello.ok().filter(|hello| hello.version == PROTOCOL_VERSION) {
        assert_is_written_as(&frame, |out| hello.encode(out));
        assert!(frame.meta.len() <= HANDSHAKE_BODY_BYTES_MAX, "longer than a handshake may be");
    }
    let welcome = Welcome::decode(&frame);
    assert!(welcome.is_err() || frame.kind == KIND_WELCOME, "{frame:?}");
    match welcome {
        Ok(welcome) if welcome.version == PROTOCOL_VERSION => {
            assert_is_written_as(&frame, |out| welcome.encode(out));
            assert!(frame.meta.len() <= HANDSHAKE_BODY_BYTES_MAX, "longer than a handshake may be");
        }
        Ok(welcome) => assert_eq!(welcome.verdict, Verdict::Version, "another version is never accepted"),
        Err(_) => {}
    }
}

/// Once the protocol is known, more bytes do not change it.
fn check_sniffing(data: &[u8]) {
    let mut known = Protocol::NeedMore;
    for end in 0..=data.len().min(2 * MAGIC.len()) {
        let seen = data.get(..end).unwrap_or_default();
        let protocol = sniff(seen);
        assert!(known == Protocol::NeedMore || protocol == known, "{known:?} turned into {protocol:?}");
        assert!(protocol != Protocol::NeedMore || end < MAGIC.len(), "eight bytes are enough");
        assert_eq!(protocol == Protocol::Native, seen.starts_with(&MAGIC));
        known = protocol;
    }
}

/// A request as a server reads it.
pub fn client_request(data: &[u8]) {
    let Some(frame) = message(data, &[]) else { return };
    if let Ok(request) = Request::decode(&frame) {
        assert_is_written_as(&frame, |out| request.encode(out));
        assert!(Response::decode(&frame).is_err(), "a request and an answer at once");
    }
}

/// An answer, or a part of one, as a client reads it.
pub fn client_response(data: &[u8]) {
    let Some(frame) = message(data, &[]) else { return };
    if let Ok(part) = ResponsePart::decode(&frame) {
        assert_is_written_as(&frame, |out| part.encode(out));
        assert!(Response::decode(&frame).is_err(), "a part and an answer at once");
    }
    if let Ok(response) = Response::decode(&frame) {
        assert_is_written_as(&frame, |out| response.encode(out));
        assert!(Request::decode(&frame).is_err(), "a request and an answer at once");
    }
}
