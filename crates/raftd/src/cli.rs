//! The command line: what is asked of this process.
//!
//! The flags only carry text; [`crate::config`] reads it, so that a flag, a variable and a line of the file get the
//! same checks and the same errors.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::config::{Given, Layer, Origin, Setting};

/// A replicated in-memory key-value database: the server.
#[derive(Debug, Parser)]
#[command(name = "raftd", version, args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    server: ServerFlags,
    #[command(subcommand)]
    command: Option<Command>,
}

const AFTER_HELP: &str = "\
Every flag is also a variable (RAFTD_DATA_DIR) and a key in the file of --config (data-dir or data_dir), in this order.
Sizes are integers, or with KiB, MiB, GiB; durations 150ms, 2s. RUST_LOG chooses what is logged: RUST_LOG=debug.

Exit status: 0 stopped on request, 1 failed at run time, 2 bad flags or configuration, 3 the data directory is locked,
foreign or of another version, 4 damage in the data directory that cannot be bounded.

A cluster of one:  raftd --id 1 --data-dir data --listen 127.0.0.1:7001 --cluster 1=127.0.0.1:7001";

/// What is asked of a process other than serving.
#[derive(Debug, Subcommand)]
enum Command {
    /// Print the entries of a stopped node's log, one a line
    ///
    /// The log does not say which of its last entries are committed: those of a node that was stopped or cut off may yet
    /// be replaced by a leader's.
    Log(LogFlags),
    /// Play a stopped node's log back, and print the state at an index
    ///
    /// The log does not say which of its last entries are committed: those of a node that was stopped or cut off may yet
    /// be replaced by a leader's. For a state that certainly was, name an index with --to that is known to be committed
    /// (raftctl status prints it).
    Replay(ReplayFlags),
}

/// The flags of the server.
#[derive(Debug, Default, Args)]
pub struct ServerFlags {
    /// This node's number, from 1
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    id: Option<String>,
    /// Where the log and the hard state live; made if it does not exist
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where clients and peers connect; port 0 picks a free one
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Where peers connect, apart from clients
    #[arg(long, value_name = "HOST:PORT")]
    peer_listen: Option<String>,
    /// The address told to clients [default: where it listens]
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// The address told to peers [default: its own in --cluster]
    #[arg(long, value_name = "HOST:PORT")]
    advertise_peer: Option<String>,
    /// The members of a new cluster and their peer addresses, the same list on each; ignored once initialised
    #[arg(long, value_name = "1=HOST:PORT,2=HOST:PORT,..")]
    cluster: Option<String>,
    /// Peer addresses of an existing cluster to join, as `raftctl member add` lets it; ignored once it belongs to one
    #[arg(long, value_name = "HOST:PORT,..")]
    join: Option<String>,
    /// Where this node reaches a peer instead of at its own address (NAT, proxies); may be repeated
    #[arg(long, value_name = "ID=HOST:PORT")]
    dial: Vec<String>,
    /// A file of settings, in TOML
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// The range election timeouts are drawn from [default: 150ms..300ms]
    #[arg(long, value_name = "MIN..MAX", allow_hyphen_values = true)]
    election_timeout: Option<String>,
    /// How often a leader makes itself heard, below half the minimum election timeout [default: 30ms]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    heartbeat_interval: Option<String>,
    /// By how much the log grows before a snapshot of the state replaces its beginning [default: 64MiB]
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    snapshot_threshold: Option<String>,
    /// The size of one file of the log [default: 64MiB]
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    segment_size: Option<String>,
    /// How many bytes of old versions are kept, five minutes of them at most, while this node leads [default: 256MiB]
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    history_bytes: Option<String>,
    /// How many bytes keys and values may have, 128 for each key included, while this node leads; 0 for any number
    /// [default: 4GiB]
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    quota_bytes: Option<String>,
    /// The form of log lines on standard error [default: pretty]
    #[arg(long, value_name = "pretty|json")]
    log_format: Option<String>,
    /// The largest key [default: 4KiB]
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    max_key_bytes: Option<String>,
    /// The largest value [default: 1MiB]
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    max_value_bytes: Option<String>,
    /// The largest request of a client [default: 2MiB]
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    max_request_bytes: Option<String>,
    /// The most operations of one transaction [default: 128]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    max_transaction_operations: Option<String>,
    /// The most connections of clients [default: 8192]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    max_connections: Option<String>,
    /// The most requests of one connection that wait for their answers [default: 1024]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    max_requests_in_flight: Option<String>,
    /// How long a connection may take to say who it is [default: 5s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    handshake_timeout: Option<String>,
    /// Print the merged configuration as TOML, with where each value came from, and exit
    #[arg(long)]
    check_config: bool,
}

