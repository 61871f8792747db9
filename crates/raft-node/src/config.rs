//! What a node is told before it starts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use raft_core::NodeId;

/// The settings of one node. [`NodeConfig::new`] gives every other field its default.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// This server.
    pub id: NodeId,
    /// Its data directory: one server, one directory.
    pub data_dir: PathBuf,
    /// Where it listens, `HOST:PORT`, for clients and, without `peer_listen`, for peers. Port 0 picks one.
    pub listen: String,
    /// Where it listens for peers alone.
    pub peer_listen: Option<String>,
    /// Where clients reach it; port 0 stands for the port it listens on. Default: the address it listens on.
    pub advertise: Option<String>,
    /// Where peers reach it, as it tells them; port 0 stands for the port it listens on for peers. Default: its address in
    /// `cluster`, else the address it listens on for peers. What a configuration says of it wins.
    pub advertise_peer: Option<String>,
    /// The members that form the cluster and their peer addresses, this one included. Ignored once it has formed.
    pub cluster: BTreeMap<NodeId, String>,
    /// In place of `cluster`: peer addresses of a cluster that this server asks to join. Ignored once a configuration of
    /// that cluster has reached it.
    pub join: Vec<String>,
    /// Where this node reaches a peer, in place of the peer's own address.
    pub dial: BTreeMap<NodeId, String>,
    /// T: the shortest election timeout (§3.4).
    pub election_timeout_min: Duration,
    /// The longest, at least 2 T.
    pub election_timeout_max: Duration,
    /// How often a leader makes itself heard.
    pub heartbeat_interval: Duration,
    /// The size of a log segment, in bytes.
    pub segment_size_bytes: u64,
    /// By how many bytes the log grows, at least, before a snapshot of the state takes the place of its beginning (§5.1).
    pub snapshot_threshold_bytes: u64,
    /// How many bytes of the log may be uncommitted before this node, as leader, answers `Overloaded`
    /// ([`raft_core::Config::max_uncommitted_bytes`]).
    pub max_uncommitted_bytes: usize,
    /// How many bytes of the log the disk may have to write before it does so, too
    /// ([`raft_core::Config::max_unsynced_bytes`]).
    pub max_unsynced_bytes: usize,
    /// How many bytes of entries the log may hold in memory; a snapshot is due at half of it, however large the last one
    /// was ([`raft_core::Config::max_log_bytes`]).
    pub max_log_bytes: usize,
    /// How many bytes of the log stay behind a snapshot, so that a follower a little behind needs none.
    pub log_tail_bytes: usize,
    /// How many bytes of a snapshot are sent at once.
    pub snapshot_chunk_bytes: usize,
    /// How many bytes of snapshots a second this node sends as leader, to all followers together.
    pub snapshot_bytes_per_second: u64,
    /// Its limits.
    pub limits: Limits,
}

/// What a node takes from the network at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Clients connected at the same time; more are refused in the handshake.
    pub max_clients: usize,
    /// Requests under way on one connection; then no more are read from it.
    pub max_requests_in_flight: usize,
    /// The bytes of one frame from a client; a larger one closes the connection.
    pub max_client_frame_bytes: usize,
    /// The bytes of replies that wait to be read by one client; then its connection is closed.
    pub max_unread_reply_bytes: usize,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_clients: 8_192,
            max_requests_in_flight: 1_024,
            max_client_frame_bytes: 2 << 20,
            max_unread_reply_bytes: 16 << 20,
            handshake_timeout: Duration::from_secs(5),
        }
    }
}

impl NodeConfig {
    /// A node with default timers (T = 150 ms) and limits.
    #[must_use]
    pub fn new(id: NodeId, data_dir: impl Into<PathBuf>, listen: impl Into<String>) -> Self {
        Self {
            id,
            data_dir: data_dir.into(),
            listen: listen.into(),
            peer_listen: None,
            advertise: None,
            advertise_peer: None,
            cluster: BTreeMap::new(),
            join: Vec::new(),
            dial: BTreeMap::new(),
            election_timeout_min: Duration::from_millis(150),
            election_timeout_max: Duration::from_millis(300),
            heartbeat_interval: Duration::from_millis(30),
            segment_size_bytes: 64 << 20,
            snapshot_threshold_bytes: 64 << 20,
            max_uncommitted_bytes: 128 << 20,
            max_unsynced_bytes: 128 << 20,
            max_log_bytes: 1 << 30,
            log_tail_bytes: 8 << 20,
            snapshot_chunk_bytes: 1 << 20,
            snapshot_bytes_per_second: 128 << 20,
            limits: Limits::default(),
        }
    }

    /// Where peers reach it, before its ports are known.
    pub(crate) fn peer_address(&self) -> &str {
        let listens = self.peer_listen.as_ref().unwrap_or(&self.listen);
        self.advertise_peer.as_ref().or_else(|| self.cluster.get(&self.id)).unwrap_or(listens)
    }
}
