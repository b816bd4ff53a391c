//! What a node's disk holds for good, and that no message which leaves promises more than that.
//!
//! Read from the disk's own durable bytes, frame by frame, as a start after the worst loss of power would find them. The log's own
//! claims (`persisted_index`, `durable_lsn`) are held against it, and are believed nowhere else in the simulator.

use std::collections::BTreeSet;

use wal::Storage;
use wal::checksum::HeaderSeed;
use wal::format::{EntryKind, FRAME_HEADER_BYTES, FrameHeader, frame_bytes};
use wal::limits::FIRST_FRAME_OFFSET;
use wal::segment::SegmentHeader;
use wal::testing::SimStorage;
use wal::{Log, SegmentSeq};

use crate::raft::{AppendOutcome, Message};
use crate::types::{EntryId, Index, Lsn, NodeId, Term};

/// Where the next frame is expected.
#[derive(Clone, Copy, Debug)]
struct Place {
    seq: SegmentSeq,
    offset: usize,
    /// Checksum of the header of the frame before; unknown before the first.
    chain: Option<u32>,
}

/// What a disk holds for good.
#[derive(Debug, Default)]
pub(super) struct OnDisk {
    next: Option<Place>,
    /// End of the last frame that was read.
    end: Option<Lsn>,
    /// Where everything is durable before, as the last frame says.
    watermark: Option<(SegmentSeq, usize)>,
    /// Term and vote, as they stand last.
    pub(super) term: Term,
    pub(super) vote: u64,
    /// Every term and vote, and the end of its frame.
    votes: Vec<(Lsn, Term, u64)>,
    /// The entry that the log begins after.
    base: EntryId,
    /// The entries after that.
    ids: Vec<EntryId>,
}

impl OnDisk {
    /// Reads a disk from its first segment on. Nothing on it yet says what precedes a log that was never written to: `base` does.
    pub(super) fn of(disk: &SimStorage, base: EntryId) -> Self {
        let mut on_disk = Self { base, term: base.term, ..Self::default() };
        on_disk.read_on(disk);
        on_disk
    }

    /// Reads what has become durable since.
    pub(super) fn read_on(&mut self, disk: &SimStorage) {
        // A log that lost all of its segments gets its first one while the node runs.
        let first = disk.segments().first().copied();
        let begin = first.map(|seq| Place { seq, offset: FIRST_FRAME_OFFSET, chain: None });
        self.next = self.next.or(begin);
        while let Some(place) = self.next {
            let after = Place { seq: place.seq.next(), offset: FIRST_FRAME_OFFSET, ..place };
            let Some((place, header, payload)) = [place, after]
                .into_iter()
                .find_map(|place| frame_at(disk, place).map(|(header, payload)| (place, header, payload)))
            else {
                return;
            };
            if !self.take(header, payload) {
                return;
            }
            let offset = place.offset + frame_bytes(payload.len());
            self.next = Some(Place { offset, chain: Some(header.header_crc()), ..place });
            let end = lsn(disk, place.seq, offset);
            self.end = Some(end);
            if self.votes.last().is_none_or(|&(_, term, vote)| (term, vote) != (self.term, self.vote)) {
                self.votes.push((end, self.term, self.vote));
            }
            let durable = header.durable().get();
            let seq = SegmentSeq::new(durable / disk.segment_bytes());
            self.watermark = seq.zip(usize::try_from(durable % disk.segment_bytes()).ok());
        }
    }

    /// `false` for an entry that follows none of those before.
    fn take(&mut self, header: &FrameHeader, payload: &[u8]) -> bool {
        let number = |at: usize| u64::from_le_bytes(*payload[at..].first_chunk().expect("checked by the header"));
        match header.entry().kind() {
            EntryKind::HARD_STATE => (self.term, self.vote) = (header.entry().term(), number(0)),
            EntryKind::ORIGIN => {
                if self.end.is_none() {
                    self.base = EntryId::new(Term::new(number(0)), Index::new(number(8)));
                }
                (self.term, self.vote) = (Term::new(number(16)), number(24));
            }
            kind if kind.is_entry() => {
                let id = header.entry().id();
                let Some(position) = self.position(id.index).filter(|position| *position <= self.ids.len()) else {
                    return false;
                };
                self.ids.truncate(position);
                self.ids.push(id);
            }
            _ => {}
        }
        true
    }

    fn position(&self, index: Index) -> Option<usize> {
        usize::try_from(index.get().checked_sub(self.base.index.get() + 1)?).ok()
    }

    /// The entry is there, or lies before the log.
    pub(super) fn holds(&self, id: EntryId) -> bool {
        self.position(id.index).is_none_or(|position| self.ids.get(position) == Some(&id))
    }

    /// A start forgot nothing of what the disk held before, but for entries that were superseded.
    pub(super) fn check_start(&self, promised: &BTreeSet<EntryId>, vote: (Term, u64)) -> Result<(), String> {
        let last = self.ids.last().copied().unwrap_or(self.base);
        if let Some(id) = promised.iter().find(|id| !self.holds(**id) && id.term >= last.term) {
            return Err(format!("its disk held {id} for good, and it starts with a log that ends at {last}"));
        }
        let keeps_vote = vote.1 == 0 || vote.1 == self.vote;
        if self.term < vote.0 || (self.term == vote.0 && !keeps_vote) {
            return Err(format!("its disk held {vote:?} for good, and it starts with {:?}", (self.term, self.vote)));
        }
        Ok(())
    }

