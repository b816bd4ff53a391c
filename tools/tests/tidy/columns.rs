//! Lines are short enough to be read beside each other.

use crate::Finding;
use crate::scan::Source;
use crate::tree::TextFile;

/// Longest line. rustfmt breaks code at 120 and leaves comments alone. Unit: characters.
const COLUMNS_MAX: usize = 140;

/// Of a Rust source: code and comment, without the insides of literals, which cannot always be broken.
pub fn check_source(source: &Source) -> Vec<Finding> {
    let columns = |line: &crate::scan::Line| line.code.chars().count() + line.comment.chars().count();
    source.numbered().filter_map(|(number, line)| too_long(&source.path, number, columns(line))).collect()
}

/// Of a document: running text. Tables and code blocks are not broken.
pub fn check_document(file: &TextFile) -> Vec<Finding> {
    let mut is_code = false;
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code && !line.trim_start().starts_with('|') {
            findings.extend(too_long(&file.path, number, line.chars().count()));
        }
    }
    findings
}

fn too_long(path: &str, number: usize, columns: usize) -> Option<Finding> {
    let message = format!("the line has {columns} columns, at most {COLUMNS_MAX}; break it");
    (columns > COLUMNS_MAX).then(|| Finding::new(path, number, message))
}

#[test]
fn long_lines_are_found_but_not_in_tables_code_blocks_and_literals() {
    let long = "x ".repeat(71);
    let of_source = |text: &str| check_source(&Source::new("x.rs", text)).len();
    assert_eq!(of_source(&format!("// {long}\nlet a = 1; // {long}")), 2);
    assert_eq!(of_source(&format!("let a = \"{long}\";\n// short")), 0);
    let text = format!("{long}\n| {long} |\n```\n{long}\n```\n{long}\n");
    let found = check_document(&TextFile { path: "x.md".to_owned(), text });
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    let expected = "the line has 142 columns, at most 140; break it";
    assert_eq!(found, [format!("x.md:1: {expected}"), format!("x.md:6: {expected}")]);
}
