//! `cargo xtask sim --mutants`: does the simulator find the bugs that others have had?
//!
//! A mutant is a substitution in the text of one file (`tests/sim/mutants.toml`), made on a copy of the tree: the product
//! has no hooks, and no build of the tree itself can contain one. Each mutant is built and run from the first seed on
//! until a seed fails. One that survives is a hole in the simulator, or no bug.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::time::Instant;
use std::{fs, io};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::cargo::{cargo, target_directory, workspace_root};

/// The mutants, from the root of the workspace.
const CATALOGUE: &str = "tests/sim/mutants.toml";

/// How many seeds the unmutated copy must survive: a checker that fails on sound code finds every mutant.
const CONTROL_SEEDS: u64 = 300;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    mutant: Vec<Mutant>,
}

/// One known bug.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutant {
    name: String,
    /// Where it is described: `B1` of FAULTS.md, or `rule 5` of the design.
    fault: String,
    /// From the root of the workspace.
    file: PathBuf,
    /// Occurs exactly once in the file.
    find: String,
    replace: String,
    /// Which promise it breaks.
    breaks: String,
}

/// What became of a mutant.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// Seed `seed` failed, after `after` others had not.
    Died {
        seed: u64,
        property: String,
        after: u64,
    },
    Survived {
        seeds: u64,
    },
    /// There was no run: it does not build, or the simulator itself broke.
    Broken(String),
}

impl std::fmt::Display for Fate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Died { seed, property, after } => write!(f, "dies at seed {seed} by {property} (survived {after})"),
            Self::Survived { seeds } => write!(f, "SURVIVED {seeds} seeds"),
            Self::Broken(why) => write!(f, "NO RUN: {why}"),
        }
    }
}

