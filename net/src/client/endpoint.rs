//! Where a node is reached, as people write it.

use std::fmt;
use std::str::FromStr;

/// A host and port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    authority: String,
}

/// A text is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("endpoint {text:?} is not host:port or http://host:port: {reason}")]
pub struct EndpointError {
    text: String,
    reason: &'static str,
}

impl Endpoint {
    /// `host:port`.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let error = |reason| EndpointError { text: text.to_owned(), reason };
        let rest = text.trim();
        if rest.starts_with("https://") {
            return Err(error("TLS is not supported yet"));
        }
        let rest = rest.strip_prefix("http://").unwrap_or(rest);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = rest.rsplit_once(':').ok_or_else(|| error("the port is missing"))?;
        if host.is_empty() || host.contains(['/', ' ', '@']) {
            return Err(error("the host is missing or malformed"));
        }
        if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
            return Err(error("an IPv6 address stands in brackets"));
        }
        match port.parse::<u16>() {
            Ok(port) if port > 0 => Ok(Self { authority: format!("{host}:{port}") }),
            _ => Err(error("the port is not a number from 1 to 65535")),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_people_write_them() {
        for (text, authority) in [
            ("127.0.0.1:2379", "127.0.0.1:2379"),
            ("http://localhost:2379", "localhost:2379"),
            (" http://[::1]:1/ ", "[::1]:1"),
        ] {
            assert_eq!(text.parse::<Endpoint>().expect(text).authority(), authority);
        }
        for text in ["", "localhost", "https://a:1", "a:0", "a:70000", "::1:2379", "http://a:1/x", ":1"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}
