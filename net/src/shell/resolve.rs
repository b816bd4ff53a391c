//! Names of hosts to addresses, on threads that nothing else uses.
//!
//! A lookup may hang for as long as the system's resolver likes. So each runs on a thread of its own, with at most one for each
//! name: a lookup that was given up is not begun again while it still hangs. What a name stood for last is kept, and used while
//! the next lookup hangs or fails. Knows no connections.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_channel::{Receiver, Sender};

/// Lookups that may run or hang at once. The names of a cluster's members are fewer. Unit: threads.
const LOOKUPS_MAX: usize = 64;

/// Wait for a lookup of which nothing is known yet. Unit: ms.
const FIRST_MS_MAX: u64 = 2_000;

/// Wait for a lookup if some address is known from before: long enough for a resolver that works. Unit: ms.
const AGAIN_MS_MAX: u64 = 200;

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
    fn default() -> Self {
        Self::new(|name| std::net::ToSocketAddrs::to_socket_addrs(name).map(Iterator::collect))
    }
}

impl Resolver {
    /// A resolver that asks `lookup`; `default` asks the system.
    pub fn new(lookup: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self { shared: Arc::new(Shared { lookup: Box::new(lookup), names: Mutex::default() }) }
    }

    /// All addresses of these hosts and ports, in their order, each once. It takes no longer than two seconds.
    ///
    /// # Errors
    /// None of them has a known address; says why for each.
    pub async fn addresses(&self, authorities: &[String]) -> Result<Vec<SocketAddr>, String> {
        let is_literal = |authority: &String| authority.parse::<SocketAddr>().is_ok();
        let lookups: Vec<Receiver<()>> =
            authorities.iter().filter(|authority| !is_literal(authority)).map(|name| self.begin(name)).collect();
        let wait_ms = if self.known(authorities).is_ok() { AGAIN_MS_MAX } else { FIRST_MS_MAX };
        let all = async {
            for lookup in &lookups {
                // It carries nothing: it ends when the lookup does.
                let _ended = lookup.recv().await;
            }
            Ok(())
        };
        // Whatever is known when the time is up has to do.
        let _in_time = glommio::timer::timeout(Duration::from_millis(wait_ms), all).await;
        self.known(authorities)
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

    /// Sees to it that a lookup of `authority` runs. The channel ends with it.
    fn begin(&self, authority: &str) -> Receiver<()> {
        let (ended, ending) = async_channel::bounded(1);
        let mut names = self.shared.lock();
        let running_count = names.values().filter(|name| name.is_running).count();
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
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    const PORT: u16 = 7;

    fn address(host: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, host], PORT))
    }

    fn run(test: impl Future<Output = ()>) {
        glommio::LocalExecutorBuilder::default().make().expect("an executor").run(test);
    }

    /// A resolver whose lookups of `hangs:7` end when something is sent to the channel; it counts them.
    fn resolver_that_hangs() -> (Resolver, mpsc::Sender<Vec<SocketAddr>>, Arc<AtomicUsize>) {
        let (answer, answers) = mpsc::channel::<Vec<SocketAddr>>();
        let (answers, count) = (Mutex::new(answers), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&count);
        let resolver = Resolver::new(move |name| {
            if name != "hangs:7" {
                return Ok(vec![address(2), address(3)]);
            }
            counted.fetch_add(1, Ordering::SeqCst);
            answers.lock().expect("unpoisoned").recv().map_err(|_| io::Error::other("the resolver was shut down"))
        });
        (resolver, answer, count)
    }

    #[test]
    fn a_lookup_that_hangs_holds_up_no_other_name_and_is_not_begun_twice() {
        run(async {
            let (resolver, answer, count) = resolver_that_hangs();
            let hanging = vec!["hangs:7".to_owned()];
            for _ in 0..2 {
                let error = resolver.addresses(&hanging).await.expect_err("nobody answers");
                assert!(error.contains("has not answered"), "{error}");
                let both = vec!["hangs:7".to_owned(), "works:7".to_owned(), "127.0.0.1:7".to_owned()];
                let found = resolver.addresses(&both).await.expect("the others have addresses");
                assert_eq!(found, [address(2), address(3), address(1)]);
            }
            assert_eq!(count.load(Ordering::SeqCst), 1);
            answer.send(vec![address(9)]).expect("the lookup waits");
            // The lookup that ends now, or the next one, which is answered at once.
            answer.send(vec![address(9)]).expect("the lookup waits");
            assert_eq!(resolver.addresses(&hanging).await.expect("an answer"), [address(9)]);
        });
    }

    #[test]
    fn the_last_good_answer_is_used_while_the_next_lookup_hangs_or_fails() {
        run(async {
            let (resolver, answer, count) = resolver_that_hangs();
            let name = vec!["hangs:7".to_owned()];
            answer.send(vec![address(4)]).expect("a resolver");
            assert_eq!(resolver.addresses(&name).await.expect("an answer"), [address(4)]);
            assert_eq!(resolver.addresses(&name).await.expect("the last one"), [address(4)]);
            assert_eq!(count.load(Ordering::SeqCst), 2);
            drop(answer);
            assert_eq!(resolver.addresses(&name).await.expect("the last one"), [address(4)]);
        });
    }
}
