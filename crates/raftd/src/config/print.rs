//! `--check-config`: the merged configuration as TOML that reads back as the same configuration, with a comment on
//! each line that says where the value came from.

use std::collections::BTreeMap;
use std::fmt::Write;

use raft_core::NodeId;
use toml::Value;

use super::address::HostPort;
use super::setting::{Kind, Setting};
use super::sources::{Given, Origin};
use super::{Config, Loaded, Timers};
use crate::units::{ByteSize, Period, shorten};

impl Loaded {
    /// The configuration as TOML.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text =
            String::from("# The merged configuration: flags, then RAFTD_* variables, then the file, then defaults.\n");
        for setting in Setting::ALL {
            let line = match (self.config.value(setting), self.sources.get(&setting)) {
                (Some(value), Some(given)) => {
                    format!("{setting} = {}  # {}", toml_value(setting, &value), origin(given))
                }
                (_, None) | (None, Some(_)) => format!("# {setting} is not set"),
            };
            text.push_str(&line);
            text.push('\n');
        }
        for warning in self.config.warnings() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# warning: {warning}");
        }
        text
    }
}

impl Config {
    /// A setting's value in the syntax it is read in.
    fn value(&self, setting: Setting) -> Option<String> {
        let size = |bytes: u64| Some(ByteSize(bytes).to_string());
        let address = |address: Option<&HostPort>| address.map(HostPort::to_string);
        let limits = &self.limits;
        match setting {
            Setting::Id => Some(self.id.as_u64().to_string()),
            Setting::DataDir => Some(self.data_dir.display().to_string()),
            Setting::Listen => address(Some(&self.listen)),
            Setting::PeerListen => address(self.peer_listen.as_ref()),
            Setting::Advertise => address(self.advertise.as_ref()),
            Setting::AdvertisePeer => address(self.advertise_peer.as_ref()),
            Setting::Cluster => self.cluster.as_ref().map(members),
            Setting::Join => {
                let seeds: Vec<String> = self.join.iter().map(HostPort::to_string).collect();
                (!seeds.is_empty()).then(|| seeds.join(","))
            }
            Setting::Dial => (!self.dial.is_empty()).then(|| members(&self.dial)),
            Setting::ElectionTimeout => {
                let Timers { election_timeout_min: min, election_timeout_max: max, .. } = self.timers;
                Some(format!("{}..{}", Period(min), Period(max)))
            }
            Setting::HeartbeatInterval => Some(Period(self.timers.heartbeat_interval).to_string()),
            Setting::SnapshotThreshold => size(self.snapshot_threshold_bytes),
            Setting::SegmentSize => size(self.segment_size_bytes),
            Setting::HistoryBytes => size(self.policy.history_bytes),
            Setting::QuotaBytes => size(self.policy.quota_bytes.unwrap_or(0)),
            Setting::LogFormat => Some(self.log_format.to_string()),
            Setting::MaxKeyBytes => size(limits.key_bytes),
            Setting::MaxValueBytes => size(limits.value_bytes),
            Setting::MaxRequestBytes => size(limits.request_bytes),
            Setting::MaxTransactionOperations => Some(limits.transaction_operations.to_string()),
            Setting::MaxConnections => Some(limits.connections.to_string()),
            Setting::MaxRequestsInFlight => Some(limits.requests_in_flight.to_string()),
            Setting::HandshakeTimeout => Some(Period(limits.handshake).to_string()),
        }
    }
}

fn members(members: &BTreeMap<NodeId, HostPort>) -> String {
    let items: Vec<String> = members.iter().map(|(id, address)| format!("{}={address}", id.as_u64())).collect();
    items.join(",")
}

fn toml_value(setting: Setting, value: &str) -> String {
    match setting.kind() {
        Kind::Number => value.to_owned(),
        Kind::Text | Kind::Size | Kind::Duration | Kind::List => Value::from(value).to_string(),
    }
}

fn origin(given: &Given) -> String {
    match &given.origin {
        Origin::Flag => format!("--{}", given.setting),
        Origin::Environment => given.setting.variable(),
        Origin::File { path, line } => format!("{}:{line}", shorten(&path.display().to_string())),
        Origin::Default => "default".to_owned(),
    }
}
