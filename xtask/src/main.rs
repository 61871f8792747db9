//! `cargo xtask`: local clusters and the one gate that CI runs.
//!
//! Knows the servers only as programs: it runs `raftd` and `raftctl` and links neither, so that it stays quick to
//! compile and shows what any operator would see.

mod cargo;
mod ci;
mod cluster;
mod mutants;
mod sim;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Local clusters and the CI gate of raftd")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// A cluster of real servers on this machine; without a subcommand: `up`
    Cluster(cluster::Arguments),
    /// The gate: fmt, clippy, docs, tests
    Ci,
    /// The simulator: whole clusters under faults, judged by checkers; `--mutants` plants bugs for it to find
    Sim(sim::Arguments),
    /// The model checker: every order of what can happen to three servers, within bounds
    Model(sim::PassedOn),
    /// The comparison: random scripts, played by raft-core and by the crate raft
    Differential(sim::PassedOn),
    /// This database and etcd side by side (not there yet)
    Bench(Unfinished),
    /// Internal: the parent of a cluster's servers
    #[command(name = cluster::SUPERVISE, hide = true)]
    Supervise(cluster::SuperviseArguments),
    /// Internal: becomes a server that dies with its parent
    #[command(name = cluster::SERVE, hide = true)]
    Serve(cluster::ServeArguments),
}

/// Takes whatever the finished task will take, so that the answer is "not yet" and not a usage error.
#[derive(clap::Args)]
struct Unfinished {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _rest: Vec<String>,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Cluster(arguments) => cluster::run(&arguments),
        Task::Ci => ci::run(),
        Task::Sim(arguments) => sim::run(&arguments),
        Task::Model(arguments) => sim::run_model(&arguments),
        Task::Differential(arguments) => sim::run_differential(&arguments),
        Task::Bench(_) => Err(anyhow::anyhow!("there is no comparison yet; try `raftctl bench` on a running cluster")),
        Task::Supervise(arguments) => cluster::supervise(&arguments),
        Task::Serve(arguments) => cluster::serve(&arguments),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
