//! The log's time as its leader reads it. It knows ticks and no clock; what the time means is the state machine's.

use crate::state_machine::batch::LogTime;
use crate::types::Term;

/// What a leader writes into its batches as their time. It runs from the election on, whether anything is proposed or not.
///
/// It goes on by the leader's own ticks, from what the state had seen when the leader was elected. Entries of earlier leaders that were
/// not applied by then may bear a later time; then it goes on from that one, so that it never goes back.
#[derive(Debug, Default)]
pub(super) struct LogClock {
    /// The term in which this node began to count.
    term: Term,
    from: LogTime,
    from_tick: u64,
}

impl LogClock {
    /// This node leads from now on, where its state has seen `seen`.
    pub fn begin(&mut self, term: Term, seen: LogTime, now_tick: u64) {
        assert!(term > self.term, "a node that led {} does not lead {term} afterwards", self.term);
        *self = Self { term, from: seen, from_tick: now_tick };
    }

    /// The state has come to `seen`.
    pub fn see(&mut self, seen: LogTime, now_tick: u64, tick_ms: u64) {
        if seen > self.at(now_tick, tick_ms) {
            (self.from, self.from_tick) = (seen, now_tick);
        }
    }

    /// The time for an entry that the leader of `term` makes now.
    pub fn now(&self, term: Term, now_tick: u64, tick_ms: u64) -> LogTime {
        assert!(term == self.term, "the clock was begun in term {}, and this is {term}", self.term);
        self.at(now_tick, tick_ms)
    }

    fn at(&self, now_tick: u64, tick_ms: u64) -> LogTime {
        assert!(now_tick >= self.from_tick, "ticks only rise");
        self.from.after_ms((now_tick - self.from_tick).saturating_mul(tick_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_by_ticks_from_the_election_and_from_what_the_state_has_seen_since() {
        let mut clock = LogClock::default();
        let (first, second) = (Term::new(3), Term::new(5));
        clock.begin(first, LogTime::new(100), 7);
        assert_eq!(clock.now(first, 7, 10), LogTime::new(100));
        assert_eq!(clock.now(first, 9, 10), LogTime::new(120));
        clock.see(LogTime::new(110), 9, 10);
        assert_eq!(clock.now(first, 9, 10), LogTime::new(120));
        // Entries of an earlier leader came to be applied.
        clock.see(LogTime::new(500), 9, 10);
        assert_eq!(clock.now(first, 9, 10), LogTime::new(500));
        assert_eq!(clock.now(first, 12, 10), LogTime::new(530));
        clock.begin(second, LogTime::new(510), 1_000);
        assert_eq!(clock.now(second, 1_001, 10), LogTime::new(520));
    }

    #[test]
    #[should_panic(expected = "the clock was begun in term 3, and this is 4")]
    fn a_term_has_no_time_before_its_election() {
        let mut clock = LogClock::default();
        clock.begin(Term::new(3), LogTime::new(100), 7);
        let _ = clock.now(Term::new(4), 8, 10);
    }
}
