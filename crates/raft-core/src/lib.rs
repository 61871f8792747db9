//! The Raft protocol as a function from inputs to effects.
#![no_std]
extern crate alloc;

mod message;
mod types;
mod write;

pub use message::{AppendResult, Body, Message, Poll, ReadId, ReadRound, Refusal, Verdict};
pub use types::{
    ClusterId, ClusterTime, Configuration, DiskId, Entry, HardState, Incarnation, Instant, LogIndex, LogPosition,
    Member, NodeId, Payload, Term,
};
pub use write::{Write, WriteNumber};
