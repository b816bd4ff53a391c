//! Group commit: which part of the log the next sync covers, and how far the log is durable.
//!
//! It performs no sync. One is in flight at a time; what is appended meanwhile is covered by the next one, so batches
//! grow with load and there is no timer. A sync never spans segments and the older segment goes first, so that what is
//! durable is always a prefix of the log.

use std::collections::VecDeque;
use std::fmt;

use crate::limits::FIRST_FRAME_OFFSET;
use crate::lsn::{Geometry, SegmentSeq};
use crate::types::Lsn;

/// Names one sync of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SyncId(u64);

impl SyncId {
    /// The raw number; counts up from 1 since the log was opened.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// A sync that the log wants. Everything in the range was stored before the request was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "nothing is durable before the sync was performed"]
pub struct SyncRequest {
    /// Names the sync in `on_synced`.
    pub id: SyncId,
    /// The segment.
    pub seq: SegmentSeq,
    /// Where the part that is not durable yet begins. Unit: bytes.
    pub start_offset: u64,
    /// Where it ends. Unit: bytes.
    pub end_offset: u64,
    /// How far the log is durable once this sync has completed; fixed here, whatever is appended meanwhile.
    pub upto: Lsn,
}

/// Why a sync failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncFailure {
    /// What the system said.
    pub reason: String,
}

impl SyncFailure {
    /// A failure with the system's words.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

impl fmt::Display for SyncFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// How far the log is durable, and what is on its way there.
#[derive(Debug)]
pub(crate) struct GroupCommit {
    geometry: Geometry,
    /// Everything below is durable. Invariant: the end of a frame, or where the log's first frame will be.
    durable: Lsn,
    in_flight: Option<SyncRequest>,
    /// Ends of segments that are written to no more and not durable to their end. Oldest first.
    sealed: VecDeque<(SegmentSeq, usize)>,
    last_id: u64,
}

impl GroupCommit {
    pub(crate) fn new(geometry: Geometry, durable: Lsn) -> Self {
        Self { geometry, durable, in_flight: None, sealed: VecDeque::new(), last_id: 0 }
    }

    pub(crate) fn durable(&self) -> Lsn {
        self.durable
    }

    /// The writer has left segment `seq`, whose last frame ends at `end_offset`.
    pub(crate) fn seal(&mut self, seq: SegmentSeq, end_offset: usize) {
        assert!(end_offset > FIRST_FRAME_OFFSET, "segment {seq} was left without its origin");
        if self.geometry.lsn(seq, end_offset) > self.durable {
            assert!(self.sealed.back().is_none_or(|(last, _)| *last < seq), "segments are sealed in order");
            self.sealed.push_back((seq, end_offset));
        }
    }

    /// The next sync, if one is due: the oldest segment with something that is not durable, up to its last frame.
    ///
    /// `seq` and `end_offset`: segment being written, and the end of its last complete frame. A batch being formed lies
    /// beyond that and is not covered.
    #[must_use]
    pub(crate) fn next(&mut self, seq: SegmentSeq, end_offset: usize) -> Option<SyncRequest> {
        if self.in_flight.is_some() {
            return None;
        }
        assert!(self.sealed.back().is_none_or(|(last, _)| *last < seq), "a segment that was left is written to");
        let (seq, end_offset) = self.sealed.front().copied().unwrap_or((seq, end_offset));
        let upto = self.geometry.lsn(seq, end_offset);
        if upto <= self.durable || end_offset == FIRST_FRAME_OFFSET {
            return None;
        }
        let start = match self.geometry.split(self.durable) {
            Some((durable_seq, offset)) if durable_seq == seq => offset,
            _ => FIRST_FRAME_OFFSET,
        };
        assert!(start < end_offset, "a sync of {seq} covers nothing: {start}..{end_offset}");
        mark!("log: a sync goes to a segment that was left" if !self.sealed.is_empty());
        self.last_id += 1;
        let (start_offset, end_offset) = (start as u64, end_offset as u64);
        let request = SyncRequest { id: SyncId(self.last_id), seq, start_offset, end_offset, upto };
        self.in_flight = Some(request);
        Some(request)
    }

    /// Ends the sync in flight. Panics if `id` is another: a sync that nobody asked for proves nothing.
    pub(crate) fn end(&mut self, id: SyncId, succeeded: bool) -> SyncRequest {
        let request = self.in_flight.take().expect("a sync ended although none is in flight");
        assert_eq!(request.id, id, "another sync is in flight");
        if succeeded {
            assert!(request.upto > self.durable, "durability only grows");
            self.durable = request.upto;
            // A segment may have been sealed while the sync ran, with frames that the sync does not cover.
            let geometry = self.geometry;
            if self.sealed.front().is_some_and(|(seq, end)| geometry.lsn(*seq, *end) <= self.durable) {
                self.sealed.pop_front();
            }
            assert!(
                self.sealed.front().is_none_or(|(seq, end)| geometry.lsn(*seq, *end) > self.durable),
                "one sync makes one segment durable"
            );
        }
        request
    }
}
