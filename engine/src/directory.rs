//! What a data directory says of itself, and what a start makes of that: the decision alone. What becomes of each shard's log in it
//! is decided in `opening`. Looking and doing are up to whoever has the files, or simulates them.
//!
//! A first start takes the lock, makes the directory's own name durable, writes the identity (not `ready`), then makes every shard's
//! record and log, and then writes the identity again, as `ready`. An identity is written whole or not at all. So a crash alone
//! leaves no identity and nothing else, or a whole one: whatever a crash leaves is gone on with.
//!
//! | lock | identity | anything else | what happened | decision |
//! |---|---|---|---|---|
//! | held | any | any | another process runs in it | refuse |
//! | free | none | nothing | a first start, or one that was interrupted early | create |
//! | free | none | files | it is somebody else's, or lost its identity | refuse |
//! | free | damaged | any | it rotted | refuse |
//! | free | whole, of this node | any | nothing | open |
//! | free | whole, another | any | it is another node's, another cluster's, or the settings changed | refuse |

use serde::{Deserialize, Serialize};

use crate::types::{ClusterId, NodeId};

const LAYOUT_VERSION: u32 = 1;

/// What a data directory was created for. None of it can change later, but that it becomes ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Version of the directory's layout.
    pub layout_version: u32,
    /// Cluster, as 16 hexadecimal digits.
    pub cluster_id: String,
    /// Node, as 16 hexadecimal digits.
    pub node_id: String,
    /// The node's name, for people.
    pub name: String,
    /// Number of shards of the cluster.
    pub shards: u32,
    /// Size of a log segment. Unit: bytes.
    pub segment_bytes: u64,
    /// Every shard's log has its first segment. A directory that is ready and has lost a log must not start empty: the
    /// node would forget its votes and what it acknowledged.
    pub ready: bool,
}

/// What stands where a directory's identity belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IdentityFound {
    /// Nothing.
    Missing,
    /// It cannot be read; says what is wrong with it.
    Damaged(String),
    /// An identity.
    Whole(Identity),
}

/// What a start does with a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entering {
    /// Writes its identity.
    Create,
    /// Goes on with what is there.
    Open(Identity),
    /// Refuses to start, and changes nothing.
    Refuse(NoEntry),
}

/// Why a directory is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoEntry {
    /// Another process holds its lock.
    InUse,
    /// It holds files, and no identity.
    Foreign,
    /// Its identity is damaged: says how.
    Damaged(String),
    /// It was created for something else.
    Mismatch {
        /// Which property differs.
        what: &'static str,
        /// What the directory says.
        found: String,
        /// What was asked for.
        wanted: String,
        /// A node ran there: the first start came to its end.
        was_used: bool,
    },
}

impl Entering {
    /// Decides by the table. `is_unused`: there is nothing in the directory but what a start leaves that was interrupted before it
    /// wrote the identity.
    pub(crate) fn decide(is_locked_by_other: bool, found: IdentityFound, is_unused: bool, wanted: &Identity) -> Self {
        if is_locked_by_other {
            return Self::Refuse(NoEntry::InUse);
        }
        match found {
            IdentityFound::Missing if is_unused => Self::Create,
            IdentityFound::Missing => Self::Refuse(NoEntry::Foreign),
            IdentityFound::Damaged(reason) => Self::Refuse(NoEntry::Damaged(reason)),
            IdentityFound::Whole(found) => match found.mismatch(wanted) {
                Some(mismatch) => Self::Refuse(mismatch),
                None => Self::Open(found),
            },
        }
    }
}

impl Identity {
    /// Describes this node for a new directory, or for comparison with an old one.
    #[must_use]
    pub fn new(cluster: ClusterId, node: NodeId, name: &str, shards: u32, segment_bytes: u64) -> Self {
        Self {
            layout_version: LAYOUT_VERSION,
            cluster_id: cluster.to_string(),
            node_id: node.to_string(),
            name: name.to_owned(),
            shards,
            segment_bytes,
            ready: false,
        }
    }

