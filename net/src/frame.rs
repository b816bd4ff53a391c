//! Frames: how messages stand on a connection.
//!
//! A frame is a fixed header and a body. The header has a checksum of its own, so a length is trusted only after it was
//! checked. The body starts with the message's metadata, which the header's second checksum covers; what follows the
//! metadata protects itself (entries carry their own checksums from the log). Layout: `docs/format/wire.md`.
//! This module does not know what the messages mean and does no I/O.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Size of a frame's header. Unit: bytes.
pub const FRAME_HEADER_BYTES: usize = 32;

/// The header of a frame as it stands on the wire. All numbers are little-endian.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    header_crc: U32,
    body_len: U32,
    meta_len: U32,
    meta_crc: U32,
    kind: U16,
    flags: U16,
    shard: U32,
    id: U64,
}

const _: () = assert!(size_of::<RawHeader>() == FRAME_HEADER_BYTES);

/// What a frame carries. 1..=63 are the client protocol's, 64..=127 the peers'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameKind(u16);

impl FrameKind {
    /// Wraps a number.
    #[must_use]
    pub const fn new(raw: u16) -> Self {
        Self(raw)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// A frame whose header and metadata were verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it carries.
    pub kind: FrameKind,
    /// Bits that the kind defines.
    pub flags: u16,
    /// The shard that it is about.
    pub shard: u32,
    /// Number that ties an answer to its request.
    pub id: u64,
    /// The metadata, verified.
    pub meta: &'a [u8],
    /// What follows the metadata; not verified here.
    pub rest: &'a [u8],
}

/// A frame cannot be taken from a connection. The connection must be closed: its position is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The header's checksum is wrong.
    #[error("frame header has checksum {got:08x}, expected {expected:08x}: the connection is corrupt or not Quorate's")]
    HeaderChecksum {
        /// As received.
        got: u32,
        /// As computed.
        expected: u32,
    },
    /// The metadata's checksum is wrong.
    #[error("frame metadata has checksum {expected:08x}, its header says {got:08x}: the connection is corrupt")]
    MetaChecksum {
        /// As received.
        got: u32,
        /// As computed.
        expected: u32,
    },
    /// The body is larger than this connection takes.
    #[error("frame body has {got} bytes, the limit of this connection is {limit}")]
    TooLarge {
        /// As announced.
        got: usize,
        /// The limit.
        limit: usize,
    },
    /// The metadata is longer than the body.
    #[error("frame metadata has {meta} bytes in a body of {body}")]
    Inconsistent {
        /// Announced length of the metadata.
        meta: usize,
        /// Announced length of the body.
        body: usize,
    },
}

/// Lengths of a frame, from a header whose checksum was verified.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lengths {
    pub meta: usize,
    pub body: usize,
}

/// Verifies a header and returns its lengths. Lengths are trusted no earlier than this.
pub(crate) fn check_header(header: &[u8; FRAME_HEADER_BYTES], limit: usize) -> Result<Lengths, FrameError> {
    let raw: RawHeader = zerocopy::transmute!(*header);
    let expected = crc32fast::hash(header.get(4..).unwrap_or_default());
    if raw.header_crc.get() != expected {
        return Err(FrameError::HeaderChecksum { got: raw.header_crc.get(), expected });
    }
    let (meta, body) = (raw.meta_len.get() as usize, raw.body_len.get() as usize);
    if body > limit {
        return Err(FrameError::TooLarge { got: body, limit });
    }
    if meta > body {
        return Err(FrameError::Inconsistent { meta, body });
    }
    Ok(Lengths { meta, body })
}

/// Number of the frame that a verified header begins.
pub(crate) fn header_id(header: &[u8; FRAME_HEADER_BYTES]) -> u64 {
    let raw: RawHeader = zerocopy::transmute!(*header);
    raw.id.get()
}

/// Takes the frame apart whose header `check_header` accepted.
pub(crate) fn parse<'a>(
    header: &[u8; FRAME_HEADER_BYTES],
    meta: &'a [u8],
    rest: &'a [u8],
) -> Result<Frame<'a>, FrameError> {
    let raw: RawHeader = zerocopy::transmute!(*header);
    let expected = crc32fast::hash(meta);
    if raw.meta_crc.get() != expected {
        return Err(FrameError::MetaChecksum { got: raw.meta_crc.get(), expected });
    }
    Ok(Frame {
        kind: FrameKind(raw.kind.get()),
        flags: raw.flags.get(),
        shard: raw.shard.get(),
        id: raw.id.get(),
        meta,
        rest,
    })
}

/// A frame that is being appended to a buffer: the header's place is kept, the body follows, `finish` fills the header in.
#[derive(Debug)]
pub struct FrameBuilder {
    start: usize,
    meta_end: Option<usize>,
    kind: FrameKind,
    flags: u16,
    shard: u32,
    id: u64,
}

impl FrameBuilder {
    /// Begins a frame at the end of `out`. The caller appends the metadata next.
    #[must_use]
    pub fn begin(out: &mut Vec<u8>, kind: FrameKind, flags: u16, shard: u32, id: u64) -> Self {
        let start = out.len();
        out.resize(start + FRAME_HEADER_BYTES, 0);
        Self { start, meta_end: None, kind, flags, shard, id }
    }

    /// The metadata is complete; what the caller appends from here on protects itself.
    pub fn end_meta(&mut self, out: &[u8]) {
        self.meta_end = Some(out.len());
    }

    /// Completes the frame.
    ///
    /// # Panics
    /// If the body is larger than 4 GiB, which every limit here excludes.
    pub fn finish(self, out: &mut [u8]) {
        let body_start = self.start + FRAME_HEADER_BYTES;
        let meta_end = self.meta_end.unwrap_or(out.len());
        let length = |from: usize, to: usize| U32::new(u32::try_from(to - from).expect("a frame is below 4 GiB"));
        let mut raw = RawHeader {
            header_crc: U32::ZERO,
            body_len: length(body_start, out.len()),
            meta_len: length(body_start, meta_end),
            meta_crc: U32::new(crc32fast::hash(&out[body_start..meta_end])),
            kind: U16::new(self.kind.0),
            flags: U16::new(self.flags),
            shard: U32::new(self.shard),
            id: U64::new(self.id),
        };
        raw.header_crc = U32::new(crc32fast::hash(&raw.as_bytes()[4..]));
        out[self.start..body_start].copy_from_slice(raw.as_bytes());
    }

    /// Gives the frame up and removes what was appended for it.
    pub fn abandon(self, out: &mut Vec<u8>) {
        out.truncate(self.start);
    }
}

/// Appends a frame whose body is `meta` alone.
pub fn encode_frame(out: &mut Vec<u8>, kind: FrameKind, flags: u16, shard: u32, id: u64, meta: &[u8]) {
    let builder = FrameBuilder::begin(out, kind, flags, shard, id);
    out.extend_from_slice(meta);
    builder.finish(out);
}
