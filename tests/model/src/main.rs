//! A model checker over the shipped protocol: every order of what can happen to a few servers, within bounds.
//!
//! A state is a value of [`raft_core::Raft`] itself for each server, with its disk, and the messages on their way. What
//! can happen next is tried in every order by stateright; a state that was seen before is not looked into again. Where
//! the simulator plays long lives at random, this plays short ones completely.
//!
//! | file | what |
//! |---|---|
//! | `cluster` | a state, and how an input's effects make the next one |
//! | `server` | a server: the protocol, a disk with writes under way, a clock |
//! | `model` | what can happen in a state |
//! | `properties` | what must hold, and what must come up |
//! | `membership` | the same, of configurations |
//! | `scopes` | how often each thing may happen |
//! | `starts` | what has happened before |
//! | `hashed` | parts of states, hashed once |

mod cluster;
mod hashed;
mod membership;
mod model;
mod properties;
mod scopes;
mod server;
mod starts;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::panic;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Parser;
use stateright::{Checker, HasDiscoveries, Model};

use crate::model::{Plant, RaftModel};
use crate::scopes::{Extent, SCOPES, Scope};

/// Checks every order of what can happen to a few servers, within bounds.
#[derive(Debug, Parser)]
#[command(name = "model")]
struct Arguments {
    /// Which scopes; without names: all
    scopes: Vec<String>,
    /// Ends each search after so many states, seen before or not
    #[arg(long)]
    states: Option<usize>,
    /// Plants a bug, for the search to find
    #[arg(long, value_enum, default_value_t = Plant::Nothing)]
    plant: Plant,
    /// Threads [default: one for each core]
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let chosen = choose(&arguments.scopes)?;
    // A failed assertion is found again on the path that is printed; once is enough.
    panic::set_hook(Box::new(|_| {}));
    let mut came_up = BTreeSet::new();
    let mut distinct = 0;
    for scope in &chosen {
        let outcome = search_scope(scope, &arguments);
        if outcome.has_failed {
            return Ok(ExitCode::FAILURE);
        }
        distinct += outcome.distinct;
        came_up.extend(outcome.came_up);
    }
    println!("{distinct} distinct states in all");
    let missed: Vec<&str> =
        properties::COME_UP.iter().map(|(name, _)| *name).filter(|name| !came_up.contains(name)).collect();
    // A share of the search may miss what the whole must not.
    let is_whole = arguments.scopes.is_empty() && arguments.states.is_none();
    if is_whole && !missed.is_empty() {
        println!("UNKNOWN: this never came up: {}", missed.join(", "));
        return Ok(ExitCode::from(3));
    }
    if !missed.is_empty() {
        println!("in this share never came up: {}", missed.join(", "));
    }
    println!("passed");
    Ok(ExitCode::SUCCESS)
}

fn choose(names: &[String]) -> Result<Vec<&'static Scope>> {
    for name in names {
        if !SCOPES.iter().any(|scope| scope.name == name) {
            let known: Vec<&str> = SCOPES.iter().map(|scope| scope.name).collect();
            bail!("there is no scope {name}; there are {}", known.join(", "));
        }
    }
    let is_chosen = |scope: &&Scope| names.is_empty() || names.iter().any(|name| name == scope.name);
    Ok(SCOPES.iter().filter(is_chosen).collect())
}

/// What the searches of a scope came to.
#[derive(Default)]
struct Outcome {
    /// States seen before count again.
    states: usize,
    distinct: usize,
    depth: usize,
    has_ended_early: bool,
    has_failed: bool,
    /// What came up, of what must come up somewhere.
    came_up: BTreeSet<&'static str>,
}

fn search_scope(scope: &Scope, arguments: &Arguments) -> Outcome {
    let begun = Instant::now();
    let mut sum = Outcome::default();
    match scope.extent {
        Extent::Whole => search(scope, 0, arguments.states, arguments, &mut sum),
        Extent::Regions { count, states } => {
            let states = arguments.states.map_or(states, |share| share.min(states));
            for region in 1..=count {
                if !sum.has_failed {
                    search(scope, region, Some(states), arguments, &mut sum);
                }
            }
        }
    }
    let Outcome { states, distinct, depth, has_ended_early, has_failed, .. } = sum;
    let extent = match scope.extent {
        _ if has_failed => "until it failed".to_owned(),
        Extent::Regions { count, .. } => format!("{count} regions of it"),
        Extent::Whole if has_ended_early => "a share of it".to_owned(),
        Extent::Whole => "all of it".to_owned(),
    };
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{:>10}: {distinct} distinct states ({states} with repetitions), depth {depth}, {seconds:.1} s, {extent}",
        scope.name
    );
    sum
}

/// One search, to its end or to a number of states; prints the way to a state in which a property does not hold.
fn search(scope: &Scope, region: u64, states: Option<usize>, arguments: &Arguments, sum: &mut Outcome) {
    let model = RaftModel { scope: *scope, plant: arguments.plant, region };
    let threads = arguments.threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let mut checker = model.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures);
    if let Some(states) = states {
        checker = checker.target_state_count(states);
    }
    // Depth first: what waits to be looked at is one path's neighbours, not a whole generation.
    let checker = checker.spawn_dfs().join();
    sum.states += checker.state_count();
    sum.distinct += checker.unique_state_count();
    sum.depth = sum.depth.max(checker.max_depth());
    sum.has_ended_early |= states.is_some_and(|states| checker.state_count() >= states);
    for (name, path) in checker.discoveries() {
        if properties::COME_UP.iter().any(|(sought, _)| *sought == name) {
            sum.came_up.insert(name);
            continue;
        }
        sum.has_failed = true;
        println!("FAILED: {name}, in scope {}:", scope.name);
        for action in path.into_actions() {
            println!("    {action:?}");
        }
    }
}
