//! What a log is where a segment begins: the first frame of every segment.
//!
//! The chain of header checksums goes through it, so the frame also says which frame came before; the nonce of the log stands
//! in the segment's header. Together that is all that the segments before said and that is still needed: any suffix of a log's
//! segments is a whole log, and a hard state is never lost with the segment that it was written to.
//!
//! Bytes only. When an origin is written is `writer`'s business, what it means for a log that is read `recovery`'s.

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::limits::MEMBERS_BYTES_MAX;
use crate::lineage::Lineage;
use crate::types::{EntryId, HardStateRecord, Index, Term};

/// Payload of an origin without members. Unit: bytes.
pub(crate) const ORIGIN_FIXED_BYTES: usize = size_of::<RawOrigin>();

/// Longest payload of an origin. Unit: bytes.
pub(crate) const ORIGIN_BYTES_MAX: usize = ORIGIN_FIXED_BYTES + MEMBERS_BYTES_MAX;

/// What an origin's payload begins with; the members follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawOrigin {
    base_term: U64,
    base_index: U64,
    term: U64,
    vote: U64,
    lineage: U64,
    members_len: U32,
    reserved: [u8; 4],
}

const _: () = assert!(size_of::<RawOrigin>() == 48);
const _: () = assert!(offset_of!(RawOrigin, base_term) == 0);
const _: () = assert!(offset_of!(RawOrigin, base_index) == 8);
const _: () = assert!(offset_of!(RawOrigin, term) == 16);
const _: () = assert!(offset_of!(RawOrigin, vote) == 24);
const _: () = assert!(offset_of!(RawOrigin, lineage) == 32);
const _: () = assert!(offset_of!(RawOrigin, members_len) == 40);
const _: () = assert!(offset_of!(RawOrigin, reserved) == 44);

/// What precedes a segment, or a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The last entry before. It need not be in the log; `EntryId::ZERO` if there is none.
    pub base: EntryId,
    /// Lineage of all entries up to `base`.
    pub lineage: Lineage,
    /// The hard state.
    pub hard_state: HardStateRecord,
    /// The members of the group as of `base`, in the owner's encoding; the log only keeps them.
    ///
    /// At most `MEMBERS_BYTES_MAX` long. Empty until the members come from the log.
    pub members: Box<[u8]>,
}

impl Origin {
    /// The payload of an origin's frame.
    ///
    /// Panics if the members are too long.
    pub(crate) fn encode(base: EntryId, lineage: Lineage, hard_state: HardStateRecord, members: &[u8]) -> Vec<u8> {
        assert!(members.len() <= MEMBERS_BYTES_MAX, "{} bytes of members", members.len());
        let raw = RawOrigin {
            base_term: U64::new(base.term.get()),
            base_index: U64::new(base.index.get()),
            term: U64::new(hard_state.term.get()),
            vote: U64::new(hard_state.vote),
            lineage: U64::new(lineage.get()),
            members_len: U32::new(u32::try_from(members.len()).expect("bounded")),
            reserved: [0; 4],
        };
        [raw.as_bytes(), members].concat()
    }

    /// Reads the payload of an origin's frame; `None` if it says something that no origin says.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let (raw, members) = RawOrigin::ref_from_prefix(payload).ok()?;
        let base = EntryId::new(Term::new(raw.base_term.get()), Index::new(raw.base_index.get()));
        let hard_state = HardStateRecord { term: Term::new(raw.term.get()), vote: raw.vote.get() };
        let lineage = Lineage::new(raw.lineage.get());
        let is_possible = (base.index > Index::ZERO || base.term == Term::ZERO)
            && base.index.get() < u64::MAX
            && members.len() <= MEMBERS_BYTES_MAX
            && raw.members_len.get() as usize == members.len()
            && raw.reserved == [0; 4];
        is_possible.then(|| Self { base, lineage, hard_state, members: members.into() })
    }
}

/// The fields by name, and where each lies, for the test that holds the documentation against the code.
#[cfg(test)]
pub(crate) fn layout() -> Vec<(String, std::ops::Range<usize>)> {
    use crate::doc_table::layout_of;
    layout_of![
        RawOrigin,
        (base_term, 8),
        (base_index, 8),
        (term, 8),
        (vote, 8),
        (lineage, 8),
        (members_len, 4),
        (reserved, 4)
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(members: &[u8]) -> Origin {
        let base = EntryId::new(Term::new(3), Index::new(9));
        let hard_state = HardStateRecord { term: Term::new(4), vote: 5 };
        Origin { base, lineage: Lineage::new(6), hard_state, members: members.into() }
    }

    fn encoded(origin: &Origin) -> Vec<u8> {
        Origin::encode(origin.base, origin.lineage, origin.hard_state, &origin.members)
    }

    #[test]
    fn an_origin_reads_as_it_was_written() {
        for origin in [Origin::default(), origin(b""), origin(&[7; MEMBERS_BYTES_MAX])] {
            assert_eq!(Origin::parse(&encoded(&origin)), Some(origin));
        }
    }

    #[test]
    fn what_no_origin_says_is_refused() {
        let bytes = encoded(&origin(b"members"));
        for cut in 0..bytes.len() {
            assert_eq!(Origin::parse(&bytes[..cut]), None, "{cut} bytes");
        }
        let with = |at: usize, byte: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            Origin::parse(&bytes)
        };
        assert_eq!(with(8, 0), None, "a term without an index");
        assert_eq!(with(40, 8), None, "longer members");
        assert_eq!(with(44, 1), None, "reserved bytes");
        let too_long = [&bytes[..40], &1025_u32.to_le_bytes(), &[0; 4], &[7; 1025]].concat();
        assert_eq!(Origin::parse(&too_long), None);
    }
}
