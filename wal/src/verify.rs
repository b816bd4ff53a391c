//! Checking a log offline: what frames its files hold and what is wrong with them. Reads only.
//!
//! For logs that no process has open. It reads through the page cache, so of a node that was killed it sees what the
//! kernel has, which the device may not have yet. Every byte is read before any is looked at in a mapping, where a place
//! that can't be read would end the process: here it is damage.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::format::EntryKind;
use crate::limits::SEGMENT_BYTES_DEFAULT;
use crate::lineage::Lineage;
use crate::lsn::{Geometry, SegmentSeq};
use crate::mapped::{DeviceError, map_for_reading, readable_bytes};
use crate::note::{self, NOTE_FILE_NAME};
use crate::origin::Origin;
use crate::recovery::Rebuild;
use crate::segment::{LogNonce, SegmentHeader, SegmentIdentity};
use crate::storage::Noted;
use crate::types::{EntryId, HardStateRecord};
use crate::walk::{SegmentImage, Step, Walk};

pub use crate::damage::{Damage, DamageKind, Tail, TornTail};
pub use crate::walk::FrameView;

/// Why a log could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The directory or a file can't be read.
    #[error(transparent)]
    Io(#[from] DeviceError),
    /// There is no log here.
    #[error("{dir} holds no log segments; name a directory with files such as 0000000000000001.wal", dir = dir.display())]
    NoSegments {
        /// The directory.
        dir: PathBuf,
    },
}

/// A log's files, mapped for reading.
#[derive(Debug)]
pub struct LogFiles {
    segments: Vec<SegmentFile>,
    /// What the first readable segment header says.
    header: Option<SegmentHeader>,
    geometry: Geometry,
    /// What the note says.
    noted: Noted,
}

/// A segment's file.
#[derive(Debug)]
struct SegmentFile {
    seq: SegmentSeq,
    /// None if the file is empty.
    map: Option<Mmap>,
    /// What can be read of it, from its start. Nothing after that is looked at. Unit: bytes.
    readable_bytes: usize,
}

impl SegmentFile {
    fn open(dir: &Path, seq: SegmentSeq) -> Result<Self, DeviceError> {
        let path = dir.join(seq.file_name());
        let failed = |error| DeviceError::new("read", &path, error);
        let file = File::open(&path).map_err(failed)?;
        let map = match file.metadata().map_err(failed)?.len() {
            0 => None,
            _ => Some(map_for_reading(&file).map_err(failed)?),
        };
        let readable_bytes = readable_bytes(|buffer, offset| file.read_at(buffer, offset));
        Ok(Self { seq, map, readable_bytes })
    }

    fn bytes(&self) -> &[u8] {
        let bytes = self.map.as_deref().unwrap_or_default();
        bytes.get(..self.readable_bytes).unwrap_or(bytes)
    }
}

/// What a log holds and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// Whose log it is; `None` if no segment header can be read.
    pub identity: Option<SegmentIdentity>,
    /// Size of a segment. Unit: bytes.
    pub segment_bytes: u64,
    /// Files found.
    pub segments_count: usize,
    /// Files of them that were dropped and are no part of the log; the next start removes them.
    pub dropped_count: usize,
    /// Frames that are whole, seals and origins not counted.
    pub frames_count: u64,
    /// Current entries up to the first damage.
    pub entries_count: usize,
    /// The entry that the log begins after, if nothing before is damaged. The offline check can't know whether a node's state
    /// reaches there.
    pub base: EntryId,
    /// Last entry before the first damage.
    pub last: EntryId,
    /// Hard state before the first damage.
    pub hard_state: HardStateRecord,
    /// What is wrong with durable parts, in log order; at most `DAMAGES_LISTED_MAX`.
    pub damages: Vec<Damage>,
    /// Damages in all.
    pub damages_count: u64,
    /// How the log ends; `None` if damage hides that.
    pub tail: Option<Tail>,
    /// Segments from here on are damaged or missing and hold nothing: opening makes them anew.
    pub unused_from: Option<SegmentSeq>,
}

impl VerifyReport {
    /// Whether a node would open this log. A torn tail is no damage: a crash leaves one, and opening cuts it.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damages_count == 0
    }
}

/// One thing found while reading a log from its start to its end.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// A whole frame.
    Frame(FrameView<'a>),
    /// Damage to something durable.
    Damage(Damage),
    /// The end of the log.
    Tail(Tail),
}

