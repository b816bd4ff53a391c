//! Forged entries that say who the members are, and which log of each counts.

use wal::EntryKind;

use super::forge::Near;
use super::input::Input;
use super::logs::any_log;
use super::node::{NODES, node_id};
use crate::log_store::KIND_MEMBERS;
use crate::types::{Index, NodeId};

/// What a member's entry says of it: id, roles, the log that counts, and since when.
type Row = [u64; 4];

impl Near<'_> {
    /// The payload of entry `index`: who the members are, by the log's last word or without any, changed in some places.
    pub(super) fn any_membership(&self, index: Index, input: &mut Input<'_>) -> (EntryKind, Vec<u8>) {
        let mut rows: Vec<Row> = match self.log.members().get(8..) {
            Some(rows) if !rows.is_empty() => rows.chunks_exact(32).map(row_of).collect(),
            _ => (0..NODES).map(|number| [node_id(number).get(), 1, 0, 0]).collect(),
        };
        for _ in 0..=input.below(3) {
            self.change(&mut rows, index, input);
        }
        let version = if input.below(16) == 15 { 2_u32 } else { 1 };
        let count = u32::try_from(rows.len()).unwrap_or(u32::MAX).saturating_add(u32::from(input.below(16) == 15));
        let mut payload = [version.to_le_bytes(), count.to_le_bytes()].concat();
        rows.iter().flatten().for_each(|number| payload.extend_from_slice(&number.to_le_bytes()));
        (KIND_MEMBERS, payload)
    }

    fn change(&self, rows: &mut Vec<Row>, index: Index, input: &mut Input<'_>) {
        let choice = input.below(16);
        let at = usize::from(input.byte()) % rows.len().max(1);
        if choice == 15 {
            // Somebody who is no member, or is one already.
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
