//! A node inside another program: start it from settings, propose, read, stop it.
//!
//! `cargo run --release -p quorate-engine --example embed`

use std::time::Duration;

use api::command::{KeyRange, Op, RangeOp, encode_op_command, encode_range};
use api::response::{OpResponse, Response};
use engine::config::Config;
use engine::shell::node::Node;
use engine::types::ShardId;
use futures_lite::future::block_on;

const TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let data = tempfile::tempdir()?;
    let config = Config {
        name: "embedded".to_owned(),
        data_dir: Some(data.path().join("node")),
        listen_client_urls: vec!["http://127.0.0.1:23790".to_owned()],
        listen_peer_urls: vec!["http://127.0.0.1:23800".to_owned()],
        ..Config::default()
    };
    let node = Node::start(config.validate()?)?;
    let handle = node.handle();
    let shard = ShardId::new(0);

    let mut command = Vec::new();
    encode_op_command(&Op::Put { key: b"greeting", value: b"hello", lease: 0, prev_kv: false }, &mut command)?;
    // A node that has just started may still be electing itself; such a refusal took no effect.
    let answer = loop {
        match block_on(handle.propose(shard, command.clone(), TIMEOUT)) {
            Err(refusal) if refusal.is_safe_to_retry() => std::thread::sleep(Duration::from_millis(10)),
            result => break result?,
        }
    };
    println!("written at revision {}", Response::decode(&answer)?.revision);

    let range = RangeOp {
        range: KeyRange { key: b"greeting", range_end: b"" },
        limit: 0,
        revision: 0,
        keys_only: false,
        count_only: false,
    };
    let mut request = Vec::new();
    encode_range(&range, &mut request)?;
    let answer = block_on(handle.read(shard, request, TIMEOUT))?;
    for op in Response::decode(&answer)?.ops {
        if let OpResponse::Range { kvs, .. } = op {
            for kv in kvs {
                println!("{} = {}", String::from_utf8_lossy(&kv.key), String::from_utf8_lossy(&kv.value));
            }
        }
    }
    node.stop()?;
    Ok(())
}
