//! Connections that have not said yet who they are.
//!
//! Whoever reaches a port can open connections and say nothing. So a core keeps a bounded number of greetings, and when there
//! are too many the oldest goes: a caller that means it says who it is at once, and needs its place for some milliseconds only.
//! One address cannot take all places, and a place of a member's address is never given up for a stranger's. The limit for one
//! address is not what lets members in: they may share their address with a stranger. Knows no sockets.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;
use std::task::{Poll, Waker};

/// The places of one core and port.
#[derive(Debug)]
pub struct Greetings {
    /// Greetings at a time, at most.
    limit: usize,
    /// Greetings of one address at a time, at most.
    address_limit: usize,
    places: RefCell<Places>,
}

#[derive(Debug, Default)]
struct Places {
    last_number: u64,
    /// Greetings under way, the oldest first.
    taken: BTreeMap<u64, Taken>,
}

#[derive(Debug)]
struct Taken {
    network: IpAddr,
    is_member: bool,
    /// Wakes the greeting when it has to go.
    waker: Option<Waker>,
}

/// A place; it is free again when this is dropped.
#[derive(Debug)]
pub struct GreetingPlace {
    greetings: Rc<Greetings>,
    number: u64,
    took_anothers: bool,
}

impl Greetings {
    /// Places for `limit` greetings, `address_limit` of them for one address.
    pub fn new(limit: usize, address_limit: usize) -> Rc<Self> {
        Rc::new(Self { limit, address_limit, places: RefCell::default() })
    }

    /// Takes a place for a connection from `address`. `members` are the addresses of the cluster's members.
    ///
    /// If no place is left, the oldest greeting loses its place. `None` if there is no place for this address: all places that it could
    /// take are held by members' addresses.
    pub fn enter(self: &Rc<Self>, address: IpAddr, members: &BTreeSet<IpAddr>) -> Option<GreetingPlace> {
        let (network, is_member) = (network_of(address), members.contains(&address.to_canonical()));
        let mut places = self.places.borrow_mut();
        let of_network = places.taken.values().filter(|taken| taken.network == network).count();
        let count = places.taken.len();
        if of_network >= self.address_limit {
            // A stranger may have the network of a member, and another address.
            if !places.give_up(|taken| taken.network == network && !taken.is_member) {
                if !is_member {
                    return None;
                }
                places.give_up(|taken| taken.network == network);
            }
        } else if places.taken.len() >= self.limit && !places.give_up(|taken| !taken.is_member) {
            if !is_member {
                return None;
            }
            places.give_up(|_| true);
        }
        let took_anothers = places.taken.len() < count;
        places.last_number += 1;
        let number = places.last_number;
        places.taken.insert(number, Taken { network, is_member, waker: None });
        assert!(places.taken.len() <= self.limit, "whoever enters a full room takes somebody's place");
        Some(GreetingPlace { greetings: Rc::clone(self), number, took_anothers })
    }

    /// Greetings that go on.
    pub fn count(&self) -> usize {
        self.places.borrow().taken.len()
    }
}

impl Places {
    /// Takes the oldest place that `is_asked` for away. Says whether there was one.
    fn give_up(&mut self, is_asked: impl Fn(&Taken) -> bool) -> bool {
        let Some(number) = self.taken.iter().find(|(_, taken)| is_asked(taken)).map(|(number, _)| *number) else {
            return false;
        };
        if let Some(waker) = self.taken.remove(&number).and_then(|taken| taken.waker) {
            waker.wake();
        }
        true
    }
}

impl GreetingPlace {
    /// True if an older greeting had to go for this one. Until it has, one connection more is open than there are places.
    pub(super) fn took_anothers(&self) -> bool {
        self.took_anothers
    }

