//! What disks do: the log's work and that for snapshots, side by side, each in its order.

use raft_node::DiskDone;
use raft_storage::WriteError;

use crate::checkers::Violation;
use crate::coverage::Count;
use crate::node::{Fate, Happening, Process};
use crate::time::{SECONDS, Time};
use crate::world::{DISK_IDLE, Event, World};

/// How often a full disk is asked for space, as in the node's disk thread.
const SPACE_RETRY: Time = SECONDS;

impl World {
    pub(crate) fn work_disk(&mut self, node: usize, process: &mut Process) {
        if process.working.is_some() || process.jobs.is_empty() {
            return;
        }
        process.working = Some(std::mem::take(&mut process.jobs));
        let latency = self.scenario.settings.disk_latency + self.random.below(self.scenario.settings.disk_jitter + 1);
        let at = (self.now + latency).max(self.node(node).stalled_until);
        self.schedule(at, Event::DiskDone { node, process: process.number });
    }

    pub(crate) fn disk_done(&mut self, node: usize, number: u64) {
        let now = self.now;
        let machine = self.node_mut(node);
        if machine.process(number).is_none() {
            return;
        }
        if machine.stalled_until > now {
            let at = machine.stalled_until;
            self.schedule(at, Event::DiskDone { node, process: number });
            return;
        }
        if let Some(restart_after) = machine.crash_in_write.take() {
            self.crash_in_write(node, restart_after);
            return;
        }
        let Some(process) = machine.process_mut(number) else { return };
        let Some(jobs) = process.working.take() else { return };
        process.disk_rounds += 1;
        let round = process.disk_rounds;
        let done = process.queue.work_off(&mut process.storage, jobs);
        if self.disk_says(node, done) {
            self.schedule(now + DISK_IDLE, Event::DiskIdle { node, process: number, round });
            if let Some(mut process) = self.node_mut(node).process.take() {
                self.work_disk(node, &mut process);
                self.node_mut(node).process = Some(process);
            }
        }
    }

    /// What the disk has done reaches the server; if it has failed the server stops. Whether it goes on.
    fn disk_says(&mut self, node: usize, done: Result<Vec<DiskDone>, WriteError>) -> bool {
        let Ok(done) = done else {
            self.fail_stop(node);
            return false;
        };
        let Some(mut process) = self.node_mut(node).process.take() else { return false };
        self.checkers.disks.done(node, &done, process.storage.formation());
        self.plan_look(node, &mut process);
        let number = process.number;
        self.node_mut(node).process = Some(process);
        for done in done {
            self.arrive(node, number, Happening::Disk(done));
        }
        true
    }

    /// As long as its disk is full, it is asked for space again and again.
    pub(crate) fn plan_look(&mut self, node: usize, process: &mut Process) {
        if process.queue.is_full() && !process.will_look {
            process.will_look = true;
            self.schedule(self.now + SPACE_RETRY, Event::SpaceSought { node, process: process.number });
        }
    }

    pub(crate) fn seek_space(&mut self, node: usize, number: u64) {
        let now = self.now;
        let machine = self.node_mut(node);
        let stalled_until = machine.stalled_until;
        let Some(process) = machine.process_mut(number) else { return };
        if stalled_until > now {
            self.schedule(stalled_until, Event::SpaceSought { node, process: number });
            return;
        }
        if !std::mem::take(&mut process.will_look) {
            return;
        }
        let done = process.queue.retry(&mut process.storage);
        self.disk_says(node, done);
    }

    pub(crate) fn disk_idle(&mut self, node: usize, number: u64, round: u64) {
        let now = self.now;
        let machine = self.node_mut(node);
        let is_stalled = machine.stalled_until > now;
        let Some(process) = machine.process_mut(number) else { return };
        let is_idle = process.disk_rounds == round && process.working.is_none() && process.jobs.is_empty();
        if is_idle && !is_stalled && !process.queue.is_full() {
            let done = process.queue.mark_idle(&mut process.storage);
            self.disk_says(node, done);
        }
    }

    /// The disk failed: the server stops at once (rule 1), and is started again later.
    fn fail_stop(&mut self, node: usize) {
        self.coverage.count(Count::FailStop);
        let id = self.node(node).id;
        self.trace.line(self.now, || format!("{id} stops: its disk failed"));
        self.end_process(node);
        self.node(node).disk.heal();
        let at = self.now + self.random.between(SECONDS / 10, 2 * SECONDS);
        self.plan_start(node, at);
    }

    /// The power goes while the disk is somewhere in the middle of its work.
    pub(crate) fn crash_in_write(&mut self, node: usize, restart_after: Time) {
        let calls = self.random.below(8);
        let snapshots_first = self.random.chance(500);
        let machine = self.node_mut(node);
        if let Some(process) = &mut machine.process
            && let Some(jobs) = process.working.take()
        {
            machine.disk.fail_after(calls);
            // Nobody hears whether it went well.
            let snapshot_job = process.snapshot_jobs.pop_front().filter(|_| snapshots_first);
            drop(snapshot_job.map(|job| process.snapshots.work(job)));
            let _ = process.queue.work_off(&mut process.storage, jobs);
            self.coverage.count(Count::CrashInWrite);
        }
        self.lose_power(node, restart_after);
    }

    // --- snapshots -----------------------------------------------------------------------------------------------

    /// One job at a time, beside those for the log.
    pub(crate) fn work_on_snapshots(&mut self, node: usize, process: &mut Process) {
        if process.is_busy_with_snapshots || process.snapshot_jobs.is_empty() {
            return;
        }
        process.is_busy_with_snapshots = true;
        let settings = &self.scenario.settings;
        let latency = settings.disk_latency + self.random.below(2 * settings.disk_jitter + 1);
        let at = (self.now + latency).max(self.node(node).stalled_until);
        self.schedule(at, Event::SnapshotDone { node, process: process.number });
    }

    pub(crate) fn snapshot_done(&mut self, node: usize, number: u64) {
        let now = self.now;
        let machine = self.node_mut(node);
        let stalled_until = machine.stalled_until;
        let is_rotten = machine.fate == Fate::Rotten;
        let Some(process) = machine.process_mut(number) else { return };
        if stalled_until > now {
            self.schedule(stalled_until, Event::SnapshotDone { node, process: number });
            return;
        }
        if !std::mem::take(&mut process.is_busy_with_snapshots) {
            return;
        }
        let Some(job) = process.snapshot_jobs.pop_front() else { return };
        match process.snapshots.work(job) {
            Ok(done) => {
                if let Some(done) = done {
                    self.arrive(node, number, Happening::Snapshot(done));
                }
                if let Some(mut process) = self.node_mut(node).process.take() {
                    self.work_on_snapshots(node, &mut process);
                    self.node_mut(node).process = Some(process);
                }
            }
            Err(failure) => {
                if !is_rotten {
                    let what = format!("n{}: {failure}", node + 1);
                    self.judge(Err(Violation::new("A snapshot that was stored can be restored", what)));
                }
                self.fail_stop(node);
            }
        }
    }
}
