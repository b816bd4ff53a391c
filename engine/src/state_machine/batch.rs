//! Batches: the payload of one entry, commands with their lengths.

use codec::{DecodeError, Reader};

/// What stands in front of a command in a batch.
///
/// # Panics
/// If the command is 4 GiB or longer, which every limit excludes.
#[must_use]
pub fn length_prefix(command: &[u8]) -> [u8; 4] {
    u32::try_from(command.len()).expect("a command is below 4 GiB").to_le_bytes()
}

/// The commands of a batch, in order.
pub fn commands(payload: &[u8]) -> impl Iterator<Item = Result<&[u8], DecodeError>> {
    let mut reader = Some(Reader::new(payload));
    std::iter::from_fn(move || {
        let rest = reader.as_mut()?;
        if rest.clone().rest().is_empty() {
            return None;
        }
        let command = rest.u32("the length of a command").and_then(|len| rest.bytes("a command", len as usize));
        if command.is_err() {
            reader = None;
        }
        Some(command)
    })
}
