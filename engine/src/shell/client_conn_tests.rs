//! Answers of a client's connection: what is dropped, held back and put off, who loses its connection, and who counts as idle.

use std::net::Ipv4Addr;

use super::super::limits::{PROGRESS_BYTES_MIN, STUCK_AFTER};
use super::*;
use crate::call::{Call, CallKind};
use crate::types::ShardId;

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// A connection with a request under way, while so many bytes wait for others.
fn conn(core_bytes: usize) -> (ClientConn, ConnWriter) {
    let of_core = OfCore::default();
    let others = ConnWriter::among(usize::MAX, Rc::clone(&of_core.writers));
    others.push(|queue| *queue = vec![0; core_bytes]).expect("room");
    let figures = ClientFigures::register(&mut prometheus_client::registry::Registry::default());
    let conn = ClientConn::new(1, ADDRESS, &of_core, figures);
    conn.request_began();
    (conn, others)
}

#[test]
fn large_answers_are_dropped_while_too_much_waits_and_small_ones_never() {
    let (large, small) = (vec![7; SMALL_ANSWER_BYTES + 1], vec![7; SMALL_ANSWER_BYTES]);
    for (core_bytes, body, is_given) in [
        (CORE_ANSWER_BYTES_MAX, &large, true),
        (CORE_ANSWER_BYTES_MAX + 1, &large, false),
        (CORE_ANSWER_BYTES_MAX + 1, &small, true),
    ] {
        let (conn, _others) = conn(core_bytes);
        conn.answer(&Response { id: 1, leader_hint: None, result: Ok(body) });
        let queued = conn.writer.queued_bytes();
        assert!(queued > 0 && (queued > body.len()) == is_given, "{queued} bytes for {}", body.len());
        assert_eq!(conn.figures.answers_dropped.get(), u64::from(!is_given));
        assert_eq!(conn.figures.refused_count(Status::Overloaded), u64::from(!is_given));
        assert_eq!(conn.waiting_count(), 0);
    }
}

#[test]
fn a_read_whose_answer_finds_no_room_is_held_back_until_there_is_some() {
    let large = SMALL_ANSWER_BYTES + 1;
    let read = || Some(held_read(1));
    let (conn, others) = conn(CORE_ANSWER_BYTES_MAX + 1);
    let conn = Rc::new(conn);
    let mut taken = Vec::new();
    let mut running = Box::pin(others.run(&mut taken));
    assert!(!conn.read_began(read()).is_put_off(SMALL_ANSWER_BYTES), "a small answer is always given");
    assert!(!conn.read_began(None).is_put_off(large), "nobody can ask again");
    assert!(conn.read_began(read()).is_put_off(large) && conn.reads.held_count() == 1);
    assert!(!conn.may_begin_held(0), "there is still no room");
    while others.queued_bytes() > CORE_ROOM_AGAIN_BYTES {
        assert!(!conn.may_begin_held(0));
        assert!(futures_lite::future::block_on(futures_lite::future::poll_once(&mut running)).is_none());
    }
    assert!(conn.may_begin_held(0));
    let mut begun = conn.read_began(read());
    assert!(!begun.is_put_off(large) && !begun.is_put_off(large));
}

/// A read that was begun and may be asked again.
fn held_read(id: u64) -> Held {
    let call = Call::borrowed(ShardId::new(0), CallKind::Read, 90, &[]).into_owned();
    Held { id, deadline: Instant::now() + Duration::from_mins(1), call, needs_room: true }
}

fn is_pending(future: impl Future<Output = ()>) -> bool {
    futures_lite::future::block_on(futures_lite::future::poll_once(future)).is_none()
}

