//! Random histories of a log on a simulated disk against a model: what was durable survives every crash, what is there
//! is a prefix of what was written, and the log never claims more than is durable.
//!
//! `PROPTEST_CASES` sets the number of cases.

use proptest::prelude::*;

use crate::format::{EntryHeader, FRAME_HEADER_BYTES, frame_bytes};
use crate::limits::FIRST_FRAME_OFFSET;
use crate::lineage::Lineage;
use crate::origin::ORIGIN_FIXED_BYTES;
use crate::test_support::*;
use crate::testing::SimStorage;
use crate::types::{EntryId, Index, Lsn, Term};
use crate::{AppendError, HardStateRecord, Log, LogOptions, OpenError, SegmentSeq, SyncRequest, Tail};

/// Cases unless the environment says otherwise.
const CASES_DEFAULT: u32 = 10_000;

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES_DEFAULT);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

#[derive(Clone, Debug)]
enum Op {
    /// An entry, `back` entries before the one after the last, in a term `term_up` above the last one's.
    Append {
        back: u64,
        term_up: u64,
        bytes: usize,
        fill: u8,
    },
    /// A batch in several pushes; the kernel writes pages back between them.
    Batch {
        parts: Vec<usize>,
        write_back: bool,
        finish: bool,
    },
    HardState {
        term_up: u64,
        vote: u64,
    },
    Mark,
    Prepare,
    /// More of what is durable is committed, in thousandths of it, and the state that is kept elsewhere has it.
    Commit {
        permille: u64,
    },
    /// Drops what the state has from the log's start.
    Drop,
    /// The files of what was dropped are being removed, or are gone.
    Remove {
        complete: bool,
    },
    BeginSync,
    EndSync,
    FailSync,
    WriteBack,
    /// The host crashes; recovery itself is interrupted by a crash after so many resets, each time.
    Crash {
        lose_everything: bool,
        interrupt_recovery: Vec<u64>,
    },
    /// The process ends and everything it stored reaches the device.
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let append = (0..4_u64, 0..3_u64, 0..2500_usize, any::<u8>()).prop_map(|(back, term_up, bytes, fill)| Op::Append {
        back,
        term_up,
        bytes,
        fill,
    });
    let follow = (0..300_usize, any::<u8>()).prop_map(|(bytes, fill)| Op::Append { back: 0, term_up: 0, bytes, fill });
    let batch = (prop::collection::vec(0..900_usize, 0..5), any::<bool>(), prop::bool::weighted(0.7))
        .prop_map(|(parts, write_back, finish)| Op::Batch { parts, write_back, finish });
    let crash = (prop::bool::weighted(0.3), prop::collection::vec(0..4_u64, 0..2))
        .prop_map(|(lose_everything, interrupt_recovery)| Op::Crash { lose_everything, interrupt_recovery });
    prop_oneof![
        4 => follow,
        3 => append,
        3 => batch,
        2 => (0..3_u64, 0..4_u64).prop_map(|(term_up, vote)| Op::HardState { term_up, vote }),
        1 => Just(Op::Mark),
        2 => Just(Op::Prepare),
        2 => (0..=1000_u64).prop_map(|permille| Op::Commit { permille }),
        2 => Just(Op::Drop),
        1 => any::<bool>().prop_map(|complete| Op::Remove { complete }),
        4 => Just(Op::BeginSync),
        4 => Just(Op::EndSync),
        1 => prop::bool::weighted(0.2).prop_map(|fail| if fail { Op::FailSync } else { Op::EndSync }),
        2 => Just(Op::WriteBack),
        2 => crash,
        1 => Just(Op::Restart),
    ]
}

/// What was written, frame by frame, and how much of it a completed sync covers.
#[derive(Debug)]
struct Model {
    /// The entry that the log was begun after.
    base: EntryId,
    records: Vec<(Lsn, Record)>,
    durable_count: usize,
    /// The last entry of the state; never superseded.
    committed: EntryId,
    /// The first segment, and the one before which nothing can come back.
    first: SegmentSeq,
    first_for_good: SegmentSeq,
}

