//! Tables that leave words whole, however narrow the terminal is.
//!
//! Where a table is wider than the terminal, each of its rows becomes a table of its own, with the names of the columns on the left.
//! What is too long there is wrapped between words. A word that is longer than the terminal runs over its edge, and can be copied.

use comfy_table::{ContentArrangement, Table, presets};

/// A table with a header, as it is printed on a terminal with so many columns. Without a terminal there is no width that it must fit.
pub(super) fn render(header: &[&str], rows: Vec<Vec<String>>, columns: Option<u16>) -> String {
    let mut table = new_table();
    table.set_header(header);
    table.add_rows(rows.clone());
    if columns.is_none_or(|columns| width(&table) <= columns.into()) {
        return table.to_string();
    }
    let block = |row: Vec<String>| figures(header.iter().map(|name| (*name).to_owned()).zip(row), columns);
    rows.into_iter().map(block).collect::<Vec<_>>().join("\n")
}

/// A table of names on the left and what belongs to them on the right.
pub(crate) fn figures(rows: impl IntoIterator<Item = (String, String)>, columns: Option<u16>) -> String {
    let mut table = new_table();
    let mut words = Vec::new();
    for (name, figure) in rows {
        words.extend([&name, &figure].iter().flat_map(|cell| cell.split_whitespace()).map(str::to_owned));
        table.add_row([name, figure]);
    }
    if let Some(columns) = columns.filter(|&columns| width(&table) > columns.into()) {
        let mut wrapped = table.clone();
        wrapped.set_width(columns).set_content_arrangement(ContentArrangement::Dynamic);
        let text = wrapped.to_string();
        if words.iter().all(|word| text.contains(word)) {
            return text;
        }
    }
    table.to_string()
}

/// Columns of the terminal that standard output is; `None` if it is none.
pub(crate) fn terminal_columns() -> Option<u16> {
    Table::new().width()
}

fn new_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table
}

/// Columns of a table that is not wrapped: each cell has a blank on both sides and a line behind it, and a line stands in front.
fn width(table: &Table) -> usize {
    table.column_max_content_widths().into_iter().map(|cell| usize::from(cell) + 3).sum::<usize>() + 1
}
