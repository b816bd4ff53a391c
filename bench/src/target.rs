//! What a load writes to. The real one is a client of a cluster (`cluster`); tests put a plain value in its place.

use std::fmt;

use crate::failures::FailureKind;

/// One connection's worth of a cluster: takes writes, any number at a time.
pub trait PutTarget: 'static {
    /// What a write that was not acknowledged says.
    type Error: fmt::Display;

    /// Writes `value` under `key` and waits for the acknowledgement. Gives up by itself after some time.
    fn put(&self, key: &[u8], value: &[u8]) -> impl Future<Output = Result<(), Self::Error>>;

    /// What kind of failure `error` is; [`FailureKind::Unknown`] whenever the write may have taken effect.
    fn kind(error: &Self::Error) -> FailureKind;
}

/// Opens connections. Each thread of a load has its own copy and opens its connections on its own runtime.
pub trait Connect: Clone + Send + 'static {
    /// What it opens.
    type Target: PutTarget;
    /// Why it could not.
    type Error: fmt::Display;

    /// Opens one connection. Gives up by itself after some time.
    fn connect(&self) -> impl Future<Output = Result<Self::Target, Self::Error>>;
}
