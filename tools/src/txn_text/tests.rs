//! The text form: what etcdctl's documentation shows, every escape, and one row per mistake.

use std::os::unix::ffi::OsStrExt;

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
        ("mod(\"k) > 0", "line 1: a string is not closed with a double quote"),
        (r#"mod("\q") > 0"#, r#"line 1: \q is no escape; write \n \r \t \\ \" \xNN \uNNNN or three octal digits"#),
        (r#"mod("\xg") > 0"#, r#"line 1: \xg" is no escape; write \n \r \t \\ \" \xNN \uNNNN or three octal digits"#),
        ("\nput a \"b\n", "line 2: a string is not closed with a double quote"),
        ("\nput a\n", "line 2: put needs its value on the line"),
        (
            "\nput a b\n\nput a c\n\nput a d\n",
            "line 6: a transaction has three parts, and this would be a fourth; remove the blank line before it",
        ),
    ];
    for (text, expected) in rows {
        assert_eq!(parse(text).expect_err(text).to_string(), expected, "{text:?}");
    }
    let unknown = parse("\n\nwatch a\n").expect_err("no operation").to_string();
    assert!(unknown.starts_with("line 3: error: unrecognized subcommand 'watch'"), "{unknown}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "(?s)[\\x00-\\x7f\u{e9}\u{1f600}\"\\\\(mod)=\n ]{0,60}") {
        drop(parse(&text));
    }
}
