//! The disk's thread: the only other party on the path of a write.
//!
//! It takes all that is waiting as one batch (group commit), so the longer the disk takes, the larger the next batch.
//! When it has been idle for a few milliseconds it marks the log's end, off the path of any acknowledgement (rule 4).

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use raft_storage::{Disk, Storage, WriteError};
use tokio::sync::mpsc;

use crate::disk::{DiskJob, work_off};
use crate::runtime::Urgent;

/// How many jobs may wait for the disk. The protocol's windows keep it far below this; at the limit the loop waits.
pub(crate) const MAX_WAITING_JOBS: usize = 8_192;
/// How long the disk rests before the end of the log is marked.
const IDLE: Duration = Duration::from_millis(5);

/// Works until the loop drops its end of the queue, or the disk fails.
pub(crate) fn run<D: Disk>(mut storage: Storage<D>, jobs: &Receiver<DiskJob>, done: &mpsc::Sender<Urgent>) {
    let ended = work(&mut storage, jobs, done);
    if let Err(error) = ended {
        // The loop may be gone already; then nobody acknowledges anything anyway.
        let _ = done.blocking_send(Urgent::DiskFailed(error));
    }
}

fn work<D: Disk>(
    storage: &mut Storage<D>,
    jobs: &Receiver<DiskJob>,
    done: &mpsc::Sender<Urgent>,
) -> Result<(), WriteError> {
    loop {
        let first = match jobs.recv_timeout(IDLE) {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => {
                storage.mark_idle()?;
                match jobs.recv() {
                    Ok(job) => job,
                    Err(_) => break,
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let mut batch = vec![first];
        batch.extend(jobs.try_iter().take(MAX_WAITING_JOBS));
        for done_now in work_off(storage, batch)? {
            if done.blocking_send(Urgent::Disk(done_now)).is_err() {
                return storage.mark_idle();
            }
        }
    }
    storage.mark_idle()
}
