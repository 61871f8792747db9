//! The wire: frames, the handshake, and links between servers, over TCP.
//!
//! A *frame* ([`Frame`]) is a length-prefixed, checksummed pair of a postcard header and raw payload bytes; entry data
//! travel in the payload and are never encoded again between a client and the disks of all members. A *connection* begins
//! with a handshake ([`connect`], [`accept`]) in which each side says what it is; what follows is frames both ways for
//! clients, and frames one way on the *links* between servers (feature `peer`).
//!
//! | question | where |
//! |---|---|
//! | what is on the wire, byte by byte? | `docs/formats-wire.md`; fixtures in `tests/it/golden` |
//! | which bytes are refused, and how is that called? | [`FrameError`], [`HandshakeError`], `peer::DecodeError` |
//! | who may connect? | not decided here: the closure given to [`accept`], the check given to a link |
//! | what happens when a peer is away, slow, or another incarnation? | `peer::open_link` |
//!
//! **Bounds.** A frame has the limit its codec was made with, checked on the 20 bytes in front before room is made for
//! the rest, which grows only as bytes arrive. A handshake has 4 KiB a frame and the time the caller gives. A link's queue
//! has a limit in frames and in bytes; at either a frame is refused at once, and the protocol sends again what matters.
//!
//! **Hostile bytes.** Nothing that arrives can make this crate panic; whatever is wrong has a name and ends the
//! connection, because where the next frame would begin is unknown.
//!
//! What it deliberately does not do: it encrypts nothing (the codec works on buffers, so that TLS can be put below it),
//! and knows nothing of what clients and stores say to each other.

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

/// The README's example is compiled and run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
