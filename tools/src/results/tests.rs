//! Transcripts of results in their three forms.

use super::*;

fn pair(key: &str, value: &str) -> KeyValue {
    let (key, value) = (key.as_bytes().to_vec(), value.as_bytes().to_vec());
    KeyValue { key, value, create_revision: 2, mod_revision: 3, version: 2, lease: 0 }
}

fn range() -> RangeResponse {
    RangeResponse { revision: 9, count: 5, more: true, kvs: vec![pair("a", "1"), pair("b", "two\nlines")] }
}

fn printed(form: WriteOut, print: impl FnOnce(&mut Printer<&mut Vec<u8>>) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    print(&mut Printer::new(form, &mut out)).expect("memory takes everything");
    String::from_utf8(out).expect("text")
}

const A_JSON: &str = concat!(
    r#"{"key":"a","value":"1","create_revision":2,"mod_revision":3,"version":2,"#,
    r#""lease":"0000000000000000"}"#
);

#[test]
fn get_prints_keys_and_values_on_lines_of_their_own() {
    let simple = |looks| printed(WriteOut::Simple, |printer| print_range(&range(), looks, printer));
    assert_eq!(simple(RangeLooks::default()), "a\n1\nb\ntwo\nlines\n");
    assert_eq!(simple(RangeLooks { keys_only: true, ..RangeLooks::default() }), "a\nb\n");
    assert_eq!(simple(RangeLooks { values_only: true, ..RangeLooks::default() }), "1\ntwo\nlines\n");
    assert_eq!(simple(RangeLooks { count_only: true, ..RangeLooks::default() }), "5\n");
    let nothing = RangeResponse { revision: 1, count: 0, more: false, kvs: Vec::new() };
    assert_eq!(printed(WriteOut::Simple, |printer| print_range(&nothing, RangeLooks::default(), printer)), "");
}

#[test]
fn get_prints_json_with_revision_and_count() {
    let one = RangeResponse { kvs: vec![pair("a", "1")], ..range() };
    let json = printed(WriteOut::Json, |printer| print_range(&one, RangeLooks::default(), printer));
    assert_eq!(json, format!("{{\"revision\":9,\"count\":5,\"more\":true,\"kvs\":[{A_JSON}]}}\n"));
}

#[test]
fn tables_keep_each_pair_on_its_row() {
    let table = printed(WriteOut::Table, |printer| print_range(&range(), RangeLooks::default(), printer));
    assert!(table.contains("two\\nlines"), "{table}");
    assert_eq!(table.lines().count(), 6, "{table}");
}

#[test]
fn put_and_del_print_what_etcdctl_does() {
    let put = PutResponse { revision: 4, prev_kv: Some(pair("a", "1")) };
    assert_eq!(printed(WriteOut::Simple, |printer| print_put(&put, printer)), "OK\na\n1\n");
    let json = printed(WriteOut::Json, |printer| print_put(&put, printer));
    assert_eq!(json, format!("{{\"revision\":4,\"prev_kv\":{A_JSON}}}\n"));
    let put = PutResponse { revision: 4, prev_kv: None };
    assert_eq!(printed(WriteOut::Simple, |printer| print_put(&put, printer)), "OK\n");
    assert_eq!(printed(WriteOut::Json, |printer| print_put(&put, printer)), "{\"revision\":4}\n");
    let delete = DeleteResponse { revision: 5, deleted: 2, prev_kvs: vec![pair("a", "1"), pair("b", "2")] };
    assert_eq!(printed(WriteOut::Simple, |printer| print_delete(&delete, printer)), "2\na\n1\nb\n2\n");
}

#[test]
fn txn_prints_its_verdict_and_each_result_behind_a_blank_line() {
    let RangeResponse { kvs, more, count, .. } = range();
    let txn = TxnResponse {
        revision: 7,
        succeeded: true,
        results: vec![
            OpResult::Put(None),
            OpResult::Range { kvs, more, count },
            OpResult::Delete { deleted: 1, prev_kvs: Vec::new() },
        ],
    };
    let keys = RangeLooks { keys_only: true, ..RangeLooks::default() };
    let looks = [RangeLooks::default(), keys, RangeLooks::default()];
    let simple = printed(WriteOut::Simple, |printer| print_txn(txn.clone(), &looks, printer));
    assert_eq!(simple, "SUCCESS\n\nOK\n\na\nb\n\n1\n");
    let failed = TxnResponse { results: txn.results[..1].to_vec(), succeeded: false, ..txn };
    let json = printed(WriteOut::Json, |printer| print_txn(failed, &looks, printer));
    assert_eq!(json, "{\"revision\":7,\"succeeded\":false,\"responses\":[{\"put\":{\"revision\":7}}]}\n");
}
