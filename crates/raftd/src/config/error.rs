//! What can be wrong with a configuration. Every one of these ends the process with exit status 2, on one line that
//! says where the value came from and what to write instead.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use raft_core::NodeId;

use super::address::AddressError;
use super::setting::Setting;
use super::sources::Given;
use crate::logging::UnknownLogFormat;
use crate::units::{ByteSize, Period, UnitError};

/// Why the configuration is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The configuration file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// An environment variable that begins with `RAFTD_` and is none of ours.
    #[error("the environment variable {name} is no setting of raftd{} (else unset it)", did_you_mean(.suggestion))]
    UnknownVariable {
        /// Its name.
        name: String,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// An environment variable's value is not Unicode.
    #[error("the environment variable {name} is not valid UTF-8")]
    VariableNotUnicode {
        /// Its name.
        name: String,
    },
    /// Settings without which no server starts.
    #[error("{} missing; give it as a flag, as a RAFTD_* variable or in the --config file (raftd --help lists all)", names(.settings))]
    Missing {
        /// The settings.
        settings: Vec<Setting>,
    },
    /// A setting's value is wrong, by itself or together with another's.
    #[error("{given}: {problem}")]
    Invalid {
        /// The value and where it came from.
        given: Box<Given>,
        /// What is wrong with it. Part of the text above, so not a source.
        problem: Problem,
    },
    /// Of `--cluster` and `--join` there may be one.
    #[error("--cluster forms a new cluster and --join enters an existing one; give one of the two")]
    ClusterAndJoin,
    /// `RUST_LOG` cannot be read.
    #[error("RUST_LOG=\"{value}\" cannot be read; write RUST_LOG=debug, or RUST_LOG=info,raft_node=trace")]
    LogFilter {
        /// The value.
        value: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Not a number, size or duration.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// Not an address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Not a log format.
    #[error(transparent)]
    LogFormat(#[from] UnknownLogFormat),
    /// Node 0.
    #[error("node ids begin with 1")]
    IdZero,
    /// An empty data directory's name.
    #[error("the name of the data directory is empty")]
    NoDirectory,
    /// An item of a list is not `ID=HOST:PORT`.
    #[error("\"{item}\" is not ID=HOST:PORT")]
    NotAMember {
        /// The item.
        item: String,
    },
    /// A list with nothing between two commas, or nothing at all.
    #[error("an item of the list is empty")]
    EmptyItem,
    /// An item of a list is wrong.
    #[error("\"{item}\": {problem}")]
    Item {
        /// The item.
        item: String,
        /// What is wrong with it.
        problem: Box<Problem>,
    },
    /// An id twice in one list.
    #[error("id {} is listed twice", .id.as_u64())]
    IdTwice {
        /// The id.
        id: NodeId,
    },
    /// An address twice in one list: one server cannot be two members.
    #[error("{address} is listed twice, for {} and {}; each member needs its own address", .first.as_u64(), .second.as_u64())]
    AddressTwice {
        /// The address.
        address: String,
        /// Whose it is.
        first: NodeId,
        /// Whose it cannot be.
        second: NodeId,
    },
    /// More members than a cluster can have.
    #[error("{count} members are too many; a cluster has at most {most}, and 3 or 5 serve best")]
    TooManyMembers {
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// The cluster does not contain this node.
    #[error("node {} is not in it; add {}=HOST:PORT, or correct --id", .id.as_u64(), .id.as_u64())]
    SelfNotInCluster {
        /// This node.
        id: NodeId,
    },
    /// `--dial` for this node itself.
    #[error("node {} is this node itself, which it never dials", .id.as_u64())]
    DialsItself {
        /// This node.
        id: NodeId,
    },
    /// A wildcard, where clients need an address to connect to.
    #[error("clients cannot connect to \"every interface\"; say with --advertise HOST:PORT where they reach this node")]
    AdvertiseMissing,
    /// A wildcard as an address to connect to.
    #[error("{address} is an address for listening; name the one others connect to")]
    Wildcard {
        /// The address.
        address: String,
    },
    /// Zero, or beyond what makes sense.
    #[error("it must be at least {least} and at most {most}")]
    OutOfRange {
        /// The smallest value, as it would be written.
        least: String,
        /// The largest.
        most: String,
    },
    /// An election timeout that is not `MIN..MAX`.
    #[error("a range is wanted, MIN..MAX: 150ms..300ms")]
    NotARange,
    /// The range is backwards or too narrow (§9.3: too little randomness, and votes split again and again).
    #[error("the maximum must be at least twice the minimum; write {}..{}, say", Period(*.min), Period(*.min * 2))]
    RangeTooNarrow {
        /// The minimum.
        min: Duration,
    },
    /// One lost heartbeat would start an election.
    #[error(
        "the heartbeat interval must be below half the minimum election timeout ({}), so below {}ms",
        Period(*.election_min), *.election_min_half_ms
    )]
    HeartbeatTooSlow {
        /// The minimum election timeout.
        election_min: Duration,
        /// Half of it, rounded up, in milliseconds.
        election_min_half_ms: u128,
    },
    /// The largest key with the largest value is no request.
    #[error(
        "a request with the largest key and value has up to {}; raise {} to that, or lower {} or {}",
        ByteSize(*.needed_bytes), Setting::MaxRequestBytes, Setting::MaxKeyBytes, Setting::MaxValueBytes
    )]
    RequestBelowValue {
        /// What the request limit would have to be.
        needed_bytes: u64,
    },
    /// A newcomer that listens everywhere could not say where it is.
    #[error(
        "this node listens for peers on every interface, so say with --advertise-peer HOST:PORT where they reach it"
    )]
    AdvertisePeerMissing,
}

/// Why the configuration file cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It cannot be opened or read.
    #[error("cannot read the configuration file {}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a directory.
    #[error("the configuration file {} is a directory; name the file in it", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
    },
    /// It is larger than any configuration.
    #[error("the configuration file {} has more than {}; is it the right file?", .path.display(), ByteSize(*.limit_bytes))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit_bytes: u64,
    },
    /// It is not text.
    #[error("{}:{line}: the file is not valid UTF-8", .path.display())]
    NotUnicode {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// It is not TOML; also a key given twice.
    #[error("{}:{line}: {message}, at \"{text}\"", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the TOML parser says.
        message: String,
        /// The line's text.
        text: String,
    },
    /// A key that is no setting.
    #[error("{}:{line}: \"{key}\" is no setting{}", .path.display(), did_you_mean(.suggestion))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// A setting given twice, once with `_` and once with `-`.
    #[error("{}:{line}: {setting} is given twice; \"_\" and \"-\" are the same in a key", .path.display())]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// The line of the second, from 1.
        line: usize,
        /// The setting.
        setting: Setting,
    },
    /// A value of the wrong type.
    #[error("{}:{line}: {setting} is {wanted}, not {found}", .path.display())]
    WrongType {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The setting.
        setting: Setting,
        /// What is wanted.
        wanted: &'static str,
        /// What was found.
        found: &'static str,
    },
}

fn did_you_mean(suggestion: &Option<String>) -> String {
    match suggestion {
        Some(suggestion) => format!("; did you mean {suggestion}?"),
        None => "; raftd --help lists them".to_owned(),
    }
}

fn names(settings: &[Setting]) -> String {
    let names: Vec<String> = settings.iter().map(|setting| format!("--{setting}")).collect();
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(", "))
}
