//! One crash or fault scenario a file.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails may panic")]

mod common;

mod cut_short;
mod first_life;
mod flipped_byte;
mod ghost_tail;
mod later_batch_proves;
mod torn_last_batch;
