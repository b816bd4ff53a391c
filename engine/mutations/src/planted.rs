//! Which planted bug is switched on: at most one at a time in a thread.

use std::cell::Cell;

/// A planted bug. Its number is its place in `ALL`.
#[derive(Debug)]
pub struct Bug {
    /// Its name.
    pub name: &'static str,
    /// What the engine does with it.
    pub what: &'static str,
    /// It takes thousands of seeds to find: several rare things must coincide.
    pub is_rare: bool,
}

/// All of them.
pub const ALL: &[Bug] = include!(concat!(env!("OUT_DIR"), "/list.rs"));

thread_local! {
    static SWITCHED_ON: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Switches the bug with this number on in this thread, or all off.
pub fn switch(number: Option<usize>) {
    assert!(number.is_none_or(|number| number < ALL.len()), "there are {} bugs", ALL.len());
    SWITCHED_ON.set(number);
}

/// Whether the bug with this number is switched on in this thread.
#[must_use]
pub fn is(number: usize) -> bool {
    SWITCHED_ON.get() == Some(number)
}
