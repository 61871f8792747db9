//! The client against servers that do what a script says, over real sockets.
//!
//! No test waits for time to pass, but those in which nobody answers: they wait for the client's own time-out.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod exactly_once;
mod fake;
mod operations;
mod reaching;
