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
fn deframer_corpus() {
    replay("deframer", fuzz::deframer);
}

#[test]
fn handshake_corpus() {
    replay("handshake", fuzz::handshake);
}

#[test]
fn client_request_corpus() {
    replay("client_request", fuzz::client_request);
}

#[test]
fn client_response_corpus() {
    replay("client_response", fuzz::client_response);
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
    assert_eq!(names("corpus"), ["client_request", "client_response", "deframer", "handshake"]);
}
