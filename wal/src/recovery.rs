//! Recovery: what a log holds when it opens, and what is cut off its end.
//!
//! It adds up what `walk` finds, frame by frame, and refuses what is damaged. Where the log may end is decided by the table in
//! `decision`. It changes nothing until that is known; then it turns what lies after the end to zero.

use std::collections::VecDeque;

use crate::damage::{Corruption, Damage, DamageKind, Inconsistency, Tail};
use crate::error::OpenError;
use crate::format::{EntryHeader, EntryKind};
use crate::index::{EntryIndex, Slot};
use crate::limits::{DAMAGES_LISTED_MAX, FIRST_FRAME_OFFSET};
use crate::lineage::Lineage;
use crate::lsn::{Geometry, SegmentSeq};
use crate::members::MembersHistory;
use crate::origin::Origin;
use crate::segment::{FORMAT_VERSION, IdentityField, SegmentIdentity};
use crate::storage::Storage;
use crate::types::{EntryId, HardStateRecord, Index, Lsn, Term};
use crate::walk::{FrameView, LogEnd, SegmentImage, Step, Walk, of_the_log};

/// What an opened log held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segments present, prepared ones included.
    pub segments_count: usize,
    /// Frames that are whole, seals and origins not counted.
    pub frames_count: u64,
    /// Current entries, superseded ones not counted.
    pub entries_count: usize,
    /// The entry that the log begins after.
    pub base: EntryId,
    /// Last entry; `base` in a log without entries.
    pub last: EntryId,
    /// Hard state.
    pub hard_state: HardStateRecord,
    /// Where the log ends.
    pub end: Lsn,
    /// How it ended before that was cleaned.
    pub tail: Tail,
    /// Segments from here on were damaged or missing. They held nothing, were removed, and will be prepared anew.
    pub unused_from: Option<SegmentSeq>,
}

/// Where a segment that was begun stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentStart {
    pub(crate) seq: SegmentSeq,
    /// The entry before it, when it was begun. Entries in it or after it may have superseded that one.
    pub(crate) base: EntryId,
}

/// What frames add up to, read in log order.
#[derive(Debug)]
pub(crate) struct Rebuild {
    pub(crate) index: EntryIndex,
    pub(crate) hard_state: HardStateRecord,
    /// Seals and origins not counted.
    pub(crate) frames_count: u64,
    /// The log's first frame; `None` before that was read.
    pub(crate) origin: Option<Origin>,
    pub(crate) members: MembersHistory,
    /// Where each segment begins, and the entry before.
    pub(crate) starts: VecDeque<SegmentStart>,
    pub(crate) damages: Vec<Damage>,
    pub(crate) damages_count: u64,
    pub(crate) hard_states: HardStates,
}

impl Rebuild {
    /// A start, before anything was read. A log in which nothing can be read begins at its owner's state.
    pub(crate) fn new(state: EntryId, lineage: Lineage) -> Self {
        Self {
            index: EntryIndex::new(state, lineage),
            hard_state: HardStateRecord { term: state.term, vote: 0 },
            frames_count: 0,
            origin: None,
            members: MembersHistory::default(),
            starts: VecDeque::new(),
            damages: Vec::new(),
            damages_count: 0,
            hard_states: HardStates { entry_term: state.term, ..HardStates::default() },
        }
    }

    /// Takes a whole frame in. After damage nothing is checked or kept but what tells where the damage ends.
    pub(crate) fn frame(&mut self, frame: &FrameView<'_>) {
        let is_counted = !matches!(frame.header.entry().kind(), EntryKind::SEAL | EntryKind::ORIGIN);
        self.frames_count += u64::from(is_counted);
        self.hard_states.frame(frame);
        if self.damages_count > 0 {
            if let Some(id) = frame.entry_id() {
                self.damages
                    .iter_mut()
                    .rev()
                    .take_while(|damage| damage.entry_after.is_none())
                    .for_each(|damage| damage.entry_after = Some(id));
            }
            return;
        }
        if let Err(inconsistency) = self.apply(frame) {
            self.damage(Damage {
                segment: frame.segment,
                offset: frame.offset,
                resume_offset: frame.end_offset(),
                kind: DamageKind::Inconsistent(inconsistency),
                entry: frame.entry_id(),
                entry_before: Some(self.index.last_id()),
                entry_after: None,
                durable: None,
            });
        }
    }

