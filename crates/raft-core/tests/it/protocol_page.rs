//! `docs/protocol.md` and `docs/conformance.md` say what is so: every script they name exists, every test the latter names too, and
//! the former's election is the recorded one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn scripts_folder() -> PathBuf {
    root().join("tests/scripts")
}

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join("../../docs").join(name)).unwrap()
}

#[test]
fn every_script_they_name_exists() {
    for name in ["protocol.md", "conformance.md"] {
        let page = page(name);
        let named: BTreeSet<&str> = page
            .split('`')
            .filter(|word| word.split_once('/').is_some_and(|(folder, name)| is_folder(folder) && !name.is_empty()))
            .collect();
        assert!(named.len() > 40, "{named:?}");
        for script in named {
            assert!(scripts_folder().join(format!("{script}.script")).is_file(), "{name} names {script}");
        }
    }
}

#[test]
fn every_test_the_conformance_page_names_exists() {
    let page = page("conformance.md");
    let named: BTreeSet<(&str, &str)> = page.split('`').filter_map(|word| word.split_once("::")).collect();
    assert!(named.len() > 5, "{named:?}");
    for (file, test) in named {
        let source = std::fs::read_to_string(root().join(format!("tests/it/{file}.rs"))).unwrap();
        assert!(source.contains(&format!("#[test]\nfn {test}(")), "conformance.md names {file}::{test}");
    }
}

fn is_folder(name: &str) -> bool {
    !name.is_empty() && scripts_folder().join(name).is_dir() && !name.contains(['.', ' '])
}

#[test]
fn its_election_is_the_recorded_one() {
    let script = std::fs::read_to_string(scripts_folder().join("paper/an_election_in_one_round.script")).unwrap();
    let mut recorded = script.lines();
    let page = page("protocol.md");
    let traces = page.split("```\n").skip(1).step_by(2);
    let mut lines = 0;
    for line in traces.flat_map(str::lines) {
        assert!(recorded.any(|it| it == line), "protocol.md shows {line:?}, which the script does not, or not here");
        lines += 1;
    }
    assert!(lines > 15, "the page shows {lines} lines of the election");
}