/// What is asked of a server process.
#[derive(Debug)]
pub(crate) struct ServerRequest {
    /// The settings given as flags.
    pub(crate) flags: Layer,
    /// The configuration file.
    pub(crate) config_file: Option<PathBuf>,
    /// Print the configuration instead of serving.
    pub(crate) check_config: bool,
}

impl From<ServerFlags> for ServerRequest {
    fn from(flags: ServerFlags) -> Self {
        let dial = (!flags.dial.is_empty()).then(|| flags.dial.join(","));
        let texts = [
            (Setting::Id, flags.id),
            (Setting::DataDir, flags.data_dir),
            (Setting::Listen, flags.listen),
            (Setting::PeerListen, flags.peer_listen),
            (Setting::Advertise, flags.advertise),
            (Setting::AdvertisePeer, flags.advertise_peer),
            (Setting::Cluster, flags.cluster),
            (Setting::Join, flags.join),
            (Setting::Dial, dial),
            (Setting::ElectionTimeout, flags.election_timeout),
            (Setting::HeartbeatInterval, flags.heartbeat_interval),
            (Setting::SnapshotThreshold, flags.snapshot_threshold),
            (Setting::SegmentSize, flags.segment_size),
            (Setting::HistoryBytes, flags.history_bytes),
            (Setting::QuotaBytes, flags.quota_bytes),
            (Setting::LogFormat, flags.log_format),
            (Setting::MaxKeyBytes, flags.max_key_bytes),
            (Setting::MaxValueBytes, flags.max_value_bytes),
            (Setting::MaxRequestBytes, flags.max_request_bytes),
            (Setting::MaxTransactionOperations, flags.max_transaction_operations),
            (Setting::MaxConnections, flags.max_connections),
            (Setting::MaxRequestsInFlight, flags.max_requests_in_flight),
            (Setting::HandshakeTimeout, flags.handshake_timeout),
        ];
        let given = |(setting, text): (Setting, Option<String>)| {
            Some((setting, Given { setting, text: text?, origin: Origin::Flag }))
        };
        Self {
            flags: texts.into_iter().filter_map(given).collect(),
            config_file: flags.config,
            check_config: flags.check_config,
        }
    }
}

/// The flags of `raftd log`.
#[derive(Debug, Args)]
pub struct LogFlags {
    /// The stopped node's data directory
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// The first index to print
    #[arg(long, value_name = "I", default_value_t = 1)]
    pub from: u64,
    /// The last index to print [default: the last there is]
    #[arg(long, value_name = "I")]
    pub to: Option<u64>,
}

/// The flags of `raftd replay`.
#[derive(Debug, Args)]
pub struct ReplayFlags {
    /// The stopped node's data directory
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// The index whose state is printed [default: the last there is]
    #[arg(long, value_name = "I")]
    pub to: Option<u64>,
    /// Compare with the state at the same index in another stopped node's data directory
    #[arg(long, value_name = "DIR2")]
    pub diff: Option<PathBuf>,
    /// What to print beside revision and hash
    #[command(subcommand)]
    pub show: Option<Show>,
}

/// What `raftd replay` prints of the state.
#[derive(Debug, Subcommand)]
pub enum Show {
    /// The value of one key
    Get {
        /// The key
        key: OsString,
    },
    /// Keys and values, in order
    Scan {
        /// What the keys begin with; "" for all
        prefix: OsString,
    },
}

/// What a command line asks for.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// To serve.
    Server(ServerRequest),
    /// `raftd log`.
    Log(LogFlags),
    /// `raftd replay`.
    Replay(ReplayFlags),
    /// `--help` or `--version`: this text.
    Show(String),
}

/// A command line that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UsageError {
    /// What is wrong, on one line.
    message: String,
}

/// Reads a command line, the program's name first.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, UsageError> {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Ok(Invocation::Show(error.render().to_string()));
        }
        Err(error) => return Err(UsageError { message: on_one_line(&error.render().to_string()) }),
    };
    match cli.command {
        None => Ok(Invocation::Server(cli.server.into())),
        Some(Command::Log(flags)) => Ok(Invocation::Log(flags)),
        Some(Command::Replay(flags)) if flags.diff.is_some() && flags.show.is_some() => {
            Err(UsageError { message: "--diff compares whole states; leave out get and scan".to_owned() })
        }
        Some(Command::Replay(flags)) => Ok(Invocation::Replay(flags)),
    }
}

