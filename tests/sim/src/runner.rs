//! Many runs, on all cores, and what is said about them.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use crate::Arguments;
use crate::checkers::Violation;
use crate::coverage::Coverage;
use crate::run::{Ended, play};
use crate::scenario::{PlannedFault, Scenario};
use crate::shrink::shrink;
use crate::time::SECONDS;

/// How many lines of a failing run's trace are printed.
const TRACE_LINES: usize = 60;

/// What many runs amount to.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) runs: u64,
    events: u64,
    operations: u64,
    fewest_operations: Option<u64>,
    simulated: u64,
    pub(crate) coverage: Coverage,
    /// The failing run of the lowest seed.
    pub(crate) failure: Option<(u64, Violation)>,
}

impl Summary {
    fn add(&mut self, seed: u64, ended: Ended) {
        self.runs += 1;
        self.events += ended.events;
        self.operations += ended.operations;
        self.fewest_operations =
            Some(self.fewest_operations.map_or(ended.operations, |least| least.min(ended.operations)));
        self.simulated += ended.simulated;
        self.coverage.merge(&ended.coverage);
        if let Some(violation) = ended.violation
            && self.failure.as_ref().is_none_or(|(failed, _)| seed < *failed)
        {
            self.failure = Some((seed, violation));
        }
    }
}

/// Does what the command line asks for. Exit code 0: passed; 1: failed; 3: UNKNOWN.
///
/// # Errors
/// If the command line is wrong, or a trace cannot be written.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    // A failed assertion is a violation like any other; the trace tells it better than a backtrace.
    std::panic::set_hook(Box::new(|_| {}));
    match arguments.seed {
        Some(seed) => run_one(arguments, seed),
        None => run_many(arguments),
    }
}

fn scenario_of(arguments: &Arguments, seed: u64) -> Result<Scenario> {
    let mut scenario = Scenario::of(seed, arguments.ops);
    if let Some(nodes) = arguments.nodes {
        if !(1..=7).contains(&nodes) {
            bail!("--nodes takes 1 to 7");
        }
        scenario.nodes = nodes;
        scenario.settings.clock_rates.resize(nodes, 1_000_000);
    }
    if let Some(list) = &arguments.faults {
        scenario.faults = keep_faults(&scenario.faults, list)?;
    }
    Ok(scenario)
}

fn keep_faults(all: &[PlannedFault], list: &str) -> Result<Vec<PlannedFault>> {
    if list == "none" {
        return Ok(Vec::new());
    }
    let mut kept = Vec::new();
    for number in list.split(',') {
        let place: usize = number.trim().parse().with_context(|| format!("--faults: {number:?} is no number"))?;
        let fault = all.get(place).with_context(|| format!("--faults: the seed has {} faults only", all.len()))?;
        kept.push(*fault);
    }
    Ok(kept)
}

