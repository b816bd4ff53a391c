//! Who waits for a call of a handle, and a thread that ends each wait when its time is over.
//!
//! The thread depends on no core, so a call ends in time whatever hangs: before the core took it, while a shard works on it, and while
//! the node stops. A call whose caller is gone is not given to a core any more. It reads no command and gives no answer but a refusal.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_channel::Sender;
use net::api::Status;

use super::handle::{HandleCall, HandleReply};
use super::limits::{HANDLE_QUEUE_LEN, TIMEOUT_MS_MAX};
use super::panics;
use crate::call::{Call, Refusal};

type Answer = Result<Vec<u8>, Refusal>;

/// The callers of a node. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Callers {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waits: Vec<Option<Wait>>,
    free: Vec<usize>,
    /// Calls that a core has not taken, each with the place of its wait.
    queue: VecDeque<(Place, HandleCall)>,
    /// Calls that wait for room in the queue, in their order. Some may be gone.
    room: VecDeque<Place>,
    /// Wakes the core's task that takes calls.
    taker: Option<Waker>,
    last_number: u64,
    /// When the thread looks again; `None`: nobody waits.
    look_at: Option<Instant>,
    is_over: bool,
    thread: Option<JoinHandle<()>>,
}

/// Names a wait. The number tells it from others that had its place.
type Place = (usize, u64);

/// A call that has no answer yet.
struct Wait {
    number: u64,
    until: Instant,
    caller: Sender<Answer>,
    writes: bool,
    is_taken: bool,
    /// Wakes the caller when there is room for its call.
    waker: Option<Waker>,
}

impl Wait {
    /// What is said when no answer is waited for any more.
    fn refusal(&self, status: Status, why: &str) -> Refusal {
        match (self.is_taken, self.writes) {
            (false, _) => Refusal::not_executed(status, format!("{why}, before the node took the call")),
            (true, false) => Refusal::not_executed(status, why.to_owned()),
            (true, true) => Refusal::unknown(status, format!("{why}; the write may still take effect")),
        }
    }

    /// Ends it with a refusal; returns whom to wake.
    fn refuse(self, status: Status, why: &str) -> Option<Waker> {
        // The channel has room for one answer, and the core's may have been first.
        drop(self.caller.try_send(Err(self.refusal(status, why))));
        self.waker
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("queued", &self.queue.len()).finish_non_exhaustive()
    }
}

impl State {
    fn wait(&mut self, (place, number): Place) -> Option<&mut Wait> {
        self.waits.get_mut(place)?.as_mut().filter(|wait| wait.number == number)
    }

    fn enter(&mut self, until: Instant, caller: Sender<Answer>, writes: bool) -> Place {
        self.last_number += 1;
        let number = self.last_number;
        let wait = Some(Wait { number, until, caller, writes, is_taken: false, waker: None });
        let place = self.free.pop().unwrap_or(self.waits.len());
        if place == self.waits.len() {
            self.waits.push(wait);
        } else {
            self.waits[place] = wait;
        }
        (place, number)
    }

    fn leave(&mut self, place: Place) -> Option<Wait> {
        self.wait(place)?;
        self.free.push(place.0);
        self.waits[place.0].take()
    }

    /// Whoever waits longest for room, if there is any. It is woken, and asks again.
    fn next_in_room(&mut self) -> Option<Waker> {
        while self.queue.len() < HANDLE_QUEUE_LEN
            && let Some(place) = self.room.pop_front()
        {
            if let Some(waker) = self.wait(place).and_then(|wait| wait.waker.take()) {
                return Some(waker);
            }
        }
        None
    }

    /// The first call that somebody still waits for.
    fn take(&mut self) -> Option<HandleCall> {
        while let Some((place, call)) = self.queue.pop_front() {
            if let Some(wait) = self.wait(place) {
                wait.is_taken = true;
                return Some(call);
            }
        }
        None
    }

