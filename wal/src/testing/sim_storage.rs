//! A simulated disk under a log: what the process sees, what the device holds, and everything a crash may make of it.
//!
//! Fault model, at page and sector granularity:
//! * Each segment has a live image, which stores change, and a durable image, which survives a crash.
//! * A dirty page may become durable at any time, in any order, each 512-byte sector on its own
//!   ([`SimStorage::write_back`]).
//! * A sync takes the pages that are dirty when it begins; once it completes, they are durable as they were then or
//!   newer. A sync that fails leaves them clean and lost: what of them was written is chance, and no later sync brings
//!   the rest, as on ext4.
//! * A crash keeps any mixture of durable, syncing and live sectors of pages that were not durable.
//! * A process that ends takes nothing with it: what it stored reaches the device ([`SimStorage::crash_process`]).
//! * The end of a process keeps the note. A crash of the host keeps, of each of its two pages, the latest version or an
//!   older one that is not older than the last completed sync of the note; before its first sync it may be gone.
//! * Segments that the log dropped are back after a crash, as long as their removal has not begun. Once it has begun any of them
//!   may be gone, in any order; before that the note is synced, as the shell does it.
//! * Durable bytes can rot: bits, pages, sectors, the end of a file, whole segments. A page can be written in the place of
//!   another. The note can be damaged in the same ways, or be lost.
//!
//! It has no time: the caller decides when a sync completes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use super::SimRng;
use crate::group_commit::{SyncFailure, SyncId, SyncRequest};
use crate::limits::{PAGE_BYTES, SECTOR_BYTES};
use crate::lsn::SegmentSeq;
use crate::note::{self, NOTE_BYTES};
use crate::segment::{LogNonce, SegmentHeader, SegmentIdentity};
use crate::storage::{Noted, Simulated, Storage, StorageError};

#[derive(Clone)]
struct SimSegment {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Pages whose live bytes may differ from the durable ones and that the next sync will take.
    dirty: BTreeSet<usize>,
}

#[derive(Clone)]
struct SimSync {
    seq: SegmentSeq,
    pages: BTreeMap<usize, Vec<u8>>,
}

/// A log's storage on a simulated disk.
#[derive(Clone)]
pub struct SimStorage {
    identity: SegmentIdentity,
    segment_bytes: u64,
    segments: BTreeMap<SegmentSeq, SimSegment>,
    /// Dropped by the log, their files not certainly gone.
    dropped: BTreeMap<SegmentSeq, SimSegment>,
    /// Those of them whose removal has begun: any of them may be gone.
    removing: BTreeSet<SegmentSeq>,
    syncing: BTreeMap<SyncId, SimSync>,
    rng: SimRng,
    /// The note as the process sees it, and as the device holds it.
    note: Vec<u8>,
    note_on_device: Vec<u8>,
    /// What the note's sync in flight took.
    note_syncing: Option<Vec<u8>>,
    /// What the note's last completed sync put on the device.
    note_synced: Option<Vec<u8>>,
    /// Of its own, so that notes change nothing about what becomes of segments.
    note_rng: SimRng,
    /// Of this many looks one finds a part that is not in memory; 0 = none does.
    absent_one_in: u64,
    /// Of its own, so that it changes nothing about what becomes of bytes.
    absent_rng: RefCell<SimRng>,
    /// Resets that succeed before one stops half way; `None` lets all succeed.
    resets_until_crash: Option<u64>,
    /// No segment before this one may be stored to or synced.
    sealed_before: SegmentSeq,
}

