//! A node's data directory: its identity file and its lock, and the steps of a first start, any of which may be its last.
//!
//! What a start makes of an identity is the product's own decision (`directory`). The files of shards are in `files`, what somebody does
//! to a directory in `tampering`.

use super::plan::Plan;
use crate::directory::{Entering, Identity, IdentityFound};
use crate::types::{ClusterId, NodeId};

/// The cluster that all nodes belong to.
pub(super) const CLUSTER: u64 = 1;

/// What a node has in its directory besides its shards' files.
#[derive(Debug, Default)]
pub(super) struct Directory {
    /// The identity file. Durable: it is written whole or not at all.
    pub(super) identity: Option<Vec<u8>>,
    /// Another process runs in it.
    pub(super) is_locked_by_other: bool,
    /// The start that is under way ends after so many more steps.
    pub(super) steps_left: Option<u64>,
}

/// Why a process does not start.
#[derive(Debug)]
pub(super) enum NoStart {
    /// It died in between.
    Died,
    /// It refused, and said why.
    Refused(String),
}

impl Directory {
    /// The directory says that a first start came to its end.
    pub(super) fn is_ready(&self) -> bool {
        matches!(IdentityFound::parse(self.identity.clone()), IdentityFound::Whole(identity) if identity.ready)
    }

    /// A step of a start, durable before the next. The process may die in front of it.
    pub(super) fn step(&mut self) -> Result<(), NoStart> {
        match &mut self.steps_left {
            Some(0) => Err(NoStart::Died),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Finds out whose directory it is, and writes the identity of a new one. `is_unused`: no shard has files in it. Says whether a first
    /// start came to its end before.
    pub(super) fn enter(&mut self, is_unused: bool, wanted: &Identity) -> Result<bool, NoStart> {
        let found = IdentityFound::parse(self.identity.clone());
        match Entering::decide(self.is_locked_by_other, found, is_unused, wanted) {
            Entering::Create => self.write(wanted).map(|()| wanted.ready),
            Entering::Open(identity) => Ok(identity.ready),
            Entering::Refuse(reason) => Err(NoStart::Refused(format!("{reason:?}"))),
        }
    }

    /// Every shard has its record and its log.
    pub(super) fn mark_ready(&mut self, identity: Identity) -> Result<(), NoStart> {
        assert!(!self.is_ready(), "a first start ends once");
        self.write(&Identity { ready: true, ..identity })
    }

    /// Only the identity of this very node is in the directory of a node that runs.
    pub(super) fn check(&self, identity: Identity) -> Result<(), String> {
        let expected = Identity { ready: true, ..identity };
        match IdentityFound::parse(self.identity.clone()) {
            IdentityFound::Whole(found) if found == expected => Ok(()),
            found => Err(format!("a node runs in a directory of {found:?}, and was started as {expected:?}")),
        }
    }

    fn write(&mut self, identity: &Identity) -> Result<(), NoStart> {
        self.step()?;
        self.identity = Some(text_of(identity));
        Ok(())
    }
}

/// Whose directory it is.
pub(super) fn identity_of(plan: &Plan, cluster: u64, node: NodeId) -> Identity {
    Identity::new(ClusterId::new(cluster), node, "simulated", plan.shards, plan.segment_bytes)
}

/// The content of an identity file.
pub(super) fn text_of(identity: &Identity) -> Vec<u8> {
    identity.to_text().expect("an identity has a text").into_bytes()
}
