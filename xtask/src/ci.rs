//! The gate: what `.ci/run` runs, step by step, stopping at the first failure with its exit code.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::cargo::cargo;

/// One step: its name, cargo's arguments, and what is set in its environment.
struct Step {
    name: &'static str,
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

/// In the order of cost: what fails fast comes first. The tests are the README's command, word for word.
const STEPS: &[Step] = &[
    Step { name: "format", arguments: &["fmt", "--all", "--check"], environment: &[] },
    Step {
        name: "lints",
        arguments: &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
        environment: &[],
    },
    // In the workspace, raft-node switches `peer` on for everybody; alone, raft-net must also do without.
    Step {
        name: "lints of raft-net without peer",
        arguments: &["clippy", "-p", "raft-net", "--all-targets", "--", "-D", "warnings"],
        environment: &[],
    },
    Step {
        name: "lints of raft-net with peer",
        arguments: &["clippy", "-p", "raft-net", "--all-targets", "--features", "peer", "--", "-D", "warnings"],
        environment: &[],
    },
    Step {
        name: "docs",
        arguments: &["doc", "--workspace", "--no-deps"],
        environment: &[("RUSTDOCFLAGS", "-D warnings")],
    },
    Step { name: "tests", arguments: &["test", "--workspace"], environment: &[] },
    // The share of `cargo xtask sim` that fits into a gate.
    Step {
        name: "simulator",
        arguments: &[
            "run",
            "--profile",
            "sim",
            "-p",
            "raftd-sim",
            "--bin",
            "sim",
            "--",
            "--seeds",
            "500",
            "--twice",
            "50",
            "--quiet",
        ],
        environment: &[],
    },
    // The smallest scope of `cargo xtask model`, and some of the others.
    Step {
        name: "model",
        arguments: &["run", "--profile", "sim", "-p", "raftd-model", "--bin", "model", "--", "--states", "600000"],
        environment: &[],
    },
];

/// Runs all steps.
///
/// # Errors
/// If cargo cannot be started. A step that fails is no error here: its exit code is ours.
pub(crate) fn run() -> Result<ExitCode> {
    let mut times = Vec::new();
    for step in STEPS {
        eprintln!("\n==> {}: cargo {}", step.name, step.arguments.join(" "));
        let begin = Instant::now();
        let status = cargo()
            .args(step.arguments)
            .envs(step.environment.iter().copied())
            .status()
            .with_context(|| format!("step {} cannot be started", step.name))?;
        times.push((step.name, begin.elapsed()));
        if !status.success() {
            eprintln!("\nFAILED at {}: {status}", step.name);
            print_times(&times);
            let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            return Ok(ExitCode::from(code));
        }
    }
    eprintln!("\nall steps passed");
    print_times(&times);
    Ok(ExitCode::SUCCESS)
}

fn print_times(times: &[(&str, std::time::Duration)]) {
    for (name, time) in times {
        eprintln!("{:>8.1} s  {name}", time.as_secs_f64());
    }
}