impl fmt::Debug for SimStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimStorage")
            .field("segments", &self.segments.keys().collect::<Vec<_>>())
            .field("syncing", &self.syncing.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl SimStorage {
    /// An empty disk for the log with this identity and segment size.
    #[must_use]
    pub fn new(identity: SegmentIdentity, segment_bytes: u64, seed: u64) -> Self {
        Self {
            identity,
            segment_bytes,
            segments: BTreeMap::new(),
            dropped: BTreeMap::new(),
            removing: BTreeSet::new(),
            syncing: BTreeMap::new(),
            rng: SimRng::new(seed),
            note: vec![0; NOTE_BYTES],
            note_on_device: vec![0; NOTE_BYTES],
            note_syncing: None,
            note_synced: None,
            note_rng: SimRng::new(seed ^ 0x6e6f_7465),
            absent_one_in: 0,
            absent_rng: RefCell::new(SimRng::new(seed ^ 0x636f_6c64)),
            resets_until_crash: None,
            sealed_before: SegmentSeq::FIRST,
        }
    }

    /// Size of a segment. Unit: bytes.
    #[must_use]
    pub fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// From now on one in this many looks at whether a part is in memory finds that it is not; 0 = none does.
    pub fn set_absent_one_in(&mut self, absent_one_in: u64) {
        self.absent_one_in = absent_one_in;
    }

    /// Prepares and installs a segment: durable at once, as the shell does it before it installs one.
    pub fn prepare(&mut self, seq: SegmentSeq) {
        let nonce = self.rng.next_u64();
        // Without a draw, so that what becomes of bytes stays what it is for each seed.
        let log_nonce = self.log_nonce().unwrap_or(LogNonce::new(nonce.rotate_left(17) ^ 0x006c_6f67));
        let Self { identity, segment_bytes, .. } = *self;
        let header = SegmentHeader { identity, seq, segment_bytes, nonce, log_nonce }.encode();
        let mut live = vec![0; usize::try_from(self.segment_bytes).expect("segments fit memory")];
        live[..header.len()].copy_from_slice(&header);
        let segment = SimSegment { durable: live.clone(), live, dirty: BTreeSet::new() };
        assert!(self.segments.insert(seq, segment).is_none(), "segment {seq} is prepared once");
    }

    /// Starts a sync: takes the segment's dirty pages as they are now.
    pub fn begin_sync(&mut self, request: &SyncRequest) {
        assert!(request.seq >= self.sealed_before, "a sync of segment {}, which is sealed", request.seq);
        let segment = self.segment_mut(request.seq);
        let dirty = std::mem::take(&mut segment.dirty);
        let pages = dirty.into_iter().map(|page| (page, segment.live[page_range(page)].to_vec())).collect();
        self.syncing.insert(request.id, SimSync { seq: request.seq, pages });
    }

    /// Completes a sync: what it took is durable.
    pub fn complete_sync(&mut self, id: SyncId) {
        let sync = self.syncing.remove(&id).expect("a sync completes once, after it began");
        for (page, bytes) in sync.pages {
            let newer = self.rng.chance(1, 2);
            let segment = self.segment_mut(sync.seq);
            let bytes = if newer { segment.live[page_range(page)].to_vec() } else { bytes };
            segment.durable[page_range(page)].copy_from_slice(&bytes);
        }
    }

    /// Fails a sync: some sectors of what it took are durable, the rest is lost, and no page is dirty for it any more.
    pub fn fail_sync(&mut self, id: SyncId) -> SyncFailure {
        let sync = self.syncing.remove(&id).expect("a sync fails once, after it began");
        for (page, bytes) in sync.pages {
            self.keep_some_sectors(sync.seq, page, &bytes);
        }
        SyncFailure::new("simulated I/O error")
    }

    /// Starts and completes a sync.
    pub fn sync(&mut self, request: &SyncRequest) {
        self.begin_sync(request);
        self.complete_sync(request.id);
    }

    /// Starts a sync of the note: takes it as it is now.
    pub fn begin_note_sync(&mut self) {
        self.note_syncing = Some(self.note.clone());
    }

    /// Completes a sync of the note: what it took is durable, or something newer.
    pub fn complete_note_sync(&mut self) {
        let Some(taken) = self.note_syncing.take() else { return };
        for page in 0..NOTE_BYTES / PAGE_BYTES {
            let from = if self.note_rng.chance(1, 2) { &self.note } else { &taken };
            self.note_on_device[page_range(page)].copy_from_slice(&from[page_range(page)]);
        }
        self.note_synced = Some(self.note_on_device.clone());
    }

    /// Fails a sync of the note: nothing of what it took is certainly durable.
    pub fn fail_note_sync(&mut self) -> SyncFailure {
        self.note_syncing = None;
        self.write_back_note();
        SyncFailure::new("simulated I/O error")
    }

    /// Begins to remove the files of dropped segments, or goes on with it: the note is durable, and any of them may be gone.
    pub fn begin_removal(&mut self) {
        self.sync_note();
        self.removing = self.dropped.keys().copied().collect();
    }

    /// Completes the removal: all of them are gone for good.
    pub fn complete_removal(&mut self) {
        self.begin_removal();
        self.dropped.clear();
        self.removing.clear();
    }

    /// Brings those dropped segments back whose files are still there.
    fn find_dropped(&mut self) {
        let removing = std::mem::take(&mut self.removing);
        for (seq, mut segment) in std::mem::take(&mut self.dropped) {
            if !removing.contains(&seq) || self.note_rng.chance(1, 2) {
                segment.live.clone_from(&segment.durable);
                segment.dirty.clear();
                self.segments.insert(seq, segment);
            }
        }
    }

    /// Starts and completes a sync of the note.
    pub fn sync_note(&mut self) {
        self.begin_note_sync();
        self.complete_note_sync();
    }

    /// Lets the kernel write back some sectors of some dirty pages, which stay dirty.
    pub fn write_back(&mut self) {
        let pages: Vec<_> =
            self.segments.iter().flat_map(|(seq, segment)| segment.dirty.iter().map(|page| (*seq, *page))).collect();
        for (seq, page) in pages {
            if self.rng.chance(1, 2) {
                let bytes = self.segment_mut(seq).live[page_range(page)].to_vec();
                self.keep_some_sectors(seq, page, &bytes);
            }
        }
    }

    /// Crashes the host: of everything that was not durable any mixture of sectors is kept, and syncs in flight are gone.
    pub fn crash(&mut self) {
        for sync in std::mem::take(&mut self.syncing).into_values() {
            for (page, bytes) in sync.pages {
                self.keep_some_sectors(sync.seq, page, &bytes);
            }
        }
        self.find_dropped();
        self.write_back();
        self.write_back();
        self.write_back_note();
        if self.note_synced.is_none() && self.note_rng.chance(1, 8) {
            self.note_on_device.fill(0);
        }
        self.lose_what_is_not_durable();
    }

    /// Crashes the host at a moment when the device holds nothing but what completed syncs put there.
    pub fn crash_losing_everything(&mut self) {
        self.find_dropped();
        self.syncing.clear();
        self.note_on_device = self.note_synced.clone().unwrap_or_else(|| vec![0; NOTE_BYTES]);
        self.lose_what_is_not_durable();
    }

    /// Ends the process while its host goes on: nothing that was stored is lost, the note included. Whether that reached
    /// the device in full, as with [`SimStorage::settle`].
    pub fn crash_process(&mut self) -> bool {
        self.resets_until_crash = None;
        self.note_syncing = None;
        self.settle()
    }

    /// Lets everything that is on its way reach the device, as it does when a process ends and its host goes on; then
    /// drops the cache, as opening does. Whether that was everything: a sync that failed has left some of it behind.
    pub fn settle(&mut self) -> bool {
        self.find_dropped();
        let syncing: Vec<_> = self.syncing.keys().copied().collect();
        for id in syncing {
            self.complete_sync(id);
        }
        let mut whole = true;
        for segment in self.segments.values_mut() {
            for page in std::mem::take(&mut segment.dirty) {
                segment.durable[page_range(page)].copy_from_slice(&segment.live[page_range(page)]);
            }
            whole &= segment.live == segment.durable;
            segment.live.clone_from(&segment.durable);
        }
        whole
    }

    /// Lets `count` resets succeed and the next one stop half way with an error, as a crash during recovery would.
    pub fn crash_after_resets(&mut self, count: u64) {
        self.resets_until_crash = Some(count);
    }

    /// What the device holds of a segment. For checks.
    #[must_use]
    pub fn durable_bytes(&self, seq: SegmentSeq) -> &[u8] {
        self.segments.get(&seq).map_or(&[], |segment| &segment.durable)
    }

    /// Whether the process sees nothing but zeros from `offset` on. For checks.
    #[must_use]
    pub fn live_is_zero_from(&self, seq: SegmentSeq, offset: usize) -> bool {
        self.bytes(seq)[offset..].iter().all(|byte| *byte == 0)
    }

    /// Flips one bit of a segment.
    pub fn flip_bit(&mut self, seq: SegmentSeq, offset: usize, bit: u8) {
        self.rot(seq, offset..offset + 1, |bytes| bytes[0] ^= 1 << (bit % 8));
    }

    /// Turns the page that holds `offset` to zeros.
    pub fn zero_page(&mut self, seq: SegmentSeq, offset: usize) {
        self.rot(seq, page_range(offset / PAGE_BYTES), |bytes| bytes.fill(0));
    }

    /// Replaces bytes of a segment.
    pub fn overwrite(&mut self, seq: SegmentSeq, offset: usize, with: &[u8]) {
        self.rot(seq, offset..offset + with.len(), |bytes| bytes.copy_from_slice(with));
    }

    /// Cuts a segment's file.
    pub fn truncate(&mut self, seq: SegmentSeq, bytes: usize) {
        let segment = self.segment_mut(seq);
        segment.live.truncate(bytes);
        segment.durable.truncate(bytes);
    }

    /// Loses a segment's file.
    pub fn remove(&mut self, seq: SegmentSeq) {
        self.segments.remove(&seq);
    }

    /// Writes what the device holds of one page in the place of another, of the same segment or of another one.
    pub fn misdirect(&mut self, from: (SegmentSeq, usize), to: (SegmentSeq, usize)) {
        let page = self.durable_page(from);
        self.rot(to.0, page_range(to.1 / PAGE_BYTES), |bytes| bytes.copy_from_slice(&page));
    }

    /// Writes what the device holds of a page in the place of one of the note's two pages.
    pub fn misdirect_onto_note(&mut self, from: (SegmentSeq, usize), note_page: usize) {
        let page = self.durable_page(from);
        self.rot_note(|note| note[page_range(note_page)].copy_from_slice(&page));
    }

    /// Flips one bit of the note, which is `note::NOTE_BYTES` long.
    pub fn flip_note_bit(&mut self, offset: usize, bit: u8) {
        self.rot_note(|note| note[offset] ^= 1 << (bit % 8));
    }

    /// Turns one of the note's two pages to zeros.
    pub fn zero_note_page(&mut self, page: usize) {
        self.rot_note(|note| note[page_range(page)].fill(0));
    }

    /// Replaces bytes of the note.
    pub fn overwrite_note(&mut self, offset: usize, with: &[u8]) {
        self.rot_note(|note| note[offset..offset + with.len()].copy_from_slice(with));
    }

    /// Cuts the note's file, which opening fills up with zeros again; 0 loses the note.
    pub fn truncate_note(&mut self, bytes: usize) {
        self.rot_note(|note| note[bytes..].fill(0));
    }

    /// Puts the note of another disk in the place of this one's, as it may be after a crash of the host: an older one.
    pub fn copy_note_of(&mut self, other: &Self) {
        self.rot_note(|note| note.copy_from_slice(&other.note));
    }

    fn durable_page(&self, (seq, offset): (SegmentSeq, usize)) -> Vec<u8> {
        self.durable_bytes(seq)[page_range(offset / PAGE_BYTES)].to_vec()
    }

    fn rot_note(&mut self, change: impl Fn(&mut [u8])) {
        change(&mut self.note);
        change(&mut self.note_on_device);
        if let Some(note) = &mut self.note_synced {
            change(note);
        }
    }

    /// Lets the kernel write back some pages of the note.
    fn write_back_note(&mut self) {
        for page in 0..NOTE_BYTES / PAGE_BYTES {
            if self.note_rng.chance(1, 3) {
                self.note_on_device[page_range(page)].copy_from_slice(&self.note[page_range(page)]);
            }
        }
    }

    fn lose_what_is_not_durable(&mut self) {
        for segment in self.segments.values_mut() {
            segment.live.clone_from(&segment.durable);
            segment.dirty.clear();
        }
        self.note.clone_from(&self.note_on_device);
        self.note_syncing = None;
        self.resets_until_crash = None;
    }

    fn log_nonce(&self) -> Option<LogNonce> {
        self.segments.values().find_map(|segment| LogNonce::of(&segment.live))
    }

    fn rot(&mut self, seq: SegmentSeq, range: Range<usize>, change: impl Fn(&mut [u8])) {
        let segment = self.segment_mut(seq);
        change(&mut segment.live[range.clone()]);
        change(&mut segment.durable[range]);
    }

    fn keep_some_sectors(&mut self, seq: SegmentSeq, page: usize, bytes: &[u8]) {
        let start = page * PAGE_BYTES;
        // All of a page, none of it, and torn pages are about equally likely.
        let whole = self.rng.below(3);
        for (sector, bytes) in bytes.chunks(SECTOR_BYTES).enumerate() {
            let keep = if whole == 2 { self.rng.chance(1, 2) } else { whole == 1 };
            if keep {
                let at = start + sector * SECTOR_BYTES;
                self.segment_mut(seq).durable[at..at + bytes.len()].copy_from_slice(bytes);
            }
        }
    }

    fn segment_mut(&mut self, seq: SegmentSeq) -> &mut SimSegment {
        self.segments.get_mut(&seq).expect("the segment is present")
    }
}

impl Simulated for SimStorage {}

impl Storage for SimStorage {
    type Prepared = SegmentSeq;

    fn install(&mut self, seq: SegmentSeq) {
        self.prepare(seq);
    }

    fn segments(&self) -> Vec<SegmentSeq> {
        self.segments.keys().copied().collect()
    }

    fn contains(&self, seq: SegmentSeq) -> bool {
        self.segments.contains_key(&seq)
    }

    fn bytes(&self, seq: SegmentSeq) -> &[u8] {
        self.segments.get(&seq).map_or(&[], |segment| &segment.live)
    }

    fn bytes_mut(&mut self, seq: SegmentSeq, range: Range<usize>) -> &mut [u8] {
        assert!(seq >= self.sealed_before, "a store to segment {seq}, which is sealed");
        let segment = self.segment_mut(seq);
        if !range.is_empty() {
            segment.dirty.extend(range.start / PAGE_BYTES..=(range.end - 1) / PAGE_BYTES);
        }
        &mut segment.live[range]
    }

    fn reset_tail(&mut self, seq: SegmentSeq, offset: usize) -> Result<(), StorageError> {
        let crashes = self.resets_until_crash == Some(0);
        self.resets_until_crash = self.resets_until_crash.map(|count| count.saturating_sub(1));
        let segment = self.segments.get_mut(&seq).expect("the segment is present");
        let end = segment.live.len();
        for sector in offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            let bytes = (sector * SECTOR_BYTES).max(offset)..((sector + 1) * SECTOR_BYTES).min(end);
            if !crashes || self.rng.chance(1, 2) {
                segment.live[bytes.clone()].fill(0);
                segment.durable[bytes].fill(0);
            }
        }
        if crashes {
            let reason = "simulated crash".to_owned();
            return Err(StorageError { segment: seq, action: "zero its tail", reason });
        }
        Ok(())
    }

    fn remove_from(&mut self, seq: SegmentSeq) -> Result<(), StorageError> {
        self.segments.retain(|present, _| *present < seq);
        Ok(())
    }

    fn remove_before(&mut self, seq: SegmentSeq) -> Result<(), StorageError> {
        self.drop_before(seq);
        self.complete_removal();
        Ok(())
    }

    fn drop_before(&mut self, seq: SegmentSeq) {
        let kept = self.segments.split_off(&seq);
        self.dropped.append(&mut std::mem::replace(&mut self.segments, kept));
        if let Some(owner) = self.log_nonce() {
            note::store_twice(&mut self.note, owner, Noted { first_segment: Some(seq), ..Noted::default() });
        }
    }

    fn write_from(&mut self, seq: SegmentSeq) -> Result<(), StorageError> {
        self.sealed_before = seq;
        Ok(())
    }

    fn seal_before(&mut self, seq: SegmentSeq) {
        self.sealed_before = seq.max(self.sealed_before);
    }

    fn is_resident(&self, _seq: SegmentSeq, _part: Range<usize>, _behind_bytes: u64) -> bool {
        self.absent_one_in == 0 || !self.absent_rng.borrow_mut().chance(1, self.absent_one_in)
    }

    fn note(&mut self, noted: Noted) {
        if let Some(owner) = self.log_nonce() {
            note::store(&mut self.note, owner, noted);
            self.write_back_note();
        }
    }

    fn noted(&self) -> Noted {
        note::read(&self.note, self.log_nonce())
    }
}

fn page_range(page: usize) -> Range<usize> {
    page * PAGE_BYTES..(page + 1) * PAGE_BYTES
}
