//! Histories as text, to be kept and judged again: one operation a line, as JSON.
//!
//! Makes and reads strings; files are somebody else's. Bytes are hexadecimal, times are us, names are those of `Operation`:
//!
//! ```json
//! {"client":1,"shard":0,"input":{"op":"put","key":"6b","value":"76"},"called_us":5,"node":2,"life":1,
//!  "outcome":{"returned_us":9,"revision":3,"succeeded":true,"answers":[{"to":"put"}]},"is_void":false}
//! ```
//!
//! (here on two lines). Inputs are `put`, `delete`, `get`, `get_serializable`, `list`, `swap` (with `mod_revision`) and `put_both`
//! (with `keys`). Answers are `put` (with `prev_kv`), `delete` (with `deleted` and `prev_kvs`) and `range` (with `kvs`, `more` and
//! `count`). Without `outcome` it is unknown.

use serde::{Deserialize, Serialize};

use super::history::{Input, Operation};
use api::response::{KeyValue, OpResponse, Response};

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
    serde_json::to_string(&OperationJson::from(operation)).expect("numbers, strings and lists are JSON")
}

/// Reads what `save` made. Empty lines are passed over.
///
/// # Errors
/// A line is no operation.
pub fn load(text: &str) -> Result<Vec<Operation>, HistoryError> {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let operation = |(line, text): (usize, &str)| {
        let read: OperationJson = serde_json::from_str(text).map_err(|source| HistoryError { line, source })?;
        Ok(Operation::from(read))
    };
    lines.map(operation).collect()
}

/// Bytes as hexadecimal digits.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Hex(Vec<u8>);

impl From<Hex> for String {
    fn from(hex: Hex) -> Self {
        let digit = |half: u8| char::from_digit(half.into(), 16).expect("half a byte is a digit");
        hex.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }
}

