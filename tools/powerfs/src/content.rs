//! The bytes of one file in two images: the durable one is in a store, the live one adds what was written and not synced.
//!
//! It knows nothing of names. Unsynced pages are in memory, sector by sector.

use std::collections::BTreeMap;

use wal::random::SplitMix64;

use crate::limits::{PAGE_BYTES, RUN_BYTES_MAX, SECTOR_BYTES, SECTORS_PER_PAGE, UNSYNCED_BYTES_MAX};
use crate::store::{Inode, Refusal, Remains, Store};

/// A page with something in it that was not synced.
#[derive(Clone, Debug)]
struct Page {
    bytes: Box<[u8; PAGE_BYTES]>,
    /// One bit for each sector that was written. The others hold nothing.
    written: u8,
}

/// A file's content.
#[derive(Clone, Debug)]
pub struct Content {
    file: Inode,
    /// Length of the durable image. Unit: bytes.
    durable_bytes: u64,
    /// What of the durable image the live one still shows: the rest was cut off. Invariant: <= `durable_bytes`, <= `live_bytes`.
    shown_bytes: u64,
    /// Length of the live image. Unit: bytes.
    live_bytes: u64,
    /// By their number in the file.
    pages: BTreeMap<u64, Page>,
}

/// What reaches the disk of a file that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tear {
    Nothing,
    Everything,
    Pages,
    Sectors,
}

impl Content {
    /// An empty file.
    #[must_use]
    pub fn new(file: Inode) -> Self {
        Self { file, durable_bytes: 0, shown_bytes: 0, live_bytes: 0, pages: BTreeMap::new() }
    }

