//! Files that nothing leads to: sources that no `mod` names, and documents that no other document links to.

use std::collections::BTreeSet;

use crate::documents::linked_documents;
use crate::tree::Tree;
use crate::{Finding, modules};

pub fn check(tree: &Tree) -> Vec<Finding> {
    let sources = sources(tree).into_iter().map(|path| (path, "no `mod` names this file, so that nothing compiles it"));
    let documents =
        documents(tree).into_iter().map(|path| (path, "no document that the README leads to links to this one"));
    sources.chain(documents).map(|(path, what)| Finding::new(path, 0, format!("{what}; remove it or use it"))).collect()
}

/// Sources that no root leads to.
fn sources(tree: &Tree) -> Vec<&str> {
    let reached = modules::reached(tree, true);
    modules::sources(tree).map(|file| file.path.as_str()).filter(|path| !reached.contains(*path)).collect()
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
