//! What clients did, and what they were told: the record that judges judge.
//!
//! Plain data; who ran the clients, and on what, is not in it.

use api::hex;
use api::response::Response;
use serde::de::{Deserializer, Error};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use crate::call::CallKind;

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Input {
    /// Write a key. Values are never written twice.
    Put {
        /// The key.
        #[serde(with = "api::hex")]
        key: Vec<u8>,
        /// Its value.
        #[serde(with = "api::hex")]
        value: Vec<u8>,
    },
    /// Delete a key.
    Delete {
        /// The key.
        #[serde(with = "api::hex")]
        key: Vec<u8>,
    },
    /// Read a key, linearizably.
    Get {
        /// The key.
        #[serde(with = "api::hex")]
        key: Vec<u8>,
    },
    /// Read a key from whatever the node has.
    GetSerializable {
        /// The key.
        #[serde(with = "api::hex")]
        key: Vec<u8>,
    },
    /// Read all keys at once, linearizably.
    List,
    /// If the key still has this `mod_revision`, write it; otherwise read it. A transaction.
    Swap {
        /// The key.
        #[serde(with = "api::hex")]
        key: Vec<u8>,
        /// What it is compared with; 0 = the key is absent.
        mod_revision: u64,
        /// Its value.
        #[serde(with = "api::hex")]
        value: Vec<u8>,
    },
    /// Write two keys at once. A transaction.
    PutBoth {
        /// The keys.
        #[serde(serialize_with = "save_keys", deserialize_with = "load_keys")]
        keys: [Vec<u8>; 2],
        /// The value of both.
        #[serde(with = "api::hex")]
        value: Vec<u8>,
    },
}

fn save_keys<S: Serializer>(keys: &[Vec<u8>; 2], serializer: S) -> Result<S::Ok, S::Error> {
    keys.each_ref().map(|key| hex::to_text(key)).serialize(serializer)
}

fn load_keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[Vec<u8>; 2], D::Error> {
    let [first, second] = <[String; 2]>::deserialize(deserializer)?.map(|text| hex::from_text(&text));
    let keys = first.zip(second).ok_or_else(|| D::Error::custom("keys are pairs of hexadecimal digits"))?;
    Ok(keys.into())
}

impl Input {
    /// How the request is made.
    #[must_use]
    pub fn kind(&self) -> CallKind {
        match self {
            Self::Get { .. } | Self::List => CallKind::Read,
            Self::GetSerializable { .. } => CallKind::ReadSerializable,
            Self::Put { .. } | Self::Delete { .. } | Self::Swap { .. } | Self::PutBoth { .. } => CallKind::Write,
        }
    }
}

/// An operation of a client. Each client has one at a time.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<(u64, Response)>,
    /// It certainly took no effect.
    #[serde(default)]
    pub is_void: bool,
}
