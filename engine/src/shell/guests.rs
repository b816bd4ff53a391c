//! Connections that were let in: how many there may be, and which of them goes when there are too many.
//!
//! Without TLS anybody can say a sound hello and then nothing, so a place is not for ever. When all are taken, the idle
//! connection that was silent longest makes room: first those that never asked for anything, then the others. An address that has
//! most of the places gives up its own. A connection with something under way keeps its place, but not by leaving its answers unread.
//! Few connections may stay open without a place, until the other side has read why. Knows no sockets.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::Instant;

use prometheus_client::metrics::counter::Counter;

use super::greetings::network_of;
use super::limits::{ADDRESS_GUESTS_MIN, GUEST_LOOKS_MAX, LEAVING};

/// A connection that has a place.
pub(super) trait Guest {
    /// When it last asked for something.
    fn asked_at(&self) -> Option<Instant>;

    /// True if nothing is under way on it: if it ends now, nobody loses an answer that it would have taken.
    fn is_idle(&self) -> bool;

    /// Ends it in order, because others need its place. To be called only while it is idle.
    fn make_room(&self);

    /// Ends it at once. It has no place any more, and connections that left later need its room.
    fn cut(&self);
}

/// The order in which guests make room. Those that never asked stand first, by their numbers, which grow with time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    asked_at: Option<Instant>,
    number: u64,
}

/// The guests of one core.
#[derive(Debug)]
pub(super) struct Guests<G> {
    /// Guests of all cores of the node.
    total: Arc<AtomicUsize>,
    /// Guests of the node, at most.
    limit: usize,
    made_room: Counter,
    seats: RefCell<Seats<G>>,
    /// Connections without a place that are still open, in the order in which they left.
    leaving: RefCell<VecDeque<Rc<Seat<G>>>>,
}

#[derive(Debug)]
struct Seats<G> {
    last_number: u64,
    /// Each at the turn that it had when it was last looked at; it may have asked since.
    by_turn: BTreeMap<Turn, Rc<Seat<G>>>,
    /// The same turns for each address.
    by_network: BTreeSet<(IpAddr, Turn)>,
    counts: BTreeMap<IpAddr, usize>,
    /// The counts with their addresses, the largest last.
    sizes: BTreeSet<(usize, IpAddr)>,
}

#[derive(Debug)]
struct Seat<G> {
    guest: Rc<G>,
    network: IpAddr,
    turn: Cell<Turn>,
    is_taken: Cell<bool>,
    /// It has left, and connections that left later need its room.
    is_pushed_out: Cell<bool>,
    /// The task that waits for that.
    waker: RefCell<Option<Waker>>,
}

/// A place, for as long as a connection is open. It is free when this is dropped, and before that when it was given up or when the
/// guest had to make room.
#[derive(Debug)]
pub(super) struct GuestPlace<G: Guest> {
    guests: Rc<Guests<G>>,
    seat: Rc<Seat<G>>,
    made_room: bool,
}

impl<G: Guest> Guests<G> {
    /// The guests of a core. `total` counts those of all cores, of which there may be `limit`; `made_room` those that had to go.
    pub(super) fn new(total: Arc<AtomicUsize>, limit: usize, made_room: Counter) -> Rc<Self> {
        let seats = Seats {
            last_number: 0,
            by_turn: BTreeMap::new(),
            by_network: BTreeSet::new(),
            counts: BTreeMap::new(),
            sizes: BTreeSet::new(),
        };
        Rc::new(Self { total, limit, made_room, seats: RefCell::new(seats), leaving: RefCell::default() })
    }

    /// Takes a place. If there is none, an idle guest of this core makes room; `None` if all of them are busy.
    pub(super) fn enter(self: &Rc<Self>, guest: &Rc<G>, address: IpAddr) -> Option<GuestPlace<G>> {
        self.enter_at(guest, address, Instant::now())
    }

