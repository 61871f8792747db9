//! How a request to a replica ends.

use bytes::Bytes;
use raft_core::{ChangeRefusal, Configuration, NodeId, Term};

use crate::peer_message::ForwardRefusal;

/// The size of a command at most, in bytes: what an entry of the log holds.
pub const MAX_COMMAND_BYTES: usize = raft_storage::MAX_ENTRY_BYTES;

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The command was committed and applied; this is the state machine's reply.
    Applied(Bytes),
    /// The state machine may be read now: it has applied everything acknowledged before the read was asked for.
    ReadReady,
    /// The leadership was transferred, or lies where it was wanted already.
    Transferred(Leadership),
    /// The membership was changed as wanted; this is what it is now.
    Members(Members),
    /// None of these.
    Failed(Failure),
}

/// The members of the cluster, by what they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// Who votes; while voters change, those of both configurations.
    pub voters: Vec<NodeId>,
    /// Who gets all entries and does not vote.
    pub learners: Vec<NodeId>,
}

impl Members {
    /// Those of `configuration`.
    #[must_use]
    pub fn of(configuration: &Configuration) -> Self {
        Self { voters: configuration.voters().collect(), learners: configuration.learners().collect() }
    }
}

/// Who leads which term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// The leader.
    pub leader: NodeId,
    /// Its term.
    pub term: Term,
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No leader is known: an election, no quorum, or a cluster that has not formed. Nothing was done.
    #[error("no leader is known; try again, or ask another node")]
    NoLeader,
    /// The server that was taken for the leader does not lead (any more). Nothing was done.
    #[error("the leader has changed before the request reached it; try again")]
    NotLeader,
    /// The leader changed with the command in its log: it may or may not be applied.
    #[error("the leader has changed while the command was under way; it may or may not be applied")]
    LeaderChanged,
    /// Another leader's entry took the command's place: it is not applied, nor will it be.
    #[error("the leader has changed and the command is lost; try again")]
    Overwritten,
    /// Not done in time. A command may or may not be applied later.
    #[error("not committed in time; no majority may be reachable")]
    Timeout,
    /// Too much is waiting. Nothing was done.
    #[error("too many requests are waiting; try again later")]
    Overloaded,
    /// The command is larger than an entry of the log may be. Nothing was done.
    #[error("the command is larger than {limit} bytes, the most that an entry of the log holds; split it", limit = MAX_COMMAND_BYTES)]
    TooLarge,
    /// The server is stopping. Nothing was done.
    #[error("the node is stopping; ask another one")]
    Stopping,
    /// The server that was to lead is no voter. Nothing was done.
    #[error("that node is no voter of this cluster, so it cannot lead; `status` lists the members")]
    NotAVoter,
    /// The leader has heard no follower within the shortest election timeout. Nothing was done.
    #[error("the leader hears no follower that could succeed it; start one, or check the network")]
    NobodyToSucceed,
    /// The leader is handing over already. Nothing was done.
    #[error("the leader is handing over already; try again when that is over")]
    TransferUnderWay,
    /// The successor was not elected in time, or another was. It may be yet.
    #[error("the successor was not elected in time; `status` shows who leads")]
    SuccessorNotElected,
    /// The leader's disk is full, or the disks of so many that no majority could take the command. Nothing was done.
    #[error(
        "the disk is full, so nothing can be written; free some space, and writes go on by themselves. Reads are served"
    )]
    NoSpace,
    /// The change of the membership is refused. Nothing was done.
    #[error("{0}")]
    ChangeRefused(ChangeRefusal),
    /// The server that is to be added has not been heard of. Nothing was done.
    #[error(
        "node {id} has not asked to join this cluster; start it with `--id {id} --join` and an address of this cluster, \
         then add it again", id = id.as_u64()
    )]
    NotMet {
        /// The server.
        id: NodeId,
    },
    /// No change of the membership could begin in time. Nothing was done.
    #[error("the change could not begin in time: the leader is new, or is handing over; try again")]
    NotBegun,
}

impl Failure {
    /// Whether the command may have been applied, or may yet be. `false` is certain.
    #[must_use]
    pub const fn maybe_applied(self) -> bool {
        match self {
            Self::LeaderChanged | Self::Timeout | Self::SuccessorNotElected => true,
            Self::NoLeader
            | Self::NotLeader
            | Self::Overwritten
            | Self::Overloaded
            | Self::TooLarge
            | Self::Stopping
            | Self::NotAVoter
            | Self::NobodyToSucceed
            | Self::TransferUnderWay
            | Self::NoSpace
            | Self::ChangeRefused(_)
            | Self::NotMet { .. }
            | Self::NotBegun => false,
        }
    }
}

/// Where a request came from, and so where its answer goes.
#[derive(Debug)]
pub(crate) enum Origin<W> {
    /// A client of this server.
    Own(W),
    /// A follower that passed it on: its number there.
    Follower { id: NodeId, forward: u64 },
}

impl From<ForwardRefusal> for Failure {
    fn from(refusal: ForwardRefusal) -> Self {
        match refusal {
            ForwardRefusal::LeaderChanged => Self::LeaderChanged,
            ForwardRefusal::Overwritten => Self::Overwritten,
            ForwardRefusal::Overloaded => Self::Overloaded,
            ForwardRefusal::Timeout => Self::Timeout,
            // It is the leader that stops, not the server that was asked: soon another leads.
            ForwardRefusal::Stopping | ForwardRefusal::NotLeader => Self::NotLeader,
            ForwardRefusal::NotAVoter => Self::NotAVoter,
            ForwardRefusal::NobodyToSucceed => Self::NobodyToSucceed,
            ForwardRefusal::TransferUnderWay => Self::TransferUnderWay,
            ForwardRefusal::SuccessorNotElected => Self::SuccessorNotElected,
            ForwardRefusal::NoSpace => Self::NoSpace,
        }
    }
}

impl From<Failure> for ForwardRefusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoLeader | Failure::NotLeader => Self::NotLeader,
            Failure::LeaderChanged => Self::LeaderChanged,
            Failure::Overwritten => Self::Overwritten,
            Failure::Timeout => Self::Timeout,
            // No server passes on a command that is too large, or a change of the membership: these answer none of ours.
            Failure::Overloaded
            | Failure::TooLarge
            | Failure::ChangeRefused(_)
            | Failure::NotMet { .. }
            | Failure::NotBegun => Self::Overloaded,
            Failure::Stopping => Self::Stopping,
            Failure::NotAVoter => Self::NotAVoter,
            Failure::NobodyToSucceed => Self::NobodyToSucceed,
            Failure::TransferUnderWay => Self::TransferUnderWay,
            Failure::SuccessorNotElected => Self::SuccessorNotElected,
            Failure::NoSpace => Self::NoSpace,
        }
    }
}
