//! Which key and value a write carries: random or sequential keys for measuring, tracked ones for verifying.
//!
//! A tracked write is a function of (worker, sequence): its key can be parsed back and its value rebuilt, so a checker
//! needs no copy of what was written. Keys have a fixed width, so byte order is sequence order.

use engine::types::{ShardId, shard_of_key};
use wal::random::SplitMix64;

/// Bytes of `wWWWWW-SSSSSSSSSS`, the part of a tracked key that names the write, and the head of its value.
pub(crate) const TRACKED_NAME_BYTES: usize = 17;

/// Bytes of `-HHHH`, the suffix that places a tracked key in its worker's shard when there is more than one.
const TRACKED_SUFFIX_BYTES: usize = 5;

/// Shortest value that carries its write's name, in bytes.
pub const TRACKED_VALUE_BYTES_MIN: usize = TRACKED_NAME_BYTES;

/// Digits of a plain key.
const PLAIN_KEY_BYTES: usize = 16;

/// Largest key space whose keys all have the fixed width.
pub const KEY_SPACE_MAX: u64 = 10u64.pow(PLAIN_KEY_BYTES as u32);

const FILLER_ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// How the keys of a load are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPlan {
    /// Uniformly random among `key_space` keys of 16 digits, from the load's seed.
    Random {
        /// Number of keys; 1..=[`KEY_SPACE_MAX`].
        key_space: u64,
    },
    /// Keys of 16 digits, each written once.
    Sequential,
    /// Unique keys that name worker and sequence, values that name them too; outcomes are recorded for verification.
    /// Worker w writes to shard w % `shard_count` alone, so a pause of one shard does not stall the others' writers.
    Tracked {
        /// Shards of the cluster, at least 1.
        shard_count: u32,
    },
}

/// Bytes shared by all values of a load, prepared once.
#[derive(Clone, Debug)]
pub struct Filler {
    bytes: Vec<u8>,
}

impl Filler {
    /// `value_bytes` letters and digits that do not repeat within a value, so that nothing on the way can shrink them.
    #[must_use]
    pub fn new(value_bytes: usize) -> Self {
        let mut rng = SplitMix64::of_stream(0x51_75_6f_72_61_74_65, 0);
        let letter = |random: u64| FILLER_ALPHABET.get((random >> 59) as usize).copied().unwrap_or(b'a');
        Self { bytes: (0..value_bytes).map(|_| letter(rng.next_u64())).collect() }
    }

    /// The value of a plain write.
    #[must_use]
    pub(crate) fn plain_value(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether `value` is what the tracked write (`worker`, `sequence`) carried.
    #[must_use]
    pub(crate) fn is_tracked_value(&self, value: &[u8], worker: usize, sequence: u64) -> bool {
        let mut name = Vec::with_capacity(TRACKED_NAME_BYTES);
        push_name(&mut name, worker, sequence);
        let tail = self.bytes.get(TRACKED_NAME_BYTES..).unwrap_or(&[]);
        value.split_at_checked(TRACKED_NAME_BYTES).is_some_and(|(head, rest)| head == name && rest == tail)
    }
}

/// Produces one worker's keys and values, in place.
#[derive(Clone, Debug)]
pub struct WriteSource {
    plan: KeyPlan,
    worker: usize,
    worker_count: usize,
    sequence: u64,
    rng: SplitMix64,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl WriteSource {
    /// The writes of worker `worker` of `worker_count`, whose values are built from `filler`.
    #[must_use]
    pub fn new(plan: KeyPlan, worker: usize, worker_count: usize, seed: u64, filler: &Filler) -> Self {
        let rng = SplitMix64::of_stream(seed, worker as u64);
        Self { plan, worker, worker_count, sequence: 0, rng, key: Vec::new(), value: filler.bytes.clone() }
    }

    /// Writes produced so far; the sequence number of the next.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Shard all of this worker's writes go to, or shard 0 where the plan does not say.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        match self.plan {
            KeyPlan::Tracked { shard_count } => tracked_shard(self.worker, shard_count),
            KeyPlan::Random { .. } | KeyPlan::Sequential => ShardId::new(0),
        }
    }

    /// Builds the next write's key and value and returns them.
    pub(crate) fn next_write(&mut self) -> (&[u8], &[u8]) {
        self.key.clear();
        match self.plan {
            KeyPlan::Random { key_space } => push_digits(&mut self.key, self.rng.below(key_space), PLAIN_KEY_BYTES),
            KeyPlan::Sequential => {
                let number = self.sequence * self.worker_count as u64 + self.worker as u64;
                push_digits(&mut self.key, number, PLAIN_KEY_BYTES);
            }
            KeyPlan::Tracked { shard_count } => {
                push_tracked_key(&mut self.key, self.worker, self.sequence, shard_count);
                for (byte, name) in self.value.iter_mut().zip(self.key.iter().take(TRACKED_NAME_BYTES)) {
                    *byte = *name;
                }
            }
        }
        self.sequence += 1;
        (&self.key, &self.value)
    }
}

/// Shard that tracked worker `worker` writes to.
#[must_use]
pub(crate) fn tracked_shard(worker: usize, shard_count: u32) -> ShardId {
    let shard = worker as u64 % u64::from(shard_count.max(1));
    ShardId::new(u32::try_from(shard).unwrap_or(0))
}

/// Key of the tracked write (`worker`, `sequence`) in a cluster of `shard_count` shards.
#[must_use]
pub(crate) fn tracked_key(worker: usize, sequence: u64, shard_count: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(TRACKED_NAME_BYTES + TRACKED_SUFFIX_BYTES);
    push_tracked_key(&mut key, worker, sequence, shard_count);
    key
}

