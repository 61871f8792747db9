//! Leader Append-Only (Figure 3.2): a leader never overwrites or deletes entries in its log.

use raft_core::{LogPosition, RoleName, Term};

use super::{Turn, Verdict};

/// Where each leader's log ended when it was last looked at.
#[derive(Debug)]
pub(crate) struct LeaderAppendOnly {
    seen: Vec<Option<(Term, LogPosition)>>,
}

impl LeaderAppendOnly {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { seen: vec![None; nodes] }
    }

    pub(crate) fn forget(&mut self, node: usize) {
        if let Some(seen) = self.seen.get_mut(node) {
            *seen = None;
        }
    }

    pub(crate) fn observe(&mut self, turn: &Turn<'_>) -> Verdict {
        let (Some(raft), Some(seen)) = (turn.raft(), self.seen.get_mut(turn.node)) else { return Ok(()) };
        if raft.role() != RoleName::Leader {
            *seen = None;
            return Ok(());
        }
        if let Some((term, last)) = *seen
            && term == raft.term()
            && last.index >= raft.log().base().index
            && raft.log().position(last.index) != Some(last)
        {
            return Err(format!("n{} leads term {term} and no longer has its entry {last}", turn.node + 1));
        }
        *seen = Some((raft.term(), raft.log().last_position()));
        Ok(())
    }
}
