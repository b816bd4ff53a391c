//! What can be said of whole segments before any frame is read: which are there, and which of them can be walked.

use std::collections::VecDeque;

use crate::damage::{Damage, DamageKind};
use crate::limits::{FIRST_FRAME_OFFSET, SEGMENT_SEQ_MAX};
use crate::lsn::{Geometry, SegmentSeq};
use crate::scan::{SegmentView, is_zero};
use crate::segment::{IdentityField, IdentityMismatch, LogNonce, SegmentHeader, SegmentHeaderError, SegmentIdentity};
use crate::types::Lsn;

/// A segment's bytes as they were found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentImage<'a> {
    pub(crate) seq: SegmentSeq,
    pub(crate) bytes: &'a [u8],
}

/// A segment that can be walked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walkable<'a> {
    pub(super) view: SegmentView<'a>,
    /// What comes next in the log is known to be unreadable: damage that was reported when the walk began.
    pub(super) broken_after: bool,
}

/// What is wrong with a whole segment or file, found before any frame is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct WholeSegment {
    /// It is reported once the walk has this many walkable segments after it.
    pub(super) behind_count: usize,
    pub(super) damage: Damage,
    /// Where frames would be, all that can be read is zero.
    pub(super) is_blank: bool,
}

impl WholeSegment {
    fn new(behind_count: usize, damage: Damage, bytes: &[u8]) -> Self {
        Self { behind_count, damage, is_blank: bytes.get(FIRST_FRAME_OFFSET..).is_none_or(is_zero) }
    }

    /// Bytes that rotted or got lost, and no segment of somebody else.
    pub(super) fn is_loss(&self) -> bool {
        let kind = self.damage.kind;
        matches!(kind, DamageKind::SegmentHeader(_) | DamageKind::Truncated { .. } | DamageKind::Missing { .. })
    }
}

/// Splits the segments of a log that begins with `first` into those that can be walked, and what is wrong with the others.
pub(super) fn look_over<'a>(
    images: &[SegmentImage<'a>],
    first: SegmentSeq,
    geometry: Geometry,
    expected: Option<SegmentIdentity>,
    noted_durable: Lsn,
) -> (Vec<Walkable<'a>>, VecDeque<WholeSegment>) {
    let mut owner = Owner { identity: expected, log_nonce: None };
    let mut segments: Vec<Walkable<'a>> = Vec::with_capacity(images.len());
    let mut damages = VecDeque::new();
    let mut expected_raw = first.get();
    for image in images {
        if let Some(damage) = missing(expected_raw, image.seq.get() - 1) {
            damages.push_back(WholeSegment::new(segments.len(), damage, &[]));
            mark_broken(&mut segments);
        }
        expected_raw = image.seq.get() + 1;
        let bytes = image.bytes.len();
        match check_segment(image, geometry, &mut owner) {
            Ok(header) => {
                let view = SegmentView::new(image.seq, image.bytes, header.nonce, geometry);
                segments.push(Walkable { view, broken_after: view.is_truncated() });
                if let Some(kind) = wrong_size(image, geometry) {
                    let damage = whole_segment(image.seq, bytes, bytes, kind);
                    damages.push_back(WholeSegment::new(segments.len(), damage, image.bytes));
                }
            }
            Err(kind) => {
                let damage = whole_segment(image.seq, 0, bytes, kind);
                damages.push_back(WholeSegment::new(segments.len(), damage, image.bytes));
                mark_broken(&mut segments);
            }
        }
    }
    // The last byte that is known to have been durable lies in a file that must be there.
    let noted_raw = noted_durable.get().checked_sub(1).map_or(0, |last| last / geometry.segment_bytes() as u64);
    // A log of which anything was durable has at least its first segment, wherever the note ends.
    let has_lost_all = images.is_empty() && noted_durable > Lsn::ZERO;
    if let Some(damage) = missing(expected_raw, if has_lost_all { noted_raw.max(first.get()) } else { noted_raw }) {
        damages.push_back(WholeSegment::new(segments.len(), damage, &[]));
        mark_broken(&mut segments);
    }
    (segments, damages)
}

/// Whose log the segments are, as far as is known. What the first readable header says is what the others must say.
#[derive(Clone, Copy, Debug)]
struct Owner {
    identity: Option<SegmentIdentity>,
    log_nonce: Option<LogNonce>,
}

/// The segments that are part of the log. Those before its first were dropped, and may be there still.
pub(crate) fn of_the_log<'b, 'a>(images: &'b [SegmentImage<'a>], first: Option<SegmentSeq>) -> &'b [SegmentImage<'a>] {
    let dropped = images.iter().take_while(|image| first.is_some_and(|first| image.seq < first)).count();
    images.get(dropped..).unwrap_or_default()
}

fn check_segment(image: &SegmentImage<'_>, geometry: Geometry, owner: &mut Owner) -> Result<SegmentHeader, DamageKind> {
    let header = SegmentHeader::parse(image.bytes).map_err(|error| match error {
        SegmentHeaderError::Version { got } => DamageKind::Version { got },
        SegmentHeaderError::TooShort { got } => {
            DamageKind::Truncated { got_bytes: got, expected_bytes: geometry.segment_bytes() }
        }
        error => DamageKind::SegmentHeader(error),
    })?;
    let identity = owner.identity.get_or_insert(header.identity);
    if let Some(mismatch) = header.mismatch(identity, image.seq, geometry) {
        return Err(DamageKind::Identity(mismatch));
    }
    let log_nonce = *owner.log_nonce.get_or_insert(header.log_nonce);
    if log_nonce != header.log_nonce {
        let (expected, found) = (log_nonce.get(), header.log_nonce.get());
        return Err(DamageKind::Identity(IdentityMismatch { field: IdentityField::LogNonce, expected, found }));
    }
    Ok(header)
}

fn wrong_size(image: &SegmentImage<'_>, geometry: Geometry) -> Option<DamageKind> {
    let (got_bytes, expected_bytes) = (image.bytes.len(), geometry.segment_bytes());
    (got_bytes < expected_bytes).then_some(DamageKind::Truncated { got_bytes, expected_bytes })
}

/// Segments from `first` to `last`, if there are any between.
fn missing(first: u64, last: u64) -> Option<Damage> {
    let last = last.min(SEGMENT_SEQ_MAX);
    let (first, last) = SegmentSeq::new(first).zip(SegmentSeq::new(last)).filter(|(first, last)| first <= last)?;
    Some(whole_segment(first, 0, 0, DamageKind::Missing { last }))
}

/// What was readable before ends here: the last walkable segment is followed by one that is not.
fn mark_broken(segments: &mut [Walkable<'_>]) {
    if let Some(last) = segments.last_mut() {
        last.broken_after = true;
    }
}

fn whole_segment(segment: SegmentSeq, offset: usize, resume_offset: usize, kind: DamageKind) -> Damage {
    Damage { segment, offset, resume_offset, kind, entry: None, entry_before: None, entry_after: None, durable: None }
}
