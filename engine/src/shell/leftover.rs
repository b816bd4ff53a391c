//! Closes the one descriptor that an executor of glommio 0.9 leaves behind: the eventfd by which other threads wake it.
//!
//! A task of glommio has a share in its executor's notifier, and gives it back to nobody: `destroy` in its `task/raw.rs` frees the task's
//! memory without dropping its head. So no notifier is ever dropped, and with it an eventfd and some KiB of memory would stay for each
//! executor that ended. The memory does; the descriptor is found and closed here. Nothing of glommio says which number it has, so it is
//! asked: a wake-up that comes after the executor's end adds one to the eventfd's count and does nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::future::poll_fn;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::task::{Poll, Waker};

use super::limits::{LEFTOVER_ROUNDS, LEFTOVER_WAKES_MIN, LEFTOVER_WAKES_MORE};

/// Where the kernel lists what this process has open.
const DESCRIPTORS: &str = "/proc/thread-self/fd";
/// And what it says of each.
const INFORMATION: &str = "/proc/thread-self/fdinfo";
/// What an eventfd is called there.
const EVENTFD: &str = "anon_inode:[eventfd]";
/// How its count is called there. Unit: wake-ups, in hexadecimal.
const COUNT: &str = "eventfd-count:";

/// What an executor will have left behind when its thread has ended.
pub(super) struct Leftover {
    /// Wakes a task of it.
    waker: Waker,
}

impl Leftover {
    /// Of the executor of the calling task. The task must be in a queue whose latency matters: only then is each wake-up written.
    pub(super) async fn of_this_executor() -> Self {
        poll_fn(|cx| Poll::Ready(Self { waker: cx.waker().clone() })).await
    }

    /// Closes the descriptor; says whether it was found. The thread of the executor must have ended, and no waker of a task of it may be
    /// left anywhere else: a wake-up would be written to whatever has the number then.
    pub(super) fn close(self) -> bool {
        let found = self.find();
        // Its own end would be a wake-up, too.
        std::mem::forget(self.waker);
        let Some(number) = found else { return false };
        // SAFETY: the descriptor is open and belongs to a notifier of glommio that is never dropped nor used again: its executor has
        // ended, and this was the last waker. Nobody else has counted exactly our wake-ups, round after round.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
        true
    }

    /// The eventfd whose count grows by just as many as there are wake-ups, each time.
    fn find(&self) -> Option<RawFd> {
        let numbers = wal::files::random_numbers::<LEFTOVER_ROUNDS>().ok()?;
        let mut found = None;
        for number in numbers {
            let wakes = LEFTOVER_WAKES_MIN + number % LEFTOVER_WAKES_MORE;
            let before = counts()?;
            (0..wakes).for_each(|_| self.waker.wake_by_ref());
            let after = counts()?;
            let grown = |(number, count): (&RawFd, &u64)| {
                let is_it = before.get(number).is_some_and(|before| *before + wakes == *count);
                is_it.then_some(*number)
            };
            let mut candidates = after.iter().filter_map(grown);
            let (one, another) = (candidates.next()?, candidates.next());
            if another.is_some() || found.replace(one).is_some_and(|before| before != one) {
                return None;
            }
        }
        found
    }
}

/// The eventfds of this process and their counts.
fn counts() -> Option<BTreeMap<RawFd, u64>> {
    let count_of = |entry: fs::DirEntry| {
        let number: RawFd = entry.file_name().to_str()?.parse().ok()?;
        if fs::read_link(entry.path()).ok()?.to_str()? != EVENTFD {
            return None;
        }
        let information = fs::read_to_string(format!("{INFORMATION}/{number}")).ok()?;
        let count = information.lines().find_map(|line| line.strip_prefix(COUNT))?;
        Some((number, u64::from_str_radix(count.trim(), 16).ok()?))
    };
    Some(fs::read_dir(DESCRIPTORS).ok()?.filter_map(|entry| count_of(entry.ok()?)).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use glommio::{Latency, LocalExecutorBuilder, Placement, Shares};

    use super::*;

    #[test]
    fn the_descriptor_of_an_executor_that_ended_is_found_and_closed() {
        let (told, leftovers) = mpsc::channel();
        let executor = LocalExecutorBuilder::new(Placement::Unbound).spawn(|| async move {
            let latency = Latency::Matters(Duration::from_millis(1));
            let queue = glommio::executor().create_task_queue(Shares::default(), latency, "hasty");
            let asked =
                glommio::spawn_local_into(Leftover::of_this_executor(), queue).expect("the queue was just made");
            told.send(asked.await).expect("the test listens");
        });
        executor.expect("a thread").join().expect("it ends");
        let leftover = leftovers.recv().expect("it was told");
        let number = leftover.find().expect("its executor has left it");
        assert_eq!(leftover.find(), Some(number), "each question gets the same answer");
        let identity = |number| fs::read_to_string(format!("{INFORMATION}/{number}"));
        let before = identity(number).expect("it is open");
        assert!(leftover.close());
        // Another test may have the number by now.
        assert!(!identity(number).is_ok_and(|now| now == before));
    }
}
