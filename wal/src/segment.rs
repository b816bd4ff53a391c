//! A segment's own header: whose log it belongs to, which part of it, and the nonce of its frames.
//!
//! The header is written and synced when the segment is prepared, before any frame; nothing writes it again. Frames are
//! `format`'s; what the log was when the segment was begun is in its first frame (`origin`).

use std::fmt;
use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::checksum::crc32;
use crate::limits::FIRST_FRAME_OFFSET;
use crate::lsn::{Geometry, SegmentSeq};

/// Size of a segment header. Unit: bytes.
pub(crate) const SEGMENT_HEADER_BYTES: usize = size_of::<RawHeader>();

/// First bytes of every segment.
pub(crate) const SEGMENT_MAGIC: [u8; 8] = *b"QUORAWAL";

/// Versions of the log format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum FormatVersion {
    /// The first: 64-byte segment header, 48-byte frame headers, CRC-32. A log began at index 1 and never lost a segment.
    V1 = 1,
    /// A log may begin anywhere: segment headers name the log by a nonce, and every segment opens with an origin.
    V2 = 2,
}

/// The version that this build writes.
pub const FORMAT_VERSION: FormatVersion = FormatVersion::V2;

/// Whose log a segment belongs to. All segments of a log agree, and a log opens only as what it was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentIdentity {
    /// The cluster.
    pub cluster_id: u64,
    /// The node within it.
    pub node_id: u64,
    /// The Raft group, from 0.
    pub shard: u32,
    /// Raft groups in the cluster.
    pub shard_count: u32,
}

impl SegmentIdentity {
    /// The first field in which `found` differs from this identity, which was expected.
    #[must_use]
    pub fn mismatch(&self, found: &Self) -> Option<IdentityMismatch> {
        let fields = [
            (IdentityField::ClusterId, self.cluster_id, found.cluster_id),
            (IdentityField::NodeId, self.node_id, found.node_id),
            (IdentityField::ShardCount, u64::from(self.shard_count), u64::from(found.shard_count)),
            (IdentityField::Shard, u64::from(self.shard), u64::from(found.shard)),
        ];
        fields
            .into_iter()
            .find(|(_, expected, found)| expected != found)
            .map(|(field, expected, found)| IdentityMismatch { field, expected, found })
    }
}

/// Names one log: random, drawn when its first segment is prepared, repeated in the header of every segment.
///
/// The note beside a log belongs to the log with this nonce, wherever that begins. A log that takes the place of another has
/// another nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogNonce(u64);

impl LogNonce {
    /// Wraps a random number.
    #[must_use]
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// The raw number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The log that a segment with these bytes belongs to; `None` if they do not say.
    #[must_use]
    pub fn of(segment: &[u8]) -> Option<Self> {
        SegmentHeader::parse(segment).ok().map(|header| header.log_nonce)
    }
}

/// A part of a segment's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityField {
    /// The cluster.
    ClusterId,
    /// The node.
    NodeId,
    /// The number of shards.
    ShardCount,
    /// The shard.
    Shard,
    /// The size of a segment, which gives positions their meaning.
    SegmentBytes,
    /// The segment's number, which its file name states too.
    SegmentSeq,
    /// The log itself: the segment was prepared for an earlier log of this node.
    LogNonce,
}

impl fmt::Display for IdentityField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterId => "cluster id",
            Self::NodeId => "node id",
            Self::ShardCount => "shard count",
            Self::Shard => "shard",
            Self::SegmentBytes => "segment size",
            Self::SegmentSeq => "segment number",
            Self::LogNonce => "log nonce",
        })
    }
}

/// A segment that is whole but belongs elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdentityMismatch {
    /// What differs.
    pub field: IdentityField,
    /// What this log is opened as.
    pub expected: u64,
    /// What the segment says.
    pub found: u64,
}

impl fmt::Display for IdentityMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field {
            IdentityField::ClusterId | IdentityField::NodeId | IdentityField::LogNonce => {
                write!(f, "its {} is {:016x}, expected {:016x}", self.field, self.found, self.expected)
            }
            _ => write!(f, "its {} is {}, expected {}", self.field, self.found, self.expected),
        }
    }
}

