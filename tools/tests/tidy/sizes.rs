//! Lengths of files and functions. Exceptions are ratchets: they hold the present length and go down with it.

use crate::Finding;
use crate::scan::{Line, Source, block_end, words};

/// Longest file. Unit: lines that hold code.
const FILE_LINES_MAX: usize = 600;
/// Longest function, from `fn` to the closing brace. Unit: lines that hold code.
const FUNCTION_LINES_MAX: usize = 70;

/// Longer files there still are: path and length.
pub type FileRatchet = (&'static str, usize);
/// Longer functions there still are: path, name and length.
pub type FunctionRatchet = (&'static str, &'static str, usize);

pub fn check(sources: &[Source], files: &[FileRatchet], functions: &[FunctionRatchet]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        let length = code_lines(&source.lines);
        let ratchet = files.iter().find(|(path, _)| *path == source.path).map(|&(_, length)| length);
        findings.extend(compare(&source.path, 0, "the file", length, FILE_LINES_MAX, ratchet));
        for (line, name, length) in function_lengths(source) {
            let ratchet = functions
                .iter()
                .find(|(path, of, _)| *path == source.path && *of == name)
                .map(|&(_, _, length)| length);
            findings.extend(compare(&source.path, line, &format!("fn {name}"), length, FUNCTION_LINES_MAX, ratchet));
        }
    }
    let has_file = |path: &str| sources.iter().any(|source| source.path == path);
    let has_function = |path: &str, name: &str| {
        sources.iter().any(|source| source.path == path && function_lengths(source).iter().any(|(_, of, _)| of == name))
    };
    let gone = files.iter().filter(|(path, _)| !has_file(path)).map(|&(path, _)| (path, "the file"));
    let gone_functions = functions.iter().filter(|(path, name, _)| !has_function(path, name));
    for (path, what) in gone.chain(gone_functions.map(|&(path, name, _)| (path, name))) {
        findings.push(Finding::new(path, 0, format!("{what} is gone; remove its ratchet")));
    }
    findings
}

fn compare(path: &str, line: usize, what: &str, length: usize, max: usize, ratchet: Option<usize>) -> Option<Finding> {
    let message = match ratchet {
        None if length > max => format!("{what} has {length} lines of code, at most {max}; split it"),
        Some(ratchet) if length > ratchet => {
            format!("{what} has {length} lines of code, its ratchet is at {ratchet}; split it, never raise a ratchet")
        }
        Some(_) if length <= max => format!("{what} has only {length} lines of code now; remove its ratchet"),
        Some(ratchet) if length < ratchet => format!("{what} has only {length} lines of code now; lower its ratchet"),
        _ => return None,
    };
    Some(Finding::new(path, line, message))
}

fn code_lines(lines: &[Line]) -> usize {
    lines.iter().filter(|line| !line.code.trim().is_empty()).count()
}

/// Line, name and length of every function with a body.
fn function_lengths(source: &Source) -> Vec<(usize, String, usize)> {
    let mut functions = Vec::new();
    for (at, line) in source.lines.iter().enumerate() {
        let mut line_words = words(&line.code).skip_while(|&word| word != "fn").skip(1);
        let is_item = line.code.contains("fn ") && !line.code.contains("fn(");
        let Some(name) = line_words.next().filter(|_| is_item) else { continue };
        if let Some(end) = block_end(&source.lines, at) {
            functions.push((at + 1, name.to_owned(), code_lines(&source.lines[at..=end])));
        }
    }
    functions
}

#[test]
fn long_functions_and_files_are_found_and_ratchets_only_go_down() {
    let body = "    x();\n".repeat(69);
    let source = [Source::new("a.rs", &format!("fn short() {{}}\n\nfn long(\n) {{\n{body}}}\n"))];
    let messages = |functions: &[FunctionRatchet]| -> Vec<String> {
        check(&source, &[], functions).iter().map(ToString::to_string).collect()
    };
    assert_eq!(messages(&[]), ["a.rs:3: fn long has 72 lines of code, at most 70; split it"]);
    assert!(messages(&[("a.rs", "long", 72)]).is_empty());
    assert_eq!(messages(&[("a.rs", "long", 80)]), ["a.rs:3: fn long has only 72 lines of code now; lower its ratchet"]);
    assert_eq!(messages(&[("a.rs", "long", 71)]).len(), 1);
    assert_eq!(
        messages(&[("a.rs", "long", 72), ("a.rs", "short", 90), ("b.rs", "x", 90)]),
        ["a.rs:1: fn short has only 1 lines of code now; remove its ratchet", "b.rs: x is gone; remove its ratchet"]
    );
    let file = [Source::new("b.rs", &"x();\n// comment\n\n".repeat(601))];
    let found = check(&file, &[], &[]);
    assert_eq!(found[0].to_string(), "b.rs: the file has 601 lines of code, at most 600; split it");
    assert!(check(&file, &[("b.rs", 601)], &[]).is_empty());
}
