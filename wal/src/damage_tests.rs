//! Random logs, a process that ends, and then one fault of the device anywhere: nothing durable vanishes unseen, and what
//! is salvaged is sound.
//!
//! `DAMAGE_LOGS` sets the number of logs.

use crate::format::EntryHeader;
use crate::limits::PAGE_BYTES;
use crate::lsn::SegmentSeq;
use crate::note::NOTE_BYTES;
use crate::salvage::{SalvageReport, salvage};
use crate::test_support::*;
use crate::testing::{SimRng, SimStorage};
use crate::types::{EntryId, Index, Lsn, Term};
use crate::{HardStateRecord, Log, LogOptions, OpenError, RecoveryReport, Storage};

/// Logs unless the environment says otherwise.
const LOGS_DEFAULT: u64 = 3000;

fn logs() -> u64 {
    std::env::var("DAMAGE_LOGS").ok().and_then(|logs| logs.parse().ok()).unwrap_or(LOGS_DEFAULT)
}

/// A log on a simulated disk and everything that was written to it, in order.
struct History {
    log: Log<SimStorage>,
    /// The entry that it was begun after.
    base: EntryId,
    /// What it is opened as: the state that is kept elsewhere grows.
    options: LogOptions,
    records: Vec<(Lsn, Record)>,
}

impl History {
    /// A log as a node writes it: terms grow, each begins with a hard state, entries supersede each other now and then.
    fn random(seed: u64) -> Self {
        let mut rng = SimRng::new(seed);
        let (log, options) = log_at_random_origin(seed);
        let mut history = Self { log, base: options.state, options, records: Vec::new() };
        for _ in 0..1 + rng.below(40) {
            history.step(&mut rng);
        }
        history
    }

    fn step(&mut self, rng: &mut SimRng) {
        prepare_all(&mut self.log);
        match rng.below(18) {
            0..=1 => self.election(rng),
            2..=7 => self.entry(rng),
            8 => {
                let marks_before = self.log.stats().marks_count;
                let end = self.log.append_mark().expect("room");
                for _ in marks_before..self.log.stats().marks_count {
                    self.records.push((end, Record::Mark));
                }
            }
            9 => self.restart(),
            10 => drop(self.log.next_sync().map(|request| {
                // Still in flight when the process ends, or until it ends in a later step.
                self.log.storage_mut().begin_sync(&request);
                self.log.storage_mut().complete_sync(request.id);
                self.log.on_synced(request.id, Ok(()));
            })),
            11 => self.drop_some(rng),
            _ => sync_all(&mut self.log),
        }
    }

    /// Some of what is durable gets into the state, and goes from the log; the files go at once, later, or not at all.
    fn drop_some(&mut self, rng: &mut SimRng) {
        let durable = self.log.persisted_index();
        let index = durable.get() - rng.below(durable.get() - self.options.state.index.get().min(durable.get()) + 1);
        let index = Index::new(index).max(self.options.state.index);
        self.options.state = EntryId::new(self.log.term(index).expect("held"), index);
        self.log.drop_before(index);
        match rng.below(3) {
            0 => self.log.storage_mut().begin_removal(),
            1 => self.log.storage_mut().complete_removal(),
            _ => {}
        }
    }

    fn election(&mut self, rng: &mut SimRng) {
        let before = self.log.hard_state();
        // A vote may follow in the same term.
        let same_term = before.vote == 0 && rng.chance(1, 2);
        let term = if same_term { before.term } else { before.term.plus(1 + rng.below(3)) };
        let hard_state = HardStateRecord { term, vote: rng.below(4) };
        let end = self.log.append_hard_state(hard_state).expect("room");
        self.records.push((end, Record::HardState(hard_state)));
    }

    fn entry(&mut self, rng: &mut SimRng) {
        let (last, term) = (self.log.last_id(), self.log.hard_state().term);
        let back = if term > last.term && rng.chance(1, 2) { rng.below(4) } else { 0 };
        let behind = last.index.get().saturating_sub(back).max(self.options.state.index.get());
        let id = EntryId::new(term, Index::new(behind + 1));
        let bytes = if rng.chance(1, 2) { rng.below(100) } else { rng.below(4000) };
        let payload = payload(id.term.get(), id.index.get(), usize::try_from(bytes).expect("small"));
        let end = self.log.append_entry(&EntryHeader::new(id, KIND, &payload), &payload).expect("room");
        self.records.push((end, Record::Entry(id, payload)));
    }

