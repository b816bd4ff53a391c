//! Whether reads are fresh.
//!
//! Of a node in the middle of the nonsense `Confirmations` asks for the reason: it may answer a linearizable read only if something
//! was heard since the read arrived that can tell it that it still leads, or that another leader answered. Of the cluster afterwards
//! `Freshness` asks for the content: a read shows everything that a client knew of when it was asked.

use std::collections::BTreeMap;

use api::response::{OpResponse, Response};

use super::cluster::Cluster;
use super::heard::{Heard, Question};
use super::node::NODES;
use crate::raft::Message;
use crate::types::{Index, NodeId, Term};

/// A round of heartbeats: its number counts within its term.
type Round = (Term, u64);

/// A linearizable read that waits.
#[derive(Debug)]
struct OpenRead {
    /// The newest round that had left when it arrived.
    round: Round,
    /// Number of the newest question that had left when it arrived.
    batch: u64,
    /// It may be answered once this is applied; `None` while it may not.
    visible_from: Option<Index>,
}

/// What one node heard since each of its open reads arrived.
#[derive(Debug, Default)]
pub(super) struct Confirmations {
    /// By ticket.
    open: BTreeMap<u64, OpenRead>,
    /// The newest round that left.
    round: Round,
    /// The newest question that left.
    question: Option<Question>,
}

impl Confirmations {
    /// A linearizable read arrives.
    pub(super) fn on_asked(&mut self, ticket: u64) {
        let batch = self.question.map_or(0, |question| question.batch);
        let before = self.open.insert(ticket, OpenRead { round: self.round, batch, visible_from: None });
        assert!(before.is_none(), "ticket {ticket} is given once");
    }

    /// The node sent something.
    pub(super) fn on_sent(&mut self, to: NodeId, message: &Message) {
        match *message {
            Message::Heartbeat { term, round, .. } => self.round = self.round.max((term, round)),
            Message::ReadIndexRequest { term, life, batch, .. } => {
                self.question = Some(Question { to, term, life, batch });
            }
            _ => {}
        }
    }

    pub(super) fn on_heard(&mut self, heard: Heard) {
        for read in self.open.values_mut() {
            let visible_from = match heard {
                Heard::Round(term, round) => {
                    let is_of_now = term == self.round.0 && round <= self.round.1;
                    (is_of_now && (term, round) > read.round).then_some(Index::ZERO)
                }
                Heard::ReadIndex(answered, index) => {
                    (self.question == Some(answered) && answered.batch > read.batch).then_some(index)
                }
                Heard::AnswerOfLeader => Some(Index::ZERO),
            };
            read.visible_from = [read.visible_from, visible_from].into_iter().flatten().min();
        }
    }

    /// A request was answered with this much applied. An error if it is a read that there was no reason to answer.
    pub(super) fn on_answered(&mut self, ticket: u64, is_ok: bool, applied_index: Index) -> Result<(), String> {
        let Some(read) = self.open.remove(&ticket).filter(|_| is_ok) else { return Ok(()) };
        let is_due = read.visible_from.is_some_and(|index| index <= applied_index);
        let what = || format!("read {ticket} is answered with {applied_index} applied, although it waits: {read:?}");
        if is_due { Ok(()) } else { Err(what()) }
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