    /// Length of the live image. Unit: bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.live_bytes
    }

    /// Bytes of pages that are held because they were not synced. Unit: bytes.
    #[must_use]
    pub fn unsynced_bytes(&self) -> usize {
        self.pages.len() * PAGE_BYTES
    }

    /// Reads the live image. Returns how much of `into` lies before its end.
    ///
    /// # Errors
    /// The store failed.
    pub fn read<S: Store>(&self, store: &S, offset: u64, into: &mut [u8]) -> Result<usize, Refusal> {
        let count = usize::try_from(self.live_bytes.saturating_sub(offset)).unwrap_or(usize::MAX).min(into.len());
        let into = &mut into[..count];
        let shown = usize::try_from(self.shown_bytes.saturating_sub(offset)).unwrap_or(usize::MAX).min(count);
        store.read(self.file, offset, &mut into[..shown])?;
        into[shown..].fill(0);
        let end = offset + count as u64;
        for (number, page) in self.pages.range(offset / PAGE_BYTES as u64..end.div_ceil(PAGE_BYTES as u64)) {
            for sector in written_sectors(page.written) {
                let from = number * PAGE_BYTES as u64 + (sector * SECTOR_BYTES) as u64;
                let (start, stop) = (from.max(offset), (from + SECTOR_BYTES as u64).min(end));
                if start < stop {
                    let source = &page.bytes[in_page(start)..in_page(start) + in_memory(stop - start)];
                    into[in_memory(start - offset)..in_memory(stop - offset)].copy_from_slice(source);
                }
            }
        }
        Ok(count)
    }

    /// Writes to the live image, which grows where needed.
    ///
    /// # Errors
    /// The store failed; nothing is written then, or a part of it.
    pub fn write<S: Store>(&mut self, store: &mut S, offset: u64, bytes: &[u8]) -> Result<(), Refusal> {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let count = (PAGE_BYTES - in_page(at)).min(bytes.len() - done);
            self.write_in_page(store, at, &bytes[done..done + count])?;
            done += count;
        }
        self.live_bytes = self.live_bytes.max(offset + bytes.len() as u64);
        if self.unsynced_bytes() > UNSYNCED_BYTES_MAX { self.settle(store) } else { Ok(()) }
    }

    fn write_in_page<S: Store>(&mut self, store: &S, at: u64, bytes: &[u8]) -> Result<(), Refusal> {
        let number = at / PAGE_BYTES as u64;
        let (from, to) = (in_page(at), in_page(at) + bytes.len());
        let sectors = from / SECTOR_BYTES..to.div_ceil(SECTOR_BYTES);
        // A sector that is written in part holds the rest of what was there.
        let mut whole = [0; PAGE_BYTES];
        if from % SECTOR_BYTES != 0 || to % SECTOR_BYTES != 0 {
            self.read(store, number * PAGE_BYTES as u64, &mut whole)?;
        }
        whole[from..to].copy_from_slice(bytes);
        let page = self.pages.entry(number).or_insert_with(|| Page { bytes: Box::new([0; PAGE_BYTES]), written: 0 });
        let (first, last) = (sectors.start * SECTOR_BYTES, sectors.end * SECTOR_BYTES);
        page.bytes[first..last].copy_from_slice(&whole[first..last]);
        sectors.for_each(|sector| page.written |= 1 << sector);
        Ok(())
    }

    /// Cuts the live image off, or extends it with zeros.
    pub fn set_length(&mut self, bytes: u64) {
        self.shown_bytes = self.shown_bytes.min(bytes);
        if bytes < self.live_bytes {
            self.pages.split_off(&bytes.div_ceil(PAGE_BYTES as u64));
            if let Some(page) = self.pages.get_mut(&(bytes / PAGE_BYTES as u64)) {
                let kept = in_page(bytes);
                page.bytes[kept..].fill(0);
                for sector in kept.div_ceil(SECTOR_BYTES)..SECTORS_PER_PAGE {
                    page.written &= !(1 << sector);
                }
            }
        }
        self.live_bytes = bytes;
    }

    /// A sync: the durable image becomes the live one, and the host is asked to make it so.
    ///
    /// # Errors
    /// The store failed. The sync may be tried again.
    pub fn sync<S: Store>(&mut self, store: &mut S) -> Result<(), Refusal> {
        self.settle(store)?;
        store.sync(self.file)
    }

    /// Everything reaches the disk.
    fn settle<S: Store>(&mut self, store: &mut S) -> Result<(), Refusal> {
        if self.shown_bytes < self.durable_bytes {
            store.set_length(self.file, self.shown_bytes)?;
            self.durable_bytes = self.shown_bytes;
        }
        self.write_sectors(store, |_, _| true)?;
        if self.durable_bytes != self.live_bytes {
            store.set_length(self.file, self.live_bytes)?;
        }
        self.pages.clear();
        self.durable_bytes = self.live_bytes;
        self.shown_bytes = self.live_bytes;
        Ok(())
    }

    /// Writes the sectors that `keeps` names, by page and sector, in long runs. Returns the end of the last one.
    fn write_sectors<S: Store>(
        &self,
        store: &mut S,
        mut keeps: impl FnMut(u64, usize) -> bool,
    ) -> Result<u64, Refusal> {
        let mut run: Vec<u8> = Vec::new();
        let mut begin = 0;
        let mut end = 0;
        for (number, page) in &self.pages {
            for sector in written_sectors(page.written) {
                let from = number * PAGE_BYTES as u64 + (sector * SECTOR_BYTES) as u64;
                if from >= self.live_bytes || !keeps(*number, sector) {
                    continue;
                }
                let count = in_memory((self.live_bytes - from).min(SECTOR_BYTES as u64));
                if begin + run.len() as u64 != from || run.len() >= RUN_BYTES_MAX {
                    flush(store, self.file, begin, &mut run)?;
                    begin = from;
                }
                run.extend_from_slice(&page.bytes[sector * SECTOR_BYTES..sector * SECTOR_BYTES + count]);
                end = from + count as u64;
            }
        }
        flush(store, self.file, begin, &mut run)?;
        Ok(end)
    }

    /// The power is gone: chance decides what of the unsynced reached the disk. The live image is the durable one afterwards.
    ///
    /// # Errors
    /// The store failed; the file is in no state to go on with.
    pub fn cut<S: Store>(&mut self, store: &mut S, random: &mut SplitMix64) -> Result<Remains, Refusal> {
        let written: u64 = self.pages.values().map(|page| u64::from(page.written.count_ones())).sum();
        let is_synced = written == 0 && self.live_bytes == self.durable_bytes && self.shown_bytes == self.durable_bytes;
        if is_synced {
            return Ok(Remains::default());
        }
        let tear = match random.below(5) {
            0 => Tear::Nothing,
            1 => Tear::Everything,
            2 => Tear::Pages,
            _ => Tear::Sectors,
        };
        let mut kept = 0;
        match tear {
            Tear::Nothing => {}
            Tear::Everything => {
                self.settle(store)?;
                kept = written;
            }
            // What was cut off before is cut off if anything written later is there.
            Tear::Pages | Tear::Sectors => kept = self.tear(store, random, tear)?,
        }
        self.pages.clear();
        self.live_bytes = self.durable_bytes;
        self.shown_bytes = self.durable_bytes;
        Ok(Remains { sectors_kept: kept, sectors_lost: written - kept, ..Remains::default() })
    }

    /// Some pages or sectors reach the disk; how many of a hundred is drawn first.
    fn tear<S: Store>(&mut self, store: &mut S, random: &mut SplitMix64, tear: Tear) -> Result<u64, Refusal> {
        if self.shown_bytes < self.durable_bytes {
            store.set_length(self.file, self.shown_bytes)?;
            self.durable_bytes = self.shown_bytes;
        }
        let of_hundred = random.below(101);
        let mut kept = 0;
        let mut last_page = None;
        let mut keeps_page = false;
        let end = self.write_sectors(store, |number, _| {
            let is_same_page = last_page == Some(number);
            if tear == Tear::Sectors || !is_same_page {
                keeps_page = random.chance(of_hundred, 100);
            }
            last_page = Some(number);
            kept += u64::from(keeps_page);
            keeps_page
        })?;
        // The length is written apart from the bytes: it covers what is there, and perhaps more, which reads as zeros.
        let length = if random.chance(1, 2) { self.live_bytes } else { self.durable_bytes.max(end) };
        if length != self.durable_bytes {
            store.set_length(self.file, length)?;
            self.durable_bytes = length;
        }
        Ok(kept)
    }
}

fn written_sectors(written: u8) -> impl Iterator<Item = usize> {
    (0..SECTORS_PER_PAGE).filter(move |sector| written & (1 << sector) != 0)
}

fn flush<S: Store>(store: &mut S, file: Inode, begin: u64, run: &mut Vec<u8>) -> Result<(), Refusal> {
    if !run.is_empty() {
        store.write(file, begin, run)?;
        run.clear();
    }
    Ok(())
}

fn in_page(offset: u64) -> usize {
    usize::try_from(offset % PAGE_BYTES as u64).expect("less than a page")
}

fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).expect("part of a buffer")
}

#[cfg(test)]
#[path = "content_tests.rs"]
mod tests;
