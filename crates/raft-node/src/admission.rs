//! Who may connect (rules 2 and 3): decided from what a node has made known of itself.

use std::collections::BTreeMap;

use raft_core::{ClusterId, ClusterTime, DiskId, Incarnation, NodeId};
use raft_net::{HandshakeRefusal, Hello, LinkKind, PROTOCOL_VERSIONS, PeerHello, Role, Welcome};

/// What a node tells those who connect, and judges them by. Renewed by the node's loop, read by handshakes.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) id: NodeId,
    pub(crate) disk: DiskId,
    pub(crate) incarnation: Incarnation,
    /// Where clients reach this node.
    pub(crate) client_address: String,
    pub(crate) cluster: Option<ClusterId>,
    /// The members; their disks once the cluster has formed.
    pub(crate) members: BTreeMap<NodeId, Option<DiskId>>,
    /// The leader and where clients reach it.
    pub(crate) leader: Option<(NodeId, String)>,
    pub(crate) cluster_time: ClusterTime,
}

/// Which of the two kinds of connection an address takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Serves {
    pub(crate) clients: bool,
    pub(crate) peers: bool,
}

impl View {
    /// Decides about a newcomer.
    pub(crate) fn admit(&self, hello: &Hello, serves: Serves) -> Result<Welcome, HandshakeRefusal> {
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
    pub(crate) fn check_member(&self, id: u64, disk: u128) -> Result<(), HandshakeRefusal> {
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
    pub(crate) fn hello(&self, to: NodeId, link: LinkKind) -> Hello {
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
    pub(crate) fn check_welcome(&self, expected: NodeId, welcome: &Welcome) -> Result<(), HandshakeRefusal> {
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
