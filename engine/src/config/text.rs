//! Settings as words and comma-separated lists, the way flags, variables and TOML values spell them.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::ConfigError;

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
    /// Whether a start creates its cluster or comes back to it.
    ClusterState, "initial-cluster-state", "new, existing", {
        /// The cluster is created by its nodes' first starts. A data directory that is there already is used as it is.
        New = "new",
        /// The cluster exists. A node that has no data must not start as a voter of it: it could have voted before.
        Existing = "existing",
    }
);

words!(
    /// How the log is written.
    WalIo, "wal-io", "mmap", {
        /// Stores into a shared mapping, made durable by `fdatasync`.
        Mmap = "mmap",
        /// Direct writes through `io_uring`; refused by validation until it is built.
        Direct = "direct",
    }
);

words!(
    /// Least severe messages that are logged.
    LogLevel, "log-level", "error, warn, info, debug, trace", {
        /// Only what stops something from working.
        Error = "error",
        /// And what someone should look at.
        Warn = "warn",
        /// And changes of state.
        Info = "info",
        /// And what a developer asks for.
        Debug = "debug",
        /// And everything else.
        Trace = "trace",
    }
);

/// Splits a comma-separated list; blanks around elements and empty elements are dropped.
#[must_use]
pub fn parse_list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|element| !element.is_empty()).map(str::to_owned).collect()
}

/// Reads `a=http://10.0.0.1:2380,b=http://10.0.0.2:2380`.
///
/// # Errors
/// [`ConfigError::ClusterSyntax`] with the element that has no name or no URL. The URL itself is checked later.
pub fn parse_initial_cluster(text: &str) -> Result<Vec<(String, String)>, ConfigError> {
    parse_list(text).iter().map(|element| parse_member(element)).collect()
}

fn parse_member(element: &str) -> Result<(String, String), ConfigError> {
    match element.split_once('=') {
        Some((name, url)) if !name.is_empty() && !url.is_empty() => Ok((name.to_owned(), url.to_owned())),
        _ => Err(ConfigError::ClusterSyntax { element: element.to_owned() }),
    }
}

/// A list in a TOML file: an array of strings, or one string as on the command line.
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

/// `initial-cluster` in a TOML file: like any list, with elements `name=url`.
pub(super) fn deserialize_cluster<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<(String, String)>, D::Error> {
    let elements = deserialize_list(deserializer)?;
    elements.iter().map(|element| parse_member(element).map_err(de::Error::custom)).collect()
}
