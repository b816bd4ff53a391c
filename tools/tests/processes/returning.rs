//! A node whose network comes back: connections that outlived the cut on one side alone keep no write waiting in vain.

use std::time::{Duration, Instant};

use client::{Client, ClientOptions};

use crate::harness::Cluster;
use crate::namespaces::Namespaces;

/// How long a node is cut off.
const CUT: Duration = Duration::from_secs(4);

/// When it is cut off, and how long the writes go on after its return.
const BEFORE: Duration = Duration::from_secs(1);
const BEHIND: Duration = Duration::from_secs(4);

/// Pause between two writes of new clients.
const PAUSE: Duration = Duration::from_millis(150);

/// A node that has its network back needs this long to be of use.
const BACK_WITHIN: Duration = Duration::from_millis(500);

/// Longest time that a write takes to any answer.
const PROMISED: Duration = Duration::from_secs(3);

/// A write of a new client.
#[derive(Debug)]
struct Put {
    began: Instant,
    took: Duration,
    /// What it ended with, if not well.
    error: Option<String>,
}

async fn put(endpoints: Vec<String>) -> Put {
    let began = Instant::now();
    let options = ClientOptions { endpoints, request_timeout: Duration::from_secs(5), ..ClientOptions::default() };
    let ended = async { Client::connect(options).await?.put(b"key", b"value").await };
    let error = ended.await.err().map(|error| error.to_string());
    Put { began, took: began.elapsed(), error }
}

#[tokio::test]
async fn a_node_whose_network_comes_back_swallows_no_writes() {
    let test = "returning::a_node_whose_network_comes_back_swallows_no_writes";
    let Some(namespaces) = Namespaces::enter(3, test) else { return };
    let cluster = Cluster::start_in(&namespaces, 3).await;
    let cut_off = (cluster.leader(0).await + 1) % 3;
    let url = |offset: usize| cluster.nodes[(cut_off + offset) % 3].client_url.clone();
    let started = Instant::now();
    let mut writes = [Vec::new(), Vec::new()];
    let (mut is_cut, mut back_at) = (false, None);
    while started.elapsed() < BEFORE + CUT + BEHIND {
        if !is_cut && started.elapsed() >= BEFORE {
            namespaces.cut_off(cut_off);
            is_cut = true;
        }
        if back_at.is_none() && started.elapsed() >= BEFORE + CUT {
            namespaces.bring_back(cut_off);
            back_at = Some(Instant::now());
        }
        writes[0].push(tokio::spawn(put(vec![url(0)])));
        writes[1].push(tokio::spawn(put((0..3).map(url).collect())));
        tokio::time::sleep(PAUSE).await;
    }
    let useful_at = back_at.expect("it came back") + BACK_WITHIN;
    for (writes, has_others) in writes.into_iter().zip([false, true]) {
        let (mut longest, mut last_error) = (Duration::ZERO, None);
        for write in writes {
            let put = write.await.expect("no panic");
            if has_others || put.began >= useful_at {
                let at = put.began.duration_since(started);
                assert!(
                    put.took < PROMISED,
                    "with others: {has_others}; begun at {at:?}, cut off at {BEFORE:?}: {put:?}"
                );
                longest = longest.max(put.took);
                last_error = put.error.or(last_error);
            }
        }
        println!("with others: {has_others}; the longest write took {longest:?}, the last error was {last_error:?}");
    }
}