/// Clap's error in several paragraphs, as one line: without the usage, with the tips.
fn on_one_line(rendered: &str) -> String {
    let lines = rendered.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let mut message = String::new();
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with("For more information")) {
        let line = line.strip_prefix("error: ").unwrap_or(line);
        let (separator, line) = match line.strip_prefix("tip: ") {
            Some(tip) => ("; ", tip),
            None => (" ", line),
        };
        if !message.is_empty() {
            message.push_str(separator);
        }
        message.push_str(line);
    }
    message.push_str("; see raftd --help");
    message
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory;

    use super::*;

    fn parse_words(words: &[&str]) -> Result<Invocation, UsageError> {
        parse(["raftd"].iter().chain(words).map(OsString::from))
    }

    #[test]
    fn every_setting_is_a_flag_and_every_flag_a_setting() {
        let command = Cli::command();
        let flags: Vec<String> = command
            .get_arguments()
            .filter_map(|argument| argument.get_long())
            .filter(|name| !["config", "check-config", "help", "version"].contains(name))
            .map(str::to_owned)
            .collect();
        let settings: Vec<&str> = Setting::ALL.iter().map(|setting| setting.name()).collect();
        assert!(flags.iter().all(|flag| settings.contains(&flag.as_str())), "{flags:?}");
        for setting in Setting::ALL {
            let words = [format!("--{setting}"), "x".to_owned()];
            let Invocation::Server(request) = parse_words(&[&words[0], &words[1]]).unwrap() else { panic!() };
            assert_eq!(request.flags.keys().copied().collect::<Vec<_>>(), [setting]);
        }
    }

    #[test]
    fn the_help_states_the_defaults() {
        let help = Cli::command().render_long_help().to_string();
        for setting in Setting::ALL {
            let Some(default) = setting.default() else { continue };
            let entry = help.split(&format!("--{setting} ")).nth(1).unwrap();
            let entry = entry.split("\n      --").next().unwrap();
            assert!(entry.contains(&format!("[default: {default}]")), "{setting}: {entry}");
        }
    }

    #[test]
    fn usage_errors_are_one_line_with_advice() {
        let table: [(&[&str], &str); 8] = [
            (
                &["--heartbeat", "30ms"],
                "unexpected argument '--heartbeat' found; a similar argument exists: '--heartbeat-interval'; see raftd --help",
            ),
            (&["--id"], "a value is required for '--id <N>' but none was supplied; see raftd --help"),
            (&["--id", "1", "--id", "2"], "the argument '--id <N>' cannot be used multiple times; see raftd --help"),
            (&["serve"], "unrecognized subcommand 'serve'; see raftd --help"),
            (&["log"], "the following required arguments were not provided: --data-dir <DIR>; see raftd --help"),
            (
                &["log", "--data-dir", "d", "--from", "x"],
                "invalid value 'x' for '--from <I>': invalid digit found in string; see raftd --help",
            ),
            (
                &["--id", "1", "log", "--data-dir", "d"],
                "the subcommand 'log' cannot be used with '--id <N>'; see raftd --help",
            ),
            (
                &["replay", "--data-dir", "d", "--diff", "e", "get", "k"],
                "--diff compares whole states; leave out get and scan",
            ),
        ];
        for (words, message) in table {
            assert_eq!(parse_words(words).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn subcommands_are_read() {
        let replay = parse_words(&["replay", "--data-dir", "d", "--to", "7", "get", "k"]).unwrap();
        let Invocation::Replay(ReplayFlags { to: Some(7), show: Some(Show::Get { key }), diff: None, .. }) = replay
        else {
            panic!("{replay:?}");
        };
        assert_eq!(key, "k");
        assert!(matches!(parse_words(&["replay", "--data-dir", "d", "--diff", "e"]), Ok(Invocation::Replay(_))));
        assert!(matches!(
            parse_words(&["log", "--data-dir", "d", "--to", "3"]),
            Ok(Invocation::Log(LogFlags { from: 1, to: Some(3), .. }))
        ));
        assert!(matches!(parse_words(&["--version"]), Ok(Invocation::Show(_))));
    }
}