    fn enter_at(self: &Rc<Self>, guest: &Rc<G>, address: IpAddr, now: Instant) -> Option<GuestPlace<G>> {
        let count = self.total.fetch_add(1, Ordering::Relaxed) + 1;
        let made_room = count > self.limit;
        if made_room && !self.make_room(now) {
            self.total.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let mut seats = self.seats.borrow_mut();
        seats.last_number += 1;
        let turn = Cell::new(Turn { asked_at: None, number: seats.last_number });
        let seat = Rc::new(Seat {
            guest: Rc::clone(guest),
            network: network_of(address),
            turn,
            is_taken: Cell::new(true),
            is_pushed_out: Cell::new(false),
            waker: RefCell::default(),
        });
        seats.insert(&seat);
        seats.resize(seat.network, |count| count + 1);
        Some(GuestPlace { guests: Rc::clone(self), seat, made_room })
    }

    /// Lets the idle guest go that was silent longest. Says whether there was one.
    fn make_room(&self, now: Instant) -> bool {
        let leaving = {
            let mut seats = self.seats.borrow_mut();
            let Some(seat) = seats.oldest_idle(now) else { return false };
            seats.leave(&seat);
            seat
        };
        self.total.fetch_sub(1, Ordering::Relaxed);
        self.made_room.inc();
        leaving.guest.make_room();
        self.begin_to_leave(leaving);
        true
    }

    /// A connection has no place any more. It may stay open until too many others have left since: those that never asked for
    /// anything are ended first, then those that left first.
    fn begin_to_leave(&self, seat: Rc<Seat<G>>) {
        let pushed_out = {
            let mut leaving = self.leaving.borrow_mut();
            leaving.push_back(seat);
            if leaving.len() <= LEAVING {
                return;
            }
            let of_stranger = leaving.iter().position(|seat| seat.guest.asked_at().is_none());
            leaving.remove(of_stranger.unwrap_or_default()).expect("there are many")
        };
        pushed_out.is_pushed_out.set(true);
        if let Some(waker) = pushed_out.waker.borrow_mut().take() {
            waker.wake();
        }
        pushed_out.guest.cut();
    }

    /// Guests of the node.
    pub(super) fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Guests of the node, at most.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Frees a place. Returns true if it was taken.
    fn free(&self, seat: &Seat<G>) -> bool {
        if !seat.is_taken.get() {
            return false;
        }
        self.seats.borrow_mut().leave(seat);
        self.total.fetch_sub(1, Ordering::Relaxed);
        true
    }
}

impl<G: Guest> Seats<G> {
    fn oldest_idle(&mut self, now: Instant) -> Option<Rc<Seat<G>>> {
        for look in 0..GUEST_LOOKS_MAX {
            // One address whose guests are all busy must not hide the others.
            let seat = self.first(look < GUEST_LOOKS_MAX / 2)?;
            let turn = seat.turn.get();
            let asked_at = turn.asked_at.max(seat.guest.asked_at());
            let is_idle = seat.guest.is_idle();
            if is_idle && asked_at == turn.asked_at {
                return Some(seat);
            }
            self.by_turn.remove(&turn);
            self.by_network.remove(&(seat.network, turn));
            // After all that are as old.
            self.last_number += 1;
            seat.turn.set(Turn { asked_at: if is_idle { asked_at } else { Some(now) }, number: self.last_number });
            self.insert(&seat);
        }
        None
    }

    /// Whose turn it is; of the address that has most of the places, if `spares_others`.
    fn first(&self, spares_others: bool) -> Option<Rc<Seat<G>>> {
        let (first, seat) = self.by_turn.first_key_value()?;
        let has_most = |count: usize| count > ADDRESS_GUESTS_MIN && count * 2 > self.by_turn.len();
        let crowd =
            self.sizes.last().filter(|(count, _)| spares_others && has_most(*count)).map(|(_, network)| *network);
        let of_crowd = crowd.and_then(|network| {
            let (_, turn) = self.by_network.range((network, Turn::default())..).next()?;
            // Who never asked goes before all others, whatever the address.
            let is_as_idle = turn.asked_at.is_some() <= first.asked_at.is_some();
            self.by_turn.get(turn).filter(|_| is_as_idle)
        });
        Some(Rc::clone(of_crowd.unwrap_or(seat)))
    }
}

impl<G> Seats<G> {
    fn insert(&mut self, seat: &Rc<Seat<G>>) {
        let turn = seat.turn.get();
        assert!(self.by_turn.insert(turn, Rc::clone(seat)).is_none(), "each guest has a turn of its own");
        assert!(self.by_network.insert((seat.network, turn)), "each guest has a turn of its own");
    }

