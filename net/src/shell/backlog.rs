//! Bytes that wait to be written to a connection, in their order.
//!
//! Frames are appended to a vector, and that is all while the other side takes what it is sent. What the other side does not take is set
//! aside in pieces: anonymous mappings of one size. They hold no memory beyond the pages that were written, vectors that grow hold up to
//! twice as much; and the system has them back as soon as they are dropped, which an allocator decides for vectors. Does no I/O.

use std::cell::RefCell;
use std::collections::VecDeque;

use memmap2::MmapMut;

use super::limits::{PIECE_BYTES, SPARE_PIECES_MAX, WRITE_BUFFER_KEPT_BYTES_MAX, WRITE_PIECE_BYTES_MAX};

/// Pieces that nobody uses.
#[derive(Debug, Default)]
pub(super) struct SparePieces(RefCell<Vec<MmapMut>>);

impl SparePieces {
    /// `None` if the system gives no memory.
    fn take(&self) -> Option<Piece> {
        let spare = self.0.borrow_mut().pop();
        let map = spare.or_else(|| MmapMut::map_anon(PIECE_BYTES).ok())?;
        Some(Piece { map, start: 0, end: 0 })
    }

    fn give(&self, piece: Piece) {
        let mut spare = self.0.borrow_mut();
        if spare.len() < SPARE_PIECES_MAX {
            spare.push(piece.map);
        }
    }
}

/// Some of the bytes. Invariant: `start <= end <= PIECE_BYTES`.
#[derive(Debug)]
struct Piece {
    map: MmapMut,
    start: usize,
    end: usize,
}

impl Piece {
    /// Adds as many bytes as there is room for; says how many.
    fn fill(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(PIECE_BYTES - self.end);
        self.map[self.end..self.end + count].copy_from_slice(&bytes[..count]);
        self.end += count;
        count
    }
}

/// The bytes that wait for one connection.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Bytes of `first` that were written.
    written: usize,
    /// What is written now, if nothing was set aside.
    first: Vec<u8>,
    /// What was set aside. Invariant: empty while anything of `first` is left.
    pieces: VecDeque<Piece>,
    /// Unit: bytes.
    pieces_bytes: usize,
    /// What came last.
    last: Vec<u8>,
}