    /// The process ends and comes back; what it stored is all there.
    fn restart(&mut self) {
        let (empty, _) = Log::open(SimStorage::new(IDENTITY, SEGMENT_BYTES, 0), OPTIONS).expect("an empty log");
        let mut storage = std::mem::replace(&mut self.log, empty).into_storage();
        assert!(storage.crash_process());
        let (log, report) = Log::open(storage, self.options).expect("sound");
        self.log = log;
        assert_eq!(self.frames_count(&self.log, &report), self.records.len());
    }

    /// Frames that are in a log, or were dropped from its start.
    fn frames_count(&self, log: &Log<SimStorage>, report: &RecoveryReport) -> usize {
        // Without any segment nothing was dropped: the note would miss what was durable.
        let first = log.storage().segments().first().map_or(0, |first| first.get() * SEGMENT_BYTES);
        let dropped = self.records.iter().filter(|(end, _)| end.get() < first).count();
        dropped + usize::try_from(report.frames_count).expect("small")
    }

    /// Frames that a completed sync covers.
    fn durable_count(&self) -> usize {
        self.records.iter().filter(|(end, _)| *end <= self.log.durable_lsn()).count()
    }

    /// Current entries after the first `count` frames, of a log that begins after `base`.
    fn entries(&self, count: usize, base: EntryId) -> Vec<(EntryId, &[u8])> {
        let entries = current_entries(&self.records[..count], self.base).into_iter();
        entries.map(|(_, id, payload)| (id, payload)).filter(|(id, _)| id.index > base.index).collect()
    }

    fn hard_state(&self, count: usize) -> HardStateRecord {
        last_hard_state(&self.records[..count], self.base)
    }
}

fn contents(log: &Log<SimStorage>) -> Vec<(EntryId, &[u8])> {
    (log.first_index().get()..=log.last_id().index.get())
        .map(|index| {
            let entry = log.entry(Index::new(index)).expect("readable").expect("present");
            assert_eq!(entry.verify(), Ok(()));
            (entry.id(), entry.payload())
        })
        .collect()
}

/// One fault, anywhere in the files. Says what it was.
fn damage(storage: &mut SimStorage, rng: &mut SimRng) -> String {
    let segments = storage.segments();
    let place = |rng: &mut SimRng| -> (SegmentSeq, usize) {
        let segment = segments[usize::try_from(rng.below(segments.len() as u64)).expect("small")];
        (segment, usize::try_from(rng.below(SEGMENT_BYTES)).expect("small"))
    };
    let in_note = |rng: &mut SimRng| usize::try_from(rng.below(NOTE_BYTES as u64)).expect("small");
    let (segment, offset) = place(rng);
    match rng.below(12) {
        0..=2 => {
            let bit = u8::try_from(rng.below(8)).expect("small");
            storage.flip_bit(segment, offset, bit);
            format!("bit {bit} flipped at {segment} {offset}")
        }
        3..=4 => {
            storage.zero_page(segment, offset);
            format!("page zeroed at {segment} {offset}")
        }
        5..=6 => {
            let bytes = if rng.chance(1, 8) { 0 } else { offset };
            storage.truncate(segment, bytes);
            format!("{segment} truncated to {bytes}")
        }
        7 => {
            let to = place(rng);
            storage.misdirect((segment, offset), to);
            format!("page of {segment} {offset} written to {to:?}")
        }
        8 => {
            // Any number of the last segments; spare ones too.
            let kept = usize::try_from(rng.below(segments.len() as u64)).expect("small");
            segments[kept..].iter().for_each(|seq| storage.remove(*seq));
            format!("{} last segments lost", segments.len() - kept)
        }
        9 => {
            storage.remove(segment);
            format!("{segment} lost")
        }
        10 => {
            let at = in_note(rng);
            storage.flip_note_bit(at, 3);
            format!("bit flipped in the note at {at}")
        }
        _ => {
            let page = in_note(rng) / PAGE_BYTES;
            match rng.below(3) {
                0 => storage.zero_note_page(page),
                1 => storage.truncate_note(in_note(rng)),
                _ => storage.misdirect_onto_note((segment, offset), page),
            }
            format!("page {page} of the note damaged")
        }
    }
}

