//! What this replica asked of its log's device and has not got yet, and how the device is: a sync, the next segment, a sync of the
//! note. It asks for nothing by itself.

use wal::SegmentSeq;

use super::noted::NoteSync;

use crate::limits::SLOW_MEMORY_FACTOR;

/// The log's device, as far as this replica has to do with it.
#[derive(Debug, Default)]
pub(super) struct Device {
    pub syncs: SyncWatch,
    pub segment: NextSegment,
    pub note: NoteSync,
}

/// Watches the log's syncs.
#[derive(Debug, Default)]
pub(super) struct SyncWatch {
    since_tick: Option<u64>,
    slow_until_tick: u64,
}

impl SyncWatch {
    pub fn on_started(&mut self, now_tick: u64) {
        assert!(self.since_tick.is_none(), "a log has one sync under way");
        self.since_tick = Some(now_tick);
    }

    pub fn on_ended(&mut self) {
        assert!(self.since_tick.is_some(), "a sync ended that was not asked for");
        self.since_tick = None;
    }

    /// Whether syncs end within `limit_ticks`, and did so for a while; 0 = no limit.
    #[must_use]
    pub fn keeps_up(&mut self, now_tick: u64, limit_ticks: u64) -> bool {
        if limit_ticks == 0 {
            return true;
        }
        if self.since_tick.is_some_and(|since| now_tick >= since + limit_ticks) {
            mark!("replica: a sync takes too long");
            self.slow_until_tick = now_tick + limit_ticks.saturating_mul(SLOW_MEMORY_FACTOR);
        }
        now_tick >= self.slow_until_tick
    }
}

/// The segment that the log needs next.
#[derive(Debug, Default)]
pub(super) enum NextSegment {
    /// Nothing is asked for.
    #[default]
    Idle,
    /// It is being prepared.
    Asked {
        /// When the log first could not go on without it. Unit: ticks.
        missed_tick: Option<u64>,
    },
    /// It could not be prepared so far. Whoever prepares it goes on trying; a second request would make it twice.
    Unavailable {
        /// Why, for refusals.
        reason: String,
    },
}

impl NextSegment {
    /// What to ask for now, if anything. `needed` says what the log needs.
    #[must_use]
    pub fn ask(&mut self, needed: impl FnOnce() -> Option<SegmentSeq>) -> Option<SegmentSeq> {
        match self {
            Self::Idle => needed().inspect(|_| *self = Self::Asked { missed_tick: None }),
            Self::Asked { .. } | Self::Unavailable { .. } => None,
        }
    }

    pub fn on_prepared(&mut self) {
        assert!(!matches!(self, Self::Idle), "a segment was prepared that was not asked for");
        *self = Self::Idle;
    }

    pub fn on_unavailable(&mut self, reason: String) {
        assert!(!matches!(self, Self::Idle), "a segment could not be prepared that was not asked for: {reason}");
        *self = Self::Unavailable { reason };
    }

    /// Why no segment could be prepared, while that is so.
    #[must_use]
    pub fn shortage(&self) -> Option<&str> {
        match self {
            Self::Unavailable { reason } => Some(reason),
            Self::Idle | Self::Asked { .. } => None,
        }
    }

    /// The log cannot go on without it.
    pub(super) fn on_missed(&mut self, now_tick: u64) {
        if let Self::Asked { missed_tick } = self {
            missed_tick.get_or_insert(now_tick);
        }
    }

    /// Whether the log can go on, or waits for the segment for less than `limit_ticks`; 0 = no limit. A disk on which a segment takes
    /// for ever is no better than a full one.
    #[must_use]
    pub(super) fn has_room(&self, now_tick: u64, limit_ticks: u64) -> bool {
        match self {
            Self::Idle | Self::Asked { missed_tick: None } => true,
            Self::Asked { missed_tick: Some(missed_tick) } => {
                let is_late = limit_ticks > 0 && now_tick >= missed_tick + limit_ticks;
                mark!("replica: a segment takes too long" if is_late);
                !is_late
            }
            Self::Unavailable { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_asked_for_once_until_it_is_there() {
        let mut segment = NextSegment::default();
        assert_eq!(segment.ask(|| None), None);
        assert_eq!(segment.ask(|| Some(SegmentSeq::FIRST)), Some(SegmentSeq::FIRST));
        segment.on_unavailable("no space".to_owned());
        assert_eq!(segment.shortage(), Some("no space"));
        assert_eq!(segment.ask(|| Some(SegmentSeq::FIRST)), None);
        segment.on_prepared();
        assert_eq!(segment.shortage(), None);
        assert!(segment.ask(|| Some(SegmentSeq::FIRST)).is_some());
    }

    #[test]
    fn a_segment_that_takes_long_is_no_room_once_the_log_waits_for_it() {
        let mut segment = NextSegment::default();
        segment.on_missed(0);
        assert!(
            segment.ask(|| Some(SegmentSeq::FIRST)).is_some() && segment.has_room(1_000, 10),
            "nothing waits for it"
        );
        segment.on_missed(1_000);
        segment.on_missed(1_005);
        assert!(segment.has_room(1_009, 10) && !segment.has_room(1_010, 10) && segment.has_room(9_000, 0));
        segment.on_unavailable("no space".to_owned());
        assert!(!segment.has_room(1_000, 0));
        segment.on_prepared();
        assert!(segment.has_room(9_000, 10));
    }

    #[test]
    fn a_disk_that_was_slow_counts_as_slow_for_a_while() {
        let mut syncs = SyncWatch::default();
        syncs.on_started(10);
        assert!(syncs.keeps_up(19, 10) && syncs.keeps_up(1_000, 0));
        assert!(!syncs.keeps_up(20, 10));
        syncs.on_ended();
        assert!(!syncs.keeps_up(99, 10));
        assert!(syncs.keeps_up(100, 10));
    }
}
