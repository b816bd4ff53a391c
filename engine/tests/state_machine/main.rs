//! The state machine: against a model, in slices, and in the sections that it is made of.

mod model;
#[path = "../replica/ops.rs"]
mod ops;
mod sections;
mod slices;

use api::command::{KeyRange, Op};
use engine::state_machine::BatchEntry;
use engine::state_machine::batch::{self, BatchHeader};
use engine::types::{EntryId, Index, Lsn, Term};

/// A batch of commands.
fn batch_of(commands: &[Vec<u8>]) -> Vec<u8> {
    batch_under(BatchHeader::default(), commands)
}

/// The same with a header of its own.
fn batch_under(header: BatchHeader, commands: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = Vec::new();
    batch::encode(header, commands.iter().map(Vec::as_slice), &mut payload);
    payload
}

fn entry(index: Index, payload: &[u8]) -> BatchEntry<'_> {
    BatchEntry { id: EntryId::new(Term::new(1), index), place: Lsn::ZERO, payload }
}

fn delete<'a>(key: &'a [u8], range_end: &'a [u8]) -> Op<'a> {
    Op::Delete { range: KeyRange { key, range_end }, prev_kv: true }
}
