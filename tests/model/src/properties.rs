//! What must hold in every state (Figure 3.2), and what must come up somewhere, so that the search has been worth it.

use raft_core::{Entry, Payload, RoleName};
use stateright::Property;

use crate::cluster::{Cluster, Commitment};
use crate::membership;
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
    ("The latest configuration in the log is in effect", |_, state| membership::follows_the_log(state)),
    ("Leaders are voters", |_, state| membership::voters_lead(state)),
    ("One change at a time", |_, state| membership::changes_come_one_by_one(state)),
    ("Voters change by joint steps", |_, state| membership::changes_are_joint(state)),
    ("No assertion fails", |_, state| state.history.panicked.is_none()),
];

/// What must come up in some state of some scope.
pub(crate) const COME_UP: &[(&str, Condition)] = &[
    ("a command is committed", |_, state| {
        state.history.committed.iter().any(|known| matches!(known.entry.payload, Payload::Command(_)))
    }),
    ("two servers lead at once", |_, state| leading(state).count() > 1),
    ("a commitment outlives its leader's term", |_, state| {
        let last_led = state.history.leaders.last().map(|(term, _)| *term);
        state.history.committed.first().is_some_and(|known| last_led > Some(known.term))
    }),
    ("a log loses its end", |_, state| {
        state.servers().any(|server| server.under_way.iter().any(|write| write.truncate_from.is_some()))
    }),
    ("two terms have leaders", |_, state| state.history.leaders.len() > 1),
    ("three terms have leaders", |_, state| state.history.leaders.len() > 2),
    ("a transfer succeeds", |_, state| {
        state.history.wanted.iter().any(|wanted| state.history.leaders.contains(wanted))
    }),
    ("a joint configuration is committed", |_, state| membership::commits_joint(state)),
    ("n4 votes", |_, state| membership::newcomer_votes(state)),
    ("n4 leads", |_, state| membership::newcomer_leads(state)),
    ("a leader leaves itself out", |_, state| membership::leader_leaves(state)),
    ("a log loses a configuration", |_, state| membership::configuration_is_lost(state)),
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
        let due = state.history.committed.iter().filter(|known| known.term < leader.raft.term());
        due.into_iter().all(|known| leader.raft.log().entry(known.entry.position.index) == Some(&known.entry))
    };
    leading(state).all(holds_all)
}

/// Acknowledged means on the disks of a majority, of both halves of a joint configuration.
fn is_on_disks(state: &Cluster) -> bool {
    let is_held = |known: &Commitment| {
        membership::is_quorum(&known.configuration, |id| state.server(id).disk.entries.contains(&known.entry))
    };
    state.history.committed.iter().all(|known| is_held(known))
}

fn leading(state: &Cluster) -> impl Iterator<Item = &Server> {
    state.servers().filter(|server| server.raft.role() == RoleName::Leader)
}
