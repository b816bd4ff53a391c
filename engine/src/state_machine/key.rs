//! The bytes of a key as the index keeps them: short keys lie where the key lies, longer ones elsewhere.

use std::borrow::Borrow;
use std::fmt;

/// Longest key that needs no memory of its own. Unit: bytes.
const INLINE_BYTES: usize = 22;

const _: () = assert!(INLINE_BYTES <= u8::MAX as usize, "a length is one byte");
const _: () = assert!(size_of::<Key>() == 24, "a short key takes no more room than a box and its length would");

/// A key, ordered by its bytes.
pub(super) enum Key {
    Short { len: u8, bytes: [u8; INLINE_BYTES] },
    Long(Box<[u8]>),
}

impl Key {
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => &bytes[..usize::from(*len)],
            Self::Long(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for Key {
    fn from(key: &[u8]) -> Self {
        let mut bytes = [0; INLINE_BYTES];
        let Some(room) = bytes.get_mut(..key.len()) else {
            return Self::Long(key.into());
        };
        room.copy_from_slice(key);
        Self::Short { len: key.len() as u8, bytes }
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

// A map that is asked for bytes compares keys as it compares those.
impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_every_length_keep_their_bytes_and_their_order() {
        let keys: Vec<Vec<u8>> = (0..60).map(|len| vec![len; usize::from(len)]).chain([vec![0], vec![0, 0]]).collect();
        for key in &keys {
            assert_eq!(Key::from(&key[..]).as_bytes(), &key[..]);
            for other in &keys {
                assert_eq!(Key::from(&key[..]).cmp(&Key::from(&other[..])), key.cmp(other));
            }
        }
    }
}
