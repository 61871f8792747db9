//! What servers say to each other: the protocol's messages as frames, and the links they travel on (feature `peer`).

mod links;
mod wire;

pub use links::{LinkConfig, LinkEvent, LinkSender, SendRefused, WelcomeCheck, open_link};
pub use wire::{DecodeError, decode, encode, link_of};
