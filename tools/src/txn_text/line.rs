//! One line of a transaction: words, and strings in double quotes with Go's escapes, as etcdctl's users write them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Why a line cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Something else was expected here.
    #[error("expected {expected:?} at {rest:?}; a compare looks like mod(\"key\") > \"0\"")]
    Expected {
        /// What should stand here.
        expected: char,
        /// What stands here.
        rest: String,
    },
    /// The operand of a compare is missing.
    #[error("the value to compare with is missing; a compare looks like mod(\"key\") > \"0\"")]
    NoOperand,
    /// Something follows a complete compare.
    #[error("{rest:?} is too much after the compare")]
    TooMuch {
        /// What follows.
        rest: String,
    },
    /// A string has no end.
    #[error("a string is not closed with the quote that it began with")]
    Unclosed,
    /// An escape in a string that is none.
    #[error("\\{got} is no escape; write \\n \\r \\t \\\\ \\\" \\xNN \\uNNNN or three octal digits")]
    BadEscape {
        /// What follows the backslash.
        got: String,
    },
    /// A compare of something keys do not have.
    #[error("{got:?} cannot be compared; it is one of ver, create, mod, value, lease")]
    UnknownProperty {
        /// As given.
        got: String,
    },
    /// A relation that there is not.
    #[error("{got:?} is no relation; it is one of = != > <")]
    UnknownRelation {
        /// As given.
        got: String,
    },
    /// A number was expected.
    #[error("{got:?} is no number")]
    NotANumber {
        /// As given.
        got: String,
    },
    /// A lease id was expected.
    #[error("{got:?} is no lease id; it is a hexadecimal number")]
    NotALease {
        /// As given.
        got: String,
    },
}

/// Position in a line.
pub(super) struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text.trim() }
    }

    /// Everything before `end`, which is passed over.
    pub(super) fn word_until(&mut self, end: char) -> Result<&'a str, LineError> {
        let (word, rest) = self.rest.split_once(end).ok_or_else(|| self.expected(end))?;
        self.rest = rest.trim_start();
        Ok(word.trim())
    }

    pub(super) fn expect(&mut self, wanted: char) -> Result<(), LineError> {
        let rest = self.rest.strip_prefix(wanted).ok_or_else(|| self.expected(wanted))?;
        self.rest = rest.trim_start();
        Ok(())
    }

    /// The signs before the operand; may be empty.
    pub(super) fn relation(&mut self) -> &'a str {
        let is_sign = |c: char| matches!(c, '=' | '!' | '<' | '>');
        let end = self.rest.find(|c| !is_sign(c)).unwrap_or(self.rest.len());
        let (relation, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        relation
    }

    /// A string in double quotes.
    pub(super) fn quoted(&mut self) -> Result<Vec<u8>, LineError> {
        let rest = self.rest.strip_prefix('"').ok_or_else(|| self.expected('"'))?;
        let mut bytes = Vec::new();
        self.rest = unquote(rest, &mut bytes)?.trim_start();
        Ok(bytes)
    }

    /// A string in double quotes, or everything up to the next blank.
    pub(super) fn quoted_or_word(&mut self) -> Result<Vec<u8>, LineError> {
        if self.rest.starts_with('"') {
            return self.quoted();
        }
        let end = self.rest.find(char::is_whitespace).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        if word.is_empty() { Err(LineError::NoOperand) } else { Ok(word.as_bytes().to_vec()) }
    }

    pub(super) fn expect_end(&self) -> Result<(), LineError> {
        if self.rest.is_empty() { Ok(()) } else { Err(LineError::TooMuch { rest: self.rest.to_owned() }) }
    }

    fn expected(&self, expected: char) -> LineError {
        LineError::Expected { expected, rest: self.rest.to_owned() }
    }
}

/// Splits a line into words at blanks. Double quotes keep blanks together, anywhere in a word. A word in single quotes is taken as it
/// is, without escapes.
pub(super) fn words(text: &str) -> Result<Vec<OsString>, LineError> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let mut word = Vec::new();
        if let Some(quoted) = rest.strip_prefix('\'') {
            let (literal, after) = quoted.split_once('\'').ok_or(LineError::Unclosed)?;
            word.extend_from_slice(literal.as_bytes());
            rest = after;
        }
        while let Some(c) = rest.chars().next().filter(|c| !c.is_whitespace()) {
            let (first, after) = rest.split_at(c.len_utf8());
            if c == '"' {
                rest = unquote(after, &mut word)?;
            } else {
                word.extend_from_slice(first.as_bytes());
                rest = after;
            }
        }
        words.push(OsString::from_vec(word));
        rest = rest.trim_start();
    }
    Ok(words)
}

/// Appends a string's bytes, its opening quote passed already; returns what follows the closing quote.
fn unquote<'a>(text: &'a str, bytes: &mut Vec<u8>) -> Result<&'a str, LineError> {
    let mut rest = text;
    loop {
        let end = rest.find(['"', '\\']).ok_or(LineError::Unclosed)?;
        let (plain, from_sign) = rest.split_at(end);
        bytes.extend_from_slice(plain.as_bytes());
        let (sign, after) = from_sign.split_at(1);
        if sign == "\"" {
            return Ok(after);
        }
        rest = unescape(after, bytes)?;
    }
}

/// Appends what an escape stands for, its backslash passed already; returns what follows it.
fn unescape<'a>(text: &'a str, bytes: &mut Vec<u8>) -> Result<&'a str, LineError> {
    let bad = |length: usize| LineError::BadEscape { got: text.chars().take(length).collect() };
    let letter = text.chars().next().ok_or(LineError::Unclosed)?;
    let after = text.get(letter.len_utf8()..).unwrap_or_default();
    let simple = match letter {
        'n' => Some(b'\n'),
        'r' => Some(b'\r'),
        't' => Some(b'\t'),
        'a' => Some(0x07),
        'b' => Some(0x08),
        'f' => Some(0x0c),
        'v' => Some(0x0b),
        '\\' => Some(b'\\'),
        '"' => Some(b'"'),
        _ => None,
    };
    if let Some(byte) = simple {
        bytes.push(byte);
        return Ok(after);
    }
    let (digits, radix, skipped) = match letter {
        'x' => (2, 16, 1),
        'u' => (4, 16, 1),
        'U' => (8, 16, 1),
        '0'..='7' => (3, 8, 0),
        _ => return Err(bad(1)),
    };
    let number = text.get(skipped..skipped + digits).filter(|number| number.chars().all(|c| c.is_digit(radix)));
    let value =
        number.and_then(|number| u32::from_str_radix(number, radix).ok()).ok_or_else(|| bad(skipped + digits))?;
    if matches!(letter, 'u' | 'U') {
        let c = char::from_u32(value).ok_or_else(|| bad(skipped + digits))?;
        bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    } else {
        bytes.push(u8::try_from(value).map_err(|_| bad(skipped + digits))?);
    }
    Ok(text.get(skipped + digits..).unwrap_or_default())
}
