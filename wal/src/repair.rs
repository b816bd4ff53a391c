//! Opening a node's log even if it is damaged: what is whole becomes the log, and the damaged files are kept beside it.
//!
//! Shell, and blocking. It decides which directory is the log and survives being interrupted anywhere; what is saved is
//! `salvage`'s business, and what a node under repair may do is the protocol's. It repairs nothing of another node or
//! version, and it never deletes a damaged log before [`finish_repair`] is called.
//!
//! A salvage goes like this, each step durable before the next:
//! 1. what is whole is built into a new log in `<log>.repair`, and what the note says of committed entries is noted there;
//! 2. a mark is written into the new log: that this node is under repair, what was damaged, and, if so, that the hard state is
//!    certain;
//! 3. the damaged log is moved to `<log>.damaged`, or to `replaced` inside it if there is one already: now the new one
//!    counts;
//! 4. `<log>.repair` is moved to `<log>`.
//!
//! A node is under repair while its log has the mark or `<log>.damaged` is there: neither a copy of the log alone nor whoever
//! removes the damaged files to make room ends a repair. A damaged log without a mark in the new one (somebody put a log in
//! its place) makes the hard state uncertain.
//!
//! A log counts as absent if its directory is missing or has nothing in it. What a start finds, and what it does:
//!
//! | `<log>` | `.repair` | `.damaged` | what happened | decision |
//! |---|---|---|---|---|
//! | there | - | - | nothing, or the damaged files were removed by hand | open |
//! | there | there | - | interrupted in step 1 or 2 | remove `.repair`, open |
//! | there | - | there | the node is under repair | open |
//! | there | there | there | the new log was damaged too; interrupted in step 1 or 2 | remove `.repair`, open |
//! | absent | there | there | interrupted between steps 3 and 4 | step 4, open |
//! | absent | - | there | somebody took the new log away | refuse |
//! | absent | there | - | somebody took both others away | refuse |
//! | absent | - | - | a new log, or none at all | open |
//!
//! Opening salvages if the log is damaged. A finished repair moves `<log>.damaged` to `<log>.repaired`, removes the mark, and
//! then `<log>.repaired`; a start removes that whenever it is found, and goes by the mark.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::error::OpenError;
use crate::files::{DIR_MODE, sync_dir, write_durably};
use crate::log::{Log, LogOptions};
use crate::mapped::DeviceError;
use crate::mmap::FileDevice;
use crate::prepare::{PrepareError, prepare_segment};
use crate::recovery::RecoveryReport;
use crate::salvage::{SalvageError, SalvageReport, salvage};
use crate::storage::Storage;

/// File in the log's directory: the node is under repair. Its text says what was damaged; that it is there is what counts.
const MARK_FILE: &str = "under-repair";
/// File beside the mark: the hard state is the last one. If the file gets lost, the repair is only more careful.
const CERTAIN_FILE: &str = "hard-state-certain";
/// Directory in `<log>.damaged` with a log that was damaged while the node was under repair; the latest one.
const REPLACED_DIR: &str = "replaced";
/// Text between the first damage and the latest one.
const LATER: &str = "; and later: ";

/// An open log, and whether it is all that this node ever had.
#[derive(Debug)]
pub struct Opened {
    /// The log.
    pub log: Log<FileDevice>,
    /// What it held.
    pub report: RecoveryReport,
    /// What is missing in it; `None` if nothing is. Stays on every start until [`finish_repair`].
    pub repair: Option<Repair>,
}

/// What a node under repair knows about what it has lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// The log's hard state is the last one that was durable. If false this node may have voted since.
    pub hard_state_is_certain: bool,
    /// The first damage, and how many more there were.
    pub damage: String,
}

/// Why a log was neither opened nor repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The log's files can't be used.
    #[error(transparent)]
    Files(#[from] DeviceError),
    /// The log does not open, for a reason that is no damage, or it is damaged again at once.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// Nothing could be salvaged; the damaged log is untouched.
    #[error("the log is damaged ({damage}), and repairing it failed: {source}; the damaged files are as they were")]
    Salvage {
        /// The damage.
        damage: String,
        /// Why it failed.
        source: Box<SalvageError<PrepareError>>,
    },
    /// A file operation failed; the next start goes on from here.
    #[error("repairing the log: cannot {action} {path}: {source}; mend that and start again", path = path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The log is not where it was, and what is there does not say what happened.
    #[error(
        "the log {log} is missing and {other} is there; somebody moved or deleted files of this node: put the log back, or \
         remove the whole data directory: the node then gets everything back from the others",
        log = log.display(),
        other = other.display()
    )]
    LogGone {
        /// Where the log belongs.
        log: PathBuf,
        /// What was found beside it.
        other: PathBuf,
    },
}

/// Opens the log in `wal_dir`, which exists; if durable parts of it are damaged, repairs it first.
///
/// Blocks: a repair reads and writes the whole log, and needs as much space again. Nobody else uses the directory.
pub fn open_or_salvage(wal_dir: &Path, options: LogOptions) -> Result<Opened, RepairError> {
    Repairer { places: Places::of(wal_dir), options, before: &mut |_| Ok(()) }.open()
}

