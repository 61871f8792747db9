//! Acknowledged means durable (rule 1): what a disk has confirmed is there after any crash, and what is committed is
//! confirmed by the disks of a majority.
//!
//! Each disk has a shadow: the hard state and log that its confirmed writes amount to, and the writes handed out since.
//! A server that starts must have the shadow's state after some of those, in order. What its snapshot covers is compared
//! by the state it holds (`state_hash`).

use std::collections::VecDeque;

use raft_core::{Configuration, Entry, Half, HardState, LogIndex, LogPosition, NodeId, Write};
use raft_node::{DiskDone, DiskJob, Replica};
use raft_storage::Formation;

use super::Verdict;
use super::Violation;
use super::ledger::Ledger;
use crate::world::{place_of, writes_in};

const CONFIRMED: &str = "What a disk confirmed is there after a crash";

/// The shadows of all disks.
#[derive(Debug)]
pub(crate) struct Disks {
    shadows: Vec<Shadow>,
}

#[derive(Clone, Debug, Default)]
struct Shadow {
    hard_state: HardState,
    log: ShadowLog,
    /// Handed out and not confirmed.
    on_the_way: VecDeque<Write>,
    is_formed: bool,
    /// What the disk had confirmed when it was wiped: it counted, rightly, for whoever had heard of it by then.
    wiped: ShadowLog,
}

/// A log that may begin after a snapshot.
#[derive(Clone, Debug, Default)]
struct ShadowLog {
    base: LogPosition,
    entries: Vec<Entry>,
}

impl ShadowLog {
    fn last(&self) -> LogPosition {
        self.entries.last().map_or(self.base, |entry| entry.position)
    }

    /// Where in `entries` the entry after `index` is.
    fn place_after(&self, index: LogIndex) -> usize {
        usize::try_from(index.0.saturating_sub(self.base.index.0)).unwrap_or(usize::MAX).min(self.entries.len())
    }

    /// Whether a restart finds the entry, in the log or covered by the snapshot.
    fn has(&self, position: LogPosition) -> bool {
        let place = self.place_after(position.index.previous());
        position.index <= self.base.index || self.entries.get(place).is_some_and(|ours| ours.position == position)
    }

    /// What counts beside a snapshot that ends at `covered`: what comes after it, if the log holds that position; else
    /// the log is from before the snapshot, and nothing of it counts.
    fn after(&self, covered: LogPosition) -> &[Entry] {
        let holds = covered == self.base || (covered.index > self.base.index && self.has(covered));
        if holds { self.entries.get(self.place_after(covered.index)..).unwrap_or_default() } else { &[] }
    }
}

