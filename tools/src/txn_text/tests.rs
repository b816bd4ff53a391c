//! The text form: what etcdctl's documentation shows, every escape, and one row per mistake.

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;

use proptest::prelude::*;

use super::*;

#[test]
fn three_parts_as_in_etcdctl() {
    let text = "mod(\"key1\") > \"0\"\nvalue(\"key 2\") = \"a b\"\n\nput key1 \"overwrote key1\"\n\n\
                put key1 \"created-key1\" --prev-kv\nput key2 \"some extra key\"\nget k --prefix\ndel a z\n\n";
    let txn = parse(text).expect("a transaction");
    let expected = [
        Compare { key: b"key1".to_vec(), relation: Relation::Greater, target: Target::ModRevision(0) },
        Compare { key: b"key 2".to_vec(), relation: Relation::Equal, target: Target::Value(b"a b".to_vec()) },
    ];
    assert_eq!(txn.compares, expected);
    assert_eq!((txn.success.len(), txn.failure.len()), (1, 4));
    match &txn.success[0] {
        Operation::Put(put) => assert_eq!(put.value.as_ref().expect("a value").as_bytes(), b"overwrote key1"),
        other => panic!("expected a put, got {other:?}"),
    }
    match &txn.failure[..] {
        [Operation::Put(put), _, Operation::Get(get), Operation::Del(del)] => {
            assert!(put.prev_kv);
            assert_eq!(get.span.bounds(), (b"k".to_vec(), b"l".to_vec()));
            assert_eq!(del.span.bounds(), (b"a".to_vec(), b"z".to_vec()));
        }
        other => panic!("expected put, put, get, del, got {other:?}"),
    }
}

#[test]
fn every_property_and_relation_has_its_short_and_long_name() {
    let rows = [
        ("ver(\"k\") = \"3\"", Relation::Equal, Target::Version(3)),
        ("version(\"k\")!=3", Relation::NotEqual, Target::Version(3)),
        ("c( \"k\" ) < 9", Relation::Less, Target::CreateRevision(9)),
        ("create(\"k\") > \"0\"", Relation::Greater, Target::CreateRevision(0)),
        ("m(\"k\") == 1", Relation::Equal, Target::ModRevision(1)),
        ("val(\"k\") = word", Relation::Equal, Target::Value(b"word".to_vec())),
        ("lease(\"k\") = \"1f\"", Relation::Equal, Target::Lease(0x1f)),
    ];
    for (line, relation, target) in rows {
        let txn = parse(line).expect(line);
        assert_eq!(txn.compares, [Compare { key: b"k".to_vec(), relation, target }], "{line}");
    }
}

