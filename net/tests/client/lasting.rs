//! Calls that last: parts one by one, callers that take nothing, and calls that are given up.

use std::time::Duration;

use net::api::{Executed, Status};
use net::client::{Client, ClientError, Opened, Options, Target};

use crate::server::{
    Arrived, CANCEL, LASTING, LONG, SHARD, SHORT, Server, Session, client_of, connect_with, options, pair, soon, write,
};

/// Opens a call on a connection that the server takes now; the server's end of it, and the call's number.
async fn open(client: &Client, server: &Server) -> (Opened, Session, u64) {
    let opening = client.open(Target::Leader, LASTING, SHARD, b"from here on", LONG);
    let (opened, (session, id)) = tokio::join!(soon("it begins", opening), async {
        let mut session = server.accept().await;
        let Arrived { id, kind, shard, payload, .. } = session.request().await;
        assert_eq!((kind, shard, payload), (LASTING, SHARD, b"from here on".to_vec()));
        session.send_part(id, b"begun").await;
        (session, id)
    });
    let mut opened = opened.expect("it has begun");
    assert_eq!(next(&mut opened).await, Ok(Some(b"begun".to_vec())));
    assert_eq!(opened.endpoint(), &server.endpoint());
    (opened, session, id)
}

async fn next(opened: &mut Opened) -> Result<Option<Vec<u8>>, ClientError> {
    soon("a part", opened.next()).await
}

#[tokio::test]
async fn parts_come_one_by_one_and_the_end_says_why() {
    let server = Server::start().await;
    for ends_well in [true, false] {
        // Another client has another connection.
        let (client, _requests) = pair(&server).await;
        let (mut opened, mut session, id) = open(&client, &server).await;
        for part in [b"one".as_slice(), b"", b"two"] {
            session.send_part(id, part).await;
            assert_eq!(next(&mut opened).await, Ok(Some(part.to_vec())));
        }
        if ends_well {
            session.answer(id, b"the last").await;
            assert_eq!(next(&mut opened).await, Ok(Some(b"the last".to_vec())));
        } else {
            session.refuse(id, Status::ShuttingDown, Executed::No, "it ends").await;
            let expected = ClientError::Refused { status: Status::ShuttingDown, message: "it ends".to_owned() };
            assert_eq!(next(&mut opened).await, Err(expected));
        }
        assert_eq!(next(&mut opened).await, Ok(None), "nothing follows");
    }
}

#[tokio::test]
async fn a_call_that_is_given_up_is_cancelled_and_its_connection_stays() {
    let server = Server::start().await;
    let (client, _requests) = pair(&server).await;
    let (opened, mut session, id) = open(&client, &server).await;
    drop(opened);
    let Arrived { id: cancelled, kind, .. } = session.request().await;
    assert_eq!((cancelled, kind), (id, CANCEL));
    // What is still on its way is nobody's.
    session.send_part(id, b"late").await;
    session.refuse(id, Status::Unavailable, Executed::No, "the client left").await;
    let opening = client.open(Target::Leader, LASTING, SHARD, b"again", LONG);
    let (opened, again) = tokio::join!(soon("it begins", opening), async {
        let again = session.request().await.id;
        session.send_part(again, b"begun").await;
        again
    });
    assert!(again > id, "on the same connection");
    let mut opened = opened.expect("it has begun");
    // One that has ended is not cancelled.
    session.answer(again, b"").await;
    assert_eq!([next(&mut opened).await, next(&mut opened).await], [Ok(Some(b"begun".to_vec())), Ok(None)]);
    drop(opened);
    assert!(session.has_nothing_more().await);
}

#[tokio::test]
async fn a_call_that_is_given_up_before_it_begins_is_cancelled_too() {
    let server = Server::start().await;
    let (client, _requests) = pair(&server).await;
    let opening = tokio::spawn({
        let client = client.clone();
        async move { client.open(Target::Leader, LASTING, SHARD, b"", LONG).await.map(drop) }
    });
    let mut session = server.accept().await;
    let id = session.request().await.id;
    opening.abort();
    let Arrived { id: cancelled, kind, .. } = session.request().await;
    assert_eq!((cancelled, kind), (id, CANCEL));
}

