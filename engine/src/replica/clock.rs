//! The leader's reading of the log's time. It knows ticks and no clock; what the time means is the state machine's.

use crate::state_machine::batch::LogTime;
use crate::types::Term;

/// What a leader writes into its batches as their time.
///
/// Time goes on from what the state has seen when the leader makes its first batch of a term, by the leader's own ticks. Entries of
/// earlier leaders that were not applied yet may bear a later one; then the state keeps theirs, so that it never goes back.
#[derive(Debug, Default)]
pub(super) struct LogClock {
    /// The term in which this node began to count.
    term: Term,
    from: LogTime,
    from_tick: u64,
}

impl LogClock {
    /// The time for a batch that a leader of `term` begins now, where the state has seen `seen`.
    pub fn now(&mut self, term: Term, seen: LogTime, now_tick: u64, tick_ms: u64) -> LogTime {
        assert!(term >= self.term, "a node that led {} does not lead {term} afterwards", self.term);
        assert!(now_tick >= self.from_tick, "ticks only rise");
        if self.term != term {
            *self = Self { term, from: seen, from_tick: now_tick };
        }
        let own = self.from.after_ms((now_tick - self.from_tick).saturating_mul(tick_ms));
        let now = own.max(seen);
        assert!(now >= seen, "the log's time never goes back");
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_by_ticks_within_a_term_and_stands_between_leaders() {
        let mut clock = LogClock::default();
        let (first, second) = (Term::new(3), Term::new(5));
        assert_eq!(clock.now(first, LogTime::new(100), 7, 10), LogTime::new(100));
        assert_eq!(clock.now(first, LogTime::new(100), 9, 10), LogTime::new(120));
        // Entries of an earlier leader came to be applied.
        assert_eq!(clock.now(first, LogTime::new(500), 9, 10), LogTime::new(500));
        assert_eq!(clock.now(second, LogTime::new(510), 1_000, 10), LogTime::new(510));
        assert_eq!(clock.now(second, LogTime::new(510), 1_001, 10), LogTime::new(520));
    }
}
