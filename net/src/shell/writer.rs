//! The writing side of a connection: frames queue up in memory and leave together.
//!
//! Whatever was queued while the last write was under way leaves with the next one, so many small answers share a system call
//! without any delay when there is one. The queue is bounded in bytes. One task writes; it ends when the writer is closed or
//! the connection breaks.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Poll, Waker};

use futures_lite::{AsyncWrite, AsyncWriteExt};

/// The queue of a connection has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection's queue is full or the connection is closed")]
pub struct Full;

/// Queue of a connection. Clones share it.
#[derive(Clone, Debug)]
pub struct ConnWriter {
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: RefCell<Vec<u8>>,
    bytes_limit: usize,
    closed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// Buffers larger than this are not kept. Unit: bytes.
const KEPT_BYTES_MAX: usize = 1 << 20;

impl ConnWriter {
    /// An open queue that refuses more once it holds `bytes_limit`.
    #[must_use]
    pub fn new(bytes_limit: usize) -> Self {
        let shared = Shared {
            queue: RefCell::new(Vec::new()),
            bytes_limit,
            closed: Cell::new(false),
            waker: RefCell::new(None),
        };
        Self { shared: Rc::new(shared) }
    }

    /// Lets `append` add frames to the queue.
    ///
    /// # Errors
    /// The queue holds its limit already, or is closed; then nothing was added.
    pub fn push(&self, append: impl FnOnce(&mut Vec<u8>)) -> Result<(), Full> {
        let mut queue = self.shared.queue.borrow_mut();
        if self.shared.closed.get() || queue.len() >= self.shared.bytes_limit {
            return Err(Full);
        }
        append(&mut queue);
        drop(queue);
        self.wake();
        Ok(())
    }

    /// Bytes that wait to be written.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.shared.queue.borrow().len()
    }

    /// The queue takes nothing more; what is in it is still written.
    pub fn close(&self) {
        self.shared.closed.set(true);
        self.wake();
    }

    /// The queue was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.closed.get()
    }

    fn wake(&self) {
        if let Some(waker) = self.shared.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Writes what is queued until the queue is closed and empty.
    ///
    /// # Errors
    /// The connection broke; the queue is closed and emptied then.
    pub async fn run(&self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let result = self.write_all(stream).await;
        self.shared.closed.set(true);
        self.shared.queue.borrow_mut().clear();
        result
    }

    async fn write_all(&self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let mut writing = Vec::new();
        loop {
            poll_fn(|cx| {
                if self.shared.closed.get() || !self.shared.queue.borrow().is_empty() {
                    return Poll::Ready(());
                }
                *self.shared.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            })
            .await;
            std::mem::swap(&mut writing, &mut *self.shared.queue.borrow_mut());
            if writing.is_empty() {
                return stream.close().await;
            }
            stream.write_all(&writing).await?;
            writing.clear();
            if writing.capacity() > KEPT_BYTES_MAX {
                writing = Vec::new();
            }
        }
    }
}
