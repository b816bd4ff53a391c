//! Commands of a batch, read some ahead of those that are applied, so that their keys are looked up together.

use std::collections::VecDeque;

use codec::DecodeError;

use super::batch::{self, Batched};
use super::mvcc::Mvcc;
use crate::limits::LOOK_AHEAD_KEYS;
use api::command::{self, Command, Op};

use crate::limits::READ_AHEAD_BYTES;

/// A command with what stands around it in its batch.
type Read<'a> = Result<(Batched<'a>, Command<'a>), DecodeError>;

/// The commands of a batch in order.
pub(super) struct Ahead<'a, C> {
    commands: C,
    read: VecDeque<Read<'a>>,
}

/// The commands of a batch from the bytes after its header or after one of its commands.
pub(super) fn commands(rest: &[u8]) -> Ahead<'_, impl Iterator<Item = Result<Batched<'_>, DecodeError>>> {
    Ahead { commands: batch::commands(rest), read: VecDeque::new() }
}

impl<'a, C: Iterator<Item = Result<Batched<'a>, DecodeError>>> Ahead<'a, C> {
    /// The next command. What the index holds of the keys of the next ones is in the caches of the processor, most likely.
    pub(super) fn next(&mut self, keys: &Mvcc) -> Option<Read<'a>> {
        if self.read.is_empty() {
            let read = |batched: Batched<'a>| Ok((batched, command::decode(batched.command)?));
            let mut bytes = 0;
            while self.read.len() < LOOK_AHEAD_KEYS
                && bytes < READ_AHEAD_BYTES
                && let Some(batched) = self.commands.next()
            {
                bytes += batched.as_ref().map_or(0, |batched| batched.bytes_count);
                self.read.push_back(batched.and_then(read));
            }
            look_ahead(&self.read, keys);
        }
        self.read.pop_front()
    }
}

fn look_ahead(read: &VecDeque<Read<'_>>, keys: &Mvcc) {
    if read.len() < 2 {
        return;
    }
    let mut ahead = [&[][..]; LOOK_AHEAD_KEYS];
    let mut count = 0;
    for (_, command) in read.iter().flatten() {
        // A transaction is rare and names many keys.
        let key = match command {
            Command::Op(Op::Put { key, .. }) => key,
            Command::Op(Op::Delete { range, .. }) if range.is_single() => range.key,
            Command::Op(_) | Command::Txn(_) => continue,
        };
        ahead[count] = key;
        count += 1;
    }
    keys.look_ahead(&ahead[..count]);
}
