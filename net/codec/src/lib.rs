//! Bounded reading of little-endian numbers and byte strings from bytes that came from outside, and their writing.
//!
//! A `Reader` never panics and never allocates; every length is checked before it is used. It knows no message.

/// Bytes do not follow the format they should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("the bytes end inside {what}: {got} of {expected} bytes are there")]
    Short {
        /// The field being read.
        what: &'static str,
        /// Bytes that were left.
        got: usize,
        /// Bytes that the field takes.
        expected: usize,
    },
    /// Bytes are left over.
    #[error("{got} bytes are left over behind {what}")]
    Trailing {
        /// The message that was read.
        what: &'static str,
        /// How many.
        got: usize,
    },
    /// A field has a value that this version does not know.
    #[error("{what} has the unknown value {got}")]
    Unknown {
        /// The field.
        what: &'static str,
        /// The value found.
        got: u64,
    },
    /// A length is over its limit.
    #[error("{what} has {got} bytes, the limit is {limit}")]
    TooLong {
        /// The field.
        what: &'static str,
        /// Its length.
        got: usize,
        /// The limit.
        limit: usize,
    },
    /// A text is not UTF-8.
    #[error("{what} is not valid UTF-8")]
    NotText {
        /// The field.
        what: &'static str,
    },
}

/// Reads fields off the front of a byte slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Takes `len` bytes.
    ///
    /// # Errors
    /// `Short` if fewer are left.
    pub fn bytes(&mut self, what: &'static str, len: usize) -> Result<&'a [u8], DecodeError> {
        match self.bytes.split_at_checked(len) {
            Some((taken, rest)) => {
                self.bytes = rest;
                Ok(taken)
            }
            None => Err(DecodeError::Short { what, got: self.bytes.len(), expected: len }),
        }
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        match self.bytes.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.bytes = rest;
                Ok(*taken)
            }
            None => Err(DecodeError::Short { what, got: self.bytes.len(), expected: N }),
        }
    }

    /// Takes one byte.
    ///
    /// # Errors
    /// `Short` if none is left.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.array(what)?))
    }

    /// Takes a 16-bit number.
    ///
    /// # Errors
    /// `Short` if too few bytes are left.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }

    /// Takes a 32-bit number.
    ///
    /// # Errors
    /// `Short` if too few bytes are left.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    /// Takes a 64-bit number.
    ///
    /// # Errors
    /// `Short` if too few bytes are left.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// Takes a text of a 16-bit length, at most `limit` bytes long.
    ///
    /// # Errors
    /// The length is over the limit, bytes are missing, or they are not UTF-8.
    pub fn text(&mut self, what: &'static str, limit: usize) -> Result<&'a str, DecodeError> {
        let len = usize::from(self.u16(what)?);
        if len > limit {
            return Err(DecodeError::TooLong { what, got: len, limit });
        }
        str::from_utf8(self.bytes(what, len)?).map_err(|_| DecodeError::NotText { what })
    }

    /// Everything that is left.
    #[must_use]
    pub const fn rest(self) -> &'a [u8] {
        self.bytes
    }

    /// Ends the reading of `what`.
    ///
    /// # Errors
    /// `Trailing` if bytes are left.
    pub const fn finish(self, what: &'static str) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::Trailing { what, got: self.bytes.len() }) }
    }
}

/// Appends a text with its 16-bit length, cut at a character boundary to `limit` bytes.
pub fn put_text(out: &mut Vec<u8>, text: &str, limit: u16) {
    let mut end = text.len().min(usize::from(limit));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let kept = text.get(..end).unwrap_or_default();
    out.extend_from_slice(&u16::try_from(kept.len()).unwrap_or(limit).to_le_bytes());
    out.extend_from_slice(kept.as_bytes());
}
