//! Bytes rot while a node is down: any bit, any page, any file of its data directory. The node repairs itself from the
//! others, or says exactly what is wrong and does not start; nothing acknowledged is lost.

use std::fs;
use std::path::{Path, PathBuf};

use wal::testing::SimRng;

use crate::harness::Cluster;
use crate::load::{Load, check_everywhere};

/// Places that are damaged, one after the other.
const ROUNDS: u64 = 60;

const PAGE_BYTES: usize = 4096;

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory of the node") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else if fs::metadata(&path).expect("a file").len() > 0 {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Damages one place and says which; half of the places lie where something was written.
fn damage(path: &Path, rng: &mut SimRng) -> String {
    let mut bytes = fs::read(path).expect("a file of the node");
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(bytes.len(), |last| last + 1);
    let limit = if rng.chance(2, 3) { written } else { bytes.len() };
    let at = usize::try_from(rng.below(limit as u64)).expect("an offset");
    let what = match rng.below(3) {
        0 => {
            bytes[at] ^= 1 << rng.below(8);
            "a bit flips"
        }
        1 => {
            let start = at / PAGE_BYTES * PAGE_BYTES;
            let end = (start + PAGE_BYTES).min(bytes.len());
            bytes[start..end].fill(0);
            "a page turns to zeros"
        }
        _ => {
            bytes.truncate(at);
            "the file is cut"
        }
    };
    fs::write(path, bytes).expect("the file is ours");
    format!("{} at {at}: {what}", path.display())
}

#[tokio::test]
async fn a_node_whose_files_rot_repairs_itself_or_says_what_is_wrong() {
    let mut cluster = Cluster::start(3).await;
    let mut rng = SimRng::new(20_261_123);
    let load = Load::start(&cluster, &[0, 1, 2], "rot").await;
    let mut refused = 0;
    for round in 0..ROUNDS {
        load.wait_for_more(20).await;
        let node = usize::try_from(rng.below(3)).expect("a node");
        cluster.kill(node);
        let files = files_below(cluster.data_dir(node));
        let path = &files[usize::try_from(rng.below(files.len() as u64)).expect("a file")];
        let whole = fs::read(path).expect("a file of the node");
        let what = damage(path, &mut rng);
        cluster.start_node(node);
        if !cluster.wait_until_sound(node, &what).await {
            let log = cluster.log_of(node);
            let last = log.lines().last().unwrap_or_default();
            assert!(last.starts_with("error: ") && last.len() > 40, "round {round}, {what}: {last}");
            refused += 1;
            fs::write(path, &whole).expect("the file is ours");
            cluster.start_node(node);
            assert!(
                cluster.wait_until_sound(node, &what).await,
                "round {round}, {what}, put back: {}",
                cluster.log_of(node)
            );
        }
    }
    let acknowledged = load.stop().await;
    check_everywhere(&cluster, &[0, 1, 2], &acknowledged).await;
    let repaired =
        (0..3).map(|node| cluster.log_of(node).matches("the log lost durable entries").count()).sum::<usize>();
    println!("{ROUNDS} places damaged: {repaired} repairs, {refused} refusals, {} writes kept", acknowledged.len());
    assert!(repaired > 5, "only {repaired} of the damages were to durable entries");
}
