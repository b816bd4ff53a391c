//! A log's device in memory, for tests of a shard: its syncs end when the test says so.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use wal::device::{LogDevice, PrepareError};
use wal::place::LogPlace;
use wal::testing::SimStorage;
use wal::{Noted, SegmentIdentity, SegmentSeq, Storage, StorageError, SyncFailure};

use super::device::ShardDevice;

/// How syncs end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Syncs {
    /// Well, a moment later.
    #[default]
    End,
    /// Well, before whoever starts them goes on.
    EndAtOnce,
    /// Not before this is changed.
    Hang,
    /// They fail.
    Fail,
}

impl Syncs {
    /// One sync that begins now.
    async fn end(at: Rc<Cell<Self>>) -> Result<(), SyncFailure> {
        if at.get() == Self::EndAtOnce {
            return Ok(());
        }
        glommio::timer::sleep(Duration::from_millis(1)).await;
        while at.get() == Self::Hang {
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
        if at.get() == Self::Fail { Err(SyncFailure::new("an I/O error that a test made")) } else { Ok(()) }
    }
}

/// The device. What it is told to do to syncs may change at any time.
#[derive(Debug)]
pub struct MemoryDevice {
    segments: SimStorage,
    /// Syncs of segments.
    pub syncs: Rc<Cell<Syncs>>,
    /// Syncs of the note.
    pub note_syncs: Rc<Cell<Syncs>>,
}

impl MemoryDevice {
    /// A device with the first segment of a log.
    pub fn new(identity: SegmentIdentity, segment_bytes: u64) -> Self {
        let mut segments = SimStorage::new(identity, segment_bytes, 0);
        segments.prepare(SegmentSeq::FIRST);
        Self { segments, syncs: Rc::default(), note_syncs: Rc::default() }
    }
}

impl ShardDevice for MemoryDevice {
    fn sync(&self, _seq: SegmentSeq) -> impl Future<Output = Result<(), SyncFailure>> + 'static {
        Syncs::end(Rc::clone(&self.syncs))
    }

    fn sync_note(&self) -> impl Future<Output = Result<(), SyncFailure>> + 'static {
        Syncs::end(Rc::clone(&self.note_syncs))
    }
}

impl LogDevice for MemoryDevice {
    fn preparing(
        &self,
        seq: SegmentSeq,
        _identity: SegmentIdentity,
        _segment_bytes: u64,
    ) -> impl FnOnce() -> Result<SegmentSeq, PrepareError> + Send + 'static {
        move || Ok(seq)
    }

    fn reading_in(
        &self,
        _parts: Vec<(SegmentSeq, Range<usize>)>,
    ) -> io::Result<impl FnOnce() -> io::Result<()> + Send + 'static> {
        Ok(|| Ok(()))
    }

    fn removing_dropped(&mut self) -> Option<impl FnOnce() -> Result<(), StorageError> + Send + 'static> {
        self.segments.complete_removal();
        None::<fn() -> Result<(), StorageError>>
    }

    fn place(&self) -> LogPlace {
        LogPlace::default()
    }
}

impl Storage for MemoryDevice {
    type Prepared = SegmentSeq;

    fn install(&mut self, prepared: SegmentSeq) {
        self.segments.install(prepared);
    }

    fn segments(&self) -> Vec<SegmentSeq> {
        self.segments.segments()
    }

    fn contains(&self, seq: SegmentSeq) -> bool {
        self.segments.contains(seq)
    }

    fn bytes(&self, seq: SegmentSeq) -> &[u8] {
        self.segments.bytes(seq)
    }

    fn bytes_mut(&mut self, seq: SegmentSeq, range: Range<usize>) -> &mut [u8] {
        self.segments.bytes_mut(seq, range)
    }

    fn reset_tail(&mut self, seq: SegmentSeq, offset: usize) -> Result<(), StorageError> {
        self.segments.reset_tail(seq, offset)
    }

    fn remove_from(&mut self, seq: SegmentSeq) -> Result<(), StorageError> {
        self.segments.remove_from(seq)
    }

    fn remove_before(&mut self, seq: SegmentSeq) -> Result<(), StorageError> {
        self.segments.remove_before(seq)
    }

    fn drop_before(&mut self, seq: SegmentSeq) {
        self.segments.drop_before(seq);
    }

    fn is_resident(&self, seq: SegmentSeq, part: Range<usize>, behind_bytes: u64) -> bool {
        self.segments.is_resident(seq, part, behind_bytes)
    }

    fn note(&mut self, noted: Noted) {
        self.segments.note(noted);
    }

    fn noted(&self) -> Noted {
        self.segments.noted()
    }
}
