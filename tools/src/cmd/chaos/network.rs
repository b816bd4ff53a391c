//! Which networks faults cut, over the nodes' namespaces (`bench::namespaces`), and running this program again among those.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use bench::namespaces::Namespaces;
use rustix::process::{Pid, Signal, kill_process};

use crate::limits::CHILD_POLL;

/// Flag that tells the second process where it is.
pub(super) const INSIDE_FLAG: &str = "--inside-namespaces";

/// Runs this program again in the middle, with the same arguments, and returns how it ended.
///
/// `interrupted` is passed on as SIGTERM: the other process then stops its nodes.
pub(super) fn run_again(namespaces: &Namespaces, interrupted: &AtomicBool) -> Result<ExitCode, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut command = namespaces.in_the_middle();
    command.arg(program).args(arguments).args([INSIDE_FLAG, namespaces.prefix()]);
    let mut child = command.spawn().map_err(|error| format!("ip: {error}"))?;
    let mut is_told = false;
    loop {
        if let Some(status) = child.try_wait().map_err(|error| format!("ip: {error}"))? {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
        }
        if interrupted.load(Ordering::Relaxed) && !is_told {
            is_told = true;
            if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                // It fails only for a child that has ended, which `try_wait` then sees.
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        std::thread::sleep(CHILD_POLL);
    }
}

/// The network as the process in the middle has it.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) namespaces: Namespaces,
    /// How many faults cut each direction, from and to.
    cuts: BTreeMap<(usize, usize), u32>,
}

impl Network {
    pub(super) fn open(prefix: &str) -> Result<Self, String> {
        Ok(Self { namespaces: Namespaces::inside(prefix)?, cuts: BTreeMap::new() })
    }

    /// Drops everything that `from` sends to `to`.
    pub(super) fn cut(&mut self, (from, to): (usize, usize)) -> Result<(), String> {
        let count = self.cuts.entry((from, to)).or_default();
        *count += 1;
        if *count == 1 { self.namespaces.set_cut(from, to, true) } else { Ok(()) }
    }

    /// Undoes one `cut`.
    pub(super) fn heal(&mut self, (from, to): (usize, usize)) -> Result<(), String> {
        let Some(count) = self.cuts.get_mut(&(from, to)) else { return Ok(()) };
        *count -= 1;
        if *count > 0 {
            return Ok(());
        }
        self.cuts.remove(&(from, to));
        self.namespaces.set_cut(from, to, false)
    }
}
