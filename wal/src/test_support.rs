//! What this package's tests share: small logs on simulated disks, and short words for what they do with them.

use crate::format::{EntryHeader, EntryKind};
use crate::lsn::SegmentSeq;
#[cfg(feature = "shell")]
use crate::mmap::FileDevice;
use crate::salvage::SalvageReport;
use crate::segment::SegmentIdentity;
use crate::testing::{SimRng, SimStorage, salvage_at_once};
use crate::types::{EntryId, HardStateRecord, Index, Lsn, Term};
use crate::{AppendError, Log, LogOptions, OpenError, RecoveryReport, Storage};

pub(crate) const IDENTITY: SegmentIdentity = SegmentIdentity { cluster_id: 11, node_id: 22, shard: 0, shard_count: 1 };
pub(crate) const SEGMENT_BYTES: u64 = 16 << 10;
pub(crate) const OPTIONS: LogOptions = LogOptions {
    identity: IDENTITY,
    segment_bytes: SEGMENT_BYTES,
    state: EntryId::ZERO,
    state_lineage: crate::Lineage::START,
};
pub(crate) const KIND: EntryKind = EntryKind::new(2);

pub(crate) fn id(term: u64, index: u64) -> EntryId {
    EntryId::new(Term::new(term), Index::new(index))
}

pub(crate) fn seq(raw: u64) -> SegmentSeq {
    SegmentSeq::new(raw).expect("a segment number")
}

/// An empty log with its first segments prepared.
pub(crate) fn new_log(seed: u64) -> Log<SimStorage> {
    let (mut log, _) = Log::open(SimStorage::new(IDENTITY, SEGMENT_BYTES, seed), OPTIONS).expect("an empty log");
    prepare_all(&mut log);
    log
}

/// A log that begins after some entry in some segment, and what it is opened as.
pub(crate) fn log_at_random_origin(seed: u64) -> (Log<SimStorage>, LogOptions) {
    let mut rng = SimRng::new(seed ^ 0x6f72_6967);
    let mut storage = SimStorage::new(IDENTITY, SEGMENT_BYTES, seed);
    let mut options = OPTIONS;
    if rng.chance(3, 4) {
        storage.prepare(seq(1 + rng.below(1000)));
        options.state = id(1 + rng.below(5), 1 + rng.below(100_000));
    }
    let (mut log, report) = Log::open(storage, options).expect("a new log");
    assert_eq!((report.base, log.last_id()), (options.state, options.state));
    prepare_all(&mut log);
    (log, options)
}

pub(crate) fn prepare_all(log: &mut Log<SimStorage>) {
    while let Some(seq) = log.needs_segment() {
        log.storage_mut().prepare(seq);
    }
}

/// The same for a log in files.
#[cfg(feature = "shell")]
pub(crate) fn prepare_files(log: &mut Log<FileDevice>, segment_bytes: u64) {
    use crate::device::LogDevice;
    while let Some(seq) = log.needs_segment() {
        let prepared = log.storage().preparing(seq, IDENTITY, segment_bytes)().expect("space");
        log.storage_mut().install(prepared);
    }
}

pub(crate) fn append(log: &mut Log<SimStorage>, term: u64, index: u64, payload: &[u8]) -> Result<Lsn, AppendError> {
    log.append_entry(&EntryHeader::new(id(term, index), KIND, payload), payload)
}

/// Appends entries `1..=count` of one term.
pub(crate) fn append_many(log: &mut Log<SimStorage>, term: u64, indexes: std::ops::RangeInclusive<u64>, bytes: usize) {
    for index in indexes {
        prepare_all(log);
        append(log, term, index, &payload(term, index, bytes)).expect("room was prepared");
    }
}

/// A payload without zero bytes that is different for every entry.
pub(crate) fn payload(term: u64, index: u64, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| ((term * 31 + index * 7 + i as u64) % 255) as u8 + 1).collect()
}

/// Syncs until nothing is left to sync.
pub(crate) fn sync_all(log: &mut Log<SimStorage>) {
    while let Some(request) = log.next_sync() {
        log.storage_mut().sync(&request);
        log.on_synced(request.id, Ok(()));
    }
    assert_eq!(log.durable_lsn(), log.end_lsn());
}

pub(crate) fn reopen(storage: SimStorage) -> Result<(Log<SimStorage>, RecoveryReport), OpenError> {
    Log::open(storage, OPTIONS)
}

/// Segment and offset of the frame of an entry.
pub(crate) fn place(log: &Log<SimStorage>, index: u64) -> (SegmentSeq, usize) {
    log.place_of(Index::new(index)).expect("the log holds the entry")
}

/// One frame that was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record {
    Entry(EntryId, Vec<u8>),
    HardState(HardStateRecord),
    Mark,
}

/// Entries that are current after these frames of a log that was begun after `base`, each with the number of its frame.
pub(crate) fn current_entries(records: &[(Lsn, Record)], base: EntryId) -> Vec<(usize, EntryId, &[u8])> {
    let mut entries = Vec::new();
    for (position, (_, record)) in records.iter().enumerate() {
        if let Record::Entry(id, payload) = record {
            entries.truncate(usize::try_from(id.index.get() - base.index.get()).expect("small") - 1);
            entries.push((position, *id, payload.as_slice()));
        }
    }
    entries
}

/// The hard state after these frames.
pub(crate) fn last_hard_state(records: &[(Lsn, Record)], base: EntryId) -> HardStateRecord {
    let last = records.iter().rev().find_map(|(_, record)| match record {
        Record::HardState(hard_state) => Some(*hard_state),
        _ => None,
    });
    last.unwrap_or(HardStateRecord { term: base.term, vote: 0 })
}

/// What is salvaged of a damaged log, which is only read.
pub(crate) fn salvaged(from: &SimStorage, options: LogOptions, seed: u64) -> (Log<SimStorage>, SalvageReport) {
    let bytes = || from.segments().into_iter().map(|seq| from.bytes(seq).to_vec()).collect::<Vec<_>>();
    let before = bytes();
    let to = SimStorage::new(IDENTITY, SEGMENT_BYTES, seed);
    let salvaged = salvage_at_once(from, to, options).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(before, bytes(), "the damaged log is only read");
    salvaged
}
