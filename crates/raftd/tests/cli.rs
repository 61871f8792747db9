//! The binary from outside: exit statuses, what goes to which output, and the tools that read a stopped node's log.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use bytes::Bytes;
use kv_store::{ClientId, Command as StoreCommand, Envelope, Principal, SessionHeader, Stamp};
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
        restart_after: None,
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

/// A command of the client 0xabc..: its numbers are its requests'.
fn command(sequence: u64, command: StoreCommand) -> Payload {
    let session = SessionHeader {
        client: ClientId(0xabc << 116),
        birth: Stamp(1),
        sequence,
        lowest_unanswered: sequence,
        deadline: Stamp(1 << 40),
    };
    Payload::Command(Envelope { session, principal: Principal::nobody(), command }.encode())
}

fn set(sequence: u64, key: &'static str, value: &'static str) -> Payload {
    let (key, value) = (Bytes::from_static(key.as_bytes()), Bytes::from_static(value.as_bytes()));
    command(sequence, StoreCommand::Set { key, value, if_absent: false })
}

/// Runs to its end with status 0; standard output without the hashes, and standard error.
fn shown(arguments: &[&str]) -> (String, String) {
    let output = raftd(arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let words = |line: &str| line.split(' ').filter(|word| !word.starts_with("hash=")).collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = text(&output.stdout).lines().map(words).collect();
    (lines.join("\n"), text(&output.stderr).to_owned())
}

#[test]
fn log_shows_commands_in_words() {
    let directory = tempfile::tempdir().unwrap();
    write_log(directory.path(), vec![Payload::Noop, set(1, "a", "1"), Payload::Command(Bytes::from_static(b"\0"))]);
    let (lines, _) = shown(&["log", "--data-dir", directory.path().to_str().unwrap(), "--from", "2"]);
    let [command, unreadable] = lines.lines().collect::<Vec<_>>()[..] else { panic!("{lines}") };
    let expected = "index=2 term=1 stamp=2000 kind=command client=abc00000 sequence=1 op=set key=\"a\" value=\"1\" if_absent=false";
    assert_eq!(command, expected);
    assert!(unreadable.starts_with("index=3 term=1 stamp=3000 kind=command op=unreadable why="), "{unreadable}");
}

#[test]
fn replay_shows_the_state_at_an_index() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    // The third and fifth entries are one request, tried twice: applied once.
    let incr = || command(2, StoreCommand::Increment { key: Bytes::from_static(b"n"), by: 5 });
    write_log(directory.path(), vec![Payload::Noop, set(1, "a", "1"), incr(), set(3, "a", "2\n"), incr()]);
    let a2 = "key=\"a\" value=\"2\\n\" create_revision=1 mod_revision=3 version=2";
    let n5 = "key=\"n\" value=\"5\" create_revision=2 mod_revision=2 version=1";

    let (lines, notes) = shown(&["replay", "--data-dir", path, "scan", ""]);
    assert_eq!(lines, format!("index=5 term=1 revision=3 keys=2\n{a2}\n{n5}"));
    assert!(notes.contains("it may not be committed"), "{notes}");

    let (lines, notes) = shown(&["replay", "--data-dir", path, "--to", "2", "get", "a"]);
    let found = "found=true key=\"a\" value=\"1\" create_revision=1 mod_revision=1 version=1";
    assert_eq!((lines, notes.as_str()), (format!("index=2 term=1 revision=1 keys=1\n{found}"), ""));
    let (lines, _) = shown(&["replay", "--data-dir", path, "--to", "2", "get", "n"]);
    assert_eq!(lines.lines().last(), Some("found=false key=\"n\""));
    let (lines, _) = shown(&["replay", "--data-dir", path, "--to", "0"]);
    assert_eq!(lines, "index=0 term=0 revision=0 keys=0");
    assert_eq!(
        refusal(&["replay", "--data-dir", path, "--to", "6"]),
        (2, format!("raftd: --to 6 is beyond the log in {path}, which ends at index 5"))
    );
}

#[test]
fn diff_compares_two_nodes_at_one_index() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let paths = [&one, &two].map(|directory| directory.path().to_str().unwrap());
    write_log(one.path(), vec![set(1, "a", "1"), set(2, "b", "2"), set(3, "c", "3"), set(4, "d", "4")]);
    write_log(two.path(), vec![set(1, "a", "1"), set(2, "b", "x"), set(3, "e", "3")]);
    let diff = |more: &[&str]| {
        let fixed = ["replay", "--data-dir", paths[0], "--diff", paths[1]];
        shown(&[&fixed, more].concat())
    };
    let heads = |words: &str| [1, 2].map(|n| format!("dir={n} path=\"{}\" {words}", paths[n - 1])).join("\n");

    let (lines, notes) = diff(&["--to", "1"]);
    assert_eq!((lines, notes.as_str()), (format!("{}\nequal=true", heads("index=1 term=1 revision=1 keys=1")), ""));

    let (lines, notes) = diff(&[]);
    let expected = [
        &heads("index=3 term=1 revision=3 keys=3"),
        "key=\"b\" value_1=\"2\" mod_revision_1=2 value_2=\"x\" mod_revision_2=2",
        "only_in=1 key=\"c\" value=\"3\" create_revision=3 mod_revision=3 version=1",
        "only_in=2 key=\"e\" value=\"3\" create_revision=3 mod_revision=3 version=1",
        "equal=false",
    ];
    assert_eq!(lines, expected.join("\n"));
    assert!(notes.contains("at index 3, the last"), "{notes}");
    assert_eq!(refusal(&["replay", "--data-dir", paths[0], "--diff", paths[1], "--to", "4"]).0, 2);
}
