//! The power of several file systems, and the moment at which it goes: from then on no request changes anything.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a request does, as far as the moment of a cut depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only looks.
    Look,
    /// It changes bytes or the length of a file.
    Bytes,
    /// It changes a name.
    Name,
    /// It makes bytes durable.
    Sync,
    /// It makes names durable.
    SyncNames,
}

/// When the power is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// Requests of this kind count; `None`: all that change something.
    pub kind: Option<Kind>,
    /// The power goes before the request of this number, from 1.
    pub number: u64,
    /// That request is still done, and the power goes before the next one of any kind.
    pub is_after: bool,
}

#[derive(Debug, Default)]
struct State {
    /// One bit for each file system that has no power.
    off: u64,
    /// Whose power is to go, and when.
    armed: Option<(u64, Trigger)>,
}

/// The power supply of up to 64 file systems.
#[derive(Debug, Default)]
pub struct Supply {
    state: Mutex<State>,
}

impl Supply {
    /// The power of `victims` (one bit each) is going to go.
    pub fn arm(&self, victims: u64, trigger: Trigger) {
        assert!(trigger.number > 0, "requests are counted from 1");
        self.state().armed = Some((victims, trigger));
    }

    /// Whether what was armed has happened.
    pub fn has_gone(&self) -> bool {
        self.state().armed.is_none()
    }

    /// Takes the power of `victims` now, whatever was armed.
    pub fn take(&self, victims: u64) {
        let mut state = self.state();
        state.off |= victims;
        state.armed = None;
    }

    /// Gives power back.
    pub fn give(&self, victims: u64) {
        self.state().off &= !victims;
    }

    /// A request of file system `member` is about to be done. `false`: it has no power any more.
    pub(crate) fn passes(&self, member: u8, kind: Kind) -> bool {
        let mut state = self.state();
        let own = 1 << member;
        if let Some((victims, trigger)) = &mut state.armed
            && *victims & own != 0
        {
            let counts = trigger.kind.map_or(kind != Kind::Look, |counted| counted == kind);
            let is_due = trigger.number == 0 || counts && trigger.number == 1 && !trigger.is_after;
            trigger.number = trigger.number.saturating_sub(u64::from(counts));
            if is_due {
                let victims = *victims;
                state.off |= victims;
                state.armed = None;
            }
        }
        state.off & own == 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// Locks what a panic elsewhere leaves whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_power_goes_before_the_request_that_was_named_or_after_it() {
        let supply = Supply::default();
        for is_after in [false, true] {
            supply.give(u64::MAX);
            supply.arm(0b11, Trigger { kind: Some(Kind::Sync), number: 2, is_after });
            assert!(supply.passes(0, Kind::Sync) && supply.passes(1, Kind::Bytes) && supply.passes(2, Kind::Sync));
            assert_eq!(supply.passes(1, Kind::Sync), is_after, "the second sync");
            assert!(!supply.passes(0, Kind::Look) && supply.has_gone());
            assert!(!supply.passes(1, Kind::Look) && supply.passes(2, Kind::Look));
        }
    }

    #[test]
    fn power_can_be_taken_and_given() {
        let supply = Supply::default();
        supply.arm(0b1, Trigger { kind: None, number: 9, is_after: false });
        supply.take(0b10);
        assert!(supply.has_gone() && supply.passes(0, Kind::Sync) && !supply.passes(1, Kind::Look));
        supply.give(0b10);
        assert!(supply.passes(1, Kind::Bytes));
    }
}
