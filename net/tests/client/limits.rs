//! What a client holds for requests under way is bounded by what the node takes, and past the bound it waits.

use net::api::{Executed, Status};
use net::client::{ClientError, Target};
use net::handshake::{ClientLimits, Welcome};
use net::limits::REQUEST_BYTES_MAX;

use crate::server::{SHARD, SHORT, Server, WRITE, connect, pair, soon, spawn_request, welcome, write};

fn welcome_with(limits: ClientLimits) -> Welcome {
    Welcome { limits, ..welcome() }
}

/// A client of a node with these limits, and the node's end of its connection.
async fn pair_with(server: &Server, limits: ClientLimits) -> (net::client::Client, crate::server::Session) {
    let endpoints = [server.authority()];
    let welcome = welcome_with(limits);
    let (client, session) = tokio::join!(connect(&endpoints), server.accept_with(&welcome));
    (client.expect("a client"), session)
}

#[tokio::test]
async fn requests_beyond_the_nodes_limit_wait_and_are_all_answered() {
    const LIMIT: u32 = 4;
    let server = Server::start().await;
    let (client, mut session) = pair_with(&server, ClientLimits { requests: LIMIT, ..ClientLimits::default() }).await;
    let requests: Vec<_> = (0..100_u8).map(|n| spawn_request(&client, WRITE, &[n])).collect();
    // A ping's answer needs no place; it shows here that nothing but it comes after the limit.
    for _ in 0..100 / LIMIT {
        let mut arrived = Vec::new();
        for _ in 0..LIMIT {
            arrived.push(session.request().await);
        }
        assert!(session.has_nothing_more().await, "more requests than the node takes");
        for request in arrived {
            session.answer(request.id, &request.payload).await;
        }
    }
    for (n, request) in (0..100_u8).zip(requests) {
        assert_eq!(request.await.expect("no panic"), Ok(vec![n]));
    }
}

#[tokio::test]
async fn a_caller_that_goes_while_it_waits_frees_its_place() {
    let server = Server::start().await;
    let (client, mut session) = pair_with(&server, ClientLimits { requests: 1, ..ClientLimits::default() }).await;
    let sent = spawn_request(&client, WRITE, b"sent");
    let first = session.request().await;
    let gone: Vec<_> = (0..10).map(|_| spawn_request(&client, WRITE, b"gone")).collect();
    let waiting = spawn_request(&client, WRITE, b"waiting");
    tokio::task::yield_now().await;
    for request in gone {
        request.abort();
        assert!(request.await.expect_err("it was given up").is_cancelled());
    }
    // A request that was sent keeps its place until the node has answered it, whether anybody waits or not.
    sent.abort();
    assert!(sent.await.expect_err("it was given up").is_cancelled());
    assert!(session.has_nothing_more().await, "its place is not free yet");
    session.answer(first.id, b"to nobody").await;
    let request = session.request().await;
    assert_eq!(request.payload, b"waiting");
    session.answer(request.id, b"ok").await;
    assert_eq!(waiting.await.expect("no panic"), Ok(b"ok".to_vec()));
}

#[tokio::test]
async fn bytes_beyond_the_nodes_limit_wait() {
    let server = Server::start().await;
    let (client, mut session) = pair_with(&server, ClientLimits { queued_bytes: 100, ..ClientLimits::default() }).await;
    let requests: Vec<_> = [60, 60, 500].map(|len| spawn_request(&client, WRITE, &vec![7; len])).into();
    for len in [60, 60, 500] {
        let request = session.request().await;
        assert_eq!(request.payload.len(), len);
        assert!(session.has_nothing_more().await, "more bytes than the node takes, behind {len}");
        session.answer(request.id, b"ok").await;
    }
    for request in requests {
        assert_eq!(request.await.expect("no panic"), Ok(b"ok".to_vec()));
    }
}

