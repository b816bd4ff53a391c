//! Deletes in parts that fail on their way, against a server that answers as the test says.

use std::time::Duration;

use api::response::{KvView, OP_DELETE, OP_RANGE, ResponseWriter};
use client::ClientOptions;
use net::api::{Executed, Refused, Request, Response};
use net::deframer::Deframer;
use net::handshake::{Hello, MAGIC, Verdict, Welcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// No test waits longer than this.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
enum Answer {
    /// To a read: these keys, and there are more.
    Page(&'static [&'static str]),
    /// To a delete.
    Deleted(u64),
    /// A refusal for good.
    Refused,
}

impl Answer {
    /// The body at revision 9.
    fn body(self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        let mut writer = ResponseWriter::begin(&mut body, usize::MAX);
        let place = writer.begin_op();
        match self {
            Self::Page(keys) => {
                for key in keys {
                    let key = key.as_bytes();
                    let (value, lease) = (&[][..], 0);
                    writer.kv(&KvView { key, value, create_revision: 1, mod_revision: 1, version: 1, lease });
                }
                writer.end_op(place, OP_RANGE, true, u32::try_from(keys.len()).ok()?, keys.len() as u64);
            }
            Self::Deleted(keys) => writer.end_op(place, OP_DELETE, false, 0, keys),
            Self::Refused => return None,
        }
        writer.finish(9, true).then_some(body)
    }
}

/// Takes one client and answers its requests in the order of the script.
async fn serve(listener: TcpListener, shard_count: u32, script: &[Answer]) {
    let (mut stream, _) = listener.accept().await.expect("a client");
    let mut magic = [0; MAGIC.len()];
    stream.read_exact(&mut magic).await.expect("magic bytes");
    let mut deframer = Deframer::new(1 << 20);
    next(&mut stream, &mut deframer, |frame| Hello::decode(frame).map(drop).expect("a hello")).await;
    let mut bytes = Vec::new();
    Welcome { shard_count, cluster: 1, ..Welcome::to_stranger(Verdict::Accepted, String::new()) }.encode(&mut bytes);
    stream.write_all(&bytes).await.expect("an open connection");
    for answer in script {
        let id = next(&mut stream, &mut deframer, |frame| Request::decode(frame).expect("a request").id).await;
        let body = answer.body();
        let refused = Refused { status: Status::NoSpace, executed: Executed::No, message: "because" };
        let mut bytes = Vec::new();
        Response { id, leader_hint: None, result: body.as_deref().ok_or(refused) }.encode(&mut bytes);
        stream.write_all(&bytes).await.expect("an open connection");
    }
    // It stays open until the client closes it.
    drop(stream.read(&mut [0]).await);
}

async fn next<T>(stream: &mut TcpStream, deframer: &mut Deframer, take: impl FnOnce(&net::frame::Frame<'_>) -> T) -> T {
    loop {
        if let Some(frame) = deframer.next_frame().expect("sound frames") {
            return take(&frame);
        }
        let read = stream.read(deframer.space()).await.expect("an open connection");
        assert!(read > 0, "the client asks for less than the script has");
        deframer.advance(read);
    }
}

/// What a delete of everything in parts comes to.
async fn delete_all(shard_count: u32, script: &'static [Answer]) -> Result<u64, CommandError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoints = vec![listener.local_addr().expect("an address").to_string()];
    let deleting = async move {
        let client = Client::connect(ClientOptions { endpoints, ..ClientOptions::default() }).await?;
        delete_in_parts(&client, vec![0], vec![0]).await.map(|answer| answer.deleted)
    };
    let both = async { tokio::join!(deleting, serve(listener, shard_count, script)).0 };
    tokio::time::timeout(PATIENCE, both).await.expect("an answer in time")
}

#[tokio::test]
async fn a_delete_in_parts_that_fails_says_how_much_was_deleted_before() {
    use Answer::{Deleted, Page, Refused};
    let failing: [(u32, &[Answer]); 3] = [
        (1, &[Page(&["a", "b"]), Deleted(2), Refused]),
        (1, &[Page(&["a", "b"]), Deleted(2), Page(&["c"]), Refused]),
        (2, &[Page(&["a", "b"]), Page(&["aa", "c"]), Deleted(2), Refused]),
    ];
    for (shard_count, script) in failing {
        let error = delete_all(shard_count, script).await.expect_err("a refusal");
        assert!(matches!(error, CommandError::PartlyDeleted { deleted: 2, revision: 9, .. }), "{error}");
        let text = error.to_string();
        assert!(text.starts_with("2 keys were deleted by revision 9, and stay deleted; then"), "{text}");
        assert!(text.contains("because"), "{text}");
    }
}

#[tokio::test]
async fn a_delete_in_parts_that_fails_at_once_says_that_nothing_was_done() {
    use Answer::{Deleted, Page, Refused};
    let failing: [&[Answer]; 3] = [&[Refused], &[Page(&["a"]), Refused], &[Page(&["a"]), Deleted(0), Refused]];
    for script in failing {
        let error = delete_all(1, script).await.expect_err("a refusal");
        assert!(matches!(error, CommandError::Client(ClientError::Refused { status: Status::NoSpace, .. })), "{error}");
    }
    assert_eq!(delete_all(1, &[Page(&["a"]), Deleted(1), Page(&[])]).await.expect("it is done"), 1);
}