impl Model {
    /// Frames in segments before this one.
    fn count_before(&self, first: SegmentSeq) -> usize {
        self.records.iter().filter(|(end, _)| end.get() < first.get() * SEGMENT_BYTES).count()
    }

    /// The entry after which a log begins whose first segment is this one.
    fn base_of(&self, first: SegmentSeq) -> EntryId {
        self.entries(self.count_before(first)).last().map_or(self.base, |(_, id, _)| *id)
    }

    fn push(&mut self, end: Lsn, record: Record) {
        self.records.push((end, record));
    }

    /// Current entries after the first `count` records, with the record that holds each.
    fn entries(&self, count: usize) -> Vec<(usize, EntryId, &[u8])> {
        current_entries(&self.records[..count], self.base)
    }

    fn hard_state(&self, count: usize) -> HardStateRecord {
        last_hard_state(&self.records[..count], self.base)
    }

    fn check(&self, log: &Log<SimStorage>) {
        let count = self.records.len();
        let entries = self.entries(count);
        assert_eq!(log.last_id(), entries.last().map_or(self.base, |(_, id, _)| *id));
        assert_eq!(log.base(), self.base_of(self.first));
        let durable = entries.iter().take_while(|(position, ..)| *position < self.durable_count).count();
        assert_eq!(log.persisted_index(), self.base.index.plus(durable as u64));
        assert_eq!(log.hard_state(), self.hard_state(count));
        let end = self.records.last().map(|(end, _)| *end);
        // Seals and origins, which are no records, may stand after the last one.
        let is_at = |lsn: Lsn, end: Lsn| {
            let is_behind_seals = (lsn.get() - end.get()).is_multiple_of(FRAME_HEADER_BYTES as u64);
            let is_behind_origin =
                lsn.get() % SEGMENT_BYTES == (FIRST_FRAME_OFFSET + frame_bytes(ORIGIN_FIXED_BYTES)) as u64;
            if lsn.get() / SEGMENT_BYTES == end.get() / SEGMENT_BYTES {
                is_behind_seals
            } else {
                lsn > end && is_behind_origin
            }
        };
        assert!(end.is_none_or(|end| is_at(log.end_lsn(), end)));
        let durable_end = self.records[..self.durable_count].last().map(|(end, _)| *end);
        assert!(durable_end.is_none_or(|end| is_at(log.durable_lsn(), end)));
        assert!(log.durable_lsn() <= log.end_lsn());
    }

    fn check_contents(&self, log: &Log<SimStorage>) {
        let entries = self.entries(self.records.len());
        let mut lineage = Lineage::START;
        assert_eq!(log.lineage(self.base.index).unwrap_or(lineage), lineage);
        for (_, id, payload) in &entries {
            // Of all entries, also of those that were dropped, in whichever segments and batches they came.
            lineage = EntryHeader::new(*id, KIND, payload).lineage_behind(lineage);
            assert_eq!(log.lineage(id.index).unwrap_or(lineage), lineage, "entry {id}");
            assert_eq!(log.lineage(id.index).is_some(), id.index >= log.base().index);
        }
        for (_, id, payload) in entries.iter().filter(|(_, id, _)| id.index > log.base().index) {
            assert_eq!(log.term(id.index), Some(id.term));
            let entry = log.entry(id.index).expect("readable").expect("present");
            assert_eq!((entry.id(), entry.payload()), (*id, *payload));
            assert_eq!(entry.verify(), Ok(()));
        }
        assert_eq!(log.term(self.base.index.plus(entries.len() as u64 + 1)), None);
        assert!(log.entry(log.base().index).expect("readable").is_none());
    }
}

