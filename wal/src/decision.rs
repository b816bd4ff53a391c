//! What recovery makes of a place where the log does not go on: one table, here as documentation and below as data.
//!
//! With a shared mapping the kernel may write any page at any time, so after a crash each page beyond the durable point
//! is old or new on its own and the log's end may have holes. What was durable has none. Every frame carries the position
//! below which everything was durable when it was written (its watermark), and that decides:
//!
//! | at the first place that does not go on | watermark beyond | noted beyond | rest | decision |
//! |---|---|---|---|---|
//! | a whole frame that follows | - | - | - | accept, go on |
//! | anything, but the next segment's first frame follows | - | - | - | go on there: this segment was full |
//! | zeros | no | no | zeros | the log ends here |
//! | zeros | no | no | not zeros | torn tail: the log ends here, zero the rest |
//! | a header that fails its checksum | no | no | any | torn tail |
//! | a whole header, a payload that fails its checksum | no | no | any | torn tail |
//! | a whole frame that does not follow | no | no | any | torn tail (remains of before an earlier cut) |
//! | any of these | yes | any | any | damage to what was durable: refuse |
//! | zeros | no | yes | any | the end of what was durable is missing: refuse |
//! | a header that fails its checksum | no | yes | any | damage to what was durable: refuse |
//! | a whole header, a payload that fails its checksum | no | yes | any | damage to what was durable: refuse |
//! | a whole frame that does not follow | no | yes | any | damage to what was durable: refuse |
//! | the end of a file that is too short | any | any | any | refuse: files are written whole before they are used |
//! | a segment before the one that the note calls the log's first | any | any | any | it was dropped: remove it |
//! | a segment missing, with a bad header, of another log or version | any | any | any | refuse, but for the next row |
//! | zeros, and such segments beyond that certainly hold nothing | no | no | zeros | the log ends here; they are made anew |
//! | no file for the last position that was noted | any | yes | any | refuse: a segment is missing |
//! | a whole frame whose entry, hard state or origin can't come next | any | any | any | refuse |
//! | a log that does not hold the entry at which its owner's state is, or begin there | any | any | any | refuse |
//!
//! *Watermark beyond*: a whole header beyond the place has a watermark that lies beyond the place. *Noted beyond*: the
//! storage's note of what is durable ([`Storage::noted`]) lies beyond the place.
//!
//! A log begins anywhere. Its first segment is the one that the note names, or the first that is there if there is no note; its
//! first frame is that segment's origin, and says which entry and which hard state came before. A log that begins nowhere yet,
//! for it has no frame, begins at its owner's state ([`crate::LogOptions::state`]). Without a note nothing on the device tells
//! that first segments were lost and not dropped; the owner's state tells: a log that begins beyond it lacks entries.
//!
//! Segments are prepared ahead, and one that was never used may rot or get lost like any other. It is certain that it holds
//! nothing (`walk`, `Walk::damaged_are_unused`) if everything before is whole, the segment in which the log ends was not
//! left (it has no seal, and nothing in the next one is durable before the seal is; and no more segments are there than are
//! prepared ahead of it), what can be read of all segments beyond is zero, and there is a note, which says no more.
//! Then it is no damage: there is nothing that could have been damaged.
//!
//! Why a torn tail may be cut: an acknowledgement needs a completed sync, and the note is made between the two. As long as
//! the host did not crash, the note is there and nothing that was ever durable is cut. After a crash of the host it may be
//! old or gone; then, had the cut frames been covered by a sync, the watermark of a later frame would say so, if there is
//! a later one. What remains open is damage, together with a crash of the host, to the frames written since the last
//! watermark: one sync's worth of frames under load, none after a mark. The device alone can't tell that from a torn write
//! (see `docs/format/wal.md`), so [`TornTail`] says what was there for a protocol that can ask peers.

/// What stands at the place where the log is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// A whole frame that follows the one before.
    Frame,
    /// Nothing.
    Zeros,
    /// No frame header.
    BadHeader,
    /// A whole frame header with another payload.
    BadPayload,
    /// A whole frame that does not follow.
    BrokenChain,
    /// The end of the file.
    CutOff,
}

/// What stands beyond that place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// A whole frame header says that the place was durable.
    pub(crate) durable_beyond: bool,
    /// The note says that the place was durable.
    pub(crate) noted_beyond: bool,
    /// Everything else is zero.
    pub(crate) rest_is_zero: bool,
}

/// What to do about a place where the log does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The log ends here and nothing follows.
    EndClean,
    /// The log ends here; what follows was never acknowledged.
    EndTorn,
    /// Something durable is damaged.
    Refuse,
}

struct Row {
    finding: Finding,
    durable_beyond: Option<bool>,
    noted_beyond: Option<bool>,
    rest_is_zero: Option<bool>,
    decision: Decision,
}

const fn row(
    finding: Finding,
    durable_beyond: Option<bool>,
    noted_beyond: Option<bool>,
    rest_is_zero: Option<bool>,
    decision: Decision,
) -> Row {
    Row { finding, durable_beyond, noted_beyond, rest_is_zero, decision }
}

const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);

/// The table above as data; the first row that fits decides. `None` fits both.
const DECISIONS: [Row; 15] = [
    row(Finding::CutOff, None, None, None, Decision::Refuse),
    row(Finding::Zeros, YES, None, None, Decision::Refuse),
    row(Finding::BadHeader, YES, None, None, Decision::Refuse),
    row(Finding::BadPayload, YES, None, None, Decision::Refuse),
    row(Finding::BrokenChain, YES, None, None, Decision::Refuse),
    row(Finding::Zeros, NO, YES, None, Decision::Refuse),
    row(Finding::BadHeader, NO, YES, None, Decision::Refuse),
    row(Finding::BadPayload, NO, YES, None, Decision::Refuse),
    row(Finding::BrokenChain, NO, YES, None, Decision::Refuse),
    row(Finding::Zeros, NO, NO, YES, Decision::EndClean),
    row(Finding::Zeros, NO, NO, NO, Decision::EndTorn),
    row(Finding::BadHeader, NO, NO, None, Decision::EndTorn),
    row(Finding::BadPayload, NO, NO, None, Decision::EndTorn),
    row(Finding::BrokenChain, NO, NO, None, Decision::EndTorn),
    // Frames that follow are accepted before anything is decided.
    row(Finding::Frame, None, None, None, Decision::Refuse),
];

pub(crate) fn decide(finding: Finding, around: Surroundings) -> Decision {
    DECISIONS
        .iter()
        .find(|row| {
            row.finding == finding
                && row.durable_beyond.is_none_or(|wanted| wanted == around.durable_beyond)
                && row.noted_beyond.is_none_or(|wanted| wanted == around.noted_beyond)
                && row.rest_is_zero.is_none_or(|wanted| wanted == around.rest_is_zero)
        })
        .map_or(Decision::Refuse, |row| row.decision)
}
