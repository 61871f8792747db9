//! The roles, each owning exactly the data that means something in it (§3.3).

use crate::effect::{Reason, RoleName};
use crate::message::Poll;
use crate::quorum::Votes;
use crate::reads::FollowerReads;
use crate::replication::Leader;
use crate::snapshot::Receiving;
use crate::types::{Instant, NodeId};

/// What this server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Follower(Follower),
    PreCandidate(PreCandidate),
    Candidate(Candidate),
    Leader(Leader),
}

/// Takes entries from a leader, and stands when it hears none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Follower {
    /// Who leads this term, once known; it never changes within a term.
    pub(crate) leader: Option<NodeId>,
    /// When it last heard from a leader of this term.
    pub(crate) leader_heard: Option<Instant>,
    /// Since when it has been waiting for one.
    pub(crate) waiting_since: Instant,
    /// When it stands.
    pub(crate) election_deadline: Instant,
    /// Its reads on their way to the leader.
    pub(crate) reads: FollowerReads,
    /// The leader's snapshot on its way here.
    pub(crate) receiving: Option<Receiving>,
}

/// Asks whether it could win (§9.6). Its term and vote are as they were.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PreCandidate {
    pub(crate) poll: Poll,
    pub(crate) votes: Votes,
    /// When it asks again.
    pub(crate) election_deadline: Instant,
}

/// Stands for election (§3.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Candidate {
    /// Its own is among them once it is durable.
    pub(crate) votes: Votes,
    /// When it gives up.
    pub(crate) election_deadline: Instant,
}

/// What a handler wants to happen to the role. One function, `Raft::become_next`, does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Stay,
    Follower { leader: Option<NodeId>, reason: Reason },
    PreCandidate { reason: Reason },
    Candidate { reason: Reason },
    Leader,
}

impl Role {
    pub(crate) const fn name(&self) -> RoleName {
        match self {
            Self::Follower(_) => RoleName::Follower,
            Self::PreCandidate(_) => RoleName::PreCandidate,
            Self::Candidate(_) => RoleName::Candidate,
            Self::Leader(_) => RoleName::Leader,
        }
    }
}
