//! What crosses crates, as one test binary: the rules of the workspace, and scenarios with real processes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod workspace_rules;
