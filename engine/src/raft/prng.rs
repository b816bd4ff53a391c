//! Randomness from a seed: SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA '14).
//!
//! Spreads election timeouts; not for secrets.

/// A SplitMix64 generator.
#[derive(Clone, Debug)]
pub(super) struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// Golden ratio times 2^64, odd: the increment given by the paper.
    const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

    /// A generator whose sequence depends on both numbers.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut mixed = Self { state: seed };
        let state = mixed.next() ^ stream.wrapping_mul(Self::GAMMA);
        Self { state }
    }

    /// A number in `low..=high`.
    pub(super) fn in_range(&mut self, low: u32, high: u32) -> u32 {
        assert!(low <= high, "empty range {low}..={high}");
        let span = u64::from(high - low) + 1;
        // The high half of the product: no modulo bias worth speaking of for spans this small.
        let offset = ((self.next() >> 32) * span) >> 32;
        low + u32::try_from(offset).unwrap_or(0)
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(Self::GAMMA);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix64_yields_the_published_sequence() {
        // First outputs for seed 1234567, as given with the reference implementations.
        let mut generator = SplitMix64 { state: 1_234_567 };
        assert_eq!(generator.next(), 6_457_827_717_110_365_317);
        assert_eq!(generator.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn every_value_of_a_small_range_occurs() {
        let mut generator = SplitMix64::new(1, 2);
        let mut seen = [false; 4];
        for _ in 0..200 {
            seen[generator.in_range(3, 6) as usize - 3] = true;
        }
        assert_eq!(seen, [true; 4]);
    }
}
