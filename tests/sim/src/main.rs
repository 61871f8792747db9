//! The deterministic simulator of whole clusters: the shipped servers over a simulated disk, network and clock.
//!
//! One `u64` seed decides everything, and one printed line plays a run again. Each run has two phases: faults and clients,
//! judged by [`checkers`] after every turn of every server; then everything heals, and the cluster must agree and serve.
//!
//! | file | what |
//! |---|---|
//! | `scenario` | what a seed stands for: settings and faults |
//! | `world` | the queue of events; a server's turn, its disk, what it sends |
//! | `node`, `power`, `disk` | machines: processes, clocks, power losses, disks that lie |
//! | `network`, `faults` | connections, partitions, and all that can go wrong |
//! | `client`, `workload` | who asks what, and tries again |
//! | `operator` | who asks for another leader, and stops servers in order |
//! | `checkers/` | what must hold, one property a file |
//! | `coverage` | what has been exercised; without it a pass is UNKNOWN |
//! | `run`, `shrink`, `runner`, `trace` | one run; a failing one made smaller; many; in words |
//!
//! What it supplies is disk, network, clock and clients. Who executes effects, forms batches, answers clients, admits
//! peers and reads the log back is `raft-node`, `raftd`, `raft-storage`: [`raft_node::Server`] and [`raft_node::DiskQueue`].

#![expect(clippy::wildcard_enum_match_arm, reason = "checkers look for a few of the many things that happen")]

mod checkers;
mod client;
mod coverage;
mod disk;
mod disk_work;
mod faults;
mod network;
mod node;
mod operator;
mod power;
mod random;
mod run;
mod runner;
mod scenario;
mod shrink;
#[cfg(test)]
mod tests;
mod time;
mod trace;
mod watcher;
mod workload;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Simulates clusters under faults, and judges them.
#[derive(Debug, Parser)]
#[command(name = "sim")]
pub(crate) struct Arguments {
    /// Plays this seed only
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// How many seeds to play
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Operations of all clients in each run [default: 1000 to 1200, by seed]
    #[arg(long)]
    ops: Option<u64>,
    /// Servers, in place of what the seed says
    #[arg(long)]
    nodes: Option<usize>,
    /// Only these of the seed's faults, by number, separated by commas; `none` for none
    #[arg(long)]
    faults: Option<String>,
    /// Plays so many of the seeds twice, and compares
    #[arg(long, default_value_t = 0)]
    twice: u64,
    /// Writes the trace of a single seed, or of the failing one, to this file
    #[arg(long)]
    trace: Option<PathBuf>,
    /// Threads [default: one for each core]
    #[arg(long)]
    threads: Option<usize>,
    /// Ends at the first failing seed without making it smaller
    #[arg(long)]
    until_failure: bool,
    /// Prints the verdict only
    #[arg(long)]
    quiet: bool,
}

fn main() -> ExitCode {
    match runner::run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
