//! Linearizability of the store as a whole, as far as revisions show it (Herlihy & Wing 1990): what an operation sees is
//! not older than anything acknowledged before it began, and is exactly the committed state at the revision it names.

use bytes::Bytes;
use kv_store::{Answer, Found, Item, Query, Revision};

use super::Verdict;
use super::ledger::Ledger;

/// The newest revision that any client has been told of.
#[derive(Debug, Default)]
pub(crate) struct RealTime {
    known: Revision,
}

impl RealTime {
    /// What an operation that begins now must see at least.
    pub(crate) const fn floor(&self) -> Revision {
        self.known
    }

    /// An operation that began at `floor` has ended with `revision`. Local reads are no news to anybody.
    pub(crate) fn ended(&mut self, floor: Revision, revision: Revision, what: &str) -> Verdict {
        if revision < floor {
            return Err(format!("{what} is answered at revision {revision}, though {floor} was known before it began"));
        }
        self.known = self.known.max(revision);
        Ok(())
    }

    /// An answer is the state at its revision.
    pub(crate) fn check_answer(ledger: &Ledger, query: &Query, answer: &Answer) -> Verdict {
        if answer.revision > ledger.reference().revision() {
            return Err(format!("a read is answered at revision {}, which is not committed", answer.revision));
        }
        match (query, &answer.found) {
            (Query::Get { key }, Found::Value(found)) => {
                let expected = ledger.reference().get_at(key, answer.revision);
                if *found == expected {
                    Ok(())
                } else {
                    Err(differs(key, answer.revision, found.as_ref(), expected.as_ref()))
                }
            }
            (Query::Scan { prefix, from, limit, .. }, Found::Items { items, next }) => {
                let mut expected = ledger.scan(prefix, answer.revision);
                if let Some(from) = from {
                    expected.retain(|item| item.key >= *from);
                }
                let limit = usize::try_from(*limit).unwrap_or(usize::MAX);
                let rest = expected.split_off(limit.min(expected.len()));
                if *items == expected && next.as_ref() == rest.first().map(|item| &item.key) {
                    Ok(())
                } else {
                    Err(format!("a scan at revision {} found {items:?} instead of {expected:?}", answer.revision))
                }
            }
            _ => Err("a read is answered with something else".to_owned()),
        }
    }
}

/// A client that has seen `newest` and then reads locally, at any server, is shown no less.
pub(crate) fn check_local(newest: Revision, revision: Revision) -> Verdict {
    if revision < newest {
        return Err(format!("a local read is answered at revision {revision}, though its client had seen {newest}"));
    }
    Ok(())
}

fn differs(key: &Bytes, revision: Revision, found: Option<&Item>, expected: Option<&Item>) -> String {
    format!("key {key:?} at revision {revision} is {expected:?}, and was read as {found:?}")
}
