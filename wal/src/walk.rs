//! Walking a log from its first frame to its end, over whatever damage there is.
//!
//! A log begins in the first of its segments that is there, or that the note says was. Its first frame is that segment's
//! origin; what the frame before it was is taken from there, for nothing before it is left.
//!
//! One walker serves recovery, which refuses a damaged log, and the offline checker, which lists what is wrong. It reads
//! and reports; it keeps no index and changes nothing. The decisions it takes are `recovery::decide`'s.

use std::collections::VecDeque;
use std::fmt;

use crate::constants::{FIRST_FRAME_OFFSET, SEGMENT_SEQ_MAX, SEGMENTS_AHEAD};
use crate::error::{EntryError, Inconsistency};
use crate::format::{CHAIN_START, EntryKind, FrameHeader, frame_bytes};
use crate::lsn::{Geometry, SegmentSeq};
use crate::recovery::{Decision, Finding, Surroundings, decide};
use crate::scan::{Look, SegmentView, is_zero};
use crate::segment::{IdentityField, IdentityMismatch, LogNonce, SegmentHeader, SegmentHeaderError, SegmentIdentity};
use crate::storage::Noted;
use crate::types::{EntryId, Lsn};
use crate::writer::segment_mismatch;

/// What is wrong at a place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DamageKind {
    /// Bits of a frame's header changed, or its bytes were replaced.
    #[error("frame header damaged: its checksum does not fit")]
    FrameHeader,
    /// Bits of a frame's payload changed.
    #[error("payload damaged: {0}")]
    Payload(EntryError),
    /// A page of the frame, or the page where it should be, reads as zeros.
    #[error("page zeroed: the 4096 bytes at offset {page_offset} read as zeros")]
    ZeroedPage {
        /// Where the page begins. Unit: bytes.
        page_offset: usize,
    },
    /// The frame is whole and does not follow the one before it: frames are missing, or it is left over.
    #[error("chain broken: the frame does not follow the one before it")]
    ChainBroken,
    /// The frame is whole and follows, and yet its entry cannot come next.
    #[error("inconsistent: {0}")]
    Inconsistent(Inconsistency),
    /// The log stops here, and the note says that it went further.
    #[error("end of the log missing: nothing is here, and everything below position {noted} was durable")]
    EndMissing {
        /// What the note says.
        noted: Lsn,
    },
    /// The file ends too early, or can't be read from there on.
    #[error("file truncated, or unreadable behind: {got_bytes} bytes, expected {expected_bytes}")]
    Truncated {
        /// Size of the file. Unit: bytes.
        got_bytes: usize,
        /// Size of a segment. Unit: bytes.
        expected_bytes: usize,
    },
    /// The segment's own header is damaged, and without it none of its frames can be checked.
    #[error("bad segment header: {0}")]
    SegmentHeader(SegmentHeaderError),
    /// Files are missing, this one the first of them.
    #[error("segment missing: files up to {last} are not there although the log goes on there or beyond")]
    Missing {
        /// The last that is missing.
        last: SegmentSeq,
    },
    /// The log is whole as far as it goes, and does not hold what lies between the state that its owner has and the log's end.
    #[error(
        "entries missing: the log holds what follows entry {base}, through {last}, and the state of this node is at entry {state}"
    )]
    NotAtState {
        /// The entry that the log begins behind.
        base: EntryId,
        /// Its last entry.
        last: EntryId,
        /// The last entry of the state.
        state: EntryId,
    },
    /// The segment is whole and belongs to another log.
    #[error("identity mismatch: {0}")]
    Identity(IdentityMismatch),
    /// The segment is whole and in another version of the format.
    #[error("unknown format version {got}")]
    Version {
        /// The version it states.
        got: u32,
    },
}

/// One damage: where, of what kind, and what is known about what it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub segment: SegmentSeq,
    /// Offset in its file. Unit: bytes.
    pub offset: usize,
    /// Where something readable begins again in the same file, or where that ends. Unit: bytes.
    pub resume_offset: usize,
    /// What is wrong.
    pub kind: DamageKind,
    /// The entry that was damaged, if its header survived.
    pub entry: Option<EntryId>,
    /// The last entry that is whole before the damage; what is missing comes after it in the log.
    pub entry_before: Option<EntryId>,
    /// The first entry that is whole beyond the damage.
    pub entry_after: Option<EntryId>,
    /// A later frame, or the note, says that everything below this position was durable. `None` where nothing can say so
    /// any more, or the kind needs no such proof.
    pub durable: Option<Lsn>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log segment {}, offset {}: {}", self.segment, self.offset, self.kind)?;
        if let Some(entry) = self.entry {
            write!(f, "; entry {entry}")?;
        }
        match (self.entry_before, self.entry_after) {
            (Some(before), Some(after)) => write!(f, "; between entries {before} and {after}"),
            (Some(before), None) => write!(f, "; after entry {before}"),
            (None, Some(after)) => write!(f, "; before entry {after}"),
            (None, None) => Ok(()),
        }
    }
}

