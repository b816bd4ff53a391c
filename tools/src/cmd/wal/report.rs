//! Frames, damage and tails as lines for people and as JSON for programs.

use std::path::Path;

use engine::log_store::{KIND_COMMANDS, KIND_MEMBERS, KIND_NOOP};
use serde::Serialize;
use wal::types::Index;
use wal::verify::{Damage, DamageKind, Found, FrameView, Tail, TornTail, VerifyReport};
use wal::{EntryKind, Origin, SegmentIdentity};

/// A report on one log.
#[derive(Serialize)]
pub struct ReportJson {
    dir: String,
    sound: bool,
    cluster_id: Option<String>,
    node_id: Option<String>,
    shard: Option<u32>,
    segments: usize,
    /// Files among them that were dropped from the log's start.
    dropped: usize,
    segment_bytes: u64,
    frames: u64,
    entries: usize,
    /// The entry that the log begins after; 0 for one that begins with the first entry ever.
    base_term: u64,
    base_index: u64,
    last_term: u64,
    last_index: u64,
    term: u64,
    vote: String,
    damages: Vec<PlaceJson>,
    damages_count: u64,
    /// First of the segments that are damaged or missing and hold nothing.
    unused_from: Option<String>,
    tail: TailJson,
}

/// Something in a log.
#[derive(Serialize)]
pub struct FoundJson {
    dir: String,
    #[serde(flatten)]
    found: FoundKindJson,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum FoundKindJson {
    Frame(FrameJson),
    Damage(PlaceJson),
    Tail(TailJson),
}

#[derive(Serialize)]
struct FrameJson {
    segment: String,
    offset: usize,
    lsn: u64,
    kind: String,
    term: u64,
    index: u64,
    payload_bytes: usize,
    durable: u64,
    #[serde(flatten)]
    origin: Option<OriginJson>,
}

/// What the origin of a segment says.
#[derive(Serialize)]
struct OriginJson {
    base_term: u64,
    base_index: u64,
    hard_state_term: u64,
    vote: String,
    members_bytes: usize,
}

/// Damage, or the remains of a torn tail.
#[derive(Serialize)]
struct PlaceJson {
    segment: String,
    offset: usize,
    kind: &'static str,
    detail: String,
}

#[derive(Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
enum TailJson {
    Clean,
    Torn {
        #[serde(flatten)]
        place: PlaceJson,
        /// Whole frame headers among the remains.
        frames: u64,
    },
    /// Damage hides where the log ends.
    Hidden,
}

impl ReportJson {
    pub fn new(dir: &Path, report: &VerifyReport) -> Self {
        let identity = report.identity;
        Self {
            dir: dir.display().to_string(),
            sound: report.is_sound(),
            cluster_id: identity.map(|identity| format!("{:016x}", identity.cluster_id)),
            node_id: identity.map(|identity| format!("{:016x}", identity.node_id)),
            shard: identity.map(|identity| identity.shard),
            segments: report.segments_count,
            dropped: report.dropped_count,
            segment_bytes: report.segment_bytes,
            frames: report.frames_count,
            entries: report.entries_count,
            base_term: report.base.term.get(),
            base_index: report.base.index.get(),
            last_term: report.last.term.get(),
            last_index: report.last.index.get(),
            term: report.hard_state.term.get(),
            vote: format!("{:016x}", report.hard_state.vote),
            damages: report.damages.iter().map(PlaceJson::damage).collect(),
            damages_count: report.damages_count,
            unused_from: report.unused_from.map(|segment| segment.to_string()),
            tail: report.tail.as_ref().map_or(TailJson::Hidden, TailJson::new),
        }
    }
}

impl FoundJson {
    pub fn new(dir: &Path, found: &Found<'_>) -> Self {
        let found = match found {
            Found::Frame(frame) => FoundKindJson::Frame(FrameJson::new(frame)),
            Found::Damage(damage) => FoundKindJson::Damage(PlaceJson::damage(damage)),
            Found::Tail(tail) => FoundKindJson::Tail(TailJson::new(tail)),
        };
        Self { dir: dir.display().to_string(), found }
    }
}

impl FrameJson {
    fn new(frame: &FrameView<'_>) -> Self {
        let entry = frame.header.entry();
        Self {
            segment: frame.segment.to_string(),
            offset: frame.offset,
            lsn: frame.lsn.get(),
            kind: entry_kind(entry.kind()),
            term: entry.term().get(),
            index: entry.index().get(),
            payload_bytes: frame.payload.len(),
            durable: frame.header.durable().get(),
            origin: frame.origin().map(|origin| OriginJson {
                base_term: origin.base.term.get(),
                base_index: origin.base.index.get(),
                hard_state_term: origin.hard_state.term.get(),
                vote: format!("{:016x}", origin.hard_state.vote),
                members_bytes: origin.members.len(),
            }),
        }
    }
}

impl PlaceJson {
    fn damage(damage: &Damage) -> Self {
        Self {
            segment: damage.segment.to_string(),
            offset: damage.offset,
            kind: damage_kind(&damage.kind),
            detail: damage.to_string(),
        }
    }

