//! The server's sockets on loopback, each test on an executor of its own. No time is asserted: what has to come is waited
//! for, and what must not come is looked for behind something that has.

mod greeting;
mod links;
mod peer;
mod sockets;
mod writer;

use std::future::Future;

/// Runs a test on an executor of its own.
pub fn on_an_executor(test: impl Future<Output = ()>) {
    glommio::LocalExecutorBuilder::default().make().expect("an executor").run(test);
}
