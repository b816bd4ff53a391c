//! A hash to compare replicas by. It is fast and the same everywhere; it is no protection against anybody.

/// FNV-1a over 64-bit words.
#[derive(Debug)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    /// Takes in a word.
    pub const fn add(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
    }

    /// The hash of what was taken in.
    pub const fn get(&self) -> u64 {
        self.0
    }
}
