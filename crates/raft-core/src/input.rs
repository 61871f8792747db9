//! What a server is told: the only things that ever change its state.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::member_change::MemberChange;
use crate::message::{Message, ReadId};
use crate::types::{DiskId, Incarnation, LogPosition, NodeId, Snapshot};
use crate::write::WriteNumber;

/// One input of [`crate::Raft::step`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Time has passed: [`crate::Raft::next_wakeup`] is reached (or not; an early call does no harm).
    Tick,
    /// A message arrived.
    Message {
        /// Who sent it, as the handshake of the link proved.
        from: NodeId,
        /// The sender's disk, from the same handshake: what it answers counts only if it is the member (rule 2).
        disk: DiskId,
        /// The sender's incarnation, from the same handshake. One that is newer than the last known voids what the
        /// older said; messages of an older one are dropped (rule 3).
        incarnation: Incarnation,
        /// The message.
        message: Message,
    },
    /// Append these commands, in this order, if this server leads.
    Propose {
        /// The caller's name for the batch, repeated in the effect that answers.
        id: ProposalId,
        /// One command an entry.
        commands: Vec<Bytes>,
    },
    /// At which index may a read that begins now be answered (§6.4)?
    Read {
        /// The caller's name for the read (or for a batch of them); never used twice.
        id: ReadId,
    },
    /// Change who belongs to the cluster, if this server leads (§4): all of this in one step, or nothing.
    ChangeMembership {
        /// The caller's name for the change, repeated in the effect that answers.
        id: ProposalId,
        /// The changes, each made to what those before it lead to.
        changes: Vec<MemberChange>,
    },
    /// Make another server leader, if this one leads (§3.10). Until it has happened or failed no proposal is taken: let
    /// them wait while [`crate::Raft::transfers_to`] names somebody.
    Transfer {
        /// The successor; without one, the follower that lacks least.
        to: Option<NodeId>,
    },
    /// The disk confirms this write and all before it.
    Persisted(WriteNumber),
    /// A snapshot of this server's own state is durable: what [`crate::Raft::describe_snapshot`] said when it was
    /// begun. The log may forget what it covers (§5.1).
    SnapshotTaken(Snapshot),
    /// A chunk that [`crate::Effect::StoreChunk`] named is stored; it need not be durable yet.
    ChunkStored {
        /// Of which snapshot.
        last: LogPosition,
        /// Where the chunk ends.
        offset: u64,
    },
    /// The last chunk of a leader's snapshot is stored, and the whole is checked and durable.
    SnapshotReceived(Snapshot),
    /// The snapshot whose chunks were stored is damaged, or could not be stored.
    SnapshotRejected {
        /// Which one.
        last: LogPosition,
    },
    /// Messages to this peer were lost: its link broke, or its queue was full.
    Unreachable {
        /// The peer.
        peer: NodeId,
    },
}

/// The caller's name for a batch of proposals, or for a change of the membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProposalId(pub u64);
