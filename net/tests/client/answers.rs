//! Answers in any order, hints to the leader, refusals, and what is tried again.

use net::api::{Executed, Refused, Response, Status};
use net::client::{ClientError, Target};

use crate::server::{
    Arrived, CLUSTER_ID, DeadEnd, LONG, READ, SHARD, STATUS, Server, WRITE, client_of, connect, pair, read, soon,
    spawn_request, welcome, write,
};

#[tokio::test]
async fn a_request_arrives_as_it_was_sent() {
    let server = Server::start().await;
    let (client, mut session) = pair(&server).await;
    assert_eq!((client.info().cluster_id, client.info().shard_count), (CLUSTER_ID, 4));
    assert_eq!(client.endpoints(), [server.endpoint()]);
    let kinds = [WRITE, READ, STATUS];
    for (id, kind) in (1..).zip(kinds) {
        let payload: &[u8] = if kind == STATUS { b"" } else { b"payload" };
        let (answer, arrived) =
            tokio::join!(soon("an answer", client.request(Target::Leader, kind, SHARD, payload, LONG)), async {
                let arrived = session.request().await;
                session.answer(arrived.id, b"answer").await;
                arrived
            });
        assert_eq!(answer, Ok(b"answer".to_vec()));
        let Arrived { timeout_ms, .. } = arrived;
        assert!(timeout_ms <= 3_600_000, "{timeout_ms} ms");
        assert_eq!(arrived, Arrived { id, kind, shard: SHARD, timeout_ms, payload: payload.to_vec() });
    }
}

#[tokio::test]
async fn an_answer_in_parts_is_whole_with_the_last() {
    let server = Server::start().await;
    let (client, mut session) = pair(&server).await;
    let parted = spawn_request(&client, WRITE, b"parted");
    let refused = spawn_request(&client, READ, b"refused");
    let (one, other) = (session.request().await, session.request().await);
    let (parted_id, refused_id) = if one.kind == WRITE { (one.id, other.id) } else { (other.id, one.id) };
    for (id, bytes) in [(parted_id, b"an".as_slice()), (refused_id, b"lost"), (parted_id, b"sw"), (99, b"nobody's")] {
        session.send_part(id, bytes).await;
    }
    session.answer(parted_id, b"er").await;
    session.refuse(refused_id, Status::Invalid, Executed::No, "after all").await;
    assert_eq!(parted.await.expect("it ends"), Ok(b"answer".to_vec()));
    let message = "after all".to_owned();
    assert_eq!(refused.await.expect("it ends"), Err(ClientError::Refused { status: Status::Invalid, message }));
}

#[tokio::test]
async fn an_answer_without_end_closes_the_connection() {
    let server = Server::start().await;
    let (client, mut session) = pair(&server).await;
    let request = spawn_request(&client, WRITE, b"w");
    let id = session.request().await.id;
    let part = vec![7; 32 << 20];
    session.send_part(id, &part).await;
    session.send_part(id, &part).await;
    session.send_part(id, b"more").await;
    let said = request.await.expect("it ends").expect_err("no answer").to_string();
    assert!(said.contains("outcome unknown") && said.contains("more than 67108864 bytes"), "{said}");
}

#[tokio::test]
async fn an_answer_whose_last_part_is_too_much_is_none() {
    let server = Server::start().await;
    let (client, mut session) = pair(&server).await;
    let request = spawn_request(&client, WRITE, b"w");
    let id = session.request().await.id;
    session.send_part(id, &vec![7; 64 << 20]).await;
    session.answer(id, b"more").await;
    let said = request.await.expect("it ends").expect_err("no answer").to_string();
    assert!(said.contains("outcome unknown") && said.contains("more than 67108864 bytes"), "{said}");
}

#[tokio::test]
async fn requests_are_pipelined_and_answered_in_any_order() {
    let server = Server::start().await;
    let (client, mut session) = pair(&server).await;
    let requests: Vec<_> = (0..100_u8).map(|n| spawn_request(&client, WRITE, &[n])).collect();
    let mut arrived = Vec::new();
    for _ in 0..100 {
        arrived.push(session.request().await);
    }
    // All are there before any was answered. An order that is neither theirs nor its reverse:
    arrived.sort_by_key(|request| (request.id % 7, std::cmp::Reverse(request.id)));
    for request in &arrived {
        session.answer(request.id, &[request.payload[0], 1]).await;
    }
    for (n, request) in (0..100_u8).zip(requests) {
        assert_eq!(request.await.expect("no panic"), Ok(vec![n, 1]));
    }
}