    fn resize(&mut self, network: IpAddr, change: impl Fn(usize) -> usize) {
        let before = self.counts.get(&network).copied().unwrap_or(0);
        let after = change(before);
        assert!(before.abs_diff(after) == 1, "guests come and go one by one");
        self.sizes.remove(&(before, network));
        if after == 0 {
            self.counts.remove(&network);
        } else {
            self.counts.insert(network, after);
            self.sizes.insert((after, network));
        }
    }

    fn leave(&mut self, seat: &Seat<G>) {
        assert!(seat.is_taken.replace(false), "a place is left once");
        assert!(self.by_turn.remove(&seat.turn.get()).is_some(), "whoever has a place has a turn");
        self.by_network.remove(&(seat.network, seat.turn.get()));
        self.resize(seat.network, |count| count - 1);
    }
}

impl<G: Guest> Drop for GuestPlace<G> {
    fn drop(&mut self) {
        if !self.guests.free(&self.seat) {
            self.guests.leaving.borrow_mut().retain(|leaving| !Rc::ptr_eq(leaving, &self.seat));
        }
    }
}

impl<G: Guest> GuestPlace<G> {
    /// True if another guest had to go for this one. Until it has, one connection more is open than there are places.
    pub(super) fn made_room(&self) -> bool {
        self.made_room
    }

    /// Gives the place up; the connection may stay open until it is pushed out.
    pub(super) fn give_up(&self) {
        if self.guests.free(&self.seat) {
            self.guests.begin_to_leave(Rc::clone(&self.seat));
        }
    }

    /// Waits until connections that left later need the room of this one, which has no place any more. It must be closed then. One task
    /// may wait.
    pub(super) async fn pushed_out(&self) {
        poll_fn(|cx| {
            if self.seat.is_pushed_out.get() {
                return Poll::Ready(());
            }
            *self.seat.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A guest that does what the test says.
    #[derive(Debug, Default)]
    struct Scripted {
        asked_at: Cell<Option<Instant>>,
        is_busy: Cell<bool>,
        is_gone: Cell<bool>,
        is_cut: Cell<bool>,
    }

    impl Guest for Scripted {
        fn asked_at(&self) -> Option<Instant> {
            self.asked_at.get()
        }

        fn is_idle(&self) -> bool {
            !self.is_busy.get()
        }

        fn make_room(&self) {
            assert!(!self.is_gone.replace(true), "once");
        }

        fn cut(&self) {
            assert!(!self.is_cut.replace(true), "once");
        }
    }

    const fn address(host: u8) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, host))
    }

    /// Guests of one core with their places, and a clock.
    struct Scene {
        guests: Rc<Guests<Scripted>>,
        entered: Vec<(Rc<Scripted>, Option<GuestPlace<Scripted>>)>,
        now: Instant,
    }

    impl Scene {
        fn new(limit: usize) -> Self {
            Self {
                guests: Guests::new(Arc::default(), limit, Counter::default()),
                entered: Vec::new(),
                now: Instant::now(),
            }
        }

        /// Another guest comes; says whether it got a place.
        fn enter(&mut self, host: u8) -> bool {
            let guest = Rc::new(Scripted::default());
            let place = self.guests.enter_at(&guest, address(host), self.now);
            let is_in = place.is_some();
            self.entered.push((guest, place));
            is_in
        }

        fn asks(&mut self, number: usize) {
            self.now += Duration::from_millis(1);
            self.entered[number].0.asked_at.set(Some(self.now));
        }

        /// The numbers of those that had to make room, in ascending order.
        fn gone(&self) -> Vec<usize> {
            let is_gone = |(_, (guest, _)): &(usize, &(Rc<Scripted>, _))| guest.is_gone.get();
            self.entered.iter().enumerate().filter(is_gone).map(|(number, _)| number).collect()
        }
    }