/// Why the first bytes of a segment are not its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentHeaderError {
    /// The file ends within the header.
    #[error("the segment header is cut off: {got} bytes, expected {SEGMENT_HEADER_BYTES}")]
    TooShort {
        /// Bytes there are.
        got: usize,
    },
    /// All zeros where the header belongs.
    #[error("the segment header reads as zeros")]
    Zeroed,
    /// Not the first bytes of a segment.
    #[error("the segment header begins with {got:02x?}, expected {SEGMENT_MAGIC:02x?}")]
    Magic {
        /// What stands there.
        got: [u8; 8],
    },
    /// The header was changed after it was written.
    #[error("the segment header's checksum is {got:08x}, expected {expected:08x}")]
    Checksum {
        /// Checksum of what stands there.
        got: u32,
        /// Checksum that was stored.
        expected: u32,
    },
    /// Whole, but written by another version of the format.
    #[error("the segment has format version {got}, this build knows {expected}", expected = FORMAT_VERSION as u32)]
    Version {
        /// The version it states.
        got: u32,
    },
    /// Reserved bytes must be zero in this version.
    #[error("the segment header's reserved bytes are not zero")]
    ReservedNotZero,
    /// Whole, but with a number or size that no segment has.
    #[error("the segment header states segment number {seq} and {segment_bytes} bytes, which no segment has")]
    Impossible {
        /// The number it states.
        seq: u64,
        /// The size it states. Unit: bytes.
        segment_bytes: u64,
    },
}

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose log it belongs to.
    pub identity: SegmentIdentity,
    /// Its number.
    pub seq: SegmentSeq,
    /// Its size. Unit: bytes.
    pub segment_bytes: u64,
    /// Random; seeds the checksums of its frame headers.
    pub nonce: u64,
    /// The log.
    pub log_nonce: LogNonce,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    header_crc: U32,
    format_version: U32,
    cluster_id: U64,
    node_id: U64,
    shard: U32,
    shard_count: U32,
    segment_seq: U64,
    segment_bytes: U64,
    nonce: U64,
    log_nonce: U64,
    reserved: [u8; 56],
}

const _: () = assert!(size_of::<RawHeader>() == 128);
const _: () = assert!(offset_of!(RawHeader, magic) == 0);
const _: () = assert!(offset_of!(RawHeader, header_crc) == 8);
const _: () = assert!(offset_of!(RawHeader, format_version) == 12);
const _: () = assert!(offset_of!(RawHeader, cluster_id) == 16);
const _: () = assert!(offset_of!(RawHeader, node_id) == 24);
const _: () = assert!(offset_of!(RawHeader, shard) == 32);
const _: () = assert!(offset_of!(RawHeader, shard_count) == 36);
const _: () = assert!(offset_of!(RawHeader, segment_seq) == 40);
const _: () = assert!(offset_of!(RawHeader, segment_bytes) == 48);
const _: () = assert!(offset_of!(RawHeader, nonce) == 56);
const _: () = assert!(offset_of!(RawHeader, log_nonce) == 64);
const _: () = assert!(offset_of!(RawHeader, reserved) == 72);
// The header fits its page.
const _: () = assert!(SEGMENT_HEADER_BYTES <= FIRST_FRAME_OFFSET);

/// Bytes that the header's checksum covers begin here. Magic, checksum and version keep their places in every version.
const COVERED_FROM: usize = offset_of!(RawHeader, format_version);

/// Where the header of version 1 ended. Its checksum covered no more, so that it takes this to know one. Unit: bytes.
const V1_HEADER_BYTES: usize = 64;

impl RawHeader {
    /// Checksum of a header that is this long. Unit: bytes.
    fn crc_of(&self, header_bytes: usize) -> u32 {
        crc32(&[self.as_bytes().get(COVERED_FROM..header_bytes).unwrap_or_default()])
    }
}