#[test]
fn whoever_does_not_read_loses_its_connection_once_the_core_holds_too_much() {
    let body = vec![7; SMALL_ANSWER_BYTES];
    let answers_in_a_share = SHARE_BYTES_MAX / SMALL_ANSWER_BYTES;
    for (core_bytes, is_cut) in [(CORE_ANSWER_BYTES_MAX / 4, false), (CORE_ANSWER_BYTES_MAX + 1, true)] {
        let (greedy, _others) = conn(core_bytes);
        let of_core = OfCore { writers: Rc::clone(&greedy.writers), ..OfCore::default() };
        let modest = ClientConn::new(2, ADDRESS, &of_core, ClientFigures::default());
        for id in 0..=answers_in_a_share as u64 {
            greedy.push(&Response { id, leader_hint: None, result: Ok(&body) });
        }
        assert_eq!(greedy.writer.is_closed(), is_cut, "{core_bytes} bytes wait for others");
        modest.push(&Response { id: 1, leader_hint: None, result: Ok(&body) });
        assert!(!modest.writer.is_closed(), "it has its share");
    }
}

#[test]
fn the_more_connections_there_are_the_smaller_is_the_share() {
    let (conn, others) = conn(0);
    assert_eq!(conn.share_bytes(), SHARE_BYTES_MAX);
    let more = |count| (0..count).map(|_| ConnWriter::among(1, Rc::clone(&conn.writers))).collect::<Vec<_>>();
    let many = more(1_000);
    let share = conn.share_bytes();
    assert!((SHARE_BYTES_MIN + 1..SHARE_BYTES_MAX).contains(&share), "{share}");
    let very_many = more(100_000);
    assert_eq!(conn.share_bytes(), SHARE_BYTES_MIN);
    drop((many, very_many, others));
    assert_eq!(conn.share_bytes(), SHARE_BYTES_MAX);
}

#[test]
fn a_client_that_asks_for_more_than_its_share_waits_while_much_waits_for_others() {
    for (core_bytes, waits) in [(CORE_ANSWER_BYTES_MAX / 4, false), (CORE_ANSWER_BYTES_MAX / 2 + 1, true)] {
        let (conn, _others) = conn(core_bytes);
        assert!(!is_pending(conn.room()), "one request is always taken");
        for _ in 0..SHARE_BYTES_MAX / SMALL_ANSWER_BYTES {
            conn.request_began();
        }
        let mut taken = Vec::new();
        let mut running = Box::pin(conn.writer.run(&mut taken));
        let mut room = Box::pin(conn.room());
        assert_eq!(is_pending(&mut room), waits, "{core_bytes} bytes wait for others");
        conn.answer(&Response { id: 1, leader_hint: None, result: Ok(b"") });
        let is_open = futures_lite::future::block_on(futures_lite::future::poll_once(&mut running)).is_none();
        assert!(is_open && !(waits && is_pending(room)), "an answer has left");
    }
}

#[test]
fn a_client_that_takes_next_to_nothing_of_its_answers_counts_as_idle() {
    let of_core = OfCore::default();
    let conn = ClientConn::new(1, ADDRESS, &of_core, ClientFigures::default());
    let body = vec![7; 2 * usize::try_from(PROGRESS_BYTES_MIN).expect("small")];
    conn.request_began();
    conn.answer(&Response { id: 1, leader_hint: None, result: Ok(&body) });
    let look_on = || (0..STUCK_AFTER.as_millis() / 250).for_each(|_| of_core.taking_time.look(STUCK_AFTER));
    assert!(!conn.is_idle());
    of_core.taking_time.look(STUCK_AFTER);
    assert!(!conn.is_idle(), "the core hung meanwhile");
    look_on();
    assert!(conn.is_idle());
    let mut taken = Vec::new();
    let mut running = Box::pin(conn.writer.run(&mut taken));
    assert!(futures_lite::future::block_on(futures_lite::future::poll_once(&mut running)).is_none());
    assert_eq!(conn.untaken(), (0, Duration::ZERO), "it has taken its answer");
    conn.push(&Response { id: 2, leader_hint: None, result: Ok(&body) });
    look_on();
    assert!(!conn.is_idle(), "a new answer has its time, however long ago the last look was");
    look_on();
    conn.make_room();
    let ended = futures_lite::future::block_on(running);
    assert!(ended.is_err() && !conn.is_over(), "no goodbye would reach it");
}

