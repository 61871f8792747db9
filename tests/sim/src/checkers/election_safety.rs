//! Election Safety (Figure 3.2): at most one leader is elected in a term.

use std::collections::BTreeMap;

use kv_store::api::Leadership;
use raft_core::Term;

use super::{Turn, Verdict};

/// Who led each term.
#[derive(Debug, Default)]
pub(crate) struct ElectionSafety {
    leaders: BTreeMap<Term, (usize, u64)>,
}

impl ElectionSafety {
    /// Judges what a client was told.
    pub(crate) fn check_answer(&self, told: Leadership) -> Verdict {
        let Leadership { leader, term } = told;
        match self.leaders.get(&Term(term)) {
            Some((node, _)) if *node as u64 + 1 == leader => Ok(()),
            Some((node, _)) => Err(format!("n{leader} is said to lead term {term}, but n{} does", node + 1)),
            None => Err(format!("n{leader} is said to lead term {term}, but nobody was elected in it")),
        }
    }

    pub(crate) fn observe(&mut self, turn: &Turn<'_>) -> Verdict {
        let ours = (turn.node, turn.number);
        for term in turn.elections() {
            let leader = *self.leaders.entry(term).or_insert(ours);
            // The same server in another incarnation is another leader too.
            if leader != ours {
                return Err(format!("n{} and n{} both lead term {term}", leader.0 + 1, ours.0 + 1));
            }
        }
        Ok(())
    }
}