    fn torn(tail: &TornTail) -> Self {
        Self {
            segment: tail.segment.to_string(),
            offset: tail.offset,
            kind: tail.found.as_ref().map_or("zeros", damage_kind),
            detail: torn_line(tail),
        }
    }
}

impl TailJson {
    fn new(tail: &Tail) -> Self {
        match tail {
            Tail::Clean => Self::Clean,
            Tail::Torn(torn) => Self::Torn { place: PlaceJson::torn(torn), frames: torn.frames_count },
        }
    }
}

/// One word for each kind of damage. Part of the JSON: words do not change.
fn damage_kind(kind: &DamageKind) -> &'static str {
    match kind {
        DamageKind::FrameHeader => "frame-header",
        DamageKind::Payload(_) => "payload",
        DamageKind::ZeroedPage { .. } => "zeroed-page",
        DamageKind::ChainBroken => "chain-broken",
        DamageKind::Inconsistent(_) => "inconsistent",
        DamageKind::EndMissing { .. } => "end-missing",
        DamageKind::Truncated { .. } => "truncated",
        DamageKind::SegmentHeader(_) => "segment-header",
        DamageKind::Missing { .. } => "segment-missing",
        DamageKind::NotAtState { .. } => "not-at-state",
        DamageKind::Identity(_) => "identity",
        DamageKind::Version { .. } => "version",
    }
}

/// What an entry is, as far as this version knows.
fn entry_kind(kind: EntryKind) -> String {
    match kind {
        KIND_NOOP => "noop".to_owned(),
        KIND_COMMANDS => "commands".to_owned(),
        KIND_MEMBERS => "members".to_owned(),
        other => other.to_string(),
    }
}

/// The report on one log, for people: a summary, then one line for each damage and for a torn tail.
pub fn report_lines(dir: &Path, report: &VerifyReport) -> Vec<String> {
    let verdict = if report.is_sound() { "sound".to_owned() } else { format!("{} damaged", report.damages_count) };
    let mut lines = vec![format!(
        "{}: {verdict}: {}{} segments of {} bytes, {} frames, {} entries, last entry: index {} of term {}; \
         hard state: term {}, vote {:016x}",
        dir.display(),
        identity(report.identity),
        report.segments_count,
        report.segment_bytes,
        report.frames_count,
        report.entries_count,
        report.last.index,
        report.last.term,
        report.hard_state.term,
        report.hard_state.vote,
    )];
    lines.extend(report.damages.iter().map(|damage| format!("{}: damage: {damage}", dir.display())));
    let unlisted = report.damages_count.saturating_sub(report.damages.len() as u64);
    if unlisted > 0 {
        lines.push(format!("{}: and {unlisted} more", dir.display()));
    }
    if report.base.index > Index::ZERO {
        lines.push(format!(
            "{}: begins behind entry index {} of term {}, which the node's state must reach",
            dir.display(),
            report.base.index,
            report.base.term
        ));
    }
    if report.dropped_count > 0 {
        lines.push(format!(
            "{}: {} of the segments were dropped from the log's start; the next start removes them",
            dir.display(),
            report.dropped_count
        ));
    }
    if let Some(segment) = report.unused_from {
        lines.push(format!(
            "{}: segment {segment} or one behind it is damaged or missing; none of them was ever used, and the next start \
             prepares them anew",
            dir.display()
        ));
    }
    match &report.tail {
        Some(Tail::Clean) => {}
        Some(Tail::Torn(torn)) => lines.push(format!("{}: {}", dir.display(), torn_line(torn))),
        None => lines.push(format!("{}: where the log ends is hidden by the damage", dir.display())),
    }
    lines
}

fn identity(identity: Option<SegmentIdentity>) -> String {
    identity.map_or_else(String::new, |of| {
        format!("cluster {:016x}, node {:016x}, shard {} of {}, ", of.cluster_id, of.node_id, of.shard, of.shard_count)
    })
}

fn torn_line(tail: &TornTail) -> String {
    let found = tail.found.as_ref().map_or_else(|| "zeros, and something behind them".to_owned(), ToString::to_string);
    format!(
        "torn tail, would be cut at the next start: segment {}, offset {}: {found}; {} whole frame headers behind it",
        tail.segment, tail.offset, tail.frames_count
    )
}

/// One thing in a log, on one line.
pub fn found_line(found: &Found<'_>) -> String {
    match found {
        Found::Frame(frame) => {
            let entry = frame.header.entry();
            let origin = frame.origin().map_or_else(String::new, |Origin { base, lineage, hard_state, members }| {
                format!(
                    "; behind entry index {} of term {}, hard state: term {}, vote {:016x}, members {} bytes, lineage {lineage}",
                    base.index,
                    base.term,
                    hard_state.term,
                    hard_state.vote,
                    members.len()
                )
            });
            format!(
                "{} {:>8} {:<10} term {} index {} payload {} bytes, durable below {}{origin}",
                frame.segment,
                frame.offset,
                entry_kind(entry.kind()),
                entry.term(),
                entry.index(),
                frame.payload.len(),
                frame.header.durable(),
            )
        }
        Found::Damage(damage) => format!("damage: {damage}"),
        Found::Tail(Tail::Clean) => "clean end".to_owned(),
        Found::Tail(Tail::Torn(torn)) => torn_line(torn),
    }
}
