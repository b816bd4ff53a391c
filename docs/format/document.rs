//! Reading the tables and golden bytes of the documents in this folder, so that tests can hold the code against them.
//!
//! The packages whose formats stand here include this file by its path. It knows the form of a document, not what stands in it.

use std::ops::Range;

/// A document.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Document(pub &'static str);

impl Document {
    /// The text between a heading and the next one.
    fn section(self, heading: &str) -> &'static str {
        let mut rest = self.0;
        while let Some((_, after)) = rest.split_once("\n#") {
            let (line, section) = after.split_once('\n').unwrap_or((after, ""));
            if line.trim_start_matches('#').trim() == heading {
                return section.split_once("\n#").map_or(section, |(section, _)| section);
            }
            rest = &after[line.len()..];
        }
        panic!("no heading {heading:?}");
    }

    /// The rows of the tables under a heading, one list for each table, without their heads.
    pub fn tables(self, heading: &str) -> Vec<Vec<Vec<String>>> {
        let cells = |line: &str| -> Vec<String> {
            line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
        };
        let lines: Vec<&str> = self.section(heading).lines().collect();
        let tables = lines.split(|line| !line.starts_with('|')).filter(|table| !table.is_empty());
        let tables: Vec<_> =
            tables.map(|table| table.iter().skip(2).map(|line| cells(line)).collect::<Vec<_>>()).collect();
        assert!(tables.iter().all(|table| !table.is_empty()) && !tables.is_empty(), "tables under {heading:?}");
        tables
    }

    /// The rows of the first table under a heading.
    pub fn table(self, heading: &str) -> Vec<Vec<String>> {
        self.tables(heading).remove(0)
    }

    /// A table of number and name.
    pub fn numbers(self, heading: &str) -> Vec<(u64, String)> {
        numbers(&self.table(heading))
    }

    /// The fields of fixed size, by name, of a table of offset, size and field; they must follow each other without holes.
    pub fn layout(self, heading: &str) -> Vec<(String, Range<usize>)> {
        let mut end = 0;
        let field = |row: Vec<String>| {
            let (offset, size): (usize, usize) = (row[0].parse().expect("an offset"), row[1].parse().expect("a size"));
            assert_eq!(offset, end, "{heading}: a hole or an overlap before {}", row[2]);
            end = offset + size;
            (row[2].clone(), offset..end)
        };
        self.table(heading).into_iter().filter(|row| row[1] != "text").map(field).collect()
    }

    /// The texts after the fields of fixed size, in their order; the first one's offset must be where those end.
    pub fn texts(self, heading: &str) -> Vec<String> {
        let rows: Vec<_> = self.table(heading).into_iter().filter(|row| row[1] == "text").collect();
        let end = self.layout(heading).last().map_or(0, |(_, range)| range.end);
        assert_eq!(rows[0][0], end.to_string(), "{heading}: where the texts begin");
        rows.into_iter().map(|row| row[2].clone()).collect()
    }

    /// The golden bytes under a heading: the text up to the first colon or full stop, and the bytes of the block after it.
    pub fn all_golden(self, heading: &str) -> Vec<(&'static str, Vec<u8>)> {
        let mut blocks = self.section(heading).split("```");
        let mut golden = Vec::new();
        while let (Some(text), Some(block)) = (blocks.next(), blocks.next()) {
            let title = text.trim().rsplit("\n\n").next().unwrap_or_default();
            let name = title.split([':', '.']).next().unwrap_or_default();
            let byte = |byte| u8::from_str_radix(byte, 16).expect("a byte in hexadecimal");
            golden.push((name, block.split_whitespace().map(byte).collect()));
        }
        golden
    }

    /// The golden bytes of this name.
    pub fn golden(self, name: &str) -> Vec<u8> {
        let golden = self.all_golden("Golden bytes").into_iter().find(|(found, _)| *found == name);
        golden.unwrap_or_else(|| panic!("no golden bytes {name:?}")).1
    }
}

/// The first two columns of a table, number and name.
pub(crate) fn numbers(table: &[Vec<String>]) -> Vec<(u64, String)> {
    table.iter().map(|row| (row[0].parse().expect("a number"), row[1].clone())).collect()
}

/// The number that each field holds in these bytes, after the field's name.
pub(crate) fn values(bytes: &[u8], layout: &[(String, Range<usize>)]) -> Vec<(String, u64)> {
    let number =
        |range: &Range<usize>| bytes[range.clone()].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte));
    layout.iter().map(|(name, range)| (name.clone(), number(range))).collect()
}
