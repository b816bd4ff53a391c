//! Imports between the files of a package run one way.
//!
//! Read are `use` declarations and paths that begin with `crate`, `super` or `self`, in code that is not test. A module and the
//! modules inside it count as one thing in several files: a child may extend its parent's types. Macros and names that came
//! in by `*` are not seen.

use std::collections::{BTreeMap, BTreeSet};

use crate::Finding;
use crate::scan::{Source, is_word};

/// From the file that imports to the files that it imports, each with the line of the first import.
type Arrows = BTreeMap<usize, BTreeMap<usize, usize>>;

/// `known` are the files that still stand in a circle.
pub fn check(sources: &[Source], known: &[&str]) -> Vec<Finding> {
    let arrows = arrows(sources);
    let circles = circles(&arrows, sources.len());
    let mut findings = Vec::new();
    let is_in_circle = |path: &str| circles.iter().flatten().any(|&at| sources[at].path == path);
    for &path in known.iter().filter(|path| !is_in_circle(path)) {
        findings.push(Finding::new(path, 0, "its imports run in no circle any more; remove its ratchet"));
    }
    for circle in &circles {
        if circle.iter().all(|&at| known.contains(&sources[at].path.as_str())) {
            continue;
        }
        let (first, others) = circle.split_first().expect("a circle has members");
        let line = arrows[first].iter().find(|(to, _)| circle.contains(to)).map_or(0, |(_, line)| *line);
        let names: Vec<&str> = others.iter().map(|other| sources[*other].path.as_str()).collect();
        let message =
            format!("imports run in a circle through {}; give what they share a file of its own", names.join(", "));
        findings.push(Finding::new(&sources[*first].path, line, message));
    }
    findings
}

/// Package folder and module path of a source of a library or binary.
fn place(path: &str) -> Option<(&str, Vec<&str>)> {
    let (package, inside) = path.split_once("/src/")?;
    let mut parts: Vec<&str> = inside.strip_suffix(".rs")?.split('/').collect();
    let is_root = matches!(parts.as_slice(), ["lib" | "main"]);
    if is_root || parts.last() == Some(&"mod") {
        parts.pop();
    }
    Some((package, parts))
}

fn arrows(sources: &[Source]) -> Arrows {
    let places: Vec<_> = sources.iter().map(|source| place(&source.path)).collect();
    let files: BTreeMap<(&str, Vec<&str>), usize> =
        places.iter().enumerate().filter_map(|(at, place)| Some((place.clone()?, at))).collect();
    let mut arrows = Arrows::new();
    for (from, source) in sources.iter().enumerate() {
        let Some((package, module)) = &places[from] else { continue };
        for (line, path) in paths(source) {
            let Some(target) = absolute(module, &path, |module| files.contains_key(&(*package, module.to_vec())))
            else {
                continue;
            };
            // The file of the longest part of the path that is a module.
            let file = (0..=target.len()).rev().find_map(|length| {
                files.get(&(*package, target[..length].iter().map(String::as_str).collect())).copied()
            });
            let Some(to) = file.filter(|&to| to != from) else { continue };
            let theirs = &places[to].as_ref().expect("it was found by its place").1;
            if !theirs.starts_with(module) && !module.starts_with(theirs) {
                arrows.entry(from).or_default().entry(to).or_insert(line);
            }
        }
    }
    arrows
}

/// A path as it is written in a module, seen from the package's root. `None` if it leads out of the package.
fn absolute(module: &[&str], path: &[String], is_module: impl Fn(&[&str]) -> bool) -> Option<Vec<String>> {
    let own = |length: usize| module[..length].iter().map(|&part| part.to_owned());
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some(own(module.len()).chain(rest.iter().cloned()).collect()),
        "super" => {
            let ups = path.iter().take_while(|part| *part == "super").count();
            Some(own(module.len().saturating_sub(ups)).chain(path[ups..].iter().cloned()).collect())
        }
        child => {
            let of_child: Vec<&str> = module.iter().copied().chain([child]).collect();
            is_module(&of_child).then(|| own(module.len()).chain(path.iter().cloned()).collect())
        }
    }
}

