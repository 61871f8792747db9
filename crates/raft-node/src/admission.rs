//! Who may connect (rules 2 and 3): decided from what a node has made known of itself. Code without I/O.

use std::collections::BTreeMap;

use raft_core::{ClusterId, ClusterTime, DiskId, Incarnation, NodeId};
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
    /// The members; their disks once the cluster has formed.
    members: BTreeMap<NodeId, Option<DiskId>>,
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
            members: status.members.iter().copied().collect(),
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
            let status = replica.status();
            self.cluster = status.cluster;
            self.members = status.members.into_iter().collect();
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
            Role::Client => {}
            Role::Peer(peer) => self.admit_peer(peer)?,
        }
        Ok(self.welcome())
    }

    fn admit_peer(&self, peer: &PeerHello) -> Result<(), HandshakeRefusal> {
        if peer.to != self.id.as_u64() {
            return Err(HandshakeRefusal::WrongNode { wanted: peer.to, here: self.id.as_u64() });
        }
        self.check_member(peer.id, peer.disk)
    }

    /// Whether server `id` with `disk` is a member (rule 2): a member's id on another disk is not that member.
    fn check_member(&self, id: u64, disk: u128) -> Result<(), HandshakeRefusal> {
        let member = NodeId::new(id).filter(|&id| id != self.id).and_then(|id| self.members.get(&id));
        match member {
            None => Err(HandshakeRefusal::UnknownPeer { id }),
            Some(Some(known)) if known.0 != disk => Err(HandshakeRefusal::ForeignDisk { id }),
            Some(Some(_) | None) => Ok(()),
        }
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
        self.check_member(welcome.id, welcome.disk)
    }
}
