//! Can this host run a node at all? Asked before anything is touched, answered in one line.

use std::net::SocketAddr;
use std::time::Instant;

use glommio::{GlommioError, LocalExecutorBuilder, Placement, ReactorErrorKind};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity};

use super::limits::{
    ADDRESS_FREE_WITHIN, ADDRESS_POLL, CORES_PER_PROCESSOR_MAX, EXECUTOR_IO_MEMORY_BYTES, MEMLOCK_BYTES_MIN,
};
use super::ports::PortHold;
use super::room::{Needs, Room};
use super::uring;
use crate::config::ValidConfig;

/// Why this host cannot run a node.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// The limit on locked memory is too low.
    #[error(
        "the limit on locked memory is {got} bytes, an executor needs {MEMLOCK_BYTES_MIN}: raise it (`ulimit -l 8192`, LimitMEMLOCK=8M in a systemd unit, or /etc/security/limits.conf)"
    )]
    Memlock {
        /// The limit.
        got: u64,
    },
    /// The limit on open files is too low.
    #[error(
        "the limit on open files is {got}, a node needs at least {needed}: raise it (`ulimit -n`, LimitNOFILE= in a systemd unit)"
    )]
    OpenFiles {
        /// The limit.
        got: u64,
        /// What is needed.
        needed: u64,
    },
    /// No executor can be made.
    #[error(
        "cannot set up io_uring: {reason}: Quorate needs Linux 5.8 or newer with io_uring enabled (see /proc/sys/kernel/io_uring_disabled; containers often forbid it in their seccomp profile)"
    )]
    IoUring {
        /// What the system said.
        reason: String,
    },
    /// There are far more cores than processors.
    #[error(
        "--cores {cores}: this process may use {processors} processors, and at most {CORES_PER_PROCESSOR_MAX} cores are taken for each: a core is a thread that wants a processor for itself; lower --cores"
    )]
    Cores {
        /// Executors.
        cores: usize,
        /// Processors that the process may use.
        processors: usize,
    },
    /// More cores are to be pinned than this process may run on.
    #[error(
        "--pin-cores with --cores {cores} needs the processors 0 to {last}, and this process may run on {allowed} only: lower --cores, or leave out --pin-cores",
        last = cores - 1
    )]
    Pinning {
        /// Executors.
        cores: usize,
        /// Processors that the process may run on, as a list.
        allowed: String,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address} for {purpose}: {source}{hint}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What it is for.
        purpose: &'static str,
        /// What the system said.
        source: std::io::Error,
        /// What to do.
        hint: &'static str,
    },
}

/// Checks limits and io_uring, warns of what is unwise, and returns how many connections the limit on open files leaves room for.
///
/// The soft limit on open files is raised to the hard one, as servers do.
///
/// # Errors
/// Says what is missing and how to get it.
pub fn check_host(config: &ValidConfig) -> Result<Room, PreflightError> {
    if let Some(got) = getrlimit(Resource::Memlock).current
        && got < MEMLOCK_BYTES_MIN
    {
        return Err(PreflightError::Memlock { got });
    }
    let files = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum });
    let open_files = if raised.is_ok() { files.maximum } else { files.current };
    let got = open_files.unwrap_or(u64::MAX);
    let room = Needs::of(config).room(got).map_err(|needed| PreflightError::OpenFiles { got, needed })?;
    check_cores(config.cores() as usize)?;
    let wanted = config.limits().connections;
    if room.connections < wanted as usize {
        tracing::warn!(
            open_files_limit = got,
            room = room.connections,
            wanted,
            "the limit on open files (`ulimit -n`) leaves room for fewer client connections than --max-connections allows"
        );
    }
    uring::probe().map_err(|error| PreflightError::IoUring { reason: error.to_string() })?;
    let made = LocalExecutorBuilder::new(Placement::Unbound).io_memory(EXECUTOR_IO_MEMORY_BYTES).make();
    match made {
        Ok(_executor) => {
            warn_of_impostors(config);
            Ok(room)
        }
        Err(GlommioError::ReactorError(ReactorErrorKind::MemLockLimit(got, _))) => Err(PreflightError::Memlock { got }),
        Err(error) => Err(PreflightError::IoUring { reason: error.to_string() }),
    }
}

/// Threads without a processor wait for each other: the start alone takes minutes then.
fn check_cores(cores: usize) -> Result<(), PreflightError> {
    // If the system does not say, the user knows better.
    let Ok(processors) = std::thread::available_parallelism().map(std::num::NonZero::get) else { return Ok(()) };
    if cores > processors.saturating_mul(CORES_PER_PROCESSOR_MAX) {
        return Err(PreflightError::Cores { cores, processors });
    }
    if cores > processors {
        tracing::warn!(
            cores,
            processors,
            "--cores names more cores than this process may use processors: they get in each other's way"
        );
    }
    Ok(())
}

fn warn_of_impostors(config: &ValidConfig) {
    if config.lets_impostors_in() {
        tracing::warn!(
            "peers reach this node from other hosts, and the cluster has the default --initial-cluster-token: whoever reaches \
             the peer port can pass for a member; keep strangers from it, and give a new cluster a token of its own, long and random"
        );
    }
}

/// Checks that executor number n can be pinned to processor n, for all of them.
///
/// # Errors
/// Names the processors that there are.
pub fn check_pinning(cores: usize) -> Result<(), PreflightError> {
    // If the system does not say, pinning itself will.
    let Ok(allowed) = sched_getaffinity(None) else { return Ok(()) };
    if (0..cores).all(|core| allowed.is_set(core)) {
        return Ok(());
    }
    let allowed: Vec<String> =
        (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).map(|core| core.to_string()).collect();
    Err(PreflightError::Pinning { cores, allowed: allowed.join(", ") })
}

/// Tries again while something is in use, but not for long.
fn once_free<T>(started: Instant, mut take: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    loop {
        match take() {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && started.elapsed() < ADDRESS_FREE_WITHIN => {
                std::thread::sleep(ADDRESS_POLL);
            }
            taken => return taken,
        }
    }
}

/// Takes an address for this node, and checks that nobody else listens on it. Listeners share their ports between the node's own
/// cores, which would hide another process' that does the same.
///
/// # Errors
/// Names the address and what to do.
pub(super) fn take_address(address: SocketAddr, purpose: &'static str) -> Result<PortHold, PreflightError> {
    let started = Instant::now();
    let bound = once_free(started, || PortHold::take(address))
        .and_then(|hold| once_free(started, || std::net::TcpListener::bind(address)).map(|_listener| hold));
    match bound {
        Ok(hold) => Ok(hold),
        Err(source) => {
            let hint = match source.kind() {
                std::io::ErrorKind::AddrInUse => "; another process uses this port: stop it or choose another URL",
                std::io::ErrorKind::AddrNotAvailable => "; this host has no such address",
                std::io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges",
                _ => "",
            };
            Err(PreflightError::Listen { address, purpose, source, hint })
        }
    }
}
