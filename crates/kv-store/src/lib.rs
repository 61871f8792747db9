//! The replicated key-value state machine.

pub mod api;
mod command;
mod query;
mod types;

pub use command::{Command, Effect, Limit, NotAnInteger, Outcome, Part, Refusal};
pub use query::{Answer, Found, Item, Query};
pub use types::{ClientId, Revision, Stamp, StateHash};

/// The most keys one command touches (rule 13).
pub const MAX_KEYS_PER_COMMAND: usize = 10_000;
