//! Answers on their way from a shard's core to the core of whoever waits: which of them are brought, and what takes the place of others.

use net::api::Status;

use crate::call::{Part, Refusal};

/// What is brought to another core: a part of an answer, or why it was lost though others follow.
pub(crate) type Brought = Result<Part<Vec<u8>>, Refusal>;

/// How many bytes of answers may be on their way from one core to others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BetweenCores {
    /// Unit: bytes.
    pub(crate) bytes_limit: usize,
    /// An answer up to this size is brought whatever else is on its way. Unit: bytes.
    pub(crate) small_bytes: usize,
}

impl BetweenCores {
    /// A copy of a part of an answer, or a refusal in its place while too many bytes are on their way. Says whether the part was dropped.
    ///
    /// The shard has done what was asked for, so that the refusal must not deny it.
    pub(crate) fn bring(self, part: Part<&[u8], &Refusal>, under_way_bytes: usize) -> (Brought, bool) {
        let bytes = part.bytes().map_or(0, <[u8]>::len);
        if bytes <= self.small_bytes || under_way_bytes.saturating_add(bytes) <= self.bytes_limit {
            return (Ok(part.into_owned()), false);
        }
        mark!("desk: an answer between cores is dropped");
        let message = "too many bytes of answers are on their way between the cores of this node; this one was dropped, read again later";
        let refusal = Refusal::unknown(Status::Overloaded, message);
        match part {
            Part::More(_) => (Err(refusal), true),
            Part::Last(_) => (Ok(Part::Last(Err(refusal))), true),
        }
    }
}
