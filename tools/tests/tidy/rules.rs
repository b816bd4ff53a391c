//! Rules for every source by itself: module documentation, banned words and constructs.

use crate::Finding;
use crate::scan::{Source, is_word, words};

/// Names for Raft's positions and parts that this project does not use, and what it calls them.
const BANNED_NAMES: &[(&str, &str)] = &[
    ("epoch", "Raft's period is a `term`; the count of writes is a `revision`"),
    ("prs", "followers are tracked by `progress`"),
    ("match_idx", "`_idx` is an array position; Raft's positions end in `_index`"),
    ("next_idx", "`_idx` is an array position; Raft's positions end in `_index`"),
    ("commit_idx", "`_idx` is an array position; Raft's positions end in `_index`"),
    ("applied_idx", "`_idx` is an array position; Raft's positions end in `_index`"),
    ("persisted_idx", "`_idx` is an array position; Raft's positions end in `_index`"),
    ("first_idx", "`_idx` is an array position; Raft's positions end in `_index`"),
    ("last_idx", "`_idx` is an array position; Raft's positions end in `_index`"),
    ("prev_idx", "`_idx` is an array position; Raft's positions end in `_index`"),
    ("log_idx", "`_idx` is an array position; Raft's positions end in `_index`"),
    ("stable_index", "it is `persisted_index`"),
    ("durable_index", "it is `persisted_index`"),
    ("flush_wal", "flush is into the kernel; `sync` makes durable"),
];

/// Constructs that are refused wherever they stand in code, and what to do instead.
const BANNED_CODE: &[(&str, &str)] = &[
    ("todo!", "build it or leave it out"),
    ("unimplemented!", "build it or leave it out"),
    ("dbg!", "use tracing or an assertion"),
    ("#[allow", "write #[expect(lint, reason = \"...\")] or repair the cause"),
    ("#![allow", "write #[expect(lint, reason = \"...\")] or repair the cause"),
    ("Deref for", "give access by a named method"),
    ("DerefMut for", "give access by a named method"),
    ("static mut", "pass the value to who needs it"),
    ("mem::transmute", "use zerocopy's types and macros"),
];

/// Notes of unfinished work.
const BANNED_COMMENTS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Where `unsafe` may stand: mappings, rings and file descriptors. A path ending in `/` stands for a folder.
pub const UNSAFE_FILES: &[&str] = &[
    "wal/src/cache.rs",
    "wal/src/mapped.rs",
    "net/src/shell/stream.rs",
    "net/src/shell/listener.rs",
    "engine/src/shell/device.rs",
    "engine/src/shell/leftover.rs",
];

/// Files that read bytes from outside: nothing that can panic on them in shipped code. With each, how many such places
/// there are where it cannot happen (on the writing side, on a header of fixed size); the number only goes down.
pub const DECODERS: &[(&str, usize)] = &[
    ("wal/src/format.rs", 3),
    ("net/codec/src/lib.rs", 0),
    ("net/src/frame.rs", 4),
    ("net/src/deframer.rs", 0),
    ("net/src/handshake.rs", 0),
    ("net/src/api.rs", 0),
    ("engine/src/wire.rs", 1),
    ("engine/src/state_machine/batch.rs", 1),
    ("engine/api/src/command.rs", 0),
    ("engine/api/src/response.rs", 10),
    ("wal/src/segment.rs", 0),
];

/// Calls that panic on unexpected bytes.
const PANICKING: &[&str] = &[".unwrap()", ".expect(", "panic!", "unreachable!", ".unwrap_unchecked("];

pub fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    check_opening(source, &mut findings);
    for (number, line) in source.numbered() {
        let mut add = |message: String| findings.push(Finding::new(&source.path, number, message));
        for &(banned, remedy) in BANNED_CODE {
            if contains_token(&line.code, banned) {
                add(format!("`{banned}`: {remedy}"));
            }
        }
        for &(banned, remedy) in BANNED_NAMES {
            if words(&line.code).any(|word| word == banned) {
                add(format!("`{banned}`: {remedy}"));
            }
        }
        for &banned in BANNED_COMMENTS {
            if words(&line.comment).any(|word| word == banned) {
                add(format!("{banned} in a comment: do it, or file it as an issue"));
            }
        }
        if words(&line.code).any(|word| word == "unsafe") && !is_listed(UNSAFE_FILES, &source.path) {
            add("`unsafe` stands only in the files that tidy lists for it (rules.rs)".to_owned());
        }
    }
    if let Some(&(_, known_count)) = DECODERS.iter().find(|(path, _)| *path == source.path) {
        check_decoder(source, known_count, &mut findings);
    }
    findings
}

