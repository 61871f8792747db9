//! What can go wrong, and what the operator does about it.

use std::io;

use raft_core::{ClusterId, LogPosition, NodeId};

use crate::identity::Identity;
use crate::snapshot::SnapshotError;

/// Why a data directory cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process holds the directory. Two servers on one directory would vote twice.
    #[error("{path} is in use by {}; stop it first, or choose another --data-dir", holder(*.pid))]
    Locked {
        /// The directory.
        path: String,
        /// Who holds it, if the lock file says so.
        pid: Option<u32>,
    },
    /// The directory belongs to another member. Never reused silently: that would lend one member's votes to another.
    #[error("{path} belongs to node {found}{}, not to node {wanted}; start it with --id {}, or choose another --data-dir",
            of_cluster(*.cluster), .found.as_u64())]
    Foreign {
        /// The directory.
        path: String,
        /// Whose it is.
        found: NodeId,
        /// Of which cluster, if one was formed.
        cluster: Option<ClusterId>,
        /// Who wanted to open it.
        wanted: NodeId,
    },
    /// One file is of another member than the directory: somebody mixed two directories.
    #[error("{path} is of {found}, but the directory is of {expected}; put back the file that belongs here")]
    ForeignFile {
        /// The file.
        path: String,
        /// Whose file it is.
        found: Identity,
        /// Whose directory it is.
        expected: Identity,
    },
    /// The file is of a version this program does not know.
    #[error("{path} has format version {found}, this program knows version {supported}; use the program that wrote it")]
    UnknownVersion {
        /// The file.
        path: String,
        /// The version it states.
        found: u32,
        /// The version this program reads.
        supported: u32,
    },
    /// No server has ever run on this directory. Only from [`crate::read_log`]; opening would initialise it.
    #[error("{path} holds no server's data; check --data-dir")]
    NotInitialised {
        /// The directory.
        path: String,
    },
    /// The disk lost something it had promised to keep. Nothing was cut or changed.
    #[error(
        "{path} is damaged at byte {offset}: {what}; nothing was changed. Keep the directory and leave the node \
             stopped; the others serve without it. Repair is not built yet, and an older copy or an empty directory would not do"
    )]
    Damaged {
        /// The file.
        path: String,
        /// The first byte that cannot be right, counted from 0.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// The file or directory.
        path: String,
        /// What was tried, as a verb.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The latest snapshot cannot be read.
    #[error("{0}; nothing was changed. Keep the directory and leave the node stopped; the others serve without it")]
    Snapshot(#[from] SnapshotError),
    /// Initialising or repairing the directory failed half way; starting again continues it.
    #[error("cannot prepare the data directory: {0}")]
    Write(#[from] WriteError),
}

/// Why a write is not durable. Unless it is [`WriteError::NoSpace`] the process must stop: what the disk holds now is found
/// out by the next start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The system refused.
    #[error("cannot {action} {path}: {source}; stopping, since nobody knows what the disk holds now")]
    Io {
        /// The file or directory.
        path: String,
        /// What was tried, as a verb.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The file system, or the quota, has no room for what must be there before anything is written to it. So nothing was
    /// promised, nothing is in doubt and nothing has to stop: the same call may be made again (F8).
    #[error("no space left: cannot {action} {path}: {source}; free some, or enlarge the file system or the quota")]
    NoSpace {
        /// The file or directory.
        path: String,
        /// What was tried, as a verb.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// An entry beyond [`crate::MAX_ENTRY_BYTES`]: the door must refuse such a command long before.
    #[error("entry {position} has {size_bytes} bytes, at most {limit_bytes} fit; lower the request limit")]
    EntryTooLarge {
        /// The entry.
        position: LogPosition,
        /// Its payload, encoded.
        size_bytes: usize,
        /// The most that is taken.
        limit_bytes: usize,
    },
    /// An earlier write failed, so nothing more is written (F1).
    #[error("an earlier write failed; restart the server to find out what its disk holds")]
    Stopped,
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

fn of_cluster(cluster: Option<ClusterId>) -> String {
    cluster.map_or_else(String::new, |cluster| format!(" of cluster {cluster}"))
}

/// Names the file and the action of a failed call while opening.
pub(crate) fn cannot_open(action: &'static str, path: String) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Io { path, action, source }
}

/// Names the file and the action of a failed call while writing.
pub(crate) fn cannot_write(action: &'static str, path: String) -> impl FnOnce(io::Error) -> WriteError {
    move |source| WriteError::Io { path, action, source }
}

/// The same for a call that only makes room for what is to be promised later: a lack of space is told apart.
pub(crate) fn cannot_make_room(action: &'static str, path: String) -> impl FnOnce(io::Error) -> WriteError {
    move |source| {
        if is_lack_of_space(&source) {
            WriteError::NoSpace { path, action, source }
        } else {
            WriteError::Io { path, action, source }
        }
    }
}

pub(crate) fn is_lack_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The directory cannot be trusted at this byte.
pub(crate) fn damaged(path: String, offset: u64, what: impl Into<String>) -> OpenError {
    OpenError::Damaged { path, offset, what: what.into() }
}
