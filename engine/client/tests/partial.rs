//! A delete over several shards, against a server that does what the test says.

use std::time::Duration;

use client::{Client, ClientError, ClientOptions, PartOutcome, ShardPart};
use net::api::{Executed, Refused, Request, Response, Status};
use net::deframer::Deframer;
use net::handshake::{ClientLimits, Hello, MAGIC, PROTOCOL_VERSION, Verdict, Welcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SHARDS: u32 = 4;

/// No test waits longer than this.
const PATIENCE: Duration = Duration::from_secs(60);

/// The answer to a delete of so many keys, at revision 9.
fn deleted(keys: u64) -> Vec<u8> {
    let mut body = 9_u64.to_le_bytes().to_vec();
    body.extend_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    body.extend_from_slice(&keys.to_le_bytes());
    body
}

/// Takes one client; each shard answers as the script says.
async fn serve(listener: TcpListener, script: Vec<Result<u64, (Status, Executed)>>) {
    let (mut stream, _) = listener.accept().await.expect("a client");
    let mut magic = [0; MAGIC.len()];
    stream.read_exact(&mut magic).await.expect("magic bytes");
    let mut deframer = Deframer::new(1 << 20);
    next(&mut stream, &mut deframer, |frame| Hello::decode(frame).map(drop).expect("a hello")).await;
    let mut bytes = Vec::new();
    Welcome {
        version: PROTOCOL_VERSION,
        verdict: Verdict::Accepted,
        shard_count: SHARDS,
        cluster: 1,
        node_id: 1,
        limits: ClientLimits::default(),
        name: "n".to_owned(),
        client_url: String::new(),
        message: String::new(),
    }
    .encode(&mut bytes);
    stream.write_all(&bytes).await.expect("an open connection");
    while let Some((id, shard)) = next(&mut stream, &mut deframer, |frame| {
        let request = Request::decode(frame).expect("a request");
        (request.id, request.shard)
    })
    .await
    {
        let answer = script[shard as usize].map(deleted);
        let result = match &answer {
            Ok(body) => Ok(body.as_slice()),
            Err((status, executed)) => Err(Refused { status: *status, executed: *executed, message: "because" }),
        };
        let mut bytes = Vec::new();
        Response { id, leader_hint: None, result }.encode(&mut bytes);
        stream.write_all(&bytes).await.expect("an open connection");
    }
}

async fn next<T>(
    stream: &mut TcpStream,
    deframer: &mut Deframer,
    take: impl FnOnce(&net::frame::Frame<'_>) -> T,
) -> Option<T> {
    loop {
        if let Some(frame) = deframer.next_frame().expect("sound frames") {
            return Some(take(&frame));
        }
        match stream.read(deframer.space()).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => deframer.advance(read),
        }
    }
}

/// What a delete of everything comes to when the shards answer so.
async fn delete_all(script: Vec<Result<u64, (Status, Executed)>>) -> Result<u64, ClientError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoints = vec![listener.local_addr().expect("an address").to_string()];
    let serving = tokio::spawn(serve(listener, script));
    let deleting = async {
        let client = Client::connect(ClientOptions { endpoints, ..ClientOptions::default() }).await?;
        client.delete(&[0], Some(&[0])).await.map(|answer| answer.deleted)
    };
    let result = tokio::time::timeout(PATIENCE, deleting).await.expect("an answer in time");
    serving.abort();
    result
}

#[tokio::test]
async fn a_delete_that_fails_after_keys_were_deleted_says_what_each_shard_did() {
    let full = (Status::NoSpace, Executed::No);
    let parts = match delete_all(vec![Ok(3), Ok(0), Err(full), Ok(1)]).await {
        Err(ClientError::Partial { parts }) => parts,
        other => panic!("{other:?}"),
    };
    let error = ClientError::Refused { status: Status::NoSpace, message: "because".to_owned() };
    let expected = [
        PartOutcome::Deleted { keys: 3, revision: 9 },
        PartOutcome::Deleted { keys: 0, revision: 9 },
        PartOutcome::Failed(Box::new(error)),
        PartOutcome::NotBegun,
    ];
    let expected: Vec<_> = (0..).zip(expected).map(|(shard, outcome)| ShardPart { shard, outcome }).collect();
    assert_eq!(parts, expected);
}

#[tokio::test]
async fn a_delete_that_fails_before_any_key_was_deleted_took_no_effect_or_nobody_knows() {
    let full = (Status::NoSpace, Executed::No);
    let error = delete_all(vec![Ok(0), Err(full), Ok(1), Ok(1)]).await.expect_err("a shard is full");
    assert!(!error.may_have_taken_effect(), "{error}");
    let unknown = (Status::Timeout, Executed::Unknown);
    let error = delete_all(vec![Ok(0), Err(unknown), Ok(1), Ok(1)]).await.expect_err("a shard does not know");
    assert!(matches!(error, ClientError::Unknown { .. }), "{error}");
    assert_eq!(delete_all(vec![Ok(1), Ok(2), Ok(0), Ok(4)]).await, Ok(7));
}
