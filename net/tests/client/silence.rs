//! Nodes that fall silent, never greet, or cannot be reached where a hint says: somebody else is asked, soon.

use std::time::{Duration, Instant};

use net::api::{Executed, Refused, Response, Status};
use net::client::{Client, ClientError, Options, Target};
use tokio::io::AsyncReadExt;

use crate::server::{
    PING, READ, SHARD, Server, Session, WRITE, connect_with, options, read, soon, spawn_request, write,
};

/// Limit of silence in these tests.
const SILENCE: Duration = Duration::from_millis(200);

/// A client that gives up silent nodes; it is connected to the first of the endpoints.
async fn impatient(first: &Server, others: &[&Server]) -> (Client, Session) {
    let endpoints: Vec<_> = [first].iter().chain(others).map(|server| server.authority()).collect();
    let options = Options { silence_limit: SILENCE, ..options(&endpoints) };
    let (client, session) = tokio::join!(connect_with(options), first.accept());
    (client.expect("a client"), session)
}

#[tokio::test]
async fn a_node_that_falls_silent_is_given_up_and_others_are_asked() {
    let (first, second) = (Server::start().await, Server::start().await);
    let (client, mut silent) = impatient(&first, &[&second]).await;
    let written = spawn_request(&client, WRITE, b"w");
    let asked = spawn_request(&client, READ, b"r");
    let kinds = [silent.request().await.kind, silent.request().await.kind];
    assert_eq!(kinds, [WRITE, READ]);
    let ping = silent.next_of_any_kind().await.map(|request| request.kind);
    assert_eq!(ping, Some(PING));
    // Its end of the connection stays open and says nothing.
    let mut session = second.accept().await;
    let request = session.request().await;
    assert_eq!((request.kind, request.payload), (READ, b"r".to_vec()));
    session.answer(request.id, b"found").await;
    assert_eq!(asked.await.expect("no panic"), Ok(b"found".to_vec()));
    match written.await.expect("no panic") {
        Err(ClientError::Unknown { reason }) => assert_eq!(
            reason,
            format!(
                "{}: the node did not say anything for 200 ms, not even to a ping; the connection was given up",
                first.authority()
            )
        ),
        other => panic!("{other:?}"),
    }
    assert_eq!(silent.next_of_any_kind().await, None, "the connection was closed");
}

#[tokio::test]
async fn a_node_that_is_slow_and_answers_pings_is_not_given_up() {
    let server = Server::start().await;
    let (client, mut session) = impatient(&server, &[]).await;
    let request = spawn_request(&client, WRITE, b"w");
    let id = session.request().await.id;
    for _ in 0..10 {
        let ping = session.next_of_any_kind().await.expect("a ping");
        assert_eq!(ping.kind, PING);
        session.answer(ping.id, b"").await;
    }
    session.answer(id, b"at last").await;
    assert_eq!(request.await.expect("no panic"), Ok(b"at last".to_vec()));
}

