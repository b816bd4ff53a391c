//! The server's sockets on loopback, each test on an executor of its own. No time is asserted. A test waits for what has to come;
//! that something does not come is seen from something sent after it that has come.

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
