//! Nodes with the file systems that they run on.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use bench::nodes::{Nodes, Shape};
use powerfs::Remains;

use super::CertifyError;
use crate::cmd::power::PowerDisks;
use crate::cmd::power::plan::Cut;
use crate::cmd::recorded::Shared;

/// All nodes and their file systems.
#[derive(Debug)]
pub(super) struct Rack {
    pub(super) nodes: Nodes,
    /// None once it is taken away.
    disks: Option<PowerDisks>,
}

impl Rack {
    /// Mounts an empty file system for each node. Starts nothing yet.
    pub(super) fn create(program: PathBuf, shape: Shape, dir: &Path, keep: bool) -> Result<Self, CertifyError> {
        let mut rack = Self { nodes: Nodes::create(program, shape, dir, keep)?, disks: None };
        rack.disks = Some(PowerDisks::create(&mut rack.nodes)?);
        Ok(rack)
    }

    /// Starts the nodes among `which` (one bit each).
    pub(super) fn start(&mut self, which: u64, shared: &Shared) -> Result<(), CertifyError> {
        for node in (0..self.nodes.count()).filter(|node| which & (1 << node) != 0) {
            shared.lives[node].fetch_add(1, Ordering::SeqCst);
            self.nodes.start(node)?;
        }
        Ok(())
    }

    /// As [`PowerDisks::cut`].
    pub(super) async fn cut(&mut self, cut: &Cut) -> Result<Remains, CertifyError> {
        let disks = self.disks.as_mut().expect("they are there until this is dropped");
        Ok(disks.cut(&mut self.nodes, cut).await?)
    }
}

impl Drop for Rack {
    fn drop(&mut self) {
        // The nodes first, which use the file systems; then those, which are in the nodes' directory.
        for complaint in self.nodes.stop() {
            eprintln!("{complaint}");
        }
        self.disks = None;
    }
}
