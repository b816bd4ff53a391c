//! Salvage: a new log out of what is whole in a damaged one.
//!
//! The new log begins where the damaged one does, and holds the entries before the first damage, as they were current there.
//! If they do not reach the state that the owner has, or nothing can be read of where the log begins, the new one begins after
//! that state. Then comes the highest hard state that is whole anywhere, and everything is synced before it is handed over. The
//! damaged log is only read. What stood beyond the damage is not taken over: it has to come from the other nodes, and whether
//! this node may vote before that is for the protocol to say, which learns here how certain the hard state is. Which
//! entries were known to be committed is noted beside the new log as it was beside the old one, also where the new one
//! ends before them; that note is not synced yet.
//!
//! Which files become the log, and what happens if the process ends half way, is `repair`'s business.

use crate::damage::Damage;
use crate::error::{AppendError, Latch, OpenError, ReadError};
use crate::group_commit::{SyncFailure, SyncRequest};
use crate::log::{Log, LogOptions};
use crate::lsn::{Geometry, SegmentSeq};
use crate::reader::EntryRef;
use crate::recovery::{self, Rebuild, RecoveryReport};
use crate::storage::Storage;
use crate::types::{EntryId, HardStateRecord, Index};

/// What was saved of a damaged log, and what was wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SalvageReport {
    /// Entries saved.
    pub entries_count: usize,
    /// The last of them.
    pub last: EntryId,
    /// The hard state saved; see [`crate::Corruption::hard_state`].
    pub hard_state: HardStateRecord,
    /// See [`crate::Corruption::hard_state_is_certain`].
    pub hard_state_is_certain: bool,
    /// The first damage; `None` in a log that was whole.
    pub first_damage: Option<Damage>,
    /// Damages in all.
    pub damages_count: u64,
    /// What the new log held when it was read again.
    pub recovery: RecoveryReport,
}

/// Why nothing was salvaged. The damaged log is as it was; what was made of the new one is to be thrown away.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError<E> {
    /// The damaged log is another node's or another version's, or there is none.
    #[error(transparent)]
    Source(OpenError),
    /// An entry that was whole a moment ago can't be read any more.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The place for the new log holds a log already.
    #[error("the place for the repaired log is not empty; remove what is there")]
    NotEmpty,
    /// A segment of the new log could not be prepared.
    #[error("cannot prepare a segment of the repaired log: {0}")]
    Prepare(E),
    /// The new log took no more.
    #[error("cannot write to the repaired log: {0}")]
    Append(#[from] AppendError),
    /// A sync of the new log failed.
    #[error("cannot make the repaired log durable: {0}")]
    Sync(Latch),
    /// The new log does not open.
    #[error("the repaired log does not open: {0}")]
    Target(OpenError),
}

/// Builds a log in `to`, which is empty, out of what is whole in `from`.
///
/// `prepare` makes and installs a segment of the new log, `sync` performs a sync; both block.
pub fn salvage<F: Storage, T: Storage, E>(
    from: &F,
    to: T,
    options: LogOptions,
    mut prepare: impl FnMut(&mut T, SegmentSeq) -> Result<(), E>,
    mut sync: impl FnMut(&mut T, &SyncRequest) -> Result<(), SyncFailure>,
) -> Result<(Log<T>, SalvageReport), SalvageError<E>> {
    let segment_bytes = options.segment_bytes;
    let impossible = || SalvageError::Source(OpenError::SegmentBytes { got: segment_bytes });
    let geometry = Geometry::new(segment_bytes).ok_or_else(impossible)?;
    if !to.segments().is_empty() {
        return Err(SalvageError::NotEmpty);
    }
    let LogOptions { identity, state, state_lineage, .. } = options;
    let examined = recovery::examine(from, geometry, identity, state, state_lineage).map_err(SalvageError::Source)?;
    let rebuild = examined.map_or_else(|| Rebuild::new(state, state_lineage), |(rebuild, _)| rebuild);
    let hard_state = rebuild.hard_states.found();
    let log = Log::begin(to, options, rebuild.salvaged_origin()).map_err(SalvageError::Target)?;
    let mut target = Target { log, prepare: &mut prepare, sync: &mut sync };
    for index in rebuild.index.first_index().get()..=rebuild.index.last_id().index.get() {
        let entry = entry_of(from, &rebuild, geometry, Index::new(index))?;
        target.make_ready()?;
        target.log.append_entry(entry.header(), entry.payload())?;
        if target.log.end_lsn().get() - target.log.durable_lsn().get() > segment_bytes {
            target.sync_all()?;
        }
    }
    target.make_ready()?;
    if hard_state != target.log.hard_state() {
        mark!("log: a hard state beyond damage is kept");
        target.log.append_hard_state(hard_state)?;
    }
    target.make_ready()?;
    target.sync_all()?;
    // From here on the device alone can tell damage to any of it from a torn tail.
    target.log.append_mark()?;
    target.sync_all()?;
    let (mut log, report) = Log::open(target.log.into_storage(), options).map_err(SalvageError::Target)?;
    let noted = from.noted();
    log.note_committed(noted.committed, noted.committed_lineage);
    let report = SalvageReport {
        entries_count: rebuild.index.len(),
        last: rebuild.index.last_id(),
        hard_state,
        hard_state_is_certain: rebuild.hard_states.is_certain(),
        first_damage: rebuild.damages.first().copied(),
        damages_count: rebuild.damages_count,
        recovery: report,
    };
    Ok((log, report))
}

/// The log being made, and how it gets what it needs.
struct Target<'a, T, P, S> {
    log: Log<T>,
    prepare: &'a mut P,
    sync: &'a mut S,
}

impl<T: Storage, E, P, S> Target<'_, T, P, S>
where
    P: FnMut(&mut T, SegmentSeq) -> Result<(), E>,
    S: FnMut(&mut T, &SyncRequest) -> Result<(), SyncFailure>,
{
    fn make_ready(&mut self) -> Result<(), SalvageError<E>> {
        while let Some(seq) = self.log.needs_segment() {
            (self.prepare)(self.log.storage_mut(), seq).map_err(SalvageError::Prepare)?;
        }
        Ok(())
    }

    fn sync_all(&mut self) -> Result<(), SalvageError<E>> {
        while let Some(request) = self.log.next_sync() {
            let result = (self.sync)(self.log.storage_mut(), &request);
            self.log.on_synced(request.id, result);
        }
        self.log.latched().map_or(Ok(()), |latch| Err(SalvageError::Sync(latch.clone())))
    }
}

/// An entry before the first damage, where it lies.
fn entry_of<'a, F: Storage>(
    from: &'a F,
    rebuild: &Rebuild,
    geometry: Geometry,
    index: Index,
) -> Result<EntryRef<'a>, ReadError> {
    let slot = rebuild.index.get(index).expect("the index has no gaps");
    let (seq, offset) = geometry.split(slot.lsn).expect("positions of frames lie in segments");
    let entry = EntryRef::at(from.bytes(seq), seq, offset, index, slot)?;
    let lost = ReadError { expected: entry.id(), segment: seq, offset };
    entry.verify().map_err(|_| lost)?;
    Ok(entry)
}
