//! Liveness (the second phase of every run): once all faults have ended, the servers elect a leader, agree on one log and
//! one state without any new command, and then serve clients at every server, all within bounded time.

use raft_core::{Configuration, RoleName, Standing};

use super::Verdict;
use super::ledger::Ledger;
use crate::node::{Fate, Node};

/// Whether the members agree, but for those that have refused to start with a damaged disk. `committed` is the last
/// configuration that is. No change of it is left half done, and wiped disks have come back.
pub(crate) fn check_agreed(nodes: &[Node], ledger: &Ledger, committed: Option<&Configuration>) -> Verdict {
    let Some(committed) = committed.filter(|committed| !committed.is_joint()) else {
        return Err("two configurations are in effect at once".to_owned());
    };
    let members: Vec<&Node> =
        nodes.iter().filter(|node| committed.member(node.id).is_some() && node.fate != Fate::Refused).collect();
    let is_waiting = |node: &&&Node| committed.standing(node.id) == Some(&Standing::Learner { becomes_voter: true });
    if let Some(node) = members.iter().find(is_waiting) {
        return Err(format!("{} has not become a voter", node.id));
    }
    let mut leaders = Vec::new();
    let Some(last) = ledger.last().map(|entry| entry.position) else {
        return Err("nothing was ever committed".to_owned());
    };
    for node in members {
        let process = node.process.as_ref().ok_or_else(|| format!("{} does not run", node.id))?;
        if !committed.has(node.id, process.identity.disk) {
            return Err(format!("{} has another disk than {committed} says", node.id));
        }
        let replica = process.server.replica();
        let raft = replica.raft().ok_or_else(|| format!("{} has no cluster yet", node.id))?;
        if raft.configuration() != committed {
            return Err(format!("{} goes by {}, and {committed} is committed", node.id, raft.configuration()));
        }
        if raft.role() == RoleName::Leader {
            leaders.push(node.id);
        }
        let (end, commit) = (raft.log().last_position(), raft.commit_index());
        if end != last || commit != last.index || replica.applied_index() != last.index {
            return Err(format!(
                "{} has a log up to {end}, committed {commit}, applied {}, and not up to {last}",
                node.id,
                replica.applied_index()
            ));
        }
        if replica.machine().store() != ledger.replica() {
            return Err(format!("{} has another state than the log gives", node.id));
        }
    }
    match leaders.as_slice() {
        [_] => Ok(()),
        [] => Err("there is no leader".to_owned()),
        several => Err(format!("{several:?} all lead")),
    }
}
