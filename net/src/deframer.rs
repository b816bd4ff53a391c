//! Frames out of a stream of bytes, whatever the pieces it arrives in.
//!
//! Bytes are read into the deframer's own buffer and frames are handed out as slices of it, without copying. The buffer grows
//! with the bytes that arrived, never with a length that was only announced. It does no I/O.

use crate::frame::{self, FRAME_HEADER_BYTES, Frame, FrameError};
use crate::limits::{READ_BUFFER_BYTES, READ_BUFFER_BYTES_FIRST, READ_BUFFER_KEPT_BYTES_MAX, READS_PER_BUFFER};

/// Takes frames off a stream. Invariant: `start <= end <= buffer.len()`.
#[derive(Debug)]
pub struct Deframer {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    body_bytes_limit: usize,
    /// Bytes of a frame that is passed over, still to come. Invariant: 0 unless `start == end`.
    skip_bytes: usize,
    /// Size of the buffer while no large frame is under way; doubles with each read that fills it. Unit: bytes.
    /// Invariant: READ_BUFFER_BYTES_FIRST <= read_bytes <= READ_BUFFER_BYTES.
    read_bytes: usize,
}

/// A frame over the limit, of which only the header was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Number in its header.
    pub id: u64,
    /// Length of its body. Unit: bytes.
    pub body_bytes: usize,
}

