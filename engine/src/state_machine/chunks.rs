//! Keys and versions as a section: written out as of a revision, in chunks, and read back. Layout: `docs/format/state.md`.

use std::ops::Bound;

use codec::{DecodeError, Reader};

use super::digest::Digest;
use super::history::Version;
use super::mvcc::Mvcc;
use super::section::{AsOf, Section, SectionCursor, SectionKind};
use super::values::ValueRef;
use crate::limits::DIGEST_VALUE_BYTES;
use crate::types::Revision;
use api::command::KEY_BYTES_MAX;

/// Its records are keys, and their parts are versions. What is older than a revision never changes, so a number of versions names them
/// for good.
impl Section for Mvcc {
    fn kind(&self) -> SectionKind {
        SectionKind::KEYS
    }

    fn bytes(&self) -> u64 {
        self.size_bytes()
    }

    fn chunk(
        &self,
        as_of: &AsOf,
        cursor: &mut SectionCursor,
        left: &mut u64,
        bytes_limit: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        assert!(*left > 0, "a chunk visits a key at least");
        assert!(!cursor.record.is_empty() || cursor.taken == 0, "versions were written of no key");
        let at = std::mem::take(cursor);
        let from = if at.record.is_empty() { Bound::Unbounded } else { Bound::Included(&at.record[..]) };
        let start = out.len();
        for (key, history) in self.keys().range((from, Bound::Unbounded)) {
            let written = if key == at.record { at.taken } else { 0 };
            let mut versions = history.all().skip(written).take_while(|version| version.mod_revision <= as_of.revision);
            let mut next = versions.next();
            let is_full = next.is_some() && out.len() >= bytes_limit && out.len() > start;
            if *left == 0 || is_full {
                *cursor = SectionCursor { record: key.to_vec(), taken: written };
                return false;
            }
            // A key that came later costs its visit.
            *left -= 1;
            if next.is_none() {
                continue;
            }
            let count_at = begin_key(key, out);
            let mut count = 0;
            while let Some(version) = next.filter(|_| count == 0 || (*left > 0 && out.len() < bytes_limit)) {
                self.write_version(version, out);
                *left -= u64::from(count > 0);
                count += 1;
                next = versions.next();
            }
            assert!(count > 0, "a key is written with a version at least");
            end_key(count_at, count, out);
            if next.is_some() {
                *cursor = SectionCursor { record: key.to_vec(), taken: written + count as usize };
                return false;
            }
        }
        true
    }

    fn restore(&mut self, chunk: &[u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(chunk);
        while !reader.clone().rest().is_empty() {
            self.restore_key(&mut reader)?;
        }
        Ok(())
    }

    fn digest(&self, as_of: &AsOf, cursor: &mut SectionCursor, left: &mut u64, digest: &mut Digest) -> bool {
        assert!(!cursor.record.is_empty() || cursor.taken == 0, "versions were taken in of no key");
        let at = std::mem::take(cursor);
        let from = if at.record.is_empty() { Bound::Unbounded } else { Bound::Included(&at.record[..]) };
        for (key, history) in self.keys().range((from, Bound::Unbounded)) {
            let mut taken = if key == at.record { at.taken } else { 0 };
            let versions = history.all().take_while(|version| version.mod_revision <= as_of.revision).skip(taken);
            // A key that came later costs its visit.
            let mut cost = 1;
            for version in versions {
                if *left == 0 {
                    break;
                }
                if taken == 0 {
                    digest.add(u64::from(crc32fast::hash(key)) << 32 | key.len() as u64);
                }
                taken += 1;
                let value = self.value_of(version);
                digest.add(version.mod_revision.get());
                digest.add(version.create_revision.get());
                digest.add(version.version);
                digest.add(version.lease);
                digest.add(u64::from(crc32fast::hash(value)) << 32 | value.len() as u64);
                *left = left.saturating_sub(1 + value.len() as u64 / DIGEST_VALUE_BYTES);
                cost = 0;
            }
            if *left == 0 {
                *cursor = SectionCursor { record: key.to_vec(), taken };
                return false;
            }
            *left -= cost;
        }
        true
    }
}

/// Appends the front of a key's record; returns where its number of versions belongs.
fn begin_key(key: &[u8], out: &mut Vec<u8>) -> usize {
    let len = u32::try_from(key.len()).expect("keys are below 4 GiB");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(key);
    out.len() - key.len() - 4
}

fn end_key(count_at: usize, count: u32, out: &mut [u8]) {
    assert!(count_at + 4 <= out.len(), "a number of versions lies in what was written");
    out[count_at..count_at + 4].copy_from_slice(&count.to_le_bytes());
}

impl Mvcc {
    fn value_of(&self, version: &Version) -> &[u8] {
        if version.is_deleted() { &[] } else { self.values().get(version.value) }
    }

    fn write_version(&self, version: &Version, out: &mut Vec<u8>) {
        let value = self.value_of(version);
        let numbers = [version.mod_revision.get(), version.create_revision.get(), version.version, version.lease];
        for number in numbers {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let len = u32::try_from(value.len()).expect("values are below 4 GiB");
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(value);
    }

    fn restore_key(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        let key_len = reader.u32("the length of a key")? as usize;
        if key_len > KEY_BYTES_MAX {
            return Err(DecodeError::TooLong { what: "a key", got: key_len, limit: KEY_BYTES_MAX });
        }
        let count = reader.u32("the number of a key's versions")?;
        let key = reader.bytes("a key", key_len)?;
        let last = self.keys().last().map(|(last, history)| (last, history.last().mod_revision));
        // A key goes on in the next chunk if its versions did not fit; otherwise keys only ascend.
        let mut above = match last {
            Some((last, revision)) if last == key => revision,
            Some((last, _)) if last > key => return Err(out_of_order("a key of a chunk", key_len as u64)),
            _ => Revision::new(0),
        };
        if key.is_empty() || count == 0 {
            return Err(out_of_order("a key without bytes or versions", count.into()));
        }
        for _ in 0..count {
            let (version, value) = read_version(reader)?;
            if version.is_deleted() && above.get() == 0 {
                return Err(out_of_order("the first version of a key", 0));
            }
            if version.mod_revision <= above {
                return Err(out_of_order("the revision of a version", version.mod_revision.get()));
            }
            above = version.mod_revision;
            self.push_version(key, version, value);
        }
        Ok(())
    }
}

const fn out_of_order(what: &'static str, got: u64) -> DecodeError {
    DecodeError::Unknown { what, got }
}

fn read_version<'a>(reader: &mut Reader<'a>) -> Result<(Version, &'a [u8]), DecodeError> {
    let mod_revision = Revision::new(reader.u64("the revision of a version")?);
    let create_revision = Revision::new(reader.u64("the create revision of a version")?);
    let version = reader.u64("the number of a version")?;
    let lease = reader.u64("the lease of a version")?;
    let value_len = reader.u32("the length of a value")? as usize;
    match reader.u32("the reserved bytes of a version")? {
        0 => {}
        got => return Err(DecodeError::Unknown { what: "a reserved byte of a version", got: got.into() }),
    }
    let value = reader.bytes("a value", value_len)?;
    let is_deletion = version == 0;
    let says_nothing = create_revision.get() == 0 && lease == 0 && value.is_empty();
    if is_deletion != (create_revision.get() == 0) || (is_deletion && !says_nothing) || create_revision > mod_revision {
        return Err(out_of_order("the create revision of a version", create_revision.get()));
    }
    Ok((Version { mod_revision, create_revision, version, lease, value: ValueRef::default() }, value))
}
