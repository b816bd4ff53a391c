//! All sections of a state, and the readings of them that are open.
//!
//! A section is added here, and nowhere else: its chunks, its part of the hash and its size follow from the list.

use std::collections::{BTreeMap, BTreeSet};

use codec::DecodeError;

use super::answers::CommandRefused;
use super::batch::Sender;
use super::digest::Digest;
use super::mvcc::Mvcc;
use super::section::{AsOf, Section, SectionCursor, SectionKind};
use crate::types::Index;

/// The sections of a state.
#[derive(Debug)]
pub(super) struct Sections {
    /// Keys and their versions, the first section.
    pub(super) keys: Mvcc,
    /// Those after it, in the order in which they are written out.
    others: Vec<Box<dyn Section>>,
    /// Readings that are open.
    readings: Vec<Reading>,
    last_number: u64,
}

/// The right to read a state as of the entry that was its last one when the reading began, while later ones are applied. Until it is
/// ended the state keeps what it needs for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a reading that was begun has to be ended"]
pub struct Reading {
    /// Tells it from the others of its state.
    number: u64,
    as_of: AsOf,
}

impl Reading {
    /// The entry as of which the state is read.
    #[must_use]
    pub const fn as_of(&self) -> &AsOf {
        &self.as_of
    }
}

/// How far a state is written out, or taken into a hash.
#[derive(Clone, Debug, Default)]
pub struct ChunkCursor {
    /// Sections before it are done.
    section: usize,
    at: SectionCursor,
}

impl ChunkCursor {
    fn go_to_next_section(&mut self) {
        *self = Self { section: self.section + 1, at: SectionCursor::default() };
    }
}

impl Sections {
    /// Without keys. See `Mvcc::new` for the seed.
    pub(super) fn new(hash_seed: u64) -> Self {
        Self { keys: Mvcc::new(hash_seed), others: Vec::new(), readings: Vec::new(), last_number: 0 }
    }

    /// Adds an empty section after the others.
    pub(super) fn add(&mut self, section: Box<dyn Section>) {
        assert!(self.all().all(|other| other.kind() != section.kind()), "{:?} is there already", section.kind());
        assert!(self.readings.is_empty(), "a section is added before anything is read");
        self.others.push(section);
    }

    fn all(&self) -> impl Iterator<Item = &dyn Section> {
        let keys: &dyn Section = &self.keys;
        std::iter::once(keys).chain(self.others.iter().map(|other| &**other))
    }

    fn for_each_mut(&mut self, mut of: impl FnMut(&mut dyn Section)) {
        of(&mut self.keys);
        self.others.iter_mut().for_each(|other| of(&mut **other));
    }

    /// The section at which a cursor stands; `None` behind the last one.
    fn at(&self, cursor: &ChunkCursor) -> Option<&dyn Section> {
        match cursor.section.checked_sub(1) {
            None => Some(&self.keys),
            Some(other) => self.others.get(other).map(|other| &**other),
        }
    }

    /// Estimated size. Unit: bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.keys.size_bytes() + self.others.iter().map(|other| other.bytes()).sum::<u64>()
    }

    /// True if some section keeps the answers to commands that have a sender.
    pub(super) fn keep_answers(&self) -> bool {
        self.others.iter().any(|other| other.keeps_answers())
    }

    /// Gives the answer to a command that has a sender to whoever keeps it.
    pub(super) fn take_answer(&mut self, sender: Sender, answer: Result<&[u8], CommandRefused>) {
        self.others
            .iter_mut()
            .filter(|other| other.keeps_answers())
            .for_each(|other| other.take_answer(sender, answer));
    }

    /// An entry is whole.
    pub(super) fn finish_entry(&mut self, as_of: &AsOf) {
        self.others.iter_mut().for_each(|other| other.finish_entry(as_of));
    }

    /// Begins a reading as of the last entry that was finished. The sections are told of the first one of an entry alone.
    pub(super) fn begin_reading(&mut self, as_of: &AsOf) -> Reading {
        if !self.are_read_as_of(as_of) {
            self.for_each_mut(|section| section.begin_reading(as_of));
        }
        self.last_number += 1;
        let reading = Reading { number: self.last_number, as_of: *as_of };
        self.readings.push(reading);
        reading
    }

    /// Ends a reading. The sections are told when it was the last one of its entry.
    pub(super) fn end_reading(&mut self, reading: &Reading) {
        let place = self.readings.iter().position(|open| open == reading);
        let ended = self.readings.swap_remove(place.expect("a reading is ended once"));
        if !self.are_read_as_of(&ended.as_of) {
            self.for_each_mut(|section| section.end_reading(&ended.as_of));
        }
    }

    /// Ends the readings that are not among these.
    pub(super) fn keep_readings(&mut self, kept: &[Reading]) {
        let numbers: BTreeSet<u64> = kept.iter().map(|reading| reading.number).collect();
        let gone: Vec<Reading> = self.readings.extract_if(.., |open| !numbers.contains(&open.number)).collect();
        // Clients can open very many: no step here looks at all readings for each of them.
        let still_read: BTreeSet<Index> = self.readings.iter().map(|open| open.as_of.applied.index).collect();
        let ended: BTreeMap<Index, AsOf> = gone.iter().map(|gone| (gone.as_of.applied.index, gone.as_of)).collect();
        for (_, as_of) in ended.iter().filter(|(index, _)| !still_read.contains(index)) {
            self.for_each_mut(|section| section.end_reading(as_of));
        }
    }

    fn are_read_as_of(&self, as_of: &AsOf) -> bool {
        self.readings.iter().any(|open| open.as_of == *as_of)
    }

    /// Readings that are open.
    pub(super) const fn readings_count(&self) -> usize {
        self.readings.len()
    }

    /// True if the reading is an open one of these sections.
    pub(super) fn are_read_by(&self, reading: &Reading) -> bool {
        self.readings.contains(reading)
    }

    /// Appends a chunk of the section at which the cursor stands; says whether that was the last one of all sections.
    pub(super) fn chunk(
        &self,
        as_of: &AsOf,
        cursor: &mut ChunkCursor,
        left: &mut u64,
        bytes_limit: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        let section = self.at(cursor).expect("nothing follows the last chunk");
        let end = out.len().saturating_add(bytes_limit);
        out.extend_from_slice(&section.kind().chunk_header());
        if section.chunk(as_of, &mut cursor.at, left, end, out) {
            cursor.go_to_next_section();
        }
        self.at(cursor).is_none()
    }

    /// Takes in what `chunk` wrote.
    pub(super) fn restore(&mut self, chunk: &[u8]) -> Result<(), DecodeError> {
        let (kind, rest) = SectionKind::of_chunk(chunk)?;
        if kind == self.keys.kind() {
            return self.keys.restore(rest);
        }
        let other = self.others.iter_mut().find(|other| other.kind() == kind);
        other.ok_or(kind.unknown())?.restore(rest)
    }

    /// Takes more of all sections into a hash; says whether that was the last of it.
    pub(super) fn digest(&self, as_of: &AsOf, cursor: &mut ChunkCursor, left: &mut u64, digest: &mut Digest) -> bool {
        while let Some(section) = self.at(cursor) {
            if !section.digest(as_of, &mut cursor.at, left, digest) {
                return false;
            }
            cursor.go_to_next_section();
        }
        true
    }
}
