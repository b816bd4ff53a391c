//! Batches: the payload of one entry. A header with the leader's time and its limit of answers, then commands, each with its length and
//! its sender.
//!
//! Layout: `docs/format/command.md`. What a command says is `api::command`'s.

use std::num::NonZeroU64;

use codec::{DecodeError, Reader};
use zerocopy::IntoBytes;
use zerocopy::little_endian::U64;

use crate::limits::COMMAND_ANSWER_BYTES_LIMIT;
use net::limits::ANSWER_BYTES_MAX;

/// Version of the encoding of a batch.
pub const BATCH_VERSION: u8 = 1;

/// Length of a batch's header. Unit: bytes.
pub const BATCH_HEADER_BYTES: usize = 16;

/// Flag of a command: its sender stands in front of it.
const FLAG_SENDER: u32 = 1;

/// Time of a shard's log. Unit: ms. It goes on only while the shard has a leader, and never goes back.
///
/// The leader reads it off its own clock and writes it into each batch, so that all replicas agree on what time it is when an entry
/// is applied. What expires (leases, sessions) will live by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogTime(u64);

impl LogTime {
    /// Wraps a number of milliseconds.
    #[must_use]
    pub const fn new(ms: u64) -> Self {
        Self(ms)
    }

    /// The number of milliseconds.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// So much later.
    #[must_use]
    pub const fn after_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// Who sent a command, for commands that must not be applied twice. Commands without a session have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sender {
    session: NonZeroU64,
    sequence: u64,
}

impl Sender {
    /// The sender of a session's command with this number. `None` for session 0, which stands for no session.
    #[must_use]
    pub const fn new(session: u64, sequence: u64) -> Option<Self> {
        match NonZeroU64::new(session) {
            Some(session) => Some(Self { session, sequence }),
            None => None,
        }
    }

    /// The session; never 0.
    #[must_use]
    pub const fn session(self) -> u64 {
        self.session.get()
    }

    /// The command's number within the session.
    #[must_use]
    pub const fn sequence(self) -> u64 {
        self.sequence
    }
}

/// What stands at the front of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The leader's time when it began the batch.
    pub time: LogTime,
    /// The leader's limit of answers: one with more bytes is not given. It stands in the batch so that every replica comes to the same
    /// answer, whatever its own settings are. At most `ANSWER_BYTES_MAX`. Unit: bytes.
    pub answer_bytes_limit: u32,
}

impl Default for BatchHeader {
    fn default() -> Self {
        const { assert!(COMMAND_ANSWER_BYTES_LIMIT <= u32::MAX as usize) }
        Self { time: LogTime::default(), answer_bytes_limit: COMMAND_ANSWER_BYTES_LIMIT as u32 }
    }
}

impl BatchHeader {
    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; BATCH_HEADER_BYTES] {
        assert!(self.answer_bytes_limit as usize <= ANSWER_BYTES_MAX, "whoever passes an answer on can take it");
        // The version is the first byte of the first word, and the limit its upper half; the rest of it is reserved.
        let front = u64::from(BATCH_VERSION) | u64::from(self.answer_bytes_limit) << 32;
        zerocopy::transmute!([front, self.time.get()].map(U64::new))
    }

    /// Reads the front of a batch.
    ///
    /// # Errors
    /// The bytes do not follow the format, or another version wrote them.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        match reader.u8("the version of a batch")? {
            BATCH_VERSION => {}
            got => return Err(DecodeError::Unknown { what: "the version of a batch", got: got.into() }),
        }
        if reader.bytes("the reserved bytes of a batch", 3)?.iter().any(|byte| *byte != 0) {
            return Err(DecodeError::Unknown { what: "a reserved byte of a batch", got: 1 });
        }
        let answer_bytes_limit = reader.u32("the limit of answers of a batch")?;
        if answer_bytes_limit as usize > ANSWER_BYTES_MAX {
            return Err(DecodeError::Unknown {
                what: "the limit of answers of a batch",
                got: answer_bytes_limit.into(),
            });
        }
        Ok(Self { time: LogTime::new(reader.u64("the time of a batch")?), answer_bytes_limit })
    }
}

/// What stands in front of a command in a batch.
#[derive(Clone, Copy, Debug)]
pub struct CommandHead {
    /// Length and flags, session, sequence number.
    words: [U64; 3],
    has_sender: bool,
}

impl CommandHead {
    /// The head of a command.
    ///
    /// # Panics
    /// If the command is 4 GiB or longer, which every limit excludes.
    #[must_use]
    pub fn new(command: &[u8], sender: Option<Sender>) -> Self {
        let command_len = u32::try_from(command.len()).expect("a command is below 4 GiB");
        let flags = if sender.is_some() { FLAG_SENDER } else { 0 };
        let (session, sequence) = sender.map_or((0, 0), |sender| (sender.session(), sender.sequence()));
        let first = u64::from(flags) << 32 | u64::from(command_len);
        Self { words: [first, session, sequence].map(U64::new), has_sender: sender.is_some() }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        let [first, ..] = &self.words;
        if self.has_sender { self.words.as_bytes() } else { first.as_bytes() }
    }
}

