//! Signals that end a run early and in order. A second one ends the process at once.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::limits::SIGNAL_POLL;

/// A shell adds this to the number of the signal that ended a process, and shows the sum as the exit code.
const EXIT_SIGNALLED: i32 = 128;

/// Notes the signal that asks for the end.
#[derive(Clone, Debug)]
pub(super) struct Interrupt {
    /// Its number; 0 = none came.
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Takes SIGINT and SIGTERM from now on.
    pub(super) fn register() -> io::Result<Self> {
        let signal = Arc::new(AtomicUsize::new(0));
        let came_before = Arc::new(AtomicBool::new(false));
        for number in [SIGINT, SIGTERM] {
            // They run in this order, so that only a second signal finds the flag set.
            flag::register_conditional_shutdown(number, EXIT_SIGNALLED + number, Arc::clone(&came_before))?;
            flag::register(number, Arc::clone(&came_before))?;
            flag::register_usize(number, Arc::clone(&signal), usize::try_from(number).unwrap_or_default())?;
        }
        Ok(Self { signal })
    }

    /// True if a signal came.
    pub(super) fn came(&self) -> bool {
        self.signal.load(Ordering::Relaxed) != 0
    }

    /// Waits until a signal comes.
    pub(super) async fn wait(&self) {
        while !self.came() {
            tokio::time::sleep(SIGNAL_POLL).await;
        }
    }

    /// The exit code that a shell would show for the signal; `None` if no signal came.
    pub(super) fn exit_code(&self) -> Option<ExitCode> {
        let signal = u8::try_from(self.signal.load(Ordering::Relaxed)).unwrap_or(u8::MAX);
        let code = u8::try_from(EXIT_SIGNALLED).unwrap_or(u8::MAX).saturating_add(signal);
        (signal != 0).then(|| ExitCode::from(code))
    }
}
