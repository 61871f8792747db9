//! Snapshots of the state machine (§5): when one is taken, in which pieces, and how one that came from a leader takes the
//! place of the state.
//!
//! Owns no file: those are written and read elsewhere ([`crate::SnapshotJob`]), while commands go on being applied.

use std::time::Duration;

use raft_core::{Input, Instant, LogIndex, LogPosition, Snapshot};

use super::{Replica, Stage};
use crate::disk::DiskJob;
use crate::event::NodeEvent;
use crate::machine::StateMachine;
use crate::peer_message::PeerMessage;
use crate::snapshots::{SnapshotDone, SnapshotJob};

/// How much of a snapshot the machine writes out in one turn: a fraction of a millisecond.
const CHUNK_BYTES: usize = 64 << 10;
/// How many pieces may wait for the disk; the machine writes no more meanwhile.
const MAX_WAITING_CHUNKS: usize = 4;
/// How fast a snapshot is written, at least and mostly: the disk and the processor have writes to do meanwhile, which shall
/// hardly notice.
const BYTES_PER_SECOND: u64 = 32 << 20;
/// A larger state is written faster, so that it takes no longer than this.
const LONGEST_SECONDS: u64 = 30;
/// How long after a snapshot that could not be taken the next one is tried.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// What a replica keeps for its snapshots.
pub(super) struct Snapshots<M: StateMachine> {
    taking: Option<Taking<M>>,
    /// The snapshot that the state machine is being restored from. Nothing is applied meanwhile.
    restoring: Option<Snapshot>,
    /// How many bytes of entries were applied since the last snapshot was begun.
    applied_bytes: u64,
    /// How large the last one is; 0 before the first since the start.
    last_size_bytes: u64,
    /// None is begun before this.
    not_before: Instant,
}

/// A snapshot on its way to the disk.
struct Taking<M: StateMachine> {
    view: M::Snapshot,
    waiting_chunks: usize,
    /// The machine has given all of it.
    is_whole: bool,
    /// No piece is written before.
    next_chunk: Instant,
}

impl<M: StateMachine> Default for Snapshots<M> {
    fn default() -> Self {
        Self { taking: None, restoring: None, applied_bytes: 0, last_size_bytes: 0, not_before: Instant(0) }
    }
}

impl<M: StateMachine> std::fmt::Debug for Snapshots<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshots")
            .field("taking", &self.taking.is_some())
            .field("restoring", &self.restoring)
            .field("applied_bytes", &self.applied_bytes)
            .finish_non_exhaustive()
    }
}

impl<M: StateMachine> Snapshots<M> {
    pub(super) const fn is_restoring(&self) -> bool {
        self.restoring.is_some()
    }

    /// When the next piece is to be written, if that is a matter of time.
    pub(super) fn wakeup(&self) -> Option<Instant> {
        let taking = self.taking.as_ref()?;
        (!taking.is_whole && taking.waiting_chunks < MAX_WAITING_CHUNKS).then_some(taking.next_chunk)
    }

    /// The time that one piece gets.
    fn chunk_interval(&self) -> Duration {
        let bytes_per_second = BYTES_PER_SECOND.max(self.last_size_bytes / LONGEST_SECONDS);
        Duration::from_nanos(CHUNK_BYTES as u64 * 1_000_000_000 / bytes_per_second)
    }

    pub(super) fn note_applied(&mut self, size_bytes: usize) {
        self.applied_bytes = self.applied_bytes.saturating_add(size_bytes as u64);
    }
}

impl<M: StateMachine, W> Replica<M, W> {
    /// Begins a snapshot if the log has grown enough, and writes the next pieces of one that is under way.
    pub(super) fn advance_snapshot(&mut self, now: Instant) {
        if self.snapshots.taking.is_none() && self.is_snapshot_due(now) {
            self.begin_snapshot(now);
        }
        if self.snapshots.wakeup().is_none_or(|at| now < at) {
            return;
        }
        let interval = self.snapshots.chunk_interval();
        let Some(taking) = &mut self.snapshots.taking else { return };
        let job = match self.machine.snapshot_chunk(&mut taking.view, CHUNK_BYTES) {
            Some(chunk) => SnapshotJob::Append(chunk),
            None => {
                taking.is_whole = true;
                SnapshotJob::Finish
            }
        };
        taking.waiting_chunks += 1;
        taking.next_chunk = now.after(interval);
        self.outputs.snapshot_jobs.push(job);
    }

    /// §5.1: when the log has grown by the threshold, or by the last snapshot's size if that is more, so that the disk
    /// writes no more for snapshots than for the log; but early enough that the log in memory keeps below its limit.
    fn is_snapshot_due(&self, now: Instant) -> bool {
        let Some(raft) = self.raft() else { return false };
        let Snapshots { restoring, applied_bytes, last_size_bytes, not_before, .. } = &self.snapshots;
        let bearable = self.config.protocol.max_log_bytes as u64 / 2;
        let threshold = self.config.snapshot_threshold_bytes;
        let has_grown =
            *applied_bytes >= threshold.max((*last_size_bytes).min(bearable)).saturating_add(self.stagger());
        // Rule 9: never of what this server's own disk does not hold.
        let is_durable = self.applied <= raft.durable_index();
        has_grown && is_durable && restoring.is_none() && now >= *not_before && !self.stopping
    }