    pub(crate) fn damage(&mut self, damage: Damage) {
        self.damages_count += 1;
        self.hard_states.damage(&damage);
        if self.damages.len() < DAMAGES_LISTED_MAX {
            self.damages.push(damage);
        }
    }

    fn apply(&mut self, frame: &FrameView<'_>) -> Result<(), Inconsistency> {
        let header = frame.header.entry();
        match header.kind() {
            EntryKind::MARK | EntryKind::SEAL => {}
            EntryKind::ORIGIN => self.begin_segment(frame)?,
            EntryKind::HARD_STATE => {
                let hard_state = hard_state_of(frame);
                if !hard_state.may_follow(&self.hard_state) {
                    return Err(Inconsistency::HardStateFalls);
                }
                self.hard_state = hard_state;
            }
            _ => {
                check_sequence(&self.index, header.id())?;
                let payload_len = u32::try_from(frame.payload.len()).unwrap_or(u32::MAX);
                let lineage = lineage_of(&self.index, header);
                let slot = Slot { term: header.term(), lsn: frame.lsn, payload_len, kind: header.kind(), lineage };
                self.index.put(header.index(), slot);
                self.members.put(header.index(), (header.kind() == EntryKind::MEMBERS).then_some(frame.payload));
            }
        }
        Ok(())
    }

    /// The first origin says what the log begins with; the others repeat what was read.
    fn begin_segment(&mut self, frame: &FrameView<'_>) -> Result<(), Inconsistency> {
        let found = Origin::parse(frame.payload).ok_or(Inconsistency::NoOrigin)?;
        match &self.origin {
            None => {
                self.index = EntryIndex::new(found.base, found.lineage);
                self.hard_state = found.hard_state;
                self.members = MembersHistory::new(found.members.clone());
                self.origin = Some(found);
            }
            Some(_) => {
                let (last, hard_state) = (self.index.last_id(), self.hard_state);
                let is_repeated = found.base == last && found.lineage == self.index.last_lineage();
                if !is_repeated || found.hard_state != hard_state || *found.members != *self.members.current() {
                    return Err(Inconsistency::OtherOrigin { got: found.base, last });
                }
            }
        }
        assert!(self.starts.back().is_none_or(|last| last.seq < frame.segment), "segments are read in order");
        self.starts.push_back(SegmentStart { seq: frame.segment, base: self.index.last_id() });
        Ok(())
    }

    /// Keeps nothing but the members: the log will begin where its owner's state ends. The members may be those of a later entry than
    /// that, or of an earlier one.
    fn begin_at(&mut self, state: EntryId, lineage: Lineage) {
        let members: Box<[u8]> = self.members.current().into();
        let hard_state = HardStateRecord { term: state.term, vote: 0 };
        self.index = EntryIndex::new(state, lineage);
        self.members = MembersHistory::new(members.clone());
        self.origin = Some(Origin { base: state, lineage, hard_state, members });
    }

    /// The origin of a new log that takes over what is whole in this one. The hard state is completed at the new log's end.
    pub(crate) fn salvaged_origin(&self) -> Origin {
        let base = self.index.base();
        let begun = || Origin {
            base,
            lineage: self.index.lineage(base.index).expect("the index knows that of its base"),
            hard_state: HardStateRecord { term: base.term, vote: 0 },
            members: Box::default(),
        };
        let mut origin = self.origin.clone().unwrap_or_else(begun);
        if origin.hard_state.term < origin.base.term {
            origin.hard_state = HardStateRecord { term: origin.base.term, vote: 0 };
        }
        origin
    }

    /// Whether this log holds the entry at which its owner's state is, or begins right after it.
    pub(crate) fn holds(&self, state: EntryId) -> bool {
        self.index.term(state.index) == Some(state.term)
    }

