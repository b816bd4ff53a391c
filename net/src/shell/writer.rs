//! The writing side of a connection: frames queue up in memory and leave together.
//!
//! Whatever was queued while the last write was under way leaves with the next one, so many small answers share a system call
//! without any delay when there is one. The queue is bounded in bytes, those being written included. One task writes; it ends
//! when the writer is closed and everything has left, when it is aborted, or when the connection breaks. How the bytes of a queue
//! are kept is `backlog`'s business.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures_lite::future::yield_now;
use futures_lite::{AsyncWrite, AsyncWriteExt, FutureExt};

use super::backlog::{Backlog, SparePieces};
use super::limits::{BLOCKED_BUFFER_BYTES_MAX, SPARE_BUFFERS_MAX, WRITE_BUFFER_KEPT_BYTES_MAX};

/// Why a queue took nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// So much waits that there is no room. `room_when` tells when some of it has left.
    #[error("the connection's queue is full")]
    Full,
    /// There is no connection, or it takes nothing more.
    #[error("there is no connection")]
    Closed,
}

/// What the connections of one core share: the count of what they have queued, and buffers that nobody uses.
#[derive(Debug, Default)]
pub struct Writers {
    queues_count: Cell<usize>,
    /// Unit: bytes.
    queued_bytes: Cell<usize>,
    spare: RefCell<Vec<Vec<u8>>>,
    spare_pieces: SparePieces,
}

impl Writers {
    /// What all queues hold. Unit: bytes.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes.get()
    }

    /// The queues that there are.
    #[must_use]
    pub fn queues_count(&self) -> usize {
        self.queues_count.get()
    }

    fn take_buffer(&self) -> Vec<u8> {
        self.spare.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes an empty buffer, unless there is none in it, it is large, or there are enough.
    fn give_buffer(&self, buffer: Vec<u8>) {
        assert!(buffer.is_empty(), "nothing is lost with it");
        let mut spare = self.spare.borrow_mut();
        if (1..=WRITE_BUFFER_KEPT_BYTES_MAX).contains(&buffer.capacity()) && spare.len() < SPARE_BUFFERS_MAX {
            spare.push(buffer);
        }
    }
}

/// Queue of a connection. Clones share it.
#[derive(Clone, Debug)]
pub struct ConnWriter {
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: RefCell<Backlog>,
    bytes_limit: usize,
    /// What the other side does not take is set aside in pieces.
    sets_aside: bool,
    /// The other side took nothing more when it was tried last.
    is_blocked: Cell<bool>,
    writers: Rc<Writers>,
    /// This queue's part of what they have queued. Unit: bytes.
    counted_bytes: Cell<usize>,
    closed: Cell<bool>,
    aborted: Cell<bool>,
    /// Whoever writes, waits for the end, or waits for room.
    wakers: [RefCell<Option<Waker>>; 3],
}

/// Places in `wakers`.
const WRITER: usize = 0;
const ENDER: usize = 1;
const ROOM: usize = 2;

impl Shared {
    fn queued_bytes(&self) -> usize {
        self.queue.borrow().len()
    }

    /// The connection takes nothing just now: what waits needs no more memory than it must.
    fn blocked(&self) {
        self.is_blocked.set(true);
        if self.sets_aside {
            let give = |buffer| self.writers.give_buffer(buffer);
            self.queue.borrow_mut().set_aside(BLOCKED_BUFFER_BYTES_MAX, &self.writers.spare_pieces, give);
        }
    }

    /// Writes some of what is queued, if the connection takes it.
    fn poll_write(&self, cx: &mut Context<'_>, stream: &mut (impl AsyncWrite + Unpin)) -> Poll<io::Result<usize>> {
        let written = Pin::new(stream).poll_write(cx, self.queue.borrow_mut().next());
        if written.is_pending() {
            self.blocked();
        }
        written
    }

    /// Brings the sum over all queues up to date.
    fn count(&self, bytes: usize) {
        let total = &self.writers.queued_bytes;
        total.set(total.get() - self.counted_bytes.replace(bytes) + bytes);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.count(0);
        self.writers.queues_count.set(self.writers.queues_count.get() - 1);
    }
}

impl ConnWriter {
    /// An open queue that refuses more once it holds `bytes_limit`.
    #[must_use]
    pub fn new(bytes_limit: usize) -> Self {
        Self::with(bytes_limit, Rc::default(), false)
    }

