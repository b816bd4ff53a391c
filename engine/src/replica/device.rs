//! What this replica asked of its log's device and has not got yet: a sync, entries that have left memory, the next segment, a sync
//! of the note (the small file beside the log, see `noted`). Also judges whether the device keeps up. It asks for nothing by itself.

use wal::SegmentSeq;

use super::noted::NoteSync;
use crate::limits::SLOW_MEMORY_FACTOR;
use crate::types::Index;

/// The log's device, as far as this replica has to do with it.
#[derive(Debug, Default)]
pub(super) struct DeviceWork {
    pub watch: DiskWatch,
    pub segment: NextSegment,
    pub note: NoteSync,
}

/// Watches the log's syncs, and the reads of entries that have left memory.
#[derive(Debug, Default)]
pub(super) struct DiskWatch {
    /// When the sync under way was asked for. Unit: ticks.
    sync_since_tick: Option<u64>,
    /// The entries that are being read in, first and last, and when that was asked for; in the order in which it was.
    reads: Vec<Read>,
    slow_until_tick: u64,
}

#[derive(Clone, Copy, Debug)]
struct Read {
    first: Index,
    last: Index,
    since_tick: u64,
}

impl DiskWatch {
    pub fn on_sync_started(&mut self, now_tick: u64) {
        assert!(self.sync_since_tick.is_none(), "a log has one sync under way");
        self.sync_since_tick = Some(now_tick);
    }

    pub fn on_sync_ended(&mut self) {
        assert!(self.sync_since_tick.is_some(), "a sync ended that was not asked for");
        self.sync_since_tick = None;
    }

    /// Entries were asked for, to be applied or for a follower. Each asks for one range at a time.
    pub fn on_read_started(&mut self, first: Index, last: Index, now_tick: u64) {
        assert!(first <= last, "{first} to {last} are read in");
        self.reads.push(Read { first, last, since_tick: now_tick });
    }

    pub fn on_read_ended(&mut self, first: Index, last: Index) {
        if let Some(at) = self.reads.iter().position(|read| (read.first, read.last) == (first, last)) {
            self.reads.remove(at);
        }
    }

    /// For how long the sync under way, or the oldest read, has lasted; 0 if there is none. Unit: ticks.
    #[must_use]
    pub(super) fn waits_ticks(&self, now_tick: u64) -> u64 {
        let oldest_read = self.reads.first().map(|read| read.since_tick);
        let since = self.sync_since_tick.into_iter().chain(oldest_read).min();
        since.map_or(0, |since_tick| {
            assert!(since_tick <= now_tick, "what waits was asked for before");
            now_tick - since_tick
        })
    }

    /// Whether syncs and reads end within `limit_ticks`, and did so for a while; 0 = no limit.
    #[must_use]
    pub fn keeps_up(&mut self, now_tick: u64, limit_ticks: u64) -> bool {
        if limit_ticks == 0 {
            return true;
        }
        let is_late = |since_tick: u64| now_tick >= since_tick + limit_ticks;
        let sync_is_late = self.sync_since_tick.is_some_and(is_late);
        let read_is_late = self.reads.first().is_some_and(|read| is_late(read.since_tick));
        if sync_is_late || read_is_late {
            mark!("replica: a sync takes too long" if sync_is_late);
            mark!("replica: a read of old entries takes too long" if read_is_late);
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
    /// It could not be prepared so far. The shell keeps trying; a second request would make the segment twice.
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
        let mut watch = DiskWatch::default();
        assert_eq!(watch.waits_ticks(10), 0);
        watch.on_sync_started(10);
        assert_eq!(watch.waits_ticks(19), 9);
        assert!(watch.keeps_up(19, 10) && watch.keeps_up(1_000, 0));
        assert!(!watch.keeps_up(20, 10));
        watch.on_sync_ended();
        assert_eq!(watch.waits_ticks(99), 0);
        assert!(!watch.keeps_up(99, 10));
        assert!(watch.keeps_up(100, 10));
    }

    #[test]
    fn a_disk_that_does_not_give_old_entries_is_slow() {
        let (one, two, three) = (Index::new(1), Index::new(2), Index::new(3));
        let mut watch = DiskWatch::default();
        watch.on_read_started(one, two, 10);
        watch.on_read_started(one, two, 15);
        watch.on_read_started(two, three, 18);
        assert!(watch.keeps_up(19, 10));
        watch.on_read_ended(one, two);
        assert!(watch.keeps_up(24, 10), "the second one who asked waits for less");
        watch.on_read_ended(two, three);
        assert!(!watch.keeps_up(25, 10));
        watch.on_read_ended(one, two);
        assert!(!watch.keeps_up(104, 10) && watch.keeps_up(105, 10));
    }
}
