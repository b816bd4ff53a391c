//! Whose power goes, and when: drawn from a seed. It does nothing itself.

use powerfs::{Kind, Trigger};
use wal::random::SplitMix64;

use crate::limits::{ANSWERS_BETWEEN_CUTS_MAX, CHANGES_BEFORE_CUT_MAX, NAMES_BEFORE_CUT_MAX};

/// How the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cmd) enum How {
    /// At a request: what the kernel has not written back is gone, and what was written and not synced is torn.
    At(Trigger),
    /// The processes die first. The kernel writes back what they left, unsynced; then the power goes.
    AfterDeath,
}

/// One power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cmd) struct Cut {
    /// One bit for each node.
    pub(in crate::cmd) victims: u64,
    pub(in crate::cmd) how: How,
    /// So many answers come before; none: the cut is meant for nodes that are starting.
    pub(in crate::cmd) answers_before: usize,
    /// Decides what is left.
    pub(in crate::cmd) seed: u64,
}

impl Cut {
    /// Draws one for a cluster of so many nodes.
    pub(in crate::cmd) fn draw(random: &mut SplitMix64, nodes: u8) -> Self {
        let all = (1 << nodes) - 1;
        let one = 1 << random.below(nodes.into());
        let victims = match random.below(5) {
            0 => one,
            // All but one, which is a majority of three and more.
            1 if nodes > 2 => all & !one,
            _ => all,
        };
        let cut = Self::of(victims, random);
        let is_while_starting = random.chance(1, 4);
        let answers = usize::try_from(1 + random.below(ANSWERS_BETWEEN_CUTS_MAX)).expect("few");
        let answers_before = if is_while_starting { 0 } else { answers };
        Self { answers_before, ..cut }
    }

    /// One that these lose their power in, at once.
    pub(in crate::cmd) fn of(victims: u64, random: &mut SplitMix64) -> Self {
        assert!(victims != 0, "a cut has victims");
        let how = if random.chance(1, 4) { How::AfterDeath } else { How::At(draw_trigger(random)) };
        Self { victims, how, answers_before: 0, seed: random.next_u64() }
    }

    /// One while all nodes start for the first time.
    pub(in crate::cmd) fn draw_first(random: &mut SplitMix64, nodes: u8) -> Self {
        let trigger = draw_trigger(random);
        Self { victims: (1 << nodes) - 1, how: How::At(trigger), answers_before: 0, seed: random.next_u64() }
    }
}

fn draw_trigger(random: &mut SplitMix64) -> Trigger {
    let (kind, most) = match random.below(4) {
        0 => (None, CHANGES_BEFORE_CUT_MAX),
        1 => (Some(Kind::Sync), CHANGES_BEFORE_CUT_MAX),
        2 => (Some(Kind::Name), NAMES_BEFORE_CUT_MAX),
        _ => (Some(Kind::SyncNames), NAMES_BEFORE_CUT_MAX),
    };
    Trigger { kind, number: 1 + random.below(most), is_after: random.chance(1, 2) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_are_of_all_kinds_and_follow_from_the_seed() {
        let draw = |seed| {
            let mut random = SplitMix64::new(seed);
            (0..100).map(|_| Cut::draw(&mut random, 3)).collect::<Vec<_>>()
        };
        let cuts = draw(1);
        assert_eq!(cuts, draw(1));
        assert!((1..8).all(|victims| cuts.iter().any(|cut| cut.victims == victims)));
        assert!(cuts.iter().any(|cut| cut.how == How::AfterDeath) && cuts.iter().any(|cut| cut.answers_before == 0));
        assert!(cuts.iter().all(|cut| cut.victims > 0 && cut.victims < 8));
        let mut random = SplitMix64::new(2);
        assert!((0..50).all(|_| Cut::draw(&mut random, 1).victims == 1));
    }
}