/// First key of worker `worker` and the first key after its last: the range that holds all its tracked writes.
#[must_use]
pub(crate) fn tracked_range(worker: usize) -> (Vec<u8>, Vec<u8>) {
    let prefix = |end: u8| {
        let mut key = Vec::with_capacity(7);
        key.push(b'w');
        push_digits(&mut key, worker as u64, 5);
        key.push(end);
        key
    };
    (prefix(b'-'), prefix(b'-' + 1))
}

/// Sequence number in `key` if it is a tracked key of `worker` in a cluster of `shard_count` shards.
#[must_use]
pub(crate) fn parse_tracked_key(key: &[u8], worker: usize, shard_count: u32) -> Option<u64> {
    let digits = key.get(7..TRACKED_NAME_BYTES)?;
    let sequence = digits
        .iter()
        .try_fold(0u64, |number, byte| byte.is_ascii_digit().then(|| number * 10 + u64::from(byte - b'0')))?;
    (key == tracked_key(worker, sequence, shard_count)).then_some(sequence)
}

fn push_tracked_key(key: &mut Vec<u8>, worker: usize, sequence: u64, shard_count: u32) {
    push_name(key, worker, sequence);
    if shard_count <= 1 {
        return;
    }
    // CRC-32 spreads the suffixes over all shards, so one of 65,536 fits; the last is kept if none should.
    for suffix in 0..=u16::MAX {
        key.truncate(TRACKED_NAME_BYTES);
        key.push(b'-');
        for shift in [12, 8, 4, 0] {
            let nibble = usize::from(suffix >> shift) & 0xf;
            key.extend(b"0123456789abcdef".get(nibble));
        }
        if shard_of_key(key, shard_count) == tracked_shard(worker, shard_count) {
            return;
        }
    }
}

fn push_name(name: &mut Vec<u8>, worker: usize, sequence: u64) {
    name.push(b'w');
    push_digits(name, worker as u64, 5);
    name.push(b'-');
    push_digits(name, sequence, 10);
}

/// Appends `number` in exactly `width` decimal digits, the upper ones dropped if it has more.
fn push_digits(out: &mut Vec<u8>, number: u64, width: usize) {
    let begin = out.len();
    out.resize(begin + width, b'0');
    let mut rest = number;
    for digit in out.iter_mut().skip(begin).rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::TRACKED_WORKERS_MAX;

    #[test]
    fn plain_keys_have_one_width_and_stay_in_their_space() {
        let filler = Filler::new(8);
        let mut source = WriteSource::new(KeyPlan::Random { key_space: 50 }, 3, 8, 1, &filler);
        for _ in 0..1000 {
            let (key, value) = source.next_write();
            assert_eq!((key.len(), value), (PLAIN_KEY_BYTES, filler.plain_value()));
            let number: u64 = std::str::from_utf8(key).expect("digits").parse().expect("a number");
            assert!(number < 50);
        }
    }

    #[test]
    fn sequential_keys_of_all_workers_are_unique() {
        let filler = Filler::new(0);
        let mut keys = std::collections::BTreeSet::new();
        for worker in 0..7 {
            let mut source = WriteSource::new(KeyPlan::Sequential, worker, 7, 1, &filler);
            for _ in 0..100 {
                assert!(keys.insert(source.next_write().0.to_vec()));
            }
        }
        assert_eq!(keys.last().map(Vec::as_slice), Some(&b"0000000000000699"[..]));
    }

    proptest! {
        #[test]
        fn a_tracked_write_names_itself_and_lands_in_its_shard(
            worker in 0usize..TRACKED_WORKERS_MAX,
            sent in 1u64..40,
            shard_count in 1u32..9,
        ) {
            let filler = Filler::new(64);
            let plan = KeyPlan::Tracked { shard_count };
            let mut source = WriteSource::new(plan, worker, TRACKED_WORKERS_MAX, 1, &filler);
            let shard = source.shard();
            let (first, end) = tracked_range(worker);
            for sequence in 0..sent {
                prop_assert_eq!(source.sequence(), sequence);
                let (key, value) = source.next_write();
                prop_assert_eq!(value.len(), 64);
                prop_assert_eq!(shard_of_key(key, shard_count), shard);
                prop_assert_eq!(parse_tracked_key(key, worker, shard_count), Some(sequence));
                prop_assert_eq!(parse_tracked_key(key, worker + 1, shard_count), None);
                prop_assert!(first.as_slice() <= key && key < end.as_slice());
                prop_assert!(filler.is_tracked_value(value, worker, sequence));
                prop_assert!(!filler.is_tracked_value(value, worker, sequence + 1));
                prop_assert!(!filler.is_tracked_value(&value[..63], worker, sequence));
            }
        }

        #[test]
        fn no_foreign_key_is_taken_for_a_tracked_one(key in prop::collection::vec(any::<u8>(), 0..30)) {
            prop_assert_eq!(parse_tracked_key(&key, 1, 2), None);
        }
    }

    #[test]
    fn a_shortest_value_is_just_the_name() {
        let filler = Filler::new(TRACKED_VALUE_BYTES_MIN);
        let mut source = WriteSource::new(KeyPlan::Tracked { shard_count: 1 }, 12, 20, 1, &filler);
        let (key, value) = source.next_write();
        assert_eq!((key, value), (&b"w00012-0000000000"[..], &b"w00012-0000000000"[..]));
    }
}
