//! Who waits on a core for answers of shards: places that tickets name, bounded in number and in bytes of requests.
//!
//! A request that is given up keeps its place until its shard answers, since the answer names the place. As long as the shard's core
//! hangs that may be long; so what was given up leaves its room to others, up to a limit of its own. Calls that last keep their places for
//! long as well: they have a limit of their own, and their bytes do not count, since a shard that takes such a call bounds what it keeps.

use crate::types::ShardId;

/// The requests of a core that wait. `W` is whoever waits for one.
pub(super) struct Waits<W> {
    places: Vec<Option<Place<W>>>,
    free: Vec<u32>,
    /// Bytes of the requests that wait and were not given up. Unit: bytes.
    bytes: u64,
    given_up_count: usize,
    given_up_bytes: u64,
    /// Calls that last.
    lasting_count: usize,
    /// Limit of `bytes`, and of `given_up_bytes`. Unit: bytes.
    bytes_limit: u64,
    /// Requests that count, at most, and those that were given up.
    count_limit: usize,
    /// Limit of `lasting_count`.
    lasting_limit: usize,
}

/// A request that waits for its answer.
pub(super) struct Place<W> {
    /// `None`: nobody any more, and what still comes of the answer is dropped.
    pub(super) waiting: Option<W>,
    /// Number of the connection that it came on.
    pub(super) conn: u32,
    pub(super) shard: ShardId,
    /// Size of its payload. Unit: bytes.
    bytes: u32,
    /// It is a call that lasts.
    lasts: bool,
    /// Its shard was told, or is to be told, that nobody takes more of the answer.
    pub(super) is_unwanted: bool,
    is_given_up: bool,
}

impl<W> Place<W> {
    pub(super) const fn new(waiting: W, conn: u32, shard: ShardId, bytes: u32) -> Self {
        Self { waiting: Some(waiting), conn, shard, bytes, lasts: false, is_unwanted: false, is_given_up: false }
    }

    /// The place of a call that lasts.
    pub(super) const fn lasting(waiting: W, conn: u32, shard: ShardId) -> Self {
        Self { waiting: Some(waiting), conn, shard, bytes: 0, lasts: true, is_unwanted: false, is_given_up: false }
    }

    /// It is a call that lasts.
    pub(super) const fn lasts(&self) -> bool {
        self.lasts
    }
}

/// Why a request finds no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// Too many bytes of requests wait: this many.
    Bytes(u64),
    /// Too many requests wait.
    Count,
    /// Too many calls last: this many.
    Lasting(usize),
}