impl SegmentHeader {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        zerocopy::transmute!(self.raw())
    }

    fn raw(&self) -> RawHeader {
        let mut raw = RawHeader {
            magic: SEGMENT_MAGIC,
            header_crc: U32::ZERO,
            format_version: U32::new(FORMAT_VERSION as u32),
            cluster_id: U64::new(self.identity.cluster_id),
            node_id: U64::new(self.identity.node_id),
            shard: U32::new(self.identity.shard),
            shard_count: U32::new(self.identity.shard_count),
            segment_seq: U64::new(self.seq.get()),
            segment_bytes: U64::new(self.segment_bytes),
            nonce: U64::new(self.nonce),
            log_nonce: U64::new(self.log_nonce.get()),
            reserved: [0; 56],
        };
        raw.header_crc = U32::new(raw.crc_of(SEGMENT_HEADER_BYTES));
        raw
    }

    /// Reads the header at the start of a segment's bytes.
    ///
    /// The checksum is checked before the version: a flipped bit is damage, not a newer release.
    pub fn parse(bytes: &[u8]) -> Result<Self, SegmentHeaderError> {
        let Ok((raw, _)) = RawHeader::ref_from_prefix(bytes) else {
            return Err(SegmentHeaderError::TooShort { got: bytes.len() });
        };
        if raw.as_bytes().iter().all(|byte| *byte == 0) {
            return Err(SegmentHeaderError::Zeroed);
        }
        if raw.magic != SEGMENT_MAGIC {
            return Err(SegmentHeaderError::Magic { got: raw.magic });
        }
        let computed = raw.crc_of(SEGMENT_HEADER_BYTES);
        let version = raw.format_version.get();
        if version == FormatVersion::V1 as u32 && raw.crc_of(V1_HEADER_BYTES) == raw.header_crc.get() {
            return Err(SegmentHeaderError::Version { got: version });
        }
        if computed != raw.header_crc.get() {
            return Err(SegmentHeaderError::Checksum { got: computed, expected: raw.header_crc.get() });
        }
        if version != FORMAT_VERSION as u32 {
            return Err(SegmentHeaderError::Version { got: version });
        }
        if raw.reserved != [0; 56] {
            return Err(SegmentHeaderError::ReservedNotZero);
        }
        let segment_bytes = raw.segment_bytes.get();
        let (Some(seq), Some(_)) = (SegmentSeq::new(raw.segment_seq.get()), Geometry::new(segment_bytes)) else {
            return Err(SegmentHeaderError::Impossible { seq: raw.segment_seq.get(), segment_bytes });
        };
        let identity = SegmentIdentity {
            cluster_id: raw.cluster_id.get(),
            node_id: raw.node_id.get(),
            shard: raw.shard.get(),
            shard_count: raw.shard_count.get(),
        };
        let log_nonce = LogNonce(raw.log_nonce.get());
        Ok(Self { identity, seq, segment_bytes, nonce: raw.nonce.get(), log_nonce })
    }

    /// The first way in which this is not segment `seq` of the log with this identity and geometry.
    pub(crate) fn mismatch(
        &self,
        identity: &SegmentIdentity,
        seq: SegmentSeq,
        geometry: Geometry,
    ) -> Option<IdentityMismatch> {
        let numbers = [
            (IdentityField::SegmentBytes, geometry.segment_bytes() as u64, self.segment_bytes),
            (IdentityField::SegmentSeq, seq.get(), self.seq.get()),
        ];
        identity.mismatch(&self.identity).or_else(|| {
            numbers
                .into_iter()
                .find(|(_, expected, found)| expected != found)
                .map(|(field, expected, found)| IdentityMismatch { field, expected, found })
        })
    }
}

/// The fields by name, and where each lies, for the test that holds the documentation against the code.
#[cfg(test)]
pub(crate) fn layout() -> Vec<(String, std::ops::Range<usize>)> {
    use crate::doc_table::layout_of;
    layout_of![
        RawHeader,
        (magic, 8),
        (header_crc, 4),
        (format_version, 4),
        (cluster_id, 8),
        (node_id, 8),
        (shard, 4),
        (shard_count, 4),
        (segment_seq, 8),
        (segment_bytes, 8),
        (nonce, 8),
        (log_nonce, 8),
        (reserved, 56)
    ]
}
