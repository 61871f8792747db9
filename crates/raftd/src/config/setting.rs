//! The list of settings: one name each for flag, variable and file, the kind of its value, and its default.

use std::fmt;

/// A setting of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    /// This node's number.
    Id,
    /// Where log and hard state live.
    DataDir,
    /// Where clients, and peers without `--peer-listen`, connect.
    Listen,
    /// Where peers connect, apart from clients.
    PeerListen,
    /// The address told to clients.
    Advertise,
    /// The address told to peers.
    AdvertisePeer,
    /// The members a new cluster is formed of, with their peer addresses.
    Cluster,
    /// Nodes of a cluster to join, by their peer addresses.
    Join,
    /// Where this node reaches single peers, instead of their own addresses.
    Dial,
    /// The range election timeouts are drawn from.
    ElectionTimeout,
    /// How often a leader makes itself heard.
    HeartbeatInterval,
    /// The size of the log at which a snapshot is taken.
    SnapshotThreshold,
    /// The size of one file of the log.
    SegmentSize,
    /// What the history of the store may cost, as long as this node leads.
    HistoryBytes,
    /// What the keys of the store may cost, as long as this node leads.
    QuotaBytes,
    /// The form of log lines.
    LogFormat,
    /// The largest key.
    MaxKeyBytes,
    /// The largest value.
    MaxValueBytes,
    /// The largest request of a client.
    MaxRequestBytes,
    /// The most operations of one transaction.
    MaxTransactionOperations,
    /// The most connections of clients.
    MaxConnections,
    /// The most requests of one connection that wait for their answers.
    MaxRequestsInFlight,
    /// How long a connection may take to say who it is.
    HandshakeTimeout,
}

/// What a setting's value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text: in the file, a string.
    Text,
    /// A plain number: in the file, an integer.
    Number,
    /// A size: in the file, an integer or a string with a unit.
    Size,
    /// A duration: in the file, a string.
    Duration,
    /// Items: on the command line, separated by commas; in the file also an array of strings.
    List,
}

impl Setting {
    /// All settings, in the order `--check-config` prints them.
    pub const ALL: [Self; 23] = [
        Self::Id,
        Self::DataDir,
        Self::Listen,
        Self::PeerListen,
        Self::Advertise,
        Self::AdvertisePeer,
        Self::Cluster,
        Self::Join,
        Self::Dial,
        Self::ElectionTimeout,
        Self::HeartbeatInterval,
        Self::SnapshotThreshold,
        Self::SegmentSize,
        Self::HistoryBytes,
        Self::QuotaBytes,
        Self::LogFormat,
        Self::MaxKeyBytes,
        Self::MaxValueBytes,
        Self::MaxRequestBytes,
        Self::MaxTransactionOperations,
        Self::MaxConnections,
        Self::MaxRequestsInFlight,
        Self::HandshakeTimeout,
    ];

    /// Its name: of the flag, without the dashes in front, and of the key in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::DataDir => "data-dir",
            Self::Listen => "listen",
            Self::PeerListen => "peer-listen",
            Self::Advertise => "advertise",
            Self::AdvertisePeer => "advertise-peer",
            Self::Cluster => "cluster",
            Self::Join => "join",
            Self::Dial => "dial",
            Self::ElectionTimeout => "election-timeout",
            Self::HeartbeatInterval => "heartbeat-interval",
            Self::SnapshotThreshold => "snapshot-threshold",
            Self::SegmentSize => "segment-size",
            Self::HistoryBytes => "history-bytes",
            Self::QuotaBytes => "quota-bytes",
            Self::LogFormat => "log-format",
            Self::MaxKeyBytes => "max-key-bytes",
            Self::MaxValueBytes => "max-value-bytes",
            Self::MaxRequestBytes => "max-request-bytes",
            Self::MaxTransactionOperations => "max-transaction-operations",
            Self::MaxConnections => "max-connections",
            Self::MaxRequestsInFlight => "max-requests-in-flight",
            Self::HandshakeTimeout => "handshake-timeout",
        }
    }

    /// The environment variable: `RAFTD_` and the name in capitals.
    #[must_use]
    pub fn variable(self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.name().replace('-', "_").to_ascii_uppercase())
    }

    /// What the value looks like.
    pub(crate) const fn kind(self) -> Kind {
        match self {
            Self::DataDir
            | Self::Listen
            | Self::PeerListen
            | Self::Advertise
            | Self::AdvertisePeer
            | Self::ElectionTimeout
            | Self::LogFormat => Kind::Text,
            Self::Id | Self::MaxTransactionOperations | Self::MaxConnections | Self::MaxRequestsInFlight => {
                Kind::Number
            }
            Self::SnapshotThreshold
            | Self::SegmentSize
            | Self::HistoryBytes
            | Self::QuotaBytes
            | Self::MaxKeyBytes
            | Self::MaxValueBytes
            | Self::MaxRequestBytes => Kind::Size,
            Self::HeartbeatInterval | Self::HandshakeTimeout => Kind::Duration,
            Self::Cluster | Self::Join | Self::Dial => Kind::List,
        }
    }

    /// The value where nothing else is said.
    #[must_use]
    pub const fn default(self) -> Option<&'static str> {
        match self {
            Self::Id
            | Self::DataDir
            | Self::Listen
            | Self::PeerListen
            | Self::Advertise
            | Self::AdvertisePeer
            | Self::Cluster
            | Self::Join
            | Self::Dial => None,
            // The dissertation's range for a local network (§9.3). Five heartbeats fit into the shortest of them.
            Self::ElectionTimeout => Some("150ms..300ms"),
            Self::HeartbeatInterval => Some("30ms"),
            // A second or less to read back, and small against the data of those who need more.
            Self::SnapshotThreshold | Self::SegmentSize => Some("64MiB"),
            // kv_store::DEFAULT_HISTORY_BYTES and DEFAULT_QUOTA_BYTES.
            Self::HistoryBytes => Some("256MiB"),
            Self::QuotaBytes => Some("4GiB"),
            Self::LogFormat => Some("pretty"),
            Self::MaxKeyBytes => Some("4KiB"),
            Self::MaxValueBytes => Some("1MiB"),
            Self::MaxRequestBytes => Some("2MiB"),
            Self::MaxTransactionOperations => Some("128"),
            Self::MaxConnections => Some("8192"),
            Self::MaxRequestsInFlight => Some("1024"),
            Self::HandshakeTimeout => Some("5s"),
        }
    }

    /// The setting of that name, spelled with `-` or `_`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let name = name.replace('_', "-");
        Self::ALL.into_iter().find(|setting| setting.name() == name)
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the names of our environment variables begin with.
pub(crate) const VARIABLE_PREFIX: &str = "RAFTD_";

/// The one of `candidates` that `wrong` was probably meant to be.
pub(crate) fn nearest(wrong: &str, candidates: impl IntoIterator<Item = String>) -> Option<String> {
    let distance = |candidate: &str| strsim::damerau_levenshtein(wrong, candidate);
    let nearest = candidates.into_iter().min_by_key(|candidate| distance(candidate))?;
    // Further away than that, it is no slip of the hand.
    let most = (nearest.chars().count() / 3).max(1);
    (distance(&nearest) <= most).then_some(nearest)
}
