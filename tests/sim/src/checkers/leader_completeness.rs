//! Leader Completeness (Figure 3.2): what is committed in a term is in the logs of the leaders of all later terms.

use raft_core::{LogIndex, RoleName};

use super::ledger::Ledger;
use super::{Turn, Verdict};

/// Keeps nothing: the ledger knows what is committed.
#[derive(Debug)]
pub(crate) struct LeaderCompleteness;

impl LeaderCompleteness {
    pub(crate) fn observe(&self, turn: &Turn<'_>, ledger: &Ledger) -> Verdict {
        let Some(raft) = turn.raft() else { return Ok(()) };
        if turn.elections().next().is_none() || raft.role() != RoleName::Leader {
            return Ok(());
        }
        // With Log Matching, the last committed entry of an earlier term stands for all before it.
        let Some(last) = ledger.last_committed_before(raft.term()) else { return Ok(()) };
        // What a snapshot covers is compared by the state it holds.
        if last.index < raft.log().base().index || raft.log().position(last.index) == Some(last) {
            return Ok(());
        }
        let ours = raft.log().position(last.index).map_or(LogIndex(0), |position| position.index);
        Err(format!(
            "n{} leads term {} without entry {last}, which is committed (its own there: {ours}, its log ends at {})",
            turn.node + 1,
            raft.term(),
            raft.log().last_position()
        ))
    }
}
