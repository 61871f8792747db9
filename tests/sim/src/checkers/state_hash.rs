//! Equal state at equal index (rule 10): every server's state is that of the committed log up to what it has applied.

use super::ledger::Ledger;
use super::{Turn, Verdict};

/// Keeps nothing: the ledger knows the hash after each entry.
#[derive(Debug)]
pub(crate) struct StateHashes;

impl StateHashes {
    pub(crate) fn observe(&self, turn: &Turn<'_>, ledger: &Ledger) -> Verdict {
        let replica = turn.server.replica();
        let applied = replica.applied_index();
        let hash = replica.machine().store().state_hash();
        match ledger.hash(applied) {
            Some(expected) if expected == hash => Ok(()),
            Some(expected) => {
                Err(format!("n{} has state {hash} at {applied}, the log gives {expected}", turn.node + 1))
            }
            None => Err(format!("n{} has applied {applied}, which nobody has committed", turn.node + 1)),
        }
    }
}
