//! What can happen next in a state, as stateright asks it.

use std::fmt;

use clap::ValueEnum;
use raft_core::{NodeId, RoleName, WriteNumber};
use stateright::{Model, Property};

use crate::cluster::{Cluster, Envelope};
use crate::hashed::Hashed;
use crate::properties;
use crate::scopes::{LAST_TERM, Scope, Wish};
use crate::server::{Server, TIMEOUT};
use crate::starts;

/// All that can happen in a scope.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RaftModel {
    pub(crate) scope: Scope,
    pub(crate) plant: Plant,
    /// In which order a search looks at what can happen: a search that does not get to its end stays where it began.
    pub(crate) region: u64,
}

/// A bug of the driver, for the search to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Plant {
    Nothing,
    /// Writes are confirmed before the disk has them.
    ConfirmsBeforeTheDisk,
    /// A restarted server does not know whom it voted for.
    ForgetsItsVote,
    /// A restarted server has lost an entry that was on its disk.
    LosesItsLastEntry,
}

/// One thing that happens.
#[derive(Clone, PartialEq)]
pub(crate) enum Action {
    /// A message arrives; which one of all on their way is open, so they overtake each other.
    Deliver(Hashed<Envelope>),
    /// It arrives, and will arrive again.
    DeliverTwice(Hashed<Envelope>),
    Lose(Hashed<Envelope>),
    /// A server's timer runs out: it stands for election, or as a leader makes itself heard.
    Timeout(NodeId),
    /// T passes at a server.
    Wait(NodeId),
    Propose(NodeId),
    /// A leader is asked for another membership.
    Change(NodeId, Wish),
    /// A leader is asked to hand over, to whoever lacks least.
    Transfer(NodeId),
    /// A server's disk finishes the first write under way, and says so.
    Persist {
        server: NodeId,
        write: WriteNumber,
    },
    /// A server goes down and comes back; the first writes under way are on its disk all the same.
    Crash {
        server: NodeId,
        kept: usize,
    },
}

impl Model for RaftModel {
    type State = Cluster;
    type Action = Action;

    fn init_states(&self) -> Vec<Cluster> {
        vec![starts::begin(self.scope.start, self.scope.budget)]
    }

    fn actions(&self, state: &Cluster, actions: &mut Vec<Action>) {
        if state.history.panicked.is_some() {
            return;
        }
        let budget = &state.budget;
        for server in state.servers() {
            let id = server.raft.id();
            let is_leader = server.raft.role() == RoleName::Leader;
            if if is_leader { budget.heartbeats } else { budget.timeouts } > 0 {
                actions.push(Action::Timeout(id));
            }
            if budget.waits > 0 {
                actions.push(Action::Wait(id));
            }
            if is_leader && budget.proposals > 0 {
                actions.push(Action::Propose(id));
            }
            if is_leader && let Some(wish) = budget.wishes.first() {
                actions.push(Action::Change(id, *wish));
            }
            if is_leader && budget.transfers > 0 {
                actions.push(Action::Transfer(id));
            }
            if let Some(write) = server.under_way.first() {
                actions.push(Action::Persist { server: id, write: write.number });
            }
            if budget.crashes > 0 {
                actions.extend((0..=server.under_way.len()).map(|kept| Action::Crash { server: id, kept }));
            }
        }
        for envelope in state.messages() {
            actions.push(Action::Deliver(envelope.clone()));
            if budget.duplicates > 0 {
                actions.push(Action::DeliverTwice(envelope.clone()));
            }
            if budget.losses > 0 {
                actions.push(Action::Lose(envelope.clone()));
            }
        }
        if self.region > 0 && !actions.is_empty() {
            let turn = (self.region ^ state.key()).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
            let count = actions.len();
            actions.rotate_left(usize::try_from(turn).unwrap_or_default() % count);
        }
    }

    fn next_state(&self, last: &Cluster, action: Action) -> Option<Cluster> {
        let plant = self.plant;
        let mut state = last.clone();
        match action {
            Action::Deliver(envelope) => {
                state.take_off_the_network(&envelope);
                state.deliver(&envelope, plant);
            }
            Action::DeliverTwice(envelope) => {
                state.budget.duplicates -= 1;
                state.deliver(&envelope, plant);
            }
            Action::Lose(envelope) => {
                state.budget.losses -= 1;
                state.take_off_the_network(&envelope);
            }
            Action::Timeout(id) => {
                let raft = &last.server(id).raft;
                if raft.role() == RoleName::Leader {
                    state.budget.heartbeats -= 1;
                } else {
                    state.budget.timeouts -= 1;
                }
                state.tick(id, raft.next_wakeup(), plant);
            }
            Action::Wait(id) => {
                state.budget.waits -= 1;
                state.tick(id, last.server(id).now.after(TIMEOUT), plant);
            }
            Action::Propose(id) => {
                state.budget.proposals -= 1;
                state.propose(id, last.budget.proposals, plant);
            }
            Action::Change(id, wish) => {
                state.budget.wishes = last.budget.wishes.split_first().map_or(&[], |(_, rest)| rest);
                state.change(id, wish, plant);
                if state.server(id) == last.server(id) {
                    // Refused.
                    return None;
                }
            }
            Action::Transfer(id) => {
                state.budget.transfers -= 1;
                state.transfer(id, plant);
                if state.server(id) == last.server(id) {
                    return None;
                }
            }
            Action::Persist { server, .. } => state.persist(server, plant),
            Action::Crash { server, kept } => {
                state.budget.crashes -= 1;
                state.crash(server, kept, plant);
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }

    fn within_boundary(&self, state: &Cluster) -> bool {
        let is_within = |server: &Server| {
            server.raft.term().0 <= LAST_TERM && server.raft.log().last_index().0 <= self.scope.longest_log
        };
        state.servers().all(is_within)
    }
}

/// In the words of the scripts.
impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deliver(envelope) => write!(f, "{}", **envelope),
            Self::DeliverTwice(envelope) => write!(f, "{}, not for the last time", **envelope),
            Self::Lose(envelope) => write!(f, "lost: {}", **envelope),
            Self::Timeout(id) => write!(f, "{id}: its timer runs out"),
            Self::Wait(id) => write!(f, "{id}: T passes"),
            Self::Propose(id) => write!(f, "{id}: a client proposes a command"),
            Self::Change(id, wish) => write!(f, "{id}: asked for a change: {wish:?}"),
            Self::Transfer(id) => write!(f, "{id}: asked to hand over"),
            Self::Persist { server, write } => write!(f, "{server}: write #{} is on its disk", write.0),
            Self::Crash { server, kept } => write!(f, "{server} crashes; {kept} of its writes under way were done"),
        }
    }
}
