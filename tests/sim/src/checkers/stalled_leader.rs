//! A leader whose disk stands still does not lead on while the others could do better (F9).
//!
//! A disk stands still as long as the durable end of the log stays where it is, though the log goes on. What counts is the
//! time in which a majority without the leader is *fit*: it runs, is reached, has disks that work, and has on them what the
//! leader's disk owes, as the leader knows. Whenever it is not, the time begins anew; and a leader that stands still itself
//! is not blamed for that.

use raft_core::{Configuration, Half, LogIndex, NodeId, RoleName, Term};

use super::{Turn, Verdict};
use crate::network::Network;
use crate::node::Node;
use crate::scenario::Settings;
use crate::time::{MILLIS, Time};
use crate::world::place_of;

/// How many longest election timeouts (each twice the shortest) it may lead.
const MOST_TIMEOUTS: u64 = 5;

/// A leader's disk that stands still.
#[derive(Clone, Copy, Debug)]
struct Stall {
    term: Term,
    durable: LogIndex,
    /// What the disk owes.
    owed: LogIndex,
    looked: Time,
    /// For how long the others have been fit.
    lasted: Time,
}

/// The stalls of all servers.
#[derive(Debug)]
pub(crate) struct StalledLeader {
    stalls: Vec<Option<Stall>>,
}

/// What there is besides the server that takes a turn.
#[derive(Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    pub(crate) now: Time,
    pub(crate) nodes: &'a [Node],
    pub(crate) network: &'a Network,
    pub(crate) settings: &'a Settings,
}

impl Surroundings<'_> {
    /// Whether `other` runs, is reached by `node` both ways, and has a disk that works.
    fn has_fit(&self, node: usize, other: usize) -> bool {
        self.nodes.get(other).is_some_and(|machine| machine.is_fit(self.now)) && self.network.is_open(node, other)
    }
}

impl StalledLeader {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { stalls: vec![None; nodes] }
    }

    pub(crate) fn forget(&mut self, node: usize) {
        if let Some(stall) = self.stalls.get_mut(node) {
            *stall = None;
        }
    }

    pub(crate) fn observe(&mut self, turn: &Turn<'_>, surroundings: Surroundings<'_>) -> Verdict {
        let (Some(raft), Some(stall)) = (turn.raft(), self.stalls.get_mut(turn.node)) else { return Ok(()) };
        let (term, durable, owed) = (raft.term(), raft.durable_index(), raft.log().last_index());
        if raft.role() != RoleName::Leader || durable == owed {
            *stall = None;
            return Ok(());
        }
        let Surroundings { now, settings, .. } = surroundings;
        let known = stall.take_if(|stall| (stall.term, stall.durable) == (term, durable));
        let known = known.unwrap_or(Stall { term, durable, owed, looked: now, lasted: 0 });
        let matched = raft.matched().into_iter().filter(|(_, matched)| *matched >= known.owed);
        let fit: Vec<NodeId> =
            matched.map(|(peer, _)| peer).filter(|peer| surroundings.has_fit(turn.node, place_of(*peer))).collect();
        // A leader that is awake looks at each heartbeat.
        let passed = (now - known.looked).min(2 * settings.heartbeat_ms * MILLIS);
        let could = [Half::Old, Half::New].into_iter().all(|half| are_majority(raft.configuration(), half, &fit));
        let lasted = if could { known.lasted + passed } else { 0 };
        *stall = Some(Stall { looked: now, lasted, ..known });
        if lasted <= MOST_TIMEOUTS * 2 * settings.election_timeout_ms * MILLIS {
            return Ok(());
        }
        let (name, lasted) = (turn.node + 1, lasted / MILLIS);
        Err(format!(
            "n{name} leads term {term} though its disk owes {owed} after {durable}, for {lasted} ms in which {fit:?} could"
        ))
    }
}

fn are_majority(configuration: &Configuration, half: Half, servers: &[NodeId]) -> bool {
    let voters = configuration.standings().filter(|(_, _, standing)| standing.votes_in(half));
    let voters: Vec<NodeId> = voters.map(|(id, _, _)| id).collect();
    voters.iter().filter(|voter| servers.contains(voter)).count() * 2 > voters.len()
}
