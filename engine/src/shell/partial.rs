//! Messages of which only a part has arrived: how much memory they may hold, and for how long.
//!
//! Whoever connects can send half of a request and leave it at that. What has arrived is kept until the rest comes, so the
//! halves of all connections of a core count against one bound; beyond it the oldest is given up. One that makes no progress is
//! given up as well. So do whole messages that arrived and are not taken yet, but these have all the time. The owner of the
//! connection closes it then. It knows nothing of what the messages mean.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use futures_lite::{AsyncRead, FutureExt};
use net::deframer::Deframer;

use super::limits::{
    BYTES_PER_MS_MIN, PARTIAL_MS_MAX, READ_BYTES_MAX, SPARE_BUFFER_BYTES_MAX, SPARE_BUFFERS_MAX, SWEEP_MS,
};

/// The parts of one core's connections of one kind.
#[derive(Debug)]
pub struct Partials {
    /// Memory that parts may hold. Unit: bytes.
    bytes_limit: usize,
    state: RefCell<State>,
    /// Read buffers that nobody uses; `None`: each connection keeps its own.
    spare: Option<RefCell<Vec<Vec<u8>>>>,
}

#[derive(Debug, Default)]
struct State {
    last_number: u64,
    /// Sum over `parts`. Unit: bytes.
    bytes: usize,
    /// By number, so the oldest first, without those that were given up.
    parts: BTreeMap<u64, Part>,
}

#[derive(Debug)]
struct Part {
    bytes: usize,
    since: Instant,
    /// Whole messages wait in it, so the other side has done what it can.
    is_whole: bool,
    owner: Rc<Owner>,
}

/// What a connection and its part share.
#[derive(Debug, Default)]
struct Owner {
    given_up: Cell<Option<GivenUp>>,
    /// The task that waits for the part to be given up.
    waker: RefCell<Option<Waker>>,
}

/// Why a part was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// Newer parts needed its room.
    NoRoom,
    /// The rest did not come.
    TooSlow,
}

impl fmt::Display for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRoom => {
                "a message was not complete, or not taken yet, when newer ones needed its room; send it again"
            }
            Self::TooSlow => "the rest of a message did not come in time; send it again, faster",
        })
    }
}

/// The part of one connection. It counts until this is dropped.
#[derive(Debug)]
pub struct Partial {
    partials: Rc<Partials>,
    /// Number of the part; 0 = there is none.
    number: Cell<u64>,
    owner: Rc<Owner>,
}

impl Partials {
    /// Parts that together may hold `bytes_limit`, which must be enough for the largest message.
    pub fn new(bytes_limit: usize) -> Rc<Self> {
        Rc::new(Self { bytes_limit, state: RefCell::default(), spare: None })
    }

    /// The same for thousands of connections: while one waits for bytes and holds no part, others use its read buffer.
    pub(super) fn of_many(bytes_limit: usize) -> Rc<Self> {
        Rc::new(Self { bytes_limit, state: RefCell::default(), spare: Some(RefCell::default()) })
    }

    /// Gives a read buffer to a connection without one, if there is one of its size.
    fn lend_buffer(&self, deframer: &mut Deframer) {
        let Some((spare, bytes)) = self.spare.as_ref().zip(deframer.missing_buffer_bytes()) else { return };
        let mut spare = spare.borrow_mut();
        if let Some(at) = spare.iter().rposition(|buffer| buffer.len() == bytes) {
            deframer.give_buffer(spare.swap_remove(at));
        }
    }

    /// Takes the read buffer of a connection that has nothing in it.
    fn take_buffer_back(&self, deframer: &mut Deframer) {
        let Some(spare) = &self.spare else { return };
        let Some(buffer) = deframer.take_buffer() else { return };
        let mut spare = spare.borrow_mut();
        let alike = spare.iter().filter(|other| other.len() == buffer.len()).count();
        if buffer.len() <= SPARE_BUFFER_BYTES_MAX && alike < SPARE_BUFFERS_MAX {
            spare.push(buffer);
        }
    }

