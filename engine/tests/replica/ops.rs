//! Operations and ranges in the form in which a test says them shortly.

use api::command::{KeyRange, Op, RangeOp, encode_op_command, encode_range};

/// All keys of a range, as of now.
pub fn whole<'a>(key: &'a [u8], range_end: &'a [u8]) -> RangeOp<'a> {
    RangeOp { range: KeyRange { key, range_end }, limit: 0, revision: 0, keys_only: false, count_only: false }
}

pub fn put<'a>(key: &'a [u8], value: &'a [u8]) -> Op<'a> {
    Op::Put { key, value, lease: 0, prev_kv: false }
}

/// A command of one operation.
pub fn op_command(op: &Op<'_>) -> Vec<u8> {
    let mut command = Vec::new();
    encode_op_command(op, &mut command).expect("a valid operation");
    command
}

/// A request for a range.
pub fn request(range: &RangeOp<'_>) -> Vec<u8> {
    let mut request = Vec::new();
    encode_range(range, &mut request).expect("a valid range");
    request
}
