//! Checks of what peers say to each other.

use net::frame::{FRAME_HEADER_BYTES, Frame, FrameKind};
use net::testing::fuzz::written as written_frame;
use wal::EntryHeader;
use wal::format::ENTRY_HEADER_BYTES;

use super::assert_is_about;
use crate::call::{AnsweredBy, Part};
use crate::entries_error::EntriesError;
use crate::raft::AppendEntries;
use crate::replica::Event;
use crate::types::{Index, NodeId, ShardId, Term};
use crate::wire::{self, Incoming, kind};

/// Bytes in front of the body in an input.
const HEAD_BYTES: usize = 6;

/// No position, term or time comes near this; a decoder may take such a number for a smaller one, but no other.
const PLAIN_NUMBER_MAX: u64 = 1 << 48;

/// A frame of any kind from a peer.
///
/// The input: kind, flags, shard, id and length of what is not metadata, a byte each, and one byte whose bit 0 makes the
/// entries' checksums fit first and whose other bits choose, with the shard, the bit that is damaged; the body follows.
pub fn peer_message(data: &[u8]) {
    let Some((&[kind, flags, shard, id, rest_bytes, choice], body)) = data.split_first_chunk::<HEAD_BYTES>() else {
        return;
    };
    let (meta, rest) = body.split_at(body.len() - body.len().min(rest_bytes.into()));
    let mut rest = rest.to_vec();
    if choice & 1 == 1 {
        fit_checksums(&mut rest);
    }
    let (kind, flags, id) = (FrameKind::new(kind.into()), flags.into(), id.into());
    let frame = Frame { kind, flags, shard: shard.into(), id, meta, rest: &rest };
    match wire::decode(&frame) {
        Ok(incoming) => {
            check_written(&frame, &incoming);
            if let Incoming::Append(_, append, entries) = &incoming {
                assert_eq!(*entries, rest, "what is not metadata is the entries");
                check_entries(append, entries, usize::from(choice >> 1) << 8 | usize::from(shard));
            }
            check_length(&frame, &incoming);
            let _: Event<'_> = incoming.into_event(NodeId::new(1));
        }
        Err(error) => assert_is_about(&error, body.len()),
    }
}

fn header_at(bytes: &[u8]) -> Option<EntryHeader> {
    EntryHeader::parse(bytes.get(..ENTRY_HEADER_BYTES)?).ok()
}

/// Sets the checksum of every entry that the lengths in the headers make out.
fn fit_checksums(entries: &mut [u8]) {
    let mut left = entries;
    while let Some(header) = header_at(left) {
        let end = ENTRY_HEADER_BYTES.saturating_add(header.payload_len());
        let Some((entry, after)) = left.split_at_mut_checked(end) else { return };
        let crc = crc32fast::hash(entry.get(4..).unwrap_or_default());
        entry.iter_mut().zip(crc.to_le_bytes()).for_each(|(to, from)| *to = from);
        left = after;
    }
}

/// What was taken apart, put together again.
fn written(incoming: &Incoming<'_>, shard: ShardId) -> Vec<u8> {
    let mut out = Vec::new();
    match incoming {
        Incoming::Message(speaker, message) => wire::encode_message(message, *speaker, shard, &mut out),
        Incoming::Append(speaker, append, entries) => {
            assert_eq!(append.first, append.prev.index.next());
            let numbers = [
                append.term.get(),
                speaker.incarnation,
                u64::from(speaker.is_joining),
                append.life,
                append.prev.term.get(),
                append.prev.index.get(),
                append.prev_lineage.get(),
                append.last.get(),
                append.commit_index.get(),
            ];
            let meta: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            let frame =
                Frame { kind: kind::APPEND_ENTRIES, flags: 0, shard: shard.get(), id: 0, meta: &meta, rest: entries };
            out = written_frame(&frame);
        }
        Incoming::RelayCall { number, call } => {
            assert_eq!(call.kind.answered_by(), AnsweredBy::Leader, "nothing else is passed on");
            assert_eq!(call.meta.shard, shard);
            wire::encode_relay_call(*number, call, &mut out);
        }
        Incoming::RelayReply { number, part } => {
            wire::encode_relay_reply(*number, part.as_ref().map(|bytes| *bytes), usize::MAX, &mut out);
        }
    }
    out
}