impl TryFrom<String> for Hex {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const WRONG: &str = "bytes are pairs of hexadecimal digits";
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|half| u8::try_from(half).ok()).ok_or(WRONG);
        let byte = |pair: &[u8]| match pair {
            [high, low] => Ok(digit(*high)? << 4 | digit(*low)?),
            _ => Err(WRONG),
        };
        text.as_bytes().chunks(2).map(byte).collect::<Result<_, _>>().map(Self)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OperationJson {
    client: usize,
    shard: usize,
    input: InputJson,
    called_us: u64,
    node: usize,
    life: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outcome: Option<OutcomeJson>,
    #[serde(default)]
    is_void: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
enum InputJson {
    Put { key: Hex, value: Hex },
    Delete { key: Hex },
    Get { key: Hex },
    GetSerializable { key: Hex },
    List {},
    Swap { key: Hex, mod_revision: u64, value: Hex },
    PutBoth { keys: [Hex; 2], value: Hex },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OutcomeJson {
    returned_us: u64,
    revision: u64,
    succeeded: bool,
    answers: Vec<AnswerJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "snake_case", deny_unknown_fields)]
enum AnswerJson {
    Put {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prev_kv: Option<KeyValueJson>,
    },
    Delete {
        deleted: u64,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        prev_kvs: Vec<KeyValueJson>,
    },
    Range {
        kvs: Vec<KeyValueJson>,
        more: bool,
        count: u64,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyValueJson {
    key: Hex,
    value: Hex,
    create_revision: u64,
    mod_revision: u64,
    version: u64,
    lease: u64,
}

impl From<&Operation> for OperationJson {
    fn from(operation: &Operation) -> Self {
        let outcome = operation.outcome.as_ref().map(|(returned_us, response)| OutcomeJson {
            returned_us: *returned_us,
            revision: response.revision,
            succeeded: response.succeeded,
            answers: response.ops.iter().map(AnswerJson::from).collect(),
        });
        let (node, life) = operation.process;
        Self {
            client: operation.client,
            shard: operation.shard,
            input: InputJson::from(&operation.input),
            called_us: operation.called_us,
            node,
            life,
            outcome,
            is_void: operation.is_void,
        }
    }
}

impl From<OperationJson> for Operation {
    fn from(read: OperationJson) -> Self {
        let outcome = read.outcome.map(|outcome| {
            let OutcomeJson { returned_us, revision, succeeded, answers } = outcome;
            let ops = answers.into_iter().map(OpResponse::from).collect();
            (returned_us, Response { revision, succeeded, ops })
        });
        Self {
            client: read.client,
            shard: read.shard,
            input: read.input.into(),
            called_us: read.called_us,
            process: (read.node, read.life),
            outcome,
            is_void: read.is_void,
        }
    }
}

impl From<&Input> for InputJson {
    fn from(input: &Input) -> Self {
        let hex = |bytes: &Vec<u8>| Hex(bytes.clone());
        match input {
            Input::Put { key, value } => Self::Put { key: hex(key), value: hex(value) },
            Input::Delete { key } => Self::Delete { key: hex(key) },
            Input::Get { key } => Self::Get { key: hex(key) },
            Input::GetSerializable { key } => Self::GetSerializable { key: hex(key) },
            Input::List => Self::List {},
            Input::Swap { key, mod_revision, value } => {
                Self::Swap { key: hex(key), mod_revision: *mod_revision, value: hex(value) }
            }
            Input::PutBoth { keys: [first, second], value } => {
                Self::PutBoth { keys: [hex(first), hex(second)], value: hex(value) }
            }
        }
    }
}

impl From<InputJson> for Input {
    fn from(read: InputJson) -> Self {
        match read {
            InputJson::Put { key, value } => Self::Put { key: key.0, value: value.0 },
            InputJson::Delete { key } => Self::Delete { key: key.0 },
            InputJson::Get { key } => Self::Get { key: key.0 },
            InputJson::GetSerializable { key } => Self::GetSerializable { key: key.0 },
            InputJson::List {} => Self::List,
            InputJson::Swap { key, mod_revision, value } => Self::Swap { key: key.0, mod_revision, value: value.0 },
            InputJson::PutBoth { keys: [first, second], value } => {
                Self::PutBoth { keys: [first.0, second.0], value: value.0 }
            }
        }
    }
}

impl From<&OpResponse> for AnswerJson {
    fn from(answer: &OpResponse) -> Self {
        match answer {
            OpResponse::Put { prev_kv } => Self::Put { prev_kv: prev_kv.as_ref().map(KeyValueJson::from) },
            OpResponse::Delete { deleted, prev_kvs } => {
                Self::Delete { deleted: *deleted, prev_kvs: prev_kvs.iter().map(KeyValueJson::from).collect() }
            }
            OpResponse::Range { kvs, more, count } => {
                Self::Range { kvs: kvs.iter().map(KeyValueJson::from).collect(), more: *more, count: *count }
            }
        }
    }
}

impl From<AnswerJson> for OpResponse {
    fn from(read: AnswerJson) -> Self {
        let all = |kvs: Vec<KeyValueJson>| kvs.into_iter().map(KeyValue::from).collect();
        match read {
            AnswerJson::Put { prev_kv } => Self::Put { prev_kv: prev_kv.map(KeyValue::from) },
            AnswerJson::Delete { deleted, prev_kvs } => Self::Delete { deleted, prev_kvs: all(prev_kvs) },
            AnswerJson::Range { kvs, more, count } => Self::Range { kvs: all(kvs), more, count },
        }
    }
}

impl From<&KeyValue> for KeyValueJson {
    fn from(kv: &KeyValue) -> Self {
        Self {
            key: Hex(kv.key.clone()),
            value: Hex(kv.value.clone()),
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        }
    }
}

impl From<KeyValueJson> for KeyValue {
    fn from(read: KeyValueJson) -> Self {
        let KeyValueJson { key, value, create_revision, mod_revision, version, lease } = read;
        Self { key: key.0, value: value.0, create_revision, mod_revision, version, lease }
    }
}

#[cfg(test)]
mod tests {
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
        let documented = r#"{"client":1,"shard":0,"input":{"op":"put","key":"6b","value":"76"},"called_us":5,"node":2,"life":1,"outcome":{"returned_us":9,"revision":3,"succeeded":true,"answers":[{"to":"put"}]},"is_void":false}"#;
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
