//! A running replica that hears well-formed messages that make no sense, in any order, from members and from strangers.
//!
//! An input is a script: how the node starts (with all of the past, behind, ahead, damaged, wiped, before the cluster's birth, after
//! a member's log was replaced, with that log), and then a row of steps. Messages of every kind leave as frames and are decoded as on a
//! connection, with terms and indexes near and far, of both other members, of strangers and of the node's own id, for any log of
//! theirs; entries are true, invented, damaged or impossible, and say of the members what they like; answers answer something or
//! nothing. Between them clients ask, time passes, the disk is late or fails, the node hands over and is closed, and it stops, dies
//! and starts again at any moment.
//!
//! # What is judged
//!
//! Whatever happens to the node (`watch`): nothing trips an assertion; its term, its vote, what it knows to be committed and what it
//! applied are never taken back; nothing that it promises leaves before the device holds it; no term is beyond the limit, and none is
//! reached by more than one leap; each client is answered once and in time, at once by a node that is closed; a node that ended
//! says nothing more; none believes that its log was given up that can know better; none answers a linearizable read that nobody
//! confirmed since it arrived; who is no member changes nothing; its log opens again after every death.
//!
//! Afterwards (`heal`) it starts once more, beside two honest nodes that have what was committed: they elect a leader, commit
//! a write, and all three get level, within bounded time and without one of them stopping; no read that a node answers meanwhile is
//! stale, also if one of them is cut off for a while. Only a node that came back with a log that had been given up before must stop,
//! and leads nobody.
//!
//! # What cannot be promised
//!
//! Raft does not tolerate members that lie, and a lie that an honest member might have said as well can't be told from the
//! truth. If the node believed one of these it was *lied to*, and all that is asked for afterwards is that no honest node gives up
//! what was committed without stopping with a message:
//!
//! * entries of a leader that no leader made, where they stand in the place of committed ones that the node did not know of, or
//!   have the terms and indexes of other entries that a leader makes later;
//! * a commit index beyond what is committed, and acknowledgements or votes that were never given, which make the node
//!   commit by itself;
//! * answers about births in a cluster that is just being born;
//! * entries that name a log of another member which that one does not have, made by a false leader or for somebody who asked
//!   to be repaired in that member's name: the node may get them committed. One that gives the node's own log up excuses nothing,
//!   unless the node took it for committed.
//!
//! The word of a member that the node's log was given up excuses nothing either: it may stop the node, and a restart ends that.
//!
//! Which of both it was is decided by what the node has in the end, not by what was sent: most lies change nothing.

mod cluster;
mod forge;
mod heal;
mod heard;
mod hunt;
mod input;
mod leadership;
mod logs;
mod names;
mod node;
mod past;
mod reads;
mod story;
mod truth;
mod watch;

use std::collections::BTreeSet;

pub use hunt::{Failure, Hunt, Report};

use heal::{Trial, TrialPlace};
use input::Input;
use node::NODES;
use past::{Past, Start};
use story::Story;
use truth::Truth;

thread_local! {
    /// It is always the same, and takes longer than most inputs.
    static PAST: Result<Past, String> = Past::new();
}

/// How an input ended.
#[derive(Debug)]
struct Outcome {
    /// Names of what was seen.
    features: BTreeSet<u32>,
    truth: Truth,
    /// Time until everything was level again. Unit: ticks.
    healed_ticks: usize,
}

/// Runs an input.
///
/// # Panics
/// If a promise was broken.
pub fn replica(data: &[u8]) {
    let outcome = PAST.with(|past| past.as_ref().map_err(Clone::clone).and_then(|past| run(past, data)));
    if let Err(what) = outcome {
        panic!("{what}");
    }
}

fn run(past: &Past, data: &[u8]) -> Result<Outcome, String> {
    let mut input = Input::new(data);
    let start = match input.below(10) {
        0 | 1 => Start::Level,
        2 => Start::Behind,
        3 => Start::Ahead,
        4 => Start::Damaged(true),
        5 => Start::Damaged(false),
        6 => Start::Wiped,
        7 => Start::Unborn,
        8 => Start::Renamed,
        _ => Start::GivenUp,
    };
    let choice = input.byte();
    let (mut disks, number) = past.disks(start, usize::from(choice >> 1))?;
    let trial = Trial::of(usize::from(choice >> 1) / NODES);
    let disk = disks.get(number).cloned().ok_or("no such node")?;
    let story = Story::new(past, start, number, disk, choice & 1 == 0)?;
    let (end, features) = story.tell(&mut input)?;
    if let Some(disk) = disks.get_mut(number) {
        disk.clone_from(&end.disk);
    }
    let place = TrialPlace { number, start, trial };
    let (truth, healed_ticks) = heal::heal(disks, place, &end, past.known(start))?;
    Ok(Outcome { features, truth, healed_ticks })
}
