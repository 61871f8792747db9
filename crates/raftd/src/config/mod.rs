//! The server's configuration: read from flags, `RAFTD_*` variables, a TOML file and defaults (in that order), and
//! checked as a whole before anything is opened.
//!
//! Owns: names, syntax and defaults of the settings, and what they must satisfy together. Does not own: what the data
//! directory says (a new one needs `--cluster`, an initialised one ignores it), which the server finds out.
//!
//! A [`Config`] can only be had valid: `load` is the only way to one.

mod address;
mod check;
mod error;
mod file;
mod print;
mod setting;
mod sources;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kv_store::Policy;
use raft_core::NodeId;

pub use address::{AddressError, HostPort};
pub use error::{ConfigError, FileError, Problem};
pub use setting::Setting;
pub(crate) use sources::Layer;
pub use sources::{Given, Origin};

use crate::logging::LogFormat;

/// The settings of one server, valid together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    id: NodeId,
    data_dir: PathBuf,
    listen: HostPort,
    peer_listen: Option<HostPort>,
    advertise: Option<HostPort>,
    advertise_peer: Option<HostPort>,
    cluster: Option<BTreeMap<NodeId, HostPort>>,
    join: Vec<HostPort>,
    dial: BTreeMap<NodeId, HostPort>,
    timers: Timers,
    snapshot_threshold_bytes: u64,
    segment_size_bytes: u64,
    policy: Policy,
    log_format: LogFormat,
    limits: Limits,
    warnings: Vec<Warning>,
}

/// The protocol's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// T: the shortest election timeout (§3.4, §9.3).
    pub election_timeout_min: Duration,
    /// The longest, at least 2 T.
    pub election_timeout_max: Duration,
    /// How often a leader makes itself heard, below half of T.
    pub heartbeat_interval: Duration,
}

/// What this server takes from clients. Checked at the server a client talks to, before it allocates anything; never
/// above what the store takes, the same on every replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest key.
    pub key_bytes: u64,
    /// The largest value.
    pub value_bytes: u64,
    /// The largest request: the header and payload of one frame.
    pub request_bytes: u64,
    /// The most operations of one transaction.
    pub transaction_operations: u64,
    /// The most connections of clients; further ones are refused with the reason.
    pub connections: u64,
    /// The most requests of one connection that wait for their answers; further ones are answered `overloaded`.
    pub requests_in_flight: u64,
    /// How long a connection may take to say who it is; then it is closed.
    pub handshake: Duration,
}

/// Something an operator should know, and may have wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// There is no TLS and no authentication yet.
    OpenWire {
        /// Where anybody can connect.
        listen: HostPort,
    },
    /// An even number of members tolerates no more failures than one member fewer.
    EvenCluster {
        /// How many members.
        members: usize,
    },
    /// Peers will call a port that this node does not listen on.
    PeerPortDiffers {
        /// Where peers call this node.
        address: HostPort,
        /// Where it listens for them.
        listen: HostPort,
    },
    /// A dial override for a node that is not in the cluster's list.
    DialsStranger {
        /// The node.
        id: NodeId,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenWire { listen } => write!(
                f,
                "the wire is open: no TLS and no passwords yet; whoever reaches {listen} can read and write everything"
            ),
            Self::EvenCluster { members } => write!(
                f,
                "{members} members survive no more failures than {}; an odd number is better",
                members.saturating_sub(1)
            ),
            Self::PeerPortDiffers { address, listen } => write!(
                f,
                "peers call this node at {address}, but it listens for them on {listen}; right only behind a proxy or port mapping"
            ),
            Self::DialsStranger { id } => {
                write!(f, "--dial names node {}, which is not in --cluster", id.as_u64())
            }
        }
    }
}

impl Config {
    /// This node.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// Where the log and the hard state live. A relative one is relative to the working directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where clients connect; peers too, unless [`Config::peer_listen`] says otherwise. Port 0 is any free port.
    #[must_use]
    pub const fn listen(&self) -> &HostPort {
        &self.listen
    }

    /// Where peers connect, if not where clients do.
    #[must_use]
    pub const fn peer_listen(&self) -> Option<&HostPort> {
        self.peer_listen.as_ref()
    }

    /// The address to tell clients, once [`Config::listen`] is bound to `bound_port`: `--advertise`, else where it
    /// listens. On every interface, that is the host of its own address in `--cluster`, where the same socket serves both.
    #[must_use]
    pub fn client_address(&self, bound_port: u16) -> HostPort {
        match (&self.advertise, self.listen.is_wildcard(), self.own_cluster_address()) {
            (Some(advertise), _, _) => advertise.clone(),
            (None, true, Some(own)) => own.clone(),
            (None, _, _) => self.listen.with_port(bound_port),
        }
    }

    fn own_cluster_address(&self) -> Option<&HostPort> {
        self.cluster.as_ref()?.get(&self.id)
    }

    /// Where peers reach this node, if that is not where it listens for them.
    #[must_use]
    pub const fn advertise_peer(&self) -> Option<&HostPort> {
        self.advertise_peer.as_ref()
    }

    /// Peer addresses of a cluster that this node asks to join; none if it forms one, or belongs to one already.
    #[must_use]
    pub fn join(&self) -> &[HostPort] {
        &self.join
    }

    /// The members of a new cluster with their peer addresses, this node among them. `None` is fine for a data
    /// directory that is initialised already.
    #[must_use]
    pub const fn cluster(&self) -> Option<&BTreeMap<NodeId, HostPort>> {
        self.cluster.as_ref()
    }

    /// Where this node reaches single peers, instead of at their own addresses.
    #[must_use]
    pub const fn dial(&self) -> &BTreeMap<NodeId, HostPort> {
        &self.dial
    }

    /// The protocol's timers.
    #[must_use]
    pub const fn timers(&self) -> Timers {
        self.timers
    }

    /// By how many bytes the log grows, at least, before a snapshot is taken (§5.1).
    #[must_use]
    pub const fn snapshot_threshold_bytes(&self) -> u64 {
        self.snapshot_threshold_bytes
    }

    /// The size of one file of the log.
    #[must_use]
    pub const fn segment_size_bytes(&self) -> u64 {
        self.segment_size_bytes
    }

    /// What this node decides about the whole cluster while it leads.
    #[must_use]
    pub const fn policy(&self) -> Policy {
        self.policy
    }

    /// The form of log lines.
    #[must_use]
    pub const fn log_format(&self) -> LogFormat {
        self.log_format
    }

    /// What this server takes from clients.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// What the operator should know, to be logged at the start.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

/// A configuration, and where each of its values came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What was given, by setting.
    sources: Layer,
}

/// Reads and checks the configuration. `flags` and `config_file` are the command line's; a configuration file can also
/// be named by `RAFTD_CONFIG` among `variables`.
///
/// # Errors
/// The first mistake found, as a [`ConfigError`].
pub(crate) fn load(
    flags: Layer,
    config_file: Option<&Path>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, ConfigError> {
    let environment = sources::read_environment(variables)?;
    let path = config_file.or(environment.config.as_deref());
    let file = path.map(file::read).transpose()?.unwrap_or_default();
    let sources = sources::merge([flags, environment.layer, file]);
    let config = check::build(&sources)?;
    Ok(Loaded { config, sources })
}