/// Runs the mutants called `names`, all if there are none, over at most `seeds` seeds each. One that survives, or cannot
/// be run, shows in the exit code.
///
/// # Errors
/// If there is no catalogue, no copy, or the copy fails without any mutant in it.
pub(crate) fn run(names: &[String], seeds: u64, markdown: bool) -> Result<ExitCode> {
    let mutants = chosen(read_catalogue()?, names)?;
    let copy = SpareTree::renew(&target_directory()?.join("mutants"))?;
    eprintln!("control: no mutant, {CONTROL_SEEDS} seeds");
    let control = copy.run(CONTROL_SEEDS)?;
    ensure!(matches!(control, Fate::Survived { .. }), "no mutant is needed for the tree to fail: {control}");
    let mut fates = Vec::new();
    for mutant in &mutants {
        let begin = Instant::now();
        let fate = copy.with(mutant, || copy.run(seeds))?;
        println!("{:<42} {:<8} {fate}, {} s", mutant.name, mutant.fault, begin.elapsed().as_secs());
        fates.push(fate);
    }
    print!("{}", if markdown { table(&mutants, &fates) } else { String::new() });
    let died = fates.iter().filter(|fate| matches!(fate, Fate::Died { .. })).count();
    println!("{died} of {} mutants died within {seeds} seeds", mutants.len());
    Ok(if died == mutants.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

// --- the catalogue -----------------------------------------------------------------------------------------------

fn read_catalogue() -> Result<Vec<Mutant>> {
    let path = workspace_root().join(CATALOGUE);
    let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    parse(&text).with_context(|| format!("{} is no catalogue of mutants", path.display()))
}

fn parse(text: &str) -> Result<Vec<Mutant>> {
    let Catalogue { mutant: mutants } = toml::from_str(text)?;
    let mut names = BTreeSet::new();
    for mutant in &mutants {
        ensure!(names.insert(&mutant.name), "two mutants are called {}", mutant.name);
        ensure!(mutant.find != mutant.replace, "{} changes nothing", mutant.name);
    }
    Ok(mutants)
}

fn chosen(mutants: Vec<Mutant>, names: &[String]) -> Result<Vec<Mutant>> {
    for name in names {
        if !mutants.iter().any(|mutant| mutant.name == *name) {
            let known: Vec<&str> = mutants.iter().map(|mutant| mutant.name.as_str()).collect();
            bail!("there is no mutant {name}; there are {}", known.join(", "));
        }
    }
    Ok(mutants.into_iter().filter(|mutant| names.is_empty() || names.contains(&mutant.name)).collect())
}

impl Mutant {
    /// The text of its file with the bug in it.
    fn apply(&self, text: &str) -> Result<String> {
        let count = text.matches(&self.find).count();
        let (name, file) = (&self.name, self.file.display());
        ensure!(
            count == 1,
            "{name}: what to find occurs {count} times in {file}, not once; bring {CATALOGUE} up to date"
        );
        Ok(text.replacen(&self.find, &self.replace, 1))
    }
}

// --- the copy ----------------------------------------------------------------------------------------------------

/// A copy of the tree to spoil, with a build directory of its own.
struct SpareTree {
    tree: PathBuf,
    build: PathBuf,
}

impl SpareTree {
    /// Makes the copy in `directory`, or brings it up to date. Files that are equal stay untouched, so that cargo builds
    /// again only what has changed.
    fn renew(directory: &Path) -> Result<Self> {
        let (tree, build) = (directory.join("tree"), directory.join("build"));
        let files = tracked_files()?;
        for file in &files {
            copy_if_different(&workspace_root().join(file), &tree.join(file))?;
        }
        remove_others(&tree, &tree, &files).with_context(|| format!("{} cannot be cleaned", tree.display()))?;
        Ok(Self { tree, build })
    }

    /// Runs `work` while the mutant is in the tree.
    fn with(&self, mutant: &Mutant, work: impl FnOnce() -> Result<Fate>) -> Result<Fate> {
        let path = self.tree.join(&mutant.file);
        let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        fs::write(&path, mutant.apply(&text)?)?;
        let fate = work();
        // A run that is interrupted leaves the mutant there; the next one copies the file again.
        fs::write(&path, text)?;
        fate
    }

    /// Builds the simulator from the tree as it is, and runs it.
    fn run(&self, seeds: u64) -> Result<Fate> {
        let mut build = cargo();
        build.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.build);
        // Forty builds: quick ones are worth more than quick runs.
        build.env("CARGO_PROFILE_SIM_OPT_LEVEL", "1").env("CARGO_PROFILE_SIM_DEBUG", "false");
        build.env("CARGO_PROFILE_SIM_INCREMENTAL", "true").env("CARGO_PROFILE_SIM_CODEGEN_UNITS", "64");
        build.args(["build", "--quiet", "--profile", "sim", "-p", "raftd-sim", "--bin", "sim"]);
        let built = output_of(&mut build)?;
        if !built.status.success() {
            return Ok(Fate::Broken(format!("it does not build: {}", first_error(&built))));
        }
        let mut sim = Command::new(self.build.join("sim").join("sim"));
        sim.current_dir(&self.tree).args(["--seeds", &seeds.to_string(), "--until-failure", "--quiet"]);
        Ok(fate_of(&output_of(&mut sim)?, seeds))
    }
}

fn output_of(command: &mut Command) -> Result<Output> {
    command.output().with_context(|| format!("{} cannot be started", command.get_program().display()))
}

/// The first line on standard error that names an error, else the last one.
fn first_error(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().find(|line| line.starts_with("error")).or(text.lines().last()).unwrap_or("no reason given").to_owned()
}

/// What the simulator's exit code and output say.
fn fate_of(output: &Output, seeds: u64) -> Fate {
    let text = String::from_utf8_lossy(&output.stdout);
    let broken = |how: &str| Fate::Broken(format!("the simulator {how}: {}", first_error(output)));
    match output.status.code() {
        Some(0) => Fate::Survived { seeds },
        Some(1) => text.lines().find_map(failure_in).unwrap_or_else(|| broken("failed and named no seed")),
        Some(_) | None => broken(&format!("ended with {}", output.status)),
    }
}

/// Reads `failed seed=S property=NAME after=K`; a name may have blanks.
fn failure_in(line: &str) -> Option<Fate> {
    let (seed, rest) = line.strip_prefix("failed seed=")?.split_once(" property=")?;
    let (property, after) = rest.rsplit_once(" after=")?;
    Some(Fate::Died { seed: seed.parse().ok()?, property: property.to_owned(), after: after.trim_end().parse().ok()? })
}

/// The files that belong to the tree, committed or not, from its root.
fn tracked_files() -> Result<BTreeSet<PathBuf>> {
    let mut git = Command::new("git");
    git.current_dir(workspace_root()).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let output = output_of(&mut git)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        bail!("mutants need a git checkout, which says what belongs to the tree; git says: {said}");
    }
    let listed = String::from_utf8(output.stdout).context("a file's name is not UTF-8")?;
    let files = listed.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
    // One that was deleted and not committed is still listed.
    Ok(files.filter(|file| workspace_root().join(file).is_file()).collect())
}

