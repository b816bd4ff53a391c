//! Sockets on glommio: listeners, connections, links to peers.
//!
//! Everything here runs on one executor and never blocks it. Payloads stay opaque; what to do with a frame is the server's
//! business.

mod backlog;
mod greet;
mod limits;
mod listener;
mod peer;
mod resolve;
mod stream;
mod writer;

pub use crate::resolve::{Lookup, Resolver};
pub use greet::{GreetError, Greeting, greet};
pub use listener::listen;
pub use peer::{LinkEvent, PeerLink, PeerLinkOptions};
pub use stream::{Detached, Stream, attach, detach, limit_patience};
pub use writer::{ConnWriter, NotTaken, Writers};
