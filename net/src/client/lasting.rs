//! Calls that last: their answers go on, part by part, until either side ends them.
//!
//! They have connections of their own, since a caller that does not take what comes for it holds up the connection. A call that lasts is
//! answered by the node that was asked and by no other: when that node or the connection is lost, the caller is told and opens it anew.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use super::conn::Stream;
use super::outcome::CallError;
use super::parts::Next;
use super::pool::Pool;
use super::{Brought, Client, ClientError, Endpoint, Inner, Kind, Target};

/// A call that lasts, at its caller. Dropping it tells the node that the call is over.
#[derive(Debug)]
pub struct Opened {
    endpoint: Endpoint,
    stream: Stream,
    /// What showed that it has begun, until it is taken.
    first: Option<Next>,
}

impl Opened {
    /// Waits until the call has begun.
    pub(super) async fn begin(endpoint: &Endpoint, mut stream: Stream) -> Result<Self, CallError> {
        match stream.next().await {
            Some(Next::End(Err(error))) => Err(error),
            first => Ok(Self { endpoint: endpoint.clone(), stream, first }),
        }
    }

    /// The node that answers.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Waits for the next part. `None`: the node has ended the answer, or it ended with an error before.
    ///
    /// What is not taken is not read from the node beyond some megabytes.
    ///
    /// # Errors
    /// Why nothing more comes. What came before counts.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        let next = match self.first.take() {
            Some(first) => Some(first),
            None => self.stream.next().await,
        };
        match next {
            Some(Next::Part(bytes)) => Ok(Some(bytes)),
            Some(Next::End(Ok(answer))) => Ok((!answer.body.is_empty()).then_some(answer.body)),
            Some(Next::End(Err(error))) => Err(self.why_ended(error)),
            None => Ok(None),
        }
    }

    fn why_ended(&self, error: CallError) -> ClientError {
        match error {
            CallError::NotSent(reason) | CallError::Broken(reason) => {
                ClientError::Unavailable { reason: format!("{}: {reason}", self.endpoint) }
            }
            CallError::Refused { status, message, .. } => ClientError::Refused { status, message },
        }
    }
}

impl Client {
    /// Opens a call that lasts, and waits at most `timeout` until it has begun, which its first part shows. Nodes are chosen as for
    /// `request`, but none is asked beside another. What is opened lives as long as it is held, and has no limit in time.
    ///
    /// # Errors
    /// Why not.
    pub async fn open(
        &self,
        target: Target<'_>,
        kind: Kind,
        shard: u32,
        payload: &[u8],
        timeout: Duration,
    ) -> Result<Opened, ClientError> {
        assert!(kind.lasts && !kind.writes, "any other call is a request");
        match self.lasting().ask(target, kind, shard, payload, timeout).await? {
            Brought::Begun(opened) => Ok(opened),
            Brought::Whole(_) => unreachable!("the call lasts"),
        }
    }

    /// A client with the same endpoints and connections of its own.
    fn lasting(&self) -> &Self {
        self.inner.lasting.get_or_init(|| {
            let Inner { context, info, endpoints, next, .. } = &*self.inner;
            let given = endpoints.iter().map(|endpoint| Pool::new(endpoint.clone(), context)).collect();
            Self {
                inner: Arc::new(Inner {
                    context: Arc::clone(context),
                    info: info.clone(),
                    endpoints: endpoints.clone(),
                    given,
                    hinted: Mutex::default(),
                    leaders: Mutex::default(),
                    next: AtomicUsize::new(next.load(Ordering::Relaxed)),
                    lasting: OnceLock::new(),
                }),
            }
        })
    }
}
