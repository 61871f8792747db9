//! Requests to transfer the leadership (§3.10) that have no answer yet.

use std::collections::BTreeMap;

use raft_core::{Instant, NodeId, Term};

use crate::answer::{Leadership, Origin};

/// How many such requests may be under way at most; more are refused as `Overloaded`.
const MAX_TRANSFERS_UNDER_WAY: usize = 64;

/// A request that this server, as leader, has begun to fulfil.
#[derive(Debug)]
struct Begun<W> {
    origin: Origin<W>,
    to: Option<NodeId>,
    /// The term that this server hands over.
    term: Term,
    deadline: Instant,
}

/// A request that was passed on to the leader.
#[derive(Debug)]
struct Forwarded<W> {
    leader: NodeId,
    origin: Origin<W>,
    deadline: Instant,
}

/// All transfers this server answers for.
#[derive(Debug)]
pub(crate) struct Transfers<W> {
    begun: Vec<Begun<W>>,
    /// By the number they were sent under.
    forwarded: BTreeMap<u64, Forwarded<W>>,
}

impl<W> Default for Transfers<W> {
    fn default() -> Self {
        Self { begun: Vec::new(), forwarded: BTreeMap::new() }
    }
}

impl<W> Transfers<W> {
    /// How many are not answered yet.
    pub(crate) fn count(&self) -> usize {
        self.begun.len() + self.forwarded.len()
    }

    /// Whether there is no room for another one.
    pub(crate) fn is_full(&self) -> bool {
        self.count() >= MAX_TRANSFERS_UNDER_WAY
    }

    /// Notes that this leader, in `term`, hands over for `origin`.
    pub(crate) fn note_begun(&mut self, origin: Origin<W>, to: Option<NodeId>, term: Term, deadline: Instant) {
        self.begun.push(Begun { origin, to, term, deadline });
    }

    /// Notes that a request goes to the leader, and under which number.
    pub(crate) fn note_forwarded(&mut self, id: u64, leader: NodeId, origin: Origin<W>, deadline: Instant) {
        self.forwarded.insert(id, Forwarded { leader, origin, deadline });
    }

    /// Somebody leads a new term: who asked for it, and whether that is the leader wanted.
    pub(crate) fn take_decided(&mut self, own: NodeId, now_leads: Leadership) -> Vec<(Origin<W>, bool)> {
        let Leadership { leader, term } = now_leads;
        let decided = self.begun.extract_if(.., |begun| begun.term < term);
        decided.map(|begun| (begun.origin, leader != own && begun.to.is_none_or(|to| to == leader))).collect()
    }

    /// This leader did not hand over.
    pub(crate) fn take_begun(&mut self) -> Vec<Origin<W>> {
        std::mem::take(&mut self.begun).into_iter().map(|begun| begun.origin).collect()
    }

    /// The request with this number needs the server it was sent to no longer.
    pub(crate) fn take_forwarded(&mut self, leader: NodeId, id: u64) -> Option<Origin<W>> {
        if self.forwarded.get(&id)?.leader != leader {
            return None;
        }
        self.forwarded.remove(&id).map(|forwarded| forwarded.origin)
    }

    /// What was passed on to `leader` will get no answer.
    pub(crate) fn take_forwarded_to(&mut self, leader: NodeId) -> Vec<Origin<W>> {
        self.forwarded.extract_if(.., |_, forwarded| forwarded.leader == leader).map(|(_, lost)| lost.origin).collect()
    }

    /// What has not been answered by its deadline.
    pub(crate) fn take_overdue(&mut self, now: Instant) -> Vec<Origin<W>> {
        let begun = self.begun.extract_if(.., |begun| begun.deadline <= now).map(|begun| begun.origin);
        let forwarded = self.forwarded.extract_if(.., |_, forwarded| forwarded.deadline <= now);
        begun.chain(forwarded.map(|(_, forwarded)| forwarded.origin)).collect()
    }

    /// All of them.
    pub(crate) fn take_all(&mut self) -> Vec<Origin<W>> {
        let forwarded = std::mem::take(&mut self.forwarded).into_values().map(|forwarded| forwarded.origin);
        self.take_begun().into_iter().chain(forwarded).collect()
    }
}
