//! The executors of a node: starts one per core, and ends them all before anybody else may have the data.
//!
//! What a core does is `core`'s. A start that fails half way ends like a stop: on return no thread of it is left, and of a first
//! start no file. Once all cores can start their shards, the data directory is marked as one in which a node runs.

use std::sync::mpsc;
use std::time::Duration;

use glommio::channels::channel_mesh::MeshBuilder;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement, PoolPlacement};
use rustix::thread::{MembarrierCommand, membarrier};

use super::classes::Classes;
use super::core::{self, CoreParts, Shared};
use super::data_dir::DataDir;
use super::handle::HandleCall;
use super::helpers::Helpers;
use super::limits::{BEFORE_CLASSES, EXECUTOR_IO_MEMORY_BYTES, HELPERS_WITHIN, MESH_CHANNEL_LEN};
use super::panics;
use super::shard::ShardParts;
use super::starting::{Starting, Told};
use super::steps::Steps;

/// The running executors of a node, and the data directory that they work in.
#[derive(Debug)]
pub struct Cores {
    /// Closing it stops the cores.
    stop: Option<async_channel::Sender<()>>,
    executors: Vec<ExecutorJoinHandle<()>>,
    helpers: Helpers,
    /// Keeps others out for as long as a thread of this node may write.
    data_dir: Option<DataDir>,
}

impl Cores {
    /// Starts one executor per core and waits until all of them listen.
    ///
    /// # Errors
    /// Why one of them does not. All have ended then, and the data directory is free. What this start created in it is gone, if
    /// no shard ran.
    pub fn start(
        shared: &Shared,
        shards: Vec<ShardParts>,
        handles: async_channel::Receiver<HandleCall>,
        data_dir: DataDir,
        steps: &Steps,
    ) -> Result<Self, String> {
        steps.enter("starting the cores");
        register_for_barriers();
        let (stop, stopped) = async_channel::bounded(1);
        let cores_count = shared.config.cores() as usize;
        let (go, going) = async_channel::bounded(cores_count);
        let helpers = shared.helpers.clone();
        let mut cores = Self { stop: Some(stop), executors: Vec::new(), helpers, data_dir: Some(data_dir) };
        let (result, results) = mpsc::channel();
        let mut reasons = Vec::new();
        let starting = |core| Starting::new(core, result.clone(), steps.clone());
        for parts in split(shared, shards, handles, &Signals { stopped, going }, starting) {
            let core = parts.core;
            parts.starting.is_at("waiting for its thread and rings");
            match spawn(parts) {
                Ok(executor) => cores.executors.push(executor),
                Err(reason) => reasons.push(format!("core {core} cannot start: {reason}")),
            }
        }
        drop(result);
        cores.wait_for_all(cores_count, &results, &mut reasons);
        if reasons.is_empty() {
            steps.enter("syncing the data directory");
            reasons
                .extend(cores.data_dir.as_mut().and_then(|dir| dir.mark_ready().err()).map(|error| error.to_string()));
        }
        if reasons.is_empty() {
            steps.enter("starting the shards");
            for _ in 0..cores_count {
                // A core that is not there to take it says why by itself.
                let _gone = go.try_send(());
            }
            cores.wait_for_all(cores_count, &results, &mut reasons);
        }
        if reasons.is_empty() {
            return Ok(cores);
        }
        // Those that wait for it end.
        drop(go);
        let ended = cores.end(DataDir::discard);
        // The first is the cause of the others, but a thread that ended without a word says why only now.
        reasons.truncate(1);
        reasons.extend(ended.err());
        Err(reasons.join("; "))
    }

    /// Waits until every core has done its next step, or says why it cannot.
    fn wait_for_all(&mut self, count: usize, results: &mpsc::Receiver<Told>, reasons: &mut Vec<String>) {
        assert!(count > 0, "a node has a core");
        for _ in 0..count {
            if let Ok((_, Err(reason))) = results.recv() {
                reasons.push(reason);
                // The others may be waiting for the core that is not coming.
                drop(self.stop.take());
            }
        }
    }

