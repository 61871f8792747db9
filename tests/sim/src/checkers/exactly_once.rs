//! Exactly once, by what clients were told: no acknowledged write is lost, none is applied that certainly was not, and a
//! reply is that of the one time the write was applied.

use kv_store::{Outcome, Refusal};

use super::Verdict;
use super::ledger::{Ledger, WriteId};

/// What clients know for certain.
#[derive(Debug, Default)]
pub(crate) struct ExactlyOnce {
    acknowledged: Vec<(WriteId, Outcome)>,
    certainly_not: Vec<WriteId>,
}

impl ExactlyOnce {
    /// A write was acknowledged.
    pub(crate) fn acknowledged(&mut self, ledger: &Ledger, write: WriteId, outcome: &Outcome) -> Verdict {
        self.acknowledged.push((write, outcome.clone()));
        check_applied(ledger, &write, outcome)
    }

    /// A write was refused for what it asks.
    pub(crate) fn refused(ledger: &Ledger, write: WriteId, refusal: &Refusal) -> Verdict {
        match ledger.fate(&write).and_then(|fate| fate.refused.as_ref()) {
            Some(known) if known == refusal => Ok(()),
            known => Err(format!("write {} is refused ({refusal}), the log says {known:?}", write.1)),
        }
    }

    /// A write certainly was not applied, nor will it be.
    pub(crate) fn certainly_not(&mut self, ledger: &Ledger, write: WriteId) -> Verdict {
        self.certainly_not.push(write);
        check_not_applied(ledger, &write)
    }

    /// Nothing has changed at the end.
    pub(crate) fn check_at_end(&self, ledger: &Ledger) -> Verdict {
        for (write, outcome) in &self.acknowledged {
            check_applied(ledger, write, outcome)?;
        }
        for write in &self.certainly_not {
            check_not_applied(ledger, write)?;
        }
        Ok(())
    }
}

fn check_applied(ledger: &Ledger, write: &WriteId, outcome: &Outcome) -> Verdict {
    match ledger.fate(write).and_then(|fate| fate.applied.as_ref()) {
        Some(applied) if applied == outcome => Ok(()),
        Some(applied) => Err(format!("write {} was answered with {outcome:?}, and applied as {applied:?}", write.1)),
        None => Err(format!("write {} of {:x} is acknowledged and not in the committed log", write.1, write.0.0)),
    }
}

fn check_not_applied(ledger: &Ledger, write: &WriteId) -> Verdict {
    match ledger.fate(write).and_then(|fate| fate.applied.as_ref()) {
        None => Ok(()),
        Some(applied) => {
            Err(format!("write {} of {:x} was called certainly not applied, and is: {applied:?}", write.1, write.0.0))
        }
    }
}