#[test]
fn single_quotes_take_a_word_as_it_is() {
    let put = |line: &str| match parse(&format!("\n{line}")).map_err(|error| error.to_string())?.success.remove(0) {
        Operation::Put(put) => Ok((put.key.as_bytes().to_vec(), put.value.expect("a value").as_bytes().to_vec())),
        other => panic!("expected a put, got {other:?}"),
    };
    let pair = |key: &str, value: &str| Ok::<_, String>((key.as_bytes().to_vec(), value.as_bytes().to_vec()));
    assert_eq!(put(r#"put 'a b' '{"c": "\n"}'"#), pair("a b", r#"{"c": "\n"}"#));
    assert_eq!(put(r#"put don't ''"#), pair("don't", ""));
    assert!(put("put a 'b c").expect_err("no end").contains("not closed"));
}

#[test]
fn parts_may_be_empty() {
    let txn = parse("\nput a b\n").expect("no compares");
    assert_eq!((txn.compares.len(), txn.success.len(), txn.failure.len()), (0, 1, 0));
    let txn = parse("ver(\"a\") = 0\n\n\nput a b").expect("nothing on success");
    assert_eq!((txn.compares.len(), txn.success.len(), txn.failure.len()), (1, 0, 1));
}

#[test]
fn strings_have_the_escapes_of_go() {
    let txn = parse(r#"value("\x00\377\u00e9\U0001F600\n\t\\\"") = """#).expect("a transaction");
    let mut expected = vec![0, 0xff];
    expected.extend_from_slice("é😀\n\t\\\"".as_bytes());
    assert_eq!(txn.compares[0].key, expected);
    assert_eq!(txn.compares[0].target, Target::Value(Vec::new()));
}

#[test]
fn mistakes_are_named_with_their_line() {
    let rows = [
        ("", "the transaction is empty; see `quorate txn --help`"),
        ("mod \"k\" > 0", "line 1: expected '(' at \"mod \\\"k\\\" > 0\"; a compare looks like mod(\"key\") > \"0\""),
        ("mod(k) > 0", "line 1: expected '\"' at \"k) > 0\"; a compare looks like mod(\"key\") > \"0\""),
        ("mod(\"k\" > 0", "line 1: expected ')' at \"> 0\"; a compare looks like mod(\"key\") > \"0\""),
        ("mod(\"k\") >", "line 1: the value to compare with is missing; a compare looks like mod(\"key\") > \"0\""),
        ("mod(\"k\") >= 0", "line 1: \">=\" is no relation; it is one of = != > <"),
        ("mod(\"k\") 0", "line 1: \"\" is no relation; it is one of = != > <"),
        ("mod(\"k\") > 0 0", "line 1: \"0\" is too much after the compare"),
        ("mod(\"k\") > x", "line 1: \"x\" is no number"),
        ("mod(\"k\") > -1", "line 1: \"-1\" is no number"),
        ("lease(\"k\") = zz", "line 1: \"zz\" is no lease id; it is a hexadecimal number"),
        ("size(\"k\") > 1", "line 1: \"size\" cannot be compared; it is one of ver, create, mod, value, lease"),
        ("mod(\"k) > 0", "line 1: a string is not closed with the quote that it began with"),
        (r#"mod("\q") > 0"#, r#"line 1: \q is no escape; write \n \r \t \\ \" \xNN \uNNNN or three octal digits"#),
        (r#"mod("\xg") > 0"#, r#"line 1: \xg" is no escape; write \n \r \t \\ \" \xNN \uNNNN or three octal digits"#),
        ("\nput a \"b\n", "line 2: a string is not closed with the quote that it began with"),
        ("\nput a\n", "line 2: put needs its value on the line"),
        ("\n\nwatch a\n", "line 3: \"watch\" is no operation; it is one of put, get, del"),
        ("\nget\n", "line 2: the following required arguments were not provided: <KEY>"),
        (
            "\nput a b\n\nput a c\n\nput a d\n",
            "line 6: a transaction has three parts, and this would be a fourth; remove the blank line before it",
        ),
    ];
    for (text, expected) in rows {
        assert_eq!(parse(text).expect_err(text).to_string(), expected, "{text:?}");
    }
}

/// A string in double quotes, each byte in one of the ways there are to write it; `ways` is used round and round.
fn quoted(bytes: &[u8], ways: &[u8]) -> String {
    let mut text = String::from("\"");
    for (at, &byte) in bytes.iter().enumerate() {
        let way = ways.get(at % ways.len().max(1)).copied().unwrap_or(0) % 4;
        match (way, char::from(byte)) {
            (0, _) => write!(text, "\\x{byte:02x}"),
            (1, _) => write!(text, "\\{byte:03o}"),
            (2, c) if c.is_ascii() => write!(text, "\\u{byte:04X}"),
            (_, '\n') => write!(text, "\\n"),
            (_, c @ ('"' | '\\')) => write!(text, "\\{c}"),
            (_, c) if c.is_ascii_graphic() || c == ' ' => write!(text, "{c}"),
            _ => write!(text, "\\x{byte:02X}"),
        }
        .expect("a string takes everything");
    }
    text.push('"');
    text
}

fn compare() -> impl Strategy<Value = Compare> {
    let relation = prop::sample::select(vec![Relation::Equal, Relation::NotEqual, Relation::Greater, Relation::Less]);
    let target = prop_oneof![
        any::<u64>().prop_map(Target::Version),
        any::<u64>().prop_map(Target::CreateRevision),
        any::<u64>().prop_map(Target::ModRevision),
        prop::collection::vec(any::<u8>(), 0..9).prop_map(Target::Value),
        any::<u64>().prop_map(Target::Lease),
    ];
    let parts = (prop::collection::vec(any::<u8>(), 0..9), relation, target);
    parts.prop_map(|(key, relation, target)| Compare { key, relation, target })
}

fn line_of(compare: &Compare, ways: &[u8]) -> String {
    let relation = match compare.relation {
        Relation::Equal => "=",
        Relation::NotEqual => "!=",
        Relation::Greater => ">",
        Relation::Less => "<",
    };
    let (property, operand) = match &compare.target {
        Target::Version(number) => ("ver", number.to_string()),
        Target::CreateRevision(number) => ("create", format!("\"{number}\"")),
        Target::ModRevision(number) => ("mod", number.to_string()),
        Target::Value(value) => ("value", quoted(value, ways)),
        Target::Lease(id) => ("lease", format!("{id:x}")),
    };
    format!("{property}({}) {relation} {operand}", quoted(&compare.key, ways))
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "(?s)[\\x00-\\x7f\u{e9}\u{1f600}\"\\\\(mod)=\n ]{0,60}") {
        drop(parse(&text));
    }

    #[test]
    fn mistakes_are_on_a_line_that_there_is(lines in prop::collection::vec(line(), 0..8)) {
        let text = lines.join("\n");
        match parse(&text) {
            Ok(txn) => {
                let operations = txn.compares.len() + txn.success.len() + txn.failure.len();
                assert_eq!(operations, text.lines().filter(|line| !line.trim().is_empty()).count(), "{text:?}");
            }
            Err(
                TxnTextError::Line { line, .. }
                | TxnTextError::Operation { line, .. }
                | TxnTextError::NoOperation { line, .. }
                | TxnTextError::PutWithoutValue { line }
                | TxnTextError::NotBuilt { line, .. }
                | TxnTextError::FourthPart { line },
            ) => assert!(text.lines().nth(line - 1).is_some_and(|line| !line.trim().is_empty()), "{line} of {text:?}"),
            Err(TxnTextError::Empty) => assert!(text.trim().is_empty(), "{text:?}"),
            Err(error @ (TxnTextError::NotText | TxnTextError::NotEnded)) => panic!("{error} of {text:?}"),
        }
    }

    #[test]
    fn compares_and_operations_are_read_as_they_were_written(
        compares in prop::collection::vec(compare(), 0..4), ways in prop::collection::vec(any::<u8>(), 1..9),
        pairs in prop::collection::vec(any::<[[u8; 3]; 2]>(), 1..4),
    ) {
        let lines: Vec<_> = compares.iter().map(|compare| line_of(compare, &ways)).collect();
        // After -- nothing is a flag, whatever it begins with.
        let puts = pairs.iter().map(|[key, value]| format!("put -- {} {}", quoted(key, &ways), quoted(value, &ways)));
        let puts: Vec<_> = puts.collect();
        let text = [lines.join("\n"), String::new(), puts.join("\n")].join("\n");
        let txn = parse(&if lines.is_empty() { format!("\n{}", puts.join("\n")) } else { text }).expect("sound lines");
        assert_eq!(txn.compares, compares);
        let read: Vec<_> = txn.success.iter().map(|operation| match operation {
            Operation::Put(put) => [put.key.as_bytes(), put.value.as_ref().expect("a value").as_bytes()],
            other => panic!("expected a put, got {other:?}"),
        }).collect();
        assert_eq!(read, pairs.iter().map(|pair| [pair[0].as_slice(), &pair[1]]).collect::<Vec<_>>());
    }
}

/// Lines of a transaction, and others.
fn line() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "",
        " ",
        "put a b",
        "put a",
        "get a --prefix",
        "del a z",
        "get a -w json",
        "watch a",
    ]);
    prop_oneof![
        3 => known.prop_map(str::to_owned),
        2 => compare().prop_map(|compare| line_of(&compare, &[3])),
        1 => "\\PC{0,20}",
    ]
}

#[test]
fn options_that_nodes_do_not_know_are_refused_with_their_line() {
    for (operation, option) in [
        ("get a --prefix --sort-by VERSION", "sorting"),
        ("get a --order descend", "sorting"),
        ("get a --min-mod-rev 3", "choosing keys by their revisions"),
        ("put a --ignore-value", "--ignore-value"),
        ("put a b --ignore-lease", "--ignore-lease"),
    ] {
        let error = parse(&format!("\n\n{operation}\n")).expect_err(operation).to_string();
        assert!(error.starts_with("line 3: ") && error.contains(option), "{error}");
        assert!(error.ends_with(" in a transaction is not built yet"), "{error}");
    }
}

#[test]
fn a_reader_knows_which_part_comes_next() {
    let mut reader = Reader::default();
    let mut parts = Vec::new();
    for line in ["ver(\"a\") = 0\n", "\n", "put a b\n", "put c d\n", "\n", "\n", "\n"] {
        parts.push(reader.part());
        reader.take(line).expect(line);
    }
    assert_eq!((parts, reader.part()), (vec![0, 0, 1, 1, 1, 2, 3], 3));
    assert!(matches!(reader.take("get a"), Err(TxnTextError::FourthPart { line: 8 })));
    let transaction = reader.finish().expect("a transaction");
    assert_eq!((transaction.compares.len(), transaction.success.len(), transaction.failure.len()), (1, 2, 0));
}
