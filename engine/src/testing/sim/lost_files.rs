//! Single files of a node are lost or rot while it is down: it must refuse to start, and say what it lacks.
//!
//! Whoever runs the node then removes the whole directory, as the refusal says, and the node comes back as one that lost everything.

use wal::testing::SimRng;

use super::files::{FilesLost, LOSSES};
use super::host::first_segment;
use super::plan::pick;
use super::world::{Place, World};
use crate::opening::Opening;

/// One in this many losses of a disk is one of single files.
const FILES_ONE_IN: u64 = 2;

impl World {
    /// Takes away or spoils single files of a node that is down, so that it refuses to start. Says whether it did.
    pub(super) fn lose_files(&mut self, host: usize) -> bool {
        // Of its own, so that a run without this is what it was.
        let mut rng = SimRng::new(self.plan.seed ^ self.now_us);
        if !rng.chance(1, FILES_ONE_IN) {
            return false;
        }
        let shard = usize::try_from(rng.below(self.plan.shards.into())).expect("few");
        let lost = pick(&mut rng, &LOSSES);
        self.hosts[host].shards[shard].files.lost = lost;
        if self.expect_refusal(Place { host, shard }) {
            self.trace.note(self.now_us, || format!("node {} shard {shard}: {lost:?} is lost", host + 1));
            return true;
        }
        // It was no loss: the node never promised anything.
        self.hosts[host].shards[shard].files.lost = FilesLost::Nothing;
        false
    }

    /// Whether a node that is down will refuse to start because of this shard. Whoever runs it then removes the whole directory, as the
    /// refusal says: until it is back it counts as one that lost everything.
    pub(super) fn expect_refusal(&mut self, Place { host, shard }: Place) -> bool {
        let options = self.hosts[host].log_options(&self.plan, u32::try_from(shard).expect("few"));
        let is_ready = self.hosts[host].directory.is_ready();
        let opening = self.hosts[host].shards[shard].opening(is_ready, options, first_segment(&self.plan));
        let refuses = matches!(opening, Err(_) | Ok(Opening::RefuseLogGone | Opening::RefuseRecord(_)));
        if refuses {
            self.hosts[host].must_refuse = true;
            self.hosts[host].shards.iter_mut().for_each(|shard| shard.is_wiped = true);
        }
        refuses
    }
}
