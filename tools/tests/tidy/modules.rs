//! Which sources the modules of the workspace consist of, and which of them are compiled for tests alone.
//!
//! A source is reached from the roots that Cargo compiles. `#[path]` is followed; `include!` is not, and nothing here uses it
//! for a source of the repository.

use std::collections::BTreeSet;

use crate::scan::{Source, is_test_path, words};
use crate::tree::{TextFile, Tree};

/// All sources.
pub fn sources(tree: &Tree) -> impl Iterator<Item = &TextFile> {
    tree.files.iter().filter(|file| file.path.ends_with(".rs"))
}

/// Sources that are reached, with or without what only tests compile. Places where nothing is do no harm in it.
pub fn reached(tree: &Tree, with_tests: bool) -> BTreeSet<String> {
    let packages: Vec<&str> = tree.files.iter().filter_map(|file| file.path.strip_suffix("Cargo.toml")).collect();
    let roots = sources(tree).filter(|file| is_root(&packages, &file.path));
    let mut open: Vec<String> =
        roots.map(|file| file.path.clone()).filter(|path| with_tests || !is_test_path(path)).collect();
    let mut reached: BTreeSet<String> = open.iter().cloned().collect();
    while let Some(path) = open.pop() {
        let Some(file) = tree.files.iter().find(|file| file.path == path) else { continue };
        let is_at_the_top = is_root(&packages, &path) || path.ends_with("/mod.rs");
        for (child, is_test) in children(&path, &file.text, is_at_the_top) {
            if (with_tests || !is_test) && reached.insert(child.clone()) {
                open.push(child);
            }
        }
    }
    reached
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

/// Where the modules may lie that a file declares, and whether only tests compile them. Of two possible places the one that
/// is not there does no harm.
fn children(path: &str, text: &str, is_at_the_top: bool) -> Vec<(String, bool)> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let below = if is_at_the_top { folder } else { path.trim_end_matches(".rs") };
    let mut children = Vec::new();
    let mut named = None;
    let mut is_test = false;
    let code = Source::new(path, text);
    for (line, raw) in code.lines.iter().zip(text.lines()) {
        let attribute = line.code.trim_start();
        if attribute.starts_with("#[path") {
            named = raw.split('"').nth(1).map(|name| resolve(folder, name));
        }
        is_test |= attribute.starts_with("#[cfg(test)") || attribute.starts_with("#[cfg(all(test,");
        if attribute.is_empty() || attribute.starts_with("#[") {
            continue;
        }
        let for_tests = std::mem::take(&mut is_test) || line.is_test;
        let mut words = words(&line.code).skip_while(|word| *word != "mod");
        if !line.code.trim_end().ends_with(';') || words.next().is_none() {
            continue;
        }
        let Some(module) = words.next() else { continue };
        match named.take() {
            Some(path) => children.push((path, for_tests)),
            None => children.extend(
                [format!("{below}/{module}.rs"), format!("{below}/{module}/mod.rs")].map(|path| (path, for_tests)),
            ),
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

#[test]
fn what_only_tests_compile_is_told_apart() {
    let file = |path: &str, text: &str| TextFile { path: path.to_owned(), text: text.to_owned() };
    let tree = Tree {
        files: vec![
            file("a/Cargo.toml", ""),
            file(
                "a/src/lib.rs",
                "mod one;\n#[cfg(test)]\nmod two;\n#[cfg(all(test, feature = \"x\"))]\n#[path = \"../../s.rs\"]\nmod three;\nmod four;",
            ),
            file("a/src/two.rs", "mod five;"),
            file("a/tests/all.rs", "mod six;"),
        ],
        paths: Vec::new(),
    };
    let of_tests = |path: &str| reached(&tree, true).contains(path) && !reached(&tree, false).contains(path);
    for path in ["a/src/two.rs", "a/src/two/five.rs", "s.rs", "a/tests/all.rs", "a/tests/six.rs"] {
        assert!(of_tests(path), "{path}");
    }
    for path in ["a/src/lib.rs", "a/src/one.rs", "a/src/four.rs"] {
        assert!(reached(&tree, false).contains(path), "{path}");
    }
}