/// Ends a node's repair: removes the mark and the damaged files. For when everything that was lost is back from the other
/// nodes.
///
/// Interrupted, the node is under repair as before or not at all any more, and the next start removes the rest.
pub fn finish_repair(wal_dir: &Path) -> io::Result<()> {
    let places = Places::of(wal_dir);
    remove_dir(&places.repaired)?;
    if places.damaged.try_exists()? {
        fs::rename(&places.damaged, &places.repaired)?;
        sync_dir(&places.parent)?;
    }
    remove_file(&places.log.join(CERTAIN_FILE))?;
    remove_file(&places.log.join(MARK_FILE))?;
    sync_dir(&places.log)?;
    remove_dir(&places.repaired)?;
    sync_dir(&places.parent)
}

/// Marks a log that was just made as that of a node that lost everything: it is under repair from here on, with an uncertain
/// hard state, until [`finish_repair`]. Durable on return.
pub fn mark_as_lost(wal_dir: &Path, damage: &str) -> io::Result<()> {
    remove_file(&wal_dir.join(CERTAIN_FILE))?;
    write_durably(&wal_dir.join(MARK_FILE), damage)
}

/// Whether a log has the mark of a node under repair.
pub fn is_marked(wal_dir: &Path) -> io::Result<bool> {
    wal_dir.join(MARK_FILE).try_exists()
}

/// The directories of one log.
#[derive(Debug)]
struct Places {
    log: PathBuf,
    repair: PathBuf,
    damaged: PathBuf,
    repaired: PathBuf,
    parent: PathBuf,
}

impl Places {
    fn of(wal_dir: &Path) -> Self {
        // Without a slash at its end, which would put the others inside.
        let log: PathBuf = wal_dir.components().collect();
        let beside = |suffix| {
            let mut path = log.clone().into_os_string();
            path.push(suffix);
            PathBuf::from(path)
        };
        let (repair, damaged, repaired) = (beside(".repair"), beside(".damaged"), beside(".repaired"));
        let parent = log.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self { repair, damaged, repaired, parent: parent.to_owned(), log }
    }
}

/// One opening. `before` is told of every step and may stop it there, as the end of the process would.
struct Repairer<'a> {
    places: Places,
    options: LogOptions,
    before: &'a mut dyn FnMut(&'static str) -> io::Result<()>,
}

