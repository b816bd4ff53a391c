//! Frames out of a stream of bytes, whatever the pieces it arrives in.
//!
//! Bytes are read into the deframer's own buffer and frames are handed out as slices of it, without copying. It does no I/O.

use crate::frame::{self, FRAME_HEADER_BYTES, Frame, FrameError};

/// Space offered to one read when no large frame is under way. Unit: bytes.
const READ_BYTES: usize = 64 * 1024;

/// Least space offered to one read. Unit: bytes.
const READ_BYTES_MIN: usize = READ_BYTES / 4;

/// Buffers larger than this are given back once they are empty. Unit: bytes.
const KEPT_BYTES_MAX: usize = 4 * READ_BYTES;

/// Takes frames off a stream. Invariant: `start <= end <= buffer.len()`.
#[derive(Debug)]
pub struct Deframer {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    body_bytes_limit: usize,
    /// Bytes of a frame that is passed over, still to come. Invariant: 0 unless `start == end`.
    skip_bytes: usize,
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
        Self { buffer: Vec::new(), start: 0, end: 0, body_bytes_limit, skip_bytes: 0 }
    }

    /// Takes frames of another size from now on: a connection is trusted with more once its handshake is done.
    pub const fn set_body_bytes_limit(&mut self, body_bytes_limit: usize) {
        self.body_bytes_limit = body_bytes_limit;
    }

    /// Space to read into; never empty. Call after `next_frame` returned `None`.
    pub fn space(&mut self) -> &mut [u8] {
        let wanted = self.wanted_bytes().max(READ_BYTES_MIN);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > KEPT_BYTES_MAX && wanted < READ_BYTES {
                self.buffer = Vec::new();
            }
        }
        if self.buffer.len() - self.end < wanted {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            let needed = (self.end + wanted).max(READ_BYTES);
            if self.buffer.len() < needed {
                self.buffer.reserve_exact(needed - self.buffer.len());
                self.buffer.resize(needed, 0);
            }
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// Memory that the deframer holds: at most `held_bytes_max` as long as `space` is called in its time. Unit: bytes.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// Most memory that a deframer with this limit ever holds. Unit: bytes.
    #[must_use]
    pub const fn held_bytes_max(body_bytes_limit: usize) -> usize {
        let frame_and_read = body_bytes_limit.saturating_add(FRAME_HEADER_BYTES + READ_BYTES_MIN);
        if frame_and_read > READ_BYTES { frame_and_read } else { READ_BYTES }
    }

    /// `read` bytes were read into the front of `space()`.
    ///
    /// # Panics
    /// If more bytes are reported than there was space for.
    pub fn advance(&mut self, read: usize) {
        assert!(read <= self.buffer.len() - self.end, "more bytes read than there was space for");
        self.end += read;
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
