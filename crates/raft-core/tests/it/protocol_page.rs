//! `docs/protocol.md` says what is so: every script it names exists, and its election is the recorded one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn scripts_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts")
}

fn page() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol.md")).unwrap()
}

#[test]
fn every_script_it_names_exists() {
    let page = page();
    let named: BTreeSet<&str> = page
        .split('`')
        .filter(|word| word.split_once('/').is_some_and(|(folder, name)| is_folder(folder) && !name.is_empty()))
        .collect();
    assert!(named.len() > 40, "{named:?}");
    for script in named {
        assert!(scripts_folder().join(format!("{script}.script")).is_file(), "protocol.md names {script}");
    }
}

fn is_folder(name: &str) -> bool {
    !name.is_empty() && scripts_folder().join(name).is_dir() && !name.contains(['.', ' '])
}

#[test]
fn its_election_is_the_recorded_one() {
    let script = std::fs::read_to_string(scripts_folder().join("paper/an_election_in_one_round.script")).unwrap();
    let mut recorded = script.lines();
    let page = page();
    let traces = page.split("```\n").skip(1).step_by(2);
    let mut lines = 0;
    for line in traces.flat_map(str::lines) {
        assert!(recorded.any(|it| it == line), "protocol.md shows {line:?}, which the script does not, or not here");
        lines += 1;
    }
    assert!(lines > 15, "the page shows {lines} lines of the election");
}
