//! What a leader proposes for the cluster: to forget old revisions, to end leases, to set the quota.
//!
//! Owns: when it asks the store what is due. Does not own: what is due ([`kv_store::KvStore::upkeep`]).

use std::time::Duration;

use kv_store::{Policy, Stamp};
use raft_core::Instant;
use raft_node::{Access, Answer};

use crate::machine::KvMachine;
use crate::service::Waiting;

/// How often the store is asked. A lease ends so much late at most, beside what it takes to commit that.
const INTERVAL: Duration = Duration::from_millis(50);
/// How long one proposal may take before another one is made.
const TIMEOUT: Duration = Duration::from_secs(5);

/// One proposal at a time: what is left after it, the next one does.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    is_under_way: bool,
    /// Not asked before.
    not_before: Instant,
    /// Whether this node led in the last turn.
    leads: bool,
}

impl Upkeep {
    /// Proposes what is due, and says whether it did.
    pub(crate) fn turn(&mut self, now: Instant, policy: &Policy, node: &mut Access<'_, KvMachine, Waiting>) -> bool {
        // By the time that the proposal will be stamped with: what is due then is done by it, and not asked for again.
        let time = node.leader_time(now);
        self.leads = time.is_some();
        let Some(time) = time.filter(|_| !self.is_under_way && now >= self.not_before) else { return false };
        self.not_before = now.after(INTERVAL);
        let Some(command) = node.machine().store().upkeep(Stamp(time.0), policy) else { return false };
        self.is_under_way = true;
        node.propose(Waiting::Upkeep, command.encode(), now.after(TIMEOUT));
        true
    }

    /// It was applied, and there may be more; or it was not, and is worth another try in a while.
    pub(crate) fn note_answer(&mut self, now: Instant, answer: &Answer) {
        self.is_under_way = false;
        if matches!(answer, Answer::Applied(_)) {
            self.not_before = now;
        }
    }

    pub(crate) fn next_wakeup(&self) -> Option<Instant> {
        (self.leads && !self.is_under_way).then_some(self.not_before)
    }
}
