//! The JSON of answers: field for field what etcdctl prints. Bytes are in base64, and what is zero, false or empty is left out.

use std::io::{self, Write};

use client::{DeleteResponse, KeyValue, PutResponse, RangeResponse};
use serde::Serialize;

use super::Answer;
use crate::cmd::Origin;
use crate::output::{Base64, FieldValue, Printer};

/// Who answered, and at which revision.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct HeaderJson {
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) cluster_id: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) member_id: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) revision: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) raft_term: u64,
}

impl HeaderJson {
    pub(super) fn new(origin: &Origin, revision: u64) -> Self {
        Self { cluster_id: origin.cluster_id, member_id: origin.member_id(), revision, raft_term: origin.term() }
    }

    /// The same as fields.
    pub(crate) fn print_fields<W: Write>(&self, printer: &mut Printer<W>) -> io::Result<()> {
        let id = |id: u64| if printer.is_hex() { format!("{id:x}") } else { id.to_string() };
        let (cluster_id, member_id) = (id(self.cluster_id), id(self.member_id));
        let ids = [("ClusterID", FieldValue::Word(&cluster_id)), ("MemberID", FieldValue::Word(&member_id))];
        printer.fields(&ids)?;
        if self.revision > 0 {
            printer.fields(&[("Revision", FieldValue::Number(self.revision))])?;
        }
        printer.fields(&[("RaftTerm", FieldValue::Number(self.raft_term))])
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_false(holds: &bool) -> bool {
    !*holds
}

#[derive(Serialize)]
struct PairJson<'a> {
    key: Base64<'a>,
    create_revision: u64,
    mod_revision: u64,
    version: u64,
    #[serde(skip_serializing_if = "Base64::is_empty")]
    value: Base64<'a>,
    #[serde(skip_serializing_if = "is_zero")]
    lease: u64,
}

impl<'a> PairJson<'a> {
    fn new(kv: &'a KeyValue) -> Self {
        let &KeyValue { create_revision, mod_revision, version, lease, .. } = kv;
        let (key, value) = (Base64(&kv.key), Base64(&kv.value));
        Self { key, create_revision, mod_revision, version, value, lease }
    }
}

#[derive(Serialize)]
pub(super) struct PutJson<'a> {
    header: HeaderJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_kv: Option<PairJson<'a>>,
}

impl<'a> PutJson<'a> {
    pub(super) fn new(header: HeaderJson, put: &'a PutResponse) -> Self {
        Self { header, prev_kv: put.prev_kv.as_ref().map(PairJson::new) }
    }
}

#[derive(Serialize)]
pub(super) struct RangeJson<'a> {
    header: HeaderJson,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kvs: Vec<PairJson<'a>>,
    #[serde(skip_serializing_if = "is_false")]
    more: bool,
    #[serde(skip_serializing_if = "is_zero")]
    count: u64,
}

impl<'a> RangeJson<'a> {
    pub(super) fn new(header: HeaderJson, range: &'a RangeResponse) -> Self {
        let kvs = range.kvs.iter().map(PairJson::new).collect();
        Self { header, kvs, more: range.more, count: range.count }
    }
}

#[derive(Serialize)]
pub(super) struct DeleteJson<'a> {
    header: HeaderJson,
    #[serde(skip_serializing_if = "is_zero")]
    deleted: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prev_kvs: Vec<PairJson<'a>>,
}

impl<'a> DeleteJson<'a> {
    pub(super) fn new(header: HeaderJson, delete: &'a DeleteResponse) -> Self {
        let prev_kvs = delete.prev_kvs.iter().map(PairJson::new).collect();
        Self { header, deleted: delete.deleted, prev_kvs }
    }
}

/// The answer to an operation of a transaction, with a word for its kind.
#[derive(Serialize)]
pub(super) struct OperationJson<'a> {
    #[serde(rename = "Response")]
    response: KindJson<'a>,
}

#[derive(Serialize)]
enum KindJson<'a> {
    #[serde(rename = "response_range")]
    Range(RangeJson<'a>),
    #[serde(rename = "response_put")]
    Put(PutJson<'a>),
    #[serde(rename = "response_delete_range")]
    Delete(DeleteJson<'a>),
}

impl<'a> OperationJson<'a> {
    pub(super) fn new(answer: &'a Answer) -> Self {
        let header = |revision| HeaderJson::new(&Origin::default(), revision);
        let response = match answer {
            Answer::Put(put) => KindJson::Put(PutJson::new(header(put.revision), put)),
            Answer::Range(range) => KindJson::Range(RangeJson::new(header(range.revision), range)),
            Answer::Delete(delete) => KindJson::Delete(DeleteJson::new(header(delete.revision), delete)),
        };
        Self { response }
    }
}

#[derive(Serialize)]
pub(super) struct TxnJson<'a> {
    header: HeaderJson,
    #[serde(skip_serializing_if = "is_false")]
    succeeded: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    responses: Vec<OperationJson<'a>>,
}

impl<'a> TxnJson<'a> {
    pub(super) fn new(header: HeaderJson, succeeded: bool, responses: Vec<OperationJson<'a>>) -> Self {
        Self { header, succeeded, responses }
    }
}
