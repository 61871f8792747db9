//! From texts to a [`Config`]: each value by itself, then what they must satisfy together.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use kv_store::{MAX_KEY_BYTES, MAX_TRANSACTION_OPERATIONS, MAX_VALUE_BYTES, Policy};
use raft_core::NodeId;

use super::address::HostPort;
use super::error::{ConfigError, Problem};
use super::setting::Setting;
use super::sources::{Given, Layer};
use super::{Config, Limits, Timers, Warning};
use crate::logging::LogFormat;
use crate::units::{ByteSize, Period, UnitError, parse_bytes, parse_duration, parse_number, shorten};

/// The most members of a cluster. A quorum of more would be slower than any use of it.
const MAX_MEMBERS: usize = 64;
/// No timer of the protocol makes sense beyond it, and sums of a few stay far from overflowing.
const MAX_TIMER: Duration = Duration::from_secs(3_600);
/// What an envelope, a request's header and a record's header have at most beside key and value, rounded up.
const REQUEST_OVERHEAD_BYTES: u64 = 1 << 10;
/// The largest request anybody may allow: its payload becomes one entry, and this is the largest the log takes.
const MAX_REQUEST_BYTES: u64 = raft_storage::MAX_ENTRY_BYTES as u64;
/// The largest segment: it is filled ahead when it is made, while writes wait.
const MAX_SEGMENT_BYTES: u64 = 1 << 30;

/// Checks `sources`, which hold a value for every setting that has a default.
pub(super) fn build(sources: &Layer) -> Result<Config, ConfigError> {
    let sources = Sources(sources);
    sources.check_present(&[Setting::Id, Setting::DataDir, Setting::Listen])?;
    sources.check_start()?;
    let id = sources.required(Setting::Id, parse_id)?;
    let cluster = sources.optional(Setting::Cluster, parse_members)?;
    let dial = sources.optional(Setting::Dial, parse_dial)?.unwrap_or_default();
    let config = Config {
        id,
        data_dir: sources.required(Setting::DataDir, parse_directory)?,
        listen: sources.required(Setting::Listen, str::parse::<HostPort>)?,
        peer_listen: sources.optional(Setting::PeerListen, str::parse::<HostPort>)?,
        advertise: sources.optional(Setting::Advertise, parse_destination)?,
        advertise_peer: sources.optional(Setting::AdvertisePeer, parse_destination)?,
        cluster,
        join: sources.optional(Setting::Join, parse_join)?.unwrap_or_default(),
        dial,
        timers: sources.timers()?,
        snapshot_threshold_bytes: sources.size(Setting::SnapshotThreshold, 1..=1 << 50)?,
        segment_size_bytes: sources.size(Setting::SegmentSize, 4 << 10..=MAX_SEGMENT_BYTES)?,
        policy: sources.policy()?,
        log_format: sources.required(Setting::LogFormat, str::parse::<LogFormat>)?,
        limits: sources.limits()?,
        warnings: Vec::new(),
    };
    sources.check_membership(&config)?;
    sources.check_advertised(&config)?;
    sources.check_sizes(&config)?;
    let warnings = sources.warnings(&config);
    Ok(Config { warnings, ..config })
}

/// What was given, with the readers of single values.
struct Sources<'a>(&'a Layer);