/// A command of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batched<'a> {
    /// Who sent it, if that is known.
    pub sender: Option<Sender>,
    /// The command, encoded.
    pub command: &'a [u8],
    /// What it takes in the batch, with its head. Unit: bytes.
    pub bytes_count: usize,
}

/// Appends a batch of commands without senders.
pub fn encode<'a>(header: BatchHeader, commands: impl IntoIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    encode_sent(header, commands.into_iter().map(|command| (None, command)), out);
}

/// Appends a batch.
pub fn encode_sent<'a>(
    header: BatchHeader,
    commands: impl IntoIterator<Item = (Option<Sender>, &'a [u8])>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(&header.encode());
    for (sender, command) in commands {
        out.extend_from_slice(CommandHead::new(command, sender).as_bytes());
        out.extend_from_slice(command);
    }
}

/// The commands of a batch in order, from the bytes after its header or after one of its commands.
pub fn commands(rest: &[u8]) -> impl Iterator<Item = Result<Batched<'_>, DecodeError>> {
    let mut reader = Some(Reader::new(rest));
    std::iter::from_fn(move || {
        let rest = reader.as_mut()?;
        if rest.clone().rest().is_empty() {
            return None;
        }
        let command = read_command(rest);
        if command.is_err() {
            reader = None;
        }
        Some(command)
    })
}

/// The commands of a whole batch in order; an error if its header is none.
pub fn commands_of(payload: &[u8]) -> Result<impl Iterator<Item = Result<Batched<'_>, DecodeError>>, DecodeError> {
    BatchHeader::decode(payload)?;
    Ok(commands(payload.get(BATCH_HEADER_BYTES..).unwrap_or_default()))
}

fn read_command<'a>(reader: &mut Reader<'a>) -> Result<Batched<'a>, DecodeError> {
    let before = reader.clone().rest().len();
    let len = reader.u32("the length of a command")? as usize;
    let sender = match reader.u32("the flags of a command in a batch")? {
        0 => None,
        FLAG_SENDER => {
            let session = reader.u64("the session of a command")?;
            let sequence = reader.u64("the sequence number of a command")?;
            let sender = Sender::new(session, sequence);
            Some(sender.ok_or(DecodeError::Unknown { what: "the session of a command", got: session })?)
        }
        got => return Err(DecodeError::Unknown { what: "the flags of a command in a batch", got: got.into() }),
    };
    let command = reader.bytes("a command", len)?;
    Ok(Batched { sender, command, bytes_count: before - reader.clone().rest().len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_are_read_back_and_unknown_flags_refused() {
        let sender = Sender::new(7, u64::MAX);
        let head = CommandHead::new(b"abc", sender);
        let bytes = [head.as_bytes(), b"abc"].concat();
        let read: Vec<_> = commands(&bytes).collect();
        assert_eq!(read, [Ok(Batched { sender, command: b"abc", bytes_count: 27 })]);
        let mut nobody = bytes.clone();
        nobody[8] = 0;
        assert_eq!(
            commands(&nobody).collect::<Vec<_>>(),
            [Err(DecodeError::Unknown { what: "the session of a command", got: 0 })]
        );
        for cut in 1..bytes.len() {
            assert!(commands(&bytes[..cut]).all(|command| command.is_err()), "{cut}");
        }
        let mut unknown = bytes;
        unknown[4] = 2;
        assert_eq!(
            commands(&unknown).collect::<Vec<_>>(),
            [Err(DecodeError::Unknown { what: "the flags of a command in a batch", got: 2 })]
        );
    }

    #[test]
    fn a_batch_of_another_version_is_refused() {
        let header = BatchHeader { time: LogTime::new(5), answer_bytes_limit: 7 };
        let mut bytes = header.encode();
        assert_eq!(BatchHeader::decode(&bytes), Ok(header));
        bytes[0] = BATCH_VERSION + 1;
        assert!(BatchHeader::decode(&bytes).is_err() && commands_of(&bytes).is_err());
        bytes[0] = BATCH_VERSION;
        bytes[3] = 1;
        assert!(BatchHeader::decode(&bytes).is_err());
        assert!(BatchHeader::decode(&bytes[..BATCH_HEADER_BYTES - 1]).is_err());
    }

    #[test]
    fn a_limit_of_answers_that_no_node_can_have_is_refused() {
        let most = u32::try_from(ANSWER_BYTES_MAX).expect("it has 32 bits");
        let mut bytes = BatchHeader { answer_bytes_limit: most, ..BatchHeader::default() }.encode();
        assert!(BatchHeader::decode(&bytes).is_ok());
        bytes[4] = 1;
        assert_eq!(
            BatchHeader::decode(&bytes),
            Err(DecodeError::Unknown { what: "the limit of answers of a batch", got: u64::from(most) + 1 })
        );
    }
}
