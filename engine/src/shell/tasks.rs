//! The tasks of one core, so that all of them end before their executor does.
//!
//! An executor that ends drops no future of a task that waits: what the future holds would stay for as long as the process lives, its
//! connections, files, mappings and the executor's own rings among it. So each task looks at every poll whether it is to end, and ends
//! then by dropping what it was doing. It does not decide when that is.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::Location;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::limits::{EXECUTOR_RING_ENTRIES, REQUESTS_PER_TASK_MAX, STOP_STEP_MS, TASKS_WITHIN_MS};

/// The tasks of one core.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    places: RefCell<Vec<Option<Place>>>,
    free: RefCell<Vec<usize>>,
    count: Cell<usize>,
    is_ending: Cell<bool>,
}

/// What is known of a task.
#[derive(Debug)]
struct Place {
    /// Where in the source it was started: its name, for people.
    started: &'static Location<'static>,
    /// Wakes it; `None` before it first ran.
    waker: Option<Waker>,
}

/// A task's place; given up when the task ends.
struct Entered {
    tasks: Rc<Tasks>,
    place: usize,
}

impl Tasks {
    /// The same task, which ends when all tasks of the core are to end. It counts from this call on.
    pub(super) fn enter<F: Future<Output = ()>>(
        self: &Rc<Self>,
        started: &'static Location<'static>,
        task: F,
    ) -> impl Future<Output = ()> + use<F> {
        let entered = self.take_place(started);
        async move {
            // Both are dropped in here, the task first: nothing of it is left when its place is free.
            let entered = entered;
            let mut task = pin!(task);
            let mut has_waker = false;
            poll_fn(|cx| {
                if entered.tasks.is_ending.get() {
                    return Poll::Ready(());
                }
                if !std::mem::replace(&mut has_waker, true) {
                    entered.note_waker(cx.waker());
                }
                task.as_mut().poll(cx)
            })
            .await;
        }
    }

    fn take_place(self: &Rc<Self>, started: &'static Location<'static>) -> Entered {
        let new = Some(Place { started, waker: None });
        let mut places = self.places.borrow_mut();
        let place = self.free.borrow_mut().pop().unwrap_or(places.len());
        if place == places.len() {
            places.push(new);
        } else {
            places[place] = new;
        }
        self.count.set(self.count.get() + 1);
        Entered { tasks: Rc::clone(self), place }
    }

    /// Ends all tasks, and those that are started meanwhile. Returns once none is left and the executor has told the kernel that nothing
    /// they asked it for is wanted any more.
    ///
    /// # Errors
    /// Some did not end in time: where in the source each was started.
    pub(super) async fn end(&self) -> Result<(), Vec<&'static Location<'static>>> {
        let most = self.count.get();
        self.is_ending.set(true);
        let wakers: Vec<Waker> =
            self.places.borrow().iter().flatten().filter_map(|place| place.waker.clone()).collect();
        wakers.into_iter().for_each(Waker::wake);
        let mut waited_ms = 0;
        while self.count.get() > 0 {
            if waited_ms >= TASKS_WITHIN_MS {
                return Err(self.places.borrow().iter().flatten().map(|place| place.started).collect());
            }
            glommio::timer::sleep(Duration::from_millis(STOP_STEP_MS)).await;
            waited_ms += STOP_STEP_MS;
        }
        // Each round of the executor hands as many cancellations to the kernel as a ring has entries. Until then the kernel keeps the
        // sockets and files that it was asked about.
        for _ in 0..2 + most * REQUESTS_PER_TASK_MAX / EXECUTOR_RING_ENTRIES {
            glommio::timer::sleep(Duration::from_micros(1)).await;
        }
        Ok(())
    }
}

impl Entered {
    fn note_waker(&self, waker: &Waker) {
        if let Some(Some(place)) = self.tasks.places.borrow_mut().get_mut(self.place) {
            place.waker = Some(waker.clone());
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let left = self.tasks.places.borrow_mut()[self.place].take();
        assert!(left.is_some(), "a task has one place");
        self.tasks.free.borrow_mut().push(self.place);
        self.tasks.count.set(self.tasks.count.get() - 1);
        // The waker last: it may free what the task had in the executor.
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spawn(tasks: &Rc<Tasks>, task: impl Future<Output = ()> + 'static) {
        glommio::spawn_local(tasks.enter(Location::caller(), task)).detach();
    }

    #[test]
    fn tasks_that_wait_drop_what_they_hold_when_all_are_to_end() {
        glommio::LocalExecutor::default().run(async {
            let (tasks, held) = (Rc::new(Tasks::default()), Rc::new(()));
            for _ in 0..3 {
                let held = Rc::clone(&held);
                spawn(&tasks, async move {
                    std::future::pending::<()>().await;
                    drop(held);
                });
            }
            spawn(&tasks, async {});
            glommio::timer::sleep(Duration::from_millis(1)).await;
            assert_eq!(tasks.count.get(), 3, "one has ended");
            spawn(&tasks, std::future::pending());
            assert_eq!((tasks.count.get(), tasks.places.borrow().len()), (4, 4), "its place was taken again");
            tasks.end().await.expect("they end");
            assert_eq!((Rc::strong_count(&held), tasks.count.get()), (1, 0));
            let late = Rc::clone(&held);
            spawn(&tasks, async move {
                std::future::pending::<()>().await;
                drop(late);
            });
            assert_eq!(Rc::strong_count(&held), 1, "one that comes later ends at once");
        });
    }

    #[test]
    fn a_task_that_does_not_end_is_named() {
        glommio::LocalExecutor::default().run(async {
            let tasks = Rc::new(Tasks::default());
            let stuck = tasks.enter(Location::caller(), std::future::pending());
            let line = line!() - 1;
            let left = tasks.end().await.expect_err("nobody polls it");
            assert!(left.len() == 1 && left[0].file().ends_with("tasks.rs") && left[0].line() == line, "{left:?}");
            drop(stuck);
            tasks.end().await.expect("it is gone");
        });
    }
}