/// Checks what is salvaged of a damaged history: a prefix of what was written, and a hard state that was.
fn check_salvage(history: &History, storage: &SimStorage, seed: u64) -> SalvageReport {
    let count = history.records.len();
    let (log, report) = salvaged(storage, history.options, seed);
    let entries = contents(&log);
    let base = log.base();
    assert!((0..=count).any(|prefix| history.entries(prefix, base) == entries), "no prefix of what was written");
    assert_eq!(log.term(history.options.state.index), Some(history.options.state.term), "it goes on from the state");
    assert_eq!((log.hard_state(), log.last_id()), (report.hard_state, report.last));
    let durable: Vec<_> = (history.durable_count()..=count).map(|count| history.hard_state(count)).collect();
    if report.hard_state_is_certain {
        assert!(durable.contains(&report.hard_state), "{:?} is none of {durable:?}", report.hard_state);
    }
    let written = |wanted| (0..=count).any(|count| history.hard_state(count) == wanted);
    assert!(report.hard_state.vote == 0 || written(report.hard_state), "a vote that was never given");
    assert!(report.hard_state.term <= history.hard_state(count).term, "a term that never was");
    assert!(report.hard_state.term >= report.last.term);
    // Everything is synced: the new log survives the loss of all that is not.
    let mut storage = log.into_storage();
    storage.crash_losing_everything();
    let (again, recovered) = Log::open(storage, history.options).expect("sound");
    assert_eq!((recovered.last, recovered.hard_state), (report.last, report.hard_state));
    assert_eq!(again.persisted_index(), report.last.index);
    report
}

#[test]
fn one_fault_anywhere_after_the_process_ended_loses_nothing_unseen() {
    let (mut opened, mut refused, mut certain) = (0, 0, 0);
    for seed in 0..logs() {
        let history = History::random(seed);
        let mut rng = SimRng::new(seed ^ 0x00da_3a6e);
        let mut storage = history.log.storage().clone();
        assert!(storage.crash_process());
        let what = damage(&mut storage, &mut rng);
        let context = format!("seed {seed}: {what}");
        match Log::open(storage.clone(), history.options) {
            Ok((log, report)) => {
                opened += 1;
                let kept = history.frames_count(&log, &report);
                let range = history.durable_count()..=history.records.len();
                assert!(range.contains(&kept), "{context}: {kept} frames of {range:?}");
                assert_eq!(contents(&log), history.entries(kept, log.base()), "{context}");
                assert_eq!(log.hard_state(), history.hard_state(kept), "{context}");
            }
            Err(OpenError::Corrupt(corruption)) => {
                refused += 1;
                assert!(!corruption.damages.is_empty(), "{context}");
                let report = check_salvage(&history, &storage, seed);
                assert_eq!(report.hard_state, corruption.hard_state, "{context}");
                assert_eq!(report.hard_state_is_certain, corruption.hard_state_is_certain, "{context}");
                assert_eq!(report.last, corruption.intact_last, "{context}");
                certain += u32::from(report.hard_state_is_certain);
            }
            Err(error) => panic!("{context}: {error}"),
        }
    }
    assert!(opened > 0 && refused > 0 && certain > 0, "{opened} opened, {refused} refused, {certain} certain");
}