    /// The first property in which it is not what was asked for.
    fn mismatch(&self, wanted: &Self) -> Option<NoEntry> {
        let checks = [
            ("layout version", self.layout_version.to_string(), wanted.layout_version.to_string()),
            ("cluster id", self.cluster_id.clone(), wanted.cluster_id.clone()),
            ("node id", self.node_id.clone(), wanted.node_id.clone()),
            ("shard count", self.shards.to_string(), wanted.shards.to_string()),
            ("segment size", self.segment_bytes.to_string(), wanted.segment_bytes.to_string()),
        ];
        let differs = checks.into_iter().find(|(_, found, wanted)| found != wanted);
        differs.map(|(what, found, wanted)| NoEntry::Mismatch { what, found, wanted, was_used: self.ready })
    }

    /// The file's content: a line of JSON, and one with its checksum.
    pub(crate) fn to_text(&self) -> serde_json::Result<String> {
        let json = serde_json::to_string(self)?;
        Ok(format!("{json}\n{}", checksum_line(&json)))
    }
}

impl IdentityFound {
    /// Reads the file's content; `None`: there is no file.
    pub(crate) fn parse(bytes: Option<Vec<u8>>) -> Self {
        let Some(bytes) = bytes else { return Self::Missing };
        let read = || {
            let text = String::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
            let (json, checksum) = text.split_once('\n').ok_or("its checksum line is missing")?;
            let expected = checksum_line(json);
            if checksum != expected {
                return Err(format!("its checksum line is {checksum:?}, expected {expected:?}"));
            }
            serde_json::from_str(json).map_err(|error| error.to_string())
        };
        match read() {
            Ok(identity) => Self::Whole(identity),
            Err(reason) => Self::Damaged(reason),
        }
    }
}

fn checksum_line(json: &str) -> String {
    format!("crc32 {:08x}\n", crc32fast::hash(json.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(cluster: u64, node: u64, shards: u32, segment_bytes: u64) -> Identity {
        Identity::new(ClusterId::new(cluster), NodeId::new(node), "a", shards, segment_bytes)
    }

    #[test]
    fn every_row_of_the_table() {
        let wanted = identity(7, 9, 2, 1 << 20);
        let decide = |lock, found: &IdentityFound, unused| Entering::decide(lock, found.clone(), unused, &wanted);
        let whole = |identity: &Identity| IdentityFound::Whole(identity.clone());
        let ready = Identity { ready: true, ..wanted.clone() };
        let damaged = IdentityFound::Damaged("rot".to_owned());
        for unused in [false, true] {
            for found in [IdentityFound::Missing, damaged.clone(), whole(&wanted)] {
                assert_eq!(decide(true, &found, unused), Entering::Refuse(NoEntry::InUse));
            }
            assert_eq!(decide(false, &damaged, unused), Entering::Refuse(NoEntry::Damaged("rot".to_owned())));
            for found in [&wanted, &ready] {
                assert_eq!(decide(false, &whole(found), unused), Entering::Open(found.clone()));
            }
        }
        assert_eq!(decide(false, &IdentityFound::Missing, true), Entering::Create);
        assert_eq!(decide(false, &IdentityFound::Missing, false), Entering::Refuse(NoEntry::Foreign));
        let others = [
            ("cluster id", identity(8, 9, 2, 1 << 20)),
            ("node id", identity(7, 1, 2, 1 << 20)),
            ("shard count", identity(7, 9, 3, 1 << 20)),
            ("segment size", identity(7, 9, 2, 1 << 21)),
            ("layout version", Identity { layout_version: 2, ..wanted.clone() }),
        ];
        for (expected, other) in others {
            match decide(false, &whole(&other), false) {
                Entering::Refuse(NoEntry::Mismatch { what, .. }) => assert_eq!(what, expected),
                decided => panic!("expected a mismatch of the {expected}, got {decided:?}"),
            }
        }
    }

    #[test]
    fn an_identity_is_read_as_it_was_written_and_any_flipped_bit_or_lost_end_is_noticed() {
        let written = identity(7, 9, 2, 1 << 20);
        let text = written.to_text().expect("an identity has a text").into_bytes();
        assert_eq!(IdentityFound::parse(Some(text.clone())), IdentityFound::Whole(written));
        assert_eq!(IdentityFound::parse(None), IdentityFound::Missing);
        let is_damaged = |bytes| matches!(IdentityFound::parse(Some(bytes)), IdentityFound::Damaged(_));
        for bit in 0..text.len() * 8 {
            let mut bad = text.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(is_damaged(bad), "bit {bit}");
        }
        for len in 0..text.len() {
            assert!(is_damaged(text[..len].to_vec()), "{len} bytes are left");
        }
    }
}
