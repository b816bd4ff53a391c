//! A fast hash that shows whether two replicas hold the same state.
//!
//! It gives the same result on every machine. It is not cryptographic: whoever chooses the data can make different states hash
//! alike.

/// A variant of FNV-1a. It takes a 64-bit word at a time instead of a byte, and rotates the hash after each word, so that high bits
/// reach the low ones.
#[derive(Debug)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    /// Adds one word. The order of words makes a difference.
    pub const fn add(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
    }

    /// The hash of all words added so far.
    pub const fn get(&self) -> u64 {
        self.0
    }
}