impl<W> Waits<W> {
    pub(super) const fn new(bytes_limit: u64, count_limit: usize, lasting_limit: usize) -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            bytes: 0,
            given_up_count: 0,
            given_up_bytes: 0,
            lasting_count: 0,
            bytes_limit,
            count_limit,
            lasting_limit,
        }
    }

    /// Keeps a request until its answer comes, and returns the number of its place.
    ///
    /// # Errors
    /// There is no place.
    pub(super) fn take(&mut self, request: Place<W>) -> Result<u32, (W, NoPlace)> {
        let sum = self.bytes + u64::from(request.bytes);
        let counted = self.places.len() - self.free.len() - self.given_up_count - self.lasting_count;
        let refused = if request.lasts {
            (self.lasting_count >= self.lasting_limit).then_some(NoPlace::Lasting(self.lasting_count))
        } else if sum > self.bytes_limit {
            Some(NoPlace::Bytes(self.bytes))
        } else {
            (counted >= self.count_limit).then_some(NoPlace::Count)
        };
        if let Some(why) = refused {
            return Err((request.waiting.expect("whoever asks waits"), why));
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            u32::try_from(self.places.len() - 1).expect("places are bounded")
        });
        self.bytes = sum;
        self.lasting_count += usize::from(request.lasts);
        assert!(self.bytes <= self.bytes_limit, "what counts is bounded");
        let before = self.places[number as usize].replace(request);
        assert!(before.is_none(), "a place is free before it is taken");
        Ok(number)
    }

    /// The request of this place, if there is one.
    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut Place<W>> {
        self.places.get_mut(number)?.as_mut()
    }

    /// The requests that wait, by their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Place<W>)> {
        (0..).zip(&self.places).filter_map(|(number, place)| Some((number, place.as_ref()?)))
    }

    /// Places that were ever taken.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The request was answered, so that its place is free. `None` if there is none.
    pub(super) fn remove(&mut self, number: usize) -> Option<Place<W>> {
        let place = self.places.get_mut(number)?.take()?;
        self.free.push(u32::try_from(number).expect("places are bounded"));
        if place.lasts {
            self.lasting_count -= 1;
        } else if place.is_given_up {
            self.given_up_count -= 1;
            self.given_up_bytes -= u64::from(place.bytes);
        } else {
            self.bytes -= u64::from(place.bytes);
        }
        Some(place)
    }

    /// Nobody waits for this request any more, and its answer will not come soon. Its bytes and its place no longer count against the
    /// limits, unless as many requests were given up as may wait.
    pub(super) fn give_up(&mut self, number: usize) {
        let counts = |place: &&mut Place<W>| !place.is_given_up && !place.lasts;
        let Some(place) = self.places.get_mut(number).and_then(Option::as_mut).filter(counts) else { return };
        let bytes = u64::from(place.bytes);
        if self.given_up_count < self.count_limit && self.given_up_bytes + bytes <= self.bytes_limit {
            place.is_given_up = true;
            self.given_up_count += 1;
            self.given_up_bytes += bytes;
            self.bytes -= bytes;
            assert!(self.given_up_bytes <= self.bytes_limit, "what was given up is bounded");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId::new(0);

    fn place(waits: &mut Waits<&'static str>, bytes: u32) -> Result<u32, NoPlace> {
        waits.take(Place::new("somebody", 1, SHARD, bytes)).map_err(|(_, why)| why)
    }

    #[test]
    fn what_is_given_up_leaves_its_room_to_others_once() {
        let mut waits = Waits::new(100, 1000, 0);
        let (first, second) = (place(&mut waits, 60).expect("room"), place(&mut waits, 40).expect("room"));
        assert_eq!(place(&mut waits, 1), Err(NoPlace::Bytes(100)));
        waits.give_up(first as usize);
        waits.give_up(first as usize);
        let third = place(&mut waits, 60).expect("the first leaves its room");
        assert_eq!(place(&mut waits, 1), Err(NoPlace::Bytes(100)));
        waits.give_up(third as usize);
        assert_eq!(place(&mut waits, 1), Err(NoPlace::Bytes(100)), "more than the limit is never held twice");
        // Answers come after all.
        for number in [first, second, third] {
            assert!(waits.remove(number as usize).is_some() && waits.remove(number as usize).is_none());
        }
        assert_eq!((waits.bytes, waits.given_up_bytes, waits.given_up_count), (0, 0, 0));
        assert_eq!(place(&mut waits, 100), Ok(third), "places are used again");
    }

    #[test]
    fn what_lasts_takes_no_room_from_other_requests_and_has_a_bound_of_its_own() {
        let mut waits = Waits::new(100, 2, 3);
        let lasting =
            |waits: &mut Waits<&'static str>| waits.take(Place::lasting("somebody", 1, SHARD)).map_err(|(_, why)| why);
        let first = lasting(&mut waits).expect("room");
        assert!(lasting(&mut waits).is_ok() && lasting(&mut waits).is_ok());
        assert_eq!(lasting(&mut waits), Err(NoPlace::Lasting(3)));
        assert!(place(&mut waits, 60).is_ok() && place(&mut waits, 40).is_ok());
        assert_eq!(place(&mut waits, 0), Err(NoPlace::Count));
        // It is answered some time, whatever its shard's core does meanwhile.
        waits.give_up(first as usize);
        assert_eq!((waits.given_up_count, lasting(&mut waits)), (0, Err(NoPlace::Lasting(3))));
        assert!(waits.remove(first as usize).is_some() && lasting(&mut waits).is_ok());
    }

    #[test]
    fn places_are_bounded_with_what_is_given_up_and_without() {
        const LIMIT: usize = 1000;
        let mut waits = Waits::new(u64::MAX, LIMIT, 0);
        let fill = |waits: &mut Waits<_>| (0..).take_while(|_| place(waits, 1).is_ok()).count();
        assert_eq!(fill(&mut waits), LIMIT);
        assert_eq!(place(&mut waits, 0), Err(NoPlace::Count));
        (0..LIMIT).for_each(|number| waits.give_up(number));
        assert_eq!(fill(&mut waits), LIMIT);
        (0..waits.len()).for_each(|number| waits.give_up(number));
        assert_eq!((fill(&mut waits), waits.len()), (0, 2 * LIMIT));
    }
}
