//! What the two sides of a handshake say. Formats (rule 11): `docs/formats-wire.md` draws them, fixtures hold them.
//!
//! Fields are only ever added behind the others, variants behind the others, and what stands behind the fields that a
//! version knows is ignored: so an older side can always read which versions a newer one speaks, and say no by name.

use serde::{Deserialize, Serialize};

/// The versions of the protocol this crate speaks.
pub const PROTOCOL_VERSIONS: VersionRange = VersionRange { min: 1, max: 1 };

/// Versions of the protocol, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRange {
    /// The oldest.
    pub min: u16,
    /// The newest.
    pub max: u16,
}

impl VersionRange {
    /// The newest version that both ranges hold.
    #[must_use]
    pub fn newest_common(self, other: Self) -> Option<u16> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }
}

/// What the dialer says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// What it speaks. Stays the first field for ever: it is read, and judged, before the rest.
    pub versions: VersionRange,
    /// Its cluster, if it knows one. Another than the acceptor's is refused.
    pub cluster: Option<u128>,
    /// What it is.
    pub role: Role,
}

/// What the dialer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A client.
    Client,
    /// Another server.
    Peer(PeerHello),
    /// Somebody who only wants to know who is there, and of which cluster: a server that has an address of the cluster it
    /// is to join, and no name for it. The connection ends with the welcome.
    Inquiry,
}

/// A server that dials another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerHello {
    /// Which of its two links this is.
    pub link: LinkKind,
    /// Its id.
    pub id: u64,
    /// Whom it means to reach.
    pub to: u64,
    /// Its disk.
    pub disk: u128,
    /// Which start of that disk this is.
    pub incarnation: u64,
    /// Where clients reach it.
    pub client_address: String,
}

/// The two links from one server to another: the kernel's send buffer is a queue too, and what is short and urgent
/// must not stand in it behind megabytes of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LinkKind {
    /// Votes, heartbeats, acknowledgements.
    Control,
    /// Entries and commands.
    Bulk,
}

/// What the acceptor says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version to speak.
    pub version: u16,
    /// Its cluster, once it has formed.
    pub cluster: Option<u128>,
    /// Its id.
    pub id: u64,
    /// Its disk.
    pub disk: u128,
    /// Which start of that disk this is.
    pub incarnation: u64,
    /// Where clients reach it.
    pub client_address: String,
    /// Cluster time, in nanoseconds: the birth of a session opened now (rule 8).
    pub cluster_time_ns: u64,
    /// The leader it knows, and where clients reach that one.
    pub leader: Option<(u64, String)>,
}

/// Why a dialer is refused. Variants are only ever appended (rule 11).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeRefusal {
    /// No version that both speak.
    #[error("it speaks protocol versions {} to {}, not {} to {}; upgrade the older side", ours.min, ours.max, theirs.min, theirs.max)]
    VersionUnsupported {
        /// The acceptor's.
        ours: VersionRange,
        /// The dialer's.
        theirs: VersionRange,
    },
    /// Two clusters.
    #[error("it belongs to cluster {ours:032x}, the caller to {theirs:032x}; check the addresses")]
    WrongCluster {
        /// The acceptor's.
        ours: u128,
        /// The dialer's.
        theirs: u128,
    },
    /// Another server than the one meant.
    #[error("it is node {here}, not node {wanted}; check the addresses")]
    WrongNode {
        /// Whom the dialer meant.
        wanted: u64,
        /// Who answered.
        here: u64,
    },
    /// No member.
    #[error("node {id} is not a member of its cluster; check --id and --cluster")]
    UnknownPeer {
        /// The server in question.
        id: u64,
    },
    /// The id of a server that is there, on another disk: the one that answers, or a member that is connected to it.
    #[error(
        "node {id} is there already, with another disk; two servers cannot have one id: check --id, or stop the other one"
    )]
    ForeignDisk {
        /// The server in question.
        id: u64,
    },
    /// Its budget is used up.
    #[error("it has {limit} connections of this kind, its limit; close some, or ask another node")]
    TooManyConnections {
        /// The limit.
        limit: u64,
    },
    /// An address for clients alone.
    #[error("peers are served at another address of this node (--peer-listen)")]
    PeersNotServedHere,
    /// An address for peers alone.
    #[error("clients are served at another address of this node (--listen)")]
    ClientsNotServedHere,
    /// Not a handshake at all.
    #[error("it expected the raftd protocol; is this port meant for something else?")]
    NotOurProtocol,
}
