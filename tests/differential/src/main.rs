//! raft-core beside the crate `raft`, which many run: the same random scripts to both, and after every event the same
//! terms, roles, votes, logs and commits.
//!
//! | file | what |
//! |---|---|
//! | `script` | what may happen, and how scripts are made up and made smaller |
//! | `twins` | both clusters side by side, how they are compared, and where they are meant to differ |
//! | `ours`, `theirs` | each as its documentation says it is driven |
//! | `view` | what is compared |
//! | `network` | which links are cut |

mod network;
mod ours;
mod script;
#[cfg(test)]
mod tests;
mod theirs;
mod twins;
mod view;

use std::process::ExitCode;

use clap::Parser;

use crate::script::{Script, Tally};

/// More messages than any event leads to: what sends more never falls silent.
const MOST_DELIVERIES: usize = 100_000;

/// Plays random scripts to raft-core and to the crate `raft`, and compares them after every event.
#[derive(Debug, Parser)]
#[command(name = "differential")]
struct Arguments {
    /// How many scripts
    #[arg(long, default_value_t = 10_000)]
    scripts: u64,
    /// The seed of the first
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Plays this one alone, and shows its events
    #[arg(long, conflicts_with_all = ["scripts", "from"])]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seeds = arguments.seed.map_or(arguments.from..arguments.from + arguments.scripts, |seed| seed..seed + 1);
    let mut sum = Tally::default();
    for seed in seeds.clone() {
        let (script, outcome) = script::make_up(seed);
        if arguments.seed.is_some() {
            show(&script);
        }
        match outcome {
            Ok(tally) => sum.add(tally),
            Err(difference) => {
                println!("seed {seed}: after \"{}\" they differ at {}", difference.event, difference.what);
                let small = script::shrink(script);
                println!("smaller:");
                show(&small);
                if let Err(difference) = script::play(&small) {
                    println!("after \"{}\" they differ at {}", difference.event, difference.what);
                }
                println!("plays it again: cargo xtask differential --seed {seed}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{} scripts, {sum}: no difference", seeds.end - seeds.start);
    ExitCode::SUCCESS
}

fn show(script: &Script) {
    println!("  {} servers", script.count);
    for event in &script.events {
        println!("  {event}");
    }
}
