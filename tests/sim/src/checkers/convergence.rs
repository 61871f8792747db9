//! Liveness (the second phase of every run): once all faults have ended, the servers elect a leader, agree on one log and
//! one state without any new command, and then serve clients at every server, all within bounded time.

use raft_core::RoleName;

use super::Verdict;
use super::ledger::Ledger;
use crate::node::{Fate, Node};

/// Whether the servers with sound disks agree.
pub(crate) fn check_agreed(nodes: &[Node], ledger: &Ledger) -> Verdict {
    let sound: Vec<&Node> = nodes.iter().filter(|node| node.fate == Fate::Sound).collect();
    let mut leaders = Vec::new();
    let Some(last) = ledger.last().map(|entry| entry.position) else {
        return Err("nothing was ever committed".to_owned());
    };
    for node in sound {
        let process = node.process.as_ref().ok_or_else(|| format!("{} does not run", node.id))?;
        let replica = process.server.replica();
        let raft = replica.raft().ok_or_else(|| format!("{} has no cluster yet", node.id))?;
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
        if replica.machine().store() != ledger.reference() {
            return Err(format!("{} has another state than the log gives", node.id));
        }
    }
    match leaders.as_slice() {
        [_] => Ok(()),
        [] => Err("there is no leader".to_owned()),
        several => Err(format!("{several:?} all lead")),
    }
}
