//! Reading the tables of `docs/format/wal.md`, so that tests can hold the code against them.

/// The document.
pub(crate) const FORMAT_DOC: &str = include_str!("../../docs/format/wal.md");

/// The rows of the first table under a heading, without its head. Each row is its cells, trimmed.
pub(crate) fn table(heading: &str) -> Vec<Vec<String>> {
    let mut lines = FORMAT_DOC.lines().skip_while(|line| line.trim_start_matches('#').trim() != heading);
    assert!(lines.next().is_some(), "no heading {heading:?}");
    let rows: Vec<_> = lines
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect())
        .collect();
    assert!(rows.len() > 2, "no table under {heading:?}");
    rows[2..].to_vec()
}

/// A table of offset, size and field as numbers and name.
pub(crate) fn layout(heading: &str) -> Vec<(String, usize, usize)> {
    table(heading)
        .into_iter()
        .map(|row| (row[2].clone(), row[0].parse().expect("an offset"), row[1].parse().expect("a size")))
        .collect()
}

/// The bytes of the first code block after a text.
pub(crate) fn golden(after: &str) -> Vec<u8> {
    let start = FORMAT_DOC.find(after).unwrap_or_else(|| panic!("no text {after:?}"));
    let block = FORMAT_DOC[start..].split("```").nth(1).expect("a code block");
    let digits: Vec<_> = block.split_whitespace().collect();
    digits.iter().map(|byte| u8::from_str_radix(byte, 16).expect("a byte in hexadecimal")).collect()
}
