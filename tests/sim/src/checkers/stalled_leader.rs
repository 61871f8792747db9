//! A leader whose disk stands still does not lead on while the others could do better (F9).
//!
//! A disk stands still as long as the durable end of the log stays where it is, though the log goes on. What counts is the
//! time in which a majority without the leader is *fit*: it runs, is reached, has disks that work, and has on them what the
//! leader's disk owes, as the leader knows. Whenever it is not, the time begins anew; and a leader that stands still itself
//! is not blamed for that.

use raft_core::{LogIndex, RoleName, Term};

use super::{Turn, Verdict};
use crate::time::{MILLIS, Time};
use crate::world::place_of;

/// How many longest election timeouts it may lead.
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

/// What the world knows besides. The durations are those of the settings, by the true clock.
pub(crate) struct Surroundings<'a> {
    pub(crate) now: Time,
    pub(crate) heartbeat: Time,
    pub(crate) election_timeout_max: Time,
    /// Whether a server runs, is reached by this one, and has a disk that works.
    pub(crate) is_fit: &'a dyn Fn(usize) -> bool,
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

    pub(crate) fn observe(&mut self, turn: &Turn<'_>, surroundings: &Surroundings<'_>) -> Verdict {
        let nodes = self.stalls.len();
        let (Some(raft), Some(stall)) = (turn.raft(), self.stalls.get_mut(turn.node)) else { return Ok(()) };
        let (term, durable, owed) = (raft.term(), raft.durable_index(), raft.log().last_index());
        if raft.role() != RoleName::Leader || durable == owed {
            *stall = None;
            return Ok(());
        }
        let Surroundings { now, heartbeat, election_timeout_max, is_fit } = *surroundings;
        let known = stall.take_if(|stall| (stall.term, stall.durable) == (term, durable));
        let known = known.unwrap_or(Stall { term, durable, owed, looked: now, lasted: 0 });
        let matched = raft.matched().into_iter().filter(|(_, matched)| *matched >= known.owed);
        let fit = matched.filter(|(peer, _)| is_fit(place_of(*peer))).count();
        // A leader that is awake looks at each heartbeat.
        let passed = (now - known.looked).min(2 * heartbeat);
        let lasted = if fit * 2 > nodes { known.lasted + passed } else { 0 };
        *stall = Some(Stall { looked: now, lasted, ..known });
        if lasted <= MOST_TIMEOUTS * election_timeout_max {
            return Ok(());
        }
        let (name, lasted) = (turn.node + 1, lasted / MILLIS);
        Err(format!(
            "n{name} leads term {term} though its disk owes {owed} after {durable}, for {lasted} ms in which {fit} others could"
        ))
    }
}
