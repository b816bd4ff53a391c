//! Forged membership entries: members, roles, and the named log of each member. Most of them are valid but for one thing.

use wal::EntryKind;

use super::forge::Near;
use super::input::Input;
use super::logs::any_log;
use super::node::{NODES, node_id};
use crate::log_store::KIND_MEMBERS;
use crate::types::{Index, NodeId};

/// A member's row of 32 bytes (`docs/format/members.md`): id, roles, incarnation of its named log, and the entry that named it.
type Row = [u64; 4];

impl Near<'_> {
    /// The kind and the payload of entry `index`. Starts from the log's membership, or from the founders if the log has none, and
    /// makes 1 to 3 changes.
    pub(super) fn any_membership(&self, index: Index, input: &mut Input<'_>) -> (EntryKind, Vec<u8>) {
        // The rows follow a header of 8 bytes. Every founder is a voter (1).
        let mut rows: Vec<Row> = match self.log.members().get(8..) {
            Some(rows) if !rows.is_empty() => rows.chunks_exact(32).map(row_of).collect(),
            _ => (0..NODES).map(|number| [node_id(number).get(), 1, 0, 0]).collect(),
        };
        for _ in 0..=input.below(3) {
            self.change(&mut rows, index, input);
        }
        // One in 16 has an unknown version; one in 16 states one row too many.
        let version = if input.below(16) == 15 { 2_u32 } else { 1 };
        let count = u32::try_from(rows.len()).unwrap_or(u32::MAX).saturating_add(u32::from(input.below(16) == 15));
        let mut payload = [version.to_le_bytes(), count.to_le_bytes()].concat();
        rows.iter().flatten().for_each(|number| payload.extend_from_slice(&number.to_le_bytes()));
        (KIND_MEMBERS, payload)
    }

    /// Makes one change. Of 16, 12 name another log, 2 give other roles, 1 removes a row, 1 adds one.
    fn change(&self, rows: &mut Vec<Row>, index: Index, input: &mut Input<'_>) {
        let choice = input.below(16);
        let at = usize::from(input.byte()) % rows.len().max(1);
        if choice == 15 {
            // A new member, or one that is listed already. Roles are 0 to 3; 4 is unknown.
            return rows.push([u64::from(input.below(12)), u64::from(input.below(5)), 0, 0]);
        }
        let Some(row) = rows.get_mut(at) else { return };
        match choice {
            0..=11 => {
                let since = match input.below(8) {
                    0..=4 => index,
                    5 => index.next(),
                    6 => index.prev(),
                    _ => self.any_index(input),
                };
                let log = any_log(NodeId::new(row[0]), input);
                // Valid are two zeros, or two other numbers.
                (row[2], row[3]) = if log == 0 && input.flag() { (0, 0) } else { (log, since.get()) };
            }
            12 | 13 => row[1] = u64::from(input.below(5)),
            _ => drop(rows.remove(at)),
        }
    }
}

fn row_of(bytes: &[u8]) -> Row {
    let number = |field: usize| {
        let bytes = bytes.get(8 * field..8 * field + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes)
    };
    std::array::from_fn(number)
}