struct Run {
    log: Option<Log<SimStorage>>,
    model: Model,
    /// The sync in flight and the number of records when it began.
    sync: Option<(SyncRequest, usize)>,
    votes: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let (log, options) = log_at_random_origin(seed);
        let first = crate::Storage::segments(log.storage())[0];
        let model = Model {
            base: options.state,
            records: Vec::new(),
            durable_count: 0,
            committed: options.state,
            first,
            first_for_good: first,
        };
        Self { log: Some(log), model, sync: None, votes: 0 }
    }

    fn options(&self) -> LogOptions {
        LogOptions { state: self.model.committed, ..OPTIONS }
    }

    fn log(&mut self) -> &mut Log<SimStorage> {
        self.log.as_mut().expect("open between operations")
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Append { back, term_up, bytes, fill } => self.append(*back, *term_up, *bytes, *fill),
            Op::Batch { parts, write_back, finish } => self.batch(parts, *write_back, *finish),
            Op::HardState { term_up, vote } => self.hard_state(*term_up, *vote),
            Op::Mark => self.mark(),
            Op::Prepare => {
                if let Some(seq) = self.log().needs_segment() {
                    self.log().storage_mut().prepare(seq);
                }
            }
            Op::Commit { permille } => {
                let (from, to) = (self.model.committed.index, self.log().persisted_index());
                let index = from.plus(to.get().saturating_sub(from.get()) * permille / 1000);
                self.model.committed = EntryId::new(self.log().term(index).expect("held"), index);
            }
            Op::Drop => {
                let state = self.model.committed.index;
                if let Some(first) = self.log().drop_before(state) {
                    self.model.first = first;
                }
            }
            Op::Remove { complete } => {
                match complete {
                    true => self.log().storage_mut().complete_removal(),
                    false => self.log().storage_mut().begin_removal(),
                }
                self.model.first_for_good = self.model.first;
            }
            Op::BeginSync => {
                let records = self.model.records.len();
                if let Some(request) = self.log().next_sync() {
                    self.log().storage_mut().begin_sync(&request);
                    self.sync = Some((request, records));
                }
            }
            Op::EndSync => self.end_sync(),
            Op::FailSync => {
                if let Some((request, _)) = self.sync.take() {
                    let failure = self.log().storage_mut().fail_sync(request.id);
                    self.log().on_synced(request.id, Err(failure));
                }
            }
            Op::WriteBack => self.log().storage_mut().write_back(),
            Op::Crash { lose_everything, interrupt_recovery } => self.crash(*lose_everything, interrupt_recovery),
            Op::Restart => self.restart(),
        }
        let log = self.log.as_ref().expect("open between operations");
        self.model.check(log);
    }

    fn accepted<T: std::fmt::Debug>(&mut self, result: Result<T, AppendError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(AppendError::SegmentNotReady) => None,
            Err(AppendError::Latched(_)) => {
                assert!(self.log().latched().is_some());
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn append(&mut self, back: u64, term_up: u64, bytes: usize, fill: u8) {
        let last = self.log().last_id();
        let index = last.index.get().saturating_sub(back).max(self.model.committed.index.get());
        let index = Index::new(index + 1);
        // An entry that supersedes another has a higher term than that.
        let term = Term::new(last.term.get().max(1) + term_up + u64::from(index <= last.index));
        let payload = if fill < 64 { vec![fill / 32; bytes] } else { payload(u64::from(fill), index.get(), bytes) };
        let header = EntryHeader::new(EntryId::new(term, index), KIND, &payload);
        let result = self.log().append_entry(&header, &payload);
        if let Some(end) = self.accepted(result) {
            self.model.push(end, Record::Entry(header.id(), payload));
        }
    }

    fn batch(&mut self, parts: &[usize], write_back: bool, finish: bool) {
        let last = self.log().last_id();
        let id = EntryId::new(last.term.next(), last.index.next());
        let begun = self.log().begin_batch(id, KIND, parts.first().copied().unwrap_or(0));
        if self.accepted(begun).is_none() {
            return;
        }
        let mut written = Vec::new();
        for bytes in parts {
            let part = payload(id.term.get(), id.index.get(), *bytes);
            let (left, right) = part.split_at(bytes / 3);
            match self.log().batch_push(&[left, right]) {
                Ok(()) => written.extend_from_slice(&part),
                Err(AppendError::BatchFull) => break,
                Err(error) => panic!("{error}"),
            }
            if write_back {
                self.log().storage_mut().write_back();
            }
        }
        if finish {
            assert_eq!(self.log().finish_batch(), Ok(id));
            let end = self.log().end_lsn();
            self.model.push(end, Record::Entry(id, written));
        } else {
            self.log().abandon_batch();
        }
    }

    fn hard_state(&mut self, term_up: u64, vote: u64) {
        let before = self.log().hard_state();
        let vote = if term_up == 0 && before.vote != 0 { before.vote } else { vote };
        let hard_state = HardStateRecord { term: Term::new(before.term.get() + term_up), vote };
        let result = self.log().append_hard_state(hard_state);
        if let Some(end) = self.accepted(result) {
            self.votes += 1;
            self.model.push(end, Record::HardState(hard_state));
        }
    }

    fn mark(&mut self) {
        let before = self.log().stats().marks_count;
        let result = self.log().append_mark();
        if let Some(end) = self.accepted(result) {
            if self.log().stats().marks_count == before + 2 {
                self.model.push(Lsn::new(end.get() - FRAME_HEADER_BYTES as u64), Record::Mark);
            }
            self.model.push(end, Record::Mark);
        }
    }

    fn end_sync(&mut self) {
        let Some((request, records_before)) = self.sync.take() else { return };
        self.log().storage_mut().complete_sync(request.id);
        self.log().on_synced(request.id, Ok(()));
        let covered = self.model.records.iter().filter(|(end, _)| *end <= request.upto).count();
        assert!(covered <= records_before, "a sync covers nothing that was appended after it began");
        let is_of_seals =
            self.log().durable_lsn() > self.model.records[..covered].last().map_or(Lsn::ZERO, |(end, _)| *end);
        assert!(covered > self.model.durable_count || is_of_seals, "a sync makes progress");
        self.model.durable_count = covered;
    }

    fn crash(&mut self, lose_everything: bool, interrupt_recovery: &[u64]) {
        let mut storage = self.log.take().expect("open").into_storage();
        if lose_everything {
            storage.crash_losing_everything();
        } else {
            storage.crash();
        }
        for resets in interrupt_recovery {
            storage.crash_after_resets(*resets);
            match Log::open(&mut storage, self.options()) {
                Ok(_) | Err(OpenError::Storage(_)) => {}
                Err(error) => panic!("{error}"),
            }
            storage.crash();
        }
        self.recover(storage);
    }

    fn restart(&mut self) {
        let mut storage = self.log.take().expect("open").into_storage();
        let whole = storage.settle();
        let written = self.model.records.len();
        self.recover(storage);
        if whole {
            assert_eq!(self.model.records.len(), written, "nothing is lost if everything reached the device");
        }
    }

    /// Opens what is left and checks that it is what was durable and a prefix of what was written.
    fn recover(&mut self, storage: SimStorage) {
        self.sync = None;
        let (log, report) = Log::open(storage, self.options()).unwrap_or_else(|error| panic!("{error}"));
        let first = crate::Storage::segments(log.storage())[0];
        assert!((self.model.first_for_good..=self.model.first).contains(&first), "begins with {first}");
        self.model.first = first;
        self.model.first_for_good = first;
        let kept = self.model.count_before(first) + report.frames_count as usize;
        assert!(kept >= self.model.durable_count, "{kept} of {} durable frames", self.model.durable_count);
        assert!(kept <= self.model.records.len(), "more than was ever written");
        self.model.records.truncate(kept);
        self.model.durable_count = kept;
        self.model.check(&log);
        self.model.check_contents(&log);
        assert_eq!(log.durable_lsn(), log.end_lsn());
        self.log = Some(log);
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_was_durable_survives_and_nothing_else_is_claimed(
        seed in any::<u64>(),
        ops in prop::collection::vec(op(), 1..50),
    ) {
        let mut run = Run::new(seed);
        for op in &ops {
            run.step(op);
        }
        let log = run.log.as_ref().expect("open");
        run.model.check_contents(log);
        run.crash(false, &[]);
        // Whatever happened, the log goes on where it ended.
        prepare_all(run.log());
        run.append(0, 1, 100, 200);
        sync_all(run.log());
        run.model.durable_count = run.model.records.len();
        run.crash(true, &[0]);
        let options = run.options();
        let (_, report) = Log::open(run.log.take().expect("open").into_storage(), options).expect("sound");
        prop_assert_eq!(report.tail, Tail::Clean);
    }
}

/// One fault of a device, somewhere in the files.
#[derive(Clone, Debug)]
enum Rot {
    FlipBit { bit: u8 },
    ZeroPage,
    Truncate,
    Remove,
    Garbage { bytes: Vec<u8> },
}

fn rot() -> impl Strategy<Value = Rot> {
    prop_oneof![
        4 => (0..8_u8).prop_map(|bit| Rot::FlipBit { bit }),
        3 => Just(Rot::ZeroPage),
        1 => Just(Rot::Truncate),
        1 => Just(Rot::Remove),
        2 => prop::collection::vec(any::<u8>(), 1..40).prop_map(|bytes| Rot::Garbage { bytes }),
    ]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn one_fault_in_a_marked_log_is_refused_or_harmless(
        seed in any::<u64>(),
        sizes in prop::collection::vec(0..2000_usize, 1..20),
        segment in any::<prop::sample::Index>(),
        offset in any::<prop::sample::Index>(),
        rot in rot(),
    ) {
        let mut run = Run::new(seed);
        for bytes in &sizes {
            prepare_all(run.log());
            run.append(u64::from(bytes % 5 == 0), 0, *bytes, (*bytes % 256) as u8);
            run.hard_state(1, 3);
        }
        sync_all(run.log());
        prepare_all(run.log());
        run.mark();
        sync_all(run.log());
        prepare_all(run.log());
        run.model.durable_count = run.model.records.len();
        let mut storage = run.log.take().expect("open").into_storage();
        let segments = crate::Storage::segments(&storage);
        // Of the segments, those in use are what matters; the last two are spare.
        let seq = segments[segment.index(segments.len())];
        let at = offset.index(SEGMENT_BYTES as usize);
        match rot {
            Rot::FlipBit { bit } => storage.flip_bit(seq, at, bit),
            Rot::ZeroPage => storage.zero_page(seq, at),
            Rot::Truncate => storage.truncate(seq, at),
            Rot::Remove => storage.remove(seq),
            Rot::Garbage { bytes } => {
                let end = (at + bytes.len()).min(SEGMENT_BYTES as usize);
                storage.overwrite(seq, at, &bytes[..end - at]);
            }
        }
        match Log::open(storage, run.options()) {
            Err(OpenError::Corrupt(corruption)) => prop_assert!(!corruption.damages.is_empty()),
            Err(error) => panic!("{error}"),
            Ok((log, _)) => {
                // Marks may be gone; nothing else may.
                let entries = run.model.entries(run.model.records.len());
                prop_assert_eq!(log.last_id(), entries.last().map_or(run.model.base, |(_, id, _)| *id));
                prop_assert_eq!(log.hard_state(), run.model.hard_state(run.model.records.len()));
                run.model.check_contents(&log);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        head in prop::collection::vec(any::<u8>(), 0..200),
        keep_header in any::<bool>(),
        body in prop::collection::vec(any::<u8>(), 0..6000),
        at in 0..12000_usize,
        bytes in prop_oneof![Just(SEGMENT_BYTES as usize), 0..SEGMENT_BYTES as usize],
    ) {
        let mut log = new_log(7);
        append_many(&mut log, 1, 1..=20, 300);
        sync_all(&mut log);
        let mut storage = log.into_storage();
        if !keep_header {
            storage.overwrite(seq(1), 0, &head);
        }
        let end = (at + body.len()).min(SEGMENT_BYTES as usize);
        storage.overwrite(seq(1), at, &body[..end - at]);
        storage.truncate(seq(1), bytes);
        if let Ok((log, _)) = reopen(storage) {
            for index in 1..=log.last_id().index.get() {
                let entry = log.entry(Index::new(index)).expect("readable").expect("present");
                prop_assert_eq!(entry.verify(), Ok(()));
            }
        }
    }
}
