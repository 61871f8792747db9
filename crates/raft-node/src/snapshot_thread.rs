//! The thread that works for snapshots, beside the disk's: a large file may take seconds to write, and no request waits
//! for it.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use raft_storage::Disk;
use tokio::sync::mpsc;

use crate::machine::StateMachine;
use crate::snapshots::{RestoreFailure, SnapshotDone, SnapshotJob, SnapshotWorker};

/// How many jobs may wait. A machine that is written out has four under way, each peer one.
const MAX_WAITING_JOBS: usize = 256;

/// What the thread says: what it has done, or that there is no state to go on with, after which it says nothing more.
pub(crate) type SnapshotReport<M> = Result<SnapshotDone<M>, RestoreFailure>;

/// The loop's end of the thread.
#[derive(Debug)]
pub(crate) struct SnapshotThread<M> {
    pub(crate) jobs: SyncSender<SnapshotJob<M>>,
    /// Closed when the thread has ended.
    pub(crate) reports: mpsc::Receiver<SnapshotReport<M>>,
    pub(crate) thread: JoinHandle<()>,
}

/// Starts the thread. It ends when the loop has dropped `jobs` and the one it is at is done; what still waits then is of
/// no use to anybody.
pub(crate) fn start<D, M>(mut worker: SnapshotWorker<D>) -> io::Result<SnapshotThread<M>>
where
    D: Disk + Send + 'static,
    D::File: Send,
    M: StateMachine,
{
    let (jobs, waiting) = sync_channel(MAX_WAITING_JOBS);
    let (report, reports) = mpsc::channel(MAX_WAITING_JOBS);
    let body = move || {
        for job in waiting {
            let done = worker.work(job).transpose();
            let has_failed = matches!(done, Some(Err(_)));
            let is_heard = done.is_none_or(|done| report.blocking_send(done).is_ok());
            if has_failed || !is_heard {
                break;
            }
        }
    };
    let thread = std::thread::Builder::new().name("raft-snapshots".to_owned()).spawn(body)?;
    Ok(SnapshotThread { jobs, reports, thread })
}