    /// Waits until the place is taken away: the connection must be closed then. One task may wait.
    pub async fn taken_away(&self) {
        poll_fn(|cx| match self.greetings.places.borrow_mut().taken.get_mut(&self.number) {
            Some(taken) => {
                taken.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(()),
        })
        .await;
    }
}

impl Drop for GreetingPlace {
    fn drop(&mut self) {
        self.greetings.places.borrow_mut().taken.remove(&self.number);
    }
}

/// What counts as one address: of IPv6 the first 64 bits, since a host chooses the others as it likes.
pub(super) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let host = u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !host))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBER: IpAddr = address(1);

    const fn address(host: u8) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, host))
    }

    fn is_over(place: &GreetingPlace) -> bool {
        futures_lite::future::block_on(futures_lite::future::poll_once(place.taken_away())).is_some()
    }

    fn enter(greetings: &Rc<Greetings>, address: IpAddr) -> Option<GreetingPlace> {
        greetings.enter(address, &BTreeSet::from([MEMBER]))
    }

    #[test]
    fn the_oldest_greeting_makes_room_whoever_shares_its_address() {
        let greetings = Greetings::new(4, 4);
        let mut kept: Vec<GreetingPlace> = (0..4).map(|_| enter(&greetings, MEMBER).expect("a place")).collect();
        assert!(!kept.iter().any(GreetingPlace::took_anothers));
        for _ in 0..100 {
            let place = enter(&greetings, MEMBER).expect("the oldest goes");
            assert!(place.took_anothers());
            kept.push(place);
            assert!(is_over(&kept[0]) && !is_over(&kept[1]));
            kept.remove(0);
            assert_eq!(greetings.count(), 4);
        }
        drop(kept);
        assert_eq!(greetings.count(), 0);
    }

    #[test]
    fn one_address_gives_up_places_of_its_own() {
        let greetings = Greetings::new(4, 2);
        let other = enter(&greetings, address(3)).expect("a place");
        let mine: Vec<GreetingPlace> = (0..3).map(|_| enter(&greetings, address(2)).expect("a place")).collect();
        assert_eq!(mine.iter().map(is_over).collect::<Vec<_>>(), [true, false, false]);
        assert!(!is_over(&other), "it is older, and of another address");
    }

    #[test]
    fn a_stranger_never_takes_a_members_place_and_a_member_always_gets_one() {
        let greetings = Greetings::new(3, 3);
        let member = enter(&greetings, MEMBER).expect("a place");
        let strangers: Vec<GreetingPlace> =
            (2..9).map(|host| enter(&greetings, address(host)).expect("a place")).collect();
        assert!(!is_over(&member) && is_over(&strangers[4]) && !is_over(&strangers[5]));
        let members: Vec<GreetingPlace> = (0..2).map(|_| enter(&greetings, MEMBER).expect("a place")).collect();
        assert!(strangers.iter().all(is_over));
        assert!(enter(&greetings, address(9)).is_none(), "all places are members'");
        let newest = enter(&greetings, MEMBER).expect("a place");
        assert!(is_over(&member) && !members.iter().any(is_over) && !is_over(&newest));
    }

    #[test]
    fn a_stranger_in_a_members_network_takes_no_place_of_the_member() {
        let (member, stranger) = ("2001:db8::1", "2001:db8::2");
        let members = BTreeSet::from([member.parse().expect("an address")]);
        let greetings = Greetings::new(8, 2);
        let enter = |address: &str| greetings.enter(address.parse().expect("an address"), &members);
        let first = enter(member).expect("a place");
        let strangers = [(); 3].map(|()| enter(stranger).expect("a stranger makes room"));
        assert!(!is_over(&first), "it is the oldest of its network");
        assert_eq!(strangers.each_ref().map(is_over), [true, true, false]);
        let second = enter(member).expect("a stranger makes room");
        assert!(!is_over(&first) && is_over(&strangers[2]));
        assert!(enter(stranger).is_none(), "the network's places are the member's");
        let third = enter(member).expect("a member always gets a place");
        assert!(is_over(&first) && !is_over(&second) && !is_over(&third));
    }

    #[test]
    fn whoever_waits_is_woken() {
        let greetings = Greetings::new(1, 1);
        let place = enter(&greetings, address(2)).expect("a place");
        let mut gone = Box::pin(place.taken_away());
        assert!(futures_lite::future::block_on(futures_lite::future::poll_once(&mut gone)).is_none());
        let _newer = enter(&greetings, address(3)).expect("the oldest goes");
        futures_lite::future::block_on(gone);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let parse = |text: &str| network_of(text.parse().expect("an address"));
        assert_eq!(parse("2001:db8:1:2:3:4:5:6"), parse("2001:db8:1:2::"));
        assert_ne!(parse("2001:db8:1:3::1"), parse("2001:db8:1:2::1"));
        assert_eq!(parse("::ffff:10.0.0.1"), parse("10.0.0.1"));
    }
}
