//! The store from outside: entries in, replies out.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod commands;
mod envelope;
mod exactly_once;
mod golden;
mod hashes;
mod keeping;
mod leases;
mod sessions;
mod snapshot;
mod snapshot_damage;
mod snapshot_model;
mod store_model;
mod support;
mod transactions;
