//! What a replica knows of itself and the cluster.

use raft_core::{
    ClusterId, ClusterTime, Configuration, LogIndex, LogPosition, Member, NodeId, Raft, RoleName, Standing, Term,
};

use super::{Replica, Stage};
use crate::counters::Counters;
use crate::machine::StateMachine;

/// Where clients reach other servers is remembered of so many: more than a cluster has members, and newcomers.
const MAX_CLIENT_ADDRESSES: usize = 256;

/// The last change of leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderChange {
    /// The new leader's term.
    pub term: Term,
    /// Why it came about, as far as this server knows.
    pub reason: String,
}

/// What a replica knows of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// The member.
    pub id: NodeId,
    /// Where its peers reach it.
    pub address: String,
    /// What it is in the configuration in effect; `None` while the cluster is forming.
    pub standing: Option<Standing>,
}

/// What a replica knows of itself and the cluster.
#[derive(Clone, Debug)]
pub struct Status {
    /// This server.
    pub id: NodeId,
    /// The cluster; `None` while it is forming.
    pub cluster: Option<ClusterId>,
    /// Its role; `None` while the cluster is forming.
    pub role: Option<RoleName>,
    /// Its term.
    pub term: Term,
    /// The leader it knows.
    pub leader: Option<NodeId>,
    /// Up to where the log is committed.
    pub commit_index: LogIndex,
    /// Up to where it is applied.
    pub applied_index: LogIndex,
    /// The last entry that its latest snapshot covers.
    pub snapshot: Option<LogPosition>,
    /// How many bytes of entries its log holds in memory.
    pub log_bytes: usize,
    /// Whether its state machine is being restored from a leader's snapshot.
    pub is_restoring: bool,
    /// The last change of leader.
    pub last_change: Option<LeaderChange>,
    /// Whether it was a member and is none any more.
    pub is_removed: bool,
    /// The members: of the configuration, or as listed.
    pub members: Vec<MemberStatus>,
    /// Cluster time.
    pub cluster_time: ClusterTime,
    /// What has happened so far.
    pub counters: Counters,
}

impl<M: StateMachine, W> Replica<M, W> {
    /// The state machine, as far as it has applied.
    pub const fn machine(&self) -> &M {
        &self.machine
    }

    /// The configuration in effect, once the cluster has formed.
    pub fn configuration(&self) -> Option<&Configuration> {
        match &self.stage {
            Stage::Forming(_) => None,
            Stage::Running { raft, .. } => Some(raft.configuration()),
        }
    }

    /// The leader it knows.
    pub fn leader(&self) -> Option<NodeId> {
        match &self.stage {
            Stage::Forming(_) => None,
            Stage::Running { raft, .. } => raft.leader(),
        }
    }

    /// Its protocol state, once the cluster has formed.
    pub fn raft(&self) -> Option<&Raft> {
        match &self.stage {
            Stage::Forming(_) => None,
            Stage::Running { raft, .. } => Some(raft),
        }
    }

    /// The cluster, once it has formed.
    pub const fn cluster(&self) -> Option<ClusterId> {
        match &self.stage {
            Stage::Forming(_) => None,
            Stage::Running { cluster, .. } => Some(*cluster),
        }
    }

    /// Up to where it has applied the log.
    pub const fn applied_index(&self) -> LogIndex {
        self.applied
    }

    /// Which start of its data directory this is.
    pub const fn incarnation(&self) -> raft_core::Incarnation {
        self.config.protocol.incarnation
    }

    /// What it knows of itself and the cluster.
    pub fn status(&self) -> Status {
        let members = match &self.stage {
            Stage::Forming(_) => {
                let listed = self.config.listed.iter();
                listed.map(|(&id, address)| MemberStatus { id, address: address.clone(), standing: None }).collect()
            }
            Stage::Running { raft, .. } => {
                let of = |(id, member, standing): (NodeId, &Member, &Standing)| MemberStatus {
                    id,
                    address: member.address.clone(),
                    standing: Some(standing.clone()),
                };
                raft.configuration().standings().map(of).collect()
            }
        };
        let raft = self.raft();
        Status {
            id: self.config.protocol.id,
            cluster: self.cluster(),
            role: raft.map(Raft::role),
            term: raft.map_or(Term(0), Raft::term),
            leader: self.leader(),
            commit_index: raft.map_or(LogIndex(0), Raft::commit_index),
            applied_index: self.applied,
            snapshot: raft.and_then(Raft::snapshot).map(|snapshot| snapshot.last),
            log_bytes: raft.map_or(0, |raft| raft.log().size_bytes()),
            is_restoring: self.snapshots.is_restoring(),
            last_change: self.last_change.clone(),
            is_removed: self.is_removed(),
            members,
            cluster_time: self.clock.now(),
            counters: self.counters,
        }
    }

    /// Cluster time, at which new sessions are born.
    pub const fn cluster_time(&self) -> ClusterTime {
        self.clock.now()
    }

    /// Where clients reach server `id`, once it has been met.
    pub fn client_address(&self, id: NodeId) -> Option<&str> {
        self.client_addresses.get(&id).map(String::as_str)
    }

    /// Notes where clients reach a server that a handshake has admitted.
    pub fn note_client_address(&mut self, id: NodeId, address: String) {
        let addresses = &mut self.client_addresses;
        if addresses.len() < MAX_CLIENT_ADDRESSES || addresses.contains_key(&id) {
            addresses.insert(id, address);
        }
    }
}
