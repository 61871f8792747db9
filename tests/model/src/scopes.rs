//! What is searched: each scope allows a few things a few times.

use raft_core::MemberChange;

use crate::server::{founders, member, newcomer};

/// What may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    pub(crate) timeouts: u8,
    pub(crate) heartbeats: u8,
    pub(crate) waits: u8,
    pub(crate) proposals: u8,
    /// What is asked of leaders about the membership, in this order.
    pub(crate) wishes: &'static [Wish],
    pub(crate) transfers: u8,
    pub(crate) crashes: u8,
    pub(crate) losses: u8,
    pub(crate) duplicates: u8,
}

/// What is asked of a leader about the membership. One that refuses may be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wish {
    /// Take n4 in, as a learner.
    TakeIn,
    /// Give n4 a vote.
    Promote,
    /// Leave n1 out, which leads at first.
    Remove,
    /// Both, in one change.
    Exchange,
}

impl Wish {
    pub(crate) fn changes(self) -> Vec<MemberChange> {
        let promotion = MemberChange::Promote { id: newcomer() };
        let removal = founders().next().map(|id| MemberChange::Remove { id });
        match self {
            Self::TakeIn => {
                let id = newcomer();
                vec![MemberChange::AddLearner { id, member: member(id), becomes_voter: false }]
            }
            Self::Promote => vec![promotion],
            Self::Remove => removal.into_iter().collect(),
            Self::Exchange => [promotion].into_iter().chain(removal).collect(),
        }
    }
}

/// Some of all that can happen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    pub(crate) name: &'static str,
    pub(crate) start: Start,
    /// How often each thing happens at most.
    pub(crate) budget: Budget,
    /// A state in which some server's log is longer is not looked into.
    pub(crate) longest_log: u64,
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
    /// n1 leads term 1 and has committed its first entry. T has passed since at the others, so they would vote for another.
    Led,
    /// The same, and n4 is there, with an empty log and a configuration of nobody.
    Newcomer,
    /// And it is a learner, and has caught up.
    Learner,
}

/// How much of a scope is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Every state.
    Whole,
    /// It is too large. So many searches, each of a region of its own and so many states, seen before or not.
    Regions { count: u64, states: usize },
}

/// Terms go no further than this in any scope; a state beyond is not looked into.
pub(crate) const LAST_TERM: u64 = 3;

const NOTHING: Budget = Budget {
    timeouts: 0,
    heartbeats: 0,
    waits: 0,
    proposals: 0,
    wishes: &[],
    transfers: 0,
    crashes: 0,
    losses: 0,
    duplicates: 0,
};

/// From small to large.
pub(crate) const SCOPES: &[Scope] = &[
    // One leader, one command, one crash at any moment.
    Scope {
        name: "command",
        start: Start::Fresh,
        budget: Budget { timeouts: 1, proposals: 1, crashes: 1, ..NOTHING },
        longest_log: 3,
        extent: Extent::Whole,
    },
    // Two servers stand, one after the other or at once.
    Scope {
        name: "elections",
        start: Start::Fresh,
        budget: Budget { timeouts: 2, ..NOTHING },
        longest_log: 3,
        extent: Extent::Whole,
    },
    // One leader, and each fault once.
    Scope {
        name: "faults",
        start: Start::Fresh,
        budget: Budget { timeouts: 1, crashes: 1, losses: 1, duplicates: 1, ..NOTHING },
        longest_log: 3,
        extent: Extent::Whole,
    },
    // Two servers stand, and the old leader's command may be under way.
    Scope {
        name: "handover",
        start: Start::Fresh,
        budget: Budget { timeouts: 2, proposals: 1, ..NOTHING },
        longest_log: 3,
        extent: Extent::Regions { count: 4, states: 5_000_000 },
    },
    // Two servers stand, and one crashes: what it voted, what it wrote.
    Scope {
        name: "crash",
        start: Start::Fresh,
        budget: Budget { timeouts: 2, crashes: 1, ..NOTHING },
        longest_log: 3,
        extent: Extent::Regions { count: 4, states: 5_000_000 },
    },
    // Logs that part, and the third term.
    Scope {
        name: "partings",
        start: Start::TwoTermsIn,
        budget: Budget { timeouts: 2, ..NOTHING },
        longest_log: 3,
        extent: Extent::Whole,
    },
    // Everything at once, in three terms.
    Scope {
        name: "everything",
        start: Start::Fresh,
        budget: Budget {
            timeouts: 3,
            heartbeats: 1,
            waits: 1,
            proposals: 2,
            crashes: 1,
            losses: 1,
            duplicates: 1,
            ..NOTHING
        },
        longest_log: 3,
        extent: Extent::Regions { count: 20, states: 1_500_000 },
    },
    // n1 hands over, or takes the leadership back and goes on, while a successor may still hear the word to stand.
    Scope {
        name: "transfer",
        start: Start::Led,
        budget: Budget { waits: 1, proposals: 1, transfers: 1, ..NOTHING },
        longest_log: 4,
        extent: Extent::Regions { count: 4, states: 1_500_000 },
    },
    // The leader of three leaves itself out, and another stands meanwhile: the change is lost, or goes on in the next term.
    Scope {
        name: "removal",
        start: Start::Led,
        budget: Budget { timeouts: 1, wishes: &[Wish::Remove], ..NOTHING },
        longest_log: 4,
        extent: Extent::Whole,
    },
    // A server comes, from its first word to its vote.
    Scope {
        name: "addition",
        start: Start::Newcomer,
        budget: Budget { wishes: &[Wish::TakeIn, Wish::Promote], ..NOTHING },
        longest_log: 6,
        extent: Extent::Whole,
    },
    // It takes the place of the leader, which hands over as soon as it is out.
    Scope {
        name: "exchange",
        start: Start::Learner,
        budget: Budget { wishes: &[Wish::Exchange], ..NOTHING },
        longest_log: 6,
        extent: Extent::Regions { count: 4, states: 1_500_000 },
    },
    // Another server stands meanwhile, in either configuration.
    Scope {
        name: "contest",
        start: Start::Learner,
        budget: Budget { timeouts: 1, wishes: &[Wish::Exchange], ..NOTHING },
        longest_log: 6,
        extent: Extent::Regions { count: 4, states: 1_500_000 },
    },
    // All that can happen to a membership: n4 comes, votes, and n1 goes.
    Scope {
        name: "membership",
        start: Start::Newcomer,
        budget: Budget {
            timeouts: 1,
            heartbeats: 1,
            waits: 1,
            proposals: 1,
            wishes: &[Wish::TakeIn, Wish::Promote, Wish::Remove],
            transfers: 1,
            crashes: 1,
            losses: 1,
            duplicates: 1,
        },
        longest_log: 9,
        extent: Extent::Regions { count: 4, states: 1_500_000 },
    },
];