    /// A connection without a part.
    pub fn connection(self: &Rc<Self>) -> Partial {
        Partial { partials: Rc::clone(self), number: Cell::new(0), owner: Rc::default() }
    }

    /// Gives up parts that have waited for too long.
    fn sweep(&self, now: Instant) {
        let is_late = |part: &Part| {
            if part.is_whole {
                return false;
            }
            let waited_ms = u64::try_from(now.saturating_duration_since(part.since).as_millis()).unwrap_or(u64::MAX);
            waited_ms > PARTIAL_MS_MAX + part.bytes as u64 / BYTES_PER_MS_MIN
        };
        let mut state = self.state.borrow_mut();
        let late: Vec<u64> = state.parts.iter().filter(|(_, part)| is_late(part)).map(|(number, _)| *number).collect();
        for number in late {
            state.give_up(number, GivenUp::TooSlow);
        }
    }

    /// Gives up parts that have waited for too long, again and again. Never ends.
    pub async fn sweep_now_and_then(self: Rc<Self>) {
        loop {
            glommio::timer::sleep(Duration::from_millis(SWEEP_MS)).await;
            self.sweep(Instant::now());
        }
    }
}

impl State {
    fn remove(&mut self, number: u64) -> Option<Part> {
        let part = self.parts.remove(&number)?;
        self.bytes -= part.bytes;
        Some(part)
    }

