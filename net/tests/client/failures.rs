//! Servers that are dead, silent, broken or no servers at all, and what is said of the requests they were sent.

use net::api::{Executed, Status};
use net::client::{ClientError, Endpoint, Target};
use net::handshake::{PROTOCOL_VERSION, Verdict, Welcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::server::{
    DeadEnd, LONG, READ, SHARD, SHORT, STATUS, Server, WRITE, client_of, connect, connect_within, pair, read, soon,
    spawn_request, welcome, write,
};

fn reason(result: Result<Vec<u8>, ClientError>) -> String {
    let error = match result {
        Ok(body) => panic!("an answer of {} bytes", body.len()),
        Err(error) => error,
    };
    match error {
        ClientError::Unavailable { reason } => format!("unavailable: {reason}"),
        ClientError::Unknown { reason } => format!("unknown: {reason}"),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_dead_endpoint_that_was_asked_for_is_reported_at_once() {
    let server = Server::start().await;
    let (client, _session) = pair(&server).await;
    let dead = DeadEnd::reserve();
    let endpoint: Endpoint = dead.authority.parse().expect("an endpoint");
    for kind in [STATUS, READ, WRITE] {
        let said = reason(soon("an answer", client.request(Target::Endpoint(&endpoint), kind, 0, b"", LONG)).await);
        let expected = format!("unavailable: {}: nothing listens there: ", dead.authority);
        assert!(said.starts_with(&expected), "{said}");
    }
    let nowhere: Endpoint = "no-such-host.invalid:1".parse().expect("an endpoint");
    let said = reason(soon("an answer", client.request(Target::Endpoint(&nowhere), STATUS, 0, b"", LONG)).await);
    assert!(said.starts_with("unavailable: no-such-host.invalid:1: "), "{said}");
}

#[tokio::test]
async fn a_stranger_that_was_asked_for_is_reported_at_once() {
    let (server, stranger) = (Server::start().await, Server::start().await);
    let (client, _session) = pair(&server).await;
    let endpoint = stranger.endpoint();
    for (given, expected) in [
        (
            Welcome { cluster: 9, ..welcome() },
            "it belongs to cluster 0000000000000009 with 4 shards, expected 000000000000004d with 4",
        ),
        (
            Welcome { shard_count: 5, ..welcome() },
            "it belongs to cluster 000000000000004d with 5 shards, expected 000000000000004d with 4",
        ),
        (Welcome { verdict: Verdict::Cluster, message: "go away".to_owned(), ..welcome() }, "refused: go away"),
        (Welcome { version: PROTOCOL_VERSION + 1, ..welcome() }, "refused: the node speaks protocol 2, expected 1"),
    ] {
        let request = soon("an answer", client.request(Target::Endpoint(&endpoint), STATUS, 0, b"", LONG));
        let (result, ()) = tokio::join!(request, async {
            let (mut session, _hello) = stranger.accept_hello().await;
            session.welcome(&given).await;
        });
        assert_eq!(reason(result), format!("unavailable: {endpoint}: {expected}"));
    }
}

#[tokio::test]
async fn a_busy_node_that_was_asked_for_is_asked_again() {
    let server = Server::start().await;
    let other = Server::start().await;
    let (client, _session) = pair(&server).await;
    let endpoint = other.endpoint();
    let request = soon("an answer", client.request(Target::Endpoint(&endpoint), STATUS, 0, b"", LONG));
    let (result, ()) = tokio::join!(request, async {
        for verdict in [Verdict::Busy, Verdict::Stopping] {
            let (mut session, _hello) = other.accept_hello().await;
            session.welcome(&Welcome { verdict, ..welcome() }).await;
        }
        assert_eq!(other.accept().await.next().await.map(|request| request.kind), Some(STATUS));
        let mut session = other.accept().await;
        let id = session.request().await.id;
        session.answer(id, b"fine").await;
    });
    assert_eq!(result, Ok(b"fine".to_vec()));
}

#[tokio::test]
async fn connecting_tells_the_reason_of_each_endpoint() {
    let dead = DeadEnd::reserve();
    let (http, refusing) = (Server::start().await, Server::start().await);
    let endpoints = [dead.authority.clone(), http.authority(), refusing.authority()];
    let (client, _) = tokio::join!(connect(&endpoints), async {
        let mut stream = http.accept_raw().await;
        let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        stream.write_all(answer).await.expect("an open connection");
        let (mut session, _hello) = refusing.accept_hello().await;
        session.welcome(&Welcome { verdict: Verdict::Busy, message: "full".to_owned(), ..welcome() }).await;
        (stream, session)
    });
    let Err(ClientError::Unavailable { reason }) = client else { panic!("{client:?}") };
    let (headline, reasons) = reason.split_once('\n').expect("several lines");
    assert!(headline.starts_with("no endpoint can be used"), "{headline}");
    let reasons: Vec<_> = reasons.lines().map(str::trim_start).collect();
    let expected = ["nothing listens there: ", "frame header has checksum ", "refused: full"];
    assert_eq!(reasons.len(), expected.len(), "{reason}");
    for ((endpoint, expected), reason) in endpoints.iter().zip(expected).zip(reasons) {
        assert!(reason.starts_with(&format!("{endpoint}: {expected}")), "{reason}");
    }
}

#[tokio::test]
async fn connecting_to_a_node_that_never_greets_costs_the_time_of_connecting() {
    let silent = Server::start().await;
    let endpoints = [silent.authority()];
    let reason =
        format!("{}: the connection opened, and no welcome came within {} ms", endpoints[0], SHORT.as_millis());
    assert_eq!(connect_within(&endpoints, SHORT).await.expect_err("no client"), ClientError::Unavailable { reason });
}

#[tokio::test]
async fn a_handshake_that_is_too_long_or_cut_off_is_no_connection() {
    let server = Server::start().await;
    let endpoints = [server.authority()];
    let (client, ()) = tokio::join!(connect(&endpoints), async {
        let (mut session, _hello) = server.accept_hello().await;
        let mut bytes = Vec::new();
        net::frame::encode_frame(&mut bytes, net::handshake::KIND_WELCOME, 0, 0, 0, &[0; 2049]);
        session.send(&bytes[..40]).await;
        // The header alone is enough: the client gives up and closes.
        assert_eq!(session.next().await, None);
    });
    let expected = "frame body has 2049 bytes, the limit of this connection is 2048";
    assert_eq!(
        client.expect_err("no client"),
        ClientError::Unavailable { reason: format!("{}: {expected}", endpoints[0]) }
    );
    let (client, ()) = tokio::join!(connect(&endpoints), async {
        let (mut session, _hello) = server.accept_hello().await;
        let mut bytes = Vec::new();
        welcome().encode(&mut bytes);
        session.send(&bytes[..bytes.len() - 1]).await;
    });
    let expected = "the node closed the connection during the handshake";
    assert_eq!(
        client.expect_err("no client"),
        ClientError::Unavailable { reason: format!("{}: {expected}", endpoints[0]) }
    );
}

#[tokio::test]
async fn a_write_is_unknown_once_it_was_sent_and_the_connection_breaks() {
    let (first, second) = (Server::start().await, Server::start().await);
    let (client, mut session) = client_of(&first, &second).await;
    let request = spawn_request(&client, WRITE, b"w");
    assert_eq!(session.request().await.payload, b"w");
    drop(session);
    let expected = format!("unknown: {}: the node closed the connection", first.authority());
    assert_eq!(reason(request.await.expect("no panic")), expected);
    first.assert_nobody_waits().await;
    second.assert_nobody_waits().await;
}

#[tokio::test]
async fn a_read_is_asked_elsewhere_when_the_connection_breaks() {
    let (first, second) = (Server::start().await, Server::start().await);
    let (client, mut session) = client_of(&first, &second).await;
    let (answer, (), ()) = tokio::join!(
        read(&client, b"r"),
        async {
            session.request().await;
            drop(session);
        },
        async {
            let mut session = second.accept().await;
            let id = session.request().await.id;
            session.answer(id, b"found").await;
        }
    );
    assert_eq!(answer, Ok(b"found".to_vec()));
}

#[tokio::test]
async fn a_write_that_was_still_queued_when_the_connection_broke_is_sent_elsewhere() {
    let (first, second) = (Server::start().await, Server::start().await);
    let endpoints = [first.authority(), second.authority()];
    // The connection's buffers take only a part of this, so the next request has to wait behind it.
    let large = vec![7; 48 << 20];
    let serving = async {
        let mut stream = first.accept_raw().await;
        let mut hello = Vec::new();
        net::handshake::Hello::of_client().encode(&mut hello);
        stream.read_exact(&mut hello).await.expect("a hello");
        let mut bytes = Vec::new();
        welcome().encode(&mut bytes);
        stream.write_all(&bytes).await.expect("an open connection");
        stream
    };
    let (client, mut stream) = tokio::join!(connect(&endpoints), serving);
    let client = client.expect("a client");
    let sent = spawn_request(&client, WRITE, &large);
    stream.read_exact(&mut [0; 1]).await.expect("its first byte");
    let queued = spawn_request(&client, WRITE, b"queued");
    tokio::task::yield_now().await;
    drop(stream);
    let mut session = second.accept().await;
    let request = session.request().await;
    assert!(request.payload == b"queued", "a request of {} bytes", request.payload.len());
    session.answer(request.id, b"done").await;
    assert_eq!(queued.await.expect("no panic"), Ok(b"done".to_vec()));
    let said = reason(sent.await.expect("no panic"));
    assert!(said.starts_with(&format!("unknown: {}: ", first.authority())), "{said}");
}

#[tokio::test]
async fn garbage_for_an_answer_ends_the_connection() {
    let damaged = {
        let mut bytes = Vec::new();
        net::api::Response { id: 1, leader_hint: None, result: Ok(b"answer") }.encode(&mut bytes);
        *bytes.last_mut().expect("bytes") ^= 1;
        bytes
    };
    let mut too_large = Vec::new();
    net::frame::encode_frame(&mut too_large, net::api::KIND_RESPONSE, 0, 0, 1, &vec![0; (64 << 20) + 1]);
    too_large.truncate(32);
    let mut no_answer = Vec::new();
    net::frame::encode_frame(&mut no_answer, WRITE.number, 0, 0, 1, b"1234");
    for (bytes, expected) in [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec(), "frame header has checksum "),
        (damaged, "frame metadata has checksum "),
        (too_large, "frame body has 67108865 bytes, the limit of this connection is 67108864"),
        (no_answer, "the kind of an answer has the unknown value 8"),
    ] {
        let server = Server::start().await;
        let (client, mut session) = pair(&server).await;
        let (result, ()) = tokio::join!(write(&client, b"w"), async {
            session.request().await;
            session.send(&bytes).await;
        });
        let said = reason(result);
        assert!(said.starts_with(&format!("unknown: {}: {expected}", server.authority())), "{said}");
        let (answer, ()) = tokio::join!(write(&client, b"again"), async {
            let mut session = server.accept().await;
            let id = session.request().await.id;
            session.answer(id, b"ok").await;
        });
        assert_eq!(answer, Ok(b"ok".to_vec()), "a new connection");
    }
}

#[tokio::test]
async fn a_node_that_closes_the_connection_says_why() {
    let server = Server::start().await;
    let (client, mut session) = pair(&server).await;
    let (result, ()) = tokio::join!(write(&client, b"w"), async {
        session.request().await;
        session.refuse(0, Status::Invalid, Executed::Unknown, "frame too large").await;
    });
    let expected = format!("unknown: {}: the node closes the connection: frame too large", server.authority());
    assert_eq!(reason(result), expected);
}

#[tokio::test]
async fn what_a_node_did_not_answer_before_its_goodbye_is_sent_elsewhere() {
    let (first, second) = (Server::start().await, Server::start().await);
    let (client, mut session) = client_of(&first, &second).await;
    let request = spawn_request(&client, WRITE, b"w");
    session.request().await;
    session.refuse(0, Status::ShuttingDown, Executed::No, "it is shutting down").await;
    let mut other = second.accept().await;
    let id = other.request().await.id;
    other.answer(id, b"done").await;
    assert_eq!(request.await.expect("no panic"), Ok(b"done".to_vec()));
}

#[tokio::test]
async fn a_silent_node_costs_the_time_of_the_request() {
    let server = Server::start().await;
    let (client, mut session) = pair(&server).await;
    let said = reason(client.request(Target::Leader, WRITE, SHARD, b"w", SHORT).await);
    assert_eq!(said, format!("unknown: {}: no answer in time", server.authority()));
    let said = reason(client.request(Target::Leader, READ, SHARD, b"r", SHORT).await);
    assert_eq!(said, format!("unavailable: {}: no answer in time", server.authority()));
    // Answers that come too late go to nobody, and not to the next request.
    let late: Vec<_> = [session.request().await.id, session.request().await.id].to_vec();
    let next = spawn_request(&client, READ, b"next");
    let id = session.request().await.id;
    for id in late {
        session.answer(id, b"late").await;
    }
    session.answer(id, b"in time").await;
    assert_eq!(next.await.expect("no panic"), Ok(b"in time".to_vec()));
}

#[tokio::test]
async fn a_read_that_a_node_does_not_answer_is_asked_elsewhere_and_the_first_answer_counts() {
    for is_late in [false, true] {
        let servers = [Server::start().await, Server::start().await];
        let endpoints = servers.each_ref().map(Server::authority);
        let (client, mut first) = tokio::join!(connect(&endpoints), servers[0].accept());
        let client = client.expect("a client");
        let request = spawn_request(&client, READ, b"r");
        let owed = first.request().await.id;
        let mut second = tokio::select! {
            second = servers[1].accept() => second,
            // It answers pings and nothing else.
            _ = first.next() => unreachable!("there is one request"),
        };
        let id = second.request().await.id;
        let (asked, id) = if is_late { (&mut first, owed) } else { (&mut second, id) };
        asked.answer(id, b"done").await;
        assert_eq!(request.await.expect("no panic"), Ok(b"done".to_vec()));
    }
}

#[tokio::test]
async fn a_node_that_never_greets_costs_the_time_of_the_request() {
    let (server, silent) = (Server::start().await, Server::start().await);
    let (client, _session) = pair(&server).await;
    let endpoint = silent.endpoint();
    let said = reason(client.request(Target::Endpoint(&endpoint), WRITE, 0, b"", SHORT).await);
    assert_eq!(said, format!("unavailable: {endpoint}: the connection opened, and no welcome came in time"));
}

#[tokio::test]
async fn with_nobody_left_the_last_reason_is_told() {
    let server = Server::start().await;
    let (client, session) = pair(&server).await;
    let authority = server.authority();
    drop((server, session));
    let said = reason(client.request(Target::Leader, READ, SHARD, b"r", SHORT).await);
    // How far it comes in its time depends on the machine; that the reason is one of the node's does not.
    assert!(said.starts_with(&format!("unavailable: {authority}: ")), "{said}");
}
