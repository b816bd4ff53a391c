//! Parts of a replica that propose for themselves: by the log's time, which goes on while nothing else happens, and each hears what became
//! of what it proposed.

use std::sync::{Arc, Mutex};

use api::command::{KeyRange, Op};
use engine::call::Refusal;
use engine::replica::{Event, Proposer};
use engine::state_machine::StateMachine;
use engine::state_machine::batch::LogTime;
use net::api::{Executed, Status};

use crate::answers::Trio;
use crate::host::NODES_COUNT;
use crate::ops::{op_command, put};

/// Between two writes of a part. Unit: ms.
const INTERVAL_MS: u64 = 50;

/// What a part went through.
#[derive(Clone, Debug, Default)]
struct Story {
    /// When it proposed.
    times: Vec<LogTime>,
    answers: Vec<Result<Vec<u8>, Refusal>>,
    /// How often it was asked.
    asked: u64,
}

/// Writes at intervals of the log's time.
#[derive(Debug)]
struct Part {
    story: Arc<Mutex<Story>>,
    command: Vec<u8>,
}

impl Proposer for Part {
    fn due(&mut self, time: LogTime, machine: &StateMachine) -> Option<Vec<u8>> {
        let mut story = self.story.lock().expect("one thread");
        story.asked += 1;
        assert_eq!(story.times.len(), story.answers.len(), "it is asked when it has heard what became of the last one");
        assert!(time >= machine.time(), "the log's time never goes back");
        let is_due = story.times.last().is_none_or(|last| time >= last.after_ms(INTERVAL_MS));
        is_due.then(|| {
            story.times.push(time);
            self.command.clone()
        })
    }

    fn take_answer(&mut self, answer: Result<&[u8], Refusal>) {
        let mut story = self.story.lock().expect("one thread");
        story.answers.push(answer.map(<[u8]>::to_vec));
        assert_eq!(story.times.len(), story.answers.len(), "each write is answered once");
    }
}

/// Nodes with such a part each, and what these go through.
fn nodes(seed: u64, command: &[u8]) -> (Trio, [Arc<Mutex<Story>>; NODES_COUNT]) {
    let stories: [Arc<Mutex<Story>>; NODES_COUNT] = Default::default();
    let trio = Trio::with_proposers(seed, &|node| {
        Box::new(Part { story: Arc::clone(&stories[node]), command: command.to_vec() })
    });
    (trio, stories)
}

fn story(of: &Mutex<Story>) -> Story {
    of.lock().expect("one thread").clone()
}

/// Changes nothing but the log's time.
fn nothing() -> Vec<u8> {
    op_command(&Op::Delete { range: KeyRange { key: b"never there", range_end: b"" }, prev_kv: false })
}

#[test]
fn the_logs_time_goes_on_on_an_idle_shard_and_with_the_next_leader() {
    let (mut trio, stories) = nodes(71, &nothing());
    let first = trio.leader().expect("there is one");
    // As long as ten intervals, in which nobody else asks for anything.
    let times = |trio: &Trio| trio.nodes.iter().map(|node| node.replica.machine().time()).min().expect("nodes");
    let begun = times(&trio);
    (0..50).for_each(|_| trio.round());
    assert!(times(&trio) >= begun.after_ms(9 * INTERVAL_MS), "{:?} after {begun:?}", times(&trio));
    let told = story(&stories[first]);
    assert!(told.answers.len() >= 10 && told.answers.iter().all(Result::is_ok), "{told:?}");
    for (node, other) in stories.iter().enumerate().filter(|(node, _)| *node != first) {
        assert_eq!((story(other).asked, trio.nodes[node].replica.log_time()), (0, None), "node {node} does not lead");
    }
    // It proposes once more, which nobody else hears of.
    trio.isolate(first);
    let before = times(&trio);
    (0..100).for_each(|_| trio.round());
    let second = trio.nodes.iter().position(|node| node.replica.log_time().is_some()).expect("another one leads");
    assert_ne!(first, second);
    trio.cut.clear();
    (0..100).for_each(|_| trio.round());
    let lost = story(&stories[first]);
    let refusals: Vec<_> = lost.answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    let [refusal] = &refusals[..] else { panic!("one was lost: {refusals:?}") };
    // Cut off, it cannot tell what became of its last entry.
    assert_eq!((refusal.status, refusal.executed), (Status::Unavailable, Executed::Unknown));
    let next = story(&stories[second]);
    assert!(next.times[0] >= before && next.times.is_sorted(), "{next:?}");
    assert!(next.answers.len() >= 10 && next.answers.iter().all(Result::is_ok), "{next:?}");
    assert!(times(&trio) >= before.after_ms(9 * INTERVAL_MS));
    let digests: Vec<_> = trio.nodes.iter().map(|node| node.replica.machine().digest()).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

#[test]
fn what_a_part_proposes_is_done_on_every_node_and_refused_as_other_writes_are() {
    let (mut trio, stories) = nodes(72, &op_command(&put(b"own", b"v")));
    let leader = trio.leader().expect("there is one");
    (0..10).for_each(|_| trio.round());
    assert!(story(&stories[leader]).answers.iter().any(Result::is_ok));
    let read = trio.read(leader, b"own");
    trio.settle();
    assert!(trio.answers[&read].as_ref().is_ok_and(|answer| answer.ends_with(b"ownv")), "{:?}", trio.answers[&read]);
    // One that is no command stops whoever applies it, and its part is told so.
    let (mut bad, told) = nodes(73, b"no command");
    bad.faults_are_expected = true;
    (0..1000).for_each(|_| bad.round());
    let refused: Vec<_> = told.iter().flat_map(|told| story(told).answers).collect();
    assert!(!refused.is_empty() && refused.iter().all(Result::is_err), "{refused:?}");
}

#[test]
fn a_node_that_stops_is_not_kept_by_its_parts() {
    let (mut trio, stories) = nodes(74, &nothing());
    let leader = trio.leader().expect("there is one");
    trio.deliver(leader, Event::Close);
    trio.settle();
    let before = story(&stories[leader]);
    (0..30).for_each(|_| trio.round());
    assert_eq!(story(&stories[leader]).times, before.times);
    assert!(trio.nodes[leader].replica.owes_no_answer());
}