#[tokio::test]
async fn a_request_that_finds_no_place_in_its_time_certainly_took_no_effect() {
    let server = Server::start().await;
    let (client, mut session) = pair_with(&server, ClientLimits { requests: 1, ..ClientLimits::default() }).await;
    let sent = spawn_request(&client, WRITE, b"sent");
    let first = session.request().await;
    match client.request(Target::Leader, WRITE, SHARD, b"late", SHORT).await {
        Err(ClientError::Refused { status: Status::Overloaded, .. }) => {}
        other => panic!("{other:?}"),
    }
    session.answer(first.id, b"ok").await;
    assert_eq!(sent.await.expect("no panic"), Ok(b"ok".to_vec()));
    drop(client);
    assert_eq!(session.next().await, None, "the late one was never sent");
}

#[tokio::test]
async fn a_node_that_has_no_room_is_asked_again() {
    let server = Server::start().await;
    let (client, mut session) = pair(&server).await;
    let request = spawn_request(&client, WRITE, b"w");
    for _ in 0..3 {
        let id = session.request().await.id;
        session.refuse(id, Status::Overloaded, Executed::No, "slow down").await;
    }
    let id = session.request().await.id;
    session.answer(id, b"ok").await;
    assert_eq!(request.await.expect("no panic"), Ok(b"ok".to_vec()));
    let late = client.request(Target::Leader, WRITE, SHARD, b"w", SHORT);
    let (refused, ()) = tokio::join!(late, async {
        let id = session.request().await.id;
        session.refuse(id, Status::Overloaded, Executed::No, "slow down").await;
        // How often it is asked again depends on the machine.
        while let Ok(Some(request)) = tokio::time::timeout(2 * SHORT, session.next()).await {
            session.refuse(request.id, Status::Overloaded, Executed::No, "slow down").await;
        }
    });
    match refused {
        Err(ClientError::Refused { status: Status::Overloaded, message }) => assert_eq!(message, "slow down"),
        // On a busy machine its time may be over while the last question has no answer yet.
        Err(ClientError::Unknown { reason }) => assert!(reason.ends_with("no answer in time"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_request_over_the_limit_is_refused_alone_before_it_is_sent() {
    let server = Server::start().await;
    let limits = ClientLimits { request_bytes: 1000, ..ClientLimits::default() };
    let (client, mut session) = pair_with(&server, limits).await;
    let refused = |got: usize, limit: usize| {
        let message = format!("the request has {got} bytes, the limit is {limit}; nothing was sent");
        Err(ClientError::Refused { status: Status::TooLarge, message })
    };
    let other = spawn_request(&client, WRITE, b"other");
    let id = session.request().await.id;
    assert_eq!(write(&client, &[0; 1001]).await, refused(1001, 1000));
    let huge = vec![0; REQUEST_BYTES_MAX + 1];
    assert_eq!(write(&client, &huge).await, refused(huge.len(), REQUEST_BYTES_MAX));
    session.answer(id, b"ok").await;
    assert_eq!(other.await.expect("no panic"), Ok(b"ok".to_vec()));
    let just_fits = vec![1; 1000];
    let (answer, ()) = tokio::join!(write(&client, &just_fits), async {
        let id = session.request().await.id;
        session.answer(id, b"ok").await;
    });
    assert_eq!(answer, Ok(b"ok".to_vec()));
}

#[tokio::test]
async fn whoever_waits_for_a_place_goes_elsewhere_when_the_connection_breaks() {
    let (first, second) = (Server::start().await, Server::start().await);
    let endpoints = [first.authority(), second.authority()];
    let welcome = welcome_with(ClientLimits { requests: 1, ..ClientLimits::default() });
    let (client, mut session) = tokio::join!(connect(&endpoints), first.accept_with(&welcome));
    let client = client.expect("a client");
    let sent = spawn_request(&client, WRITE, b"sent");
    session.request().await;
    let waiting: Vec<_> = (0..10_u8).map(|n| spawn_request(&client, WRITE, &[n])).collect();
    tokio::task::yield_now().await;
    drop(session);
    let mut other = second.accept().await;
    for _ in 0..10 {
        let request = other.request().await;
        other.answer(request.id, &request.payload).await;
    }
    for (n, request) in (0..10_u8).zip(waiting) {
        assert_eq!(soon("an answer", request).await.expect("no panic"), Ok(vec![n]));
    }
    assert!(matches!(sent.await.expect("no panic"), Err(ClientError::Unknown { .. })), "a write is not sent twice");
}
