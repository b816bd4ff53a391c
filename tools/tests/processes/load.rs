//! Writers that note what was acknowledged, and the check that it is all there.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::{Client, RangeRequest};

use crate::harness::Cluster;

/// Writers at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

pub fn value_of(key: &str) -> Vec<u8> {
    key.bytes().cycle().take(200).collect()
}

impl Load {
    /// Starts writers of unique keys through a client of these nodes.
    pub async fn start(cluster: &Cluster, nodes: &[usize], prefix: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
        let client = cluster.client_of(nodes, Duration::from_secs(10)).await;
        let writers = (0..16).map(|writer| {
            let (stop, acknowledged, client) = (Arc::clone(&stop), Arc::clone(&acknowledged), client.clone());
            let prefix = format!("{prefix}-{writer}");
            tokio::spawn(async move { write_until(&stop, &acknowledged, &client, &prefix).await })
        });
        Self { tasks: writers.collect(), stop, acknowledged }
    }

    pub fn acknowledged_count(&self) -> usize {
        self.acknowledged.lock().expect("no writer panicked").len()
    }

    /// Waits until so many more writes are acknowledged.
    pub async fn wait_for_more(&self, count: usize) {
        let wanted = self.acknowledged_count() + count;
        tokio::time::timeout(crate::harness::PATIENCE, async {
            while self.acknowledged_count() < wanted {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .expect("writes are acknowledged");
    }

    /// Stops the writers and returns what was acknowledged.
    pub async fn stop(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a writer ends well");
        }
        let acknowledged = self.acknowledged.lock().expect("no writer panicked");
        acknowledged.clone()
    }
}

async fn write_until(stop: &AtomicBool, acknowledged: &Mutex<BTreeSet<String>>, client: &Client, prefix: &str) {
    let mut number: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let key = format!("{prefix}-{number:08}");
        match client.put(key.as_bytes(), &value_of(&key)).await {
            Ok(_) => {
                acknowledged.lock().expect("no writer panicked").insert(key);
            }
            // Refused or of unknown outcome: nothing is promised for this key. The pause keeps a dead cluster from being
            // asked in a busy loop.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Every acknowledged key is on every running node, with its value.
pub async fn check_everywhere(cluster: &Cluster, nodes: &[usize], acknowledged: &BTreeSet<String>) {
    assert!(!acknowledged.is_empty(), "something was acknowledged");
    cluster.wait_for_equal().await;
    for node in nodes {
        let client = cluster.client_of(&[*node], Duration::from_secs(20)).await;
        let endpoint = &cluster.nodes[*node].client_url;
        let mut found = 0;
        let mut from = vec![0];
        loop {
            let request = RangeRequest {
                key: from.clone(),
                range_end: vec![0],
                limit: 2000,
                serializable: true,
                ..RangeRequest::default()
            };
            let page = client.range_on(endpoint, request).await.expect("a page");
            for kv in &page.kvs {
                let key = String::from_utf8(kv.key.clone()).expect("our keys are text");
                assert_eq!(kv.value, value_of(&key), "the value of {key} on node {node}");
                found += usize::from(acknowledged.contains(&key));
            }
            match page.kvs.last() {
                Some(last) if page.more => from = [last.key.as_slice(), &[0]].concat(),
                _ => break,
            }
        }
        assert_eq!(found, acknowledged.len(), "acknowledged writes on node {node}");
    }
}
