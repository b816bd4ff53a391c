//! Shards that say nothing any more: their core hangs, as it does when the disk keeps a store into a mapped page waiting.
//!
//! Each shard posts on the board with every tick. A core looks now and then whether the shards of other cores have; a core that hangs
//! itself is noticed by its clients, who get no answer to a ping. It counts looks, not time: in a process that was stopped as a
//! whole, all shards post again before they are looked at twice. Nothing here waits or refuses.

use crate::types::ShardId;

use super::limits::SILENCE_LOOKS_MAX;

/// What was seen of the shards of other cores.
#[derive(Debug)]
pub(super) struct Silence {
    seen: Vec<Seen>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    post_count: u64,
    /// How many looks in a row found no new post.
    silent_looks: u32,
}

/// Something changed about a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShardChange {
    /// It has said nothing for too long.
    FellSilent(ShardId),
    /// It says something again.
    Speaks(ShardId),
}

impl Silence {
    /// Watches this many shards.
    pub(super) fn new(shard_count: u32) -> Self {
        Self { seen: vec![Seen::default(); shard_count as usize] }
    }

    /// Compares how often each shard has posted so far with the last look. A shard that has never posted is not silent.
    pub(super) fn look(&mut self, post_counts: &[u64]) -> Vec<ShardChange> {
        assert_eq!(post_counts.len(), self.seen.len(), "a count for each shard");
        let mut changes = Vec::new();
        for ((number, seen), post_count) in (0..).zip(&mut self.seen).zip(post_counts) {
            if seen.post_count == *post_count && *post_count > 0 {
                seen.silent_looks = seen.silent_looks.saturating_add(1);
                if seen.silent_looks == SILENCE_LOOKS_MAX {
                    changes.push(ShardChange::FellSilent(ShardId::new(number)));
                }
            } else {
                if seen.silent_looks >= SILENCE_LOOKS_MAX {
                    changes.push(ShardChange::Speaks(ShardId::new(number)));
                }
                *seen = Seen { post_count: *post_count, silent_looks: 0 };
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId::new(1);

    #[test]
    fn a_shard_that_stops_posting_is_silent_once_and_until_it_posts() {
        let mut silence = Silence::new(2);
        for count in 1..10 {
            assert_eq!(silence.look(&[count, 7 * count]), []);
        }
        for look in 1..3 * SILENCE_LOOKS_MAX {
            let changes = silence.look(&[9 + u64::from(look), 63]);
            let expected: &[ShardChange] =
                if look == SILENCE_LOOKS_MAX { &[ShardChange::FellSilent(SHARD)] } else { &[] };
            assert_eq!(changes, expected, "look {look}");
        }
        assert_eq!(silence.look(&[100, 64]), [ShardChange::Speaks(SHARD)]);
        assert_eq!(silence.look(&[101, 64]), []);
        assert_eq!(silence.look(&[102, 65]), []);
    }

    #[test]
    fn a_shard_that_has_not_begun_is_not_silent() {
        let mut silence = Silence::new(1);
        for _ in 0..2 * SILENCE_LOOKS_MAX {
            assert_eq!(silence.look(&[0]), []);
        }
        assert_eq!(silence.look(&[1]), []);
    }
}
