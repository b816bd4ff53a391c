//! Whether reads are fresh.
//!
//! Of a node in the middle of the nonsense `Confirmations` asks for the reason: it may answer a linearizable read only if something
//! was heard since the read arrived that can tell it that it still leads, or that another leader answered. Of the cluster afterwards
//! `Freshness` asks for the content: a read shows everything that a client knew of when it was asked.

use std::collections::BTreeMap;

use api::response::{OpResponse, Response};

use super::cluster::Cluster;
use super::node::{Heard, NODES};
use crate::types::Term;

/// A round of heartbeats: its number counts within its term.
type Round = (Term, u64);

/// What one node heard since each of its open reads arrived.
#[derive(Debug, Default)]
pub(super) struct Confirmations {
    /// By ticket: the newest round that had left when the read arrived, and whether it may be answered.
    open: BTreeMap<u64, (Round, bool)>,
    /// The newest round that left.
    newest: Round,
}

impl Confirmations {
    /// A linearizable read arrives.
    pub(super) fn on_asked(&mut self, ticket: u64) {
        let before = self.open.insert(ticket, (self.newest, false));
        assert!(before.is_none(), "ticket {ticket} is given once");
    }

    /// A heartbeat left.
    pub(super) fn on_heartbeat(&mut self, term: Term, round: u64) {
        self.newest = self.newest.max((term, round));
    }

    pub(super) fn on_heard(&mut self, heard: Heard) {
        for (asked, is_confirmed) in self.open.values_mut() {
            *is_confirmed |= match heard {
                Heard::Round(term, round) => {
                    let is_of_now = term == self.newest.0 && round <= self.newest.1;
                    is_of_now && (term, round) > *asked
                }
                Heard::AnswerOfLeader => true,
            };
        }
    }

    /// A request was answered. An error if it is a read that there was no reason to answer.
    pub(super) fn on_answered(&mut self, ticket: u64, is_ok: bool) -> Result<(), String> {
        match self.open.remove(&ticket) {
            Some((asked, false)) if is_ok => {
                Err(format!("read {ticket} is answered although nobody confirmed a round since {asked:?}"))
            }
            _ => Ok(()),
        }
    }
}

/// What the clients of a cluster know.
#[derive(Debug)]
pub(super) struct Freshness {
    /// The latest revision that a client was told of.
    revision: u64,
    /// By ticket: that revision when the read was asked.
    open: BTreeMap<u64, u64>,
    /// What was written, by its revision, as far as a client was told.
    written: BTreeMap<u64, Vec<u8>>,
}

impl Freshness {
    /// Begins with what was told before.
    pub(super) fn new(revision: u64) -> Self {
        Self { revision, open: BTreeMap::new(), written: BTreeMap::new() }
    }

    /// Clients of all nodes read.
    pub(super) fn ask(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        for number in 0..NODES {
            let before = self.open.insert(cluster.read(number)?, self.revision);
            assert!(before.is_none(), "each read has a ticket of its own");
        }
        Ok(())
    }

    /// A write was answered.
    pub(super) fn on_written(&mut self, value: Vec<u8>, answer: &[u8]) -> Result<(), String> {
        let Response { revision, .. } = Response::decode(answer).map_err(|error| error.to_string())?;
        if self.written.insert(revision, value).is_some() {
            return Err(format!("two writes have revision {revision}"));
        }
        self.revision = self.revision.max(revision);
        assert!(self.written.keys().all(|revision| *revision <= self.revision), "clients know what they wrote");
        Ok(())
    }

    /// Looks at the reads that were answered meanwhile.
    pub(super) fn check(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        let tickets: Vec<u64> = self.open.keys().copied().collect();
        for ticket in tickets {
            let Some(answer) = cluster.take_answer(ticket) else { continue };
            let known = self.open.remove(&ticket).unwrap_or_default();
            if let Ok(bytes) = answer {
                self.check_answer(&bytes, known).map_err(|what| format!("read {ticket} is not fresh: {what}"))?;
            }
        }
        Ok(())
    }

    fn check_answer(&mut self, bytes: &[u8], known: u64) -> Result<(), String> {
        let response = Response::decode(bytes).map_err(|error| error.to_string())?;
        let Some(OpResponse::Range { kvs, .. }) = response.ops.first() else {
            return Err(format!("it is answered with {response:?}"));
        };
        let shown = kvs.first().map_or(0, |kv| kv.mod_revision);
        let expected = self.written.range(..=response.revision).next_back();
        let is_as_written = expected.is_none_or(|(revision, value)| match kvs.first() {
            Some(kv) if kv.mod_revision == *revision => kv.value == *value,
            _ => shown > *revision,
        });
        if response.revision < known || !is_as_written {
            return Err(format!("a client knew of revision {known}, of writes {:?}: {response:?}", self.written));
        }
        assert!(shown <= response.revision, "a state of revision {} shows {shown}", response.revision);
        self.revision = self.revision.max(response.revision);
        Ok(())
    }
}