#[tokio::test]
async fn a_caller_that_takes_nothing_holds_up_the_node_and_no_call_that_ends() {
    let server = Server::start().await;
    let (client, mut requests) = pair(&server).await;
    let (mut opened, mut session, id) = open(&client, &server).await;
    let part = vec![7; 1 << 20];
    let mut sent = 0_usize;
    // In the end nothing more is read here, and the node finds no room.
    while tokio::time::timeout(SHORT * 10, session.send_part(id, &part)).await.is_ok() {
        sent += 1;
        assert!(sent < 200, "{sent} MiB are kept for a caller that takes nothing");
    }
    let (answer, ()) = tokio::join!(write(&client, b"w"), async {
        let id = requests.request().await.id;
        requests.answer(id, b"done").await;
    });
    assert_eq!(answer, Ok(b"done".to_vec()));
    for _ in 0..sent {
        assert_eq!(next(&mut opened).await, Ok(Some(part.clone())), "all that was sent comes");
    }
}

#[tokio::test]
async fn a_caller_that_takes_nothing_makes_no_node_silent() {
    let server = Server::start().await;
    let options = Options { silence_limit: SHORT * 5, ..options(&[server.authority()]) };
    let (client, _requests) = tokio::join!(connect_with(options), server.accept());
    let client = client.expect("a client");
    let (mut opened, mut session, id) = open(&client, &server).await;
    let part = vec![7; 1 << 20];
    for _ in 0..5 {
        session.send_part(id, &part).await;
    }
    tokio::time::sleep(SHORT * 50).await;
    for _ in 0..5 {
        assert_eq!(next(&mut opened).await, Ok(Some(part.clone())));
    }
    session.send_part(id, b"on").await;
    assert_eq!(next(&mut opened).await, Ok(Some(b"on".to_vec())));
}

#[tokio::test]
async fn a_call_that_rests_is_not_asked_for_a_sign_of_life_again_and_again() {
    let server = Server::start().await;
    let options = Options { silence_limit: SHORT, ..options(&[server.authority()]) };
    let (client, _requests) = tokio::join!(connect_with(options), server.accept());
    let client = client.expect("a client");
    let (mut opened, mut session, id) = open(&client, &server).await;
    assert!(session.has_nothing_more().await && session.pings <= 1, "{} pings", session.pings);
    session.send_part(id, b"on").await;
    assert_eq!(next(&mut opened).await, Ok(Some(b"on".to_vec())));
}

#[tokio::test]
async fn a_refused_beginning_goes_on_to_another_node_and_a_broken_connection_does_not() {
    let (first, second) = (Server::start().await, Server::start().await);
    let (client, _requests) = client_of(&first, &second).await;
    let opening = client.open(Target::Leader, LASTING, SHARD, b"", LONG);
    let (opened, session) = tokio::join!(soon("it begins", opening), async {
        let mut refusing = first.accept().await;
        let id = refusing.request().await.id;
        refusing.refuse(id, Status::Unavailable, Executed::No, "not here").await;
        let mut session = second.accept().await;
        let id = session.request().await.id;
        session.send_part(id, b"begun").await;
        session
    });
    let mut opened = opened.expect("it has begun");
    assert_eq!(opened.endpoint(), &second.endpoint());
    assert_eq!(next(&mut opened).await, Ok(Some(b"begun".to_vec())));
    drop(session);
    let said = next(&mut opened).await.expect_err("the connection broke").to_string();
    assert!(said.contains(&second.authority()), "{said}");
    assert_eq!(next(&mut opened).await, Ok(None));
}

#[tokio::test]
async fn a_call_that_does_not_begin_in_time_is_given_up() {
    let server = Server::start().await;
    let (client, _requests) = pair(&server).await;
    let opening = client.open(Target::Leader, LASTING, SHARD, b"", Duration::from_millis(200));
    let (opened, mut session) = tokio::join!(soon("an end", opening), server.accept());
    let error = opened.expect_err("nothing came");
    assert!(matches!(error, ClientError::Unavailable { .. }), "{error}");
    let id = session.request().await.id;
    let Arrived { id: cancelled, kind, .. } = session.request().await;
    assert_eq!((cancelled, kind), (id, CANCEL));
}
