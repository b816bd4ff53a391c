//! Transcripts of results in each form.

use super::*;
use client::ShardStatus;

fn pair(key: &str, value: &str) -> KeyValue {
    let (key, value) = (key.as_bytes().to_vec(), value.as_bytes().to_vec());
    KeyValue { key, value, create_revision: 2, mod_revision: 3, version: 2, lease: 0 }
}

fn range() -> RangeResponse {
    RangeResponse { revision: 9, count: 5, more: true, kvs: vec![pair("a", "1"), pair("b", "two\nlines")] }
}

fn origin() -> Origin {
    let shard = ShardStatus {
        name: "n1".to_owned(),
        node_id: 0xab,
        shard: 0,
        role: "leader".to_owned(),
        leader: 0xab,
        term: 4,
        last_index: 9,
        persisted_index: 9,
        commit_index: 9,
        applied_index: 9,
        revision: 9,
        stopped: None,
        under_repair: None,
        new: None,
        lost_data: None,
    };
    Origin { cluster_id: 0xcd, shards: vec![shard] }
}

fn printed_with(
    form: WriteOut,
    is_hex: bool,
    print: impl FnOnce(&mut Printer<&mut Vec<u8>>) -> io::Result<()>,
) -> String {
    let mut out = Vec::new();
    let mut printer = Printer::new(form, &mut out);
    printer.set_hex(is_hex);
    print(&mut printer).expect("memory takes everything");
    String::from_utf8(out).expect("text")
}

fn printed(form: WriteOut, print: impl FnOnce(&mut Printer<&mut Vec<u8>>) -> io::Result<()>) -> String {
    printed_with(form, false, print)
}

const HEADER: &str = r#""header":{"cluster_id":205,"member_id":171,"revision":9,"raft_term":4}"#;
const A_JSON: &str = r#"{"key":"YQ==","create_revision":2,"mod_revision":3,"version":2,"value":"MQ=="}"#;
const A_FIELDS: &str = "\
\"Key\" : \"a\"
\"CreateRevision\" : 2
\"ModRevision\" : 3
\"Version\" : 2
\"Value\" : \"1\"
\"Lease\" : 0
";

#[test]
fn get_prints_keys_and_values_on_lines_of_their_own() {
    let simple = |range: &RangeResponse, looks| {
        printed(WriteOut::Simple, |printer| print_range(range, &origin(), looks, printer))
    };
    assert_eq!(simple(&range(), RangeLooks::default()), "a\n1\nb\ntwo\nlines\n");
    assert_eq!(simple(&range(), RangeLooks { values_only: true, ..RangeLooks::default() }), "1\ntwo\nlines\n");
    assert_eq!(simple(&range(), RangeLooks { count_only: true, ..RangeLooks::default() }), "5\n");
    let keys_only = RangeResponse { kvs: vec![pair("a", ""), pair("b", "")], ..range() };
    assert_eq!(simple(&keys_only, RangeLooks::default()), "a\n\nb\n\n", "etcdctl's blank lines");
    let nothing = RangeResponse { revision: 1, count: 0, more: false, kvs: Vec::new() };
    assert_eq!(simple(&nothing, RangeLooks::default()), "");
}

#[test]
fn hexadecimal_keeps_every_byte_on_its_line() {
    let print = |printer: &mut Printer<&mut Vec<u8>>| print_range(&range(), &origin(), RangeLooks::default(), printer);
    let text = printed_with(WriteOut::Simple, true, print);
    assert_eq!(text, "\\x61\n\\x31\n\\x62\n\\x74\\x77\\x6f\\x0a\\x6c\\x69\\x6e\\x65\\x73\n");
    let fields = printed_with(WriteOut::Fields, true, print);
    assert!(fields.starts_with("\"ClusterID\" : cd\n\"MemberID\" : ab\n\"Revision\" : 9\n"), "{fields}");
    assert!(fields.contains("\"Key\" : \"a\"\n") && fields.contains("\"Lease\" : 0000000000000000\n"), "{fields}");
}

