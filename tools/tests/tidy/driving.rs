//! What drives I/O is not ignored: in core files the types of actions and readiness carry `#[must_use]`, or a function that
//! returns one; and in any case a function that returns one within an `Option` or a list.
//!
//! The compiler then warns about a caller that drops them, and warnings are errors. Results carry it already.

use crate::Finding;
use crate::layers::is_core;
use crate::scan::{Source, words};

/// Types of which somebody has to do something, each a core's output, and whether the type carries the attribute by itself.
const DRIVING: &[(&str, bool)] =
    &[("Action", true), ("AppendDecision", false), ("Ready", false), ("SyncRequest", true)];

pub fn check_source(source: &Source) -> Vec<Finding> {
    if !is_core(&source.path) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in source.shipped() {
        let is_function = line.code.contains("fn ") && !line.code.contains("fn(");
        let message = if is_function && returns_driving(&signature(source, number)) {
            "it returns what has to be done: mark it #[must_use], so that no caller drops it"
        } else if declares_driving(&line.code) {
            "it says what has to be done: mark it #[must_use], so that nobody drops it"
        } else {
            continue;
        };
        let above = source.lines[..number - 1].iter().rev();
        let mut attributes =
            above.map(|line| line.code.trim()).take_while(|code| code.is_empty() || code.starts_with("#["));
        if !attributes.any(|code| code.starts_with("#[must_use")) {
            findings.push(Finding::new(&source.path, number, message));
        }
    }
    findings
}

fn declares_driving(code: &str) -> bool {
    let is_type = code.contains("struct ") || code.contains("enum ");
    let mut names = words(code).skip_while(|word| !matches!(*word, "struct" | "enum")).skip(1);
    is_type && names.next().is_some_and(|name| DRIVING.contains(&(name, true)))
}

/// The function's signature from its first line to the brace or semicolon that ends it.
fn signature(source: &Source, number: usize) -> String {
    let mut text = String::new();
    for line in &source.lines[number - 1..] {
        let code = line.code.trim();
        text.push_str(code);
        text.push(' ');
        if code.ends_with(['{', ';', '}']) {
            break;
        }
    }
    text
}

/// After the last arrow one of the types is named, within another that does not carry the attribute by itself.
fn returns_driving(signature: &str) -> bool {
    let end = signature.find('{').unwrap_or(signature.len());
    let Some((_, returned)) = signature[..end].rsplit_once("->") else { return false };
    let names: Vec<&str> = words(returned).collect();
    let is_covered = matches!(names.as_slice(), [name] if DRIVING.contains(&(*name, true)));
    let is_driving = |name: &&str| DRIVING.iter().any(|(driving, _)| driving == name);
    !is_covered && !names.contains(&"Result") && names.iter().any(is_driving)
}

#[test]
fn functions_that_return_what_has_to_be_done_are_marked() {
    let found = |path: &str, text: &str| check_source(&Source::new(path, text)).len();
    let core = "wal/src/log.rs";
    assert_eq!(found(core, "/// Doc.\npub fn next(&mut self) -> Option<SyncRequest> {\n}"), 1);
    assert_eq!(found(core, "pub fn act(\n    &mut self,\n) -> Vec<Action> {\n}"), 1);
    assert_eq!(found(core, "/// Doc.\n#[must_use]\n#[inline]\npub fn ready(&mut self) -> Option<Ready> { x }"), 0);
    assert_eq!(found(core, "pub fn end(&mut self) -> SyncRequest { x }"), 0, "the type carries it");
    assert_eq!(found(core, "#[derive(Debug)]\npub struct SyncRequest {"), 1);
    assert_eq!(found(core, "#[must_use = \"\"]\npub struct SyncRequest {"), 0);
    assert_eq!(found(core, "pub fn try_it(&mut self) -> Result<Action, Error> {\n}"), 0);
    assert_eq!(found(core, "pub fn on(&mut self, action: Action, f: impl Fn() -> Action) -> bool {\n}"), 0);
    assert_eq!(found("engine/src/shell/shard.rs", "pub fn act() -> Vec<Action> {\n}"), 0);
}
