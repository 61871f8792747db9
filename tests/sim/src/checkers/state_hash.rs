//! Equal state at equal index (rule 10): every server's state is that of the committed log up to what it has applied; and so
//! is how far back its history reaches, and what that costs (rule 9).

use super::ledger::{Ledger, Mark};
use super::{Turn, Verdict};

/// Keeps nothing: the ledger knows the hash after each entry.
#[derive(Debug)]
pub(crate) struct StateHashes;

impl StateHashes {
    pub(crate) fn observe(&self, turn: &Turn<'_>, ledger: &Ledger) -> Verdict {
        let replica = turn.server.replica();
        let applied = replica.applied_index();
        let mark = Mark::of(replica.machine().store());
        match ledger.mark(applied) {
            Some(expected) if expected == mark => Ok(()),
            Some(expected) => Err(format!("n{} has {mark:?} at {applied}, the log gives {expected:?}", turn.node + 1)),
            None => Err(format!("n{} has applied {applied}, which nobody has committed", turn.node + 1)),
        }
    }
}
