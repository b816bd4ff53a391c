//! Ranges that do not fit into one answer.

use client::{RangeRequest, RangeResponse};

use crate::harness::{Cluster, PATIENCE, quorate};

/// Keys of a range, together three answers of each shard.
const KEYS: usize = 80;

fn key(number: usize) -> String {
    format!("page/{number:02}")
}

fn all_pages() -> RangeRequest {
    RangeRequest { key: b"page/".to_vec(), range_end: b"page0".to_vec(), ..RangeRequest::default() }
}

/// Puts every key, with a value of so many of these bytes.
async fn put_all(client: &client::Client, byte: u8) {
    for number in 0..KEYS {
        client.put(key(number).as_bytes(), &vec![byte; 300 << 10]).await.expect("a put is acknowledged");
    }
}

#[tokio::test]
async fn all_keys_of_a_range_come_page_by_page_as_they_were_while_they_change_and_a_leader_is_lost() {
    let mut cluster = Cluster::start_with(3, 2, 2).await;
    let client = cluster.client_of(&[0, 1, 2], PATIENCE).await;
    put_all(&client, b'1').await;
    let mut pages = client.range_pages(all_pages());
    let first = pages.next_page().await.expect("a page").expect("there is one");
    assert!(first.more && first.kvs.len() < KEYS && first.count == KEYS as u64, "{} keys", first.kvs.len());
    // All is changed, half of it deleted, and the leader of one shard is lost.
    put_all(&client, b'2').await;
    for number in (0..KEYS).step_by(2) {
        client.delete(key(number).as_bytes(), None).await.expect("a delete is acknowledged");
    }
    let leader = cluster.leader(0).await;
    cluster.kill(leader);
    let mut all = vec![first];
    while let Some(page) = pages.next_page().await.expect("the others go on") {
        all.push(page);
    }
    assert!(all.len() >= 3, "{} pages", all.len());
    let found: Vec<&client::KeyValue> = all.iter().flat_map(|page| &page.kvs).collect();
    let keys: Vec<String> = found.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect();
    assert_eq!(keys, (0..KEYS).map(key).collect::<Vec<_>>(), "every key comes once and in order");
    for kv in found {
        assert!(kv.version == 1 && kv.value.iter().all(|byte| *byte == b'1'), "{:?} as it was", kv.version);
    }
    let now: RangeResponse = client.range_pages(all_pages()).collect().await.expect("all that is there now");
    assert_eq!((now.kvs.len(), now.count, now.more), (KEYS / 2, KEYS as u64 / 2, false));
}

#[tokio::test]
async fn the_command_line_shows_all_keys_of_a_range_that_does_not_fit_into_one_answer() {
    let cluster = Cluster::start_with(1, 2, 1).await;
    let client = cluster.client_of(&[0], PATIENCE).await;
    put_all(&client, b'v').await;
    let endpoint = cluster.nodes[0].client_url.as_str();
    for consistency in ["l", "s"] {
        let output = quorate(&["get", "page/", "--prefix", "--consistency", consistency, "--endpoints", endpoint]);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        let keys: Vec<&str> = text.lines().filter(|line| line.starts_with("page/")).collect();
        assert_eq!(keys, (0..KEYS).map(key).collect::<Vec<_>>());
    }
    let output = quorate(&["get", "page/", "--prefix", "--limit", "50", "--endpoints", endpoint]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(text.lines().filter(|line| line.starts_with("page/")).count(), 50, "a limit counts over all pages");
}