#[tokio::test]
async fn answers_that_nobody_waits_for_are_passed_over() {
    let server = Server::start().await;
    let (client, mut session) = pair(&server).await;
    let request = spawn_request(&client, WRITE, b"a");
    let arrived = session.request().await;
    session.answer(arrived.id + 1, b"to a request that was never sent").await;
    session.answer(arrived.id, b"first").await;
    session.answer(arrived.id, b"second").await;
    assert_eq!(request.await.expect("no panic"), Ok(b"first".to_vec()));
    let (answer, ()) = tokio::join!(write(&client, b"b"), async {
        let arrived = session.request().await;
        session.answer(arrived.id, b"b").await;
    });
    assert_eq!(answer, Ok(b"b".to_vec()), "the connection is still good");
}

#[tokio::test]
async fn the_leader_in_a_hint_gets_the_next_request() {
    let (follower, leader) = (Server::start().await, Server::start().await);
    let (client, mut session) = pair(&follower).await;
    let hint = format!("http://{}", leader.authority());
    let (answer, ()) = tokio::join!(write(&client, b"1"), async {
        let id = session.request().await.id;
        session.respond(&Response { id, leader_hint: Some(&hint), result: Ok(b"relayed") }).await;
    });
    assert_eq!(answer, Ok(b"relayed".to_vec()));
    let (answer, mut leading) = tokio::join!(write(&client, b"2"), async {
        let mut leading = leader.accept().await;
        let request = leading.request().await;
        assert_eq!(request.payload, b"2");
        leading.answer(request.id, b"direct").await;
        leading
    });
    assert_eq!(answer, Ok(b"direct".to_vec()));
    let other_shard = soon("an answer", client.request(Target::Leader, READ, SHARD + 1, b"3", LONG));
    let (answer, ()) = tokio::join!(other_shard, async {
        let id = session.request().await.id;
        session.answer(id, b"a hint is for its shard").await;
    });
    assert_eq!(answer, Ok(b"a hint is for its shard".to_vec()));
    let asked = follower.endpoint();
    let (answer, ()) =
        tokio::join!(soon("an answer", client.request(Target::Endpoint(&asked), READ, SHARD, b"4", LONG)), async {
            let id = session.request().await.id;
            session.answer(id, b"as asked").await;
        });
    assert_eq!(answer, Ok(b"as asked".to_vec()), "a fixed endpoint goes before a hint");
    drop(client);
    assert_eq!(leading.next().await, None);
}

#[tokio::test]
async fn a_hint_in_a_refusal_is_followed_at_once() {
    let (follower, leader) = (Server::start().await, Server::start().await);
    let (client, mut session) = pair(&follower).await;
    let hint = leader.authority();
    let (answer, (), ()) = tokio::join!(
        write(&client, b"1"),
        async {
            let id = session.request().await.id;
            let refused = Refused { status: Status::Unavailable, executed: Executed::No, message: "not the leader" };
            session.respond(&Response { id, leader_hint: Some(&hint), result: Err(refused) }).await;
        },
        async {
            let mut leading = leader.accept().await;
            let request = leading.request().await;
            leading.answer(request.id, &request.payload).await;
        }
    );
    assert_eq!(answer, Ok(b"1".to_vec()));
}

#[tokio::test]
async fn a_hint_that_leads_nowhere_is_given_up() {
    let server = Server::start().await;
    let dead = DeadEnd::reserve();
    let (client, mut session) = pair(&server).await;
    let (_, ()) = tokio::join!(write(&client, b"1"), async {
        let id = session.request().await.id;
        session.respond(&Response { id, leader_hint: Some(&dead.authority), result: Ok(b"") }).await;
    });
    for hint in ["https://a:1", "no endpoint", ""] {
        let (answer, ()) = tokio::join!(write(&client, b"2"), async {
            let request = session.request().await;
            session.respond(&Response { id: request.id, leader_hint: Some(hint), result: Ok(b"ok") }).await;
        });
        assert_eq!(answer, Ok(b"ok".to_vec()), "behind the hint {hint:?}");
    }
}

#[tokio::test]
async fn a_write_that_took_no_effect_is_sent_again_elsewhere() {
    for status in [Status::Unavailable, Status::ShuttingDown, Status::Internal] {
        let (first, second) = (Server::start().await, Server::start().await);
        let (client, mut session) = client_of(&first, &second).await;
        let (answer, (), arrived) = tokio::join!(
            write(&client, b"w"),
            async {
                let id = session.request().await.id;
                session.refuse(id, status, Executed::No, "no quorum").await;
            },
            async {
                let mut session = second.accept().await;
                let request = session.request().await;
                session.answer(request.id, b"done").await;
                request.payload
            }
        );
        assert_eq!((answer, arrived), (Ok(b"done".to_vec()), b"w".to_vec()), "{status:?}");
    }
}

