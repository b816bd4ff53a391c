//! What a client holds for requests under way is bounded, and past the bound it refuses at once.

use net::api::{RequestKind, Status};
use net::client::{ClientError, QUEUE_BYTES_MAX, REQUEST_BYTES_MAX, WAITING_MAX};

use crate::server::{Server, pair, spawn_request, write};

fn overloaded(what: &str) -> Result<Vec<u8>, ClientError> {
    let message = format!("too many {what}; slow down and try again");
    Err(ClientError::Refused { status: Status::Overloaded, message })
}

#[tokio::test]
async fn requests_that_wait_for_answers_are_bounded() {
    let server = Server::start().await;
    let (client, mut session) = pair(&server).await;
    let under_way: Vec<_> = (0..WAITING_MAX).map(|_| spawn_request(&client, RequestKind::Read, b"r")).collect();
    let mut ids = Vec::new();
    for _ in 0..WAITING_MAX {
        ids.push(session.request().await.id);
    }
    assert_eq!(write(&client, b"one too many").await, overloaded("requests wait on this connection"));
    session.answer(ids.pop().expect("a request"), b"").await;
    let mut under_way = under_way.into_iter();
    let last = under_way.next_back().expect("a request");
    assert_eq!(last.await.expect("no panic"), Ok(Vec::new()));
    let (answer, ()) = tokio::join!(write(&client, b"in its place"), async {
        let request = session.request().await;
        assert_eq!(request.payload, b"in its place");
        session.answer(request.id, b"ok").await;
    });
    assert_eq!(answer, Ok(b"ok".to_vec()));
    for (id, request) in ids.into_iter().zip(under_way) {
        session.answer(id, b"").await;
        assert_eq!(request.await.expect("no panic"), Ok(Vec::new()));
    }
}

#[tokio::test]
async fn bytes_that_wait_to_be_sent_are_bounded() {
    const REQUEST_BYTES: usize = 8 << 20;
    let server = Server::start().await;
    let (client, mut session) = pair(&server).await;
    let payload = vec![1; REQUEST_BYTES];
    // Nobody reads: at most one queue is being written while another one fills.
    let count = 2 * QUEUE_BYTES_MAX / REQUEST_BYTES + 2;
    let requests: Vec<_> = (0..count).map(|_| spawn_request(&client, RequestKind::Write, &payload)).collect();
    let refused = requests.last().expect("requests");
    while !refused.is_finished() {
        tokio::task::yield_now().await;
    }
    let serving = tokio::spawn(async move { session.echo().await });
    drop(client);
    let mut answered = 0;
    let mut refused = 0;
    for request in requests {
        match request.await.expect("no panic") {
            Ok(body) => {
                assert!(body == payload);
                answered += 1;
            }
            error => {
                assert_eq!(error, overloaded("bytes wait to be sent on this connection"));
                refused += 1;
            }
        }
    }
    assert!(refused > 0 && answered >= QUEUE_BYTES_MAX / REQUEST_BYTES, "{answered} answered, {refused} refused");
    assert_eq!(serving.await.expect("no panic"), answered, "what was refused never arrived");
}

#[tokio::test]
async fn a_request_over_the_limit_is_refused_before_it_is_queued() {
    let server = Server::start().await;
    let (client, mut session) = pair(&server).await;
    let message = format!("the request has {} bytes, the limit is {REQUEST_BYTES_MAX}", REQUEST_BYTES_MAX + 1);
    let refused = Err(ClientError::Refused { status: Status::TooLarge, message });
    assert_eq!(write(&client, &vec![0; REQUEST_BYTES_MAX + 1]).await, refused);
    drop(client);
    assert_eq!(session.next().await, None, "nothing was sent");
}