fn copy_if_different(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("{} cannot be read", from.display()))?;
    if fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let made = to.parent().map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| fs::write(to, &bytes)).with_context(|| format!("{} cannot be written", to.display()))
}

/// Removes what an earlier tree had and this one has not.
fn remove_others(tree: &Path, directory: &Path, files: &BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(tree, &path, files)?;
        } else if path.strip_prefix(tree).is_ok_and(|file| !files.contains(file)) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// For `docs/testing.md`.
fn table(mutants: &[Mutant], fates: &[Fate]) -> String {
    let mut text = "\n| mutant | bug | what it breaks | fate |\n|---|---|---|---|\n".to_owned();
    for (Mutant { name, fault, breaks, .. }, fate) in mutants.iter().zip(fates) {
        text += &format!("| `{name}` | {fault} | {breaks} | {fate} |\n");
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "[[mutant]]\nname = 'a'\nfault = 'B1'\nfile = 'f'\nfind = 'x'\nreplace = 'y'\nbreaks = 'it.'\n";

    #[test]
    fn a_catalogue_has_distinct_mutants_that_change_something() {
        assert_eq!(parse(ONE).unwrap().len(), 1);
        assert!(parse(&ONE.repeat(2)).is_err(), "a name twice");
        assert!(parse(&ONE.replace("'y'", "'x'")).is_err(), "no change");
        assert!(parse(&ONE.replace("fault", "fauld")).is_err(), "a key nobody knows");
        let one = || parse(ONE).unwrap();
        assert_eq!(chosen(one(), &[]).unwrap().len(), 1);
        assert!(chosen(one(), &["b".to_owned()]).is_err_and(|error| error.to_string().contains("there are a")));
    }

    #[test]
    fn a_mutant_applies_to_one_place_only() {
        let mutant = &parse(ONE).unwrap()[0];
        assert_eq!(mutant.apply("1x2").unwrap(), "1y2");
        assert!(mutant.apply("xx").is_err() && mutant.apply("12").is_err());
    }

    #[test]
    fn the_simulators_line_names_seed_property_and_count() {
        let died = Fate::Died { seed: 7, property: "Election Safety".to_owned(), after: 6 };
        assert_eq!(failure_in("failed seed=7 property=Election Safety after=6"), Some(died));
        assert_eq!(failure_in("failed seed=x property=Election Safety after=6"), None);
        assert_eq!(failure_in("replay: cargo xtask sim --seed 7"), None);
    }

    /// What keeps the catalogue from rotting.
    #[test]
    fn every_mutant_of_the_catalogue_applies_to_the_tree() {
        let mutants = read_catalogue().unwrap();
        assert!(mutants.len() >= 20, "{} mutants are too few", mutants.len());
        for mutant in &mutants {
            let text = fs::read_to_string(workspace_root().join(&mutant.file)).unwrap();
            mutant.apply(&text).unwrap();
        }
    }
}
