//! Replays the corpora of a package's fuzz targets, for its plain tests. A file that once broke something stays there for good.

use std::path::{Path, PathBuf};

/// Files that each corpus has at least.
const FILES_MIN: usize = 12;

/// The files of one target's corpus, in order. `package` is the package's own folder.
fn files(package: &str, target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(package).join("fuzz/corpus").join(target);
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(paths.len() >= FILES_MIN, "{} has {} files only", folder.display(), paths.len());
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        (path, bytes)
    };
    paths.into_iter().map(read).collect()
}

/// Runs a target over its corpus, and over every prefix and every flipped bit of each file.
///
/// # Panics
/// If the check does, or if the corpus can't be read or has too few files.
pub fn replay(package: &str, target: &str, check: fn(&[u8])) {
    for (path, bytes) in files(package, target) {
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

/// Checks that every target has a corpus, every corpus a target, and that they are these, in the order of their names.
///
/// # Panics
/// If not.
pub fn check_targets(package: &str, expected: &[&str]) {
    let names = |folder: &str| {
        let folder = Path::new(package).join("fuzz").join(folder);
        let entries = std::fs::read_dir(&folder).expect("a folder");
        let stem = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").path().with_extension("");
        let mut names: Vec<_> = entries.map(|entry| stem(entry).file_name().expect("a name").to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names("corpus"), names("fuzz_targets"));
    assert_eq!(names("corpus"), expected);
}
