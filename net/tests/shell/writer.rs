//! The writing side of a connection, against streams that take what the test lets them take.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_lite::{AsyncWrite, FutureExt, future};
use net::shell::{ConnWriter, NotTaken};

/// A stream that records every write and takes at most so many bytes of it.
#[derive(Clone, Default)]
struct Recorder {
    writes: Rc<RefCell<Vec<Vec<u8>>>>,
    bytes_max: Rc<Cell<usize>>,
    is_closed: Rc<Cell<bool>>,
}

impl Recorder {
    fn taking(bytes_max: usize) -> Self {
        let recorder = Self::default();
        recorder.bytes_max.set(bytes_max);
        recorder
    }
}

impl AsyncWrite for Recorder {
    /// Takes nothing while its limit is 0, and fails when that is the largest number.
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.bytes_max.get() {
            0 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            usize::MAX => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            max => {
                let taken = max.min(bytes.len());
                self.writes.borrow_mut().push(bytes[..taken].to_vec());
                Poll::Ready(Ok(taken))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_closed.set(true);
        Poll::Ready(Ok(()))
    }
}

fn push(writer: &ConnWriter, bytes: &[u8]) -> Result<(), NotTaken> {
    writer.push(|out| out.extend_from_slice(bytes))
}

#[test]
fn what_is_queued_leaves_in_one_write() {
    let writer = ConnWriter::new(100);
    for bytes in [b"one ", b"two "] {
        push(&writer, bytes).expect("room");
    }
    assert_eq!(writer.queued_bytes(), 8);
    writer.close();
    let mut stream = Recorder::taking(1000);
    future::block_on(writer.run(&mut stream)).expect("a sound stream");
    assert_eq!(*stream.writes.borrow(), [b"one two ".to_vec()]);
    assert!(stream.is_closed.get());
}

#[test]
fn short_writes_lose_and_reorder_nothing() {
    let writer = ConnWriter::new(1000);
    push(&writer, b"0123456789").expect("room");
    writer.close();
    let mut stream = Recorder::taking(3);
    future::block_on(writer.run(&mut stream)).expect("a sound stream");
    assert_eq!(stream.writes.borrow().concat(), b"0123456789");
    assert_eq!(stream.writes.borrow().len(), 4);
}

#[test]
fn what_comes_while_a_write_is_under_way_leaves_with_the_next_one() {
    let writer = ConnWriter::new(1000);
    let stream = Recorder::taking(0);
    let mut writing = stream.clone();
    let filling = async {
        push(&writer, b"first").expect("room");
        future::yield_now().await;
        assert_eq!(writer.queued_bytes(), 5, "it is being written");
        push(&writer, b"second").expect("room");
        push(&writer, b"third").expect("room");
        stream.bytes_max.set(1000);
        writer.close();
        future::pending::<io::Result<()>>().await
    };
    future::block_on(writer.run(&mut writing).or(filling)).expect("a sound stream");
    assert_eq!(*stream.writes.borrow(), [b"first".to_vec(), b"secondthird".to_vec()]);
}

#[test]
fn a_queue_at_its_limit_refuses_and_takes_again_when_it_has_left() {
    let writer = ConnWriter::new(10);
    push(&writer, b"123456789").expect("room");
    push(&writer, b"and one beyond").expect("the queue was below its limit");
    let held = writer.queued_bytes();
    for _ in 0..3 {
        assert_eq!(writer.push(|_| panic!("nothing is made for a queue that is full")), Err(NotTaken::Full));
        assert_eq!(writer.queued_bytes(), held);
    }
    let stream = Recorder::taking(1000);
    let mut writing = stream.clone();
    let filling = async {
        while writer.queued_bytes() > 0 {
            future::yield_now().await;
        }
        push(&writer, b"again").expect("room");
        writer.close();
        future::pending::<io::Result<()>>().await
    };
    future::block_on(writer.run(&mut writing).or(filling)).expect("a sound stream");
    assert_eq!(stream.writes.borrow().concat(), b"123456789and one beyondagain");
}

#[test]
fn a_closed_queue_takes_nothing_more() {
    let writer = ConnWriter::new(100);
    let clone = writer.clone();
    clone.close();
    assert!(writer.is_closed());
    assert_eq!(writer.push(|_| panic!("it is closed")), Err(NotTaken::Closed));
    let full = ConnWriter::new(1);
    push(&full, b"more than that").expect("room");
    full.close();
    assert_eq!(push(&full, b"more"), Err(NotTaken::Closed), "nobody is to wait for room there");
    let mut stream = Recorder::taking(100);
    future::block_on(writer.run(&mut stream)).expect("nothing to write");
    assert_eq!((stream.writes.borrow().len(), stream.is_closed.get()), (0, true));
}

#[test]
fn a_broken_stream_closes_and_empties_the_queue() {
    let writer = ConnWriter::new(100);
    push(&writer, b"lost").expect("room");
    let mut stream = Recorder::taking(usize::MAX);
    let error = future::block_on(writer.run(&mut stream)).expect_err("a broken stream");
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert_eq!((writer.is_closed(), writer.queued_bytes()), (true, 0));
    assert_eq!(push(&writer, b"too late"), Err(NotTaken::Closed));
}
