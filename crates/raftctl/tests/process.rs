//! The process as a script sees it: what it writes where, and how it ends. No server is needed for any of this.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

/// An address where nobody listens: the port was free a moment ago.
fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn raftctl(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raftctl"));
    for name in ["ENDPOINTS", "TIMEOUT", "OUTPUT", "READ", "KEEP_GOING"] {
        command.env_remove(format!("RAFTCTL_{name}"));
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn ended(arguments: &[&str]) -> (i32, String, String) {
    read(&raftctl(arguments).output().unwrap())
}

fn read(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// Runs a script, at an address where nobody listens.
fn script(flags: &[&str], lines: &[u8]) -> (i32, String, String) {
    let address = nobody();
    let flags = [&["--endpoints", &address, "--timeout", "50ms", "--output", "json"], flags].concat();
    let mut child = raftctl(&flags).stdin(Stdio::piped()).spawn().unwrap();
    // It may end before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(lines);
    read(&child.wait_with_output().unwrap())
}

#[test]
fn where_nobody_listens_it_ends_with_3_and_says_so_in_the_form_asked_for() {
    let address = nobody();
    let flags = ["--endpoints", &address, "--timeout", "100ms"];
    let (code, out, notes) = ended(&[&flags[..], &["set", "k", "v"]].concat());
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(notes.starts_with("unavailable: no node could be reached"), "{notes}");

    let (code, out, notes) = ended(&[&flags[..], &["--output", "json", "set", "k", "v"]].concat());
    assert_eq!((code, notes.as_str()), (3, ""));
    assert!(out.starts_with(r#"{"ok":false,"op":"set","error":"unavailable","message":""#), "{out}");
    assert!(out.ends_with("\"maybe_applied\":false}\n"), "{out}");

    for command in ["status", "hash", "bench", "scan"] {
        let (code, out, _) = ended(&[&flags[..], &["--output", "json", command]].concat());
        assert_eq!(code, 3, "{command}");
        assert!(out.starts_with(&format!(r#"{{"ok":false,"op":"{command}","error":"unavailable""#)), "{out}");
    }
}

#[test]
fn endpoints_that_accept_and_never_speak_end_in_time() {
    // Nobody accepts, and the kernel completes the connection all the same.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = mute.local_addr().unwrap().to_string();
    for command in [&["get", "k"][..], &["incr", "k"], &["status"], &["hash"]] {
        let flags = ["--endpoints", &address, "--timeout", "300ms", "--output", "json"];
        let (code, out, _) = ended(&[&flags[..], command].concat());
        assert_eq!(code, 3, "{out}");
        assert!(out.contains(r#""error":"unavailable""#), "{out}");
    }
}

#[test]
fn what_is_written_wrongly_ends_with_2_and_one_line_of_json() {
    for line in [
        &["--timeout", "0", "set", "k", "v"][..],
        &["--timeout", "5", "set", "k", "v"],
        &["--endpoints", "", "set", "k", "v"],
        &["--frob", "set", "k", "v"],
        &["--read", "sometimes", "set", "k", "v"],
        &["set", "k"],
        &["set", "k", "v", "--ttl", "1"],
    ] {
        let (code, out, notes) = ended(&[&["--output", "json"], line].concat());
        assert_eq!((code, notes.as_str()), (2, ""), "{line:?}");
        assert!(out.starts_with(r#"{"ok":false,"op":"set","error":"usage","message":""#), "{out}");
        assert_eq!(out.lines().count(), 1, "{out}");
        assert_eq!(ended(line).0, 2, "{line:?}");
    }
}

#[test]
fn help_and_version_end_well() {
    let (code, out, _) = ended(&["help"]);
    assert_eq!(code, 0);
    assert!(out.contains("scan"), "{out}");
    let (code, out, _) = ended(&["--help"]);
    assert!(code == 0 && out.contains("Exit codes") && out.contains("RAFTCTL_ENDPOINTS"), "{out}");
    assert_eq!(ended(&["--version"]).0, 0);
}

#[test]
fn a_script_stops_at_its_first_failure_or_goes_on() {
    let lines = b"help\nfrob\nget k\n";
    let (code, out, _) = script(&[], lines);
    assert_eq!((code, out.lines().count()), (2, 2), "{out}");
    let (code, out, _) = script(&["--keep-going"], lines);
    assert_eq!((code, out.lines().count()), (2, 3), "{out}");
    let (code, out, _) = script(&["--keep-going"], b"get k\nfrob\n");
    assert_eq!((code, out.lines().count()), (3, 2), "{out}");
    assert_eq!(script(&[], b""), (0, String::new(), String::new()));
    assert_eq!(script(&[], b"\n# nothing\r\n"), (0, String::new(), String::new()));
}

#[test]
fn the_environment_stands_in_for_flags() {
    let output = raftctl(&["set", "k"]).env("RAFTCTL_OUTPUT", "json").output().unwrap();
    assert!(read(&output).1.starts_with(r#"{"ok":false,"op":"set","error":"usage""#));
    let mut child =
        raftctl(&["--output", "json"]).env("RAFTCTL_KEEP_GOING", "1").stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"frob\nfrob\n").unwrap();
    assert_eq!(read(&child.wait_with_output().unwrap()).1.lines().count(), 2);
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let mut child = raftctl(&[]).stdin(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let _ = child.stdin.take().unwrap().write_all("help\n".repeat(100).as_bytes());
    let output = child.wait_with_output().unwrap();
    assert_eq!(read(&output), (0, String::new(), String::new()));
}

#[test]
fn a_value_from_standard_input_has_the_limit_of_a_value() {
    let address = nobody();
    let flags = ["--endpoints", &address, "--timeout", "50ms", "--output", "json", "set", "k", "-"];
    let mut child = raftctl(&flags).stdin(Stdio::piped()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(&vec![b'x'; (1 << 20) + 1]);
    let (code, out, _) = read(&child.wait_with_output().unwrap());
    assert_eq!(code, 2);
    assert!(out.starts_with(r#"{"ok":false,"op":"set","error":"too_large""#), "{out}");
}
