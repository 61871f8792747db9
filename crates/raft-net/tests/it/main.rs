//! The wire, from outside: hostile bytes, real loopback sockets, fixtures of every format.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may panic, that is how they fail")]

mod farewell;
mod frames;
mod frames_on_sockets;
mod golden;
mod handshake;
mod handshake_refusals;
#[cfg(feature = "peer")]
mod links;
#[cfg(feature = "peer")]
mod messages;
#[cfg(feature = "peer")]
mod messages_refused;
mod support;
