//! The list of coverage marks names each mark of the sources, and nothing else. Each stands in one place, so that reaching it says which
//! branch was reached. Whether runs reach them is the simulator's business.

use std::collections::BTreeMap;

use crate::Finding;
use crate::tree::TextFile;

const LIST: &str = "engine/src/testing/sim/marks.rs";

pub fn check(files: &[TextFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut marks: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
    for file in files.iter().filter(|file| file.path.contains("/src/") && file.path.ends_with(".rs")) {
        for (line, name) in marks_in(&file.text) {
            if let Some((path, first)) = marks.insert(name, (&file.path, line)) {
                let message = format!("`{name}` marks {path}:{first}, too; give each branch a mark of its own");
                findings.push(Finding::new(&file.path, line, message));
            }
        }
    }
    let list = files.iter().find(|file| file.path == LIST).map_or("", |file| &file.text);
    for (line, text) in (1..).zip(list.lines()) {
        let name = text.trim().strip_prefix('"').and_then(|rest| rest.strip_suffix("\","));
        if let Some(name) = name.filter(|name| marks.remove(name).is_none()) {
            findings.push(Finding::new(LIST, line, format!("`{name}` marks nothing, or is listed twice")));
        }
    }
    for (name, (path, line)) in marks {
        findings.push(Finding::new(path, line, format!("`{name}` is not listed in {LIST}, so nobody misses it")));
    }
    findings
}

/// The marks of a source, each with its line from 1.
fn marks_in(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices(concat!("mark", "!(")).filter_map(|(at, call)| {
        let inside = text[at + call.len()..].trim_start().strip_prefix('"')?;
        let line = text[..at].matches('\n').count() + 1;
        Some((line, inside.split_once('"')?.0))
    })
}

#[test]
fn marks_that_are_not_listed_and_names_that_mark_nothing_are_found() {
    let call = |name: &str| format!("fn f() {{\n    {}\n        \"{name}\" if x\n    );\n}}\n", concat!("mark", "!("));
    let file = |path: &str, text: String| TextFile { path: path.to_owned(), text };
    let list = "const ALL: &[&str] = &[\n    \"one\",\n    \"two\",\n    \"gone\",\n];";
    let files = [
        file("a/src/one.rs", call("one") + &call("two")),
        file("a/src/two.rs", call("two") + &call("three")),
        file("a/tests/three.rs", call("four")),
        file(LIST, list.to_owned()),
    ];
    let found: Vec<String> = check(&files).iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("a/src/two.rs:2: `two` marks a/src/one.rs:7, too"), "{}", found[0]);
    assert!(found[1].ends_with("sim/marks.rs:4: `gone` marks nothing, or is listed twice"), "{}", found[1]);
    assert!(found[2].starts_with("a/src/two.rs:7: `three` is not listed"), "{}", found[2]);
}
