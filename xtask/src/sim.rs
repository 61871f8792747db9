//! `cargo xtask sim`: builds the simulator in its profile and hands it the command line; with `--mutants`, shows that it
//! finds bugs. `cargo xtask model` and `cargo xtask differential` do the same for the model checker and the comparison.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::cargo::run_in_profile_sim;
use crate::mutants;

/// Handed to the program as they are; its `--help` says what it takes.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct PassedOn {
    /// What the program takes: `[SCOPE ..] [--states N]` of the model, `[--scripts N]` of the comparison, ..
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Handed to the simulator as they are; `cargo xtask sim --help` is its help.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// What the simulator takes: `--seed S`, `--seeds N`, `--ops N`, .. ; or `--mutants [NAME ..] [--seeds N]`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Puts known bugs into a copy of the tree, one at a time, and says how many seeds each survives.
#[derive(Parser)]
#[command(name = "cargo xtask sim --mutants")]
struct MutantArguments {
    /// Which of them; without names: all
    names: Vec<String>,
    /// How many seeds each must not survive
    #[arg(long, default_value_t = 20_000)]
    seeds: u64,
    /// Ends with a table in markdown
    #[arg(long)]
    markdown: bool,
}

/// Runs the simulator. Its exit code is ours: 0 passed, 1 failed, 3 UNKNOWN.
///
/// # Errors
/// If cargo cannot be started, or the mutants cannot be run.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let rest = &arguments.rest;
    if let Some(("--mutants", names)) = rest.split_first().map(|(first, names)| (first.as_str(), names)) {
        let program = "cargo xtask sim --mutants".to_owned();
        let chosen = MutantArguments::parse_from(std::iter::once(&program).chain(names));
        return mutants::run(&chosen.names, chosen.seeds, chosen.markdown);
    }
    run_in_profile_sim("raftd-sim", "sim", rest)
}

/// Runs the model checker. Its exit code is ours: 0 passed, 1 failed, 3 UNKNOWN.
///
/// # Errors
/// If cargo cannot be started.
pub(crate) fn run_model(arguments: &PassedOn) -> Result<ExitCode> {
    run_in_profile_sim("raftd-model", "model", &arguments.rest)
}

/// Runs the comparison with the crate `raft`. Its exit code is ours: 0 no difference, 1 a difference.
///
/// # Errors
/// If cargo cannot be started.
pub(crate) fn run_differential(arguments: &PassedOn) -> Result<ExitCode> {
    run_in_profile_sim("raftd-differential", "differential", &arguments.rest)
}
