//! Reading the tables and golden bytes of `docs/format/wire.md`, so that tests can hold the code against them.
//!
//! It knows the form of the document, not what stands in it.

/// The document.
const FORMAT_DOC: &str = include_str!("../../docs/format/wire.md");

/// The rows of the first table under a heading, without its head. Each row is its cells, trimmed.
pub(crate) fn table(heading: &str) -> Vec<Vec<String>> {
    let mut lines = FORMAT_DOC.lines().skip_while(|line| !is_heading(line, heading));
    assert!(lines.next().is_some(), "no heading {heading:?}");
    let rows: Vec<_> = lines
        .take_while(|line| !line.starts_with('#'))
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect())
        .collect();
    assert!(rows.len() > 2, "no table under {heading:?}");
    rows[2..].to_vec()
}

fn is_heading(line: &str, heading: &str) -> bool {
    line.starts_with('#') && line.trim_start_matches('#').trim() == heading
}

/// A table of number and name.
pub(crate) fn numbers(heading: &str) -> Vec<(u64, String)> {
    table(heading).into_iter().map(|row| (row[0].parse().expect("a number"), row[1].clone())).collect()
}

/// The fields of fixed size in a table of offset, size and field; they must follow each other without holes.
pub(crate) fn layout(heading: &str) -> Vec<(String, std::ops::Range<usize>)> {
    let fixed = table(heading).into_iter().filter(|row| row[1] != "text");
    let mut end = 0;
    let fields = fixed.map(|row| {
        let (offset, size): (usize, usize) = (row[0].parse().expect("an offset"), row[1].parse().expect("a size"));
        assert_eq!(offset, end, "{heading}: a hole or an overlap before {}", row[2]);
        end = offset + size;
        (row[2].clone(), offset..end)
    });
    fields.collect()
}

/// The texts behind the fields of fixed size, in their order; the first one's offset must be where those end.
pub(crate) fn texts(heading: &str) -> Vec<String> {
    let rows: Vec<_> = table(heading).into_iter().filter(|row| row[1] == "text").collect();
    let end = layout(heading).last().map_or(0, |(_, range)| range.end);
    assert_eq!(rows[0][0], end.to_string(), "{heading}: where the texts begin");
    rows.into_iter().map(|row| row[2].clone()).collect()
}

/// The bytes of the first code block after a text.
pub(crate) fn golden(after: &str) -> Vec<u8> {
    let start = FORMAT_DOC.find(after).unwrap_or_else(|| panic!("no text {after:?}"));
    let block = FORMAT_DOC[start..].split("```").nth(1).expect("a code block");
    block.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("a byte in hexadecimal")).collect()
}

/// How many code blocks of golden bytes the document has for this package; those of peer messages are the engine's.
pub(crate) fn golden_count() -> usize {
    let ours = FORMAT_DOC.lines().take_while(|line| !is_heading(line, "Golden bytes of peer messages"));
    ours.filter(|line| line.starts_with("```")).count() / 2
}
