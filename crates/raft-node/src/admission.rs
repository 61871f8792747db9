//! Who may connect (rules 2 and 3): decided from what a node has made known of itself. Code without I/O.
//!
//! The handshake keeps clusters apart, not members and strangers: a server of a later configuration speaks to those that
//! have not heard of it yet (§4.1), and a newcomer must be able to ask. Whose word counts is for the protocol to judge, by
//! the id and the disk that the handshake has shown.

use raft_core::{ClusterId, ClusterTime, DiskId, Incarnation, LogIndex, NodeId};
use raft_net::{HandshakeRefusal, Hello, LinkKind, PROTOCOL_VERSIONS, PeerHello, Role, Welcome};

use crate::replica::{Replica, Status};

/// What a node tells those who connect, and judges them by. Renewed by the node's loop, read by handshakes.
#[derive(Clone, Debug)]
pub struct View {
    id: NodeId,
    disk: DiskId,
    incarnation: Incarnation,
    /// Where clients reach this node.
    client_address: String,
    cluster: Option<ClusterId>,
    /// While the cluster has not formed: the members it is to be formed of. Nobody for a newcomer, which does not know them.
    listed: Vec<NodeId>,
    /// The members and their disks, and the entry that named them.
    members: (LogIndex, Vec<(NodeId, DiskId)>),
    /// The leader and where clients reach it.
    leader: Option<(NodeId, String)>,
    cluster_time: ClusterTime,
}

/// Which of the two kinds of connection an address takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serves {
    /// Clients.
    pub clients: bool,
    /// Peers.
    pub peers: bool,
}

impl View {
    pub(crate) fn new(status: &Status, disk: DiskId, incarnation: Incarnation, client_address: String) -> Self {
        Self {
            id: status.id,
            disk,
            incarnation,
            client_address,
            cluster: status.cluster,
            listed: status.members.iter().map(|member| member.id).collect(),
            members: (LogIndex(0), Vec::new()),
            leader: None,
            cluster_time: status.cluster_time,
        }
    }

    /// Takes over what has changed.
    pub(crate) fn renew<M: crate::StateMachine, W>(&mut self, replica: &Replica<M, W>) {
        self.cluster_time = replica.cluster_time();
        let leader = replica.leader().and_then(|id| Some((id, replica.client_address(id)?)));
        if self.leader.as_ref().map(|(id, address)| (*id, address.as_str())) != leader {
            self.leader = leader.map(|(id, address)| (id, address.to_owned()));
        }
        if self.cluster.is_none() && replica.cluster().is_some() {
            self.cluster = replica.cluster();
        }
        if let Some(raft) = replica.raft()
            && (self.members.0 != raft.configuration_index() || self.members.1.is_empty())
        {
            let members = raft.configuration().members().map(|(id, member)| (id, member.disk)).collect();
            self.members = (raft.configuration_index(), members);
        }
    }

    /// Decides about a newcomer.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn admit(&self, hello: &Hello, serves: Serves) -> Result<Welcome, HandshakeRefusal> {
        if let (Some(theirs), Some(ours)) = (hello.cluster, self.cluster)
            && theirs != ours.0
        {
            return Err(HandshakeRefusal::WrongCluster { ours: ours.0, theirs });
        }
        match &hello.role {
            Role::Client if !serves.clients => return Err(HandshakeRefusal::ClientsNotServedHere),
            Role::Peer(_) if !serves.peers => return Err(HandshakeRefusal::PeersNotServedHere),
            Role::Client | Role::Inquiry => {}
            Role::Peer(peer) => {
                if peer.to != self.id.as_u64() {
                    return Err(HandshakeRefusal::WrongNode { wanted: peer.to, here: self.id.as_u64() });
                }
                self.check_peer(peer.id, hello.cluster)?;
            }
        }
        Ok(self.welcome())
    }

    /// The member whose id the dialer has, if that is on another disk. As long as the member is connected, the dialer is
    /// another process that has its id by mistake (rule 2).
    pub(crate) fn namesake(&self, hello: &Hello) -> Option<(NodeId, DiskId)> {
        let Role::Peer(peer) = &hello.role else { return None };
        let is_namesake = |(id, disk): &&(NodeId, DiskId)| id.as_u64() == peer.id && disk.0 != peer.disk;
        self.members.1.iter().find(is_namesake).copied()
    }

    /// Whether server `id`, of the cluster `theirs` if it has one, may speak with this one.
    fn check_peer(&self, id: u64, theirs: Option<u128>) -> Result<(), HandshakeRefusal> {
        let id = NodeId::new(id).ok_or(HandshakeRefusal::UnknownPeer { id })?;
        if id == self.id {
            return Err(HandshakeRefusal::ForeignDisk { id: id.as_u64() });
        }
        let may_speak = match self.cluster {
            // Those of its cluster, and who has none: it may want to join.
            Some(_) => true,
            // A newcomer listens to whoever belongs to a cluster; who was listed, to the others.
            None => self.listed.contains(&id) || (self.listed.is_empty() && theirs.is_some()),
        };
        if may_speak { Ok(()) } else { Err(HandshakeRefusal::UnknownPeer { id: id.as_u64() }) }
    }

    fn welcome(&self) -> Welcome {
        Welcome {
            version: PROTOCOL_VERSIONS.max,
            cluster: self.cluster.map(|cluster| cluster.0),
            id: self.id.as_u64(),
            disk: self.disk.0,
            incarnation: self.incarnation.0,
            client_address: self.client_address.clone(),
            cluster_time_ns: self.cluster_time.0,
            leader: self.leader.as_ref().map(|(id, address)| (id.as_u64(), address.clone())),
        }
    }

    /// What a newcomer says at an address of the cluster it is to join.
    #[must_use]
    pub fn inquiry(&self) -> Hello {
        Hello { versions: PROTOCOL_VERSIONS, cluster: self.cluster.map(|cluster| cluster.0), role: Role::Inquiry }
    }

    /// What this node says when it connects to peer `to`.
    #[must_use]
    pub fn hello(&self, to: NodeId, link: LinkKind) -> Hello {
        let peer = PeerHello {
            link,
            id: self.id.as_u64(),
            to: to.as_u64(),
            disk: self.disk.0,
            incarnation: self.incarnation.0,
            client_address: self.client_address.clone(),
        };
        Hello { versions: PROTOCOL_VERSIONS, cluster: self.cluster.map(|cluster| cluster.0), role: Role::Peer(peer) }
    }

    /// Judges what a peer answered to our hello.
    ///
    /// # Errors
    /// Why it is not the server we meant.
    pub fn check_welcome(&self, expected: NodeId, welcome: &Welcome) -> Result<(), HandshakeRefusal> {
        if welcome.id != expected.as_u64() {
            return Err(HandshakeRefusal::WrongNode { wanted: expected.as_u64(), here: welcome.id });
        }
        if let (Some(theirs), Some(ours)) = (welcome.cluster, self.cluster)
            && theirs != ours.0
        {
            return Err(HandshakeRefusal::WrongCluster { ours: ours.0, theirs });
        }
        self.check_peer(welcome.id, welcome.cluster)
    }
}
