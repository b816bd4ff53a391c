//! Histories as text, to be kept and judged again: one operation a line, as JSON.
//!
//! Makes and reads strings; files are somebody else's. Bytes are hexadecimal, times are us, names are those of `Operation`:
//!
//! ```json
//! {"client":1,"shard":0,"input":{"op":"put","key":"6b","value":"76"},"called_us":5,"process":[2,1],
//!  "outcome":[9,{"revision":3,"succeeded":true,"ops":[{"to":"put"}]}],"is_void":false}
//! ```
//!
//! (here on two lines). Inputs are `put`, `delete`, `get`, `get_serializable`, `list`, `swap` (with `mod_revision`) and `put_both`
//! (with `keys`). Answers are `put` (with `prev_kv`), `delete` (with `deleted` and `prev_kvs`) and `range` (with `kvs`, `more` and
//! `count`). Without `outcome` it is unknown.

use super::history::Operation;

/// A line is no operation.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of the history is no operation: {source}")]
pub struct HistoryError {
    /// Which one, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub source: serde_json::Error,
}

/// One line for each operation.
#[must_use]
pub fn save(operations: &[Operation]) -> String {
    let mut text = String::new();
    for operation in operations {
        text.push_str(&to_line(operation));
        text.push('\n');
    }
    text
}

/// An operation as one line, without its end.
#[must_use]
pub fn to_line(operation: &Operation) -> String {
    serde_json::to_string(operation).expect("numbers, strings and lists are JSON")
}

/// Reads what `save` made. Empty lines are passed over.
///
/// # Errors
/// A line is no operation.
pub fn load(text: &str) -> Result<Vec<Operation>, HistoryError> {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let operation =
        |(line, text): (usize, &str)| serde_json::from_str(text).map_err(|source| HistoryError { line, source });
    lines.map(operation).collect()
}

#[cfg(test)]
mod tests {
    use api::response::{KeyValue, OpResponse, Response};

    use super::super::history::Input;
    use super::*;

    fn operation(input: Input, answer: Option<OpResponse>) -> Operation {
        let response = |answer| Response { revision: u64::MAX, succeeded: false, ops: vec![answer] };
        let outcome = answer.map(|answer| (17, response(answer)));
        Operation { client: usize::MAX, shard: 3, input, called_us: 5, process: (2, 9), outcome, is_void: false }
    }

    fn all() -> Vec<Operation> {
        let (key, value) = (b"k\0\"".to_vec(), vec![0, 0xFF, b'\n']);
        let kv = KeyValue {
            key: key.clone(),
            value: value.clone(),
            create_revision: 2,
            mod_revision: 7,
            version: 3,
            lease: u64::MAX,
        };
        let range = |kvs: Vec<KeyValue>| OpResponse::Range { count: 5, more: kvs.is_empty(), kvs };
        let both = Input::PutBoth { keys: [key.clone(), vec![]], value: value.clone() };
        let put = |prev_kv| OpResponse::Put { prev_kv };
        vec![
            operation(Input::Put { key: key.clone(), value: value.clone() }, Some(put(None))),
            operation(Input::Put { key: key.clone(), value: value.clone() }, Some(put(Some(kv.clone())))),
            operation(
                Input::Delete { key: key.clone() },
                Some(OpResponse::Delete { deleted: 1, prev_kvs: vec![kv.clone()] }),
            ),
            operation(Input::Get { key: key.clone() }, Some(range(vec![]))),
            operation(Input::GetSerializable { key: key.clone() }, Some(range(vec![kv.clone()]))),
            operation(Input::List, Some(range(vec![kv.clone(), kv]))),
            operation(Input::Swap { key, mod_revision: 7, value }, None),
            Operation { is_void: true, ..operation(both, None) },
        ]
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let operations = all();
        let text = save(&operations);
        assert_eq!(text.lines().count(), operations.len());
        let loaded = load(&text).expect("what was saved");
        assert_eq!(format!("{loaded:?}"), format!("{operations:?}"));
        assert!(load("\n\n").expect("nothing").is_empty());
    }

    #[test]
    fn lines_look_as_documented() {
        let input = Input::Put { key: b"k".to_vec(), value: b"v".to_vec() };
        let response = Response { revision: 3, succeeded: true, ops: vec![OpResponse::Put { prev_kv: None }] };
        let operation = Operation {
            client: 1,
            shard: 0,
            input,
            called_us: 5,
            process: (2, 1),
            outcome: Some((9, response)),
            is_void: false,
        };
        let documented = r#"{"client":1,"shard":0,"input":{"op":"put","key":"6b","value":"76"},"called_us":5,"process":[2,1],"outcome":[9,{"revision":3,"succeeded":true,"ops":[{"to":"put"}]}],"is_void":false}"#;
        assert_eq!(to_line(&operation), documented);
    }

    #[test]
    fn what_is_no_history_is_refused() {
        let good = to_line(&all()[0]);
        for bad in
            ["{", "[]", &good.replace("6b", "6"), &good.replace("6b", "6x"), &good.replace("\"put\"", "\"pull\"")]
        {
            let error = load(&format!("{good}\n\n{bad}")).expect_err(bad).to_string();
            assert!(error.starts_with("line 3 of the history is no operation"), "{error}");
        }
    }
}
