//! How a handshake fails, on either side.

use std::io;
use std::time::Duration;

use super::message::HandshakeRefusal;
use crate::frame::{FrameError, FrameKind};

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody answers there.
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Somebody is there and says nothing.
    #[error("{address} did not answer within {timeout:?}")]
    Timeout {
        /// The address.
        address: String,
        /// How long it had.
        timeout: Duration,
    },
    /// A server that says no.
    #[error("{address} refuses the connection: {refusal}")]
    Refused {
        /// The address.
        address: String,
        /// Why.
        refusal: HandshakeRefusal,
    },
    /// Something else than a server of this protocol, or the connection broke.
    #[error("no connection to {address}: {source}")]
    Protocol {
        /// The address.
        address: String,
        /// What went wrong.
        source: HandshakeError,
    },
}

/// Why a connection was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// Nothing, or not all, came in time.
    #[error("no handshake within {0:?}")]
    Timeout(Duration),
    /// It was refused, and told why.
    #[error("refused it: {0}")]
    Refused(HandshakeRefusal),
    /// It spoke something else, or left.
    #[error(transparent)]
    Protocol(#[from] HandshakeError),
}

impl AcceptError {
    /// What the other side is told, if anything.
    pub(super) fn refusal(&self) -> Option<HandshakeRefusal> {
        match self {
            Self::Refused(refusal) => Some(refusal.clone()),
            Self::Protocol(HandshakeError::Magic(_)) => Some(HandshakeRefusal::NotOurProtocol),
            Self::Timeout(_) | Self::Protocol(_) => None,
        }
    }
}

/// What can go wrong in a handshake.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// Other first bytes: another protocol.
    #[error("it speaks {0}, not the raftd protocol; check address and port")]
    Magic(OtherProtocol),
    /// Not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame that does not belong here.
    #[error("it sent a frame of kind {0:?} in the handshake")]
    UnexpectedKind(FrameKind),
    /// A frame that does not decode.
    #[error("its handshake does not decode: {0}")]
    Malformed(#[from] postcard::Error),
    /// A refusal that a later version must have added.
    #[error("it refuses the connection, for a reason this version does not know; its log has it")]
    UnknownRefusal,
    /// The acceptor chose a version that the dialer did not offer.
    #[error("it chose protocol version {0}, which was not offered; upgrade the older side")]
    VersionNotOffered(u16),
    /// It left.
    #[error("it closed the connection during the handshake")]
    Closed,
    /// The connection broke.
    #[error("the connection broke during the handshake: {0}")]
    Io(#[from] io::Error),
}

/// What the first bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherProtocol {
    /// An HTTP request or answer.
    Http,
    /// A TLS hello or alert.
    Tls,
    /// Something else.
    Unknown,
}

impl std::fmt::Display for OtherProtocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP",
            Self::Tls => "TLS",
            Self::Unknown => "something else",
        })
    }
}

impl OtherProtocol {
    /// A guess, from as much as has arrived.
    pub(super) fn of(first: &[u8]) -> Self {
        let http = [&b"GET "[..], b"POST", b"PUT ", b"HEAD", b"DELE", b"OPTI", b"PATC", b"CONN", b"PRI ", b"HTTP"];
        let tls = [[0x16, 0x03], [0x15, 0x03]];
        if http.iter().any(|word| first.starts_with(word)) {
            Self::Http
        } else if tls.iter().any(|record| first.starts_with(record)) {
            Self::Tls
        } else {
            Self::Unknown
        }
    }
}
