//! Terms never go back on a server, not across restarts either; commit and applied index never within a start.

use raft_core::{LogIndex, Term};
use raft_node::PeerMessage;

use super::{Turn, Verdict};

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// The highest term it has said to anybody.
    said: Term,
    term: Term,
    commit: LogIndex,
    applied: LogIndex,
}

/// The latest of each server.
#[derive(Debug)]
pub(crate) struct Monotone {
    seen: Vec<Seen>,
}

impl Monotone {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { seen: vec![Seen::default(); nodes] }
    }

    /// A restart forgets what was never said, and what memory alone knew.
    pub(crate) fn begin(&mut self, node: usize) {
        if let Some(seen) = self.seen.get_mut(node) {
            *seen = Seen { said: seen.said, term: seen.said, ..Seen::default() };
        }
    }

    /// The server has another disk, which never was in any term.
    pub(crate) fn forget(&mut self, node: usize) {
        if let Some(seen) = self.seen.get_mut(node) {
            *seen = Seen::default();
        }
    }

    pub(crate) fn observe(&mut self, turn: &Turn<'_>) -> Verdict {
        let (Some(raft), Some(seen)) = (turn.raft(), self.seen.get_mut(turn.node)) else { return Ok(()) };
        let name = turn.node + 1;
        let (term, commit) = (raft.term(), raft.commit_index());
        let applied = turn.server.replica().applied_index();
        if term < seen.term {
            return Err(format!("n{name} is in term {term} after term {}", seen.term));
        }
        if commit < seen.commit || applied < seen.applied {
            return Err(format!(
                "n{name} has commit {commit} after {}, applied {applied} after {}",
                seen.commit, seen.applied
            ));
        }
        if applied > commit {
            return Err(format!("n{name} has applied {applied} and committed {commit} only"));
        }
        for (_, message) in &turn.orders.messages {
            if let PeerMessage::Raft(message) = message {
                seen.said = seen.said.max(message.term);
            }
        }
        (seen.term, seen.commit, seen.applied) = (term, commit, applied);
        Ok(())
    }
}
