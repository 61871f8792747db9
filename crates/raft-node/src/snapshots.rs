//! What the disk does for snapshots (§5): a queue and a worker of their own, so that a large file never holds up the log.
//!
//! Files are written and read here, never on the path of a request. What fails here is told and costs a snapshot, not
//! the server; only a state that cannot be restored does, as there is nothing to go on with.

use std::collections::BTreeSet;

use bytes::Bytes;
use raft_core::{Body, LogPosition, Message, NodeId, Snapshot, Term};
use raft_storage::{Disk, SnapshotError, SnapshotWriter, Snapshots};

use crate::machine::{RestoreError, StateMachine};

/// How large a snapshot a leader may send, in bytes: far more than any memory, far less than a broken leader could fill.
const MAX_SNAPSHOT_BYTES: u64 = 1 << 40;

/// One thing to do for snapshots, in the order given.
#[derive(Debug)]
pub enum SnapshotJob<M> {
    /// Begin a snapshot of this server's own.
    Begin(Snapshot),
    /// Write its next piece.
    Append(Bytes),
    /// That was all: make it durable.
    Finish,
    /// Store a chunk of a leader's; after the last one check the whole and make it durable.
    Store {
        /// The last entry the snapshot covers.
        last: LogPosition,
        /// Where the chunk begins.
        offset: u64,
        /// The chunk.
        data: Bytes,
        /// Whether it is the last one.
        done: bool,
    },
    /// Read a chunk to be sent.
    Read {
        /// To whom.
        to: NodeId,
        /// In which term.
        term: Term,
        /// The last entry the snapshot covers.
        last: LogPosition,
        /// Where the chunk begins.
        offset: u64,
        /// How long it is at most.
        max_bytes: usize,
    },
    /// Make the state machine that a snapshot holds.
    Restore {
        /// The last entry it covers.
        last: LogPosition,
    },
    /// Remove the files of all snapshots but these, and none that is newer: it may be whole, and not yet reported.
    Keep(BTreeSet<LogPosition>),
    /// Free a state machine that is no longer wanted: a large one takes its time.
    Discard(Box<M>),
}

/// What was done for snapshots.
#[derive(Debug)]
pub enum SnapshotDone<M> {
    /// A snapshot of this server's own was begun, or a piece of it written.
    Written,
    /// It is whole and durable.
    Taken {
        /// Which one.
        snapshot: Snapshot,
        /// How large its file is.
        size_bytes: u64,
    },
    /// It could not be written, and is given up.
    NotTaken {
        /// Why.
        reason: String,
    },
    /// A chunk of a leader's is stored.
    Stored {
        /// Of which snapshot.
        last: LogPosition,
        /// Where the chunk ends.
        offset: u64,
    },
    /// A leader's snapshot is whole, checked and durable.
    Received(Snapshot),
    /// A leader's snapshot could not be stored, or is damaged.
    NotReceived {
        /// Which one.
        last: LogPosition,
        /// Why.
        reason: String,
    },
    /// A chunk to be sent.
    Read {
        /// To whom.
        to: NodeId,
        /// With the chunk.
        message: Message,
    },
    /// A chunk could not be read; it is not sent.
    NotRead {
        /// Of which snapshot.
        last: LogPosition,
        /// Why.
        reason: String,
    },
    /// The state machine that a snapshot holds.
    Restored {
        /// The last entry it covers.
        last: LogPosition,
        /// The machine.
        machine: Box<M>,
    },
}

/// Why a state machine could not be restored from a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum RestoreFailure {
    /// The file.
    #[error(transparent)]
    File(#[from] SnapshotError),
    /// What it holds.
    #[error("the snapshot at {last} cannot be restored: {source}")]
    Machine {
        /// Which one.
        last: LogPosition,
        /// Why.
        source: RestoreError,
    },
}

/// Does [`SnapshotJob`]s on one server's snapshot files.
pub struct SnapshotWorker<D: Disk> {
    files: Snapshots<D>,
    /// The snapshot being taken.
    writer: Option<(Snapshot, SnapshotWriter<D::File>)>,
}

impl<D: Disk> std::fmt::Debug for SnapshotWorker<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let taking = self.writer.as_ref().map(|(snapshot, _)| snapshot.last);
        f.debug_struct("SnapshotWorker").field("taking", &taking).finish_non_exhaustive()
    }
}

