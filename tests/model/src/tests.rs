//! A share of the search, and planted bugs that it must find.

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model};

use crate::model::{Plant, RaftModel};
use crate::properties::HOLD;
use crate::scopes::{Budget, SCOPES, Scope, Wish};

/// The scope of this name, with a bug.
fn scope(name: &str, plant: Plant) -> RaftModel {
    let scope = *SCOPES.iter().find(|known| known.name == name).expect("a scope");
    RaftModel { scope, plant, region: 0 }
}

/// The properties that do not hold, each with the number of steps to a state that shows it, and all that came up.
fn search(model: RaftModel, states: usize) -> (Vec<(&'static str, usize)>, Vec<&'static str>) {
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).target_state_count(states);
    let found = checker.spawn_dfs().join().discoveries();
    let (broken, came_up): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|(name, _)| HOLD.iter().any(|(property, _)| property == name));
    let broken = broken.into_iter().map(|(name, path)| (name, path.into_actions().len())).collect();
    (broken, came_up.into_iter().map(|(name, _)| name).collect())
}

#[test]
fn a_command_is_safe_in_every_order_of_events() {
    let whole = scope("command", Plant::Nothing);
    let budget = Budget { crashes: 0, ..whole.scope.budget };
    let model = RaftModel { scope: Scope { budget, ..whole.scope }, ..whole };
    let (broken, came_up) = search(model, usize::MAX);
    assert_eq!(broken, []);
    assert!(came_up.contains(&"a command is committed"), "{came_up:?}");
}

#[test]
fn everything_at_once_is_safe_as_far_as_it_is_looked_at() {
    for region in 1..=3 {
        let model = RaftModel { region, ..scope("everything", Plant::Nothing) };
        let (broken, _) = search(model, 20_000);
        assert_eq!(broken, [], "region {region}");
    }
}

/// §4.3: from C_old over C_old,new to C_new.
#[test]
fn a_learner_is_promoted_safely_in_every_order_of_events() {
    let exchange = scope("exchange", Plant::Nothing);
    let budget = Budget { wishes: &[Wish::Promote], ..exchange.scope.budget };
    let model = RaftModel { scope: Scope { budget, ..exchange.scope }, ..exchange };
    let (broken, came_up) = search(model, usize::MAX);
    assert_eq!(broken, []);
    assert!(came_up.contains(&"a joint configuration is committed"), "{came_up:?}");
}

/// The leader leaves itself out while another stands: its change is lost, or goes on in the next term.
#[test]
fn a_change_of_members_is_safe_in_every_order_of_events() {
    let (broken, came_up) = search(scope("removal", Plant::Nothing), usize::MAX);
    assert_eq!(broken, []);
    for sought in ["two servers lead at once", "a log loses a configuration", "a leader leaves itself out"] {
        assert!(came_up.contains(&sought), "{sought}: {came_up:?}");
    }
}

/// Searches some of a scope, in two regions, and asks for what must come up there.
fn is_safe_as_far_as_it_is_looked_at(name: &str, sought: &[&str]) {
    let mut seen = BTreeSet::new();
    for region in 1..=2 {
        let (broken, came_up) = search(RaftModel { region, ..scope(name, Plant::Nothing) }, 20_000);
        assert_eq!(broken, [], "region {region}");
        seen.extend(came_up);
    }
    assert!(sought.iter().all(|sought| seen.contains(sought)), "{seen:?}");
}

#[test]
fn a_leader_that_is_replaced_is_safe_as_far_as_it_is_looked_at() {
    is_safe_as_far_as_it_is_looked_at("exchange", &["a leader leaves itself out", "a transfer succeeds"]);
}

#[test]
fn a_transfer_is_safe_as_far_as_it_is_looked_at() {
    is_safe_as_far_as_it_is_looked_at("transfer", &["a transfer succeeds"]);
}

#[test]
fn a_changing_membership_is_safe_as_far_as_it_is_looked_at() {
    is_safe_as_far_as_it_is_looked_at("membership", &["a joint configuration is committed"]);
}

/// Figure 3.1 "persistent state"; rule 1: acknowledged is what is on the disk.
#[test]
fn writes_confirmed_before_the_disk_has_them_are_found() {
    let (broken, _) = search(scope("command", Plant::ConfirmsBeforeTheDisk), usize::MAX);
    assert!(broken.iter().any(|(name, _)| *name == "Committed is on the disks of a majority"), "{broken:?}");
}

#[test]
fn an_entry_lost_by_its_disk_is_found() {
    let (broken, _) = search(scope("command", Plant::LosesItsLastEntry), usize::MAX);
    assert!(broken.iter().any(|(name, _)| *name == "Committed is on the disks of a majority"), "{broken:?}");
}

/// §3.8: a server that forgets its vote may vote twice in a term.
#[test]
fn a_forgotten_vote_is_found() {
    let (broken, _) = search(scope("crash", Plant::ForgetsItsVote), usize::MAX);
    assert!(broken.iter().any(|(name, _)| *name == "Election Safety"), "{broken:?}");
}
