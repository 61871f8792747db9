//! What a replica wants its operator to know: one line each (promise 7).

use raft_core::{ClusterId, Effect, NodeId, Term};

/// Something worth a line in the log of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeEvent {
    /// The server waits for members it has not met.
    WaitsForMembers {
        /// Who is missing.
        missing: Vec<NodeId>,
    },
    /// All members have met and synced one cluster id.
    Formed {
        /// The cluster.
        cluster: ClusterId,
    },
    /// A server that this one cannot form a cluster with, and what to do.
    CannotForm {
        /// The other.
        with: NodeId,
        /// Why, and what to do.
        reason: String,
    },
    /// Something of the protocol: a change of role, a known leader, a peer that broke the rules.
    Protocol {
        /// The term after it.
        term: Term,
        /// What.
        effect: Effect,
    },
    /// A peer speaks from another disk than the configuration names.
    ForeignDisk {
        /// The peer.
        peer: NodeId,
    },
}

impl std::fmt::Display for NodeEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::WaitsForMembers { missing } => {
                write!(f, "waits for {missing:?} before the cluster can form; start them, or check --cluster")
            }
            Self::Formed { cluster } => write!(f, "formed cluster {cluster}"),
            Self::CannotForm { with, reason } => write!(f, "cannot form a cluster with {with}: it {reason}"),
            Self::Protocol { effect, .. } => effect.fmt(f),
            Self::ForeignDisk { peer } => {
                write!(f, "ignored {peer}: it speaks from another disk than the one the configuration names")
            }
        }
    }
}
