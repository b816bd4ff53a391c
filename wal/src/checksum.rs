//! The two checksums of a frame: CRC-32 (IEEE) of the payload with its header, and of the frame header at its place.
//!
//! They detect damage. They authenticate nothing: a checksum that fits proves no origin.

use crc32fast::Hasher;

use crate::types::Lsn;

/// CRC-32 of several parts as if they lay one after the other.
#[must_use]
pub fn crc32(parts: &[&[u8]]) -> u32 {
    let mut hasher = Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// The seed that a segment's nonce gives its frame headers, so that bytes of another segment never verify in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderSeed(u32);

impl HeaderSeed {
    /// The seed of the segment with this nonce.
    #[must_use]
    pub fn new(nonce: u64) -> Self {
        Self(crc32fast::hash(&nonce.to_le_bytes()))
    }

    /// Checksum of a frame header that lies at `lsn`. `covered` is the header without its checksum field.
    ///
    /// The position goes in first, so that a header moved elsewhere, even within its segment, does not verify.
    #[must_use]
    pub fn header_crc(self, lsn: Lsn, covered: &[u8]) -> u32 {
        let mut hasher = Hasher::new_with_initial(self.0);
        hasher.update(&lsn.get().to_le_bytes());
        hasher.update(covered);
        hasher.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_hash_as_one() {
        assert_eq!(crc32(&[b"1234", b"56789"]), 0xCBF4_3926, "the check value of CRC-32/IEEE");
    }

    #[test]
    fn a_header_is_bound_to_segment_and_place() {
        let here = HeaderSeed::new(1).header_crc(Lsn::new(64), b"header");
        assert_ne!(here, HeaderSeed::new(2).header_crc(Lsn::new(64), b"header"));
        assert_ne!(here, HeaderSeed::new(1).header_crc(Lsn::new(72), b"header"));
    }
}