    /// Takes out the waits whose time is over, and notes when the next one's is.
    fn take_late(&mut self, now: Instant) -> Vec<Wait> {
        let late = |wait: &mut Wait| wait.until <= now;
        let (mut taken, mut next): (Vec<Wait>, Option<Instant>) = (Vec::new(), None);
        for (place, wait) in self.waits.iter_mut().enumerate() {
            if let Some(wait) = wait.take_if(late) {
                self.free.push(place);
                taken.push(wait);
            } else if let Some(wait) = wait {
                next = Some(next.map_or(wait.until, |at| at.min(wait.until)));
            }
        }
        self.look_at = next;
        taken
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing of the program's own runs under the lock, and what runs there does not panic half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the thread does.
    fn keep_time(&self) {
        let mut state = self.lock();
        while !state.is_over {
            let now = Instant::now();
            state = match state.look_at {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(at) if at > now => {
                    self.changed.wait_timeout(state, at - now).unwrap_or_else(PoisonError::into_inner).0
                }
                Some(_) => {
                    let late = state.take_late(now);
                    drop(state);
                    for wait in late {
                        wait.refuse(Status::Timeout, "there was no answer in time").into_iter().for_each(Waker::wake);
                    }
                    self.lock()
                }
            };
        }
    }
}

impl Callers {
    /// Starts the thread.
    ///
    /// # Errors
    /// There can be no thread.
    pub(super) fn start(&self) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("quorate-callers".to_owned()).spawn(move || {
            panics::thread_is_node("the thread that ends calls");
            shared.keep_time();
        })?;
        self.shared.lock().thread = Some(thread);
        Ok(())
    }

    /// Gives a call to the node and waits for its answer, for as long as `timeout` and no longer.
    pub(super) async fn ask(&self, call: Call<'static>, timeout: Duration) -> Answer {
        let (caller, answer) = async_channel::bounded(1);
        let until = Instant::now() + timeout.min(Duration::from_millis(TIMEOUT_MS_MAX.into()));
        let place = self.enter(until, caller.clone(), call.kind.writes())?;
        let mut asking =
            Asking { callers: self, place, call: Some(HandleCall { call, reply: HandleReply::to(caller) }) };
        asking.hand_over().await;
        // Whoever waits here is answered: by the core, or when its time is over, or at the end.
        answer.recv().await.unwrap_or_else(|_closed| Err(has_stopped()))
    }

    fn enter(&self, until: Instant, caller: Sender<Answer>, writes: bool) -> Result<Place, Refusal> {
        let mut state = self.shared.lock();
        if state.is_over {
            return Err(has_stopped());
        }
        let place = state.enter(until, caller, writes);
        if state.look_at.is_none_or(|at| until < at) {
            state.look_at = Some(until);
            self.shared.changed.notify_one();
        }
        Ok(place)
    }

    /// The next call for the node. `None`: there will be no more. One task takes them.
    pub(super) fn next(&self) -> impl Future<Output = Option<HandleCall>> + use<> {
        let shared = Arc::clone(&self.shared);
        poll_fn(move |cx| {
            let mut state = shared.lock();
            let taken = state.take();
            let room = state.next_in_room();
            let is_pending = taken.is_none() && !state.is_over;
            state.taker = is_pending.then(|| cx.waker().clone());
            drop(state);
            room.into_iter().for_each(Waker::wake);
            if is_pending { Poll::Pending } else { Poll::Ready(taken) }
        })
    }

    /// Takes no more calls, answers all that wait, and ends the thread. Nobody wakes a task of a core here any more once this returns.
    pub(super) fn end(&self) {
        let mut state = self.shared.lock();
        state.is_over = true;
        let (waits, queue, taker) =
            (std::mem::take(&mut state.waits), std::mem::take(&mut state.queue), state.taker.take());
        let thread = state.thread.take();
        self.shared.changed.notify_all();
        drop(state);
        for wait in waits.into_iter().flatten() {
            wait.refuse(Status::ShuttingDown, "the node has stopped").into_iter().for_each(Waker::wake);
        }
        drop((queue, taker));
        if let Some(thread) = thread {
            thread.join().expect("a thread of the node that panics takes the process with it");
        }
    }
}

fn has_stopped() -> Refusal {
    Refusal::not_executed(Status::ShuttingDown, "the node has stopped")
}

/// A caller that waits; it leaves when it is dropped.
struct Asking<'a> {
    callers: &'a Callers,
    place: Place,
    /// Until it is in the queue.
    call: Option<HandleCall>,
}

