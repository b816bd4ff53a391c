//! Names of hosts to addresses, on threads that nothing else uses.
//!
//! A lookup may hang for as long as the system's resolver likes. So each runs on a thread of its own, with at most one for each
//! name: a lookup that was given up is not begun again while it still hangs. What a name stood for last is kept, and used while
//! the next lookup hangs or fails. Knows no connections.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_channel::{Receiver, Sender};

use crate::limits::{LOOKUPS_MAX, NAMES_MAX};

/// Finds the addresses of a host and port. It may block.
pub type Lookup = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Looks names up. Clones share its threads and what it knows.
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    lookup: Box<Lookup>,
    names: Mutex<BTreeMap<String, Name>>,
    /// Told whenever a lookup has ended.
    ended: Condvar,
}

/// What is known of one name.
#[derive(Default)]
struct Name {
    /// A thread looks it up.
    is_running: bool,
    /// What it stood for last. Empty: no lookup has succeeded yet.
    addresses: Vec<SocketAddr>,
    /// Why the last lookup failed, if it did.
    failure: Option<String>,
    /// Who waits for the lookup that runs; closed ones have given up.
    waiting: Vec<Sender<()>>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl Default for Resolver {
    /// Asks the system. All of a process are one: a name that hangs costs it one thread, whoever asks.
    fn default() -> Self {
        static OF_PROCESS: LazyLock<Resolver> = LazyLock::new(Resolver::of_system);
        OF_PROCESS.clone()
    }
}

impl Resolver {
    /// One that asks the system on threads of its own.
    #[must_use]
    pub fn of_system() -> Self {
        Self::new(|name| std::net::ToSocketAddrs::to_socket_addrs(name).map(Iterator::collect))
    }

    /// A resolver that asks `lookup`; `default` asks the system.
    #[must_use]
    pub fn new(lookup: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self { shared: Arc::new(Shared { lookup: Box::new(lookup), names: Mutex::default(), ended: Condvar::new() }) }
    }

    /// Sees to it that lookups of these names run, and waits until they have ended, which may take for ever.
    pub(crate) async fn look_up(&self, authorities: &[String]) {
        let is_literal = |authority: &String| authority.parse::<SocketAddr>().is_ok();
        let lookups: Vec<Receiver<()>> =
            authorities.iter().filter(|authority| !is_literal(authority)).map(|name| self.begin(name)).collect();
        for lookup in &lookups {
            // It carries nothing: it ends when the lookup does.
            let _ended = lookup.recv().await;
        }
    }

    /// Why the last lookup of a name failed; `None` if it did not, or if one is running.
    #[cfg(feature = "client")]
    pub(crate) fn failure(&self, authority: &str) -> Option<String> {
        self.shared.lock().get(authority).filter(|name| !name.is_running)?.failure.clone()
    }

    /// The addresses that are known now; nothing is looked up.
    ///
    /// # Errors
    /// None of them has a known address; says why for each.
    pub fn known(&self, authorities: &[String]) -> Result<Vec<SocketAddr>, String> {
        let names = self.shared.lock();
        let (mut addresses, mut failures) = (Vec::new(), Vec::new());
        for authority in authorities {
            if let Ok(address) = authority.parse() {
                addresses.push(address);
                continue;
            }
            match names.get(authority) {
                Some(name) if !name.addresses.is_empty() => addresses.extend(&name.addresses),
                Some(Name { failure: Some(failure), .. }) => failures.push(format!("{authority}: {failure}")),
                _ => failures.push(format!("{authority}: the resolver has not answered yet")),
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        addresses.retain(|address| seen.insert(*address));
        if addresses.is_empty() { Err(failures.join("; ")) } else { Ok(addresses) }
    }

    /// Waits until no lookup runs, and returns the names of those that do when the time is up. Blocks.
    ///
    /// Whoever waited for a lookup that has ended was told so by then.
    #[must_use]
    pub fn wait_until_idle(&self, patience: Duration) -> Vec<String> {
        let runs = |names: &mut BTreeMap<String, Name>| names.values().any(|name| name.is_running);
        let waited = self.shared.ended.wait_timeout_while(self.shared.lock(), patience, runs);
        let (names, _) = waited.unwrap_or_else(PoisonError::into_inner);
        names.iter().filter(|(_, name)| name.is_running).map(|(authority, _)| authority.clone()).collect()
    }

    /// Sees to it that a lookup of `authority` runs. The channel ends with it.
    fn begin(&self, authority: &str) -> Receiver<()> {
        let (ended, ending) = async_channel::bounded(1);
        let mut names = self.shared.lock();
        let running_count = names.values().filter(|name| name.is_running).count();
        if names.len() >= NAMES_MAX && !names.contains_key(authority) {
            names.retain(|_, name| name.is_running);
        }
        let name = names.entry(authority.to_owned()).or_default();
        name.waiting.retain(|waiter| !waiter.is_closed());
        if name.is_running {
            name.waiting.push(ended);
            return ending;
        }
        if running_count >= LOOKUPS_MAX {
            name.failure = Some(format!("{running_count} lookups of other names have not ended"));
            return ending;
        }
        let (shared, authority) = (Arc::clone(&self.shared), authority.to_owned());
        let thread = std::thread::Builder::new().name("quorate-names".to_owned());
        match thread.spawn(move || shared.run(&authority)) {
            Ok(_) => {
                name.is_running = true;
                name.waiting.push(ended);
            }
            Err(error) => name.failure = Some(format!("no thread to look it up: {error}")),
        }
        ending
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Name>> {
        // Every change leaves the map whole, and a lookup that panics does not hold the lock.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks a name up, on a thread of its own.
    fn run(&self, authority: &str) {
        let found = (self.lookup)(authority);
        let mut names = self.lock();
        let name = names.entry(authority.to_owned()).or_default();
        name.is_running = false;
        name.waiting.clear();
        match found {
            Ok(addresses) if addresses.is_empty() => name.failure = Some("it has no address".to_owned()),
            Ok(addresses) => {
                name.addresses = addresses;
                name.failure = None;
            }
            Err(error) => name.failure = Some(error.to_string()),
        }
        self.ended.notify_all();
    }
}
