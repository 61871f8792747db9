//! The node's logic with disk, network and clock of the tests' own, and the real node over loopback.
//!
//! - `catching_up`: a long log is applied in steps.
//! - `cluster`: replicas with real storages on disks in memory, driven without threads, sockets or a clock.
//! - `formation`: how a cluster comes to be, whatever is lost (rule 2).
//! - `requests`: each request is answered once, and what is answered is true.
//! - `random`: the same under hundreds of seeds of faults.
//! - `space`: full disks: refusals, reads, and how everything goes on (F8).
//! - `stalls`: disks that stand still, and the limits on what is taken on meanwhile (F9, H2).
//! - `transfers`: leadership changes hands, at a request or because a leader stops, and nobody notices (§3.10).
//! - `reads`: what many reads cost together, and local reads of clients that have seen something.
//! - `real`: `Node` with threads, sockets and files.
//! - `reasons`: each server can say why the leader changed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails may panic")]

mod catching_up;
mod cluster;
mod formation;
mod machine;
mod members;
mod membership;
mod random;
mod reads;
mod real;
mod reasons;
mod requests;
mod space;
mod stalls;
mod transfers;
