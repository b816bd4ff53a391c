//! The executors of a node: starts one per core, and ends them all before anybody else may have the data.
//!
//! What a core does is `core`'s. A start that fails half way ends like a stop: on return no thread of it is left, and of a first
//! start no file. Once all cores can start their shards, the data directory is marked as one in which a node runs.

use std::sync::mpsc;
use std::time::Duration;

use glommio::channels::channel_mesh::MeshBuilder;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement, PoolPlacement};
use net::shell::Resolver;
use rustix::thread::{MembarrierCommand, membarrier, set_name};

use super::callers::Callers;
use super::classes::Classes;
use super::core::{self, CoreParts, Shared};
use super::data_dir::DataDir;
use super::ending::{CoreEnd, Ending, Step};
use super::helpers::Helpers;
use super::leftover::Leftover;
use super::limits::{
    BEFORE_CLASSES, CORE_ENDS_WITHIN, EXECUTOR_IO_MEMORY_BYTES, EXECUTOR_RING_ENTRIES, HELPERS_MAX, HELPERS_PER_CORE,
    HELPERS_WITHIN, LOOK_FOR_END, LOOKUPS_WITHIN, MESH_CHANNEL_LEN,
};
use super::panics;
use super::ports::PortHold;
use super::shard::ShardParts;
use super::starting::{Starting, Told};
use super::steps::Steps;
use super::stop_error::StopError;