    /// Stops the cores, waits until every thread that may write has ended, and gives the data directory free.
    ///
    /// # Errors
    /// A core did not end well; the text says which.
    pub fn join(&mut self) -> Result<(), String> {
        self.end(drop)
    }

    /// The same; `leave` gives the data directory free.
    fn end(&mut self, leave: impl FnOnce(DataDir)) -> Result<(), String> {
        drop(self.stop.take());
        let mut result = Ok(());
        for (core, executor) in self.executors.drain(..).enumerate() {
            if let Err(error) = executor.join() {
                result = Err(format!("core {core} did not end well: {error}"));
            }
        }
        let data_dir = self.data_dir.take();
        if self.helpers.wait_until_idle(HELPERS_WITHIN) {
            data_dir.map(leave);
        } else {
            // Whoever opened the directory now would write beside it.
            std::mem::forget(data_dir);
            result = Err(format!(
                "a helper thread still works in the data directory after {HELPERS_WITHIN:?}: the disk may hang; the \
                 directory stays locked until this process ends"
            ));
        }
        result
    }
}

/// Registers the process for barriers between threads, which an executor issues before it sleeps.
///
/// glommio does so when the first executor first sleeps. In a process with threads that takes the kernel up to 50 ms, in which a core
/// does nothing; what is registered already is not registered again.
fn register_for_barriers() {
    if let Err(error) = membarrier(MembarrierCommand::RegisterPrivateExpedited) {
        tracing::debug!(%error, "the kernel has no fast barriers between threads; executors do without");
    }
}

/// What tells the cores to go on.
struct Signals {
    /// Closes when the node is to stop.
    stopped: async_channel::Receiver<()>,
    /// Brings a word for each core when all can start their shards, or closes.
    going: async_channel::Receiver<()>,
}

/// What each core is started with.
fn split(
    shared: &Shared,
    shards: Vec<ShardParts>,
    handles: async_channel::Receiver<HandleCall>,
    signals: &Signals,
    starting: impl Fn(usize) -> Starting,
) -> Vec<CoreParts> {
    let cores = shared.config.cores() as usize;
    let mesh = (cores > 1).then(|| MeshBuilder::full(cores, MESH_CHANNEL_LEN));
    let mut owned: Vec<Vec<ShardParts>> = (0..cores).map(|_| Vec::new()).collect();
    for shard in shards {
        owned[shard.id.get() as usize % cores].push(shard);
    }
    let mut handles = Some(handles);
    let parts = owned.into_iter().enumerate().map(|(core, shards)| CoreParts {
        core,
        shared: shared.clone(),
        shards,
        mesh: mesh.clone(),
        handles: handles.take(),
        stop: signals.stopped.clone(),
        go: signals.going.clone(),
        starting: starting(core),
    });
    parts.collect()
}

fn spawn(parts: CoreParts) -> Result<ExecutorJoinHandle<()>, String> {
    let config = &parts.shared.config;
    let placement = if config.pin_cores() { Placement::Fixed(parts.core) } else { Placement::Unbound };
    let mut builder = LocalExecutorBuilder::new(placement)
        .name(&format!("quorate-{}", parts.core))
        .io_memory(EXECUTOR_IO_MEMORY_BYTES)
        .preempt_timer(BEFORE_CLASSES)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(2));
    if config.spin_us() > 0 {
        builder = builder.spin_before_park(Duration::from_micros(config.spin_us()));
    }
    let spawned = builder.spawn(move || {
        panics::thread_is_node("a core");
        async move {
            parts.starting.is_at("running");
            let classes = Classes::create(parts.shared.metrics.slices());
            classes.run(core::run(parts, classes.clone())).await;
        }
    });
    spawned.map_err(|error| error.to_string())
}

#[test]
fn executors_need_no_registration_of_their_own() {
    register_for_barriers();
    // Refused to a process that is not registered.
    membarrier(MembarrierCommand::PrivateExpedited).expect("it is registered");
}