    /// Takes a part out and tells its owner.
    fn give_up(&mut self, number: u64, why: GivenUp) {
        let Some(part) = self.remove(number) else { return };
        part.owner.given_up.set(Some(why));
        if let Some(waker) = part.owner.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Partial {
    /// Notes that `held_bytes` are held for a message that is not complete; 0 = there is none. `is_new`: it is another message than the
    /// last one.
    fn hold(&self, held_bytes: usize, is_new: bool) {
        self.hold_as(held_bytes, is_new, false);
    }

    fn hold_as(&self, held_bytes: usize, is_new: bool, is_whole: bool) {
        let mut number = self.number.get();
        if held_bytes == 0 && number == 0 {
            return;
        }
        let mut state = self.partials.state.borrow_mut();
        if held_bytes == 0 || is_new {
            state.remove(number);
            number = 0;
        }
        if held_bytes > 0 && number == 0 {
            state.last_number += 1;
            number = state.last_number;
            state.bytes += held_bytes;
            let part = Part { bytes: held_bytes, since: Instant::now(), is_whole, owner: Rc::clone(&self.owner) };
            state.parts.insert(number, part);
        } else if let Some(part) = state.parts.get_mut(&number) {
            let before = std::mem::replace(&mut part.bytes, held_bytes);
            state.bytes = state.bytes - before + held_bytes;
        }
        self.number.set(number);
        while state.bytes > self.partials.bytes_limit
            && let Some((&oldest, _)) = state.parts.first_key_value()
        {
            state.give_up(oldest, GivenUp::NoRoom);
        }
    }

    /// Waits until the part is given up; for ever if there is none. One task may wait.
    async fn given_up(&self) -> GivenUp {
        poll_fn(|cx| match self.owner.given_up.get() {
            Some(why) => Poll::Ready(why),
            None => {
                *self.owner.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

impl Partial {
    /// Waits for something, and counts what the deframer holds meanwhile: messages that are not taken yet. Says why, if it is given up.
    pub(super) async fn pause(&self, deframer: &Deframer, until: impl Future<Output = ()>) -> Option<GivenUp> {
        self.hold_as(deframer.held_bytes(), true, true);
        let go_on = async {
            until.await;
            None
        };
        let given_up = go_on.or(async { Some(self.given_up().await) }).await;
        self.hold(0, true);
        given_up
    }
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// Some bytes; they are in the deframer.
    Bytes,
    /// The other side closed its sending side.
    End,
    /// What has arrived of a message was given up: the connection must be closed.
    GivenUp(GivenUp),
}

impl Partial {
    /// Reads once, and counts what the deframer holds meanwhile. `is_new`: a whole message was taken since the last read.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn read(
        &self,
        reading: &mut (impl AsyncRead + Unpin),
        deframer: &mut Deframer,
        is_new: bool,
    ) -> io::Result<Arrived> {
        let is_partial = deframer.partial_bytes() > 0;
        if is_partial {
            // Making space is what takes memory.
            let _offered = deframer.space();
        }
        self.hold(if is_partial { deframer.held_bytes() } else { 0 }, is_new);
        let reading = poll_fn(|cx| {
            self.partials.lend_buffer(deframer);
            let space = deframer.space();
            let most = space.len().min(READ_BYTES_MAX);
            let read = Pin::new(&mut *reading).poll_read(cx, space.get_mut(..most).unwrap_or_default());
            if read.is_pending() {
                self.partials.take_buffer_back(deframer);
            }
            read
        });
        let read = async {
            match reading.await? {
                0 => Ok::<_, io::Error>((Arrived::End, 0)),
                read => Ok((Arrived::Bytes, read)),
            }
        };
        let given_up = async { Ok((Arrived::GivenUp(self.given_up().await), 0)) };
        let (arrived, read) = read.or(given_up).await?;
        deframer.advance(read);
        Ok(arrived)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        self.partials.state.borrow_mut().remove(self.number.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given_up(partial: &Partial) -> Option<GivenUp> {
        futures_lite::future::block_on(futures_lite::future::poll_once(partial.given_up()))
    }

    #[test]
    fn the_oldest_part_makes_room_and_a_part_that_became_whole_counts_no_more() {
        let partials = Partials::new(100);
        let connections: Vec<Partial> = (0..4).map(|_| partials.connection()).collect();
        connections[0].hold(40, true);
        connections[1].hold(40, true);
        connections[0].hold(0, false);
        connections[2].hold(40, true);
        assert!(connections.iter().all(|connection| given_up(connection).is_none()));
        connections[0].hold(30, true);
        let expected = [None, Some(GivenUp::NoRoom), None, None];
        assert_eq!(connections.iter().map(given_up).collect::<Vec<_>>(), expected, "the second is the oldest now");
        // A part that grows stays as old as it was, and another message is a new part.
        connections[2].hold(20, true);
        connections[0].hold(60, false);
        connections[3].hold(30, true);
        let expected = [Some(GivenUp::NoRoom), Some(GivenUp::NoRoom), None, None];
        assert_eq!(connections.iter().map(given_up).collect::<Vec<_>>(), expected);
        drop(connections);
        assert_eq!(partials.state.borrow().bytes, 0);
        assert!(partials.state.borrow().parts.is_empty());
    }

    #[test]
    fn a_part_waits_for_so_long_and_longer_if_much_of_it_arrived() {
        let partials = Partials::new(10 << 20);
        let [small, large, none] = [(); 3].map(|()| partials.connection());
        small.hold(1, true);
        large.hold(5 << 20, true);
        none.hold(1, true);
        none.hold(0, false);
        let began = Instant::now();
        let after = |ms: u64| began + Duration::from_millis(ms);
        partials.sweep(after(PARTIAL_MS_MAX - 1_000));
        assert_eq!([given_up(&small), given_up(&large), given_up(&none)], [None; 3]);
        partials.sweep(after(PARTIAL_MS_MAX + 1_000));
        assert_eq!([given_up(&small), given_up(&large), given_up(&none)], [Some(GivenUp::TooSlow), None, None]);
        partials.sweep(after(PARTIAL_MS_MAX + 1_000 + (5 << 20) / BYTES_PER_MS_MIN));
        assert_eq!([given_up(&large), given_up(&none)], [Some(GivenUp::TooSlow), None]);
    }

    #[test]
    fn messages_that_are_not_taken_make_room_and_have_all_the_time() {
        let partials = Partials::new(10_000);
        let [paused, other] = [(); 2].map(|()| partials.connection());
        let mut deframer = Deframer::new(1 << 20);
        deframer.feed(&[7; 100]);
        let pause = paused.pause(&deframer, std::future::pending());
        let mut pause = Box::pin(pause);
        let mut poll = || futures_lite::future::block_on(futures_lite::future::poll_once(&mut pause));
        assert_eq!((poll(), partials.state.borrow().bytes), (None, deframer.held_bytes()));
        partials.sweep(Instant::now() + Duration::from_millis(10 * PARTIAL_MS_MAX));
        assert_eq!(poll(), None);
        other.hold(10_000, true);
        assert_eq!((poll(), given_up(&other)), (Some(Some(GivenUp::NoRoom)), None));
        assert_eq!(partials.state.borrow().bytes, 10_000);
        let gone_on = other.pause(&deframer, std::future::ready(()));
        assert_eq!((futures_lite::future::block_on(gone_on), partials.state.borrow().bytes), (None, 0));
    }

    #[test]
    fn whoever_waits_is_woken() {
        let partials = Partials::new(10);
        let [old, new] = [(); 2].map(|()| partials.connection());
        old.hold(8, true);
        let mut waiting = Box::pin(old.given_up());
        assert!(futures_lite::future::block_on(futures_lite::future::poll_once(&mut waiting)).is_none());
        new.hold(8, true);
        assert_eq!(futures_lite::future::block_on(waiting), GivenUp::NoRoom);
    }

    /// Has nothing to read until it is given something.
    #[derive(Default)]
    struct Source(Vec<u8>);

    impl AsyncRead for Source {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _cx: &mut std::task::Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            let read = self.0.len().min(buffer.len());
            buffer[..read].copy_from_slice(&self.0[..read]);
            self.0.drain(..read);
            if read == 0 { Poll::Pending } else { Poll::Ready(Ok(read)) }
        }
    }

    #[test]
    fn a_connection_among_few_keeps_its_read_buffer_while_it_waits() {
        let partials = Partials::new(1 << 20);
        let (partial, mut deframer, mut source) = (partials.connection(), Deframer::new(1 << 20), Source::default());
        let read = partial.read(&mut source, &mut deframer, true);
        assert!(futures_lite::future::block_on(futures_lite::future::poll_once(read)).is_none(), "nothing has arrived");
        assert!(deframer.held_bytes() > 0, "the buffer would be made and zeroed anew for each message");
    }

    #[test]
    fn connections_that_wait_hold_no_read_buffer_and_share_a_few() {
        let partials = Partials::of_many(1 << 20);
        let mut frame = Vec::new();
        net::frame::encode_frame(&mut frame, net::frame::FrameKind::new(1), 0, 0, 1, &[7; 100]);
        let mut connections: Vec<_> =
            (0..100).map(|_| (partials.connection(), Deframer::new(1 << 20), Source::default())).collect();
        for _ in 0..3 {
            for (partial, deframer, source) in &mut connections {
                source.0.extend_from_slice(&frame);
                let mut read = || {
                    futures_lite::future::block_on(futures_lite::future::poll_once(
                        partial.read(source, deframer, true),
                    ))
                };
                assert_eq!(read().expect("bytes").expect("sound"), Arrived::Bytes);
                assert!(deframer.next_frame().expect("sound").is_some());
                let mut read = || {
                    futures_lite::future::block_on(futures_lite::future::poll_once(
                        partial.read(source, deframer, true),
                    ))
                };
                assert!(read().is_none(), "nothing more has arrived");
                assert_eq!(deframer.held_bytes(), 0);
            }
        }
        assert_eq!(partials.spare.as_ref().expect("shared").borrow().len(), 1);
        // A part stays where it is.
        let (partial, deframer, source) = &mut connections[0];
        source.0.extend_from_slice(&frame[..50]);
        for is_new in [true, false] {
            let read = partial.read(source, deframer, is_new);
            drop(futures_lite::future::block_on(futures_lite::future::poll_once(read)));
        }
        assert_eq!(deframer.partial_bytes(), 50);
        assert!(deframer.held_bytes() > 0 && partials.state.borrow().bytes == deframer.held_bytes());
    }
}