fn run_one(arguments: &Arguments, seed: u64) -> Result<ExitCode> {
    let scenario = scenario_of(arguments, seed)?;
    let ended = play(&scenario, true);
    if let Some(path) = &arguments.trace {
        write_trace(path, &ended.lines)?;
    }
    println!(
        "seed {seed}: {} servers, {} faults, {} operations, digest {:016x}",
        scenario.nodes,
        scenario.faults.len(),
        ended.operations,
        ended.digest
    );
    match ended.violation {
        None => {
            if !arguments.quiet {
                print!("{}", ended.coverage);
            }
            println!("passed");
            Ok(ExitCode::SUCCESS)
        }
        Some(violation) => {
            print_tail(&ended.lines);
            println!("FAILED {violation}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn run_many(arguments: &Arguments) -> Result<ExitCode> {
    let begin = std::time::Instant::now();
    let summary = play_all(arguments)?;
    let seconds = begin.elapsed().as_secs_f64();
    if let Some((seed, violation)) = &summary.failure {
        let after = seed - arguments.from;
        println!("failed seed={seed} property={} after={after}", violation.property);
        if !arguments.until_failure {
            explain(arguments, *seed, violation)?;
        }
        return Ok(ExitCode::FAILURE);
    }
    let missing = summary.coverage.missing();
    if !arguments.quiet {
        print!("{}", summary.coverage);
    }
    let per_second = |count: u64| count as f64 / seconds;
    println!(
        "{} seeds from {}, {:.0} s: {:.1} seeds/s, {:.0} events/s, {:.0} simulated seconds/s, {} operations a run ({} at least)",
        summary.runs,
        arguments.from,
        seconds,
        per_second(summary.runs),
        per_second(summary.events),
        per_second(summary.simulated / SECONDS),
        summary.operations / summary.runs.max(1),
        summary.fewest_operations.unwrap_or_default(),
    );
    if !missing.is_empty() && !arguments.until_failure {
        println!("UNKNOWN: no property failed, but these never happened: {}; play more seeds", missing.join("; "));
        return Ok(ExitCode::from(3));
    }
    println!("passed");
    Ok(ExitCode::SUCCESS)
}

/// Plays all seeds, on all threads.
fn play_all(arguments: &Arguments) -> Result<Summary> {
    // The command line is judged before anything runs.
    scenario_of(arguments, arguments.from)?;
    let threads = arguments.threads.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    let (next, is_over) = (AtomicU64::new(arguments.from), AtomicBool::new(false));
    let summary = Mutex::new(Summary::default());
    let work = || {
        while !is_over.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= arguments.from.saturating_add(arguments.seeds) {
                return;
            }
            let Ok(scenario) = scenario_of(arguments, seed) else { return };
            let mut ended = play(&scenario, false);
            if seed - arguments.from < arguments.twice && ended.violation.is_none() {
                let again = play(&scenario, false);
                if again.digest != ended.digest {
                    let what = format!("digests {:016x} and {:016x}", ended.digest, again.digest);
                    ended.violation = Some(Violation::new("Equal seeds give equal runs", what));
                }
            }
            is_over.fetch_or(ended.violation.is_some(), Ordering::Relaxed);
            summary.lock().unwrap_or_else(PoisonError::into_inner).add(seed, ended);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    Ok(summary.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// A failing seed, made smaller, in words.
fn explain(arguments: &Arguments, seed: u64, violation: &Violation) -> Result<()> {
    println!("{violation}\nmaking seed {seed} smaller ..");
    let scenario = scenario_of(arguments, seed)?;
    let shrunk = shrink(&scenario, violation.property);
    let ended = play(&shrunk.scenario, true);
    if let Some(path) = &arguments.trace {
        write_trace(path, &ended.lines)?;
    }
    print_tail(&ended.lines);
    if let Some(violation) = ended.violation {
        println!("FAILED {violation}");
    }
    let faults: Vec<String> = shrunk.kept.iter().map(usize::to_string).collect();
    let faults = if faults.is_empty() { "none".to_owned() } else { faults.join(",") };
    println!(
        "plays it again: cargo xtask sim --seed {seed} --nodes {} --ops {} --faults {faults} --trace FILE",
        shrunk.scenario.nodes, shrunk.scenario.operations
    );
    println!("as it was:      cargo xtask sim --seed {seed}");
    Ok(())
}

fn print_tail(lines: &[String]) {
    for line in lines.iter().skip(lines.len().saturating_sub(TRACE_LINES)) {
        println!("{line}");
    }
}

fn write_trace(path: &Path, lines: &[String]) -> Result<()> {
    let mut file = std::io::BufWriter::new(
        std::fs::File::create(path).with_context(|| format!("cannot create {}", path.display()))?,
    );
    for line in lines {
        writeln!(file, "{line}").with_context(|| format!("cannot write {}", path.display()))?;
    }
    file.flush().with_context(|| format!("cannot write {}", path.display()))
}
