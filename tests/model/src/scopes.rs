//! What is searched: each scope allows a few things a few times.

use crate::cluster::Budget;

/// Some of all that can happen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    pub(crate) name: &'static str,
    pub(crate) start: Start,
    /// How often each thing happens at most.
    pub(crate) budget: Budget,
    pub(crate) extent: Extent,
}

/// Where a scope begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Empty logs, term 0; the first server to stand is n1.
    Fresh,
    /// Terms 1 and 2 were led by n1 and n2, whose first entries reached nobody else; then all went down. Who is elected next
    /// leads term 3, and at least one of the two entries is lost.
    TwoTermsIn,
}

/// How much of a scope is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Every state.
    Whole,
    /// It is too large. So many searches, each of a region of its own and so many states, seen before or not.
    Regions { count: u64, states: usize },
}

/// Terms and logs go no further than this in any scope; a state beyond is not looked into.
pub(crate) const LAST_TERM: u64 = 3;
pub(crate) const LONGEST_LOG: u64 = 3;

const NOTHING: Budget =
    Budget { timeouts: 0, heartbeats: 0, waits: 0, proposals: 0, crashes: 0, losses: 0, duplicates: 0 };

/// From small to large.
pub(crate) const SCOPES: &[Scope] = &[
    // One leader, one command, one crash at any moment.
    Scope {
        name: "command",
        start: Start::Fresh,
        budget: Budget { timeouts: 1, proposals: 1, crashes: 1, ..NOTHING },
        extent: Extent::Whole,
    },
    // Two servers stand, one after the other or at once.
    Scope { name: "elections", start: Start::Fresh, budget: Budget { timeouts: 2, ..NOTHING }, extent: Extent::Whole },
    // One leader, and each fault once.
    Scope {
        name: "faults",
        start: Start::Fresh,
        budget: Budget { timeouts: 1, crashes: 1, losses: 1, duplicates: 1, ..NOTHING },
        extent: Extent::Whole,
    },
    // Two servers stand, and the old leader's command may be under way.
    Scope {
        name: "handover",
        start: Start::Fresh,
        budget: Budget { timeouts: 2, proposals: 1, ..NOTHING },
        extent: Extent::Regions { count: 4, states: 5_000_000 },
    },
    // Two servers stand, and one crashes: what it voted, what it wrote.
    Scope {
        name: "crash",
        start: Start::Fresh,
        budget: Budget { timeouts: 2, crashes: 1, ..NOTHING },
        extent: Extent::Regions { count: 4, states: 5_000_000 },
    },
    // Logs that part, and the third term.
    Scope {
        name: "partings",
        start: Start::TwoTermsIn,
        budget: Budget { timeouts: 2, ..NOTHING },
        extent: Extent::Whole,
    },
    // Everything at once, in three terms.
    Scope {
        name: "everything",
        start: Start::Fresh,
        budget: Budget { timeouts: 3, heartbeats: 1, waits: 1, proposals: 2, crashes: 1, losses: 1, duplicates: 1 },
        extent: Extent::Regions { count: 20, states: 1_500_000 },
    },
];
