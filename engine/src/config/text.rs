//! How settings that are words or lists are written, in flags, environment variables and TOML files.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Defines an enum whose variants are the words that a setting can have, and reads and writes these words.
///
/// Arguments: the enum's name, the flag's name, the words that an error message offers, and each variant with its word. A word must be
/// its variant's name in kebab case, since that is what TOML files use.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $flag:literal, $expected:literal, {
        $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl FromStr for $name {
            type Err = ConfigError;

            fn from_str(word: &str) -> Result<Self, ConfigError> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(ConfigError::UnknownWord { flag: $flag, got: word.to_owned(), expected: $expected }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $word,)+
                })
            }
        }
    };
}

words!(
    /// Whether the cluster is being created or exists already.
    ClusterState, "initial-cluster-state", "new, existing", {
        /// The cluster is created when its nodes start for the first time. A node that has data already goes on with it.
        New = "new",
        /// The cluster exists. A node that has no data may have voted before and forgotten it. So it starts under repair, and refuses to
        /// start where the other nodes are too few to repair it.
        Existing = "existing",
    }
);

words!(
    /// How the log is written.
    WalIo, "wal-io", "mmap", {
        /// Stores into a shared mapping, made durable by `fdatasync`.
        Mmap = "mmap",
        /// Direct writes through `io_uring`. Not built yet: validation refuses it, and error messages do not offer it.
        Direct = "direct",
    }
);

words!(
    /// How severe a message must be to be logged. Each level includes the levels before it.
    LogLevel, "log-level", "error, warn, info, debug, trace", {
        /// Something does not work.
        Error = "error",
        /// Someone should look at something.
        Warn = "warn",
        /// Something changed its state.
        Info = "info",
        /// Details for a developer.
        Debug = "debug",
        /// Everything else.
        Trace = "trace",
    }
);

words!(
    /// How lines of the log are written.
    LogFormat, "log-format", "text, json", {
        /// For people.
        Text = "text",
        /// For programs: one object on each line.
        Json = "json",
    }
);

/// Splits a comma-separated list. Drops white space around elements, and empty elements.
#[must_use]
pub fn parse_list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|element| !element.is_empty()).map(str::to_owned).collect()
}

/// Reads the names and peer URLs of a cluster's nodes, written as `a=http://10.0.0.1:2380,b=http://10.0.0.2:2380`.
///
/// # Errors
/// [`ConfigError::ClusterSyntax`] with the first element that has no name or no URL. Validation checks the URLs themselves.
pub fn parse_initial_cluster(text: &str) -> Result<Vec<(String, String)>, ConfigError> {
    parse_list(text).iter().map(|element| parse_member(element)).collect()
}

fn parse_member(element: &str) -> Result<(String, String), ConfigError> {
    match element.split_once('=') {
        Some((name, url)) if !name.is_empty() && !url.is_empty() => Ok((name.to_owned(), url.to_owned())),
        _ => Err(ConfigError::ClusterSyntax { element: element.to_owned() }),
    }
}

/// Reads a list in a TOML file: an array of strings, or one string as on the command line.
pub(super) fn deserialize_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct List;

    impl<'de> Visitor<'de> for List {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a comma-separated string or an array of strings")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<String>, E> {
            Ok(parse_list(text))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<String>, A::Error> {
            let mut list = Vec::new();
            while let Some(element) = elements.next_element::<String>()? {
                list.push(element);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_any(List)
}

/// Reads `initial-cluster` in a TOML file: a list as `deserialize_list` takes it, with elements `name=url`.
pub(super) fn deserialize_cluster<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<(String, String)>, D::Error> {
    let elements = deserialize_list(deserializer)?;
    elements.iter().map(|element| parse_member(element).map_err(de::Error::custom)).collect()
}