    /// By how much the first snapshot since the start is later than at the other members: by an equal share each, so that
    /// they do not take theirs at the same time. A majority that has none to take commits without the others.
    fn stagger(&self) -> u64 {
        let Some(raft) = self.raft().filter(|_| self.snapshots.last_size_bytes == 0) else { return 0 };
        let members = raft.configuration().members();
        let (before, count) = (members.clone().filter(|(id, _)| *id < raft.id()).count(), members.count());
        self.config.snapshot_threshold_bytes / count.max(1) as u64 * before as u64
    }

    fn begin_snapshot(&mut self, now: Instant) {
        let Some(snapshot) = self.raft().and_then(|raft| raft.describe_snapshot(self.applied)) else { return };
        let view = self.machine.begin_snapshot();
        self.snapshots.taking = Some(Taking { view, waiting_chunks: 1, is_whole: false, next_chunk: now });
        self.snapshots.applied_bytes = 0;
        self.outputs.snapshot_jobs.push(SnapshotJob::Begin(snapshot));
    }

    /// Something was done for snapshots.
    pub fn handle_snapshot(&mut self, now: Instant, done: SnapshotDone<M>) {
        match done {
            SnapshotDone::Written => {
                if let Some(taking) = &mut self.snapshots.taking {
                    taking.waiting_chunks = taking.waiting_chunks.saturating_sub(1);
                }
            }
            SnapshotDone::Taken { snapshot, size_bytes } => self.note_taken(now, snapshot, size_bytes),
            SnapshotDone::NotTaken { reason } => {
                self.snapshots.taking = None;
                self.snapshots.not_before = now.after(RETRY_AFTER);
                // What was to be compacted still is.
                self.snapshots.applied_bytes =
                    self.snapshots.applied_bytes.saturating_add(self.config.snapshot_threshold_bytes);
                self.outputs.events.push(NodeEvent::SnapshotNotTaken { reason });
            }
            SnapshotDone::Stored { last, offset } => self.step(now, Input::ChunkStored { last, offset }),
            SnapshotDone::Received(snapshot) => {
                self.step(now, Input::SnapshotReceived(snapshot));
                self.keep_snapshots();
            }
            SnapshotDone::NotReceived { last, reason } => {
                self.outputs.events.push(NodeEvent::SnapshotNotReceived { last, reason });
                self.step(now, Input::SnapshotRejected { last });
            }
            SnapshotDone::Read { to, message } => {
                self.counters.messages_sent += 1;
                self.outputs.messages.push((to, PeerMessage::Raft(message)));
            }
            SnapshotDone::NotRead { last, reason } => {
                self.outputs.events.push(NodeEvent::SnapshotNotRead { last, reason });
            }
            SnapshotDone::Restored { last, machine } => self.note_restored(last, machine),
        }
    }

    fn note_taken(&mut self, now: Instant, snapshot: Snapshot, size_bytes: u64) {
        let last = snapshot.last;
        self.snapshots.taking = None;
        self.snapshots.last_size_bytes = size_bytes;
        self.counters.snapshots_taken += 1;
        self.outputs.events.push(NodeEvent::SnapshotTaken { last, size_bytes });
        self.step(now, Input::SnapshotTaken(snapshot));
        self.keep_snapshots();
    }

    fn keep_snapshots(&mut self) {
        if let Some(raft) = self.raft() {
            let in_use = raft.snapshots_in_use();
            self.outputs.snapshot_jobs.push(SnapshotJob::Keep(in_use));
        }
    }

    // --- a leader's snapshot -------------------------------------------------------------------------------------

    /// The snapshot at `last` takes the place of the state: nothing more is applied until it is there.
    pub(super) fn begin_restore(&mut self, last: LogPosition) {
        let Stage::Running { raft, .. } = &self.stage else { return };
        self.snapshots.restoring = raft.snapshot().filter(|snapshot| snapshot.last == last).cloned();
        self.counters.snapshots_installed += 1;
        self.outputs.snapshot_jobs.push(SnapshotJob::Restore { last });
    }

    fn note_restored(&mut self, last: LogPosition, mut machine: Box<M>) {
        if let Some(snapshot) = self.snapshots.restoring.take_if(|snapshot| snapshot.last == last) {
            std::mem::swap(&mut self.machine, &mut machine);
            self.applied = last.index;
            self.clock.observe(snapshot.stamp);
            self.snapshots.applied_bytes = 0;
            // A snapshot of the state that is gone is of no use.
            self.snapshots.taking = None;
        }
        self.outputs.snapshot_jobs.push(SnapshotJob::Discard(machine));
        self.apply_committed();
    }

    pub(super) fn compact_log(&mut self, through: LogIndex) {
        self.outputs.jobs.push(DiskJob::Compact { through });
    }
}
