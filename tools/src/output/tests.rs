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

/// The longest rows that there are: `status`, with the longest words that its cells can have.
fn wide_table(columns: Option<u16>) -> String {
    let header = ["endpoint", "name", "node_id", "role", "leader", "persisted_index", "commit_index", "applied_index"];
    let row = |role: &str| {
        let id = "00000000000000ab".to_owned();
        let index = u64::MAX.to_string();
        let endpoint = "node-1.example.org:2379".to_owned();
        vec![endpoint, "a".to_owned(), id.clone(), role.to_owned(), id, index.clone(), index.clone(), index]
    };
    printed(WriteOut::Table, |printer| {
        printer.set_columns(columns);
        printer.table(&header, vec![row("leader"), row("pre-candidate")]).expect("printed");
    })
}

#[test]
fn a_table_that_is_wider_than_the_terminal_is_turned_and_breaks_no_word() {
    let text = wide_table(Some(80));
    assert_eq!(
        text.lines().take(10).collect::<Vec<_>>().join("\n"),
        "\
┌─────────────────┬─────────────────────────┐
│ endpoint        ┆ node-1.example.org:2379 │
│ name            ┆ a                       │
│ node_id         ┆ 00000000000000ab        │
│ role            ┆ leader                  │
│ leader          ┆ 00000000000000ab        │
│ persisted_index ┆ 18446744073709551615    │
│ commit_index    ┆ 18446744073709551615    │
│ applied_index   ┆ 18446744073709551615    │
└─────────────────┴─────────────────────────┘"
    );
    assert_eq!(text.matches("18446744073709551615").count(), 6, "{text}");
    assert_eq!((text.matches("endpoint").count(), text.matches(" pre-candidate ").count()), (2, 1), "{text}");
    let wide = wide_table(None);
    assert_eq!((wide.matches("endpoint").count(), wide.lines().count()), (1, 6), "{wide}");
    assert_eq!(wide_table(Some(200)), wide, "what fits is left as it is");
}

#[test]
fn long_cells_are_wrapped_between_words_and_long_words_are_left_whole() {
    let rows = |figure: &str| [("a name".to_owned(), figure.to_owned())];
    let text = figures(rows("some words that are too long for it"), Some(40));
    assert_eq!(
        text,
        "\
┌────────┬─────────────────────────┐
│ a name ┆ some words that are too │
│        ┆ long for it             │
└────────┴─────────────────────────┘"
    );
    let word = "x".repeat(60);
    for columns in [1, 10, 40, 60] {
        assert!(figures(rows(&word), Some(columns)).contains(&word), "{columns}");
    }
}

#[test]
fn what_etcdctl_does_not_have_has_the_fields_of_its_json() {
    #[derive(Serialize)]
    struct Row {
        name: &'static str,
        count: u8,
        more: Option<u8>,
    }
    let row = Row { name: "a \"b\"", count: 3, more: None };
    let text = printed(WriteOut::Fields, |printer| printer.fields_of(&row).expect("printed"));
    assert_eq!(text, "\"count\" : 3\n\"more\" : null\n\"name\" : \"a \\\"b\\\"\"\n\n");
}
