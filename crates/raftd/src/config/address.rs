//! Addresses: `HOST:PORT`, where the host is a name, an IPv4 address or an IPv6 address in brackets.
//!
//! Names are not resolved here: a name that does not resolve today may tomorrow, so only the dialling of it warns.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV6};
use std::str::FromStr;

use crate::units::shorten;

/// The longest DNS name (RFC 1035, §2.3.4).
const MAX_NAME_BYTES: usize = 253;

/// A host and a port, as written by an operator. Names are in lower case, so that equal addresses are equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Host {
    Name(String),
    V4(Ipv4Addr),
    /// With its scope, if it has one; the port in it is always 0.
    V6(SocketAddrV6),
}

/// Why text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing is there.
    #[error("an address is wanted, HOST:PORT")]
    Empty,
    /// No `:PORT`.
    #[error("the port is missing; write {host}:7001, say")]
    MissingPort {
        /// What was found.
        host: String,
    },
    /// No host before the `:`.
    #[error("the host is missing; write 127.0.0.1:{port}, or 0.0.0.0:{port} to listen on every interface")]
    MissingHost {
        /// What was found.
        port: String,
    },
    /// The port is no number.
    #[error("\"{port}\" is no port; a port is a number up to 65535")]
    PortNotANumber {
        /// What was found.
        port: String,
    },
    /// The port is over 65535.
    #[error("port {port} does not exist; the largest is 65535")]
    PortTooLarge {
        /// What was found.
        port: String,
    },
    /// Port 0 where somebody is to connect.
    #[error("port 0 means \"any free port\", and nobody can connect to that; name the port")]
    PortZero,
    /// More than one `:` and no brackets.
    #[error("an IPv6 address stands in brackets: [::1]:7001")]
    BracketsMissing,
    /// Not an IPv6 address between the brackets, or no bracket at the end.
    #[error("\"{text}\" is no IPv6 address with a port; it looks like [::1]:7001")]
    NotIpv6 {
        /// What was found.
        text: String,
    },
    /// Digits and dots that are no IPv4 address.
    #[error("\"{host}\" is no IPv4 address; it looks like 10.0.0.1")]
    NotIpv4 {
        /// What was found.
        host: String,
    },
    /// Something no host name has.
    #[error("\"{host}\" is no host name; it has letters, digits, \"-\", \"_\" and single dots")]
    NotAName {
        /// What was found.
        host: String,
    },
}

impl HostPort {
    /// The port. Only addresses to listen on may have port 0: any free one.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The same host with another port: the one that was bound, say.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Self {
        Self { host: self.host.clone(), port }
    }

    /// Whether this is an address for listening on every interface, which nobody can connect to.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.ip().is_some_and(|ip| ip.is_unspecified())
    }

    fn ip(&self) -> Option<IpAddr> {
        match &self.host {
            Host::Name(_) => None,
            Host::V4(address) => Some(IpAddr::V4(*address)),
            Host::V6(address) => Some(IpAddr::V6(*address.ip())),
        }
    }

    /// This address, if somebody can connect to its port.
    ///
    /// # Errors
    /// [`AddressError::PortZero`].
    pub(super) fn dialable(self) -> Result<Self, AddressError> {
        if self.port == 0 { Err(AddressError::PortZero) } else { Ok(self) }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::V4(address) => write!(f, "{address}:{}", self.port),
            Host::V6(address) => SocketAddrV6::new(*address.ip(), self.port, 0, address.scope_id()).fmt(f),
        }
    }
}

impl FromStr for HostPort {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if text.starts_with('[') {
            return parse_ipv6(text);
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(AddressError::MissingPort { host: shorten(text) });
        };
        if host.contains(':') {
            return Err(AddressError::BracketsMissing);
        }
        if host.is_empty() {
            return Err(AddressError::MissingHost { port: shorten(port) });
        }
        let port = parse_port(port)?;
        Ok(Self { host: parse_host(host)?, port })
    }
}