impl Asking<'_> {
    /// Waits until the call has room in the queue, or nobody waits for it any more.
    async fn hand_over(&mut self) {
        poll_fn(|cx| {
            let mut state = self.callers.shared.lock();
            if state.wait(self.place).is_none() {
                return Poll::Ready(());
            }
            if state.queue.len() >= HANDLE_QUEUE_LEN {
                let is_new =
                    state.wait(self.place).is_some_and(|wait| wait.waker.replace(cx.waker().clone()).is_none());
                if is_new {
                    state.room.push_back(self.place);
                }
                return Poll::Pending;
            }
            if let Some(call) = self.call.take() {
                state.queue.push_back((self.place, call));
                // Under the lock: whoever ends the cores takes it before, and wakes none of their tasks too late.
                state.taker.take().into_iter().for_each(Waker::wake);
            }
            let room = state.next_in_room();
            drop(state);
            room.into_iter().for_each(Waker::wake);
            Poll::Ready(())
        })
        .await;
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut state = self.callers.shared.lock();
        let left = state.leave(self.place);
        // It may have been woken for room that it does not need now.
        let room = state.next_in_room();
        drop(state);
        drop(left);
        room.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};
    use net::api::Executed;

    use super::*;
    use crate::call::CallKind;
    use crate::types::ShardId;

    const LONG: Duration = Duration::from_mins(5);
    const SHORT: Duration = Duration::from_millis(20);

    fn started() -> Callers {
        let callers = Callers::default();
        callers.start().expect("a thread");
        callers
    }

    fn call(kind: CallKind) -> Call<'static> {
        Call::borrowed(ShardId::new(0), kind, 1, &[]).into_owned()
    }

    fn refused(answer: Answer) -> (Status, Executed) {
        let refusal = answer.expect_err("nobody answers");
        (refusal.status, refusal.executed)
    }

    #[test]
    fn a_call_ends_when_its_time_is_over_whether_it_was_taken_or_not() {
        let callers = started();
        let mut rests = Box::pin(callers.ask(call(CallKind::Write), LONG));
        assert!(block_on(poll_once(&mut rests)).is_none());
        assert_eq!(refused(block_on(callers.ask(call(CallKind::Write), SHORT))), (Status::Timeout, Executed::No));
        drop(rests);
        for (kind, executed) in [(CallKind::Write, Executed::Unknown), (CallKind::Read, Executed::No)] {
            let asking = callers.ask(call(kind), SHORT);
            let (answer, taken) = block_on(futures_lite::future::zip(asking, callers.next()));
            assert!(taken.is_some_and(|taken| taken.call.kind == kind), "those that are gone are not given to a core");
            assert_eq!(refused(answer), (Status::Timeout, executed));
        }
        callers.end();
    }

    #[test]
    fn whoever_waits_at_the_end_is_answered_and_later_calls_are_refused_at_once() {
        let callers = started();
        let (mut taken, mut waits) =
            (Box::pin(callers.ask(call(CallKind::Write), LONG)), Box::pin(callers.ask(call(CallKind::Write), LONG)));
        assert!(block_on(poll_once(&mut taken)).is_none());
        let reply = block_on(callers.next()).expect("a call");
        assert!(block_on(poll_once(&mut waits)).is_none());
        callers.end();
        assert_eq!(refused(block_on(taken)), (Status::ShuttingDown, Executed::Unknown));
        assert_eq!(refused(block_on(waits)), (Status::ShuttingDown, Executed::No));
        reply.reply.answer(Ok(b"too late"));
        assert_eq!(refused(block_on(callers.ask(call(CallKind::Read), LONG))), (Status::ShuttingDown, Executed::No));
        assert!(block_on(callers.next()).is_none());
    }

    #[test]
    fn calls_wait_for_room_in_their_order() {
        let callers = started();
        let ask = || Box::pin(callers.ask(call(CallKind::Read), LONG));
        let mut full: Vec<_> = (0..HANDLE_QUEUE_LEN).map(|_| ask()).collect();
        let is_waiting = |asking: &mut std::pin::Pin<Box<_>>| block_on(poll_once(asking)).is_none();
        assert!(full.iter_mut().all(is_waiting));
        let (mut first, mut second) = (ask(), ask());
        assert!(is_waiting(&mut first) && is_waiting(&mut second));
        assert_eq!(callers.shared.lock().queue.len(), HANDLE_QUEUE_LEN, "the queue is bounded");
        drop(first);
        block_on(callers.next()).expect("a call").reply.answer(Ok(b"answer"));
        assert_eq!(block_on(full.remove(0)), Ok(b"answer".to_vec()));
        assert!(is_waiting(&mut second) && callers.shared.lock().queue.len() == HANDLE_QUEUE_LEN, "it has the room");
        callers.end();
        assert!(full.into_iter().all(|asking| refused(block_on(asking)).0 == Status::ShuttingDown));
    }
}
