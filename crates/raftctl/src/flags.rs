//! The flags before the command, and the environment behind them.

use std::ffi::OsString;
use std::time::Duration;

use clap::Parser;
use kv_client::{ClientConfig, Consistency};

use crate::help;
use crate::output::Form;

/// The addresses of `cargo xtask cluster`.
pub const DEFAULT_ENDPOINTS: &str = "127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003";

/// The longest time-out: a day. What takes longer is not waited for.
const MAX_TIMEOUT: Duration = Duration::from_secs(86_400);

const AFTER_HELP: &str = "\
Without a command: a REPL on a terminal, else one command a line from standard input (a script), with one answer each.
A script stops at its first failure (\"ok\":false) unless --keep-going, and exits with the code of its first failure.

Exit codes of one command: 0 done; 1 the answer is no (absent key, value not swapped, nothing deleted) or the value has the
wrong type; 2 usage, too large; 3 no node reachable; 4 timeout, no leader; 6 refused by the servers.";

/// The client of raftd, a replicated key-value database.
#[derive(Debug, Parser)]
#[command(name = "raftctl", version, disable_help_subcommand = true)]
pub struct Flags {
    /// Nodes to ask, any of the cluster; `--read local` asks the first one only.
    #[arg(long, env = "RAFTCTL_ENDPOINTS", default_value = DEFAULT_ENDPOINTS, value_name = "H:P,H:P,..")]
    pub endpoints: String,
    /// How long a command may take, such as 500ms, 5s or 1m.
    #[arg(long, env = "RAFTCTL_TIMEOUT", default_value = "5s", value_name = "TIME")]
    pub timeout: String,
    /// The form of answers.
    #[arg(long, env = "RAFTCTL_OUTPUT", default_value = "text", value_name = "FORM")]
    pub output: Form,
    /// How fresh `get` and `scan` are.
    #[arg(long, env = "RAFTCTL_READ", default_value = "linearizable", value_name = "FRESHNESS")]
    pub read: Read,
    /// In a script: go on after a failure.
    #[arg(long, env = "RAFTCTL_KEEP_GOING", value_parser = clap::builder::FalseyValueParser::new())]
    pub keep_going: bool,
    /// The command and its words; `raftctl help` lists them.
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Read {
    /// Sees every write acknowledged before it began.
    Linearizable,
    /// As linearizable, and cheaper where the cluster has leases switched on.
    Lease,
    /// What the first endpoint has applied, however old.
    Local,
}

impl Flags {
    /// Reads the process's arguments, the first of which is its name.
    ///
    /// # Errors
    /// For unknown flags and values; also for `--help` and `--version`, whose text is then the error.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let command = <Self as clap::CommandFactory>::command();
        let command = command.after_help(format!("Commands:\n{}\n{AFTER_HELP}", help::overview()));
        let mut matches = command.try_get_matches_from(arguments)?;
        <Self as clap::FromArgMatches>::from_arg_matches_mut(&mut matches)
    }

    /// What the client is told.
    ///
    /// # Errors
    /// Says which flag is wrong, and how to write it.
    pub fn client_config(&self) -> Result<ClientConfig, String> {
        let timeout = timeout(&self.timeout)?;
        Ok(ClientConfig { timeout, ..ClientConfig::new(endpoints(&self.endpoints)?) })
    }

    /// How fresh reads must be.
    #[must_use]
    pub const fn consistency(&self) -> Consistency {
        match self.read {
            Read::Linearizable => Consistency::Linearizable,
            Read::Lease => Consistency::Lease,
            Read::Local => Consistency::Local,
        }
    }
}

/// `H:P,H:P`: each once, each with a port that can be dialled.
fn endpoints(text: &str) -> Result<Vec<String>, String> {
    let mut endpoints: Vec<String> = Vec::new();
    for endpoint in text.split(',').map(str::trim) {
        let (host, port) = endpoint.rsplit_once(':').unwrap_or((endpoint, ""));
        let is_bare_ipv6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
        if host.is_empty() || is_bare_ipv6 || !port.parse::<u16>().is_ok_and(|port| port > 0) {
            let shown = crate::parse::printable(endpoint.as_bytes());
            return Err(format!(
                "--endpoints: {shown} is no HOST:PORT (an IPv6 address stands in brackets: [::1]:7001)"
            ));
        }
        if !endpoints.iter().any(|known| known == endpoint) {
            endpoints.push(endpoint.to_owned());
        }
    }
    Ok(endpoints)
}

/// `500ms`, `5s`, `1m`.
fn timeout(text: &str) -> Result<Duration, String> {
    let wrong = |what: &str| {
        let shown = crate::parse::printable(text.as_bytes());
        format!("--timeout: {shown} {what}; write a time such as 500ms, 5s or 1m")
    };
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong("is no time"))?;
    if number == 0 {
        return Err(wrong("leaves no time for an answer"));
    }
    let milliseconds = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "" => return Err(wrong("has no unit")),
        _ => return Err(wrong("has an unknown unit")),
    };
    let timeout = milliseconds.map(Duration::from_millis).filter(|timeout| *timeout <= MAX_TIMEOUT);
    timeout.ok_or_else(|| wrong("is longer than a day"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &[&str]) -> Flags {
        let words = std::iter::once("raftctl").chain(line.iter().copied()).map(OsString::from);
        Flags::read(words).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    fn command(line: &[&str]) -> Vec<String> {
        read(line).command.into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn flags_end_where_the_command_begins() {
        assert_eq!(command(&["--timeout", "1s", "set", "k", "--if-absent", "v"]), ["set", "k", "--if-absent", "v"]);
        assert_eq!(command(&["incr", "n", "--", "-5"]), ["incr", "n", "--", "-5"]);
        assert_eq!(command(&["set", "k", "-"]), ["set", "k", "-"]);
        assert_eq!(command(&["scan", "--limit", "3"]), ["scan", "--limit", "3"]);
        assert_eq!(command(&["get", "k", "--help"]), ["get", "k", "--help"]);
        assert!(command(&[]).is_empty());
        assert!(Flags::read(["raftctl", "--frob", "get", "k"].map(OsString::from)).is_err());
    }

    #[test]
    fn endpoints_are_host_and_port() {
        assert_eq!(endpoints("a:1, b:2,a:1,[::1]:3"), Ok(vec!["a:1".into(), "b:2".into(), "[::1]:3".into()]));
        for wrong in ["", "a", "a:", ":1", "a:0", "a:65536", "a:1,,b:2", "::1:7001", "a:-1"] {
            assert!(endpoints(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_timeout_has_a_unit_and_a_limit() {
        assert_eq!(timeout("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(timeout("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(timeout("1m"), Ok(Duration::from_secs(60)));
        for wrong in ["", "0", "0s", "5", "-1s", "1.5s", "5 s", "s", "2d", "99999999999999999999s", "1441m"] {
            assert!(timeout(wrong).is_err(), "{wrong}");
        }
    }
}
