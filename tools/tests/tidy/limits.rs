//! Numbers that are limits stand in the `limits.rs` of their package, where what must hold between them is asserted.

use crate::Finding;
use crate::scan::{Source, words};

/// Kinds of number of which a limit may be.
const NUMBERS: &[&str] = &["usize", "u8", "u16", "u32", "u64", "u128", "i32", "i64", "f64", "(u64, u64)"];

/// A number whose name has one of these words is a bound, an amount or a time. So is every `Duration`.
const LIMITS: &[&str] = &[
    "AGAIN", "AHEAD", "BYTES", "COUNT", "EVERY", "KEYS", "LEN", "LIMIT", "LIMITS", "LOOKS", "MAX", "MIN", "MS",
    "PAUSE", "PER", "POLL", "SHARE", "TARGET", "TICKS", "TIMEOUT", "US", "WITHIN",
];

/// Such numbers that follow from a format or from a layout in memory and stand beside it: how many a file has.
const FORMATS: &[(&str, usize)] = &[
    ("bench/src/keys.rs", 5),
    ("engine/api/src/command.rs", 4),
    ("engine/src/raft/membership.rs", 1),
    ("engine/src/state_machine/batch.rs", 1),
    ("engine/src/state_machine/index.rs", 1),
    ("engine/src/state_machine/key.rs", 1),
    ("engine/src/state_machine/scan.rs", 1),
    ("engine/src/state_machine/section.rs", 1),
    ("engine/src/state_machine/values.rs", 1),
    ("engine/src/wire.rs", 1),
    ("net/src/api.rs", 3),
    ("net/src/frame.rs", 1),
    ("tools/src/cmd/demo/report.rs", 1),
    ("wal/src/cache.rs", 1),
    ("wal/src/format.rs", 3),
    ("wal/src/note.rs", 3),
    ("wal/src/origin.rs", 2),
    ("wal/src/segment.rs", 2),
];

pub fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = sources.iter().flat_map(check_source).collect();
    let gone = FORMATS.iter().filter(|(path, _)| !sources.iter().any(|source| source.path == *path));
    findings.extend(
        gone.map(|(path, _)| Finding::new(path, 0, "this file is gone; remove it from tidy's FORMATS (limits.rs)")),
    );
    findings
}

fn check_source(source: &Source) -> Vec<Finding> {
    let path = source.path.as_str();
    if path.ends_with("/limits.rs") || path.contains("/testing/") || !path.contains("/src/") {
        return Vec::new();
    }
    let known_count = FORMATS.iter().find(|(known, _)| *known == path).map_or(0, |&(_, count)| count);
    let limits: Vec<(usize, &str)> =
        source.shipped().filter_map(|(number, line)| Some((number, name_of_limit(&line.code)?))).collect();
    if limits.len() < known_count {
        let message =
            format!("only {} numbers of formats are left; lower this in tidy's FORMATS (limits.rs)", limits.len());
        return vec![Finding::new(path, 0, message)];
    }
    let finding = |(number, name): (usize, &str)| {
        let message = format!("{name}: a limit stands in its package's limits.rs, with its unit and what must hold");
        Finding::new(path, number, message)
    };
    if limits.len() == known_count { Vec::new() } else { limits.into_iter().map(finding).collect() }
}

/// The name of the constant that a line declares, if that may be a limit.
fn name_of_limit(code: &str) -> Option<&str> {
    let (before, after) = code.split_once("const ")?;
    let (name, rest) = after.split_once(": ")?;
    let is_declared =
        words(before).all(|word| matches!(word, "pub" | "crate" | "super")) && name.chars().all(is_of_constant);
    let is = |kind: &str| rest.strip_prefix(kind).is_some_and(|rest| rest.starts_with([' ', ';']));
    let is_limit = NUMBERS.iter().any(|kind| is(kind)) && name.split('_').any(|word| LIMITS.contains(&word));
    (is_declared && (is_limit || is("Duration"))).then_some(name)
}

fn is_of_constant(c: char) -> bool {
    c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'
}

#[test]
fn a_limit_outside_limits_is_found() {
    let found = |path: &str, text: &str| check_source(&Source::new(path, text)).len();
    for text in [
        "const A_MAX: usize = 3;",
        "pub(crate) const B_MS: u64 = 1 << 2;",
        "fn f() {\n    const C: Duration = Duration::from_secs(1);\n}",
        "const D_MS: (u64, u64) = (1, 2);",
    ] {
        assert_eq!(found("x/src/a.rs", text), 1, "{text}");
        assert_eq!(found("x/src/limits.rs", text), 0, "{text}");
        assert_eq!(found("x/tests/a.rs", text), 0, "{text}");
        assert_eq!(found("x/src/a.rs", &format!("#[cfg(test)]\nmod tests {{\n    {text}\n}}")), 0, "{text}");
    }
    for text in [
        "const A: &str = \"1\";",
        "const fn f(a: usize) -> u8 {}",
        "fn f<const N: usize>() {}",
        "const _: () = assert!(X);",
    ] {
        assert_eq!(found("x/src/a.rs", text), 0, "{text}");
    }
}
