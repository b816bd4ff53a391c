//! Reads at a follower: it asks its leader up to where they must see, and answers them itself once it has applied that.

use engine::raft::Message;
use engine::replica::Event;
use engine::types::{Index, Term};
use net::api::{Executed, Status};

use super::{SEGMENT_BYTES, Sent, Subject, fresh, log_with, node_id, options};

/// A question about reads: life and number.
pub(super) type Question = (u64, u64);

/// A follower of node 2 in term 1 that has applied two entries of three.
fn follower(seed: u64) -> Subject {
    let mut subject = fresh(options(seed));
    subject.append(&log_with(&[1, 1, 1], 0, SEGMENT_BYTES), 1, 3, false);
    subject.hear(2, heartbeat(1, 2));
    assert_eq!(subject.host.replica.view().applied_index, Index::new(2));
    subject.sent();
    subject
}

pub(super) fn heartbeat(term: u64, commit_index: u64) -> Message {
    Message::Heartbeat { term: Term::new(term), life: 1, commit_index: Index::new(commit_index), round: 1 }
}

/// What the follower asked a node about reads since it was last looked.
pub(super) fn questions(subject: &mut Subject, to: u64) -> Vec<Question> {
    let question = |(asked, sent)| match sent {
        Sent::Message(Message::ReadIndexRequest { life, batch, .. }) if asked == node_id(to) => Some((life, batch)),
        _ => None,
    };
    subject.sent().into_iter().filter_map(question).collect()
}

pub(super) fn answer(subject: &mut Subject, from: u64, term: u64, (life, batch): Question, index: u64) {
    let (term, index) = (Term::new(term), Index::new(index));
    subject.hear(from, Message::ReadIndexResponse { term, life, batch, index });
}

pub(super) fn is_answered(subject: &Subject, read: u64) -> bool {
    subject.answers.get(&read).is_some_and(Result::is_ok)
}

#[test]
fn a_read_at_a_follower_waits_for_its_index_and_is_answered_there() {
    let mut subject = follower(20);
    let reads = [subject.read(), subject.read()];
    subject.turn();
    let asked = questions(&mut subject, 2);
    assert_eq!(asked.len(), 1, "one question for all reads of a turn");
    answer(&mut subject, 2, 1, asked[0], 3);
    assert!(reads.iter().all(|read| !is_answered(&subject, *read)), "entry 3 is not applied yet");
    subject.hear(2, heartbeat(1, 3));
    assert!(reads.iter().all(|read| is_answered(&subject, *read)), "{:?}", subject.answers);
    assert!(!subject.sent().iter().any(|(_, sent)| matches!(sent, Sent::Request(_))), "nothing is passed on");
    let stats = subject.host.replica.stats();
    assert_eq!((stats.reads_at_follower, stats.read_questions), (2, 1));
}

#[test]
fn a_read_that_comes_after_the_question_waits_for_the_next_one() {
    let mut subject = follower(21);
    let early = subject.read();
    subject.turn();
    let first = questions(&mut subject, 2);
    let late = subject.read();
    subject.turn();
    assert_eq!(questions(&mut subject, 2), [], "one question at a time");
    answer(&mut subject, 2, 1, first[0], 2);
    assert_eq!((is_answered(&subject, early), is_answered(&subject, late)), (true, false));
    let second = questions(&mut subject, 2);
    assert_ne!(first, second);
    answer(&mut subject, 2, 1, first[0], 2);
    assert!(!is_answered(&subject, late), "that answer was made before the read arrived");
    answer(&mut subject, 2, 1, second[0], 2);
    assert!(is_answered(&subject, late));
}

#[test]
fn only_the_leaders_answer_in_its_term_to_this_life_counts() {
    let mut subject = follower(22);
    let read = subject.read();
    subject.turn();
    let (life, batch) = questions(&mut subject, 2)[0];
    answer(&mut subject, 3, 1, (life, batch), 2);
    answer(&mut subject, 2, 1, (life + 1, batch), 2);
    answer(&mut subject, 2, 1, (life, batch + 1), 2);
    // Node 2 leads again, in a later term: its answer of the earlier one is no answer.
    subject.hear(2, heartbeat(2, 2));
    answer(&mut subject, 2, 1, (life, batch), 2);
    assert!(!is_answered(&subject, read));
    let again = questions(&mut subject, 2);
    assert_eq!(again.len(), 1, "the leader of the next term is asked");
    answer(&mut subject, 2, 1, again[0], 2);
    answer(&mut subject, 2, 2, again[0], 2);
    assert!(!is_answered(&subject, read), "what is applied here was not compared with the new leader's log");
    subject.append(&log_with(&[1, 1, 1, 2], 0, SEGMENT_BYTES), 4, 4, false);
    answer(&mut subject, 2, 2, again[0], 2);
    assert!(is_answered(&subject, read));
}

#[test]
fn the_next_leader_is_asked_again_and_one_that_cannot_be_reached_costs_a_refusal() {
    let mut subject = follower(23);
    let read = subject.read();
    subject.turn();
    assert_eq!(questions(&mut subject, 2).len(), 1);
    subject.hear(3, heartbeat(2, 2));
    assert_eq!(questions(&mut subject, 3).len(), 1);
    subject.deliver(Event::PeerDisconnected(node_id(3)));
    subject.turn();
    assert_eq!(subject.refusal(read), (Status::Unavailable, Executed::No));
    let another = subject.read();
    assert_eq!(subject.refusal(another), (Status::Unavailable, Executed::No), "there is no connection to the leader");
}

#[test]
fn a_question_without_an_answer_is_asked_again_and_the_read_is_refused_when_nobody_leads() {
    let mut subject = follower(24);
    let read = subject.read();
    subject.turn();
    let asked = questions(&mut subject, 2);
    subject.tick(6);
    let again = questions(&mut subject, 2);
    assert!(!again.is_empty() && again.iter().all(|question| *question == asked[0]), "{again:?}");
    subject.tick(35);
    assert_eq!(subject.refusal(read), (Status::Unavailable, Executed::No));
}

#[test]
fn a_follower_that_lags_behind_passes_reads_on_until_it_has_caught_up() {
    let mut subject = follower(25);
    let read = subject.read();
    subject.turn();
    let asked = questions(&mut subject, 2);
    subject.hear(2, heartbeat(1, 10));
    answer(&mut subject, 2, 1, asked[0], 10);
    let passed_on = |subject: &mut Subject| {
        let sent = subject.sent();
        sent.iter().filter(|(_, sent)| matches!(sent, Sent::Request(_))).count()
    };
    for _ in 0..15 {
        subject.hear(2, heartbeat(1, 10));
        subject.tick(1);
    }
    assert_eq!(passed_on(&mut subject), 1, "its state may be long in coming");
    subject.read();
    subject.turn();
    assert_eq!(passed_on(&mut subject), 1, "known to lag");
    assert!(!subject.answers.contains_key(&read));
    subject.append(&log_with(&[1; 10], 0, SEGMENT_BYTES), 4, 10, false);
    subject.hear(2, heartbeat(1, 10));
    let last = subject.read();
    subject.turn();
    let asked = questions(&mut subject, 2);
    answer(&mut subject, 2, 1, asked[0], 10);
    assert!(is_answered(&subject, last));
}
