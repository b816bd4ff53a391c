//! Connections live as long as somebody can use them.

use net::client::{Client, ClientError, Options};

use crate::server::{Server, WRITE, connect, options, pair, spawn_request, write};

#[tokio::test]
async fn a_dropped_client_closes_its_connections() {
    let server = Server::start().await;
    let (client, mut session) = pair(&server).await;
    let clone = client.clone();
    drop(client);
    let (answer, ()) = tokio::join!(write(&clone, b"w"), async {
        let id = session.request().await.id;
        session.answer(id, b"ok").await;
    });
    assert_eq!(answer, Ok(b"ok".to_vec()), "a clone keeps them");
    drop(clone);
    assert_eq!(session.next().await, None);
}

#[tokio::test]
async fn a_client_that_is_dropped_with_requests_under_way_closes_its_connections() {
    let server = Server::start().await;
    let (client, mut session) = pair(&server).await;
    let request = spawn_request(&client, WRITE, b"w");
    session.request().await;
    drop(client);
    request.abort();
    assert!(request.await.expect_err("it was given up").is_cancelled());
    assert_eq!(session.next().await, None);
}

#[tokio::test]
async fn several_connections_are_used_in_turn_and_closed_together() {
    let server = Server::start().await;
    let options = Options { connections_per_endpoint: 2, ..options(&[server.authority()]) };
    let (client, mut first) = tokio::join!(Client::connect(options), server.accept());
    let client = client.expect("a client");
    let requests: Vec<_> = (0..4_u8).map(|n| spawn_request(&client, WRITE, &[n])).collect();
    let mut second = server.accept().await;
    for session in [&mut first, &mut second] {
        for _ in 0..2 {
            let request = session.request().await;
            session.answer(request.id, &request.payload).await;
        }
    }
    for (n, request) in (0..4_u8).zip(requests) {
        assert_eq!(request.await.expect("no panic"), Ok(vec![n]));
    }
    drop(client);
    assert_eq!((first.next().await, second.next().await), (None, None));
}

#[test]
fn a_client_outlives_the_runtime_that_made_its_connections() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a listener of a runtime");
    let first = runtime();
    let (client, listener) = first.block_on(async {
        let server = Server::from_std(listener.try_clone().expect("a second descriptor"));
        let (client, _session) = pair(&server).await;
        (client, listener)
    });
    drop(first);
    let answer = runtime().block_on(async {
        let server = Server::from_std(listener);
        let (answer, ()) = tokio::join!(write(&client, b"w"), async {
            let mut session = server.accept().await;
            let id = session.request().await.id;
            session.answer(id, b"ok").await;
        });
        answer
    });
    assert_eq!(answer, Ok(b"ok".to_vec()));
}

#[tokio::test]
async fn endpoints_are_looked_at_before_anything_else() {
    assert_eq!(connect(&[]).await.expect_err("no endpoint"), ClientError::NoEndpoint);
    let server = Server::start().await;
    let endpoints = [server.authority(), "https://127.0.0.1:1".to_owned()];
    let error = connect(&endpoints).await.expect_err("no endpoint");
    let expected = "endpoint \"https://127.0.0.1:1\" is not host:port or http://host:port: TLS is not supported yet";
    assert_eq!(error.to_string(), expected);
    server.assert_nobody_waits().await;
}