impl Shadow {
    fn take(&mut self, write: Write) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(base) = write.restart_after {
            self.log = ShadowLog { base, entries: Vec::new() };
        }
        if let Some(from) = write.truncate_from {
            self.log.entries.truncate(self.log.place_after(from.previous()));
        }
        self.log.entries.extend(write.entries);
    }

    fn has(&self, entry: &Entry) -> bool {
        self.log.has(entry.position) || self.wiped.has(entry.position)
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

    /// What the disk says it has done; `formation` is what its storage holds.
    pub(crate) fn done(&mut self, node: usize, done: &[DiskDone], formation: Option<&Formation>) {
        let Some(shadow) = self.shadows.get_mut(node) else { return };
        for done in done {
            match done {
                DiskDone::Persisted(number) => {
                    while let Some(write) = shadow.on_the_way.pop_front_if(|write| write.number <= *number) {
                        shadow.take(write);
                    }
                }
                DiskDone::FormationSynced => {
                    shadow.is_formed |= formation.is_some_and(|formation| formation.formed);
                }
                DiskDone::Full | DiskDone::HasSpace => {}
            }
        }
    }

    /// The ledger has grown: a majority of the voters' disks must have its last entry, in both halves of a configuration
    /// that the leader that committed it went by in that turn: it may have appended the next one behind it at once.
    pub(crate) fn committed(&self, ledger: &Ledger, went_by: [Option<&Configuration>; 2]) -> Verdict {
        let Some(last) = ledger.last() else { return Ok(()) };
        let [before, after] = went_by.map(|configuration| {
            configuration.map_or_else(|| Err("no configuration".to_owned()), |one| self.are_majority(last, one))
        });
        before.or(after)
    }

    fn are_majority(&self, last: &Entry, configuration: &Configuration) -> Verdict {
        let has_it = |id: &NodeId| self.shadows.get(place_of(*id)).is_some_and(|shadow| shadow.has(last));
        for half in Half::BOTH {
            let voters = configuration.voters_in(half).count();
            let holders = configuration.voters_in(half).filter(has_it).count();
            if holders * 2 <= voters {
                return Err(format!("{} is committed on {holders} disks of {configuration}", last.position));
            }
        }
        Ok(())
    }

    /// A stopped server's disk is replaced by an empty one.
    pub(crate) fn wiped(&mut self, node: usize) {
        if let Some(shadow) = self.shadows.get_mut(node) {
            *shadow = Shadow { wiped: std::mem::take(&mut shadow.log), ..Shadow::default() };
        }
    }

    /// A new disk votes: what the old one had does not count any more.
    pub(crate) fn admitted(&mut self, node: usize) {
        if let Some(shadow) = self.shadows.get_mut(node) {
            shadow.wiped = ShadowLog::default();
        }
    }

    /// A server starts with what it found on its disk.
    pub(crate) fn recovered<M: raft_node::StateMachine, W>(
        &mut self,
        node: usize,
        replica: &Replica<M, W>,
    ) -> Result<(), Violation> {
        let Some(shadow) = self.shadows.get_mut(node) else { return Ok(()) };
        let Some(raft) = replica.raft() else {
            if shadow.is_formed || shadow.log.last() != LogPosition::ORIGIN {
                let what = format!("n{} has forgotten its cluster", node + 1);
                return Err(Violation::new(CONFIRMED, what));
            }
            shadow.on_the_way.clear();
            return Ok(());
        };
        let covered = raft.snapshot().map_or(LogPosition::ORIGIN, |snapshot| snapshot.last);
        let found: Vec<Entry> = raft.log().range(covered.index.next(), raft.log().last_index()).cloned().collect();
        let hard_state = raft.hard_state();
        let mut log_is_known = found == shadow.log.after(covered);
        let mut hard_state_is_known = hard_state == shadow.hard_state;
        let confirmed = (shadow.hard_state, shadow.log.last());
        let mut later = shadow.clone();
        for write in std::mem::take(&mut shadow.on_the_way) {
            // A write too large for one batch takes several; a crash in between keeps those that came first.
            let kept_to = write.restart_after.unwrap_or_else(|| later.log.last()).index;
            let kept_to = write.truncate_from.map_or(kept_to, LogIndex::previous);
            later.take(write);
            let whole = later.log.after(covered);
            let kept = whole.iter().take_while(|entry| entry.position.index <= kept_to).count();
            log_is_known |= found.len() >= kept && whole.get(..found.len()) == Some(found.as_slice());
            hard_state_is_known |= hard_state == later.hard_state;
        }
        if !log_is_known || !hard_state_is_known {
            let what = format!(
                "n{} had confirmed {:?} with a log up to {}, and comes back with {hard_state:?}, a snapshot up to {covered} \
                 and a log up to {}",
                node + 1,
                confirmed.0,
                confirmed.1,
                raft.log().last_position()
            );
            return Err(Violation::new(CONFIRMED, what));
        }
        // What was found counts as confirmed from now on: recovery made it durable.
        let log = ShadowLog { base: covered, entries: found };
        shadow.hard_state = hard_state;
        shadow.log = log;
        shadow.is_formed = true;
        Ok(())
    }
}