    /// Reports what is missing if this log does not go on where its owner's state ends.
    fn check_state(&mut self, state: EntryId) {
        if self.damages_count > 0 || self.holds(state) {
            return;
        }
        let (base, last) = (self.index.base(), self.index.last_id());
        let Some(start) = self.starts.front() else { return };
        self.damage(Damage {
            segment: start.seq,
            offset: FIRST_FRAME_OFFSET,
            resume_offset: FIRST_FRAME_OFFSET,
            kind: DamageKind::NotAtState { base, last, state },
            entry: None,
            entry_before: None,
            entry_after: None,
            durable: None,
        });
    }

    fn corruption(self) -> Corruption {
        assert!(self.damages_count >= self.damages.len() as u64, "more damages than were found");
        mark!("log: a later hard state may be lost" if !self.hard_states.is_certain());
        Corruption {
            hard_state: self.hard_states.found(),
            hard_state_is_certain: self.hard_states.is_certain(),
            damages: self.damages,
            damages_count: self.damages_count,
            intact_last: self.index.last_id(),
            intact_hard_state: self.hard_state,
        }
    }
}

/// The hard states anywhere in a log, damaged or not.
#[derive(Debug, Default)]
pub(crate) struct HardStates {
    highest: HardStateRecord,
    /// Highest term of an entry whose header is whole.
    entry_term: Term,
    /// Something after `highest` may have been a later hard state.
    may_be_hidden: bool,
}

impl HardStates {
    fn frame(&mut self, frame: &FrameView<'_>) {
        let header = frame.header.entry();
        match header.kind() {
            EntryKind::MARK | EntryKind::SEAL => {}
            EntryKind::HARD_STATE | EntryKind::ORIGIN => {
                let hard_state = match header.kind() {
                    EntryKind::ORIGIN => {
                        let Some(origin) = Origin::parse(frame.payload) else { return };
                        self.entry_term = self.entry_term.max(origin.base.term);
                        origin.hard_state
                    }
                    _ => hard_state_of(frame),
                };
                // If this hard state contradicts an earlier one, they cannot both be true.
                self.may_be_hidden = !hard_state.may_follow(&self.highest);
                if !self.may_be_hidden {
                    self.highest = hard_state;
                }
            }
            _ => self.entry_term = self.entry_term.max(header.term()),
        }
    }

    fn damage(&mut self, damage: &Damage) {
        let is_payload_alone = damage.entry.is_some() && !matches!(damage.kind, DamageKind::Inconsistent(_));
        self.may_be_hidden |= !is_payload_alone;
        self.entry_term = self.entry_term.max(damage.entry.map_or(Term::ZERO, |entry| entry.term));
    }

    /// How the log ended; `None` if damage hides that. What lies after an end may be what is left of durable frames.
    fn end(&mut self, tail: Option<Tail>) {
        self.may_be_hidden |= tail != Some(Tail::Clean);
    }

    /// The highest hard state, raised to the entries' terms.
    pub(crate) fn found(&self) -> HardStateRecord {
        if self.is_raised() { HardStateRecord { term: self.entry_term, vote: 0 } } else { self.highest }
    }

    pub(crate) fn is_certain(&self) -> bool {
        !self.may_be_hidden && !self.is_raised()
    }

    fn is_raised(&self) -> bool {
        self.entry_term > self.highest.term
    }
}

fn hard_state_of(frame: &FrameView<'_>) -> HardStateRecord {
    let vote = frame.payload.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    HardStateRecord { term: frame.header.entry().term(), vote }
}

/// The lineage of an entry that `check_sequence` let through: it follows on the entry before it, whatever it supersedes.
pub(crate) fn lineage_of(index: &EntryIndex, entry: &EntryHeader) -> Lineage {
    let before = index.lineage(entry.index().prev()).expect("there is no gap before the entry");
    entry.lineage_behind(before)
}

/// Whether `id` may be the next entry in the log: right after the last, or superseding a suffix.
pub(crate) fn check_sequence(index: &EntryIndex, id: EntryId) -> Result<(), Inconsistency> {
    let last = index.last_id();
    let first = index.first_index();
    if id.index < first {
        return Err(Inconsistency::BeforeFirst { got: id, first });
    }
    match index.term(Index::new(id.index.get() - 1)) {
        None => Err(Inconsistency::IndexGap { got: id, last }),
        Some(before) if id.term < before => Err(Inconsistency::TermFalls { got: id, before }),
        Some(_) => Ok(()),
    }
}