    /// Everything below this position is durable, as the last frame says.
    pub(super) fn watermark(&self) -> Option<(SegmentSeq, usize)> {
        self.watermark
    }

    /// The entries that the log has called durable. More may be there by chance, of which nobody was told.
    pub(super) fn claimed_ids(&self, log: &Log<SimStorage>) -> impl Iterator<Item = EntryId> {
        let claimed = log.persisted_index();
        self.ids.iter().copied().take_while(move |id| id.index <= claimed)
    }

    /// Term and vote that the log has called durable.
    pub(super) fn claimed_vote(&self, log: &Log<SimStorage>) -> (Term, u64) {
        let durable = log.durable_lsn();
        let claimed = self.votes.iter().rev().find(|(end, ..)| *end <= durable);
        claimed.map_or((self.base.term, 0), |&(_, term, vote)| (term, vote))
    }

    /// The log says of no position and of no entry that it is durable while it is not, nor does its note.
    pub(super) fn check_claims(&self, log: &Log<SimStorage>) -> Result<(), String> {
        let index = log.persisted_index();
        let claimed = log.term(index).map(|term| EntryId::new(term, index));
        if let Some(id) = claimed.filter(|id| !self.holds(*id)) {
            return Err(format!("the log calls {id} durable, and the disk does not hold it"));
        }
        let end = self.end.unwrap_or_default();
        for (who, durable) in [("log", log.durable_lsn()), ("note", log.storage().noted().durable)] {
            if self.end.is_some() && durable > end {
                return Err(format!("the {who} calls everything below {durable} durable, and the disk ends at {end}"));
            }
        }
        Ok(())
    }

    /// A message that `node` sends in its present term promises nothing but what is on its disk.
    pub(super) fn check_promise(
        &self,
        node: NodeId,
        to: NodeId,
        log: &Log<SimStorage>,
        message: &Message,
    ) -> Result<(), String> {
        let promised = match message {
            Message::AppendEntriesResponse { outcome, .. } => match outcome {
                AppendOutcome::Accepted { persisted_index, .. }
                | AppendOutcome::NoRoom { persisted_index, .. }
                | AppendOutcome::Damaged { persisted_index, .. } => *persisted_index,
                AppendOutcome::Rejected { .. } | AppendOutcome::OtherHistory { .. } => Index::ZERO,
            },
            Message::HeartbeatResponse { persisted_index, .. } => *persisted_index,
            // A candidate that was called by its leader makes its last entries durable together with its vote. A question that
            // waited may leave when another leads the term, and has superseded them.
            Message::RequestVote { last, .. } if log.term(last.index) == Some(last.term) => last.index,
            _ => Index::ZERO,
        };
        // A message that waited while its term ended may be about entries that the log has superseded since.
        let is_of_this_term = message.term() == log.hard_state().term;
        let entry = log.term(promised).map(|term| EntryId::new(term, promised)).filter(|_| is_of_this_term);
        if let Some(id) = entry.filter(|id| id.index > Index::ZERO && !self.holds(*id)) {
            return Err(format!("its disk does not hold {id}, and it says {message:?}"));
        }
        let votes_for = match message {
            Message::RequestVoteResponse { granted: true, .. } => Some(to),
            Message::RequestVote { .. }
            | Message::AppendEntries(_)
            | Message::Heartbeat { .. }
            | Message::TimeoutNow { .. } => Some(node),
            Message::RequestVoteResponse { granted: false, .. }
            | Message::AppendEntriesResponse { .. }
            | Message::HeartbeatResponse { .. }
            | Message::PreVoteResponse { .. }
            | Message::ReadIndexResponse { .. }
            | Message::RepairResponse { .. } => None,
            // They promise nothing.
            Message::RequestPreVote { .. }
            | Message::ReadIndexRequest { .. }
            | Message::RepairRequest { .. }
            | Message::BirthRequest { .. }
            | Message::BirthResponse { .. }
            | Message::Outdated { .. } => return Ok(()),
        };
        let term = message.term();
        let has_voted = votes_for.is_none_or(|node| self.vote == node.get());
        if self.term < term || (self.term == term && !has_voted) {
            let (on_disk, vote) = (self.term, self.vote);
            return Err(format!("its disk holds term {on_disk} and a vote for {vote}, and it says {message:?}"));
        }
        Ok(())
    }
}

fn lsn(disk: &SimStorage, seq: SegmentSeq, offset: usize) -> Lsn {
    Lsn::new(seq.get() * disk.segment_bytes() + offset as u64)
}

/// The whole frame at a place that follows the one before it, if there is one.
fn frame_at(disk: &SimStorage, place: Place) -> Option<(&FrameHeader, &[u8])> {
    let bytes = disk.durable_bytes(place.seq);
    let rest = bytes.get(place.offset..).filter(|rest| !rest.starts_with(&[0; 8]))?;
    let seed = HeaderSeed::new(SegmentHeader::parse(bytes).ok()?.nonce);
    let header = FrameHeader::at(rest, seed, lsn(disk, place.seq, place.offset))?;
    let payload = rest.get(FRAME_HEADER_BYTES..)?.get(..header.entry().payload_len())?;
    let follows = place.chain.is_none_or(|chain| chain == header.prev_header_crc());
    (follows && header.entry().verify(payload).is_ok()).then_some((header, payload))
}
