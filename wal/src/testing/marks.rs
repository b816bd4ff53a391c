//! Which coverage marks a thread reached: rare branches of the cores, named where they stand.

use std::cell::RefCell;
use std::collections::BTreeSet;

thread_local! {
    static REACHED: RefCell<BTreeSet<&'static str>> = const { RefCell::new(BTreeSet::new()) };
}

/// A mark was reached.
pub fn reach(name: &'static str) {
    REACHED.with_borrow_mut(|reached| reached.insert(name));
}

/// The marks that this thread reached since it was last asked.
#[must_use]
pub fn take() -> BTreeSet<&'static str> {
    REACHED.take()
}
