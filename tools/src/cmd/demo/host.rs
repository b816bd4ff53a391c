//! What the demo needs of the host before it starts anything: room on the disk and memory.
//!
//! It looks and computes; it changes nothing.

use std::fs;
use std::path::Path;

use super::DemoError;

use crate::limits::{
    ASSUMED_BYTES_PER_S_MAX, ASSUMED_OPS_PER_S, LOG_OVERHEAD_BYTES, MEMORY_OVERHEAD_BYTES, NODE_BASE_BYTES,
    PREPARED_BYTES_PER_SHARD,
};

/// Type of a tmpfs as `statfs` tells it.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// What is going to run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) nodes: u64,
    pub(super) shards: u64,
    pub(super) seconds: u64,
    pub(super) value_bytes: u64,
}

impl Plan {
    /// Bytes of disk all nodes together may fill.
    pub(super) fn disk_bytes(&self) -> u64 {
        let written = self.bytes(LOG_OVERHEAD_BYTES);
        self.nodes.saturating_mul(written.saturating_add(self.shards.saturating_mul(PREPARED_BYTES_PER_SHARD)))
    }

    /// Bytes of memory all nodes together may take.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.nodes.saturating_mul(self.bytes(MEMORY_OVERHEAD_BYTES).saturating_add(NODE_BASE_BYTES))
    }

    fn bytes(&self, overhead_bytes: u64) -> u64 {
        let each = self.value_bytes.saturating_add(overhead_bytes);
        let per_second = ASSUMED_OPS_PER_S.saturating_mul(each).min(ASSUMED_BYTES_PER_S_MAX);
        per_second.saturating_mul(self.seconds)
    }
}

/// Refuses to start where the disk of `dir` has too little room, and returns what else is worth knowing, one line each.
pub(super) fn check(dir: &Path, plan: &Plan) -> Result<Vec<String>, DemoError> {
    let look = |source: rustix::io::Errno| DemoError::io("look at the file system of", dir, source.into());
    let space = rustix::fs::statvfs(dir).map_err(look)?;
    let free_bytes = space.f_bavail.saturating_mul(space.f_frsize);
    if free_bytes < plan.disk_bytes() {
        return Err(DemoError::DiskSpace {
            dir: dir.to_owned(),
            free_mib: free_bytes >> 20,
            needed_mib: plan.disk_bytes() >> 20,
        });
    }
    let mut notes = Vec::new();
    let kind = rustix::fs::statfs(dir).map_err(look)?.f_type;
    if u64::try_from(kind).is_ok_and(|kind| kind == TMPFS_MAGIC) {
        notes.push(format!(
            "note: {} is in memory (tmpfs), so syncs cost nothing there; use --dir for a directory on a disk",
            dir.display()
        ));
    }
    if let Some(available_bytes) = available_memory_bytes().filter(|&bytes| bytes < plan.memory_bytes()) {
        notes.push(format!(
            "note: {} MiB of memory are available and the nodes may need {} MiB; use fewer --seconds if they fail",
            available_bytes >> 20,
            plan.memory_bytes() >> 20
        ));
    }
    Ok(notes)
}

/// Memory programs can get without swapping, as the kernel estimates it.
fn available_memory_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan { nodes: 3, shards: 1, seconds: 10, value_bytes: 256 };

    #[test]
    fn needs_grow_with_time_and_are_bounded_for_large_values() {
        let ten_times = Plan { seconds: 100, ..PLAN };
        assert!(ten_times.disk_bytes() > 5 * PLAN.disk_bytes());
        let large = Plan { value_bytes: 1 << 20, ..PLAN };
        assert!(large.disk_bytes() < 20 * (1 << 30), "{}", large.disk_bytes());
        let endless = Plan { seconds: u64::MAX, ..PLAN };
        assert_eq!(endless.disk_bytes(), u64::MAX);
    }

    #[test]
    fn a_disk_without_room_is_refused_with_figures() {
        let endless = Plan { seconds: u64::MAX, ..PLAN };
        let error = check(&std::env::temp_dir(), &endless).expect_err("no disk is that large").to_string();
        assert!(error.contains("MiB") && error.contains("--dir"), "{error}");
    }
}
