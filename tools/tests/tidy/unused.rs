//! Files that nothing leads to: sources that no `mod` names, and documents that no other document links to.
//!
//! A source is reached from the roots that Cargo compiles. `#[path]` is followed; `include!` is not, and nothing here uses it
//! for a source of the repository.

use std::collections::BTreeSet;

use crate::Finding;
use crate::documents::linked_documents;
use crate::scan::{Source, words};
use crate::tree::Tree;

pub fn check(tree: &Tree) -> Vec<Finding> {
    let sources = sources(tree).into_iter().map(|path| (path, "no `mod` names this file, so that nothing compiles it"));
    let documents =
        documents(tree).into_iter().map(|path| (path, "no document that the README leads to links to this one"));
    sources.chain(documents).map(|(path, what)| Finding::new(path, 0, format!("{what}; remove it or use it"))).collect()
}

/// Sources that no root leads to.
fn sources(tree: &Tree) -> Vec<&str> {
    let all = || tree.files.iter().filter(|file| file.path.ends_with(".rs"));
    let packages: Vec<&str> = tree.files.iter().filter_map(|file| file.path.strip_suffix("Cargo.toml")).collect();
    let mut open: Vec<String> =
        all().filter(|file| is_root(&packages, &file.path)).map(|file| file.path.clone()).collect();
    let mut reached: BTreeSet<String> = open.iter().cloned().collect();
    while let Some(path) = open.pop() {
        let Some(file) = tree.files.iter().find(|file| file.path == path) else { continue };
        let is_at_the_top = is_root(&packages, &path) || path.ends_with("/mod.rs");
        for child in children(&path, &file.text, is_at_the_top) {
            if reached.insert(child.clone()) {
                open.push(child);
            }
        }
    }
    all().map(|file| file.path.as_str()).filter(|path| !reached.contains(*path)).collect()
}

/// Cargo compiles this file by itself: it belongs to a package, and lies where that keeps its targets.
fn is_root(packages: &[&str], path: &str) -> bool {
    let package = packages.iter().filter(|package| path.starts_with(**package)).max_by_key(|package| package.len());
    let Some(inside) = package.and_then(|package| path.strip_prefix(package)) else { return false };
    if matches!(inside, "src/lib.rs" | "src/main.rs" | "build.rs") {
        return true;
    }
    let Some((folder, name)) = inside.split_once('/') else { return false };
    let is_target_folder = matches!(folder, "tests" | "benches" | "examples" | "fuzz_targets");
    is_target_folder && (!name.contains('/') || name.ends_with("/main.rs") && name.matches('/').count() == 1)
}

/// Where the modules may lie that a file declares; of two possible places the one that is not there does no harm.
fn children(path: &str, text: &str, is_at_the_top: bool) -> Vec<String> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let below = if is_at_the_top { folder } else { path.trim_end_matches(".rs") };
    let mut children = Vec::new();
    let mut named = None;
    let code = Source::new(path, text);
    for (line, raw) in code.lines.iter().zip(text.lines()) {
        if line.code.trim_start().starts_with("#[path") {
            named = raw.split('"').nth(1).map(|name| resolve(folder, name));
        }
        let mut words = words(&line.code).skip_while(|word| *word != "mod");
        if !line.code.trim_end().ends_with(';') || words.next().is_none() {
            continue;
        }
        let Some(module) = words.next() else { continue };
        match named.take() {
            Some(path) => children.push(path),
            None => children.extend([format!("{below}/{module}.rs"), format!("{below}/{module}/mod.rs")]),
        }
    }
    children
}

/// A path relative to a folder, seen from the workspace.
fn resolve(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Documents that are not reached from the README over links.
fn documents(tree: &Tree) -> Vec<&str> {
    let mut open = vec!["README.md".to_owned()];
    let mut reached: BTreeSet<String> = open.iter().cloned().collect();
    while let Some(path) = open.pop() {
        let Some(file) = tree.files.iter().find(|file| file.path == path) else { continue };
        open.extend(linked_documents(file).into_iter().filter(|linked| reached.insert(linked.clone())));
    }
    let all = tree.files.iter().map(|file| file.path.as_str());
    all.filter(|path| path.ends_with(".md") && !reached.contains(*path)).collect()
}

#[test]
fn files_that_nothing_leads_to_are_found() {
    let file = |path: &str, text: &str| crate::tree::TextFile { path: path.to_owned(), text: text.to_owned() };
    let tree = Tree {
        files: vec![
            file("README.md", "[a](docs/a.md)"),
            file("docs/a.md", "[up](../README.md)"),
            file("docs/b.md", "[a](a.md)"),
            file("a/Cargo.toml", ""),
            file(
                "a/src/lib.rs",
                "pub mod one;\nmod two; // mod three;\n#[cfg(test)]\n#[path = \"odd_tests.rs\"]\nmod tests;",
            ),
            file("a/src/one.rs", "mod four;"),
            file("a/src/one/four.rs", ""),
            file("a/src/two/mod.rs", "mod five;"),
            file("a/src/two/five.rs", "#[path = \"../../shared.rs\"]\nmod shared;"),
            file("a/shared.rs", ""),
            file("a/src/odd_tests.rs", ""),
            file("a/src/three.rs", ""),
            file("a/src/four.rs", ""),
            file("a/tests/all/main.rs", "mod six;"),
            file("a/tests/all/six.rs", ""),
            file("a/tests/all/seven.rs", ""),
        ],
        paths: Vec::new(),
    };
    let found: Vec<String> = check(&tree).into_iter().map(|finding| finding.path).collect();
    assert_eq!(found, ["a/src/three.rs", "a/src/four.rs", "a/tests/all/seven.rs", "docs/b.md"]);
}