/// How the log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Behind the last frame everything is zero.
    Clean,
    /// Behind the last frame lies what a crash left of writes that were never known to be durable.
    Torn(TornTail),
}

/// What a crash left behind the last whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment in which the log ends.
    pub segment: SegmentSeq,
    /// Where it ends, and the remains begin. Unit: bytes.
    pub offset: usize,
    /// What stands there; `None` if zeros do, and something else further on.
    pub found: Option<DamageKind>,
    /// Frame headers among the remains that are whole.
    pub frames_count: u64,
    /// The highest entry among those headers. It was being written; nothing shows that it was ever durable.
    pub last_entry: Option<EntryId>,
}

/// A whole frame.
#[derive(Clone, Copy, Debug)]
pub struct FrameView<'a> {
    /// The segment.
    pub segment: SegmentSeq,
    /// Offset in its file. Unit: bytes.
    pub offset: usize,
    /// Position in the log.
    pub lsn: Lsn,
    /// Its header.
    pub header: &'a FrameHeader,
    /// Its payload.
    pub payload: &'a [u8],
}

impl FrameView<'_> {
    /// The entry it carries, if it is not one of the log's own.
    #[must_use]
    pub fn entry_id(&self) -> Option<EntryId> {
        self.header.entry().kind().is_entry().then(|| self.header.entry().id())
    }

    /// Offset of its end. Unit: bytes.
    #[must_use]
    pub fn end_offset(&self) -> usize {
        self.offset + frame_bytes(self.payload.len())
    }
}

/// Where the log goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogEnd {
    pub(crate) seq: SegmentSeq,
    pub(crate) offset: usize,
    pub(crate) chain: u32,
    /// End of the last frame, in this segment or the one before. Watermarks are ends of frames and never the start of a
    /// segment: the two would compare as if something lay between them.
    pub(crate) lsn: Lsn,
    /// Segments from here on hold nothing, and at least one of them is damaged or missing.
    pub(crate) unused_from: Option<SegmentSeq>,
}

/// One step of a walk.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<'a> {
    Frame(FrameView<'a>),
    Damage(Damage),
    /// The last step, unless damage hides the end.
    End(Tail, LogEnd),
}

/// A segment's bytes as they were found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentImage<'a> {
    pub(crate) seq: SegmentSeq,
    pub(crate) bytes: &'a [u8],
}

/// What valid frame headers say that stand beyond the first place where the walk could not go on.
#[derive(Clone, Copy, Debug)]
struct Beyond {
    /// Segment and offset where looking began.
    from: (usize, usize),
    durable: Lsn,
    frames_count: u64,
    last_entry: Option<EntryId>,
    all_zero: bool,
}

/// A segment that can be walked.
#[derive(Clone, Copy, Debug)]
struct Walkable<'a> {
    view: SegmentView<'a>,
    /// What comes next in the log is known to be unreadable: damage that was reported when the walk began.
    broken_after: bool,
}

/// What is wrong with a whole segment or file, found before any frame is read.
#[derive(Clone, Copy, Debug)]
struct WholeSegment {
    /// It is reported once the walk has this many walkable segments behind it.
    behind_count: usize,
    damage: Damage,
    /// Where frames would be, all that can be read is zero.
    is_blank: bool,
}

impl WholeSegment {
    fn new(behind_count: usize, damage: Damage, bytes: &[u8]) -> Self {
        Self { behind_count, damage, is_blank: bytes.get(FIRST_FRAME_OFFSET..).is_none_or(is_zero) }
    }

    /// Bytes that rotted or got lost, and no segment of somebody else.
    fn is_loss(&self) -> bool {
        let kind = self.damage.kind;
        matches!(kind, DamageKind::SegmentHeader(_) | DamageKind::Truncated { .. } | DamageKind::Missing { .. })
    }
}

