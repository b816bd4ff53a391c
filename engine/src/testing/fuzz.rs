//! What the fuzz targets in `engine/fuzz` check, so that a plain test can replay their corpus.
//!
//! Nothing here makes inputs. Each function takes any bytes and panics if the engine breaks a promise over them: no panic, no
//! memory that the bytes do not account for, nothing accepted that is not exactly what this package would have written, and
//! equal state from equal commands.

mod commands;
mod messages;
mod replica;
mod settings;

use codec::DecodeError;

pub use commands::{batch, command, response};
pub use messages::peer_message;
pub use replica::{Failure, Hunt, Report, replica};
pub use settings::{config_toml, config_urls};

/// What an error says of the bytes is true of so many bytes.
fn assert_is_about(error: &DecodeError, len: usize) {
    match *error {
        DecodeError::Short { got, expected, .. } => assert!(got <= len && got < expected, "{error} of {len}"),
        DecodeError::Trailing { got, .. } => assert!(got > 0 && got <= len, "{error} of {len}"),
        DecodeError::TooLong { got, limit, .. } => assert!(got > limit, "{error}"),
        DecodeError::Unknown { .. } | DecodeError::NotText { .. } => {}
    }
}
