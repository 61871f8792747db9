//! Committing entries from previous terms (§3.6.2, Figure 8): a leader commits by counting replicas only entries of its own
//! term; those before are committed with them.
//!
//! The harm that breaking the rule does needs a rare chain of elections; the breach itself is seen at once.

use raft_core::{LogIndex, RoleName, Term};

use super::{Turn, Verdict};

/// How far each leader had committed when it was last looked at.
#[derive(Debug)]
pub(crate) struct CommitRule {
    seen: Vec<Option<(u64, Term, LogIndex)>>,
}

impl CommitRule {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { seen: vec![None; nodes] }
    }

    pub(crate) fn observe(&mut self, turn: &Turn<'_>) -> Verdict {
        let (Some(raft), Some(seen)) = (turn.raft(), self.seen.get_mut(turn.node)) else { return Ok(()) };
        if raft.role() != RoleName::Leader {
            *seen = None;
            return Ok(());
        }
        let (term, commit) = (raft.term(), raft.commit_index());
        if let Some((number, before_term, before)) = *seen
            && (number, before_term) == (turn.number, term)
            && commit > before
            && raft.log().position(commit).is_some_and(|position| position.term != term)
        {
            return Err(format!(
                "n{} leads term {term} and commits {commit}, an entry of another term, by itself",
                turn.node + 1
            ));
        }
        *seen = Some((turn.number, term, commit));
        Ok(())
    }
}
