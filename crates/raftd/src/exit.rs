//! How a process ends: its exit status, and the errors that decide it.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use raft_storage::{OpenError, SnapshotError};

use crate::config::ConfigError;

/// The exit status of `raftd` and its subcommands. A contract with those who supervise the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ExitStatus {
    /// 0: stopped on request, or the subcommand did its work.
    Done = 0,
    /// 1: failed at run time; the message says which file or socket. A restart may help.
    Failed = 1,
    /// 2: bad flags, variables or configuration file. A restart does not help.
    Usage = 2,
    /// 3: the data directory is locked, belongs to another node or cluster, or is of another version.
    DirectoryRefused = 3,
    /// 4: damage in the data directory that cannot be bounded. Nothing was changed; keep the directory.
    Damaged = 4,
}

impl ExitStatus {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

/// Any error below, kept with its own sources.
type Cause = Box<dyn Error + Send + Sync>;

/// Why the process ends other than on request. The variant decides the exit status.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Exit status 2.
    #[error(transparent)]
    Configuration(#[from] ConfigError),
    /// Exit status 2: right by itself, wrong for what was found (no `--cluster` for a new directory, say).
    #[error("{0}")]
    Usage(String),
    /// Exit status 1.
    #[error(transparent)]
    Failed(Cause),
    /// Exit status 3.
    #[error(transparent)]
    DirectoryRefused(Cause),
    /// Exit status 4.
    #[error(transparent)]
    Damaged(Cause),
}

impl RunError {
    /// A failure at run time (exit status 1).
    pub fn failed(cause: impl Into<Cause>) -> Self {
        Self::Failed(cause.into())
    }

    /// A failure at run time (exit status 1) of which `what` says which file or socket it was.
    pub fn failed_at(what: impl fmt::Display, cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Failed(Box::new(At { what: what.to_string(), cause: Box::new(cause) }))
    }

    /// A directory that is not ours to use (exit status 3).
    pub fn directory_refused(cause: impl Into<Cause>) -> Self {
        Self::DirectoryRefused(cause.into())
    }

    /// Damage that cannot be bounded (exit status 4).
    pub fn damaged(cause: impl Into<Cause>) -> Self {
        Self::Damaged(cause.into())
    }

    /// The status the process ends with.
    #[must_use]
    pub const fn status(&self) -> ExitStatus {
        match self {
            Self::Configuration(_) | Self::Usage(_) => ExitStatus::Usage,
            Self::Failed(_) => ExitStatus::Failed,
            Self::DirectoryRefused(_) => ExitStatus::DirectoryRefused,
            Self::Damaged(_) => ExitStatus::Damaged,
        }
    }
}

impl From<OpenError> for RunError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Locked { .. }
            | OpenError::Foreign { .. }
            | OpenError::ForeignFile { .. }
            | OpenError::UnknownVersion { .. } => Self::directory_refused(error),
            OpenError::Damaged { .. } | OpenError::Snapshot(SnapshotError::Damaged { .. }) => Self::damaged(error),
            OpenError::Snapshot(SnapshotError::ForeignFile { .. } | SnapshotError::UnknownVersion { .. }) => {
                Self::directory_refused(error)
            }
            // Only where nothing may be made: then it is the flag that is wrong.
            OpenError::NotInitialised { .. } => Self::Usage(error.to_string()),
            OpenError::Io { .. } | OpenError::Write(_) | OpenError::Snapshot(_) => Self::failed(error),
            other => Self::failed(other),
        }
    }
}

/// An error with the place it happened at.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
struct At {
    what: String,
    #[source]
    cause: Cause,
}

/// An error with all its sources, on one line: `raftd: cannot listen on 127.0.0.1:7001: address already in use`.
///
/// A source that its error's own text repeats is left out.
#[must_use]
pub fn error_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = error.source();
    }
    let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("raftd: {line}")
}

/// Says on standard error why the process ends. A closed standard error changes nothing.
pub fn report(error: &dyn Error) {
    let _ = writeln!(io::stderr().lock(), "{}", error_line(error));
}

#[cfg(test)]
mod tests {
    use raft_core::NodeId;

    use super::*;

    #[test]
    fn statuses_are_the_contract() {
        let cause = || io::Error::other("x");
        let table = [
            (RunError::Usage("x".into()), 2),
            (RunError::failed(cause()), 1),
            (RunError::directory_refused(cause()), 3),
            (RunError::damaged(cause()), 4),
        ];
        for (error, code) in table {
            assert_eq!(error.status().code(), code, "{error:?}");
        }
        assert_eq!(ExitStatus::Done.code(), 0);
    }

    #[test]
    fn what_is_wrong_with_a_directory_decides_the_status() {
        let path = || "data".to_owned();
        let node = NodeId::new(1).expect("not zero");
        let table = [
            (OpenError::Locked { path: path(), pid: Some(7) }, 3),
            (OpenError::Foreign { path: path(), found: node, cluster: None, wanted: node }, 3),
            (OpenError::UnknownVersion { path: path(), found: 2, supported: 1 }, 3),
            (OpenError::Damaged { path: path(), offset: 4096, what: "a bad checksum".into() }, 4),
            (OpenError::Io { path: path(), action: "open", source: io::Error::other("x") }, 1),
            (OpenError::NotInitialised { path: path() }, 2),
        ];
        for (error, code) in table {
            let message = error.to_string();
            let error = RunError::from(error);
            assert_eq!(error.status().code(), code, "{error:?}");
            assert_eq!(error_line(&error), format!("raftd: {message}"));
        }
    }

    #[test]
    fn an_error_is_one_line_with_its_sources() {
        let error = RunError::failed_at("cannot listen on 127.0.0.1:7001", io::Error::other("in\nuse"));
        assert_eq!(error_line(&error), "raftd: cannot listen on 127.0.0.1:7001: in use");
    }
}
