//! What a replica wants its operator to know: one line each (promise 7).

use raft_core::{ClusterId, Effect, LogPosition, NodeId, Term};

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
    /// This server is new: it belongs to a cluster whose configuration does not name it with this disk.
    AsksToJoin {
        /// The cluster.
        cluster: ClusterId,
    },
    /// A leader does not admit this newcomer. It goes on asking.
    NotAdmitted {
        /// The leader.
        by: NodeId,
        /// Why, and what to do.
        reason: String,
    },
    /// This server was a member and is none any more.
    Removed,
    /// The list of members this server was started with is not that of the cluster it belongs to, and is ignored.
    ListIgnored {
        /// Id and address of each member as listed.
        listed: Vec<(NodeId, String)>,
        /// As the cluster has them.
        configured: Vec<(NodeId, String)>,
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
    /// A snapshot of the state is on disk.
    SnapshotTaken {
        /// The last entry it covers.
        last: LogPosition,
        /// Its size.
        size_bytes: u64,
    },
    /// A snapshot of the state could not be written. The log grows until one can.
    SnapshotNotTaken {
        /// Why.
        reason: String,
    },
    /// A leader's snapshot is damaged or could not be stored. It is asked for again.
    SnapshotNotReceived {
        /// The last entry it covers.
        last: LogPosition,
        /// Why.
        reason: String,
    },
    /// A snapshot could not be read to be sent to a follower.
    SnapshotNotRead {
        /// The last entry it covers.
        last: LogPosition,
        /// Why.
        reason: String,
    },
    /// The disk is full: nothing new is taken.
    DiskFull,
    /// The disk has space again.
    DiskHasSpace,
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
            Self::ListIgnored { listed, configured } => {
                write!(
                    f,
                    "ignored --cluster: it lists {}, but this node belongs to a cluster of {} already; correct the list",
                    Members(listed),
                    Members(configured),
                )
            }
            Self::Formed { cluster } => write!(f, "formed cluster {cluster}"),
            Self::AsksToJoin { cluster } => write!(f, "asks to join cluster {cluster}"),
            Self::NotAdmitted { by, reason } => write!(f, "is not admitted by {by}: {reason}"),
            Self::Removed => f.write_str(
                "this node was removed from the cluster: it serves nobody any more, stop it. To add it again, give it an \
                 empty data directory",
            ),
            Self::CannotForm { with, reason } => write!(f, "cannot form a cluster with {with}: it {reason}"),
            Self::Protocol { effect, .. } => effect.fmt(f),
            Self::SnapshotTaken { last, size_bytes } => write!(f, "took a snapshot at {last}: {size_bytes} bytes"),
            Self::SnapshotNotTaken { reason } => write!(f, "could not take a snapshot: {reason}; tries again"),
            Self::SnapshotNotReceived { last, reason } => {
                write!(f, "could not take the leader's snapshot at {last}: {reason}; asks for it again")
            }
            Self::SnapshotNotRead { last, reason } => {
                write!(f, "cannot send the snapshot at {last}: {reason}; a later one will be sent")
            }
            Self::DiskFull => f.write_str(
                "the disk is full: writes are refused until there is room for a ballast again; free some space, a restart \
                 is not needed",
            ),
            Self::DiskHasSpace => f.write_str("the disk has space again: writes go on"),
            Self::ForeignDisk { peer } => {
                write!(f, "ignored {peer}: it speaks from another disk than the one the configuration names")
            }
        }
    }
}

/// As in `--cluster`.
struct Members<'a>(&'a [(NodeId, String)]);

impl std::fmt::Display for Members<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, (id, address)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{}={address}", id.as_u64())?;
        }
        Ok(())
    }
}