    #[test]
    fn who_never_asked_goes_first_and_then_who_was_silent_longest() {
        let mut scene = Scene::new(4);
        for host in 1..=4 {
            assert!(scene.enter(host));
        }
        for number in [2, 0, 3] {
            scene.asks(number);
        }
        let mut expected = Vec::new();
        for (host, gone) in [(5, 1), (6, 4), (7, 5)] {
            assert!(scene.enter(host));
            expected.push(gone);
            assert_eq!(scene.gone(), expected, "strangers push strangers out");
        }
        for number in [6, 2] {
            scene.asks(number);
        }
        assert!(scene.enter(8));
        assert_eq!(scene.gone(), [0, 1, 4, 5], "2 has asked since");
        assert_eq!(scene.guests.total(), 4);
    }

    #[test]
    fn a_busy_guest_keeps_its_place_and_without_an_idle_one_nobody_gets_in() {
        let mut scene = Scene::new(2);
        assert!(scene.enter(1) && scene.enter(2));
        scene.entered.iter().for_each(|(guest, _)| guest.is_busy.set(true));
        assert!(!scene.enter(3) && scene.gone().is_empty());
        assert_eq!(scene.guests.total(), 2);
        scene.entered[1].0.is_busy.set(false);
        assert!(scene.enter(3));
        assert_eq!(scene.gone(), [1]);
        drop(scene.entered);
        assert_eq!(scene.guests.total(), 0);
        assert!(scene.guests.seats.borrow().counts.is_empty() && scene.guests.seats.borrow().sizes.is_empty());
    }

    #[test]
    fn an_address_with_most_of_the_places_gives_up_its_own() {
        let mut scene = Scene::new(40);
        for host in (1..=15).chain([99; 25]) {
            assert!(scene.enter(host));
        }
        // The others were silent longer.
        (0..40).for_each(|number| scene.asks(number));
        assert!(scene.enter(99));
        assert_eq!(scene.gone(), [15], "the first of the crowd");
        scene.asks(40);
        for number in 15..40 {
            scene.entered[number].0.is_busy.set(true);
        }
        scene.entered[40].0.is_busy.set(true);
        assert!(scene.enter(16));
        assert_eq!(scene.gone(), [0, 15], "a crowd that is busy does not hide the others");
    }

    fn is_pushed_out(place: Option<&GuestPlace<Scripted>>) -> bool {
        let place = place.expect("it is open");
        futures_lite::future::block_on(futures_lite::future::poll_once(place.pushed_out())).is_some()
    }

    #[test]
    fn few_are_open_without_a_place_and_strangers_are_the_first_to_be_ended() {
        let mut scene = Scene::new(LEAVING + 4);
        for _ in 0..LEAVING + 4 {
            assert!(scene.enter(1));
        }
        (0..LEAVING + 4).filter(|number| *number != 3).for_each(|number| scene.asks(number));
        for number in 0..LEAVING {
            scene.entered[number].1.as_ref().expect("open").give_up();
        }
        let pushed_out = |scene: &Scene| {
            let is_out = |number: &usize| is_pushed_out(scene.entered[*number].1.as_ref());
            (0..LEAVING + 4).filter(is_out).collect::<Vec<_>>()
        };
        assert_eq!(scene.guests.total(), 4, "all who left made room");
        assert!(pushed_out(&scene).is_empty());
        // Somebody who had to make room counts with them.
        scene.guests.make_room(scene.now);
        assert_eq!(scene.gone(), [LEAVING]);
        assert_eq!(pushed_out(&scene), [3], "it never asked for anything");
        scene.entered[LEAVING + 1].1.as_ref().expect("open").give_up();
        assert_eq!(pushed_out(&scene), [0, 3], "the first of the others");
        let is_cut = |number: usize| scene.entered[number].0.is_cut.get();
        assert!(is_cut(0) && is_cut(3) && !is_cut(1));
        // Who is closed by itself makes room, too.
        scene.entered[1].1 = None;
        scene.entered[LEAVING + 2].1.as_ref().expect("open").give_up();
        assert!(!is_pushed_out(scene.entered[2].1.as_ref()));
        drop(scene.entered);
        assert_eq!((scene.guests.total(), scene.guests.leaving.borrow().len()), (0, 0));
    }
}
