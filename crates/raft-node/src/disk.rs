//! What the disk does for a replica: its queue, and how it is worked off.

use std::collections::VecDeque;

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

/// What the disk has done, or what has become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskDone {
    /// This write and all before it are durable.
    Persisted(WriteNumber),
    /// The formation record handed out last is durable.
    FormationSynced,
    /// The disk is full: it lives on its reserve, or not even on that, and jobs may wait for space (F8).
    Full,
    /// It is full no more.
    HasSpace,
}

/// The jobs of one disk. Those that find no space wait in it, in order, until there is some; nothing else holds them up.
#[derive(Debug)]
pub struct DiskQueue {
    waiting: VecDeque<DiskJob>,
    is_full: bool,
}

impl DiskQueue {
    /// An empty queue for the disk of `storage`.
    pub const fn new<D: Disk>(storage: &Storage<D>) -> Self {
        Self { waiting: VecDeque::new(), is_full: !storage.has_space() }
    }

    /// Whether the disk is full, as was last reported. As long as it is, [`DiskQueue::retry`] is to be called about once a
    /// second.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.is_full
    }

    /// How many jobs wait for space.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Does `jobs`, in order, neighbouring writes as one batch with one `fdatasync` (group commit). If earlier jobs wait for
    /// space, these wait behind them.
    ///
    /// # Errors
    /// If the disk fails. What was done before is not reported either: the server must stop at once (rule 1).
    pub fn work_off<D: Disk>(
        &mut self,
        storage: &mut Storage<D>,
        jobs: Vec<DiskJob>,
    ) -> Result<Vec<DiskDone>, WriteError> {
        let is_held_up = !self.waiting.is_empty();
        self.waiting.extend(jobs);
        let mut done = Vec::new();
        if is_held_up {
            self.compact(storage)?;
        } else {
            self.work(storage, &mut done)?;
        }
        self.note_space(storage, &mut done);
        Ok(done)
    }

    /// Looks whether there is space by now: for the jobs that wait, and then for the reserve.
    ///
    /// # Errors
    /// As [`DiskQueue::work_off`].
    pub fn retry<D: Disk>(&mut self, storage: &mut Storage<D>) -> Result<Vec<DiskDone>, WriteError> {
        let mut done = Vec::new();
        self.work(storage, &mut done)?;
        if self.waiting.is_empty() {
            storage.mark_idle()?;
            storage.regain_space()?;
        }
        self.note_space(storage, &mut done);
        Ok(done)
    }

    /// For a quiet moment and for the end: see [`Storage::mark_idle`].
    ///
    /// # Errors
    /// As [`DiskQueue::work_off`].
    pub fn mark_idle<D: Disk>(&mut self, storage: &mut Storage<D>) -> Result<Vec<DiskDone>, WriteError> {
        let mut done = Vec::new();
        storage.mark_idle()?;
        self.note_space(storage, &mut done);
        Ok(done)
    }

    fn work<D: Disk>(&mut self, storage: &mut Storage<D>, done: &mut Vec<DiskDone>) -> Result<(), WriteError> {
        match self.work_in_order(storage, done) {
            Err(WriteError::NoSpace { .. }) => self.compact(storage),
            outcome => outcome,
        }
    }

    /// Leaves the job that finds no space, and all behind it, in the queue.
    fn work_in_order<D: Disk>(&mut self, storage: &mut Storage<D>, done: &mut Vec<DiskDone>) -> Result<(), WriteError> {
        while let Some(job) = self.waiting.pop_front() {
            match job {
                DiskJob::Write(write) => self.append(storage, write, done)?,
                DiskJob::Formation(formation) => match storage.write_formation(formation.clone()) {
                    Ok(()) => done.push(DiskDone::FormationSynced),
                    Err(error) => {
                        self.waiting.push_front(DiskJob::Formation(formation));
                        return Err(error);
                    }
                },
                DiskJob::Compact { through } => storage.compact(through)?,
            }
        }
        Ok(())
    }

    /// Writes `first` and the writes right behind it.
    fn append<D: Disk>(
        &mut self,
        storage: &mut Storage<D>,
        first: Write,
        done: &mut Vec<DiskDone>,
    ) -> Result<(), WriteError> {
        let mut number = first.number;
        let mut batch = vec![first];
        while let Some(DiskJob::Write(write)) = self.waiting.pop_front_if(|job| matches!(job, DiskJob::Write(_))) {
            number = write.number;
            batch.push(write);
        }
        let appended = storage.append(&batch);
        match appended {
            Ok(()) => done.push(DiskDone::Persisted(number)),
            Err(_) => batch.into_iter().rev().for_each(|write| self.waiting.push_front(DiskJob::Write(write))),
        }
        appended
    }

    /// What frees space overtakes what waits for it. What may go is covered by a snapshot on disk, whatever the log's end
    /// becomes.
    fn compact<D: Disk>(&mut self, storage: &mut Storage<D>) -> Result<(), WriteError> {
        let mut through = None;
        self.waiting.retain(|job| match job {
            DiskJob::Compact { through: index } => {
                through = through.max(Some(*index));
                false
            }
            DiskJob::Write(_) | DiskJob::Formation(_) => true,
        });
        through.map_or(Ok(()), |through| storage.compact(through))
    }

    fn note_space<D: Disk>(&mut self, storage: &Storage<D>, done: &mut Vec<DiskDone>) {
        let is_full = !storage.has_space();
        if is_full != self.is_full {
            self.is_full = is_full;
            done.push(if is_full { DiskDone::Full } else { DiskDone::HasSpace });
        }
    }
}
