//! Reading a stopped node's data directory, for `raftd log` and `raftd replay`. Changes nothing in it.

use std::path::Path;

use raft_core::LogIndex;
use raft_node::SnapshotWorker;
use raft_storage::{Contents, FsDisk, Snapshots, read_log};

use crate::exit::RunError;
use crate::output::note;

/// A stopped node's directory.
pub(crate) struct Stopped {
    pub(crate) contents: Contents,
    /// Where the state at its snapshot is read.
    pub(crate) snapshots: SnapshotWorker<FsDisk>,
}

impl Stopped {
    /// Reads the directory; says on standard error what its log does not show by itself.
    pub(crate) fn read(path: &Path) -> Result<Self, RunError> {
        let disk = FsDisk::open_read_only(path)?;
        let contents = read_log(disk.clone())?;
        if let Some(torn) = &contents.torn {
            note(format_args!(
                "the last crash tore a batch of {} bytes at byte {} of {}; nobody was told it is durable, and it is left out",
                torn.size_bytes, torn.offset, torn.path
            ));
        }
        let snapshots = SnapshotWorker::new(Snapshots::new(disk, contents.identity));
        Ok(Self { contents, snapshots })
    }

    /// The last index there is anything of, 0 if the log is empty.
    pub(crate) fn last_index(&self) -> LogIndex {
        self.contents.entries.last().map_or(self.contents.base.index, |entry| entry.position.index)
    }
}