/// Every path that names something of the package, with the line on which it begins.
fn paths(source: &Source) -> Vec<(usize, Vec<String>)> {
    let tokens = tokens(source);
    let mut found = Vec::new();
    let mut at = 0;
    while let Some((line, token)) = tokens.get(at) {
        let follows_path = at > 0 && tokens[at - 1].1 == "::";
        // `impl Trait + use<'a>` says what a type captures, and imports nothing.
        let captures = tokens.get(at + 1).is_some_and(|(_, next)| next == "<");
        if token == "use" && !captures {
            at = read_tree(&tokens, at + 1, &mut Vec::new(), *line, &mut found);
        } else if matches!(token.as_str(), "crate" | "super" | "self") && !follows_path {
            let mut path = vec![token.clone()];
            while tokens.get(at + 1).is_some_and(|(_, token)| token == "::")
                && let Some((_, next)) = tokens.get(at + 2).filter(|(_, token)| token.starts_with(is_word))
            {
                path.push(next.clone());
                at += 2;
            }
            if path.len() > 1 {
                found.push((*line, path));
            }
            at += 1;
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one branch of a `use` declaration, and returns the position after it.
fn read_tree(
    tokens: &[(usize, String)],
    mut at: usize,
    prefix: &mut Vec<String>,
    line: usize,
    found: &mut Vec<(usize, Vec<String>)>,
) -> usize {
    let depth = prefix.len();
    while let Some((_, token)) = tokens.get(at) {
        match token.as_str() {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|(_, token)| token != "}" && token != ";") {
                    at = read_tree(tokens, at, prefix, line, found);
                    at += usize::from(tokens.get(at).is_some_and(|(_, token)| token == ","));
                }
                prefix.truncate(depth);
                return at + 1;
            }
            "," | "}" | ";" => break,
            "::" => {}
            // The name that it gets here does not matter.
            "as" => at += 1,
            word => prefix.push(word.to_owned()),
        }
        at += 1;
    }
    if prefix.len() > depth {
        found.push((line, prefix.clone()));
    }
    prefix.truncate(depth);
    at
}

/// Words, `::` and single signs of the code that is not test, with their lines.
fn tokens(source: &Source) -> Vec<(usize, String)> {
    let mut tokens = Vec::new();
    for (number, line) in source.shipped() {
        let mut rest = line.code.as_str();
        while let Some(first) = rest.chars().next() {
            let length = match first {
                ':' if rest.starts_with("::") => 2,
                _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                _ => first.len_utf8(),
            };
            let (token, after) = rest.split_at(length);
            if !token.trim().is_empty() {
                tokens.push((number, token.to_owned()));
            }
            rest = after;
        }
    }
    tokens
}

/// Files that reach each other, in sets of two and more.
fn circles(arrows: &Arrows, count: usize) -> Vec<Vec<usize>> {
    let reached: Vec<BTreeSet<usize>> = (0..count).map(|from| reached(arrows, from)).collect();
    let mut circles = BTreeSet::new();
    for from in 0..count {
        let circle: Vec<usize> = reached[from].iter().copied().filter(|&to| reached[to].contains(&from)).collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

fn reached(arrows: &Arrows, from: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(at) = open.pop() {
        for &to in arrows.get(&at).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(to) {
                open.push(to);
            }
        }
    }
    reached
}

#[test]
fn circles_are_found_and_children_may_extend_their_parents() {
    let found = |files: &[(&str, &str)]| -> Vec<String> {
        let sources: Vec<Source> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
        check(&sources, &[]).iter().map(ToString::to_string).collect()
    };
    let circle = [
        ("a/src/one.rs", "use std::fmt;\nuse crate::{\n    inner::{two::Two as Other, Three},\n};"),
        ("a/src/inner/mod.rs", "pub use two::Two;"),
        ("a/src/inner/two.rs", "fn f() -> super::super::one::One {}"),
    ];
    assert_eq!(
        found(&circle),
        ["a/src/one.rs:2: imports run in a circle through a/src/inner/two.rs; give what they share a file of its own"]
    );
    let sources = [Source::new("a/src/x.rs", "use crate::y::Y;"), Source::new("a/src/y.rs", "use crate::x::X;")];
    assert!(check(&sources, &["a/src/x.rs", "a/src/y.rs"]).is_empty());
    assert_eq!(check(&sources, &["a/src/x.rs"]).len(), 1);
    assert_eq!(check(&sources, &["a/src/x.rs", "a/src/y.rs", "a/src/z.rs"]).len(), 1);
    assert!(found(&[("a/src/x/mod.rs", "use y::Y;"), ("a/src/x/y.rs", "use super::X;")]).is_empty());
    assert!(found(&[("a/src/x.rs", "use crate::y::Y;"), ("b/src/y.rs", "use crate::x::X;")]).is_empty());
    let in_test = "#[cfg(test)]\nmod tests {\n    use crate::x::X;\n}";
    assert!(found(&[("a/src/x.rs", "use crate::y::Y;"), ("a/src/y.rs", in_test)]).is_empty());
    // What a type captures is no import, and nothing that does not end like one is read for ever.
    let captures = "fn f() -> impl Future + use<T> {\n    let x = 1;\n}";
    assert!(found(&[("a/src/x.rs", captures), ("a/src/y.rs", "use crate::x::{X;")]).is_empty());
}