#[tokio::test]
async fn requests_that_fail_together_move_on_together() {
    let (first, second) = (Server::start().await, Server::start().await);
    let (client, mut session) = client_of(&first, &second).await;
    let requests: Vec<_> = (0..4_u8).map(|n| spawn_request(&client, WRITE, &[n])).collect();
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(session.request().await.id);
    }
    for id in ids {
        session.refuse(id, Status::Unavailable, Executed::No, "not now").await;
    }
    let mut other = second.accept().await;
    for _ in 0..4 {
        let request = other.request().await;
        other.answer(request.id, &request.payload).await;
    }
    for (n, request) in (0..4_u8).zip(requests) {
        assert_eq!(request.await.expect("no panic"), Ok(vec![n]));
    }
    drop(client);
    assert_eq!(session.next().await, None, "nothing came back to the first");
}

#[tokio::test]
async fn a_write_that_may_have_been_executed_is_never_sent_again() {
    for status in [Status::Unavailable, Status::Timeout, Status::Internal, Status::Overloaded] {
        let (first, second) = (Server::start().await, Server::start().await);
        let (client, mut session) = client_of(&first, &second).await;
        let (answer, ()) = tokio::join!(write(&client, b"w"), async {
            let id = session.request().await.id;
            session.refuse(id, status, Executed::Unknown, "leadership changed").await;
        });
        let reason = format!("{}: {}: leadership changed", first.authority(), status.as_str());
        assert_eq!(answer, Err(ClientError::Unknown { reason }));
        second.assert_nobody_waits().await;
        // The next request begins with somebody who may know more.
        let (answer, ()) = tokio::join!(write(&client, b"next"), async {
            let mut session = second.accept().await;
            let request = session.request().await;
            session.answer(request.id, &request.payload).await;
        });
        assert_eq!(answer, Ok(b"next".to_vec()));
        drop(client);
        assert_eq!(session.next().await, None);
    }
}

#[tokio::test]
async fn a_read_whose_outcome_is_unknown_is_asked_again() {
    let (first, second) = (Server::start().await, Server::start().await);
    let (client, mut session) = client_of(&first, &second).await;
    let (answer, (), ()) = tokio::join!(
        read(&client, b"r"),
        async {
            let id = session.request().await.id;
            session.refuse(id, Status::Timeout, Executed::Unknown, "no leader").await;
        },
        async {
            let mut session = second.accept().await;
            let request = session.request().await;
            session.answer(request.id, b"found").await;
        }
    );
    assert_eq!(answer, Ok(b"found".to_vec()));
}

#[tokio::test]
async fn final_refusals_are_told_and_not_tried_again() {
    let all = (1..=11).map(|byte| Status::from_wire(byte).expect("a status"));
    let is_final = |status: &Status| {
        !matches!(status, Status::Unavailable | Status::ShuttingDown | Status::Overloaded | Status::Internal)
    };
    for status in all.filter(is_final) {
        for kind in [WRITE, READ] {
            let (first, second) = (Server::start().await, Server::start().await);
            let (client, mut session) = client_of(&first, &second).await;
            let (answer, ()) =
                tokio::join!(soon("an answer", client.request(Target::Leader, kind, SHARD, b"x", LONG)), async {
                    let id = session.request().await.id;
                    session.refuse(id, status, Executed::No, "because").await;
                });
            assert_eq!(answer, Err(ClientError::Refused { status, message: "because".to_owned() }));
            second.assert_nobody_waits().await;
        }
    }
}

#[tokio::test]
async fn a_node_of_another_cluster_gets_no_request() {
    let (first, stranger, third) = (Server::start().await, Server::start().await, Server::start().await);
    let endpoints = [first.authority(), stranger.authority(), third.authority()];
    let (client, mut session) = tokio::join!(connect(&endpoints), first.accept());
    let client = client.expect("a client");
    let (answer, (), mut strange, ()) = tokio::join!(
        write(&client, b"w"),
        async {
            let id = session.request().await.id;
            session.refuse(id, Status::Unavailable, Executed::No, "not now").await;
        },
        async {
            let (mut session, _hello) = stranger.accept_hello().await;
            session.welcome(&net::handshake::Welcome { cluster: CLUSTER_ID + 1, ..welcome() }).await;
            session
        },
        async {
            let mut session = third.accept().await;
            let id = session.request().await.id;
            session.answer(id, b"done").await;
        }
    );
    assert_eq!(answer, Ok(b"done".to_vec()));
    assert_eq!(strange.next().await, None, "no request, and the connection is closed");
}
