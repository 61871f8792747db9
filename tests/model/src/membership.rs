//! What must hold of configurations in every state (§4.1 to §4.3), and what must come up.
//!
//! Who counts is worked out here once more, from what each member is: the protocol's own counting is what is judged.

use std::collections::BTreeSet;

use raft_core::{Configuration, Entry, LogIndex, NodeId, Payload, RoleName, Standing};

use crate::cluster::Cluster;
use crate::server::{Server, founders, initial_of, newcomer};

/// Who votes in C_old and who in C_new; the same unless the configuration is joint.
fn halves(configuration: &Configuration) -> [BTreeSet<NodeId>; 2] {
    let mut halves = [BTreeSet::new(), BTreeSet::new()];
    let [old, new] = &mut halves;
    for (id, _) in configuration.members() {
        match configuration.standing(id) {
            Some(Standing::Voter) => {
                old.insert(id);
                new.insert(id);
            }
            Some(Standing::Incoming) => drop(new.insert(id)),
            Some(Standing::Outgoing { .. }) => drop(old.insert(id)),
            Some(Standing::Learner { .. }) | None => {}
        }
    }
    halves
}

fn votes(configuration: &Configuration, id: NodeId) -> bool {
    halves(configuration).iter().any(|half| half.contains(&id))
}

/// Whether those for whom `holds` are a majority of both halves.
pub(crate) fn is_quorum(configuration: &Configuration, holds: impl Fn(NodeId) -> bool) -> bool {
    let is_majority = |half: &BTreeSet<NodeId>| 2 * half.iter().filter(|id| holds(**id)).count() > half.len();
    halves(configuration).iter().all(is_majority)
}

fn configuration_in(entry: &Entry) -> Option<(LogIndex, &Configuration)> {
    match &entry.payload {
        Payload::Configuration(configuration) => Some((entry.position.index, configuration)),
        Payload::Noop | Payload::Command(_) => None,
    }
}

/// The configurations that a server's log knows, from the one it began with.
fn known(server: &Server) -> Vec<(LogIndex, &Configuration)> {
    let initial = (LogIndex(0), initial_of(server.raft.id()));
    [initial].into_iter().chain(server.log().filter_map(configuration_in)).collect()
}

fn leaders(state: &Cluster) -> impl Iterator<Item = &Server> {
    state.servers().filter(|server| server.raft.role() == RoleName::Leader)
}

/// The configurations that were committed, in order, from the one the cluster was formed with.
fn committed(state: &Cluster) -> Vec<&Configuration> {
    let formed = founders().next().map(initial_of);
    let entries = state.history.committed.iter().map(|known| &known.entry);
    formed.into_iter().chain(entries.filter_map(configuration_in).map(|(_, configuration)| configuration)).collect()
}

// --- what must hold ----------------------------------------------------------------------------------------------

/// The latest configuration in the log is in effect, committed or not (§4.1).
pub(crate) fn follows_the_log(state: &Cluster) -> bool {
    let is_latest = |server: &Server| {
        let latest = (server.raft.configuration_index(), server.raft.configuration());
        known(server).last() == Some(&latest)
    };
    state.servers().all(is_latest)
}

/// A leader votes in its latest configuration, or in the one before while the latest is not committed (§4.2.2).
pub(crate) fn voters_lead(state: &Cluster) -> bool {
    let may_lead = |leader: &Server| {
        let known = known(leader);
        let mut latest = known.iter().rev();
        let current = latest.next();
        let before = latest.next().filter(|_| leader.raft.configuration_index() > leader.raft.commit_index());
        current.into_iter().chain(before).any(|(_, configuration)| votes(configuration, leader.raft.id()))
    };
    leaders(state).all(may_lead)
}

/// A leader that has committed an entry of its own term has one configuration at most that is not committed (rule 12).
pub(crate) fn changes_come_one_by_one(state: &Cluster) -> bool {
    let is_one = |leader: &Server| {
        let commit = leader.raft.commit_index();
        let last = leader.raft.log().entry(commit).map(|entry| entry.position.term);
        let open = known(leader).into_iter().filter(|(index, _)| *index > commit);
        last != Some(leader.raft.term()) || open.count() <= 1
    };
    leaders(state).all(is_one)
}

/// From one committed configuration to the next the voters change by half a joint step, or not at all (§4.3).
pub(crate) fn changes_are_joint(state: &Cluster) -> bool {
    let line: Vec<[BTreeSet<NodeId>; 2]> = committed(state).into_iter().map(halves).collect();
    line.iter().zip(line.iter().skip(1)).all(|([old, new], [next_old, next_new])| {
        // A joint one gives way to its C_new alone, any other is C_old of the next.
        new == next_old && (old == new || next_old == next_new)
    })
}

// --- what must come up -------------------------------------------------------------------------------------------

pub(crate) fn commits_joint(state: &Cluster) -> bool {
    committed(state).iter().any(|configuration| configuration.is_joint())
}

/// n4 has voted for another, who counts it.
pub(crate) fn newcomer_votes(state: &Cluster) -> bool {
    let chosen = state.servers().find(|server| server.raft.id() == newcomer()).map(|server| server.raft.hard_state());
    let candidate = chosen.and_then(|hard_state| hard_state.voted_for).filter(|candidate| *candidate != newcomer());
    candidate.is_some_and(|candidate| votes(state.server(candidate).raft.configuration(), newcomer()))
}

pub(crate) fn newcomer_leads(state: &Cluster) -> bool {
    leaders(state).any(|leader| leader.raft.id() == newcomer())
}

/// A server that led is in the latest committed configuration no more.
pub(crate) fn leader_leaves(state: &Cluster) -> bool {
    let is_out = |id: NodeId| committed(state).last().is_some_and(|configuration| configuration.member(id).is_none());
    state.history.leaders.iter().any(|(_, id)| is_out(*id))
}

/// A log gives up a configuration that it held.
pub(crate) fn configuration_is_lost(state: &Cluster) -> bool {
    let loses = |server: &Server| {
        let from = server.under_way.iter().find_map(|write| write.truncate_from);
        let mut held = server.disk.entries.iter().filter_map(configuration_in);
        from.is_some_and(|from| held.any(|(index, _)| index >= from))
    };
    state.servers().any(loses)
}
