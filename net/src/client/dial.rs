//! Finding the addresses of an endpoint and connecting to one of them, soon.
//!
//! The name is looked up on a thread that nobody waits for, so a resolver that hangs costs no more than the time of the attempt.
//! The addresses are tried at nearly the same time, the families by turns: the next one a moment after the one before, or as soon
//! as that one failed. The first that can be used wins. What is said on a connection is not decided here.

use std::fmt::Write;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use super::Endpoint;
use super::limits::ENDPOINT_ADDRESSES_MAX;
use crate::limits::LOOKUP_AGAIN_MS_MAX;
use crate::resolve::Resolver;

/// Why there is no connection.
#[derive(Clone, Debug)]
pub(super) struct ConnectError {
    pub reason: String,
    /// Trying again at once is of no use: somebody has to start or change something first.
    pub is_lasting: bool,
}

impl ConnectError {
    pub(super) const fn lasting(reason: String) -> Self {
        Self { reason, is_lasting: true }
    }

    pub(super) const fn passing(reason: String) -> Self {
        Self { reason, is_lasting: false }
    }
}

/// How connections are made.
#[derive(Clone, Debug)]
pub(super) struct Dialing {
    /// How long an attempt may take, with the lookup and the handshake.
    pub timeout: Duration,
    /// While an address takes longer than this, the next one is tried beside it.
    pub next_after: Duration,
    pub resolver: Resolver,
}

impl Dialing {
    /// Looks the endpoint up and opens a connection to one of its addresses with `open`, which sets `is_taken` once the other side
    /// has taken it.
    pub(super) async fn open<T, F>(
        &self,
        endpoint: &Endpoint,
        is_taken: &AtomicBool,
        open: impl Fn(SocketAddr) -> F,
    ) -> Result<T, ConnectError>
    where
        F: Future<Output = Result<T, ConnectError>> + Send,
    {
        let opened = async {
            let addresses = self.addresses(endpoint).await?;
            // All of them have a turn within the time.
            let turns = u32::try_from(addresses.len()).unwrap_or(u32::MAX).saturating_add(1);
            first_of(addresses, self.next_after.min(self.timeout / turns), open).await
        };
        match tokio::time::timeout(self.timeout, opened).await {
            Ok(result) => result,
            Err(_elapsed) => {
                let what = if self.known(endpoint).is_err() {
                    "the resolver has not answered"
                } else {
                    not_yet(is_taken.load(Ordering::Relaxed))
                };
                Err(ConnectError::passing(format!("{what} within {} ms", self.timeout.as_millis())))
            }
        }
    }

    fn known(&self, endpoint: &Endpoint) -> Result<Vec<SocketAddr>, String> {
        self.resolver.known(&[endpoint.authority().to_owned()])
    }

    async fn addresses(&self, endpoint: &Endpoint) -> Result<Vec<SocketAddr>, ConnectError> {
        let names = [endpoint.authority().to_owned()];
        if self.known(endpoint).is_ok() {
            // What is known has to do when the time is up.
            let again = Duration::from_millis(LOOKUP_AGAIN_MS_MAX);
            let _in_time = tokio::time::timeout(again, self.resolver.look_up(&names)).await;
        } else {
            self.resolver.look_up(&names).await;
        }
        match self.known(endpoint) {
            Ok(addresses) => Ok(by_turns(addresses)),
            Err(unknown) => Err(match self.resolver.failure(endpoint.authority()) {
                Some(failure) => ConnectError::lasting(failure),
                None => ConnectError::passing(unknown),
            }),
        }
    }
}

/// What is said of an endpoint where an attempt has not ended: whether the other side took the connection tells a host that is gone
/// from a process that hangs.
pub(super) const fn not_yet(is_taken: bool) -> &'static str {
    if is_taken { "the connection opened, and no welcome came" } else { "no connection" }
}

/// The addresses of the first one's family and of the other by turns.
fn by_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let is_first = addresses.first().map(SocketAddr::is_ipv4);
    let (first, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| Some(address.is_ipv4()) == is_first);
    let (mut first, mut other) = (first.into_iter(), other.into_iter());
    let mut ordered = Vec::new();
    while ordered.len() < ENDPOINT_ADDRESSES_MAX {
        let before = ordered.len();
        ordered.extend([first.next(), other.next()].into_iter().flatten());
        if ordered.len() == before {
            break;
        }
    }
    ordered
}

type Attempt<F> = (SocketAddr, Pin<Box<F>>);

/// The first of the attempts that ends. Never returns if there is none.
async fn first_end<F: Future>(attempts: &mut Vec<Attempt<F>>) -> (SocketAddr, F::Output) {
    poll_fn(|cx| {
        for at in 0..attempts.len() {
            if let Poll::Ready(outcome) = attempts[at].1.as_mut().poll(cx) {
                let (address, _) = attempts.swap_remove(at);
                return Poll::Ready((address, outcome));
            }
        }
        Poll::Pending
    })
    .await
}

/// Opens to one of the addresses, the next one `pause` after the one before.
async fn first_of<T, F>(
    addresses: Vec<SocketAddr>,
    pause: Duration,
    open: impl Fn(SocketAddr) -> F,
) -> Result<T, ConnectError>
where
    F: Future<Output = Result<T, ConnectError>> + Send,
{
    let mut left = addresses.into_iter();
    let mut attempts: Vec<Attempt<F>> = Vec::new();
    let mut failures = Vec::new();
    loop {
        if let Some(address) = left.next() {
            attempts.push((address, Box::pin(open(address))));
        }
        if attempts.is_empty() {
            return Err(all_failed(failures));
        }
        tokio::select! {
            (address, outcome) = first_end(&mut attempts) => match outcome {
                Ok(opened) => return Ok(opened),
                Err(error) => failures.push((address, error)),
            },
            () = tokio::time::sleep(pause), if left.len() > 0 => {}
        }
    }
}

/// What is said of an endpoint none of whose addresses can be used.
fn all_failed(mut failures: Vec<(SocketAddr, ConnectError)>) -> ConnectError {
    if failures.len() == 1
        && let Some((_, error)) = failures.pop()
    {
        return error;
    }
    let is_lasting = failures.iter().all(|(_, error)| error.is_lasting);
    let mut reason = String::new();
    for (address, error) in &failures {
        let separator = if reason.is_empty() { "" } else { "; " };
        // Writing to a string does not fail.
        let _ = write!(reason, "{separator}{address}: {}", error.reason);
    }
    ConnectError { reason, is_lasting }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_families_take_turns_beginning_with_the_first() {
        let parse = |text: &&str| text.parse::<SocketAddr>().expect("an address");
        let found = ["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1"].iter().map(parse).collect();
        let ordered: Vec<String> = by_turns(found).iter().map(ToString::to_string).collect();
        assert_eq!(ordered, ["[::1]:1", "10.0.0.1:1", "[::2]:1", "[::3]:1"]);
        assert!(by_turns(Vec::new()).is_empty());
    }
}
