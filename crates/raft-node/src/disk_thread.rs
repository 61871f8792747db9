//! The disk's thread: the only other party on the path of a write.
//!
//! It takes all that is waiting as one batch (group commit), so the longer the disk takes, the larger the next batch.
//! When it has been idle for a few milliseconds it marks the log's end, off the path of any acknowledgement (rule 4).
//! When the disk is full it looks for space once a second, until there is some (F8).

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use raft_storage::{Disk, Storage, WriteError};
use tokio::sync::mpsc;

use crate::disk::{DiskDone, DiskJob, DiskQueue};

/// How many jobs may wait for the disk. The protocol stays below this (`Config::max_unsynced_writes`), but for a few writes that
/// it must make whatever waits; at the limit the loop waits, so that a leader is heard no more and another takes its place.
pub(crate) const MAX_WAITING_JOBS: usize = 8_192;
/// How many reports may wait for the loop. A channel of its own, so that neither side ever waits for a queue that only
/// the other could empty.
const MAX_WAITING_REPORTS: usize = 1_024;
/// How long the disk rests before the end of the log is marked.
const IDLE: Duration = Duration::from_millis(5);

/// How often a full disk is asked whether it has space again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What the disk says: what it has done, or that it failed, after which it says nothing more.
pub(crate) type Report = Result<DiskDone, WriteError>;

/// The loop's end of the disk.
#[derive(Debug)]
pub(crate) struct DiskThread {
    pub(crate) jobs: SyncSender<DiskJob>,
    /// Closed when the thread has ended.
    pub(crate) reports: mpsc::Receiver<Report>,
    pub(crate) thread: JoinHandle<()>,
}

/// Starts the thread. It ends when the loop has dropped `jobs` and all of them are done, or when the disk fails.
pub(crate) fn start<D>(mut storage: Storage<D>) -> io::Result<DiskThread>
where
    D: Disk + Send + 'static,
    D::File: Send,
{
    let (jobs, waiting) = sync_channel(MAX_WAITING_JOBS);
    let (report, reports) = mpsc::channel(MAX_WAITING_REPORTS);
    let body = move || {
        if let Err(error) = work(&mut storage, &waiting, &report) {
            // The loop may be gone already; then nobody acknowledges anything anyway.
            let _ = report.blocking_send(Err(error));
        }
    };
    let thread = std::thread::Builder::new().name("raft-disk".to_owned()).spawn(body)?;
    Ok(DiskThread { jobs, reports, thread })
}

fn work<D: Disk>(
    storage: &mut Storage<D>,
    jobs: &Receiver<DiskJob>,
    report: &mpsc::Sender<Report>,
) -> Result<(), WriteError> {
    let mut queue = DiskQueue::new(storage);
    let mut is_marked = false;
    // Only while the disk is full.
    let mut retry_at = None;
    loop {
        if queue.is_full() {
            retry_at.get_or_insert_with(|| Instant::now() + RETRY_INTERVAL);
        } else {
            retry_at = None;
        }
        let done = match wait(jobs, &queue, is_marked, retry_at) {
            Waited::Job(first) => {
                is_marked = false;
                let mut batch = vec![first];
                batch.extend(jobs.try_iter().take(MAX_WAITING_JOBS));
                queue.work_off(storage, batch)?
            }
            Waited::Quiet => {
                is_marked = true;
                queue.mark_idle(storage)?
            }
            Waited::RetryDue => {
                retry_at = None;
                queue.retry(storage)?
            }
            Waited::Over => break,
        };
        for done in done {
            // A loop that has ended needs no report, but what it handed out is written all the same.
            let _ = report.blocking_send(Ok(done));
        }
    }
    if queue.waiting() > 0 { queue.retry(storage).map(drop) } else { storage.mark_idle() }
}

/// What the thread has waited for.
enum Waited {
    Job(DiskJob),
    /// Nothing to do for a while.
    Quiet,
    /// It is time to look for space.
    RetryDue,
    /// The loop is gone.
    Over,
}

fn wait(jobs: &Receiver<DiskJob>, queue: &DiskQueue, is_marked: bool, retry_at: Option<Instant>) -> Waited {
    let Some(retry_at) = retry_at else {
        let next = if is_marked { jobs.recv().map_err(RecvTimeoutError::from) } else { jobs.recv_timeout(IDLE) };
        return match next {
            Ok(job) => Waited::Job(job),
            Err(RecvTimeoutError::Timeout) => Waited::Quiet,
            Err(RecvTimeoutError::Disconnected) => Waited::Over,
        };
    };
    let left = retry_at.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Waited::RetryDue;
    }
    if queue.waiting() >= MAX_WAITING_JOBS {
        // What comes now waits in the channel, and beyond that with the loop.
        std::thread::sleep(left);
        return Waited::RetryDue;
    }
    match jobs.recv_timeout(left) {
        Ok(job) => Waited::Job(job),
        Err(RecvTimeoutError::Timeout) => Waited::RetryDue,
        Err(RecvTimeoutError::Disconnected) => Waited::Over,
    }
}

#[cfg(test)]
mod tests {
    use raft_core::{Config, DiskId, Incarnation, NodeId};

    use super::*;

    #[test]
    fn a_disk_that_stands_still_does_not_hold_the_loop() {
        let config = Config::new(NodeId::new(1).expect("not 0"), DiskId(1), Incarnation(1), 1);
        // Beside the writes: what is compacted, the formation, a new term or two.
        assert!(config.max_unsynced_writes + 100 < MAX_WAITING_JOBS);
    }
}