/// The walk. Yields frames and damages in log order; after damage to a whole segment never an end, which it may hide.
pub(crate) struct Walk<'a> {
    segments: Vec<Walkable<'a>>,
    /// Not reported yet, in log order.
    whole_segments: VecDeque<WholeSegment>,
    at: usize,
    offset: usize,
    /// Checksum that the next frame must repeat; unknown behind damage, and before the log's first frame.
    chain: Option<u32>,
    /// End of the last frame, or where the first one belongs.
    frames_end: Lsn,
    last_entry: Option<EntryId>,
    beyond: Option<Beyond>,
    /// What the note says: everything below was durable.
    noted: Lsn,
    /// The last segment in which a seal was seen.
    sealed: Option<SegmentSeq>,
    /// The last segment that is there, whatever its state.
    last_present: Option<SegmentSeq>,
    /// Damage was reported.
    is_damaged: bool,
    ended: bool,
}

impl<'a> Walk<'a> {
    /// Walks segments given in ascending order, of a log about which that much was noted. Those before the log's first are no
    /// part of it. Without an expected identity the segments must agree among themselves; that they are of one log they must
    /// always.
    pub(crate) fn new(
        images: &[SegmentImage<'a>],
        geometry: Geometry,
        expected: Option<SegmentIdentity>,
        noted: Noted,
    ) -> Self {
        let images = of_the_log(images, noted.first_segment);
        let first = noted.first_segment.or(images.first().map(|image| image.seq)).unwrap_or(SegmentSeq::FIRST);
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
        let noted_raw = noted.durable.get().checked_sub(1).map_or(0, |last| last / geometry.segment_bytes() as u64);
        if let Some(damage) = missing(expected_raw, noted_raw) {
            damages.push_back(WholeSegment::new(segments.len(), damage, &[]));
            mark_broken(&mut segments);
        }
        Self {
            segments,
            whole_segments: damages,
            at: 0,
            offset: FIRST_FRAME_OFFSET,
            chain: None,
            frames_end: geometry.lsn(first, FIRST_FRAME_OFFSET),
            last_entry: None,
            beyond: None,
            noted: noted.durable,
            sealed: None,
            last_present: images.last().map(|image| image.seq),
            is_damaged: false,
            ended: false,
        }
    }

    /// The step at the current place, or `None` if the place moved on to the next segment.
    fn step(&mut self, here: Walkable<'a>) -> Option<Step<'a>> {
        let look = here.view.look(self.offset);
        let finding = self.finding(look);
        if finding == Finding::Frame
            && let Look::Frame { header, payload } = look
        {
            return Some(self.accept(here.view, header, payload));
        }
        if self.next_continues() {
            self.go_to_next(self.chain);
            return None;
        }
        let more_here = here.view.next_header(self.offset.saturating_add(1)).is_some();
        let nothing_here = matches!(finding, Finding::Zeros | Finding::CutOff) && !more_here;
        if finding == Finding::Zeros && nothing_here && self.damaged_are_unused(here.view) {
            return Some(self.end(here.view, Tail::Clean));
        }
        if here.broken_after && nothing_here {
            self.go_to_next(None);
            return None;
        }
        let mut beyond = self.beyond.unwrap_or_else(|| self.look_beyond());
        let durable_beyond = beyond.durable > here.view.lsn(self.offset);
        let noted_beyond = self.noted > here.view.lsn(self.offset);
        if !durable_beyond && beyond.from != (self.at, self.offset) {
            // The log may end here, behind damage: what is left is less than what was left there.
            beyond = self.look_beyond();
        }
        self.beyond = Some(beyond);
        // With a whole segment or file damaged further on, what it held can't speak, and nothing is cut.
        let hidden = !self.whole_segments.is_empty();
        if hidden && nothing_here && !durable_beyond && !noted_beyond {
            self.go_to_next(None);
            return None;
        }
        let durable_beyond = durable_beyond || hidden;
        let around = Surroundings { durable_beyond, noted_beyond, rest_is_zero: beyond.all_zero };
        match decide(finding, around) {
            Decision::Refuse => {
                if nothing_here && self.damage_is_in_next(here.view, beyond) {
                    self.go_to_next(self.chain);
                    return None;
                }
                Some(self.damage(here.view, look, beyond))
            }
            Decision::EndClean => Some(self.end(here.view, Tail::Clean)),
            Decision::EndTorn => {
                let found = (finding != Finding::Zeros).then(|| kind_of(here.view, self.offset, look));
                let (segment, offset) = (here.view.seq, self.offset);
                let Beyond { frames_count, last_entry, .. } = beyond;
                Some(self.end(here.view, Tail::Torn(TornTail { segment, offset, found, frames_count, last_entry })))
            }
        }
    }

    fn finding(&self, look: Look<'a>) -> Finding {
        match look {
            Look::Frame { header, .. } if self.chain.is_none_or(|chain| chain == header.prev_header_crc()) => {
                Finding::Frame
            }
            Look::Frame { .. } => Finding::BrokenChain,
            Look::BadPayload { .. } => Finding::BadPayload,
            Look::NoHeader => Finding::BadHeader,
            Look::Zeros => Finding::Zeros,
            Look::CutOff => Finding::CutOff,
        }
    }

    fn accept(&mut self, view: SegmentView<'a>, header: &'a FrameHeader, payload: &'a [u8]) -> Step<'a> {
        let (segment, offset, lsn) = (view.seq, self.offset, view.lsn(self.offset));
        let frame = FrameView { segment, offset, lsn, header, payload };
        self.offset = frame.end_offset();
        self.frames_end = view.lsn(self.offset);
        self.chain = Some(header.header_crc());
        self.last_entry = frame.entry_id().or(self.last_entry);
        if header.entry().kind() == EntryKind::SEAL {
            self.sealed = Some(segment);
        }
        Step::Frame(frame)
    }

    /// Reports damage here and moves behind it, to the next frame header that is whole.
    fn damage(&mut self, view: SegmentView<'a>, look: Look<'a>, beyond: Beyond) -> Step<'a> {
        let offset = self.offset;
        let only_noted = beyond.frames_count == 0 && self.noted > view.lsn(offset);
        let kind = match look {
            Look::Zeros if only_noted => DamageKind::EndMissing { noted: self.noted },
            _ => kind_of(view, offset, look),
        };
        let mut entry = None;
        let resume_offset = match look {
            Look::BadPayload { header, .. } => {
                entry = header.entry().kind().is_entry().then(|| header.entry().id());
                self.offset += frame_bytes(header.entry().payload_len());
                self.chain = Some(header.header_crc());
                self.offset
            }
            Look::Frame { .. } => {
                self.chain = None;
                offset
            }
            Look::NoHeader | Look::Zeros | Look::CutOff => match view.next_header(offset.saturating_add(1)) {
                Some((next, _)) => {
                    self.offset = next;
                    self.chain = None;
                    next
                }
                None => {
                    self.go_to_next(None);
                    view.bytes.len()
                }
            },
        };
        let entry_before = self.last_entry;
        let known = beyond.durable.max(self.noted);
        let durable = (known > view.lsn(offset)).then_some(known);
        let segment = view.seq;
        self.is_damaged = true;
        Step::Damage(Damage { segment, offset, resume_offset, kind, entry, entry_before, entry_after: None, durable })
    }

    fn end(&mut self, view: SegmentView<'a>, tail: Tail) -> Step<'a> {
        self.ended = true;
        let chain = self.chain.unwrap_or(CHAIN_START);
        let unused_from = self.whole_segments.front().map(|first| first.damage.segment);
        Step::End(tail, LogEnd { seq: view.seq, offset: self.offset, chain, lsn: self.frames_end, unused_from })
    }

    /// Whether the log ends here, in zeros, and all segments beyond were never used, the damaged and missing ones included.
    ///
    /// * Everything before is whole, so this is where the log was last written to, if it was not left.
    /// * It was not left: it has no seal, and a sync of the next segment begins only when that of the seal has completed.
    ///   A seal that is lost is damage to this segment, at another place than the damage beyond.
    /// * Whatever can be read beyond is zero.
    /// * There are no more segments than are prepared ahead of this one: with one more, the log had moved on to the next, and a
    ///   seal here may be lost together with the file that it led to.
    /// * The note is there and says no more. As long as the host did not crash it is exact, and proves the same alone.
    fn damaged_are_unused(&self, here: SegmentView<'a>) -> bool {
        let are_lost = |whole: &WholeSegment| whole.is_loss() && whole.is_blank && whole.damage.segment > here.seq;
        let is_at_start = self.at == 0 && self.offset == FIRST_FRAME_OFFSET;
        let is_whole_so_far = !self.is_damaged && (self.chain.is_some() || is_at_start) && !here.is_truncated();
        let moved_on = self.last_present.is_some_and(|last| last.get() > here.seq.get() + SEGMENTS_AHEAD);
        let was_left = self.sealed == Some(here.seq);
        let is_noted = self.noted > Lsn::ZERO && self.noted <= here.lsn(self.offset);
        !self.whole_segments.is_empty()
            && self.whole_segments.iter().all(are_lost)
            && is_whole_so_far
            && !was_left
            && !moved_on
            && is_noted
            && self.look_beyond().all_zero
    }

    /// Damage to a whole segment that lies before the current place, not yet reported.
    fn take_whole_segment(&mut self) -> Option<Damage> {
        let next = self.whole_segments.front()?;
        if next.behind_count > self.at {
            return None;
        }
        let damage = Damage { entry_before: self.last_entry, ..next.damage };
        self.whole_segments.pop_front();
        Some(damage)
    }

    fn go_to_next(&mut self, chain: Option<u32>) {
        self.at += 1;
        self.offset = FIRST_FRAME_OFFSET;
        self.chain = chain;
    }

    /// The segment that follows directly, if it can be read.
    fn next_segment(&self) -> Option<SegmentView<'a>> {
        let here = self.segments.get(self.at)?;
        if here.broken_after {
            return None;
        }
        self.segments.get(self.at + 1).map(|next| next.view)
    }

    /// Whether the next segment's first frame follows directly on the last one seen: then nothing is missing between.
    fn next_continues(&self) -> bool {
        let first = self.next_segment().and_then(|next| next.header_at(FIRST_FRAME_OFFSET));
        first.is_some_and(|header| Some(header.prev_header_crc()) == self.chain)
    }

    /// Whether what is missing here was at the start of the next segment: this page was begun and holds nothing more, so
    /// the segment ended here, and the next one's first frame is not what it was.
    fn damage_is_in_next(&self, view: SegmentView<'a>, beyond: Beyond) -> bool {
        let Some(next) = self.next_segment() else { return false };
        let ended_here = view.page_begun(self.offset) && view.rest_is_zero(self.offset);
        ended_here
            && next.header_at(FIRST_FRAME_OFFSET).is_none()
            && beyond.durable.max(self.noted) > next.lsn(FIRST_FRAME_OFFSET)
    }

    /// What stands beyond the current place.
    ///
    /// The watermark is looked for once, at the first place that could not be read: a frame whose watermark lies beyond any
    /// later place stands beyond that place itself, because no frame promises more than what is before it.
    fn look_beyond(&self) -> Beyond {
        let from = (self.at, self.offset);
        let mut beyond = Beyond { from, durable: Lsn::ZERO, frames_count: 0, last_entry: None, all_zero: true };
        let mut offset = self.offset;
        for segment in self.segments.get(self.at..).unwrap_or_default() {
            let view = segment.view;
            beyond.all_zero &= view.rest_is_zero(offset);
            while let Some((found, header)) = view.next_header(offset) {
                beyond.durable = beyond.durable.max(header.durable());
                beyond.frames_count += 1;
                if header.entry().kind().is_entry() {
                    beyond.last_entry = beyond.last_entry.max(Some(header.entry().id()));
                }
                offset = found + frame_bytes(header.entry().payload_len());
            }
            offset = FIRST_FRAME_OFFSET;
        }
        beyond
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Step<'a>;

    fn next(&mut self) -> Option<Step<'a>> {
        while !self.ended {
            if let Some(damage) = self.take_whole_segment() {
                self.is_damaged = true;
                return Some(Step::Damage(damage));
            }
            let Some(here) = self.segments.get(self.at).copied() else {
                self.ended = true;
                break;
            };
            let step = self.step(here);
            if step.is_some() {
                return step;
            }
        }
        None
    }
}

/// Names what is wrong with what was found at `offset`.
fn kind_of(view: SegmentView<'_>, offset: usize, look: Look<'_>) -> DamageKind {
    let header_end = offset + frame_bytes(0);
    let (end, otherwise) = match look {
        Look::BadPayload { header, error } => {
            (offset + frame_bytes(header.entry().payload_len()), DamageKind::Payload(error))
        }
        Look::Frame { .. } => return DamageKind::ChainBroken,
        Look::NoHeader | Look::Zeros | Look::CutOff => (header_end, DamageKind::FrameHeader),
    };
    match view.zeroed_page(offset..end) {
        Some(page_offset) => DamageKind::ZeroedPage { page_offset },
        None => otherwise,
    }
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
    if let Some(mismatch) = segment_mismatch(&header, identity, image.seq, geometry) {
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
