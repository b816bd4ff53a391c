//! The corpus of the fuzz targets, replayed. A file that once broke something stays there for good.

use std::path::{Path, PathBuf};

use crate::testing::fuzz;

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(paths.len() >= 12, "{} has {} files only", folder.display(), paths.len());
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        (path, bytes)
    };
    paths.into_iter().map(read).collect()
}

/// Runs a target over its corpus, and over every prefix and every flipped bit of each file.
fn replay(target: &str, check: fn(&[u8])) {
    for (path, bytes) in corpus(target) {
        // The path goes with a failure: a test's output is shown when it fails.
        println!("{}", path.display());
        check(&bytes);
        (0..bytes.len()).for_each(|end| check(&bytes[..end]));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            check(&flipped);
        }
    }
}

#[test]
fn batch_corpus() {
    replay("batch", fuzz::batch);
}

#[test]
fn command_corpus() {
    replay("command", fuzz::command);
}

#[test]
fn config_toml_corpus() {
    replay("config_toml", fuzz::config_toml);
}

#[test]
fn config_urls_corpus() {
    replay("config_urls", fuzz::config_urls);
}

#[test]
fn peer_message_corpus() {
    replay("peer_message", fuzz::peer_message);
}

#[test]
fn response_corpus() {
    replay("response", fuzz::response);
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let names = |folder: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder);
        let entries = std::fs::read_dir(&folder).expect("a folder");
        let stem = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").path().with_extension("");
        let mut names: Vec<_> = entries.map(|entry| stem(entry).file_name().expect("a name").to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names("corpus"), names("fuzz_targets"));
    assert_eq!(names("corpus"), ["batch", "command", "config_toml", "config_urls", "peer_message", "response"]);
}
