//! What the fuzz targets in `wal/fuzz` check, so that a plain test can replay their corpus.
//!
//! Nothing here makes inputs. Each function takes any bytes and panics if the log breaks a promise over them.

use crate::checksum::{HeaderSeed, crc32};
use crate::format::{ENTRY_HEADER_BYTES, EntryHeader, EntryKind, FRAME_ENTRY_OFFSET, FRAME_HEADER_BYTES, FrameHeader};
use crate::limits::{FRAME_ALIGN_BYTES, PAGE_BYTES};
use crate::note::{self, NOTE_BYTES};
use crate::salvage::SalvageError;
use crate::segment::{LogNonce, SegmentHeader, SegmentIdentity};
use crate::storage::{Noted, Storage};
use crate::testing::{SimStorage, salvage_at_once};
use crate::types::{EntryId, Index, Lsn, Term};
use crate::{HardStateRecord, Log, LogOptions, OpenError, SegmentSeq};

const IDENTITY: SegmentIdentity = SegmentIdentity { cluster_id: 1, node_id: 2, shard: 0, shard_count: 1 };
const SEGMENT_BYTES: u64 = 16 << 10;
const OPTIONS: LogOptions = LogOptions {
    identity: IDENTITY,
    segment_bytes: SEGMENT_BYTES,
    state: EntryId::ZERO,
    state_lineage: crate::Lineage::START,
};

/// Reads the input front to back; zeros once it is used up.
struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    fn number(&mut self, bytes: usize) -> u64 {
        self.bytes(bytes).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.number(2)).expect("two bytes") % bound
    }
}

/// A log of a few segments, all of it durable.
fn a_log() -> SimStorage {
    let (mut log, _) = Log::open(SimStorage::new(IDENTITY, SEGMENT_BYTES, 1), OPTIONS).expect("an empty log");
    let prepare_all = |log: &mut Log<SimStorage>| {
        while let Some(seq) = log.needs_segment() {
            log.storage_mut().prepare(seq);
        }
    };
    for index in 1..=12 {
        prepare_all(&mut log);
        let term = Term::new(1 + index / 5);
        if index % 5 == 0 || index == 1 {
            log.append_hard_state(HardStateRecord { term, vote: index }).expect("room");
        }
        let payload = vec![index as u8 + 1; 300 * (index as usize % 7)];
        let header = EntryHeader::new(EntryId::new(term, Index::new(index)), EntryKind::new(1), &payload);
        log.append_entry(&header, &payload).expect("room");
        while let Some(request) = log.next_sync() {
            log.storage_mut().sync(&request);
            log.on_synced(request.id, Ok(()));
        }
    }
    log.into_storage()
}

