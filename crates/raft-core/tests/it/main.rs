//! The protocol from outside: everything here drives servers through `Raft::step` and looks only at their effects.
//!
//! - `scripts`: situations told as protocol traces, one file each, in `tests/scripts/`.
//! - `paper`, `tables`: what the paper says in numbers, as tables.
//! - `random`: long random runs with faults, judged by `safety`, and their end: everybody agrees again.
//! - `partitions`: broken links by name, and what each costs.
//! - `protocol_page`: the page about all this names what exists.
//! - `hostile`: arbitrary messages of broken peers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails may panic")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it looks for")]

mod cluster;
mod disk;
mod hostile;
mod paper;
mod partitions;
mod protocol_page;
mod random;
mod safety;
mod script;
mod script_words;
mod scripts;
mod snapshot;
mod tables;
