//! Bytes as hexadecimal digits, for values that are written down as JSON: `#[serde(with = "api::hex")]`.

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::Serializer;

/// Two digits for each byte.
#[must_use]
pub fn to_text(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).expect("half a byte is a digit");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The bytes that these digits stand for; `None` if they are not pairs of digits.
#[must_use]
pub fn from_text(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|half| u8::try_from(half).ok());
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(byte).collect()
}

/// Writes bytes as a text of digits, for serde.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&to_text(bytes))
}

/// Reads bytes from a text of digits, for serde.
///
/// # Errors
/// The text is not made of pairs of hexadecimal digits.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    from_text(&text).ok_or_else(|| D::Error::custom("bytes are pairs of hexadecimal digits"))
}