#[test]
fn get_prints_the_json_of_etcdctl() {
    let json = |range: &RangeResponse| {
        printed(WriteOut::Json, |printer| print_range(range, &origin(), RangeLooks::default(), printer))
    };
    let one = RangeResponse { kvs: vec![pair("a", "1")], ..range() };
    assert_eq!(json(&one), format!("{{{HEADER},\"kvs\":[{A_JSON}],\"more\":true,\"count\":5}}\n"));
    let nothing = RangeResponse { kvs: Vec::new(), more: false, count: 0, ..range() };
    assert_eq!(json(&nothing), format!("{{{HEADER}}}\n"), "what is zero or empty is left out");
    let bare = RangeResponse { kvs: vec![pair("a", "")], more: false, count: 1, ..range() };
    assert!(json(&bare).contains(r#""version":2}],"count":1}"#), "{}", json(&bare));
}

#[test]
fn fields_are_those_of_etcdctl() {
    let one = RangeResponse { kvs: vec![pair("a", "1")], ..range() };
    let text = printed(WriteOut::Fields, |printer| print_range(&one, &origin(), RangeLooks::default(), printer));
    let header = "\"ClusterID\" : 205\n\"MemberID\" : 171\n\"Revision\" : 9\n\"RaftTerm\" : 4\n";
    assert_eq!(text, format!("{header}{A_FIELDS}\"More\" : true\n\"Count\" : 5\n"));
    let put = PutResponse { revision: 9, prev_kv: Some(pair("a", "1")) };
    let text = printed(WriteOut::Fields, |printer| print_put(&put, &origin(), printer));
    assert_eq!(text, format!("{header}{}", A_FIELDS.replace("\n\"", "\n\"Prev").replacen('"', "\"Prev", 1)));
    let delete = DeleteResponse { revision: 9, deleted: 2, prev_kvs: Vec::new() };
    let text = printed(WriteOut::Fields, |printer| print_delete(&delete, &origin(), printer));
    assert_eq!(text, format!("{header}\"Deleted\" : 2\n"));
}

#[test]
fn tables_keep_each_pair_on_its_row() {
    let table = printed(WriteOut::Table, |printer| print_range(&range(), &origin(), RangeLooks::default(), printer));
    assert!(table.contains("two\\nlines"), "{table}");
    assert_eq!(table.lines().count(), 6, "{table}");
}

#[test]
fn put_and_del_print_what_etcdctl_does() {
    let put = PutResponse { revision: 9, prev_kv: Some(pair("a", "1")) };
    assert_eq!(printed(WriteOut::Simple, |printer| print_put(&put, &origin(), printer)), "OK\na\n1\n");
    let json = printed(WriteOut::Json, |printer| print_put(&put, &origin(), printer));
    assert_eq!(json, format!("{{{HEADER},\"prev_kv\":{A_JSON}}}\n"));
    let put = PutResponse { revision: 9, prev_kv: None };
    assert_eq!(printed(WriteOut::Simple, |printer| print_put(&put, &origin(), printer)), "OK\n");
    assert_eq!(printed(WriteOut::Json, |printer| print_put(&put, &origin(), printer)), format!("{{{HEADER}}}\n"));
    let delete = DeleteResponse { revision: 9, deleted: 1, prev_kvs: vec![pair("a", "1")] };
    assert_eq!(printed(WriteOut::Simple, |printer| print_delete(&delete, &origin(), printer)), "1\na\n1\n");
    let json = printed(WriteOut::Json, |printer| print_delete(&delete, &origin(), printer));
    assert_eq!(json, format!("{{{HEADER},\"deleted\":1,\"prev_kvs\":[{A_JSON}]}}\n"));
}

#[test]
fn txn_prints_its_verdict_and_each_result_behind_a_blank_line() {
    let RangeResponse { kvs, more, count, .. } = range();
    let txn = TxnResponse {
        revision: 9,
        succeeded: true,
        results: vec![
            OpResult::Put(None),
            OpResult::Range { kvs, more, count },
            OpResult::Delete { deleted: 1, prev_kvs: Vec::new() },
        ],
    };
    let values = RangeLooks { values_only: true, ..RangeLooks::default() };
    let looks = [RangeLooks::default(), values, RangeLooks::default()];
    let simple = printed(WriteOut::Simple, |printer| print_txn(txn.clone(), &origin(), &looks, printer));
    assert_eq!(simple, "SUCCESS\n\nOK\n\n1\ntwo\nlines\n\n1\n");
    let json = printed(WriteOut::Json, |printer| print_txn(txn.clone(), &origin(), &looks, printer));
    let of =
        |kind: &str, rest: &str| format!("{{\"Response\":{{\"{kind}\":{{\"header\":{{\"revision\":9}}{rest}}}}}}}");
    let b_json = A_JSON.replace("YQ==", "Yg==").replace("MQ==", "dHdvCmxpbmVz");
    let responses = [
        of("response_put", ""),
        of("response_range", &format!(",\"kvs\":[{A_JSON},{b_json}],\"more\":true,\"count\":5")),
        of("response_delete_range", ",\"deleted\":1"),
    ];
    assert_eq!(json, format!("{{{HEADER},\"succeeded\":true,\"responses\":[{}]}}\n", responses.join(",")));
    let failed = TxnResponse { results: Vec::new(), succeeded: false, ..txn };
    let json = printed(WriteOut::Json, |printer| print_txn(failed.clone(), &origin(), &[], printer));
    assert_eq!(json, format!("{{{HEADER}}}\n"));
    let fields = printed(WriteOut::Fields, |printer| print_txn(failed, &origin(), &[], printer));
    assert!(fields.ends_with("\"RaftTerm\" : 4\n\"Succeeded\" : false\n"), "{fields}");
}