/// What recovery found in a log that is whole.
pub(crate) struct Recovered {
    pub(crate) rebuild: Rebuild,
    pub(crate) tail: Tail,
    pub(crate) end: LogEnd,
}

/// Reads the log; `None` if no segment was ever prepared. Changes nothing.
pub(crate) fn read<S: Storage>(
    storage: &S,
    geometry: Geometry,
    identity: SegmentIdentity,
    state: EntryId,
    state_lineage: Lineage,
) -> Result<Option<Recovered>, OpenError> {
    let Some((rebuild, end)) = examine(storage, geometry, identity, state, state_lineage)? else { return Ok(None) };
    match end {
        Some((tail, end)) if rebuild.damages_count == 0 => Ok(Some(Recovered { rebuild, tail, end })),
        _ => Err(OpenError::Corrupt(Box::new(rebuild.corruption()))),
    }
}

/// What a log adds up to, damaged or not, and how it ends if damage does not hide that.
pub(crate) type Examined = (Rebuild, Option<(Tail, LogEnd)>);

/// Reads a log over whatever damage there is; `None` if no segment was ever prepared. Changes nothing.
pub(crate) fn examine<S: Storage>(
    storage: &S,
    geometry: Geometry,
    identity: SegmentIdentity,
    state: EntryId,
    state_lineage: Lineage,
) -> Result<Option<Examined>, OpenError> {
    let images: Vec<_> =
        storage.segments().into_iter().map(|seq| SegmentImage { seq, bytes: storage.bytes(seq) }).collect();
    let noted = storage.noted();
    if of_the_log(&images, noted.first_segment).is_empty() && noted.durable == Lsn::ZERO {
        return Ok(None);
    }
    let mut rebuild = Rebuild::new(state, state_lineage);
    let mut end = None;
    for step in Walk::new(&images, geometry, Some(identity), noted) {
        match step {
            Step::Frame(frame) => rebuild.frame(&frame),
            Step::Damage(damage) => {
                refuse_strangers(&damage)?;
                rebuild.damage(damage);
            }
            Step::End(tail, log_end) => end = Some((tail, log_end)),
        }
    }
    rebuild.hard_states.end(end.as_ref().map(|(tail, _)| *tail));
    rebuild.check_state(state);
    if !rebuild.holds(state) {
        // What is whole ends before the state, or what lies between is not known: the entries are of no use.
        rebuild.begin_at(state, state_lineage);
    }
    Ok(Some((rebuild, end)))
}

/// A log that is whole and not this node's is no corruption. A segment of this very log in the place of another is, and so is
/// one of an earlier log of this node: its pages, or its file, were written where they do not belong.
fn refuse_strangers(damage: &Damage) -> Result<(), OpenError> {
    let segment = damage.segment;
    match damage.kind {
        DamageKind::Identity(mismatch)
            if !matches!(mismatch.field, IdentityField::SegmentSeq | IdentityField::LogNonce) =>
        {
            Err(OpenError::Identity { segment, mismatch })
        }
        DamageKind::Version { got } => Err(OpenError::Version { segment, got, known: FORMAT_VERSION as u32 }),
        _ => Ok(()),
    }
}

/// Turns everything after the log's end to zero, in every segment. Durable on return.
///
/// The last segment goes first and the end itself last: interrupted anywhere, the log reads the same next time.
pub(crate) fn clean_tail<S: Storage>(storage: &mut S, end: &LogEnd) -> Result<(), OpenError> {
    assert!(end.offset >= FIRST_FRAME_OFFSET, "nobody cleans a segment's header");
    let mut segments = storage.segments();
    segments.retain(|seq| *seq > end.seq);
    for seq in segments.into_iter().rev() {
        storage.reset_tail(seq, FIRST_FRAME_OFFSET)?;
    }
    storage.reset_tail(end.seq, end.offset)?;
    Ok(())
}
