//! `http://host:port`, the only form of address in settings.
//!
//! Parsing only: host names are resolved by whoever connects. Parsers of URLs in general are of no help: they take paths, users and
//! `127.1`, read `http://host` as port 80, and drop `:80`, so that what settings refuse would have to be found out before them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::UrlError;

use crate::limits::HOST_BYTES_MAX;

/// A parsed address: a host and a port. Its display form is canonical: equal addresses print the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url {
    /// Lower case; an IPv6 address without its brackets.
    host: String,
    /// Never 0.
    port: u16,
}

impl Url {
    /// Parses `http://host:port`.
    ///
    /// # Errors
    /// Another scheme, anything besides host and port, or either of them missing or malformed.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        if scheme.eq_ignore_ascii_case("https") {
            return Err(UrlError::Https);
        }
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(UrlError::Scheme);
        }
        if rest.contains(['/', '?', '#', '@']) {
            return Err(UrlError::NotBare);
        }
        Self::parse_authority(rest)
    }

    /// Parses `host:port`, with or without `http://` before it, as endpoints are given to client commands.
    ///
    /// # Errors
    /// As [`Url::parse`].
    pub fn parse_endpoint(text: &str) -> Result<Self, UrlError> {
        if text.contains("://") { Self::parse(text) } else { Self::parse(&format!("http://{text}")) }
    }

    fn parse_authority(text: &str) -> Result<Self, UrlError> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, after) = rest.split_once(']').ok_or(UrlError::Host)?;
            let address: Ipv6Addr = host.parse().map_err(|_| UrlError::Host)?;
            (address.to_string(), after.strip_prefix(':').ok_or(UrlError::Port)?)
        } else {
            let (host, port) = text.split_once(':').ok_or(UrlError::Port)?;
            (parse_host(host)?, port)
        };
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(UrlError::Port);
        }
        match port.parse() {
            Ok(port) if port != 0 => Ok(Self { host, port }),
            _ => Err(UrlError::Port),
        }
    }

    /// Host name or IP address, in lower case and without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port, never 0.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, with brackets around an IPv6 address: what a resolver or a client takes.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The address to bind: an IP address as given, `localhost` as 127.0.0.1. None for a host name.
    #[must_use]
    pub fn bind_address(&self) -> Option<SocketAddr> {
        let ip = if self.host == "localhost" { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { self.host.parse().ok()? };
        Some(SocketAddr::new(ip, self.port))
    }

    /// The host is `0.0.0.0` or `[::]`, in whatever spelling: it can be listened on and not connected to.
    #[must_use]
    pub fn is_unspecified(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_unspecified())
    }
}

/// Checks an IPv4 address or a host name. A name of digits and dots alone has to be an address.
fn parse_host(host: &str) -> Result<String, UrlError> {
    let looks_numeric = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let is_sound = if looks_numeric { host.parse::<Ipv4Addr>().is_ok() } else { is_host_name(host) };
    if is_sound { Ok(host.to_ascii_lowercase()) } else { Err(UrlError::Host) }
}

fn is_host_name(host: &str) -> bool {
    host.len() <= HOST_BYTES_MAX
        && host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority())
    }
}
