//! Where values lie. The state machine keeps references; this module alone knows what they refer to.
//!
//! Today values are copied into memory, into chunks that only grow. The boundary is here so that the log itself can hold
//! them later (`docs/decisions/`). Nothing is ever removed yet: there is no compaction.

/// Size of a chunk. Unit: bytes.
const CHUNK_BYTES: usize = 1 << 20;

/// Where a value lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ValueRef {
    chunk: u32,
    offset: u32,
    len: u32,
}

/// All values of a shard.
#[derive(Debug, Default)]
pub struct ValueStore {
    chunks: Vec<Vec<u8>>,
    bytes: u64,
}

impl ValueStore {
    /// Keeps a value.
    ///
    /// # Panics
    /// If there are 2^32 chunks, 4 PiB of values.
    pub fn put(&mut self, value: &[u8]) -> ValueRef {
        let fits = |chunk: &Vec<u8>| chunk.capacity() - chunk.len() >= value.len();
        if !self.chunks.last().is_some_and(fits) {
            self.chunks.push(Vec::with_capacity(CHUNK_BYTES.max(value.len())));
        }
        let number = self.chunks.len() - 1;
        let chunk = &mut self.chunks[number];
        let as_u32 = |number: usize| u32::try_from(number).expect("chunks are below 4 GiB and fewer than 2^32");
        let place = ValueRef { chunk: as_u32(number), offset: as_u32(chunk.len()), len: as_u32(value.len()) };
        assert!(chunk.capacity() - chunk.len() >= value.len(), "a chunk never moves");
        chunk.extend_from_slice(value);
        self.bytes += value.len() as u64;
        place
    }

    /// The value at a place that `put` gave.
    #[must_use]
    pub fn get(&self, place: ValueRef) -> &[u8] {
        let start = place.offset as usize;
        &self.chunks[place.chunk as usize][start..start + place.len as usize]
    }

    /// Bytes of all values.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}