/// A decoder that accepts a frame has understood all of it.
fn check_written(frame: &Frame<'_>, incoming: &Incoming<'_>) {
    let bytes = written(incoming, ShardId::new(frame.shard));
    let numbers = match incoming {
        Incoming::Message(..) | Incoming::Append(..) => frame.meta,
        Incoming::RelayCall { .. } | Incoming::RelayReply { .. } => &[],
    };
    let mut numbers = numbers.chunks_exact(size_of::<u64>()).filter_map(|bytes| bytes.try_into().ok());
    if numbers.all(|number| u64::from_le_bytes(number) < PLAIN_NUMBER_MAX) {
        assert_eq!(bytes, written_frame(frame), "{incoming:?}");
        return;
    }
    let meta_end = bytes.len() - frame.rest.len();
    let again = Frame { meta: bytes.get(FRAME_HEADER_BYTES..meta_end).unwrap_or_default(), ..*frame };
    let incoming = wire::decode(&again).expect("what it makes of great numbers stands");
    assert_eq!(written(&incoming, ShardId::new(frame.shard)), bytes, "{incoming:?}");
}

/// A message of fixed length has no other length.
fn check_length(frame: &Frame<'_>, incoming: &Incoming<'_>) {
    let is_refusal = matches!(incoming, Incoming::RelayReply { part: Part::Last(Err(_)), .. });
    if !is_refusal && !matches!(incoming, Incoming::Message(..) | Incoming::Append(..)) {
        return;
    }
    let longer = [frame.meta, &[0]].concat();
    let shorter = frame.meta.split_last().map(|(_, shorter)| shorter).expect("a message has a term");
    for meta in [longer.as_slice(), shorter] {
        assert!(wire::decode(&Frame { meta, ..*frame }).is_err(), "{} bytes are {incoming:?} too", meta.len());
    }
}

/// Entries are those announced, whole and in order, or none of them is taken.
fn check_entries(append: &AppendEntries, bytes: &[u8], damage: usize) {
    let entries = match wire::parse_entries(append, bytes) {
        Ok(entries) => entries,
        Err(error) => return check_entries_error(append, bytes, &error),
    };
    assert_eq!(entries.len() as u64, append.entries_count(), "{append:?}");
    let mut written = Vec::new();
    let mut due = append.first;
    for entry in &entries {
        assert_eq!(entry.id().index, due, "{append:?}");
        assert!(entry.id().term <= append.term && entry.header.kind().is_entry(), "{entry:?} of {append:?}");
        let fresh = EntryHeader::new(entry.id(), entry.header.kind(), entry.payload);
        assert_eq!(fresh.as_bytes(), entry.header.as_bytes(), "its checksum is its own");
        written.extend_from_slice(fresh.as_bytes());
        written.extend_from_slice(entry.payload);
        due = due.next();
    }
    assert_eq!(written, bytes, "{append:?}");
    if entries.is_empty() {
        return;
    }
    let mut damaged = bytes.to_vec();
    let bit = damage % (damaged.len() * 8);
    damaged.iter_mut().skip(bit / 8).take(1).for_each(|byte| *byte ^= 1 << (bit % 8));
    assert!(wire::parse_entries(append, &damaged).is_err(), "bit {bit} makes no difference to {append:?}");
    check_other_announcements(append, bytes, entries.iter().map(|entry| entry.id().term).max());
}

fn check_entries_error(append: &AppendEntries, bytes: &[u8], error: &EntriesError) {
    let is_carried = |index: Index| index >= append.first && index <= append.last;
    match error {
        EntriesError::Entry { index, .. } | EntriesError::Form { index, .. } => {
            assert!(is_carried(*index), "{error} of {append:?}")
        }
        EntriesError::Sequence { expected, got } => {
            assert!(is_carried(*expected) && (got.index != *expected || got.term > append.term), "{error}");
        }
        EntriesError::TooLarge { .. } => panic!("a decoder knows no log: {error}"),
        EntriesError::Decode(error) => assert_is_about(error, bytes.len()),
    }
}

/// The same entries under another announcement are refused.
fn check_other_announcements(append: &AppendEntries, bytes: &[u8], term_max: Option<Term>) {
    let mut others = vec![AppendEntries { last: Index::new(append.last.get() - 1), ..*append }];
    if append.last.get() < PLAIN_NUMBER_MAX {
        let mut shifted = AppendEntries { last: append.last.next(), ..*append };
        others.push(shifted);
        shifted.prev.index = append.first;
        shifted.first = append.first.next();
        others.push(shifted);
    }
    if let Some(term) = term_max.and_then(|term| term.get().checked_sub(1)) {
        others.push(AppendEntries { term: Term::new(term), ..*append });
    }
    for other in others {
        assert!(wire::parse_entries(&other, bytes).is_err(), "taken for {append:?} and for {other:?}");
    }
}
