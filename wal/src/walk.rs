//! Walking a log from its first frame to its end, over whatever damage there is.
//!
//! A log begins in the first of its segments that is there, or that the note says was. Its first frame is that segment's
//! origin; what the frame before it was is taken from there, for nothing before it is left.
//!
//! One walker serves recovery, which refuses a damaged log, and the offline checker, which lists what is wrong. It reads
//! and reports; it keeps no index and changes nothing. The decisions it takes are `decision`'s.

mod whole;

use std::collections::VecDeque;

use crate::damage::{Damage, DamageKind, Tail, TornTail};
use crate::decision::{Decision, Finding, Surroundings, decide};
use crate::format::{CHAIN_START, EntryKind, FrameHeader, frame_bytes};
use crate::limits::{FIRST_FRAME_OFFSET, SEGMENTS_AHEAD};
use crate::lsn::{Geometry, SegmentSeq};
use crate::scan::{Look, SegmentView};
use crate::segment::SegmentIdentity;
use crate::storage::Noted;
use crate::types::{EntryId, Lsn};

pub(crate) use whole::{SegmentImage, of_the_log};
use whole::{Walkable, WholeSegment, look_over};

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
    pub(crate) fn end_offset(&self) -> usize {
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

/// The walk. Yields frames and damages in log order. After damage to a whole segment it yields no end: the damage may hide that.
pub(crate) struct Walk<'a> {
    segments: Vec<Walkable<'a>>,
    /// Damages to whole segments that were not reported yet, in log order.
    whole_segments: VecDeque<WholeSegment>,
    at: usize,
    offset: usize,
    /// Checksum that the next frame must repeat; unknown after damage, and before the log's first frame.
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
    /// Walks segments in ascending order, of a log whose note says `noted`. Segments before the log's first one are no part of it. All must
    /// be of one log. Their identity must be the expected one; if none is expected, they must agree among themselves.
    pub(crate) fn new(
        images: &[SegmentImage<'a>],
        geometry: Geometry,
        expected: Option<SegmentIdentity>,
        noted: Noted,
    ) -> Self {
        let images = of_the_log(images, noted.first_segment);
        let first = noted.first_segment.or(images.first().map(|image| image.seq)).unwrap_or(SegmentSeq::FIRST);
        let (segments, whole_segments) = look_over(images, first, geometry, expected, noted.durable);
        Self {
            segments,
            whole_segments,
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
            // The log may end here, after damage: what is left is less than what was left there.
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
                mark!("log: damage is not cut");
                if nothing_here && self.damage_is_in_next(here.view, beyond) {
                    self.go_to_next(self.chain);
                    return None;
                }
                Some(self.damage(here.view, look, beyond))
            }
            Decision::EndClean => Some(self.end(here.view, Tail::Clean)),
            Decision::EndTorn => {
                mark!("log: a torn tail is cut");
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

    /// Reports damage here and moves past it, to the next frame header that is whole.
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
