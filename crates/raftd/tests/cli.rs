//! The binary from outside: exit statuses, what goes to which output, and the tools that read a stopped node's log.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use raft_core::{ClusterTime, Entry, HardState, LogIndex, LogPosition, NodeId, Payload, Term, WriteNumber};
use raft_storage::{FsDisk, Options, Storage};

fn raftd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_raftd")).args(arguments).env_remove("RUST_LOG").output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Status, and the one line on standard error.
fn refusal(arguments: &[&str]) -> (i32, String) {
    let output = raftd(arguments);
    assert_eq!(text(&output.stdout), "");
    let error = text(&output.stderr);
    assert_eq!(error.lines().count(), 1, "{error}");
    (output.status.code().unwrap(), error.trim_end().to_owned())
}

fn open(path: &Path) -> Storage<FsDisk> {
    let options = Options { segment_size_bytes: 4096, ..Options::new(NodeId::new(1).unwrap()) };
    Storage::open(FsDisk::open(path).unwrap(), options).unwrap().0
}

fn write_log(path: &Path, payloads: Vec<Payload>) {
    let entries = payloads.into_iter().zip(1..).map(|(payload, index)| Entry {
        position: LogPosition::new(Term(1), LogIndex(index)),
        stamp: ClusterTime(1000 * index),
        payload,
    });
    let write = raft_core::Write {
        number: WriteNumber(1),
        hard_state: Some(HardState { term: Term(1), voted_for: None }),
        truncate_from: None,
        entries: entries.collect(),
    };
    open(path).append(&[write]).unwrap();
}

#[test]
fn wrong_usage_ends_with_2() {
    assert_eq!(
        refusal(&["--idd", "1"]),
        (2, "raftd: unexpected argument '--idd' found; a similar argument exists: '--id'; see raftd --help".to_owned())
    );
    assert_eq!(refusal(&["--id", "0", "--data-dir", "d", "--listen", "a:1"]).0, 2);
    assert_eq!(
        refusal(&["log", "--data-dir", "d", "--from", "3", "--to", "2"]),
        (2, "raftd: --to 2 is before --from 3".to_owned())
    );
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(refusal(&["log", "--data-dir", empty.path().to_str().unwrap()]).0, 2);
}

#[test]
fn check_config_prints_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let output =
        raftd(&["--id", "1", "--data-dir", data.to_str().unwrap(), "--listen", "127.0.0.1:0", "--check-config"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    assert!(text(&output.stdout).lines().any(|line| line == "id = 1  # --id"), "{}", text(&output.stdout));
    assert!(!data.exists());
}

#[test]
fn help_goes_to_standard_output() {
    let output = raftd(&["--help"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    assert!(text(&output.stdout).contains("Usage: raftd"));
}

#[test]
fn a_directory_that_cannot_be_read_decides_the_status() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    assert_eq!(refusal(&["log", "--data-dir", &format!("{path}/missing")]).0, 1);

    let server = open(directory.path());
    let (status, message) = refusal(&["log", "--data-dir", path]);
    assert_eq!(status, 3);
    assert!(message.contains(&format!("is in use by process {}", std::process::id())), "{message}");
    drop(server);

    write_log(directory.path(), vec![Payload::Noop]);
    let segment = directory.path().join("log-00000000000000000001");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[1] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let (status, message) = refusal(&["log", "--data-dir", path]);
    assert_eq!(status, 4, "{message}");
    assert!(message.contains("log-00000000000000000001 is damaged at byte"), "{message}");
}

#[test]
fn log_prints_one_entry_a_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    write_log(directory.path(), vec![Payload::Noop; 3]);
    let output = raftd(&["log", "--data-dir", path, "--from", "2"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), "index=2 term=1 stamp=2000 kind=noop\nindex=3 term=1 stamp=3000 kind=noop\n");
    assert_eq!(text(&output.stderr), "raftd: note: the log ends at index 3; its last entries may not be committed\n");
    let output = raftd(&["log", "--data-dir", path, "--to", "1"]);
    assert_eq!(text(&output.stdout), "index=1 term=1 stamp=1000 kind=noop\n");
    let output = raftd(&["log", "--data-dir", path, "--from", "4"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), ""));
}
