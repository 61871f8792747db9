//! What must hold in every state (Figure 3.2), and what must come up somewhere, so that the search has been worth it.

use raft_core::{Entry, Payload, RoleName};
use stateright::Property;

use crate::cluster::Cluster;
use crate::model::RaftModel;
use crate::server::Server;

/// A condition on a state.
type Condition = fn(&RaftModel, &Cluster) -> bool;

/// What must hold.
pub(crate) const HOLD: &[(&str, Condition)] = &[
    ("Election Safety", |_, state| elects_safely(state)),
    ("Log Matching", |_, state| logs_match(state)),
    ("Leader Completeness", |_, state| leaders_are_complete(state)),
    ("State Machine Safety", |_, state| state.history.conflict.is_none()),
    ("Committed is on the disks of a majority", |_, state| is_on_disks(state)),
    ("No assertion fails", |_, state| state.history.panicked.is_none()),
];

/// What must come up in some state of some scope.
pub(crate) const COME_UP: &[(&str, Condition)] = &[
    ("a command is committed", |_, state| {
        state.history.committed.iter().any(|(entry, _)| matches!(entry.payload, Payload::Command(_)))
    }),
    ("two servers lead at once", |_, state| leading(state).count() > 1),
    ("a commitment outlives its leader's term", |_, state| {
        let last_led = state.history.leaders.last().map(|(term, _)| *term);
        state.history.committed.first().is_some_and(|(_, term)| last_led > Some(*term))
    }),
    ("a log loses its end", |_, state| {
        state.servers().any(|server| server.under_way.iter().any(|write| write.truncate_from.is_some()))
    }),
    ("two terms have leaders", |_, state| state.history.leaders.len() > 1),
    ("three terms have leaders", |_, state| state.history.leaders.len() > 2),
];

pub(crate) fn all() -> Vec<Property<RaftModel>> {
    let hold = HOLD.iter().map(|&(name, condition)| Property::always(name, condition));
    let come_up = COME_UP.iter().map(|&(name, condition)| Property::sometimes(name, condition));
    hold.chain(come_up).collect()
}

/// At most one leader a term (§3.4), counting those that lead no more.
fn elects_safely(state: &Cluster) -> bool {
    let leaders = &state.history.leaders;
    leaders.iter().zip(leaders.iter().skip(1)).all(|((term, _), (next, _))| term < next)
}

/// Two logs that agree at an index agree in all before it (§3.5); what was written to the disks is held to it as well.
fn logs_match(state: &Cluster) -> bool {
    let logs: Vec<Vec<&Entry>> =
        state.servers().flat_map(|server| [server.log().collect(), server.disk.entries.iter().collect()]).collect();
    let agree = |one: &[&Entry], other: &[&Entry]| {
        let last = one.iter().zip(other).rposition(|(one, other)| one.position == other.position);
        last.is_none_or(|last| one.iter().zip(other).take(last + 1).all(|(one, other)| one == other))
    };
    logs.iter().enumerate().all(|(place, one)| logs.iter().skip(place + 1).all(|other| agree(one, other)))
}

/// A leader holds whatever was committed in terms before its own (§3.6.3).
fn leaders_are_complete(state: &Cluster) -> bool {
    let holds_all = |leader: &Server| {
        let due = state.history.committed.iter().filter(|(_, term)| *term < leader.raft.term());
        due.into_iter().all(|(entry, _)| leader.raft.log().entry(entry.position.index) == Some(entry))
    };
    leading(state).all(holds_all)
}

/// Acknowledged means on the disks of a majority.
fn is_on_disks(state: &Cluster) -> bool {
    let holders = |entry: &Entry| state.servers().filter(|server| server.disk.entries.contains(entry)).count();
    state.history.committed.iter().all(|(entry, _)| holders(entry) >= 2)
}

fn leading(state: &Cluster) -> impl Iterator<Item = &Server> {
    state.servers().filter(|server| server.raft.role() == RoleName::Leader)
}
