//! The Raft protocol as a function from inputs to effects.
//!
//! [`Raft::step`] takes the time and one [`Input`], and appends [`Effect`]s: messages to send, writes for the disk,
//! entries that are committed. It does no I/O, reads no clock, starts no thread, draws no randomness but from its seed,
//! and never blocks. The same inputs give the same effects, bit for bit; the whole server is a value that can be
//! cloned, compared and hashed.
//!
//! # A driver in five lines
//! A driver executes effects in order, as they come. There is no order it could get wrong: whatever must wait for the
//! disk is emitted only after [`Input::Persisted`] (rule 1 of the design).
//!
//! - `Send`: send it; losing it is allowed.
//! - `Write`: write it after the writes before it; then step with `Persisted(number)`.
//! - `Committed`: apply [`Raft::log`]'s entries up to it.
//! - `SendSnapshot`, `StoreChunk`, `SnapshotInstalled`: read, store, restore a snapshot (§5); `Compacted`: the disk may
//!   forget the log up to there. A driver that never says `SnapshotTaken` never sees them.
//! - step with `Tick` when [`Raft::next_wakeup`] is reached;
//! - step with `Message`, `Propose` and `Read` as they arrive.
//!
//! # The dissertation, and where to find it
//!
//! | § | what | where |
//! |---|---|---|
//! | 3.3 | terms, roles | `raft` (dispatch), `role`, `shared::advance_term` |
//! | 3.4, 3.6.1 | elections, the vote | `election` |
//! | 3.5 | AppendEntries, both sides | `replication`, `progress`, `log` |
//! | 3.6.2 | commit only by entries of the own term | `replication::advance_commit` |
//! | 3.8 | persisted state before replies | `durability` |
//! | 3.10 | leadership transfer | `transfer`, `disk_health` |
//! | 4.1 | the configuration is the latest in the log | `membership` |
//! | 4.2, 4.3 | changing it, by joint consensus; learners; leaders and followers that are left out | `change`, `configuration` |
//! | 4.2.3 | nobody disturbs a cluster that has a leader | `election::hears_leader`, `raft::compare_terms` |
//! | 5 | snapshots, log compaction | `snapshot`, `log` |
//! | 6.2 | a leader without a majority steps down | `replication::handle_heartbeat_timeout` |
//! | 6.4 | read index | `reads` |
//! | 9.6 | PreVote | `election` |
//! | 10.2.1 | writing in parallel, pipelining | `replication`, `progress` |
//!
//! # Caveats
//! - The log lives in memory, from where the latest snapshot allows it to begin.
//! - Who a server is was proved before it gets here: [`Input::Message`] names its id and its disk, and servers that this
//!   one's configuration does not name are heard all the same (§4.1). Joining, and finding their addresses, is the driver's.
//! - Heartbeats are a message of their own, not empty AppendEntries, so that they can use another connection.
#![no_std]

extern crate alloc;

mod change;
mod config;
mod configuration;
mod disk_health;
mod durability;
mod effect;
mod election;
mod flow;
mod input;
mod invariants;
mod log;
mod member_change;
mod membership;
mod message;
mod progress;
mod quorum;
mod raft;
mod random;
mod reads;
mod replication;
mod role;
mod shared;
mod snapshot;
mod transfer;
mod types;
mod write;

pub use config::{Config, Restored, StartError};
pub use configuration::{
    Configuration, Half, Learner, MAX_ADDRESS_BYTES, MAX_LEARNERS, MAX_VOTERS, Member, NobodyVotes, Standing,
};
pub use effect::{Effect, Misbehaviour, ProposalRefusal, ReadFailure, Reason, RoleName, TransferFailure};
pub use input::{Input, ProposalId};
pub use log::Log;
pub use member_change::{ChangeRefusal, MemberChange};
pub use message::{AppendResult, Body, HandOver, Message, Poll, ReadId, ReadRound, Refusal, Verdict};
pub use raft::Raft;
pub use types::{
    ClusterId, ClusterTime, DiskId, Entry, HardState, Incarnation, Instant, LogIndex, LogPosition, NodeId, Payload,
    Snapshot, Term,
};
pub use write::{Write, WriteNumber};

/// The README's example, as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
