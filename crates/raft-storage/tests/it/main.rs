//! One crash or fault scenario a file.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails may panic")]

mod common;
mod compaction;
mod crash_loop;
mod cut_short;
mod failed_calls;
mod first_life;
mod flipped_byte;
mod full_disk;
mod ghost_tail;
mod golden;
mod later_batch_proves;
mod lost_names;
mod sizes;
mod snapshot_words;
mod snapshots;
mod torn_last_batch;
mod whose_directory;