impl Backlog {
    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.first.len() - self.written + self.pieces_bytes + self.last.len()
    }

    /// Where the next bytes are appended.
    pub(super) fn last_mut(&mut self) -> &mut Vec<u8> {
        &mut self.last
    }

    /// The next bytes to be written, as many as are written in one go; empty if nothing waits.
    pub(super) fn next(&mut self) -> &[u8] {
        if !self.is_amid() {
            self.first.clear();
            self.written = 0;
            if self.first.capacity() > WRITE_BUFFER_KEPT_BYTES_MAX {
                self.first = Vec::new();
            }
            std::mem::swap(&mut self.first, &mut self.last);
        }
        let first = match self.pieces.front() {
            Some(piece) => &piece.map[piece.start..piece.end],
            None => &self.first[self.written..],
        };
        &first[..first.len().min(WRITE_PIECE_BYTES_MAX)]
    }

    /// More is left of what waited when the writing of it began.
    pub(super) fn is_amid(&self) -> bool {
        self.written < self.first.len() || !self.pieces.is_empty()
    }

    /// So many of the bytes that `next` gave were written.
    pub(super) fn advance(&mut self, count: usize, spare: &SparePieces) {
        let Some(piece) = self.pieces.front_mut() else {
            self.written += count;
            assert!(self.written <= self.first.len(), "no more was written than waited");
            return;
        };
        piece.start += count;
        self.pieces_bytes -= count;
        assert!(piece.start <= piece.end, "no more was written than waited");
        if piece.start == piece.end
            && let Some(piece) = self.pieces.pop_front()
        {
            spare.give(piece);
        }
    }

    /// Moves what vectors hold into pieces, if those vectors are larger than `bytes_max`. Without memory for pieces it all stays.
    /// Gives the vectors back, empty.
    pub(super) fn set_aside(&mut self, bytes_max: usize, spare: &SparePieces, mut give: impl FnMut(Vec<u8>)) {
        if self.first.capacity().max(self.last.capacity()) <= bytes_max {
            return;
        }
        let unwritten = &self.first[self.written..];
        assert!(unwritten.is_empty() || self.pieces.is_empty(), "what is written now was there before");
        let moved = unwritten.len() + self.last.len();
        let room = self.pieces.back().map_or(0, |piece| PIECE_BYTES - piece.end);
        let missing = moved.saturating_sub(room).div_ceil(PIECE_BYTES);
        let new: Option<Vec<Piece>> = (0..missing).map(|_| spare.take()).collect();
        let Some(new) = new else { return };
        let mut next = self.pieces.len().saturating_sub(1);
        self.pieces.extend(new);
        for mut left in [unwritten, &self.last] {
            while !left.is_empty() {
                let filled = self.pieces[next].fill(left);
                left = &left[filled..];
                next += usize::from(!left.is_empty());
            }
        }
        self.pieces_bytes += moved;
        self.written = 0;
        for vector in [&mut self.first, &mut self.last] {
            vector.clear();
            give(std::mem::take(vector));
        }
    }

    /// Nothing waits: gives the vectors back, so that connections without anything to write hold none.
    pub(super) fn give_vectors(&mut self, mut give: impl FnMut(Vec<u8>)) {
        assert!(self.len() == 0, "nothing is lost with them");
        self.written = 0;
        for vector in [&mut self.first, &mut self.last] {
            vector.clear();
            give(std::mem::take(vector));
        }
    }

    /// Gives a vector to append to, if there is none.
    pub(super) fn take_vector(&mut self, take: impl FnOnce() -> Vec<u8>) {
        if self.last.capacity() == 0 {
            self.last = take();
        }
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A backlog beside what must come out of it.
    #[derive(Default)]
    struct Scene {
        backlog: Backlog,
        spare: SparePieces,
        expected: VecDeque<u8>,
        next: u8,
    }

    impl Scene {
        fn append(&mut self, bytes: usize) {
            for _ in 0..bytes {
                self.next = self.next.wrapping_mul(31).wrapping_add(7);
                self.backlog.last_mut().push(self.next);
                self.expected.push_back(self.next);
            }
        }

        fn set_aside(&mut self) {
            self.backlog.set_aside(0, &self.spare, |vector| assert!(vector.is_empty()));
        }

        /// Writes so many bytes, or what is given at once.
        fn write(&mut self, bytes: usize) -> usize {
            let next = self.backlog.next();
            let written = next.len().min(bytes);
            assert!(next[..written].iter().eq(self.expected.range(..written)), "in their order");
            self.expected.drain(..written);
            self.backlog.advance(written, &self.spare);
            assert_eq!(self.backlog.len(), self.expected.len());
            written
        }
    }

    #[test]
    fn bytes_come_out_in_their_order_whatever_is_set_aside_meanwhile() {
        for step in [1, 1_000, PIECE_BYTES - 1, PIECE_BYTES, 3 * PIECE_BYTES + 5] {
            let mut scene = Scene::default();
            for round in 0..6 {
                scene.append(step);
                if round % 2 == 0 {
                    scene.write(step / 3);
                }
                if round % 3 > 0 {
                    scene.set_aside();
                }
            }
            while scene.write(70_000) > 0 {}
            assert!(scene.expected.is_empty() && !scene.backlog.is_amid());
        }
    }

    #[test]
    fn what_is_set_aside_takes_no_vectors_and_as_many_pieces_as_it_fills() {
        let mut scene = Scene::default();
        scene.append(PIECE_BYTES / 2);
        scene.write(100);
        scene.append(PIECE_BYTES / 2);
        scene.set_aside();
        scene.append(50);
        scene.set_aside();
        assert_eq!(scene.backlog.first.capacity() + scene.backlog.last.capacity(), 0);
        assert_eq!(scene.backlog.pieces.len(), 1);
        scene.append(51);
        scene.set_aside();
        assert_eq!(scene.backlog.pieces.len(), 2);
        while scene.write(usize::MAX) > 0 {}
        assert_eq!(scene.spare.0.borrow().len(), 2, "pieces are kept for the next");
        scene.backlog.give_vectors(|vector| assert!(vector.is_empty()));
    }

    #[test]
    fn small_vectors_stay_where_they_are() {
        let mut scene = Scene::default();
        scene.append(100);
        scene.backlog.set_aside(1 << 10, &scene.spare, |_| ());
        assert!(scene.backlog.pieces.is_empty() && scene.backlog.last.len() == 100);
    }
}