    /// The same for thousands of connections, whose other sides may take nothing for long: `writers` counts what all of its queues hold,
    /// and they share their buffers.
    #[must_use]
    pub fn among(bytes_limit: usize, writers: Rc<Writers>) -> Self {
        Self::with(bytes_limit, writers, true)
    }

    fn with(bytes_limit: usize, writers: Rc<Writers>, sets_aside: bool) -> Self {
        writers.queues_count.set(writers.queues_count.get() + 1);
        let shared = Shared {
            queue: RefCell::default(),
            bytes_limit,
            sets_aside,
            is_blocked: Cell::new(false),
            writers,
            counted_bytes: Cell::new(0),
            closed: Cell::new(false),
            aborted: Cell::new(false),
            wakers: Default::default(),
        };
        Self { shared: Rc::new(shared) }
    }

    /// Lets `append` add frames to the queue.
    ///
    /// # Errors
    /// The queue holds its limit already, or is closed; then nothing was added.
    pub fn push(&self, append: impl FnOnce(&mut Vec<u8>)) -> Result<(), NotTaken> {
        self.push_if(self.queued_bytes() < self.shared.bytes_limit, append)
    }

    /// The same with a limit of its own: adds about `bytes` if the queue then holds at most `bytes_limit`, or if it is empty.
    ///
    /// # Errors
    /// There is no room, or the queue is closed; then nothing was added.
    pub fn push_within(
        &self,
        bytes_limit: usize,
        bytes: usize,
        append: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), NotTaken> {
        let queued = self.queued_bytes();
        self.push_if(queued == 0 || queued.saturating_add(bytes) <= bytes_limit, append)
    }

    fn push_if(&self, has_room: bool, append: impl FnOnce(&mut Vec<u8>)) -> Result<(), NotTaken> {
        if self.shared.closed.get() {
            return Err(NotTaken::Closed);
        }
        if !has_room {
            return Err(NotTaken::Full);
        }
        {
            let mut backlog = self.shared.queue.borrow_mut();
            backlog.take_vector(|| self.shared.writers.take_buffer());
            let queue = backlog.last_mut();
            let before = queue.len();
            append(queue);
            assert!(queue.len() >= before, "whoever adds frames takes none away");
        }
        if self.shared.is_blocked.get() {
            self.shared.blocked();
        }
        self.shared.count(self.queued_bytes());
        self.wake(WRITER);
        Ok(())
    }