/// The running executors of a node, and the data directory that they work in.
#[derive(Debug)]
pub struct Cores {
    /// Closing it stops the cores.
    stop: Option<async_channel::Sender<()>>,
    ending: Ending,
    /// With the number of the core.
    executors: Vec<(usize, ExecutorJoinHandle<()>)>,
    helpers: Helpers,
    callers: Callers,
    resolver: Resolver,
    /// Keeps others out for as long as a thread of this node may write.
    data_dir: Option<DataDir>,
    /// The node's addresses are its own for as long as a core of it may listen.
    ports: Vec<PortHold>,
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
        callers: Callers,
        data_dir: DataDir,
        steps: &Steps,
    ) -> Result<Self, String> {
        steps.enter("starting the cores");
        register_for_barriers();
        let ending = Ending::default();
        let (stop, stopped) = async_channel::bounded(1);
        let cores_count = shared.config.cores() as usize;
        let (go, going) = async_channel::bounded(cores_count);
        let mut cores = Self {
            stop: Some(stop),
            ending: ending.clone(),
            executors: Vec::new(),
            helpers: shared.helpers.clone(),
            callers: callers.clone(),
            resolver: shared.resolver.clone(),
            data_dir: Some(data_dir),
            ports: Vec::new(),
        };
        let helpers_count = (HELPERS_PER_CORE * cores_count).min(HELPERS_MAX);
        if let Err(error) = cores.helpers.start(helpers_count).and_then(|()| callers.start()) {
            let said =
                format!("cannot start a thread beside the cores: {error}; raise the limit on threads or processes");
            return Err(cores.give_up(vec![said]));
        }
        let (result, results) = mpsc::channel();
        let mut reasons = Vec::new();
        let starting = |core| Starting::new(core, result.clone(), steps.clone());
        for parts in split(shared, shards, callers, &Signals { stopped, going }, starting) {
            let core = parts.core;
            parts.starting.is_at("waiting for its thread and rings");
            match spawn(parts, ending.of_core(core)) {
                Ok(executor) => cores.executors.push((core, executor)),
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
        Err(cores.give_up(reasons))
    }

    /// Ends a start that failed; says why it did.
    fn give_up(mut self, mut reasons: Vec<String>) -> String {
        let ended = self.end(DataDir::discard);
        // The first is the cause of the others, but a thread that ended without a word says why only now.
        reasons.truncate(1);
        reasons.extend(ended.err().map(|error| error.to_string()));
        reasons.join("; ")
    }

    /// Keeps the node's addresses until no core can listen at them any more.
    pub(super) fn hold(&mut self, ports: Vec<PortHold>) {
        self.ports = ports;
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

    /// Stops the cores, waits until every thread of the node has ended, and gives the data directory and the addresses free. Does nothing
    /// the second time.
    ///
    /// # Errors
    /// What did not end in order, and what is left of it.
    pub fn join(&mut self) -> Result<(), StopError> {
        self.end(drop)
    }

    /// The same; `leave` gives the data directory free.
    fn end(&mut self, leave: impl FnOnce(DataDir)) -> Result<(), StopError> {
        let Some(data_dir) = self.data_dir.take() else { return Ok(()) };
        drop(self.stop.take());
        let mut hanging = self.ending.wait(Step::Stopped, CORE_ENDS_WITHIN, |_| true);
        self.ending.allow(Step::Idle);
        let others = self.ending.wait(Step::Idle, CORE_ENDS_WITHIN, |core| !hanging.contains(&core));
        hanging.extend(others);
        // From here on nobody may wake a task of a core: first whoever could comes to its end.
        self.callers.end();
        let helpers_ended = self.helpers.end(HELPERS_WITHIN);
        for name in self.resolver.wait_until_idle(LOOKUPS_WITHIN) {
            tracing::warn!(name, "a lookup of this name has not ended; its thread goes on until it does");
        }
        self.ending.allow(Step::Gone);
        let mut result = Ok(());
        for (core, executor) in self.executors.drain(..).filter(|(core, _)| !hanging.contains(core)) {
            if let Err(error) = executor.join() {
                result = Err(StopError::Core { core, reason: error.to_string() });
            }
        }
        let leftovers = self.ending.take_leftovers();
        // Whatever goes on might still wake a task of a core, and would write to the descriptor.
        if hanging.is_empty()
            && helpers_ended
            && !leftovers.into_iter().map(Leftover::close).fold(true, |all, is| all & is)
        {
            tracing::debug!("an executor's descriptor was not found; it stays open until this process ends");
        }
        if let Some(&core) = hanging.first() {
            // Whoever had them now would meet the core that hangs.
            std::mem::forget((data_dir, std::mem::take(&mut self.ports)));
            return Err(StopError::CoreHangs { core });
        }
        self.ports.clear();
        if !helpers_ended {
            // Whoever opened the directory now would write beside it.
            std::mem::forget(data_dir);
            return Err(StopError::HelperHangs);
        }
        leave(data_dir);
        result
    }
}

impl Drop for Cores {
    fn drop(&mut self) {
        if let Err(error) = self.join() {
            tracing::error!(%error, "while stopping");
        }
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
    callers: Callers,
    signals: &Signals,
    starting: impl Fn(usize) -> Starting,
) -> Vec<CoreParts> {
    let cores = shared.config.cores() as usize;
    let mesh = (cores > 1).then(|| MeshBuilder::full(cores, MESH_CHANNEL_LEN));
    let mut owned: Vec<Vec<ShardParts>> = (0..cores).map(|_| Vec::new()).collect();
    for shard in shards {
        owned[shard.id.get() as usize % cores].push(shard);
    }
    let mut callers = Some(callers);
    let parts = owned.into_iter().enumerate().map(|(core, shards)| CoreParts {
        core,
        shared: shared.clone(),
        shards,
        mesh: mesh.clone(),
        callers: callers.take(),
        stop: signals.stopped.clone(),
        go: signals.going.clone(),
        starting: starting(core),
    });
    parts.collect()
}

fn spawn(parts: CoreParts, end: CoreEnd) -> Result<ExecutorJoinHandle<()>, String> {
    let config = &parts.shared.config;
    let placement = if config.pin_cores() { Placement::Fixed(parts.core) } else { Placement::Unbound };
    let name = thread_name(parts.core);
    // No helper threads of the executor: nobody could wait for their end. The node has its own.
    let mut builder = LocalExecutorBuilder::new(placement)
        .name(&name)
        .io_memory(EXECUTOR_IO_MEMORY_BYTES)
        .ring_depth(EXECUTOR_RING_ENTRIES)
        .preempt_timer(BEFORE_CLASSES)
        .blocking_thread_pool_placement(PoolPlacement::Custom(Vec::new()));
    if config.spin_us() > 0 {
        builder = builder.spin_before_park(Duration::from_micros(config.spin_us()));
    }
    let spawned = builder.spawn(move || {
        panics::thread_is_node("a core");
        name_this_thread(&name);
        async move {
            parts.starting.is_at("running");
            let classes = Classes::create(parts.shared.metrics.slices());
            let work = run_to_the_end(parts, end, classes.clone());
            classes.run(work).await;
        }
    });
    spawned.map_err(|error| error.to_string())
}

/// Runs a core until the node stops, and ends all that it started.
async fn run_to_the_end(parts: CoreParts, end: CoreEnd, classes: Classes) {
    let core = parts.core;
    let all = core::run(parts, classes.clone()).await;
    end.has_reached(Step::Stopped);
    end.until_allowed(Step::Idle).await;
    let ended = classes.tasks().end().await;
    for started in ended.as_ref().err().into_iter().flatten() {
        tracing::error!(core, %started, "a task of this core does not end; what it holds stays until this process ends");
    }
    let is_gone = all.is_none_or(core::Remains::end) && ended.is_ok();
    end.has_reached(Step::Idle);
    end.until_allowed(Step::Gone).await;
    // Takes the wake-ups that came before: there are no others.
    glommio::timer::sleep(LOOK_FOR_END).await;
    if is_gone {
        end.leaves(Leftover::of_this_executor().await);
    }
}

/// What the thread of a core is called. Linux keeps 15 bytes of it.
fn thread_name(core: usize) -> String {
    if core < 1_000 { format!("quorate-core{core}") } else { format!("quor-core{core}") }
}

/// Names the calling thread: the executor adds a number of its own to its name.
fn name_this_thread(name: &str) {
    let named = std::ffi::CString::new(name).map(|name| set_name(&name));
    if !matches!(named, Ok(Ok(()))) {
        tracing::debug!(name, "this thread has another name");
    }
}

#[test]
fn executors_need_no_registration_of_their_own() {
    register_for_barriers();
    // Refused to a process that is not registered.
    membarrier(MembarrierCommand::PrivateExpedited).expect("it is registered");
}

#[test]
fn names_of_threads_fit_into_what_the_kernel_keeps() {
    for core in [0, 999, crate::limits::CORES_MAX as usize - 1] {
        let name = thread_name(core);
        assert!(name.len() <= 15 && name.ends_with(&core.to_string()), "{name}");
    }
}