impl FrameView<'_> {
    /// What it says if it is the origin of a segment.
    #[must_use]
    pub fn origin(&self) -> Option<Origin> {
        (self.header.entry().kind() == EntryKind::ORIGIN).then(|| Origin::parse(self.payload)).flatten()
    }
}

impl LogFiles {
    /// Maps the segments in `dir`. Changes nothing.
    pub fn open(dir: &Path) -> Result<Self, VerifyError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir).map_err(|error| DeviceError::new("list", dir, error))? {
            let entry = entry.map_err(|error| DeviceError::new("list", dir, error))?;
            names.extend(entry.file_name().to_str().and_then(SegmentSeq::from_file_name));
        }
        if names.is_empty() {
            return Err(VerifyError::NoSegments { dir: dir.to_owned() });
        }
        names.sort_unstable();
        let segments = names.into_iter().map(|seq| SegmentFile::open(dir, seq)).collect::<Result<Vec<_>, _>>()?;
        let header = segments.iter().find_map(|segment| SegmentHeader::parse(segment.bytes()).ok());
        let geometry = geometry(&segments, header);
        let owner = segments.iter().find_map(|segment| LogNonce::of(segment.bytes()));
        // A note that can't be read says nothing.
        let note = fs::read(dir.join(NOTE_FILE_NAME)).unwrap_or_default();
        let noted = note::read(&note, owner);
        Ok(Self { segments, header, geometry, noted })
    }

    /// Whose log it is; `None` if no segment header can be read.
    #[must_use]
    pub fn identity(&self) -> Option<SegmentIdentity> {
        self.header.map(|header| header.identity)
    }

    /// Segments found, and how much of each file can be read. Unit: bytes.
    pub fn segments(&self) -> impl Iterator<Item = (SegmentSeq, usize)> {
        self.segments.iter().map(|segment| (segment.seq, segment.bytes().len()))
    }

    /// Everything in the log, in order, superseded entries included.
    pub fn walk(&self) -> impl Iterator<Item = Found<'_>> {
        self.steps().map(|step| match step {
            Step::Frame(frame) => Found::Frame(frame),
            Step::Damage(damage) => Found::Damage(damage),
            Step::End(tail, _) => Found::Tail(tail),
        })
    }

    /// Files of segments that were dropped from the log's start.
    fn dropped_count(&self) -> usize {
        let first = self.noted.first_segment;
        self.segments.iter().filter(|segment| first.is_some_and(|first| segment.seq < first)).count()
    }

    fn steps(&self) -> impl Iterator<Item = Step<'_>> {
        let images: Vec<_> =
            self.segments.iter().map(|segment| SegmentImage { seq: segment.seq, bytes: segment.bytes() }).collect();
        Walk::new(&images, self.geometry, None, self.noted)
    }

    /// Reads the whole log and sums up.
    #[must_use]
    pub fn verify(&self) -> VerifyReport {
        let mut rebuild = Rebuild::new(EntryId::ZERO, Lineage::START);
        let (mut tail, mut unused_from) = (None, None);
        for step in self.steps() {
            match step {
                Step::Frame(frame) => rebuild.frame(&frame),
                Step::Damage(damage) => rebuild.damage(damage),
                Step::End(found, end) => (tail, unused_from) = (Some(found), end.unused_from),
            }
        }
        VerifyReport {
            identity: self.identity(),
            segment_bytes: self.geometry.segment_bytes() as u64,
            segments_count: self.segments.len(),
            dropped_count: self.dropped_count(),
            frames_count: rebuild.frames_count,
            entries_count: rebuild.index.len(),
            base: rebuild.index.base(),
            last: rebuild.index.last_id(),
            hard_state: rebuild.hard_state,
            damages: rebuild.damages,
            damages_count: rebuild.damages_count,
            tail,
            unused_from,
        }
    }
}

/// Looks at the log in `dir` and says what is wrong with it. Changes nothing.
pub fn verify(dir: &Path) -> Result<VerifyReport, VerifyError> {
    Ok(LogFiles::open(dir)?.verify())
}

/// The size of segments: what a header says, or else the largest file that could be one.
fn geometry(segments: &[SegmentFile], header: Option<SegmentHeader>) -> Geometry {
    let stated = header.and_then(|header| Geometry::new(header.segment_bytes));
    let largest = || {
        let sizes = segments.iter().filter_map(|segment| Geometry::new(segment.bytes().len() as u64));
        sizes.max_by_key(|geometry| geometry.segment_bytes())
    };
    stated.or_else(largest).or_else(|| Geometry::new(SEGMENT_BYTES_DEFAULT)).expect("the default is a possible size")
}
