//! Getting a connection to the best of several endpoints, soon.
//!
//! They are tried in their order, the next one a moment after the one before or as soon as that one failed, and the first
//! connection wins. An attempt that has no result yet goes on for those who come later. Nothing is sent here.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::time::Instant;

use super::conn::Conn;
use super::dial::ConnectError;
use super::pool::{Outcome, Pool, Way};

/// Where a request may go.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub pool: Arc<Pool>,
    pub by: Chooser,
}

/// Who chose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chooser {
    /// The caller, and no other will do.
    Caller,
    /// A node's hint.
    Hint,
    /// The endpoints of the options: so many behind the one that this count stands for.
    Options { next: usize, offset: usize },
}

type Waiting = (Choice, Pin<Box<dyn Future<Output = Outcome> + Send>>);

/// The first of the attempts that ends. Never returns if there is none.
async fn first_end(attempts: &mut Vec<Waiting>) -> (Choice, Outcome) {
    poll_fn(|cx| {
        for at in 0..attempts.len() {
            if let Poll::Ready(outcome) = attempts[at].1.as_mut().poll(cx) {
                let (choice, _) = attempts.swap_remove(at);
                return Poll::Ready((choice, outcome));
            }
        }
        Poll::Pending
    })
    .await
}

/// Connects to one of the choices; with a failure each that could not be reached is told.
pub(super) async fn connect(order: Vec<Choice>) -> Result<(Choice, Arc<Conn>), Vec<(Choice, ConnectError)>> {
    let mut left = order.into_iter();
    let mut next = left.next();
    let mut attempts: Vec<Waiting> = Vec::new();
    let mut failures = Vec::new();
    let mut patience_ends = Instant::now();
    loop {
        if let Some(choice) = next.take() {
            match choice.pool.way() {
                Way::Open(conn) => return Ok((choice, conn)),
                Way::Opening(attempt) => {
                    patience_ends = choice.pool.patience_ends(&attempt);
                    attempts.push((choice, Box::pin(attempt.outcome())));
                }
            }
        }
        if attempts.is_empty() && left.len() == 0 {
            return Err(failures);
        }
        tokio::select! {
            (choice, outcome) = first_end(&mut attempts) => match outcome {
                Ok(conn) => return Ok((choice, conn)),
                Err(error) => {
                    failures.push((choice, error));
                    next = left.next();
                }
            },
            () = tokio::time::sleep_until(patience_ends), if left.len() > 0 => next = left.next(),
        }
    }
}
