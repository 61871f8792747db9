//! What servers say to each other: the protocol's messages as frames, and the links they travel on (feature `peer`).

mod backoff;
mod decode;
mod encode;
mod links;
mod wire;

pub use decode::{DecodeError, decode};
pub use encode::{encode, link_of};
pub use links::{LinkConfig, LinkEvent, LinkSender, SendRefused, WelcomeCheck, open_link};
