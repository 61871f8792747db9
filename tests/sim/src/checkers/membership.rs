//! The configuration is a function of the log (§4.1), changes one step at a time (§4.3, rule 12), and leaders are members.

use raft_core::{Configuration, Half, LogIndex, NodeId, Payload, Raft, RoleName};

use super::ledger::Ledger;
use super::{Turn, Verdict};
use crate::coverage::{Count, Coverage};

/// How often a log is searched for its configuration though that seems not to have changed.
const SEARCH_EVERY: u64 = 64;

/// What is known of configurations.
#[derive(Debug)]
pub(crate) struct Membership {
    /// The one each server went by when it was last looked at, and where it stood.
    seen: Vec<Option<(LogIndex, Configuration)>>,
    turns: u64,
    /// The last one in the ledger, and how far that was read.
    committed: Option<Configuration>,
    read: usize,
}

impl Membership {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { seen: vec![None; nodes], turns: 0, committed: None, read: 0 }
    }

    /// A server's disk is gone, and with it what it went by.
    pub(crate) fn forget(&mut self, node: usize) {
        if let Some(seen) = self.seen.get_mut(node) {
            *seen = None;
        }
    }

    /// What a server went by when it was last looked at.
    pub(crate) fn seen(&self, node: usize) -> Option<&Configuration> {
        self.seen.get(node)?.as_ref().map(|(_, configuration)| configuration)
    }

    /// The last one that is committed.
    pub(crate) const fn last_committed(&self) -> Option<&Configuration> {
        self.committed.as_ref()
    }

    /// What servers go by, or will if they start again.
    pub(crate) fn last_seen(&self) -> impl Iterator<Item = &Configuration> {
        self.seen.iter().flatten().map(|(_, configuration)| configuration).chain(&self.committed)
    }

    pub(crate) fn observe(&mut self, turn: &Turn<'_>, coverage: &mut Coverage) -> Verdict {
        let (Some(raft), Some(seen)) = (turn.raft(), self.seen.get_mut(turn.node)) else { return Ok(()) };
        self.turns += 1;
        let index = raft.configuration_index();
        let has_changed = seen.as_ref().is_none_or(|(before, _)| *before != index);
        if has_changed {
            *seen = Some((index, raft.configuration().clone()));
            coverage.add(Count::JointConfiguration, raft.configuration().is_joint().into());
        }
        if has_changed || self.turns.is_multiple_of(SEARCH_EVERY) {
            check_function_of_log(turn.node, raft)?;
        }
        if raft.role() == RoleName::Leader {
            check_leader(turn.node, raft)?;
        }
        Ok(())
    }

    /// The ledger has grown: what is committed follows what was committed before by one step of the protocol.
    pub(crate) fn committed(&mut self, initial: Option<&Configuration>, ledger: &Ledger) -> Verdict {
        if self.committed.is_none() {
            self.committed = initial.cloned();
        }
        for entry in ledger.entries().get(self.read..).unwrap_or_default() {
            self.read += 1;
            let Payload::Configuration(next) = &entry.payload else { continue };
            if let Some(before) = self.committed.replace(next.clone()) {
                check_step(&before, next).map_err(|what| format!("{}: {what}", entry.position))?;
            }
        }
        Ok(())
    }
}

fn check_function_of_log(node: usize, raft: &Raft) -> Verdict {
    let log = raft.log();
    let in_log = (log.base().index.0 + 1..=log.last_index().0).rev().find_map(|index| {
        match &log.entry(LogIndex(index))?.payload {
            Payload::Configuration(configuration) => Some((LogIndex(index), configuration)),
            Payload::Command(_) | Payload::Noop => None,
        }
    });
    let is_so = match in_log {
        Some((index, configuration)) => raft.configuration_index() == index && raft.configuration() == configuration,
        // It is from what the log has forgotten, or the one the cluster was formed with.
        None => raft.configuration_index() <= log.base().index,
    };
    if is_so {
        return Ok(());
    }
    Err(format!(
        "n{} goes by {} of entry {}, and its log says {in_log:?}",
        node + 1,
        raft.configuration(),
        raft.configuration_index()
    ))
}

/// A leader votes in a configuration that it holds: in the latest, or in the one before while that is not committed
/// (§4.2.2). And it has begun one change at a time.
fn check_leader(node: usize, raft: &Raft) -> Verdict {
    let (log, commit) = (raft.log(), raft.commit_index());
    let configuration = raft.configuration();
    let votes = configuration.has(raft.id(), raft.disk()) && configuration.is_voter(raft.id());
    if !votes && raft.configuration_index() <= commit {
        return Err(format!("n{} leads, and {configuration} is committed", node + 1));
    }
    let is_change = |index: &u64| {
        log.entry(LogIndex(*index)).is_some_and(|entry| matches!(entry.payload, Payload::Configuration(_)))
    };
    // Before it has committed an entry of its own term it does not know how much of its log is.
    if log.position(commit).is_none_or(|position| position.term != raft.term()) {
        return Ok(());
    }
    let under_way = (commit.0 + 1..=log.last_index().0).filter(is_change).count();
    if under_way > 1 {
        return Err(format!("n{} leads with {under_way} configurations that are not committed", node + 1));
    }
    Ok(())
}

/// Voters change through a joint configuration only, which has the old ones in one half and is left for the other (§4.3).
fn check_step(before: &Configuration, next: &Configuration) -> Verdict {
    let voters = |configuration: &Configuration, half| {
        let with_disk = |id| (id, configuration.member(id).map(|member| member.disk));
        configuration.voters_in(half).map(with_disk).collect::<Vec<(NodeId, _)>>()
    };
    let settles_on = voters(before, Half::New);
    let begins_with = voters(next, Half::Old);
    if before.is_joint() && next.is_joint() {
        return Err(format!("{next} begins before {before} is over"));
    }
    if settles_on == begins_with { Ok(()) } else { Err(format!("after {before} comes {next}")) }
}
