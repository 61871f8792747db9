//! The README's session is what a newcomer sees: typed here as it stands there, with the same answers.

use raftd_tests::Cluster;
use raftd_tests::programs::workspace_root;

/// The prompt of the REPL in the README.
const PROMPT: &str = "raftctl> ";

/// The commands of the session and what is printed after each.
fn session() -> Vec<(String, Vec<String>)> {
    let readme = std::fs::read_to_string(workspace_root().join("README.md")).unwrap();
    let mut steps: Vec<(String, Vec<String>)> = Vec::new();
    let mut is_inside = false;
    for line in readme.lines() {
        if let Some(command) = line.strip_prefix(PROMPT) {
            steps.push((command.to_owned(), Vec::new()));
            is_inside = true;
        } else if line.starts_with("```") {
            is_inside = false;
        } else if is_inside && let Some((_, answer)) = steps.last_mut() {
            answer.push(line.to_owned());
        }
    }
    steps
}

#[test]
fn the_readmes_session_is_true() {
    let cluster = Cluster::start(3);
    let ctl = cluster.ctl().with("--output", "text");
    let steps = session();
    assert!(steps.len() >= 5, "the README shows a session: {steps:?}");
    for (command, shown) in steps {
        let words: Vec<&str> = command.split(' ').collect();
        let answer = ctl.run(&words);
        // On a terminal both are seen, the answer first.
        let said = answer.text() + &answer.stderr;
        assert_eq!(said.lines().collect::<Vec<_>>(), shown, "{command}");
    }
}
