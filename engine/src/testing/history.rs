//! What clients did, and what they were told: the record that judges judge.
//!
//! Plain data; who ran the clients, and on what, is not in it.

use crate::replica::RequestKind;
use api::response::Response;

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Write a key. Values are never written twice.
    Put {
        /// The key.
        key: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
    },
    /// Delete a key.
    Delete {
        /// The key.
        key: Vec<u8>,
    },
    /// Read a key, linearizably.
    Get {
        /// The key.
        key: Vec<u8>,
    },
    /// Read a key from whatever the node has.
    GetSerializable {
        /// The key.
        key: Vec<u8>,
    },
    /// Read all keys at once, linearizably.
    List,
    /// If the key still has this `mod_revision`, write it; otherwise read it. A transaction.
    Swap {
        /// The key.
        key: Vec<u8>,
        /// What it is compared with; 0 = the key is absent.
        mod_revision: u64,
        /// Its value.
        value: Vec<u8>,
    },
    /// Write two keys at once. A transaction.
    PutBoth {
        /// The keys.
        keys: [Vec<u8>; 2],
        /// The value of both.
        value: Vec<u8>,
    },
}

impl Input {
    /// How the request is made.
    #[must_use]
    pub fn kind(&self) -> RequestKind {
        match self {
            Self::Get { .. } | Self::List => RequestKind::Read,
            Self::GetSerializable { .. } => RequestKind::ReadSerializable,
            Self::Put { .. } | Self::Delete { .. } | Self::Swap { .. } | Self::PutBoth { .. } => RequestKind::Write,
        }
    }
}

/// An operation of a client. Each client has one at a time.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Who.
    pub client: usize,
    /// In which shard.
    pub shard: usize,
    /// What.
    pub input: Input,
    /// When it was called. Unit: us, of one clock for all clients.
    pub called_us: u64,
    /// The node that answered, and which of its lives.
    pub process: (usize, u64),
    /// When the answer came, and what it was; `None` if the outcome is unknown.
    pub outcome: Option<(u64, Response)>,
    /// It certainly took no effect.
    pub is_void: bool,
}
