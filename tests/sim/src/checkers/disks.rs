//! Acknowledged means durable (rule 1): what a disk has confirmed is there after any crash, and what is committed is
//! confirmed by the disks of a majority.
//!
//! Each disk has a shadow: the hard state and log that its confirmed writes amount to, and the writes handed out since.
//! A server that starts must have the shadow's state after some of those, in order.

use std::collections::VecDeque;

use raft_core::{Entry, HardState, Write};
use raft_node::{DiskJob, Replica};

use super::Verdict;
use super::Violation;
use super::ledger::Ledger;
use crate::world::writes_in;

const CONFIRMED: &str = "What a disk confirmed is there after a crash";

/// The shadows of all disks.
#[derive(Debug)]
pub(crate) struct Disks {
    shadows: Vec<Shadow>,
}

#[derive(Clone, Debug, Default)]
struct Shadow {
    hard_state: HardState,
    log: Vec<Entry>,
    /// Handed out and not confirmed.
    on_the_way: VecDeque<Write>,
    is_formed: bool,
    /// What the disk had confirmed when it was wiped: it counted, rightly, for whoever had heard of it by then.
    wiped: Vec<Entry>,
}

impl Shadow {
    fn take(&mut self, write: Write) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(from) = write.truncate_from {
            self.log.truncate(usize::try_from(from.0 - 1).unwrap_or(usize::MAX));
        }
        self.log.extend(write.entries);
    }

    fn has(&self, entry: &Entry) -> bool {
        let place = usize::try_from(entry.position.index.0 - 1).unwrap_or(usize::MAX);
        let is_in = |log: &Vec<Entry>| log.get(place).is_some_and(|ours| ours.position == entry.position);
        is_in(&self.log) || is_in(&self.wiped)
    }
}

impl Disks {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { shadows: vec![Shadow::default(); nodes] }
    }

    /// Jobs that a server hands to its disk.
    pub(crate) fn handed_out(&mut self, node: usize, jobs: &[DiskJob]) {
        if let Some(shadow) = self.shadows.get_mut(node) {
            shadow.on_the_way.extend(writes_in(jobs).cloned());
        }
    }

    /// Jobs that the disk says it has done.
    pub(crate) fn persisted(&mut self, node: usize, jobs: &[DiskJob]) {
        let Some(shadow) = self.shadows.get_mut(node) else { return };
        for job in jobs {
            match job {
                DiskJob::Write(_) => {
                    if let Some(write) = shadow.on_the_way.pop_front() {
                        shadow.take(write);
                    }
                }
                DiskJob::Formation(formation) => shadow.is_formed |= formation.formed,
            }
        }
    }

    /// The ledger has grown: a majority of disks must have its last entry.
    pub(crate) fn committed(&self, ledger: &Ledger) -> Verdict {
        let Some(last) = ledger.last() else { return Ok(()) };
        let holders = self.shadows.iter().filter(|shadow| shadow.has(last)).count();
        if holders * 2 > self.shadows.len() {
            return Ok(());
        }
        Err(format!("{} is committed on {holders} disks of {}", last.position, self.shadows.len()))
    }

    /// A server starts with what it found on its disk.
    pub(crate) fn recovered<M: raft_node::StateMachine, W>(
        &mut self,
        node: usize,
        is_wiped: bool,
        replica: &Replica<M, W>,
    ) -> Result<(), Violation> {
        let Some(shadow) = self.shadows.get_mut(node) else { return Ok(()) };
        if is_wiped {
            *shadow = Shadow { wiped: std::mem::take(&mut shadow.log), ..Shadow::default() };
        }
        let Some(raft) = replica.raft() else {
            if shadow.is_formed || !shadow.log.is_empty() {
                let what = format!("n{} has forgotten its cluster", node + 1);
                return Err(Violation::new(CONFIRMED, what));
            }
            shadow.on_the_way.clear();
            return Ok(());
        };
        let found: Vec<Entry> = raft.log().range(raft_core::LogIndex(1), raft.log().last_index()).cloned().collect();
        let hard_state = raft.hard_state();
        let mut log_is_known = found == shadow.log;
        let mut hard_state_is_known = hard_state == shadow.hard_state;
        let confirmed = (shadow.hard_state, shadow.log.last().map(|entry| entry.position));
        let mut later = shadow.clone();
        for write in std::mem::take(&mut shadow.on_the_way) {
            // A write too large for one batch takes several; a crash in between keeps those that came first.
            let cut_to =
                write.truncate_from.map_or(later.log.len(), |from| usize::try_from(from.0 - 1).unwrap_or(usize::MAX));
            later.take(write);
            log_is_known |= found.len() >= cut_to && later.log.get(..found.len()) == Some(found.as_slice());
            hard_state_is_known |= hard_state == later.hard_state;
        }
        if !log_is_known || !hard_state_is_known {
            let what = format!(
                "n{} had confirmed {:?} with a log up to {:?}, and comes back with {hard_state:?} and a log up to {}",
                node + 1,
                confirmed.0,
                confirmed.1,
                raft.log().last_position()
            );
            return Err(Violation::new(CONFIRMED, what));
        }
        // What was found counts as confirmed from now on: recovery made it durable.
        *shadow = Shadow { hard_state, log: found, is_formed: true, ..Shadow::default() };
        Ok(())
    }
}
