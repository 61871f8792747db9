//! Reading a stopped node's data directory, for `raftd log` and `raftd replay`. Changes nothing in it.

use std::path::Path;

use raft_core::{Entry, LogIndex};
use raft_storage::{Contents, FsDisk, read_log};

use crate::exit::RunError;
use crate::output::note;

/// Reads the directory of a stopped node; says on standard error what its log does not show by itself.
pub(crate) fn read_directory(path: &Path) -> Result<Contents, RunError> {
    let contents = read_log(FsDisk::open_read_only(path)?)?;
    if let Some(torn) = &contents.torn {
        note(format_args!(
            "the last crash tore a batch of {} bytes at byte {} of {}; nobody was told it is durable, and it is left out",
            torn.size_bytes, torn.offset, torn.path
        ));
    }
    Ok(contents)
}

/// The last index in the log, 0 if it is empty.
pub(crate) fn last_index(entries: &[Entry]) -> LogIndex {
    entries.last().map_or(LogIndex(0), |entry| entry.position.index)
}