#[test]
fn a_certain_hard_state_is_the_last_durable_one_after_any_faults() {
    let (mut certain, mut uncertain) = (0, 0);
    for seed in 0..logs() {
        let history = History::random(seed);
        let mut rng = SimRng::new(seed ^ 0xfa17);
        let mut storage = history.log.storage().clone();
        assert!(storage.crash_process());
        let count = history.records.len();
        let durable: Vec<_> = (history.durable_count()..=count).map(|count| history.hard_state(count)).collect();
        // Faults in segments only: beside a damaged log the note is what says where it ended.
        for _ in 0..1 + rng.below(4) {
            let segments = storage.segments();
            let segment = segments[usize::try_from(rng.below(segments.len() as u64)).expect("small")];
            let offset = usize::try_from(rng.below(SEGMENT_BYTES)).expect("small");
            if rng.chance(1, 3) {
                storage.zero_page(segment, offset);
            } else {
                storage.flip_bit(segment, offset, 3);
            }
        }
        match Log::open(storage, history.options) {
            Ok((log, _)) => assert!(durable.contains(&log.hard_state()), "seed {seed}"),
            Err(OpenError::Corrupt(corruption)) if corruption.hard_state_is_certain => {
                certain += 1;
                assert!(durable.contains(&corruption.hard_state), "seed {seed}: {corruption:?}");
            }
            Err(OpenError::Corrupt(_)) => uncertain += 1,
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    assert!(certain > 0 && uncertain > 0, "{certain} certain, {uncertain} uncertain");
}

#[test]
fn a_hard_state_beyond_damage_is_found_and_is_certain() {
    let mut log = new_log(1);
    log.append_hard_state(HardStateRecord { term: Term::new(3), vote: 1 }).expect("room");
    append_many(&mut log, 3, 1..=5, 600);
    let (segment, offset) = place(&log, 3);
    let last = HardStateRecord { term: Term::new(7), vote: 2 };
    log.append_hard_state(last).expect("room");
    sync_all(&mut log);
    let mut storage = log.into_storage();
    storage.flip_bit(segment, offset + 10, 0);
    let (new, report) = salvaged(&storage, OPTIONS, 1);
    assert_eq!((report.hard_state, report.hard_state_is_certain), (last, true));
    assert_eq!((new.last_id(), report.damages_count, new.hard_state()), (id(3, 2), 1, last));
}

#[test]
fn damage_behind_the_last_hard_state_makes_it_uncertain_unless_it_hit_a_payload() {
    let hard_state = HardStateRecord { term: Term::new(3), vote: 1 };
    for (bit_at, certain) in [(FRAME_HEADER_END + 5, true), (20, false)] {
        let mut log = new_log(1);
        log.append_hard_state(hard_state).expect("room");
        append_many(&mut log, 3, 1..=5, 600);
        sync_all(&mut log);
        let (segment, offset) = place(&log, 3);
        let mut storage = log.into_storage();
        storage.flip_bit(segment, offset + bit_at, 0);
        let error = reopen(storage).map(|_| ()).expect_err("damaged");
        let corruption = error.corruption().expect("corruption");
        assert_eq!((corruption.hard_state, corruption.hard_state_is_certain), (hard_state, certain));
    }
}

#[test]
fn remains_behind_the_end_of_a_damaged_log_make_the_hard_state_uncertain() {
    let hard_state = HardStateRecord { term: Term::new(3), vote: 1 };
    for (torn, certain) in [(false, true), (true, false)] {
        let mut log = new_log(1);
        log.append_hard_state(hard_state).expect("room");
        append_many(&mut log, 3, 1..=5, 600);
        sync_all(&mut log);
        let (segment, offset) = place(&log, 3);
        let (end_segment, end_offset) = log.writing_end();
        let mut storage = log.into_storage();
        storage.flip_bit(segment, offset + FRAME_HEADER_END + 5, 0);
        if torn {
            // After a crash of the host, with an old note, this may have been a hard state.
            storage.overwrite(end_segment, end_offset, &[0xA5; 56]);
        }
        let error = reopen(storage).map(|_| ()).expect_err("damaged");
        let corruption = error.corruption().expect("corruption");
        assert_eq!((corruption.hard_state, corruption.hard_state_is_certain), (hard_state, certain));
    }
}

/// Where a frame's payload begins.
const FRAME_HEADER_END: usize = crate::format::FRAME_HEADER_BYTES;

#[test]
fn entries_of_a_later_term_raise_the_hard_state_and_take_its_vote() {
    let mut log = new_log(1);
    log.append_hard_state(HardStateRecord { term: Term::new(3), vote: 1 }).expect("room");
    let offset = log.writing_end().1;
    log.append_hard_state(HardStateRecord { term: Term::new(6), vote: 2 }).expect("room");
    append_many(&mut log, 6, 1..=2, 600);
    sync_all(&mut log);
    let mut storage = log.into_storage();
    storage.flip_bit(seq(1), offset + FRAME_HEADER_END + 3, 0);
    let (new, report) = salvaged(&storage, OPTIONS, 1);
    let raised = HardStateRecord { term: Term::new(6), vote: 0 };
    assert_eq!((report.hard_state, report.hard_state_is_certain), (raised, false));
    assert_eq!((new.last_id(), new.hard_state()), (EntryId::ZERO, raised));
}

#[test]
fn a_salvage_into_something_that_is_not_empty_is_refused() {
    let storage = new_log(1).into_storage();
    let prepare = |_: &mut SimStorage, _| Err("none");
    let sync = |_: &mut SimStorage, _: &crate::SyncRequest| Ok(());
    let error = salvage(&storage, new_log(2).into_storage(), OPTIONS, prepare, sync).map(|_| ());
    assert!(error.expect_err("a log is there").to_string().contains("not empty"));
    let empty = SimStorage::new(IDENTITY, SEGMENT_BYTES, 0);
    let error = salvage(&storage, empty, OPTIONS, prepare, sync).map(|_| ()).expect_err("no segments");
    assert!(error.to_string().contains("cannot prepare"), "{error}");
}
