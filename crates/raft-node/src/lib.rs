//! One running Raft server: joins protocol, disk, wire and a state machine of yours.
//!
//! [`Node::start`] takes a [`NodeConfig`] and a [`StateMachine`] and gives a [`Handle`]: propose commands, read
//! linearizably, watch what happens. A server daemon adds a [`Service`] that speaks with clients over the network.
//!
//! # One loop, one disk
//! One thread runs the loop that owns protocol, sockets and node logic; one other thread works for the disk. They are
//! the only parties on the path of a write. The loop takes all that has happened, then flushes once: what came in
//! together is proposed, sent, written and confirmed together.
//!
//! # Logic without I/O
//! [`Server`] is that logic, [`Replica`] and [`Service`] joined: what it is told are values, what it wants done are values
//! ([`Orders`]). The disk's work ([`DiskQueue`]) and who may connect ([`View`]) are written the same way. A simulator that
//! supplies network, disk, clock and clients runs exactly the code that ships.

mod admission;
mod answer;
mod clock;
mod config;
mod counters;
mod disk;
mod disk_thread;
mod error;
mod event;
mod formation;
mod incoming;
mod machine;
mod node;
mod outgoing;
mod peer_message;
mod proposals;
mod reads;
mod replica;
mod runtime;
mod server;
mod service;
mod snapshot_thread;
mod snapshots;
mod transfers;

/// The example of the README is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use admission::{Serves, View};
pub use answer::{Answer, Failure, Leadership, MAX_COMMAND_BYTES, Members};
pub use config::{Limits, NodeConfig};
pub use counters::Counters;
pub use disk::{DiskDone, DiskJob, DiskQueue};
pub use error::{NodeError, StartError};
pub use event::NodeEvent;
pub use machine::{RestoreError, Small, SmallMachine, StateMachine};
pub use node::{Handle, Node};
pub use peer_message::{FormationRecord, FormationState, ForwardRefusal, PeerMessage, PeerMessageError};
pub use raft_core::{ChangeRefusal, ClusterTime, LogIndex, NodeId, Standing, Term};
pub use replica::{LeaderChange, MemberRequest, MemberStatus, Outputs, PeerIdentity, Replica, ReplicaConfig, Status};
pub use server::{Orders, Randomness, RecoveredServer, Server};
pub use service::{Access, ConnectionId, NoClients, Replies, Service, Waiter};
pub use snapshots::{RestoreFailure, SnapshotDone, SnapshotJob, SnapshotWorker};
