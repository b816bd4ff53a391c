//! A section that keeps the last answer to each session, as nodes will keep them once there are sessions. It overwrites and forgets.
//!
//! It shows three things. Every replica makes the same answer to a command with a sender, since digests of replicas are compared. A
//! state that is written out while a section overwrites it is whole. A sender comes all the way from a call into a batch.

use std::collections::BTreeMap;

use codec::{DecodeError, Reader};

use crate::state_machine::CommandRefused;
use crate::state_machine::batch::Sender;
use crate::state_machine::digest::Digest;
use crate::state_machine::section::{AsOf, Section, SectionCursor, SectionKind};
use crate::types::Index;

/// A session is forgotten with each command whose number is a multiple of this.
const FORGOTTEN_EVERY: u64 = 8;

/// Estimated size of what is kept of a session. Unit: bytes.
const RECORD_BYTES: u64 = 24;

/// What is kept of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Last {
    sequence: u64,
    /// Hash of the answer.
    answer: u64,
}

/// What sessions were before they changed; `None` = not there.
type Before = BTreeMap<u64, Option<Last>>;

/// The last answer to each session.
#[derive(Debug, Default)]
pub struct LastAnswers {
    sessions: BTreeMap<u64, Last>,
    /// What the entry that is being applied makes of them; `None` = forgotten.
    running: Before,
    /// For each open reading, by its entry: the sessions that have changed since, as they were.
    readings: BTreeMap<Index, Before>,
}

impl LastAnswers {
    /// Every session as of an entry, from one on.
    fn from(&self, as_of: &AsOf, first: u64) -> impl Iterator<Item = (u64, Last)> {
        let mut found: BTreeMap<u64, Option<Last>> =
            self.sessions.range(first..).map(|(session, last)| (*session, Some(*last))).collect();
        if let Some(before) = self.readings.get(&as_of.applied.index) {
            found.extend(before.range(first..));
        }
        found.into_iter().filter_map(|(session, last)| Some((session, last?)))
    }
}

/// The session to go on from.
fn first_of(cursor: &SectionCursor) -> u64 {
    cursor.record.as_slice().try_into().map_or(0, u64::from_be_bytes)
}

fn cursor_at(session: u64) -> SectionCursor {
    SectionCursor { record: session.to_be_bytes().to_vec(), taken: 0 }
}

/// A hash of an answer.
fn hash(answer: Result<&[u8], CommandRefused>) -> u64 {
    match answer {
        Ok(bytes) => u64::from(crc32fast::hash(bytes)) << 32 | bytes.len() as u64,
        Err(refused) => u64::from(crc32fast::hash(refused.to_string().as_bytes())),
    }
}

impl Section for LastAnswers {
    fn kind(&self) -> SectionKind {
        SectionKind::LAST_ANSWERS
    }

    fn bytes(&self) -> u64 {
        self.sessions.len() as u64 * RECORD_BYTES
    }

    fn keeps_answers(&self) -> bool {
        true
    }

    fn take_answer(&mut self, sender: Sender, answer: Result<&[u8], CommandRefused>) {
        let last = Last { sequence: sender.sequence(), answer: hash(answer) };
        let is_forgotten = last.sequence.is_multiple_of(FORGOTTEN_EVERY);
        self.running.insert(sender.session(), (!is_forgotten).then_some(last));
    }

    fn finish_entry(&mut self, _as_of: &AsOf) {
        for (session, last) in std::mem::take(&mut self.running) {
            let before = match last {
                Some(last) => self.sessions.insert(session, last),
                None => self.sessions.remove(&session),
            };
            for changed in self.readings.values_mut() {
                changed.entry(session).or_insert(before);
            }
        }
    }

    fn begin_reading(&mut self, as_of: &AsOf) {
        let before = self.readings.insert(as_of.applied.index, Before::new());
        assert!(before.is_none(), "a reading of {} is open already", as_of.applied);
    }

    fn end_reading(&mut self, as_of: &AsOf) {
        let before = self.readings.remove(&as_of.applied.index);
        assert!(before.is_some(), "no reading of {} is open", as_of.applied);
    }

    fn chunk(
        &self,
        as_of: &AsOf,
        cursor: &mut SectionCursor,
        left: &mut u64,
        bytes_limit: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        let start = out.len();
        for (session, last) in self.from(as_of, first_of(cursor)) {
            if *left == 0 || (out.len() > start && out.len() >= bytes_limit) {
                *cursor = cursor_at(session);
                return false;
            }
            *left -= 1;
            out.extend_from_slice(&[session, last.sequence, last.answer].map(u64::to_le_bytes).concat());
        }
        true
    }

    fn restore(&mut self, chunk: &[u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(chunk);
        while !reader.clone().rest().is_empty() {
            let session = reader.u64("a session")?;
            let last = Last { sequence: reader.u64("a sequence number")?, answer: reader.u64("an answer")? };
            if self.sessions.last_key_value().is_some_and(|(before, _)| *before >= session) {
                return Err(DecodeError::Unknown { what: "the place of a session", got: session });
            }
            self.sessions.insert(session, last);
        }
        Ok(())
    }

    fn digest(&self, as_of: &AsOf, cursor: &mut SectionCursor, left: &mut u64, digest: &mut Digest) -> bool {
        for (session, last) in self.from(as_of, first_of(cursor)) {
            if *left == 0 {
                *cursor = cursor_at(session);
                return false;
            }
            *left -= 1;
            [session, last.sequence, last.answer].into_iter().for_each(|number| digest.add(number));
        }
        true
    }
}