impl Repairer<'_> {
    fn open(mut self) -> Result<Opened, RepairError> {
        self.settle()?;
        let damage = match self.open_log()? {
            Ok(opened) => return Ok(opened),
            Err(damage) => damage,
        };
        let report = self.salvage(&damage)?;
        let damage = describe(&report).unwrap_or(damage);
        self.write_mark(&damage, report.hard_state_is_certain)?;
        self.exchange()?;
        self.open_log()?.map_err(|damage| RepairError::Io {
            action: "use what was salvaged into",
            path: self.places.log.clone(),
            source: io::Error::new(io::ErrorKind::InvalidData, damage),
        })
    }

    /// The table above, up to the point where the log is where it belongs.
    fn settle(&mut self) -> Result<(), RepairError> {
        let repaired = self.places.repaired.clone();
        self.step("remove", &repaired, remove_dir)?;
        let Places { log, repair, damaged, .. } = &self.places;
        let (log, repair, damaged) = (log.clone(), repair.clone(), damaged.clone());
        let is_absent = |path: &Path| is_absent(path).map_err(|source| io_error("look at", path, source));
        let exists = |path: &Path| path.try_exists().map_err(|source| io_error("look at", path, source));
        match (!is_absent(&log)?, exists(&repair)?, exists(&damaged)?) {
            (true, true, _) => self.step("remove", &repair, remove_dir),
            (false, true, true) => self.rename(&repair, &log),
            (false, false, true) => Err(RepairError::LogGone { log, other: damaged }),
            (false, true, false) => Err(RepairError::LogGone { log, other: repair }),
            (true, false, _) | (false, false, false) => Ok(()),
        }
    }

    /// Opens the log where it belongs; the inner error is the damage that keeps it from opening.
    fn open_log(&mut self) -> Result<Result<Opened, String>, RepairError> {
        let storage = FileDevice::open(&self.places.log)?;
        let (log, report) = match Log::open(storage, self.options) {
            Ok(opened) => opened,
            Err(OpenError::Corrupt(corruption)) => return Ok(Err(corruption.to_string())),
            Err(error) => return Err(error.into()),
        };
        let repair = self.read_mark()?;
        if repair.is_some() && report.segments_count == 0 {
            // A new log in the place of the one that was salvaged would forget what that knew.
            let Places { log, damaged, .. } = &self.places;
            return Err(RepairError::LogGone { log: log.clone(), other: damaged.clone() });
        }
        Ok(Ok(Opened { log, report, repair }))
    }

    /// Whether the node is under repair, and what is known about it.
    fn read_mark(&self) -> Result<Option<Repair>, RepairError> {
        let Places { log, damaged, .. } = &self.places;
        let exists = |path: &Path| path.try_exists().map_err(|source| io_error("look at", path, source));
        let mark = log.join(MARK_FILE);
        let is_marked = exists(&mark)?;
        if !is_marked && !exists(damaged)? {
            return Ok(None);
        }
        let unknown = || "the log was damaged; what was wrong can't be read any more".to_owned();
        let damage = fs::read_to_string(mark).unwrap_or_else(|_| unknown());
        let hard_state_is_certain = is_marked && exists(&log.join(CERTAIN_FILE))?;
        Ok(Some(Repair { hard_state_is_certain, damage }))
    }

    /// Step 1.
    fn salvage(&mut self, damage: &str) -> Result<SalvageReport, RepairError> {
        let Places { log, repair, parent, .. } = &self.places;
        let (log, repair, parent) = (log.clone(), repair.clone(), parent.clone());
        self.step("create", &repair, |repair| DirBuilder::new().mode(DIR_MODE).create(repair))?;
        self.step("sync", &parent, sync_dir)?;
        let (from, to) = (FileDevice::open(&log)?, FileDevice::open(&repair)?);
        let LogOptions { identity, segment_bytes, .. } = self.options;
        let before = &mut self.before;
        let prepare = |storage: &mut FileDevice, seq| {
            before("prepare a segment").map_err(|source| PrepareError::Io {
                action: "prepare",
                path: repair.clone(),
                source,
            })?;
            storage.install(prepare_segment(&repair, seq, identity, segment_bytes, storage.log_nonce())?);
            Ok(())
        };
        let sync = |storage: &mut FileDevice, request: &_| storage.sync_blocking(request);
        let salvaged = salvage(&from, to, self.options, prepare, sync);
        let failed = |source| RepairError::Salvage { damage: damage.to_owned(), source: Box::new(source) };
        let (log, report) = salvaged.map_err(failed)?;
        let sync_note = |_: &Path| log.storage().note_file().map_or(Ok(()), |note| note.sync_data());
        self.step("sync the note in", &repair, sync_note)?;
        Ok(report)
    }

    /// Step 2. What the mark in the damaged log says stays true.
    fn write_mark(&mut self, damage: &str, is_certain: bool) -> Result<(), RepairError> {
        let before = self.read_mark()?;
        let repair = self.places.repair.clone();
        if is_certain && before.as_ref().is_none_or(|before| before.hard_state_is_certain) {
            self.step("write into", &repair, |dir| {
                write_durably(&dir.join(CERTAIN_FILE), "this node gave no vote that its log does not hold\n")
            })?;
        }
        let text = match before {
            Some(before) => {
                let first = before.damage.split(LATER).next().unwrap_or_default();
                format!("{first}{LATER}{damage}")
            }
            None => damage.to_owned(),
        };
        self.step("write into", &repair, |dir| write_durably(&dir.join(MARK_FILE), &text))
    }

    /// Steps 3 and 4.
    fn exchange(&mut self) -> Result<(), RepairError> {
        let Places { log, repair, damaged, .. } = &self.places;
        let (log, repair, mut damaged) = (log.clone(), repair.clone(), damaged.clone());
        if damaged.try_exists().map_err(|source| io_error("look at", &damaged, source))? {
            damaged.push(REPLACED_DIR);
            self.step("remove", &damaged, remove_dir)?;
        }
        self.rename(&log, &damaged)?;
        self.rename(&repair, &log)
    }

    /// Moves a directory; durable on return.
    fn rename(&mut self, from: &Path, to: &Path) -> Result<(), RepairError> {
        self.step("move", from, |from| fs::rename(from, to))?;
        if let Some(parent) = to.parent().filter(|parent| *parent != self.places.parent) {
            self.step("sync", parent, sync_dir)?;
        }
        let parent = self.places.parent.clone();
        self.step("sync", &parent, sync_dir)
    }

    fn step(
        &mut self,
        action: &'static str,
        path: &Path,
        run: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), RepairError> {
        (self.before)(action).and_then(|()| run(path)).map_err(|source| io_error(action, path, source))
    }
}

/// The first damage, and how many more.
fn describe(report: &SalvageReport) -> Option<String> {
    let first = report.first_damage?;
    Some(match report.damages_count {
        1 => first.to_string(),
        count => format!("{first} (and {} more)", count - 1),
    })
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> RepairError {
    RepairError::Io { action, path: path.to_owned(), source }
}

/// Whether a directory is missing or has nothing in it: whoever opens the data directory may have made it anew.
fn is_absent(dir: &Path) -> io::Result<bool> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().transpose()?.is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn remove_dir(dir: &Path) -> io::Result<()> {
    unless_gone(fs::remove_dir_all(dir))
}

fn remove_file(path: &Path) -> io::Result<()> {
    unless_gone(fs::remove_file(path))
}

fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
#[path = "repair_tests.rs"]
mod tests;