/// The path is in the list, or below a folder in it.
pub fn is_listed(list: &[&str], path: &str) -> bool {
    list.iter().any(|&listed| if listed.ends_with('/') { path.starts_with(listed) } else { path == listed })
}

/// Every module says what it does and does not do.
fn check_opening(source: &Source, findings: &mut Vec<Finding>) {
    let opening = source.lines.iter().find(|line| !line.code.trim().is_empty() || !line.comment.trim().is_empty());
    if !opening.is_some_and(|line| line.comment.starts_with("//!") && line.comment.trim().len() > 3) {
        findings.push(Finding::new(&source.path, 1, "open the module with //! and say what it does and does not do"));
    }
}

fn check_decoder(source: &Source, known_count: usize, findings: &mut Vec<Finding>) {
    let mut places = Vec::new();
    for (number, line) in source.shipped() {
        // Constant evaluation fails at compile time, not on someone's bytes.
        if line.code.trim_start().starts_with("const ") {
            continue;
        }
        for &banned in PANICKING {
            if contains_token(&line.code, banned) {
                let message = format!("`{banned}` in a decoder: return an error, whatever the bytes are");
                places.push(Finding::new(&source.path, number, message));
            }
        }
        if has_indexing(&line.code) {
            let message = "indexing in a decoder: use get(..) or split_at_checked(..), whatever the bytes are";
            places.push(Finding::new(&source.path, number, message));
        }
    }
    let count = places.len();
    if count > known_count {
        findings.extend(places);
    } else if count < known_count {
        let message =
            format!("{count} places that could panic are left; lower its number in tidy's DECODERS (rules.rs)");
        findings.push(Finding::new(&source.path, 0, message));
    }
}

/// `[` right after a word, a parenthesis or a bracket is an index or a slice, unless it is a macro's or an attribute's.
fn has_indexing(code: &str) -> bool {
    let before = code.chars();
    before.zip(code.chars().skip(1)).any(|(c, next)| next == '[' && (is_word(c) || matches!(c, ')' | ']' | '?')))
}

/// `needle` stands in `code`, not as the end or the start of a longer word.
pub fn contains_token(code: &str, needle: &str) -> bool {
    code.match_indices(needle).any(|(at, _)| {
        let is_start = !needle.starts_with(is_word) || !code[..at].ends_with(is_word);
        let is_end = !needle.ends_with(is_word) || !code[at + needle.len()..].starts_with(is_word);
        is_start && is_end
    })
}

#[test]
fn each_rule_finds_its_mistake() {
    let messages = |path: &str, text: &str| -> Vec<String> {
        check(&Source::new(path, &format!("//! Does x.\n{text}"))).iter().map(ToString::to_string).collect()
    };
    assert!(
        messages("net/codec/src/lib.rs", "let a: &[u8] = b; #[derive(X)] vec![1]; &mut [0; 4]; // x[0] \".unwrap()\"")
            .is_empty()
    );
    assert!(
        messages("net/codec/src/lib.rs", "#[cfg(test)]\nmod tests {\n    fn a() { b.unwrap(); c[0]; }\n}").is_empty()
    );
    let rows = [
        ("x.rs", concat!("to", "do!()"), "`todo!`: build it or leave it out"),
        ("x.rs", "#[allow(x)]", "`#[allow`: write #[expect(lint, reason = \"...\")] or repair the cause"),
        ("x.rs", "impl Deref for X {}", "`Deref for`: give access by a named method"),
        ("x.rs", "let epoch = 1;", "`epoch`: Raft's period is a `term`; the count of writes is a `revision`"),
        ("x.rs", concat!("// TO", "DO: later"), concat!("TO", "DO in a comment: do it, or file it as an issue")),
        ("x.rs", "unsafe { x() }", "`unsafe` stands only in the files that tidy lists for it (rules.rs)"),
        ("net/codec/src/lib.rs", "a.unwrap();", "`.unwrap()` in a decoder: return an error, whatever the bytes are"),
        (
            "net/codec/src/lib.rs",
            "let x = bytes[0];",
            "indexing in a decoder: use get(..) or split_at_checked(..), whatever the bytes are",
        ),
    ];
    for (path, text, expected) in rows {
        assert_eq!(messages(path, text), [format!("{path}:2: {expected}")], "{text}");
    }
    let unopened = check(&Source::new("x.rs", "use y;\n//! late"));
    assert_eq!(unopened.len(), 1);
}
