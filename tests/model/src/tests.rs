//! A share of the search, and planted bugs that it must find.

use stateright::{Checker, HasDiscoveries, Model};

use crate::cluster::Budget;
use crate::model::{Plant, RaftModel};
use crate::properties::HOLD;
use crate::scopes::{SCOPES, Start};

fn budget_of(scope: &str) -> Budget {
    SCOPES.iter().find(|known| known.name == scope).expect("a scope").budget
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
    let budget = Budget { crashes: 0, ..budget_of("command") };
    let model = RaftModel { start: Start::Fresh, budget, plant: Plant::Nothing, region: 0 };
    let (broken, came_up) = search(model, usize::MAX);
    assert_eq!(broken, []);
    assert!(came_up.contains(&"a command is committed"), "{came_up:?}");
}

#[test]
fn everything_at_once_is_safe_as_far_as_it_is_looked_at() {
    for region in 1..=3 {
        let model = RaftModel { start: Start::Fresh, budget: budget_of("everything"), plant: Plant::Nothing, region };
        let (broken, _) = search(model, 20_000);
        assert_eq!(broken, [], "region {region}");
    }
}

/// Figure 3.1 "persistent state"; rule 1: acknowledged is what is on the disk.
#[test]
fn writes_confirmed_before_the_disk_has_them_are_found() {
    let model =
        RaftModel { start: Start::Fresh, budget: budget_of("command"), plant: Plant::ConfirmsBeforeTheDisk, region: 0 };
    let (broken, _) = search(model, usize::MAX);
    assert!(broken.iter().any(|(name, _)| *name == "Committed is on the disks of a majority"), "{broken:?}");
}

#[test]
fn an_entry_lost_by_its_disk_is_found() {
    let model =
        RaftModel { start: Start::Fresh, budget: budget_of("command"), plant: Plant::LosesItsLastEntry, region: 0 };
    let (broken, _) = search(model, usize::MAX);
    assert!(broken.iter().any(|(name, _)| *name == "Committed is on the disks of a majority"), "{broken:?}");
}

/// §3.8: a server that forgets its vote may vote twice in a term.
#[test]
fn a_forgotten_vote_is_found() {
    let model = RaftModel { start: Start::Fresh, budget: budget_of("crash"), plant: Plant::ForgetsItsVote, region: 0 };
    let (broken, _) = search(model, usize::MAX);
    assert!(broken.iter().any(|(name, _)| *name == "Election Safety"), "{broken:?}");
}
