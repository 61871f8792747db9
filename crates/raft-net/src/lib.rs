//! The wire: frames, the handshake, and links between servers, over TCP.
//!
//! A frame ([`Frame`]) is a length-prefixed, checksummed pair of a postcard header and raw payload bytes. A connection
//! begins with a handshake ([`connect`], [`accept`]) in which each side says what it is; what follows is frames both
//! ways for clients, and frames one way on the links between servers (feature `peer`).
//!
//! Everything here takes hostile bytes: limits are checked before memory is set aside, every rejection has a name, and
//! nothing that arrives can make it panic.
//!
//! What it deliberately does not do: it decides nothing about who may connect (the caller of [`accept`] does), and
//! knows nothing of what clients and stores say to each other.

mod frame;
mod handshake;
#[cfg(feature = "peer")]
pub mod peer;
mod socket;

pub use frame::{Frame, FrameCodec, FrameError, FrameKind, PREFIX_BYTES};
pub use handshake::{
    AcceptError, AcceptLimits, ConnectError, Connection, HandshakeError, HandshakeRefusal, Hello, LinkKind, MAGIC,
    OtherProtocol, PROTOCOL_VERSIONS, PeerHello, Role, VersionRange, Welcome, accept, connect,
};
