//! A panic on one of the node's threads ends the process, whatever happens to its message.
//!
//! A core whose tasks are gone in a process that lives on would be worse than a crash: it keeps its ports, its lock and its
//! connections, and nobody starts it again. Threads of the embedding program are none of this module's business: their
//! panics are the program's own.

use std::cell::Cell;
use std::io::Write;
use std::panic::PanicHookInfo;
use std::process::abort;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use super::limits::PANIC_MESSAGE_WITHIN;

thread_local! {
    /// What this thread is to the node, if it is one of the node's.
    static ROLE: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Every thread of this process is the node's.
static PROCESS_IS_NODE: AtomicBool = AtomicBool::new(false);

/// From now on a panic on the calling thread ends the process.
pub(super) fn thread_is_node(role: &'static str) {
    install();
    ROLE.set(Some(role));
}

/// From now on a panic on any thread of this process ends it. For a program that is nothing but a node.
pub fn process_is_node() {
    PROCESS_IS_NODE.store(true, Ordering::Relaxed);
    install();
}

/// Puts the hook in front of the one that is there, once.
fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| on_panic(info, &*previous)));
    });
}

fn on_panic(info: &PanicHookInfo<'_>, previous: &dyn Fn(&PanicHookInfo<'_>)) {
    // A thread that is ending has no thread-local values any more; it is not a node's in the middle of its work.
    let role = ROLE.try_with(Cell::get).unwrap_or(None);
    let role = role.or_else(|| PROCESS_IS_NODE.load(Ordering::Relaxed).then_some("a thread"));
    let Some(role) = role else { return previous(info) };
    let watchdog = std::thread::Builder::new().name("quorate-abort".to_owned()).spawn(|| {
        std::thread::sleep(PANIC_MESSAGE_WITHIN);
        abort()
    });
    if watchdog.is_err() {
        // Saying why might take for ever, and ending is what matters.
        abort();
    }
    previous(info);
    // Nobody may be reading; the process ends all the same.
    drop(writeln!(
        std::io::stderr(),
        "{role} of the node panicked: the node ends, as in a crash; its log holds what it acknowledged"
    ));
    abort()
}
