//! What the disk does for a replica: its queue, and the body of the thread that works it off.

use raft_core::{LogIndex, Write, WriteNumber};
use raft_storage::{Disk, Formation, Storage, WriteError};

/// One thing for the disk to do, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskJob {
    /// A write of the protocol.
    Write(Write),
    /// The record of the cluster's formation.
    Formation(Formation),
    /// The log up to here is no longer needed: a snapshot on disk covers it.
    Compact {
        /// The last index that may go.
        through: LogIndex,
    },
}

/// What the disk has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskDone {
    /// This write and all before it are durable.
    Persisted(WriteNumber),
    /// The formation record handed out last is durable.
    FormationSynced,
}

/// Does everything in `jobs`, in order, neighbouring writes as one batch with one `fdatasync` (group commit).
///
/// # Errors
/// If the disk fails. What was done before is not reported either: the server must stop at once (rule 1).
pub fn work_off<D: Disk>(storage: &mut Storage<D>, jobs: Vec<DiskJob>) -> Result<Vec<DiskDone>, WriteError> {
    let mut done = Vec::new();
    let mut batch: Vec<Write> = Vec::new();
    for job in jobs {
        match job {
            DiskJob::Write(write) => batch.push(write),
            DiskJob::Formation(formation) => {
                append(storage, &mut batch, &mut done)?;
                storage.write_formation(formation)?;
                done.push(DiskDone::FormationSynced);
            }
            DiskJob::Compact { through } => {
                append(storage, &mut batch, &mut done)?;
                storage.compact(through)?;
            }
        }
    }
    append(storage, &mut batch, &mut done)?;
    Ok(done)
}

fn append<D: Disk>(
    storage: &mut Storage<D>,
    batch: &mut Vec<Write>,
    done: &mut Vec<DiskDone>,
) -> Result<(), WriteError> {
    if let Some(last) = batch.last() {
        let number = last.number;
        storage.append(batch)?;
        batch.clear();
        done.push(DiskDone::Persisted(number));
    }
    Ok(())
}
