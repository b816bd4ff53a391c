//! Documents name files, types and functions that are there.
//!
//! A file is named in backticks by its path, or by the end of it. In the map of the house every word in backticks that looks like a
//! name in Rust is one that some source has, and each function in a table stands in the file of its row.

use std::collections::BTreeSet;

use crate::Finding;
use crate::scan::{Source, words};
use crate::tree::{TextFile, Tree};

/// The map of the house.
const MAP: &str = "docs/ARCHITECTURE.md";

/// Files that the map names and that are still to be written.
const PLANNED: &[&str] = &["engine/src/replica/checkpoint.rs"];

/// Documents of what was, in which files may be named that are gone.
const HISTORY: &[&str] = &["CHANGELOG.md", "docs/decisions/"];

/// What names of metrics begin with; they have a document of their own.
const METRICS: &str = "quorate_";

/// Most files through which a put passes from the socket to its answer.
const FILES_OF_A_PUT_MAX: usize = 8;

pub fn check(tree: &Tree, sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for planned in PLANNED.iter().filter(|planned| tree.has(planned)) {
        findings.push(Finding::new(
            planned,
            0,
            "this file was planned and is there; remove it from tidy's PLANNED (named.rs)",
        ));
    }
    let documents = tree.files.iter().filter(|file| file.path.ends_with(".md"));
    for file in documents.filter(|file| !HISTORY.iter().any(|past| file.path.starts_with(past))) {
        for (number, name) in named(&file.text).filter(|(_, name)| name.ends_with(".rs") && !is_pattern(name)) {
            if !PLANNED.contains(&name) && !tree.paths.iter().any(|path| ends_with_path(path, name)) {
                findings.push(Finding::new(&file.path, number, format!("`{name}` is no file here")));
            }
        }
    }
    if let Some(map) = tree.files.iter().find(|file| file.path == MAP) {
        let known: BTreeSet<&str> =
            sources.iter().flat_map(|source| &source.lines).flat_map(|line| words(&line.code)).collect();
        for (number, name) in named(&map.text) {
            if let Some(missing) = rust_names(name).find(|part| !known.contains(part)) {
                findings.push(Finding::new(MAP, number, format!("`{missing}` is no name in any source")));
            }
        }
        findings.extend(check_way(map, sources));
    }
    findings
}

/// The table that follows a put: each row's functions stand in its file, and the files are few.
fn check_way(map: &TextFile, sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let rows = (1..).zip(map.text.lines()).filter_map(|(number, line)| Some((number, line.strip_prefix("| `")?)));
    let rows: Vec<(usize, &str, &str)> = rows
        .filter_map(|(number, row)| {
            let (file, rest) = row.split_once("` |")?;
            let (_, place) = rest.trim_end_matches('|').trim_end().rsplit_once('|')?;
            (file.ends_with(".rs")).then_some((number, file, place))
        })
        .collect();
    if rows.is_empty() || rows.len() > FILES_OF_A_PUT_MAX {
        let message = format!("a put passes through {} files here, it should be 1 to {FILES_OF_A_PUT_MAX}", rows.len());
        findings.push(Finding::new(&map.path, 0, message));
    }
    for (number, file, place) in rows {
        let source = sources.iter().find(|source| source.path == file);
        for name in place.split('`').skip(1).step_by(2) {
            let declares = |source: &Source| source.lines.iter().any(|line| declares(&line.code, name));
            if !source.is_some_and(declares) {
                findings.push(Finding::new(&map.path, number, format!("{file} has no function `{name}`")));
            }
        }
    }
    findings
}

fn declares(code: &str, name: &str) -> bool {
    words(code).zip(words(code).skip(1)).any(|(keyword, word)| keyword == "fn" && word == name)
}

/// What stands in backticks, with the number of its line; blocks of code are passed over.
fn named(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    let lines = (1..).zip(text.lines()).filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    lines.flat_map(|(number, line)| line.split('`').skip(1).step_by(2).map(move |name| (number, name)))
}

/// Stands for several files.
fn is_pattern(name: &str) -> bool {
    name.contains(['*', '<', '{', ' '])
}

fn ends_with_path(path: &str, end: &str) -> bool {
    path.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('/'))
}

/// The parts of a path in Rust, if `text` is one: each begins with an upper-case letter, or has an underscore.
fn rust_names(text: &str) -> impl Iterator<Item = &str> {
    let is_path =
        text.split("::").all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
    let parts = text.split("::").filter(move |part| is_path && !part.starts_with(METRICS));
    parts.filter(|part| part.contains('_') || part.starts_with(|c: char| c.is_ascii_uppercase()) && part.len() > 1)
}

#[test]
fn files_and_names_that_are_gone_are_found() {
    let file = |path: &str, text: &str| TextFile { path: path.to_owned(), text: text.to_owned() };
    let way = "| file | what | where |\n|---|---|---|\n| `x/src/a.rs` | it | `go`, `stop_it` |\n";
    let tree = Tree {
        files: vec![
            file("README.md", "`a.rs` `src/a.rs` `b.rs` `*.rs`\n```\n`c.rs`\n```\n"),
            file("CHANGELOG.md", "`b.rs`"),
            file(MAP, &format!("`Known::part_of`, `Unknown`, `plain`, `--flag`, `is_gone`\n{way}")),
        ],
        paths: vec!["x/src/a.rs".to_owned()],
    };
    let sources = [Source::new("x/src/a.rs", "enum Known {}\nfn part_of() {}\nfn go() {}\nconst STOP: u8 = stop_it;")];
    let found: Vec<String> = check(&tree, &sources).iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "README.md:1: `b.rs` is no file here",
            "docs/ARCHITECTURE.md:1: `Unknown` is no name in any source",
            "docs/ARCHITECTURE.md:1: `is_gone` is no name in any source",
            "docs/ARCHITECTURE.md:4: x/src/a.rs has no function `stop_it`",
        ]
    );
}