impl<D: Disk> SnapshotWorker<D> {
    /// Works on these files.
    pub const fn new(files: Snapshots<D>) -> Self {
        Self { files, writer: None }
    }

    /// Does one job. Most have something to report.
    ///
    /// # Errors
    /// If a state machine could not be restored. The server has no state to go on with and must stop.
    pub fn work<M: StateMachine>(&mut self, job: SnapshotJob<M>) -> Result<Option<SnapshotDone<M>>, RestoreFailure> {
        let done = match job {
            SnapshotJob::Begin(snapshot) => self.begin(snapshot),
            SnapshotJob::Append(chunk) => self.append(&chunk),
            SnapshotJob::Finish => self.finish(),
            SnapshotJob::Store { last, offset, data, done } => self.store(last, offset, &data, done),
            SnapshotJob::Read { to, term, last, offset, max_bytes } => {
                match self.files.read_body(last, offset, max_bytes) {
                    Ok((data, done)) => {
                        let body = Body::InstallSnapshot { last, offset, data, done };
                        SnapshotDone::Read { to, message: Message { term, body } }
                    }
                    Err(error) => SnapshotDone::NotRead { last, reason: error.to_string() },
                }
            }
            SnapshotJob::Restore { last } => {
                let machine = Box::new(self.restore(last)?);
                SnapshotDone::Restored { last, machine }
            }
            SnapshotJob::Keep(in_use) => {
                let in_use: Vec<LogPosition> = in_use.into_iter().collect();
                // A file that stays is found again the next time.
                let _ = self.files.remove_all_but(&in_use);
                return Ok(None);
            }
            SnapshotJob::Discard(machine) => {
                drop(machine);
                return Ok(None);
            }
        };
        Ok(Some(done))
    }

    fn begin<M>(&mut self, snapshot: Snapshot) -> SnapshotDone<M> {
        if let Some((_, given_up)) = self.writer.take() {
            self.files.abandon(given_up);
        }
        match self.files.begin(&snapshot) {
            Ok(writer) => {
                self.writer = Some((snapshot, writer));
                SnapshotDone::Written
            }
            Err(error) => SnapshotDone::NotTaken { reason: error.to_string() },
        }
    }

    fn append<M>(&mut self, chunk: &[u8]) -> SnapshotDone<M> {
        let Some((snapshot, mut writer)) = self.writer.take() else { return SnapshotDone::Written };
        match writer.append(chunk) {
            Ok(()) => {
                self.writer = Some((snapshot, writer));
                SnapshotDone::Written
            }
            Err(error) => {
                self.files.abandon(writer);
                SnapshotDone::NotTaken { reason: error.to_string() }
            }
        }
    }

    fn finish<M>(&mut self) -> SnapshotDone<M> {
        let Some((snapshot, writer)) = self.writer.take() else { return SnapshotDone::Written };
        match self.files.finish(writer) {
            Ok(size_bytes) => SnapshotDone::Taken { snapshot, size_bytes },
            Err(error) => SnapshotDone::NotTaken { reason: error.to_string() },
        }
    }

    fn store<M>(&mut self, last: LogPosition, offset: u64, data: &[u8], done: bool) -> SnapshotDone<M> {
        let outcome = self.files.receive(last, offset, data, MAX_SNAPSHOT_BYTES).and_then(|end| {
            if done {
                self.files.finish_received(last).map(SnapshotDone::Received)
            } else {
                Ok(SnapshotDone::Stored { last, offset: end })
            }
        });
        outcome.unwrap_or_else(|error| SnapshotDone::NotReceived { last, reason: error.to_string() })
    }

    /// The state machine that the snapshot at `last` holds.
    ///
    /// # Errors
    /// If its file or what it holds is not what was written.
    pub fn restore<M: StateMachine>(&mut self, last: LogPosition) -> Result<M, RestoreFailure> {
        let mut reader = self.files.open_data(last)?;
        let mut failed = None;
        let mut chunks = std::iter::from_fn(|| {
            reader.next_chunk().unwrap_or_else(|error| {
                failed = Some(error);
                None
            })
        });
        let restored = M::restore(&mut chunks);
        match failed {
            Some(error) => Err(error.into()),
            None => restored.map_err(|source| RestoreFailure::Machine { last, source }),
        }
    }
}
