//! Numbers from a seed: the one generator of the workspace, for election timeouts, generated load and simulations.
//!
//! Not for secrets, nor for what must differ between two runs.

/// `SplitMix64` (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA '14).
///
/// The same seed gives the same numbers for ever: seeds of simulator runs are kept in tests and documents.
#[derive(Clone, Debug)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// Golden ratio times 2^64, odd: the increment given by the paper.
    pub(crate) const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

    /// The two factors with which a state is mixed, odd.
    pub(crate) const FIRST_FACTOR: u64 = 0xBF58_476D_1CE4_E5B9;
    pub(crate) const SECOND_FACTOR: u64 = 0x94D0_49BB_1331_11EB;

    /// Starts the sequence that belongs to `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Starts one of many sequences that belong to `seed`.
    #[must_use]
    pub const fn of_stream(seed: u64, stream: u64) -> Self {
        let mut mixed = Self::new(seed);
        Self::new(mixed.next_u64() ^ stream.wrapping_mul(Self::GAMMA))
    }

    /// The next number.
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(Self::GAMMA);
        Self::mix(self.state)
    }

    /// Mixes the bits of a number. Two numbers that differ give two that differ.
    pub(crate) const fn mix(number: u64) -> u64 {
        let mut z = number;
        z = (z ^ (z >> 30)).wrapping_mul(Self::FIRST_FACTOR);
        z = (z ^ (z >> 27)).wrapping_mul(Self::SECOND_FACTOR);
        z ^ (z >> 31)
    }

    /// A number below `bound`. Panics if `bound` is 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// A number in `low..=high`. Panics if that is empty.
    pub const fn in_range(&mut self, low: u32, high: u32) -> u32 {
        assert!(low <= high, "an empty range");
        let span = (high - low) as u64 + 1;
        // The upper half of the product: below `span`, and hardly biased for spans this small.
        low + (((self.next_u64() >> 32) * span) >> 32) as u32
    }

    /// True in `numerator` of `denominator` cases.
    pub const fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sequence_comes_out() {
        // First outputs for seed 1234567, as given with the reference implementations.
        let mut random = SplitMix64::new(1_234_567);
        assert_eq!(random.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(random.next_u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn every_value_of_a_small_range_occurs_and_no_other() {
        let mut random = SplitMix64::of_stream(1, 2);
        let mut seen = [0; 4];
        for _ in 0..1000 {
            seen[random.in_range(3, 6) as usize - 3] += 1;
            seen[usize::try_from(random.below(4)).expect("small")] += 1;
        }
        assert!(seen.iter().all(|&count| count > 400), "{seen:?}");
    }

    #[test]
    fn streams_of_one_seed_repeat_and_differ_from_each_other() {
        let take = |seed, stream| {
            let mut random = SplitMix64::of_stream(seed, stream);
            [random.next_u64(), random.next_u64()]
        };
        assert_eq!(take(1, 2), take(1, 2));
        assert_ne!(take(1, 2), take(1, 3));
        assert_ne!(take(1, 2), take(2, 2));
    }
}
