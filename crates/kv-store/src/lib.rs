//! The replicated key-value state machine.

pub mod api;
mod command;
mod envelope;
mod execute;
mod hash;
mod history;
mod limits;
mod machine;
mod query;
mod session;
mod store;
mod types;

pub use command::{Command, Effect, Limit, NotAnInteger, Outcome, Part, Refusal};
pub use envelope::{ENVELOPE_VERSION, Envelope, EnvelopeError, MAX_ENVELOPE_BYTES, Principal, SessionHeader};
pub use limits::{
    EXPIRIES_PER_COMMAND, KEPT_HASHES, Limits, MAX_AHEAD_NS, MAX_ANSWER_BYTES, MAX_KEY_BYTES, MAX_KEYS_PER_COMMAND,
    MAX_PRINCIPAL_BYTES, MAX_VALUE_BYTES, SESSION_WINDOW_NS,
};
pub use machine::KvStore;
pub use query::{Answer, Found, Item, Query};
pub use types::{ClientId, Revision, Stamp, StateHash};