    /// Bytes that wait to be written or are being written.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.shared.queued_bytes()
    }

    /// Whoever waits for room looks again whether there is any.
    pub fn look_again(&self) {
        self.wake(ROOM);
    }

    /// Waits until this many queued bytes leave room, or the writer is closed. Looked at when bytes have left, and after `look_again`. One
    /// task may wait.
    pub async fn room_when(&self, is_room: impl Fn(usize) -> bool) {
        self.wait(ROOM, |writer| is_room(writer.queued_bytes()) || writer.is_closed()).await;
    }

    /// The queue takes nothing more; what is in it is still written.
    pub fn close(&self) {
        self.shared.closed.set(true);
        self.wake(WRITER);
        self.wake(ROOM);
    }

    /// Ends `run` now: what is queued is dropped, a write under way is given up.
    pub fn abort(&self) {
        self.shared.aborted.set(true);
        self.close();
        self.wake(ENDER);
    }

    /// True if the queue was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.closed.get()
    }

    fn wake(&self, place: usize) {
        if let Some(waker) = self.shared.wakers[place].borrow_mut().take() {
            waker.wake();
        }
    }

    async fn wait(&self, place: usize, until: impl Fn(&Self) -> bool) {
        poll_fn(|cx| {
            if until(self) {
                return Poll::Ready(());
            }
            *self.shared.wakers[place].borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Writes what is queued until the queue is closed and empty.
    ///
    /// # Errors
    /// The connection broke or the writer was aborted; the queue is closed and emptied then.
    pub async fn run(&self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let ended = async {
            self.wait(ENDER, |writer| writer.shared.aborted.get()).await;
            Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the other side does not read what it is sent"))
        };
        let result = ended.or(self.write_all(stream)).await;
        self.shared.queue.borrow_mut().clear();
        self.shared.count(0);
        self.close();
        result
    }

    /// So many bytes were written.
    fn written(&self, bytes: usize) {
        self.shared.is_blocked.set(false);
        self.shared.queue.borrow_mut().advance(bytes, &self.shared.writers.spare_pieces);
        self.shared.count(self.queued_bytes());
        self.wake(ROOM);
    }

    async fn write_all(&self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        loop {
            self.wait(WRITER, |writer| writer.is_closed() || writer.queued_bytes() > 0).await;
            if self.queued_bytes() == 0 {
                return stream.close().await;
            }
            // What has left makes room at once: one large write may be most of the queue.
            while self.queued_bytes() > 0 {
                let written = poll_fn(|cx| self.shared.poll_write(cx, stream)).await?;
                if written == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                self.written(written);
                if self.shared.queue.borrow().is_amid() {
                    // A socket may take much at once, and copies it.
                    yield_now().await;
                }
            }
            // There may be nothing more for long, and there may be thousands of such connections.
            self.shared.queue.borrow_mut().give_vectors(|buffer| self.shared.writers.give_buffer(buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::Context;

    use futures_lite::future::{block_on, poll_once, zip};

    use super::super::limits::WRITE_PIECE_BYTES_MAX;
    use super::*;

    /// Takes `room` bytes, then nothing until there is room again.
    #[derive(Debug, Default)]
    struct Slow {
        room: Rc<Cell<usize>>,
        taken: usize,
    }

    impl AsyncWrite for Slow {
        fn poll_write(mut self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let count = bytes.len().min(self.room.get());
            if count == 0 {
                return Poll::Pending;
            }
            self.room.set(self.room.get() - count);
            self.taken += count;
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn push(writer: &ConnWriter, bytes: usize) -> Result<(), NotTaken> {
        writer.push(|queue| queue.resize(queue.len() + bytes, 7))
    }

    #[test]
    fn others_have_their_turn_between_the_pieces_of_a_large_write() {
        const PIECES: usize = 4;
        let (writer, mut stream) = (ConnWriter::new(usize::MAX), Slow::default());
        stream.room.set(usize::MAX);
        push(&writer, PIECES * WRITE_PIECE_BYTES_MAX).expect("room");
        let mut running = Box::pin(writer.run(&mut stream));
        for piece in 1..=PIECES {
            assert!(block_on(poll_once(&mut running)).is_none());
            assert_eq!(writer.queued_bytes(), (PIECES - piece) * WRITE_PIECE_BYTES_MAX);
        }
    }

    #[test]
    fn bytes_being_written_count_as_queued() {
        let (writer, mut stream) = (ConnWriter::new(100), Slow::default());
        push(&writer, 100).expect("room");
        let mut running = Box::pin(writer.run(&mut stream));
        assert!(block_on(poll_once(&mut running)).is_none());
        assert_eq!((writer.queued_bytes(), push(&writer, 1)), (100, Err(NotTaken::Full)));
    }

    #[test]
    fn a_large_frame_waits_for_an_empty_queue_and_a_small_one_may_have_room_of_its_own() {
        let writer = ConnWriter::new(1000);
        let push = |limit, bytes: usize| writer.push_within(limit, bytes, |queue| queue.resize(queue.len() + bytes, 7));
        assert_eq!(
            (push(100, 500), push(100, 1)),
            (Ok(()), Err(NotTaken::Full)),
            "an empty queue takes a frame of any size"
        );
        assert_eq!((push(600, 100), push(600, 1), push(610, 10)), (Ok(()), Err(NotTaken::Full), Ok(())));
        writer.close();
        assert_eq!(push(usize::MAX, 1), Err(NotTaken::Closed));
    }

    #[test]
    fn what_has_left_makes_room_before_all_has() {
        let (writer, mut stream) = (ConnWriter::new(100), Slow::default());
        stream.room.set(30);
        push(&writer, 100).expect("room");
        let mut running = Box::pin(writer.run(&mut stream));
        assert!(block_on(poll_once(&mut running)).is_none());
        assert_eq!((writer.queued_bytes(), push(&writer, 50), push(&writer, 1)), (70, Ok(()), Err(NotTaken::Full)));
    }

    #[test]
    fn the_total_is_what_all_queues_hold_until_they_are_gone() {
        let writers = Rc::new(Writers::default());
        let queue = || ConnWriter::among(100, Rc::clone(&writers));
        let (one, other, mut stream) = (queue(), queue(), Slow::default());
        stream.room.set(30);
        push(&one, 60).expect("room");
        push(&other, 50).expect("room");
        assert_eq!((writers.queued_bytes(), writers.queues_count()), (110, 2));
        let mut running = Box::pin(one.run(&mut stream));
        assert!(block_on(poll_once(&mut running)).is_none());
        assert_eq!(writers.queued_bytes(), 80);
        drop(other);
        assert_eq!((writers.queued_bytes(), writers.queues_count()), (30, 1));
        one.abort();
        assert!(block_on(running).is_err());
        assert_eq!(writers.queued_bytes(), 0);
    }

    #[test]
    fn what_a_client_does_not_take_is_set_aside_and_leaves_in_its_order() {
        let writers = Rc::new(Writers::default());
        let (writer, mut stream) = (ConnWriter::among(usize::MAX, Rc::clone(&writers)), Slow::default());
        let room = Rc::clone(&stream.room);
        push(&writer, 1_000_000).expect("room");
        let mut running = Box::pin(writer.run(&mut stream));
        assert!(block_on(poll_once(&mut running)).is_none());
        push(&writer, 1_000_000).expect("room");
        assert_eq!((writer.shared.queue.borrow_mut().last_mut().capacity(), writers.queued_bytes()), (0, 2_000_000));
        room.set(usize::MAX);
        writer.close();
        block_on(running).expect("everything has left");
        assert_eq!((stream.taken, writers.queued_bytes()), (2_000_000, 0));
    }

    #[test]
    fn abort_ends_a_write_that_never_would() {
        let (writer, mut stream) = (ConnWriter::new(100), Slow::default());
        push(&writer, 10).expect("room");
        let mut running = Box::pin(writer.run(&mut stream));
        assert!(block_on(poll_once(&mut running)).is_none());
        writer.close();
        assert!(block_on(poll_once(&mut running)).is_none(), "what is queued still leaves after a close");
        writer.abort();
        let error = block_on(running).expect_err("it was given up");
        assert_eq!((error.kind(), writer.queued_bytes()), (io::ErrorKind::ConnectionAborted, 0));
    }

    #[test]
    fn whoever_waits_for_room_goes_on_when_there_is_some_or_never_will_be() {
        let (writer, mut stream) = (ConnWriter::new(100), Slow::default());
        let room = Rc::clone(&stream.room);
        push(&writer, 50).expect("room");
        let mut running = Box::pin(writer.run(&mut stream));
        let mut waiting = Box::pin(writer.room_when(|queued_bytes| queued_bytes <= 20));
        assert!(block_on(poll_once(zip(&mut running, &mut waiting))).is_none());
        room.set(50);
        assert!(block_on(poll_once(&mut running)).is_none());
        assert!(block_on(poll_once(&mut waiting)).is_some());
        push(&writer, 50).expect("room");
        let mut waiting = Box::pin(writer.room_when(|queued_bytes| queued_bytes <= 20));
        assert!(block_on(poll_once(&mut waiting)).is_none());
        writer.abort();
        assert!(block_on(poll_once(&mut waiting)).is_some());
    }

    #[test]
    fn connections_with_nothing_to_write_hold_no_buffer_and_share_a_few() {
        let writers = Rc::new(Writers::default());
        let (mut all, mut streams): (Vec<ConnWriter>, Vec<Slow>) = Default::default();
        for _ in 0..100 {
            all.push(ConnWriter::among(1 << 20, Rc::clone(&writers)));
            streams.push(Slow { room: Rc::new(Cell::new(usize::MAX)), taken: 0 });
        }
        for (writer, stream) in all.iter().zip(&mut streams) {
            let mut running = Box::pin(writer.run(stream));
            for _ in 0..3 {
                push(writer, 10_000).expect("room");
                assert!(block_on(poll_once(&mut running)).is_none());
                assert_eq!(
                    writer.shared.queue.borrow_mut().last_mut().capacity(),
                    0,
                    "the task that writes holds none either"
                );
            }
        }
        assert!(streams.iter().all(|stream| stream.taken == 30_000));
        assert_eq!(writers.spare.borrow().len(), 1, "the next one took what the one before had given back");
    }
}
