//! A follower that finds another history at its leader: what its clients are answered, and which reads it takes back.

use engine::raft::AppendOutcome;
use net::api::{Executed, Status};

use super::reads::{answer, heartbeat, is_answered, questions};
use super::{SEGMENT_BYTES, Sent, Subject, fresh, log_with, options, outcomes};

/// A follower that has two entries of an earlier term. The first `committed` of them are known to be committed.
fn follower(seed: u64, committed: u64) -> Subject {
    let mut subject = fresh(options(seed));
    subject.append(&log_with(&[1, 1], 0, SEGMENT_BYTES), 1, 2, false);
    subject.hear(2, heartbeat(1, committed));
    subject.sent();
    subject
}

/// Node 2, which leads term 2, turns out to have other entries of the same names.
fn part(subject: &mut Subject) {
    subject.append(&log_with(&[1, 1, 2], 100, SEGMENT_BYTES), 3, 3, false);
    let sent = outcomes(subject.sent());
    assert!(matches!(sent[..], [AppendOutcome::OtherHistory { .. }]), "{sent:?}");
}

fn passed_on(subject: &mut Subject) -> usize {
    subject.sent().iter().filter(|(_, sent)| matches!(sent, Sent::Request(_))).count()
}

#[test]
fn a_node_passes_nothing_on_to_a_leader_with_another_history() {
    let mut subject = follower(60, 0);
    part(&mut subject);
    for ticket in [subject.put(None, 10), subject.read()] {
        subject.turn();
        assert_eq!(subject.refusal(ticket), (Status::Unavailable, Executed::No));
    }
    assert_eq!(passed_on(&mut subject), 0);
    assert_eq!(subject.host.replica.view().leader, None, "nor does it send anybody there");
    // The next leader has this node's history.
    subject.append(&log_with(&[1, 1, 3], 0, SEGMENT_BYTES), 3, 3, false);
    subject.put(None, 10);
    subject.turn();
    assert_eq!(passed_on(&mut subject), 1);
}

#[test]
fn what_was_passed_on_before_the_histories_were_compared_is_answered_after_an_election_timeout() {
    let mut subject = follower(61, 0);
    subject.hear(2, heartbeat(2, 0));
    let ticket = subject.put(None, 10);
    subject.turn();
    assert_eq!(passed_on(&mut subject), 1);
    part(&mut subject);
    for _ in 0..40 {
        subject.hear(2, heartbeat(2, 0));
        subject.tick(1);
    }
    assert_eq!(subject.refusal(ticket), (Status::Unavailable, Executed::Unknown));
}

#[test]
fn a_read_whose_index_was_named_by_a_leader_with_another_history_is_taken_back() {
    for has_next_leader in [true, false] {
        let mut subject = follower(62, 0);
        subject.hear(2, heartbeat(2, 0));
        let read = subject.read();
        subject.turn();
        let asked = questions(&mut subject, 2);
        answer(&mut subject, 2, 2, asked[0], 3);
        assert!(!is_answered(&subject, read), "entry 3 is not here yet");
        part(&mut subject);
        if has_next_leader {
            subject.append(&log_with(&[1, 1, 3], 0, SEGMENT_BYTES), 3, 3, false);
            subject.hear(2, heartbeat(3, 3));
            assert!(
                !is_answered(&subject, read),
                "another entry 3 is applied, and says nothing of what was written there"
            );
            let asked = questions(&mut subject, 2);
            assert_eq!(asked.len(), 1, "the next leader is asked");
            answer(&mut subject, 2, 3, asked[0], 3);
            assert!(is_answered(&subject, read));
        } else {
            for _ in 0..40 {
                subject.hear(2, heartbeat(2, 0));
                subject.tick(1);
            }
            assert_eq!(passed_on(&mut subject), 0);
            assert_eq!(subject.refusal(read), (Status::Unavailable, Executed::No));
        }
    }
}

#[test]
fn an_index_counts_only_once_the_logs_were_compared() {
    let mut subject = follower(63, 2);
    subject.hear(2, heartbeat(2, 2));
    let read = subject.read();
    subject.turn();
    let asked = questions(&mut subject, 2);
    answer(&mut subject, 2, 2, asked[0], 3);
    // Now they are compared, and agree.
    subject.append(&log_with(&[1, 1, 2], 0, SEGMENT_BYTES), 3, 3, false);
    subject.hear(2, heartbeat(2, 3));
    assert!(!is_answered(&subject, read), "what was said before is no answer");
    answer(&mut subject, 2, 2, asked[0], 3);
    assert!(is_answered(&subject, read));
}
