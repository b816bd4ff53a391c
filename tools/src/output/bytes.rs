//! Keys and values as text: they are bytes, and what prints them must not break on any.

use std::fmt::Write;

use serde::Serialize;

/// Digits of base64. Source: RFC 4648, section 4.
const BASE64_DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A key-value pair in JSON: text where the bytes are text, base64 where not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PairJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    create_revision: u64,
    mod_revision: u64,
    version: u64,
    lease: String,
}

impl PairJson {
    /// Wraps a pair; `revisions` are of creation and of the last change.
    pub fn new(key: &[u8], value: &[u8], revisions: (u64, u64), version: u64, lease: u64) -> Self {
        let (key, key_base64) = text_or_base64(key);
        let (value, value_base64) = text_or_base64(value);
        let (create_revision, mod_revision) = revisions;
        let lease = format!("{lease:016x}");
        Self { key, key_base64, value, value_base64, create_revision, mod_revision, version, lease }
    }
}

fn text_or_base64(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(base64(bytes))),
    }
}

/// Base64 with padding.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            if place > chunk.len() {
                text.push('=');
            } else {
                let digit = (bits >> (18 - 6 * place)) & 0x3f;
                text.push(char::from(BASE64_DIGITS[digit as usize]));
            }
        }
    }
    text
}

/// Bytes for a table's cell: text as it is, control characters and other bytes as `\xNN`.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").expect("a string takes everything");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_as_in_the_rfc() {
        let rows =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")];
        for (plain, expected) in rows {
            assert_eq!(base64(plain.as_bytes()), expected);
        }
        assert_eq!(base64(&[0xff, 0xef, 0xbe]), "/+++");
    }

    #[test]
    fn pairs_are_text_where_they_can_be() {
        let pair = PairJson::new(b"k", &[0xff], (2, 3), 1, 0x1f);
        assert_eq!(
            serde_json::to_string(&pair).expect("plain data"),
            r#"{"key":"k","value_base64":"/w==","create_revision":2,"mod_revision":3,"version":1,"lease":"000000000000001f"}"#
        );
    }

    #[test]
    fn cells_of_tables_stay_on_their_line() {
        assert_eq!(printable("a é\n\t\u{1b}[1m".as_bytes()), "a é\\n\\t\\u{1b}[1m");
        assert_eq!(printable(&[b'a', 0xff, 0]), "a\\xff\\u{0}");
    }
}
