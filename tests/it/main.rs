//! What crosses crates, as one test binary: the rules of the workspace, and scenarios with real processes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod bad_input;
mod cluster_basics;
mod data_model;
mod evil_frames;
mod exit_codes;
mod full_disk;
mod leader_transfer;
mod local_cluster;
mod main_job;
mod membership;
mod readme_session;
mod snapshots;
mod stalled_disk;
mod workspace_rules;
