//! Logs, on standard error: one line an event, for people or as JSON.
//!
//! `RUST_LOG` chooses what is logged, in the syntax of tracing's `EnvFilter` (`debug`, `info,raft_node=trace`); without
//! it, `info` and above. Standard output is not for logs: it carries the one line `ready ..`, see [`print_ready`].

use std::env;
use std::fmt::{self, Display};
use std::io::{self, IsTerminal, Write};
use std::str::FromStr;

use raft_core::NodeId;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::ConfigError;

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; coloured on a terminal, unless `NO_COLOR` is set.
    Pretty,
    /// One JSON object a line.
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pretty => "pretty",
            Self::Json => "json",
        })
    }
}

/// A log format that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a log format is pretty or json")]
pub struct UnknownLogFormat;

impl FromStr for LogFormat {
    type Err = UnknownLogFormat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "pretty" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            _ => Err(UnknownLogFormat),
        }
    }
}

/// Starts logging, once a process.
///
/// # Errors
/// [`ConfigError::LogFilter`] if `RUST_LOG` cannot be read.
pub fn start(format: LogFormat) -> Result<(), ConfigError> {
    let filter = filter(env::var("RUST_LOG").ok().as_deref())?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(format == LogFormat::Pretty && wants_colour())
        // A closed standard error must not end the server: the complaint about it would go there too, and panic.
        .log_internal_errors(false);
    // The only error is "already set": by a test, or by a program that embeds this library and logs its own way.
    let _ = match format {
        LogFormat::Pretty => builder.compact().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}

fn filter(rust_log: Option<&str>) -> Result<EnvFilter, ConfigError> {
    let directives = rust_log.unwrap_or_default();
    EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(directives)
        .map_err(|source| ConfigError::LogFilter { value: crate::units::shorten(directives), source })
}

/// Colour only where a person looks, and did not decline it (<https://no-color.org>).
fn wants_colour() -> bool {
    io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Prints the one line of standard output, when the server has recovered and listens: `ready id=N listen=HOST:PORT`.
///
/// # Errors
/// If standard output is closed: who started the server waits for this line in vain.
pub fn print_ready(id: NodeId, listen: impl Display) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "ready id={} listen={listen}", id.as_u64())?;
    output.flush()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_default_level_is_info_and_nonsense_is_refused() {
        assert_eq!(filter(None).unwrap().to_string(), "info");
        assert_eq!(filter(Some("")).unwrap().to_string(), "info");
        assert_eq!(filter(Some("raft_node=trace")).unwrap().max_level_hint(), Some(LevelFilter::TRACE));
        assert!(matches!(filter(Some("raftd=loud")), Err(ConfigError::LogFilter { .. })));
    }

    #[test]
    fn formats_read_back() {
        for format in [LogFormat::Pretty, LogFormat::Json] {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert_eq!("xml".parse::<LogFormat>(), Err(UnknownLogFormat));
    }
}