#[tokio::test]
async fn requests_that_wait_less_than_the_silence_lasts_reach_another_node() {
    let (first, second) = (Server::start().await, Server::start().await);
    let (client, _silent) = impatient(&first, &[&second]).await;
    let serving = tokio::spawn(async move { second.accept().await.echo().await });
    let trying = async {
        loop {
            let answer = client.request(Target::Leader, WRITE, SHARD, b"w", SILENCE / 4).await;
            match answer {
                Ok(body) => return body,
                Err(ClientError::Unknown { .. } | ClientError::Unavailable { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
    };
    assert_eq!(soon("a write elsewhere", trying).await, b"w");
    drop(client);
    assert!(serving.await.expect("no panic") > 0);
}

#[tokio::test]
async fn an_idle_connection_to_a_silent_node_is_given_up_before_it_is_used() {
    let (first, second) = (Server::start().await, Server::start().await);
    let endpoints = [first.authority(), second.authority()];
    let options = Options { silence_limit: SILENCE, idle_ping: SILENCE, ..options(&endpoints) };
    let (client, silent) = tokio::join!(connect_with(options), first.accept());
    let (client, mut silent) = (client.expect("a client"), silent);
    assert_eq!(silent.next_of_any_kind().await.map(|request| request.kind), Some(PING));
    assert_eq!(silent.next_of_any_kind().await, None, "nothing was said, so the connection was given up");
    let (answer, ()) = tokio::join!(write(&client, b"w"), async {
        let mut session = second.accept().await;
        let id = session.request().await.id;
        session.answer(id, b"ok").await;
    });
    assert_eq!(answer, Ok(b"ok".to_vec()), "a write is not risked on the node that is silent");
}

#[tokio::test]
async fn a_large_request_that_moves_on_slowly_is_no_silence() {
    const BYTES: usize = 16 << 20;
    let server = Server::start().await;
    let (client, mut session) = impatient(&server, &[]).await;
    let request = spawn_request(&client, WRITE, &vec![7; BYTES]);
    // For several times the limit the node takes a little, and says nothing.
    let mut piece = vec![0; 256 << 10];
    let mut taken = 0;
    for _ in 0..20 {
        let stream = session.stream();
        soon("bytes", stream.read_exact(&mut piece)).await.expect("an open connection");
        taken += piece.len();
        tokio::time::sleep(SILENCE / 4).await;
    }
    assert!(taken < BYTES);
    let mut rest = vec![0; net::frame::FRAME_HEADER_BYTES + 4 + BYTES - taken];
    soon("the rest", session.stream().read_exact(&mut rest)).await.expect("an open connection");
    session.answer(1, b"ok").await;
    assert_eq!(request.await.expect("no panic"), Ok(b"ok".to_vec()));
}

#[tokio::test]
async fn an_endpoint_that_never_greets_delays_nobody_for_long() {
    let (silent, good) = (Server::start().await, Server::start().await);
    let endpoints = [silent.authority(), good.authority()];
    let overlapping = Options { next_endpoint_after: Duration::from_millis(10), ..options(&endpoints) };
    let (client, session) = tokio::join!(connect_with(overlapping), good.accept());
    let (client, mut session) = (client.expect("the other endpoint answers"), session);
    let serving = tokio::spawn(async move { session.echo().await });
    let requests: Vec<_> = (0..100_u8).map(|n| spawn_request(&client, WRITE, &[n])).collect();
    for (n, request) in (0..100_u8).zip(requests) {
        assert_eq!(request.await.expect("no panic"), Ok(vec![n]));
    }
    drop(client);
    assert_eq!(serving.await.expect("no panic"), 100);
    let _one_attempt = silent.accept_raw().await;
    silent.assert_nobody_waits().await;
}

#[tokio::test]
async fn waiters_share_one_attempt_and_its_failure_and_then_choose_again() {
    let (first, silent, third) = (Server::start().await, Server::start().await, Server::start().await);
    let endpoints = [first.authority(), silent.authority(), third.authority()];
    let options = Options { next_endpoint_after: Duration::from_millis(10), ..options(&endpoints) };
    let (client, session) = tokio::join!(connect_with(options), first.accept());
    let (client, mut session) = (client.expect("a client"), session);
    let requests: Vec<_> = (0..100_u8).map(|n| spawn_request(&client, WRITE, &[n])).collect();
    let mut ids = Vec::new();
    for _ in 0..100 {
        ids.push(session.request().await.id);
    }
    let refusing = tokio::spawn(async move {
        for id in ids {
            session.refuse(id, Status::Unavailable, Executed::No, "not now").await;
        }
        while let Some(request) = session.next().await {
            session.refuse(request.id, Status::Unavailable, Executed::No, "not now").await;
        }
    });
    let serving = tokio::spawn(async move { third.accept().await.echo().await });
    for (n, request) in (0..100_u8).zip(requests) {
        assert_eq!(request.await.expect("no panic"), Ok(vec![n]));
    }
    drop(client);
    refusing.await.expect("no panic");
    assert_eq!(serving.await.expect("no panic"), 100);
    let _one_attempt = silent.accept_raw().await;
    silent.assert_nobody_waits().await;
}

#[tokio::test]
async fn a_hint_that_cannot_be_reached_is_remembered_and_an_endpoint_that_works_goes_on_being_used() {
    let (working, unreachable) = (Server::start().await, Server::start().await);
    let options = Options { next_endpoint_after: Duration::from_millis(10), ..options(&[working.authority()]) };
    let (client, session) = tokio::join!(connect_with(options), working.accept());
    let (client, mut session) = (client.expect("a client"), session);
    let hint = unreachable.authority();
    let serving = tokio::spawn(async move {
        let mut count = 0;
        while let Some(request) = session.next().await {
            let response = Response { id: request.id, leader_hint: Some(&hint), result: Ok(b"relayed") };
            session.respond(&response).await;
            count += 1;
        }
        count
    });
    for _ in 0..200 {
        assert_eq!(write(&client, b"w").await, Ok(b"relayed".to_vec()));
    }
    drop(client);
    assert_eq!(serving.await.expect("no panic"), 200);
    let _one_attempt = unreachable.accept_raw().await;
    unreachable.assert_nobody_waits().await;
}

#[tokio::test]
async fn a_hint_that_greets_and_never_answers_is_asked_ever_more_rarely() {
    hint_that_is_of_no_use(true).await;
}

#[tokio::test]
async fn a_hint_that_greets_and_hangs_up_is_asked_ever_more_rarely() {
    hint_that_is_of_no_use(false).await;
}

/// The node that works names another as the leader, which greets, takes a request, and is silent or closes the connection.
async fn hint_that_is_of_no_use(is_silent: bool) {
    // After the first greeting, the second, and the third.
    const PAUSES: Duration = Duration::from_millis(500 + 1_000 + 2_000);
    let (working, useless) = (Server::start().await, Server::start().await);
    let (client, mut session) = impatient(&working, &[]).await;
    let hint = useless.authority();
    let serving = tokio::spawn(async move {
        while let Some(request) = session.next().await {
            let response = Response { id: request.id, leader_hint: Some(&hint), result: Ok(b"relayed") };
            session.respond(&response).await;
        }
    });
    let greeting = tokio::spawn(async move {
        let mut open = Vec::new();
        let mut greeted_at = Vec::new();
        while greeted_at.len() < 4 {
            let mut session = useless.accept().await;
            greeted_at.push(Instant::now());
            if is_silent {
                open.push(session);
            } else {
                session.request().await;
            }
        }
        greeted_at[3] - greeted_at[0]
    });
    while !greeting.is_finished() {
        assert_eq!(read(&client, b"r").await, Ok(b"relayed".to_vec()), "somebody else answers");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = greeting.await.expect("no panic");
    assert!(took >= PAUSES, "it was asked four times in {took:?}");
    drop(client);
    serving.await.expect("no panic");
}

#[tokio::test]
async fn a_hint_that_was_refused_is_not_asked_for_every_request() {
    let (working, refusing) = (Server::start().await, Server::start().await);
    let (client, session) = impatient(&working, &[]).await;
    let mut session = session;
    let hint = refusing.authority();
    let serving = tokio::spawn(async move {
        while let Some(request) = session.next().await {
            let refused = Refused { status: Status::Unavailable, executed: Executed::No, message: "ask the leader" };
            let result = if request.payload == b"1" { Err(refused) } else { Ok(b"ok".as_slice()) };
            session.respond(&Response { id: request.id, leader_hint: Some(&hint), result }).await;
        }
    });
    for n in 0..50 {
        let (answer, ()) = tokio::join!(read(&client, b"r"), async {
            // The first time somebody knocks there, and is sent away.
            if n == 1 {
                let (mut greeted, _hello) = refusing.accept_hello().await;
                let verdict = net::handshake::Verdict::Busy;
                greeted.welcome(&net::handshake::Welcome { verdict, ..crate::server::welcome() }).await;
            }
        });
        assert_eq!(answer, Ok(b"ok".to_vec()));
    }
    drop(client);
    serving.await.expect("no panic");
}