impl Sources<'_> {
    fn given(&self, setting: Setting) -> Option<&Given> {
        self.0.get(&setting)
    }

    fn optional<T, E: Into<Problem>>(
        &self,
        setting: Setting,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, ConfigError> {
        self.given(setting).map(|given| given.parse(parse)).transpose()
    }

    fn required<T, E: Into<Problem>>(
        &self,
        setting: Setting,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<T, ConfigError> {
        self.optional(setting, parse)?.ok_or_else(|| ConfigError::Missing { settings: vec![setting] })
    }

    /// The error that `setting` has `problem`.
    fn refused(&self, setting: Setting, problem: Problem) -> ConfigError {
        match self.given(setting) {
            Some(given) => given.refused(problem),
            None => ConfigError::Missing { settings: vec![setting] },
        }
    }

    fn number(&self, setting: Setting, range: RangeInclusive<u64>) -> Result<u64, ConfigError> {
        self.within(setting, parse_number, range, |number| number.to_string())
    }

    fn size(&self, setting: Setting, range: RangeInclusive<u64>) -> Result<u64, ConfigError> {
        self.within(setting, parse_bytes, range, |bytes| ByteSize(*bytes).to_string())
    }

    fn duration(&self, setting: Setting) -> Result<Duration, ConfigError> {
        let range = Duration::from_millis(1)..=MAX_TIMER;
        self.within(setting, parse_duration, range, |period| Period(*period).to_string())
    }

    fn within<T: PartialOrd>(
        &self,
        setting: Setting,
        parse: impl Fn(&str) -> Result<T, UnitError>,
        range: RangeInclusive<T>,
        print: impl Fn(&T) -> String,
    ) -> Result<T, ConfigError> {
        self.required(setting, |text| {
            let value = parse(text)?;
            if range.contains(&value) {
                Ok(value)
            } else {
                Err(Problem::OutOfRange { least: print(range.start()), most: print(range.end()) })
            }
        })
    }

    fn check_present(&self, needed: &[Setting]) -> Result<(), ConfigError> {
        let missing = |setting: &Setting| self.given(*setting).is_none();
        let settings: Vec<Setting> = needed.iter().copied().filter(missing).collect();
        if settings.is_empty() { Ok(()) } else { Err(ConfigError::Missing { settings }) }
    }

    fn check_start(&self) -> Result<(), ConfigError> {
        match (self.given(Setting::Join), self.given(Setting::Cluster)) {
            (Some(_), Some(_)) => Err(ConfigError::ClusterAndJoin),
            (_, None) | (None, _) => Ok(()),
        }
    }

    fn timers(&self) -> Result<Timers, ConfigError> {
        let (min, max) = self.required(Setting::ElectionTimeout, parse_election_timeout)?;
        let heartbeat_interval = self.duration(Setting::HeartbeatInterval)?;
        if heartbeat_interval * 2 >= min {
            let election_min_half_ms = min.as_millis().div_ceil(2);
            let problem = Problem::HeartbeatTooSlow { election_min: min, election_min_half_ms };
            return Err(self.refused(Setting::HeartbeatInterval, problem));
        }
        Ok(Timers { election_timeout_min: min, election_timeout_max: max, heartbeat_interval })
    }

    fn policy(&self) -> Result<Policy, ConfigError> {
        let quota_bytes = self.size(Setting::QuotaBytes, 0..=1 << 50)?;
        Ok(Policy {
            history_bytes: self.size(Setting::HistoryBytes, 0..=1 << 50)?,
            quota_bytes: (quota_bytes > 0).then_some(quota_bytes),
        })
    }

    fn limits(&self) -> Result<Limits, ConfigError> {
        Ok(Limits {
            key_bytes: self.size(Setting::MaxKeyBytes, 1..=MAX_KEY_BYTES as u64)?,
            value_bytes: self.size(Setting::MaxValueBytes, 1..=MAX_VALUE_BYTES as u64)?,
            request_bytes: self.size(Setting::MaxRequestBytes, REQUEST_OVERHEAD_BYTES..=MAX_REQUEST_BYTES)?,
            transaction_operations: self
                .number(Setting::MaxTransactionOperations, 1..=MAX_TRANSACTION_OPERATIONS as u64)?,
            connections: self.number(Setting::MaxConnections, 1..=1_000_000)?,
            requests_in_flight: self.number(Setting::MaxRequestsInFlight, 1..=1_000_000)?,
            handshake: self.duration(Setting::HandshakeTimeout)?,
        })
    }

    fn check_membership(&self, config: &Config) -> Result<(), ConfigError> {
        if config.cluster.as_ref().is_some_and(|cluster| !cluster.contains_key(&config.id)) {
            return Err(self.refused(Setting::Cluster, Problem::SelfNotInCluster { id: config.id }));
        }
        if config.dial.contains_key(&config.id) {
            return Err(self.refused(Setting::Dial, Problem::DialsItself { id: config.id }));
        }
        Ok(())
    }

    fn check_advertised(&self, config: &Config) -> Result<(), ConfigError> {
        // Nobody else could tell its peers where a newcomer is.
        let listens_for_peers = config.peer_listen.as_ref().unwrap_or(&config.listen);
        if !config.join.is_empty() && listens_for_peers.is_wildcard() && config.advertise_peer.is_none() {
            return Err(self.refused(Setting::Join, Problem::AdvertisePeerMissing));
        }
        // One socket for clients and peers: what reaches it from peers reaches it from clients.
        let known_from_cluster = config.peer_listen.is_none() && config.cluster.is_some();
        if config.listen.is_wildcard() && config.advertise.is_none() && !known_from_cluster {
            return Err(self.refused(Setting::Listen, Problem::AdvertiseMissing));
        }
        Ok(())
    }

    fn check_sizes(&self, config: &Config) -> Result<(), ConfigError> {
        let limits = &config.limits;
        let needed_bytes = limits.key_bytes + limits.value_bytes + REQUEST_OVERHEAD_BYTES;
        if limits.request_bytes < needed_bytes {
            return Err(self.refused(Setting::MaxRequestBytes, Problem::RequestBelowValue { needed_bytes }));
        }
        Ok(())
    }

    fn warnings(&self, config: &Config) -> Vec<Warning> {
        let mut warnings = vec![Warning::OpenWire { listen: config.listen.clone() }];
        if let Some(cluster) = &config.cluster {
            if cluster.len().is_multiple_of(2) {
                warnings.push(Warning::EvenCluster { members: cluster.len() });
            }
            let strangers = config.dial.keys().filter(|id| !cluster.contains_key(id));
            warnings.extend(strangers.map(|id| Warning::DialsStranger { id: *id }));
        }
        warnings.extend(peer_port_warning(config));
        warnings
    }
}

/// A sole member is called by nobody, and `--advertise-peer` says that the operator knows about addresses.
fn peer_port_warning(config: &Config) -> Option<Warning> {
    let cluster = config.cluster.as_ref().filter(|cluster| cluster.len() > 1)?;
    let address = cluster.get(&config.id).filter(|_| config.advertise_peer.is_none())?;
    let listen = config.peer_listen.as_ref().unwrap_or(&config.listen);
    (address.port() != listen.port())
        .then(|| Warning::PeerPortDiffers { address: address.clone(), listen: listen.clone() })
}

fn parse_id(text: &str) -> Result<NodeId, Problem> {
    NodeId::new(parse_number(text)?).ok_or(Problem::IdZero)
}

fn parse_directory(text: &str) -> Result<PathBuf, Problem> {
    if text.is_empty() { Err(Problem::NoDirectory) } else { Ok(PathBuf::from(text)) }
}

/// An address that somebody is to connect to.
fn parse_destination(text: &str) -> Result<HostPort, Problem> {
    let address = text.parse::<HostPort>()?.dialable()?;
    if address.is_wildcard() { Err(Problem::Wildcard { address: address.to_string() }) } else { Ok(address) }
}

/// `150ms..300ms`.
fn parse_election_timeout(text: &str) -> Result<(Duration, Duration), Problem> {
    let (min, max) = text.split_once("..").ok_or(Problem::NotARange)?;
    let (min, max) = (parse_duration(min)?, parse_duration(max)?);
    if min.is_zero() || max > MAX_TIMER || min > MAX_TIMER {
        let [least, most] = [Duration::from_millis(1), MAX_TIMER].map(|bound| Period(bound).to_string());
        return Err(Problem::OutOfRange { least, most });
    }
    if max < min * 2 {
        return Err(Problem::RangeTooNarrow { min });
    }
    Ok((min, max))
}

/// `HOST:PORT,HOST:PORT`.
fn parse_join(text: &str) -> Result<Vec<HostPort>, Problem> {
    let items: Vec<&str> = text.split(',').map(str::trim).collect();
    if items.len() > MAX_MEMBERS {
        return Err(Problem::TooManyMembers { count: items.len(), most: MAX_MEMBERS });
    }
    let parse = |item: &str| if item.is_empty() { Err(Problem::EmptyItem) } else { parse_destination(item) };
    items.into_iter().map(parse).collect()
}

/// `1=HOST:PORT,2=HOST:PORT`, no id twice.
fn parse_dial(text: &str) -> Result<BTreeMap<NodeId, HostPort>, Problem> {
    let items: Vec<&str> = text.split(',').map(str::trim).collect();
    if items.len() > MAX_MEMBERS {
        return Err(Problem::TooManyMembers { count: items.len(), most: MAX_MEMBERS });
    }
    let mut members = BTreeMap::new();
    for item in items {
        if item.is_empty() {
            return Err(Problem::EmptyItem);
        }
        let (id, address) = parse_member(item)?;
        if members.insert(id, address).is_some() {
            return Err(Problem::IdTwice { id });
        }
    }
    Ok(members)
}

/// As [`parse_dial`], and no address twice.
fn parse_members(text: &str) -> Result<BTreeMap<NodeId, HostPort>, Problem> {
    let members = parse_dial(text)?;
    let mut owners = BTreeMap::new();
    for (id, address) in &members {
        if let Some(first) = owners.insert(address, *id) {
            return Err(Problem::AddressTwice { address: address.to_string(), first, second: *id });
        }
    }
    Ok(members)
}

fn parse_member(item: &str) -> Result<(NodeId, HostPort), Problem> {
    let (id, address) = item.split_once('=').ok_or_else(|| Problem::NotAMember { item: shorten(item) })?;
    let in_item = |problem: Problem| Problem::Item { item: shorten(item), problem: Box::new(problem) };
    Ok((parse_id(id).map_err(in_item)?, parse_destination(address).map_err(in_item)?))
}