impl Deframer {
    /// Takes frames whose body has at most `body_bytes_limit` bytes.
    #[must_use]
    pub const fn new(body_bytes_limit: usize) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            end: 0,
            body_bytes_limit,
            skip_bytes: 0,
            read_bytes: READ_BUFFER_BYTES_FIRST,
        }
    }

    /// Takes frames of another size from now on: a connection is trusted with more once its handshake is done.
    #[cfg(feature = "client")]
    pub(crate) const fn set_body_bytes_limit(&mut self, body_bytes_limit: usize) {
        self.body_bytes_limit = body_bytes_limit;
    }

    /// Space to read into; never empty. Call after `next_frame` returned `None`.
    ///
    /// What has arrived of a large frame pays for the space that is set aside for the rest: the buffer at most doubles.
    pub fn space(&mut self) -> &mut [u8] {
        let missing = self.wanted_bytes();
        let offered = missing.min(self.end - self.start).max(self.read_bytes / READS_PER_BUFFER);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > READ_BUFFER_KEPT_BYTES_MAX && missing < READ_BUFFER_BYTES {
                self.buffer = Vec::new();
            }
        }
        if self.buffer.len() - self.end < offered {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            let needed = (self.end + offered).max(self.read_bytes);
            if self.buffer.len() < needed {
                self.buffer.reserve_exact(needed - self.buffer.len());
                self.buffer.resize(needed, 0);
            }
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// Takes the buffer away if nothing is in it: a connection that waits for bytes needs none.
    pub fn take_buffer(&mut self) -> Option<Vec<u8>> {
        if self.start < self.end || self.buffer.is_empty() {
            return None;
        }
        (self.start, self.end) = (0, 0);
        Some(std::mem::take(&mut self.buffer))
    }

    /// Size of the buffer that `space` would make, if there is none. Unit: bytes.
    #[must_use]
    pub fn missing_buffer_bytes(&self) -> Option<usize> {
        self.buffer.is_empty().then_some(self.read_bytes)
    }

    /// Gives it a buffer that was taken away, here or elsewhere, if it has none.
    pub fn give_buffer(&mut self, buffer: Vec<u8>) {
        assert!(self.start <= self.end && self.end <= self.buffer.len(), "positions lie in the buffer");
        if self.buffer.is_empty() {
            self.buffer = buffer;
        }
    }

    /// Bytes that arrived of a frame that is not complete. Unit: bytes.
    #[must_use]
    pub const fn partial_bytes(&self) -> usize {
        self.end - self.start
    }

    /// Memory that the deframer holds: at most `held_bytes_max` as long as `space` is called in its time. Unit: bytes.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// Most memory that a deframer with this limit ever holds. Unit: bytes.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) const fn held_bytes_max(body_bytes_limit: usize) -> usize {
        let frame_and_read = body_bytes_limit.saturating_add(FRAME_HEADER_BYTES + READ_BUFFER_BYTES / READS_PER_BUFFER);
        if frame_and_read > READ_BUFFER_BYTES { frame_and_read } else { READ_BUFFER_BYTES }
    }

    /// `read` bytes were read into the front of `space()`.
    ///
    /// # Panics
    /// If more bytes are reported than there was space for.
    pub fn advance(&mut self, read: usize) {
        assert!(read <= self.buffer.len() - self.end, "more bytes read than there was space for");
        self.end += read;
        if self.end == self.buffer.len() {
            self.read_bytes = (self.read_bytes * 2).min(READ_BUFFER_BYTES);
        }
        self.pass_over();
    }

    /// Passes over the frame at the front if `next_frame` refused it for its size alone and its body has at most
    /// `skip_bytes_max` bytes. The rest of its body is dropped as it arrives, so it takes no memory. `None` if the frame is
    /// not of that kind; the connection must be closed then.
    pub fn skip_too_large(&mut self, skip_bytes_max: usize) -> Option<Skipped> {
        let header = self.header()?;
        let Err(FrameError::TooLarge { got, .. }) = frame::check_header(header, self.body_bytes_limit) else {
            return None;
        };
        if got > skip_bytes_max {
            return None;
        }
        let skipped = Skipped { id: frame::header_id(header), body_bytes: got };
        self.start += FRAME_HEADER_BYTES;
        self.skip_bytes = got;
        self.pass_over();
        Some(skipped)
    }

    /// Drops what is here of the frame that is passed over.
    fn pass_over(&mut self) {
        let dropped = self.skip_bytes.min(self.end - self.start);
        self.skip_bytes -= dropped;
        self.start += dropped;
    }

    /// Adds bytes that were read elsewhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        let mut left = bytes;
        while !left.is_empty() {
            let space = self.space();
            let taken = space.len().min(left.len());
            let (now, later) = left.split_at(taken);
            space.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
            self.advance(taken);
            left = later;
        }
    }

    /// Bytes missing from the frame at the front, as far as is known.
    fn wanted_bytes(&self) -> usize {
        let available = self.end - self.start;
        match self.header() {
            None => FRAME_HEADER_BYTES - available,
            Some(header) => match frame::check_header(header, self.body_bytes_limit) {
                Ok(lengths) => (FRAME_HEADER_BYTES + lengths.body).saturating_sub(available),
                Err(_) => 0,
            },
        }
    }

    fn header(&self) -> Option<&[u8; FRAME_HEADER_BYTES]> {
        self.buffer.get(self.start..self.end)?.first_chunk()
    }

    /// The next complete frame, `None` if more bytes are needed.
    ///
    /// # Errors
    /// The stream is not a sequence of sound frames; the connection must be closed.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let Some(header) = self.header().copied() else { return Ok(None) };
        let lengths = frame::check_header(&header, self.body_bytes_limit)?;
        let body_start = self.start + FRAME_HEADER_BYTES;
        if self.end < body_start + lengths.body {
            return Ok(None);
        }
        self.start = body_start + lengths.body;
        let body = self.buffer.get(body_start..self.start).unwrap_or_default();
        let (meta, rest) = body.split_at_checked(lengths.meta).unwrap_or_default();
        frame::parse(&header, meta, rest).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{FrameKind, encode_frame};

    /// The front of a frame with a body of `body_bytes`, of which `arrived` bytes are there.
    fn partial(body_bytes: usize, arrived: usize) -> Deframer {
        let mut frame = Vec::new();
        encode_frame(&mut frame, FrameKind::new(1), 0, 0, 1, &vec![0; body_bytes]);
        let mut deframer = Deframer::new(body_bytes);
        deframer.feed(&frame[..arrived]);
        assert!(deframer.next_frame().expect("sound so far").is_none());
        let _offered = deframer.space();
        deframer
    }

    #[test]
    fn memory_grows_with_what_arrived_and_not_with_what_was_announced() {
        for arrived in [FRAME_HEADER_BYTES, 100, 5_000, 70_000, 1_000_000] {
            let held = partial(8 << 20, arrived).held_bytes();
            assert!(held <= 2 * arrived + READ_BUFFER_BYTES_FIRST, "{held} bytes are held for {arrived}");
        }
    }

    #[test]
    fn a_busy_connection_gets_a_large_buffer_and_an_idle_one_a_small_one() {
        let (mut busy, mut idle) = (Deframer::new(1 << 20), Deframer::new(1 << 20));
        assert_eq!(idle.space().len(), READ_BUFFER_BYTES_FIRST);
        let mut frame = Vec::new();
        encode_frame(&mut frame, FrameKind::new(1), 0, 0, 1, &[0; 1000]);
        for _ in 0..1000 {
            busy.feed(&frame);
            while busy.next_frame().expect("sound").is_some() {}
        }
        let _offered = busy.space();
        assert!(busy.held_bytes() <= READ_BUFFER_BYTES && idle.held_bytes() <= READ_BUFFER_BYTES_FIRST);
    }

    #[test]
    fn a_deframer_that_waits_can_do_without_its_buffer() {
        let mut frame = Vec::new();
        encode_frame(&mut frame, FrameKind::new(1), 0, 0, 1, &[7; 1000]);
        let mut deframer = Deframer::new(1 << 20);
        let wanted = deframer.missing_buffer_bytes().expect("it has none yet");
        deframer.give_buffer(vec![0; wanted]);
        for _ in 0..100 {
            deframer.feed(&frame[..100]);
            assert!(deframer.take_buffer().is_none(), "something is in it");
            deframer.feed(&frame[100..]);
            assert!(deframer.next_frame().expect("sound").is_some());
            let buffer = deframer.take_buffer().expect("nothing is in it");
            assert_eq!((deframer.held_bytes(), deframer.partial_bytes()), (0, 0));
            assert_eq!(deframer.missing_buffer_bytes(), Some(buffer.len()));
            deframer.give_buffer(buffer);
        }
    }
}
