//! Keys and values as text: they are bytes, and what prints them must not break on any.

use std::fmt::{self, Write};

use serde::{Serialize, Serializer};

/// Digits of base64. Source: RFC 4648, section 4.
const BASE64_DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Bytes as base64 with padding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Base64<'a>(pub(crate) &'a [u8]);

impl Base64<'_> {
    /// True if there are no bytes.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Base64<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.chunks(3) {
            let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for place in 0..4 {
                if place > chunk.len() {
                    f.write_char('=')?;
                } else {
                    let digit = (bits >> (18 - 6 * place)) & 0x3f;
                    f.write_char(char::from(BASE64_DIGITS[digit as usize]))?;
                }
            }
        }
        Ok(())
    }
}

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Bytes for a table's cell: text as it is, control characters and other bytes as `\xNN`. Or all of them as `\xNN`.
pub fn printable(bytes: &[u8], is_hex: bool) -> String {
    if is_hex {
        return hex(bytes);
    }
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
        }
        text.push_str(&hex(chunk.invalid()));
    }
    text
}

/// Each byte as `\xNN`.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 4);
    for byte in bytes {
        write!(text, "\\x{byte:02x}").expect("a string takes everything");
    }
    text
}

/// Bytes in double quotes as Go quotes them: text stays readable, and every byte can be told from the result.
pub(super) fn go_quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => text.extend(['\\', c]),
                '\x07' => text.push_str("\\a"),
                '\x08' => text.push_str("\\b"),
                '\x0c' => text.push_str("\\f"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\x0b' => text.push_str("\\v"),
                c if c.is_ascii_control() => text.push_str(&hex(&[c as u8])),
                // Rust escapes invisible characters, as Go does. It also escapes this quote, which Go leaves.
                c if c == '\'' || c.escape_debug().len() == 1 => text.push(c),
                c if u32::from(c) > 0xffff => {
                    write!(text, "\\U{:08x}", u32::from(c)).expect("a string takes everything");
                }
                c => write!(text, "\\u{:04x}", u32::from(c)).expect("a string takes everything"),
            }
        }
        text.push_str(&hex(chunk.invalid()));
    }
    text.push('"');
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
            assert_eq!(Base64(plain.as_bytes()).to_string(), expected);
        }
        assert_eq!(Base64(&[0xff, 0xef, 0xbe]).to_string(), "/+++");
        assert_eq!(serde_json::to_string(&Base64(&[0xff])).expect("plain data"), "\"/w==\"");
    }

    #[test]
    fn cells_of_tables_stay_on_their_line() {
        assert_eq!(printable("a é\n\t\u{1b}[1m".as_bytes(), false), "a é\\n\\t\\u{1b}[1m");
        assert_eq!(printable(&[b'a', 0xff, 0], false), "a\\xff\\u{0}");
        assert_eq!(printable("a é".as_bytes(), true), "\\x61\\x20\\xc3\\xa9");
    }

    #[test]
    fn fields_are_quoted_as_by_go() {
        let rows: [(&[u8], &str); 5] = [
            (b"a \"b\" \\", r#""a \"b\" \\""#),
            (b"\x07\x08\x0c\n\r\t\x0b\0\x7f", r#""\a\b\f\n\r\t\v\x00\x7f""#),
            ("é 世 '".as_bytes(), "\"é 世 '\""),
            ("\u{200b}\u{e0001}".as_bytes(), "\"\\u200b\\U000e0001\""),
            (&[b'a', 0xff, 0xc3], "\"a\\xff\\xc3\""),
        ];
        for (bytes, expected) in rows {
            assert_eq!(go_quoted(bytes), expected);
        }
    }
}