fn parse_ipv6(text: &str) -> Result<HostPort, AddressError> {
    let Some((host, after)) = text.split_once(']') else {
        return Err(AddressError::NotIpv6 { text: shorten(text) });
    };
    let Some(port) = after.strip_prefix(':') else {
        return Err(AddressError::MissingPort { host: shorten(text) });
    };
    let port = parse_port(port)?;
    // The standard library reads the scope (`%2`) only together with a port.
    let address = format!("{host}]:0").parse().map_err(|_| AddressError::NotIpv6 { text: shorten(text) })?;
    Ok(HostPort { host: Host::V6(address), port })
}

fn parse_port(text: &str) -> Result<u16, AddressError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AddressError::PortNotANumber { port: shorten(text) });
    }
    text.parse().map_err(|_| AddressError::PortTooLarge { port: shorten(text) })
}

fn parse_host(text: &str) -> Result<Host, AddressError> {
    if let Ok(address) = text.parse() {
        return Ok(Host::V4(address));
    }
    let mut labels = text.strip_suffix('.').unwrap_or(text).split('.');
    let is_name = text.len() <= MAX_NAME_BYTES && labels.clone().all(is_label);
    if !is_name {
        return Err(AddressError::NotAName { host: shorten(text) });
    }
    // No top-level domain is a number, so this was meant to be an address (RFC 3696, §2).
    if labels.next_back().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(AddressError::NotIpv4 { host: shorten(text) });
    }
    Ok(Host::Name(text.to_ascii_lowercase()))
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_print_as_they_are_read() {
        for text in
            ["127.0.0.1:7001", "[::1]:7001", "[fe80::1%2]:7001", "localhost:0", "db-1.example.com.:65535", "a_b:1"]
        {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
        assert_eq!("DB-1:7001".parse::<HostPort>(), "db-1:7001".parse());
        assert_eq!("[0:0::1]:7001".parse::<HostPort>(), "[::1]:7001".parse());
    }

    #[test]
    fn wildcards_are_known() {
        let is_wildcard = |text: &str| text.parse::<HostPort>().unwrap().is_wildcard();
        assert!(is_wildcard("0.0.0.0:7001") && is_wildcard("[::]:7001"));
        assert!(!is_wildcard("127.0.0.1:7001") && !is_wildcard("[::1]:7001") && !is_wildcard("localhost:1"));
    }

    #[test]
    fn what_is_no_address_says_why() {
        let table = [
            ("", AddressError::Empty),
            ("localhost", AddressError::MissingPort { host: "localhost".into() }),
            ("[::1]", AddressError::MissingPort { host: "[::1]".into() }),
            (":7001", AddressError::MissingHost { port: "7001".into() }),
            ("a:", AddressError::PortNotANumber { port: String::new() }),
            ("a:http", AddressError::PortNotANumber { port: "http".into() }),
            ("a:-1", AddressError::PortNotANumber { port: "-1".into() }),
            ("a:65536", AddressError::PortTooLarge { port: "65536".into() }),
            ("::1:7001", AddressError::BracketsMissing),
            ("http://a:80", AddressError::BracketsMissing),
            ("[::1:7001", AddressError::NotIpv6 { text: "[::1:7001".into() }),
            ("[g::1]:7001", AddressError::NotIpv6 { text: "[g::1]:7001".into() }),
            ("256.0.0.1:7001", AddressError::NotIpv4 { host: "256.0.0.1".into() }),
            ("127.1:7001", AddressError::NotIpv4 { host: "127.1".into() }),
            ("a..b:7001", AddressError::NotAName { host: "a..b".into() }),
            ("a b:7001", AddressError::NotAName { host: "a b".into() }),
            ("a/b:7001", AddressError::NotAName { host: "a/b".into() }),
        ];
        for (text, error) in table {
            assert_eq!(text.parse::<HostPort>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in any::<String>()) {
            if let Ok(address) = text.parse::<HostPort>() {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
        }

        #[test]
        fn every_socket_address_reads_back(address in any::<std::net::SocketAddr>()) {
            // A flow label has no place in the text.
            let text = HostPort::from_str(&address.to_string());
            if let Ok(read) = text {
                prop_assert_eq!(read.to_string().parse(), Ok(read));
            }
        }
    }
}
