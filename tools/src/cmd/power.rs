//! File systems that lose their power (`powerfs`), one under each node, and power cuts of nodes that run on them.
//!
//! Whose power goes when is `plan`'s business and the caller's; so is starting the victims again.

pub(in crate::cmd) mod plan;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bench::nodes::{Nodes, NodesError};
use powerfs::{HostFiles, Images, Mount, MountError, Refusal, Remains, Supply};
use rustix::process::Signal;
use wal::random::SplitMix64;

use self::plan::{Cut, How};

use crate::limits::{CUT_POLL, CUT_WITHIN};

/// Why the power cannot be cut.
#[derive(Debug, thiserror::Error)]
pub enum PowerError {
    /// A file system could not be mounted or taken away.
    #[error("power cuts cannot be had here: {0}")]
    Mount(#[from] MountError),
    /// The files with the images failed.
    #[error("the files in {path} cannot be used: {refusal}", path = path.display())]
    Images {
        /// Where they are.
        path: PathBuf,
        /// What went wrong.
        refusal: Refusal,
    },
    /// A directory could not be made.
    #[error("cannot create {path}: {source}", path = path.display())]
    Create {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A node could not be killed, or had ended by itself.
    #[error(transparent)]
    Nodes(#[from] NodesError),
}

/// One node's file system.
#[derive(Debug)]
struct Disk {
    images: Arc<Mutex<Images<HostFiles>>>,
    store: PathBuf,
    place: PathBuf,
    mount: Option<Mount>,
}

/// The file systems of all nodes. Dropping them takes them away: stop the nodes before.
#[derive(Debug)]
pub(in crate::cmd) struct PowerDisks {
    supply: Arc<Supply>,
    disks: Vec<Disk>,
}

impl PowerDisks {
    /// Mounts an empty file system for each node, in the nodes' directory, and lets the nodes keep their data there.
    pub(in crate::cmd) fn create(nodes: &mut Nodes) -> Result<Self, PowerError> {
        let mut disks = Self { supply: Arc::default(), disks: Vec::new() };
        let owner = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        for node in 0..nodes.count() {
            let path = |what: &str| nodes.dir().join(format!("{what}{}", node + 1));
            let (store, place) = (path("store"), path("mount"));
            let failed = |path: &Path| {
                let path = path.to_owned();
                move |source| PowerError::Create { path, source }
            };
            let files = HostFiles::create(&store).map_err(failed(&store))?;
            fs::create_dir(&place).map_err(failed(&place))?;
            nodes[node].data_dir = place.join("data");
            let images = Arc::new(Mutex::new(Images::new(files, owner)));
            disks.disks.push(Disk { images, store, place, mount: None });
            disks.mount(node)?;
        }
        Ok(disks)
    }

    /// Cuts the power as `cut` says, and mounts what was left. The victims are not started again.
    ///
    /// A victim that had ended by itself is the error `NodeDied`.
    pub(in crate::cmd) async fn cut(&mut self, nodes: &mut Nodes, cut: &Cut) -> Result<Remains, PowerError> {
        let victims: Vec<usize> = (0..nodes.count()).filter(|node| cut.victims & (1 << node) != 0).collect();
        match cut.how {
            How::At(trigger) => {
                self.supply.arm(cut.victims, trigger);
                let started = Instant::now();
                while !self.supply.has_gone() && started.elapsed() < CUT_WITHIN {
                    tokio::time::sleep(CUT_POLL).await;
                }
            }
            // The kernel writes back what they leave, as long as there is power.
            How::AfterDeath => victims.iter().try_for_each(|&node| nodes.kill(node))?,
        }
        self.supply.take(cut.victims);
        // Whoever hangs in a request dies once the connection has ended.
        for &node in &victims {
            nodes[node].signal(Signal::KILL);
        }
        for &node in &victims {
            if let Some(mount) = self.disks[node].mount.take() {
                mount.take_away()?;
            }
        }
        victims.iter().try_for_each(|&node| nodes.kill(node))?;
        let mut remains = Remains::default();
        for (&node, stream) in victims.iter().zip(0_u64..) {
            let disk = &self.disks[node];
            let seed = SplitMix64::of_stream(cut.seed, stream).next_u64();
            let left = disk.images.lock().unwrap_or_else(PoisonError::into_inner).cut(seed);
            remains.add(left.map_err(|refusal| PowerError::Images { path: disk.store.clone(), refusal })?);
        }
        self.supply.give(cut.victims);
        victims.into_iter().try_for_each(|node| self.mount(node))?;
        Ok(remains)
    }

    fn mount(&mut self, node: usize) -> Result<(), PowerError> {
        let disk = &mut self.disks[node];
        let member = u8::try_from(node).expect("few nodes");
        disk.mount = Some(Mount::new(Arc::clone(&disk.images), &disk.place, Arc::clone(&self.supply), member)?);
        Ok(())
    }
}
