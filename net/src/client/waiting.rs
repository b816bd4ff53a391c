//! Requests of one connection that wait for their answers, and who takes these: a caller that waits for the whole answer, or one that
//! takes each part as it comes.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::outcome::{Answer, CallError, Outcome};
use super::parts::Parts;
use crate::api::ResponsePart;
use crate::limits::ANSWER_BYTES_MAX;

/// Who takes an answer.
#[derive(Debug)]
pub(super) enum Taker {
    /// A caller that waits for the whole answer, and the parts of it that have come. The caller may be gone.
    OfWhole { reply: oneshot::Sender<Outcome>, parts: Vec<u8> },
    /// A caller that takes each part as it comes.
    OfParts(Arc<Parts>),
}

impl Taker {
    /// Somebody who waits for the whole answer.
    pub(super) fn of_whole() -> (Self, oneshot::Receiver<Outcome>) {
        let (reply, answer) = oneshot::channel();
        (Self::OfWhole { reply, parts: Vec::new() }, answer)
    }

    /// The answer ends with this.
    pub(super) fn end(self, last: Result<(&[u8], Option<String>), CallError>) {
        match self {
            Self::OfWhole { reply, mut parts } => {
                let outcome = last.and_then(|(body, leader_hint)| {
                    if parts.len() + body.len() > ANSWER_BYTES_MAX {
                        return Err(CallError::Broken(answer_too_large()));
                    }
                    parts.extend_from_slice(body);
                    Ok(Answer { body: parts, leader_hint })
                });
                // A caller that gave up is not there any more.
                drop(reply.send(outcome));
            }
            Self::OfParts(parts) => {
                parts.end(last.map(|(body, leader_hint)| Answer { body: body.to_vec(), leader_hint }));
            }
        }
    }
}

/// What answers leave to other requests.
#[derive(Debug, Default)]
pub(super) struct GivenBack {
    pub(super) places: usize,
    pub(super) bytes: usize,
}

/// A request that was sent.
#[derive(Debug)]
struct Sent {
    taker: Taker,
    /// Bytes of its payload, for as long as it has a place. One that lasts has none once it has begun.
    place_bytes: Option<u32>,
    /// It has begun to last, and nobody has cancelled it: nothing need come for long.
    rests: bool,
}

/// The requests of a connection that were sent and have no last answer.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    sent: HashMap<u64, Sent>,
    /// Those among them that rest.
    resting_count: usize,
}

impl Waiting {
    /// A request of this number has a place with so many bytes.
    pub(super) fn insert(&mut self, id: u64, taker: Taker, bytes: u32) {
        let before = self.sent.insert(id, Sent { taker, place_bytes: Some(bytes), rests: false });
        assert!(before.is_none(), "a number names one request");
    }

    /// The node owes an answer that is to come soon.
    pub(super) fn is_owed(&self) -> bool {
        assert!(self.resting_count <= self.sent.len(), "what rests was sent");
        self.sent.len() > self.resting_count
    }

    /// Takes a part of an answer. Of an answer that nobody waits for nothing is kept.
    pub(super) fn take_part(&mut self, part: &ResponsePart<'_>, given_back: &mut GivenBack) -> Result<(), String> {
        let Some(sent) = self.sent.get_mut(&part.id) else { return Ok(()) };
        match &mut sent.taker {
            Taker::OfWhole { parts, .. } => {
                if parts.len() + part.bytes.len() > ANSWER_BYTES_MAX {
                    return Err(answer_too_large());
                }
                parts.extend_from_slice(part.bytes);
            }
            Taker::OfParts(parts) => {
                if let Some(bytes) = sent.place_bytes.take() {
                    given_back.note(bytes);
                    sent.rests = !parts.is_left();
                    self.resting_count += usize::from(sent.rests);
                }
                parts.push(part.bytes);
            }
        }
        Ok(())
    }

    /// Nobody takes the answer to this request any more. `false`: it has ended.
    pub(super) fn cancel(&mut self, id: u64) -> bool {
        let Some(sent) = self.sent.get_mut(&id) else { return false };
        self.resting_count -= usize::from(std::mem::take(&mut sent.rests));
        true
    }

    /// The request has its last answer: whoever takes it.
    pub(super) fn remove(&mut self, id: u64, given_back: &mut GivenBack) -> Option<Taker> {
        let sent = self.sent.remove(&id)?;
        assert!(!sent.rests || sent.place_bytes.is_none(), "what rests has given its place back");
        self.resting_count -= usize::from(sent.rests);
        if let Some(bytes) = sent.place_bytes {
            given_back.note(bytes);
        }
        Some(sent.taker)
    }

    /// All that wait.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Taker> {
        self.resting_count = 0;
        self.sent.drain().map(|(_, sent)| sent.taker)
    }
}

impl GivenBack {
    const fn note(&mut self, bytes: u32) {
        self.places += 1;
        self.bytes += bytes as usize;
    }
}

fn answer_too_large() -> String {
    format!("the node's answer has more than {ANSWER_BYTES_MAX} bytes")
}