/// Changes a log's files as the input says, checksums included, then opens it: it opens with entries that verify, or is
/// refused and salvaged into a log that opens; it is never changed by being refused.
pub fn segment_files(data: &[u8]) {
    let mut input = Input { rest: data };
    let mut storage = a_log();
    while !input.rest.is_empty() {
        change(&mut storage, &mut input);
    }
    let before = storage.clone();
    match Log::open(&mut storage, OPTIONS) {
        Ok((log, report)) => {
            check(&log);
            drop(log);
            let (_, again) = Log::open(&mut storage, OPTIONS).expect("what opened once opens again");
            assert_eq!((again.last, again.hard_state, again.end), (report.last, report.hard_state, report.end));
        }
        Err(OpenError::Corrupt(corruption)) => {
            for seq in before.segments() {
                assert_eq!(storage.bytes(seq), before.bytes(seq), "a refused log is not changed");
            }
            assert!(!corruption.damages.is_empty() && !corruption.to_string().is_empty());
            check_salvage(&storage);
        }
        Err(OpenError::Identity { .. } | OpenError::Version { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

fn change(storage: &mut SimStorage, input: &mut Input<'_>) {
    let segments = storage.segments();
    let operation = input.number(1) % 8;
    let Some(seq) = segments.get(input.below(segments.len().max(1))).copied() else {
        input.rest = &[];
        return;
    };
    let bytes = storage.bytes(seq).len();
    let offset = input.below(SEGMENT_BYTES as usize);
    let is_inside = |end: usize| end <= bytes;
    match operation {
        0 if is_inside(offset + 1) => storage.flip_bit(seq, offset, input.number(1) as u8),
        1 if is_inside((offset / PAGE_BYTES + 1) * PAGE_BYTES) => storage.zero_page(seq, offset),
        2 => storage.truncate(seq, offset.min(bytes)),
        3 => storage.remove(seq),
        4 => {
            let count = usize::from(input.number(1) as u8);
            let with = input.bytes(count);
            if is_inside(offset + with.len()) {
                storage.overwrite(seq, offset, with);
            }
        }
        5 if is_inside(SEGMENT_BYTES as usize) => forge_frame(storage, seq, offset, input),
        6 => {
            let with = input.bytes(64);
            let at = offset % (NOTE_BYTES - with.len());
            storage.overwrite_note(at, with);
        }
        7 => {
            if let Some(owner) = LogNonce::of(storage.bytes(seq)) {
                let durable = Lsn::new(input.number(8));
                let committed = EntryId::new(Term::new(input.number(8)), Index::new(input.number(8)));
                let first_segment = SegmentSeq::new(input.number(1));
                let encoded = note::encode(
                    owner,
                    Noted { durable, committed, committed_lineage: crate::Lineage::START, first_segment },
                );
                storage.overwrite_note(offset / PAGE_BYTES % 2 * PAGE_BYTES, &encoded);
            }
        }
        _ => {}
    }
}

/// Writes a frame with any header and payload, and the checksums that they should have at this place.
fn forge_frame(storage: &mut SimStorage, seq: SegmentSeq, offset: usize, input: &mut Input<'_>) {
    let Ok(header) = SegmentHeader::parse(storage.bytes(seq)) else { return };
    let offset = offset / FRAME_ALIGN_BYTES * FRAME_ALIGN_BYTES;
    let mut frame = [0; FRAME_HEADER_BYTES];
    let given = input.bytes(FRAME_HEADER_BYTES);
    frame[..given.len()].copy_from_slice(given);
    let count = usize::from(input.number(1) as u8);
    let payload = input.bytes(count);
    if offset + FRAME_HEADER_BYTES + payload.len() > SEGMENT_BYTES as usize {
        return;
    }
    frame[FRAME_ENTRY_OFFSET + 4..][..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    frame[FRAME_HEADER_BYTES - 7..].fill(0);
    let payload_crc = crc32(&[&frame[FRAME_ENTRY_OFFSET + 4..], payload]);
    frame[FRAME_ENTRY_OFFSET..][..4].copy_from_slice(&payload_crc.to_le_bytes());
    let lsn = Lsn::new(seq.get() * SEGMENT_BYTES + offset as u64);
    let header_crc = HeaderSeed::new(header.nonce).header_crc(lsn, &frame[4..]);
    frame[..4].copy_from_slice(&header_crc.to_le_bytes());
    storage.overwrite(seq, offset, &frame);
    storage.overwrite(seq, offset + FRAME_HEADER_BYTES, payload);
}

fn check<S: Storage>(log: &Log<S>) {
    for index in log.first_index().get()..=log.last_id().index.get() {
        let entry = log.entry(Index::new(index)).expect("readable").expect("present");
        assert_eq!((entry.verify(), entry.id().index.get()), (Ok(()), index));
    }
    assert_eq!(log.durable_lsn(), log.end_lsn());
}

fn check_salvage(storage: &SimStorage) {
    match salvage_at_once(storage, SimStorage::new(IDENTITY, SEGMENT_BYTES, 2), OPTIONS) {
        Ok((log, report)) => {
            check(&log);
            assert_eq!((log.last_id(), log.hard_state()), (report.last, report.hard_state));
        }
        // A forged frame may hold more than this log would ever have taken.
        Err(SalvageError::Append(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

/// Reads any bytes as each of the headers there are: what is accepted says the same when it is written again.
pub fn frame_header(data: &[u8]) {
    let mut input = Input { rest: data };
    let (seed, lsn) = (HeaderSeed::new(input.number(8)), Lsn::new(input.number(4)));
    let bytes = input.rest;
    if let Some(header) = FrameHeader::at(bytes, seed, lsn) {
        let again = FrameHeader::new(seed, lsn, header.prev_header_crc(), header.durable(), *header.entry());
        assert_eq!((again.as_bytes(), header.as_bytes()), (header.as_bytes(), &bytes[..FRAME_HEADER_BYTES]));
        assert!(header.durable() <= lsn);
    }
    if let Ok(header) = EntryHeader::parse(bytes) {
        assert!(header.kind().is_entry() && header.index() > Index::ZERO);
        let payload = bytes.get(ENTRY_HEADER_BYTES..).and_then(|rest| rest.get(..header.payload_len()));
        if let Some(payload) = payload.filter(|payload| header.verify(payload).is_ok()) {
            assert_eq!(EntryHeader::new(header.id(), header.kind(), payload), header);
        }
    }
    if let Ok(header) = SegmentHeader::parse(bytes) {
        assert_eq!(Some(&header.encode()[..]), bytes.get(..header.encode().len()));
        assert_eq!(LogNonce::of(bytes), Some(header.log_nonce));
    }
    let noted = note::read(bytes, None);
    assert!(noted == Noted::default() || bytes.len() >= note::NOTE_SLOT_BYTES);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Name of a target and what it calls.
    type Target = (&'static str, fn(&[u8]));

    #[test]
    fn the_corpus_holds() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        let targets: [Target; 2] = [("segment_files", segment_files), ("frame_header", frame_header)];
        for (name, target) in targets {
            let mut count = 0;
            for entry in fs::read_dir(corpus.join(name)).expect("a corpus") {
                target(&fs::read(entry.expect("a file").path()).expect("readable"));
                count += 1;
            }
            assert!(count > 0, "{name}");
        }
    }
}
