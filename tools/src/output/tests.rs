//! The three forms.

use super::*;

fn printed(form: WriteOut, print: impl FnOnce(&mut Printer<&mut Vec<u8>>)) -> String {
    let mut out = Vec::new();
    let mut printer = Printer::new(form, &mut out);
    print(&mut printer);
    printer.finish().expect("memory takes everything");
    String::from_utf8(out).expect("text")
}

#[test]
fn lines_are_bare_and_json_is_one_line() {
    assert_eq!(printed(WriteOut::Simple, |printer| printer.line(b"OK").expect("printed")), "OK\n");
    assert_eq!(printed(WriteOut::Json, |printer| printer.json(&[1, 2]).expect("printed")), "[1,2]\n");
}

#[test]
fn tables_have_a_header_and_a_row_for_each() {
    let text = printed(WriteOut::Table, |printer| {
        assert_eq!(printer.form(), WriteOut::Table);
        printer.table(&["key", "value"], vec![vec!["a".to_owned(), "1".to_owned()]]).expect("printed");
    });
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.contains('┆'))
        .map(|line| line.split(['│', '┆']).map(str::trim).collect())
        .collect();
    assert_eq!(rows, [["", "key", "value", ""], ["", "a", "1", ""]]);
}