#[test]
fn a_client_that_pipelines_reads_keeps_its_connection_however_large_their_answers_turn_out() {
    const LARGEST: usize = 5 << 20;
    let (conn, _others) = conn(0);
    let conn = Rc::new(conn);
    // Reads of which all before were small: a thousand are begun at once.
    let begin = |id| {
        let again = conn.may_put_off(LARGEST).then(|| held_read(id));
        conn.read_began(again)
    };
    (0..200).for_each(|id| drop(begin(id)));
    let mut begun = Vec::new();
    while conn.may_begin_now() && begun.len() < 1_000 {
        conn.request_began();
        begun.push(begin(begun.len() as u64));
    }
    assert_eq!(begun.len(), 1_000);
    let body = vec![7; 1 << 20];
    let mut answered = 0;
    for mut read in begun {
        if !read.is_put_off(body.len()) {
            conn.answer(&Response { id: 1, leader_hint: None, result: Ok(&body) });
            answered += 1;
        }
    }
    assert!(!conn.writer.is_closed(), "it is cut with {answered} answers");
    assert!(answered >= 10 && conn.reads.held_count() + answered == 1_000);
    assert!(!conn.may_begin_held(conn.writer.queued_bytes()), "they wait until it has taken some");
}

#[test]
fn a_read_that_waits_for_room_on_its_core_does_not_keep_those_behind_it() {
    let (conn, _others) = conn(CORE_ANSWER_BYTES_MAX + 1);
    let conn = Rc::new(conn);
    assert!(conn.read_began(Some(held_read(1))).is_put_off(SMALL_ANSWER_BYTES + 1));
    let mut next = Box::pin(conn.next_held());
    let mut look = || futures_lite::future::block_on(futures_lite::future::poll_once(&mut next));
    conn.hold(Held { needs_room: false, ..held_read(2) }).expect("room");
    let read = look().expect("it goes before").expect("there is time");
    assert_eq!((read.id, conn.reads.held_count()), (2, 1));
}

#[test]
fn whoever_waits_for_all_answers_goes_on_with_the_last() {
    let (conn, _others) = conn(0);
    conn.request_began();
    let mut waiting = Box::pin(conn.all_answered());
    let waits = |waiting: &mut std::pin::Pin<Box<_>>| {
        futures_lite::future::block_on(futures_lite::future::poll_once(waiting)).is_none()
    };
    assert!(waits(&mut waiting));
    conn.answer(&Response { id: 1, leader_hint: None, result: Ok(b"") });
    assert!(waits(&mut waiting));
    conn.answer(&Response { id: 2, leader_hint: None, result: Ok(b"") });
    assert!(!waits(&mut waiting));
}

#[test]
fn an_answer_behind_a_close_leaves_what_is_queued() {
    let (conn, _others) = conn(0);
    conn.answer(&Response { id: 1, leader_hint: None, result: Ok(b"first") });
    let queued = conn.writer.queued_bytes();
    conn.writer.close();
    conn.refuse(2, Status::Invalid, "too late");
    let mut taken = Vec::new();
    futures_lite::future::block_on(conn.writer.run(&mut taken)).expect("it was not aborted");
    assert_eq!(taken.len(), queued);
}

#[test]
fn a_connection_that_makes_room_says_that_nothing_unanswered_was_executed() {
    let (conn, _others) = conn(0);
    assert!(!conn.is_idle(), "a request is under way");
    conn.answer(&Response { id: 1, leader_hint: None, result: Ok(b"") });
    assert!(!conn.is_idle(), "its answer has not left");
    let mut taken = Vec::new();
    {
        let mut running = Box::pin(conn.writer.run(&mut taken));
        let is_open = |running: &mut std::pin::Pin<Box<_>>| {
            futures_lite::future::block_on(futures_lite::future::poll_once(running)).is_none()
        };
        assert!(is_open(&mut running) && conn.is_idle(), "its answer has left");
        conn.make_room();
        futures_lite::future::block_on(running).expect("it ends in order");
    }
    assert!(conn.is_over() && conn.is_idle());
    let mut deframer = net::deframer::Deframer::new(1 << 20);
    deframer.feed(&taken);
    let mut next = || {
        let frame = deframer.next_frame().expect("sound").expect("a frame");
        let response = Response::decode(&frame).expect("an answer");
        (response.id, response.result.err().map(|refused| (refused.status, refused.executed)))
    };
    assert_eq!([next(), next()], [(1, None), (0, Some((Status::Overloaded, Executed::No)))]);
}
