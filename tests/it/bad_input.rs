//! No input kills it (promise 6): bytes from the network, from files and from people.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use raftd_tests::node::raftd;
use raftd_tests::programs::{folder, programs};
use raftd_tests::{Cluster, Ctl};
use serde_json::json;

/// Only to fail instead of hanging, where a server neither answers nor closes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The same bytes on every run; nothing here needs more than their disorder.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// What strangers say first.
fn first_words() -> Vec<(&'static str, Vec<u8>)> {
    let tls_hello = [&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xFC, 0x03, 0x03][..], &noise(501)].concat();
    let mut words = vec![
        ("nothing", Vec::new()),
        ("one byte", vec![0]),
        ("1 MiB of noise", noise(1 << 20)),
        ("an HTTP request", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("a TLS hello", tls_hello),
        ("zeros", vec![0; 4096]),
        ("ones", vec![0xFF; 4096]),
        ("a Redis command", b"*1\r\n$4\r\nPING\r\n".to_vec()),
    ];
    // A length in either order of bytes, with nothing behind it.
    for length in [0, 1, 7, 8, 1 << 20, 1 << 21, (1 << 21) + 1, 1 << 23, 1 << 31, u32::MAX] {
        words.push(("a length, low byte first", length.to_le_bytes().to_vec()));
        words.push(("a length, high byte first", length.to_be_bytes().to_vec()));
        words.push(("a length and noise", [length.to_le_bytes().to_vec(), noise(64)].concat()));
    }
    words
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Waits until the server closes the connection.
#[track_caller]
fn is_closed(mut stream: TcpStream, what: &str) {
    let mut answer = [0; 4096];
    loop {
        match stream.read(&mut answer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
            Err(error) => panic!("after {what} the connection is still open: {error}"),
        }
    }
}

#[test]
fn strangers_on_the_port_are_shown_out_and_cost_nothing() {
    let mut cluster = Cluster::start_with(1, &["--handshake-timeout", "1s"]);
    let address = cluster.address(1);
    let ctl = cluster.ctl();
    ctl.run(&["set", "k", "v"]).done();
    for (what, bytes) in first_words() {
        // One that hangs up, and one that stays silent: the time for a handshake is bounded.
        for hangs_up in [true, false] {
            let mut stream = connect(&address);
            // The server may close while we still talk.
            let _ = stream.write_all(&bytes);
            if hangs_up {
                let _ = stream.shutdown(Shutdown::Write);
            }
            is_closed(stream, what);
        }
        assert!(cluster.node(1).is_running(), "{what} ended the server");
        assert_eq!(ctl.run(&["get", "k"]).done()["value"], json!("v"), "after {what}");
    }
}

#[test]
fn a_claim_of_4_gib_costs_nothing() {
    let mut cluster = Cluster::start(1);
    let address = cluster.address(1);
    cluster.ctl().run(&["set", "k", "v"]).done();
    let before = cluster.node(1).resident_bytes();
    let claim = [u32::MAX.to_le_bytes().to_vec(), vec![0xFF; 60]].concat();
    let open: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = connect(&address);
            let _ = stream.write_all(&claim);
            stream
        })
        .collect();
    for stream in open {
        is_closed(stream, "a claim of 4 GiB");
    }
    cluster.ctl().run(&["set", "k", "w"]).done();
    let grown = cluster.node(1).resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "200 claims of 4 GiB cost {grown} bytes");
}

#[test]
fn idle_strangers_do_not_shut_clients_out() {
    let mut cluster = Cluster::start_with(1, &["--handshake-timeout", "1s"]);
    let address = cluster.address(1);
    let before = cluster.node(1).resident_bytes();
    let idle: Vec<TcpStream> = (0..300).map(|_| connect(&address)).collect();
    cluster.ctl().run(&["set", "k", "v"]).done();
    for stream in idle {
        is_closed(stream, "silence");
    }
    let grown = cluster.node(1).resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "300 silent connections cost {grown} bytes");
}

/// A configuration file, and what the refusal must mention.
const BAD_FILES: &[(&str, &str)] = &[
    ("heartbeat-intervall = \"30ms\"\n", "heartbeat-interval"),
    ("elction_timeout = \"150ms..300ms\"\n", "election"),
    ("id = 1\nid = 2\n", "id"),
    ("id = \"one\"\n", "id"),
    ("id = 0\n", "id"),
    ("id = -1\n", "id"),
    ("id = [1]\n", "id"),
    ("heartbeat_interval = \"-5ms\"\n", "heartbeat"),
    ("heartbeat_interval = \"0ms\"\n", "heartbeat"),
    ("heartbeat_interval = \"99999999999999999999s\"\n", "heartbeat"),
    ("heartbeat_interval = \"30\"\n", "heartbeat"),
    ("heartbeat_interval = \"75ms\"\n", "heartbeat"),
    ("election_timeout = \"300ms..150ms\"\n", "election"),
    ("election_timeout = \"150ms..299ms\"\n", "election"),
    ("election_timeout = \"150ms\"\n", "election"),
    ("segment_size = \"4 XiB\"\n", "segment"),
    ("segment_size = \"99999999999999999999\"\n", "segment"),
    ("listen = \"127.0.0.1:65536\"\n", "65536"),
    ("listen = \"127.0.0.1\"\n", "listen"),
    ("listen = 7001\n", "listen"),
    ("cluster = \"1=127.0.0.1:7001,1=127.0.0.1:7002\"\n", "cluster"),
    ("cluster = \"1=127.0.0.1:7001,2=127.0.0.1:7001\"\n", "127.0.0.1:7001"),
    ("cluster = \"2=127.0.0.1:7002,3=127.0.0.1:7003\"\n", "cluster"),
    ("cluster = \"1=127.0.0.1:0\"\n", "cluster"),
    ("cluster = \"\"\n", "cluster"),
    ("cluster = \"one\"\n", "cluster"),
    ("log_format = \"xml\"\n", "log"),
    ("not toml\n", "raftd.toml:1"),
    ("id = \n", "raftd.toml:1"),
];

#[test]
fn a_bad_configuration_file_is_refused_with_its_place() {
    let folder = folder();
    let path = folder.path().join("raftd.toml");
    for (text, mention) in BAD_FILES {
        fs::write(&path, text).unwrap();
        let mut command = raftd();
        command.arg("--config").arg(&path);
        // Everything else is right, unless the file's own word on it is what is wrong.
        for (key, flag, value) in
            [("id", "--id", "1"), ("listen", "--listen", "127.0.0.1:0"), ("cluster", "--cluster", "1=127.0.0.1:7001")]
        {
            if !text.starts_with(key) {
                command.args([flag, value]);
            }
        }
        let output = command.arg("--data-dir").arg(folder.path().join("data")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text:?}: {said}");
        assert!(said.contains(mention), "{text:?} is refused without a word on {mention}: {said}");
        assert!(output.stdout.is_empty(), "{text:?}");
        assert!(!folder.path().join("data").exists(), "{text:?} left a data directory behind");
    }
}

#[test]
fn a_configuration_file_may_be_absent_empty_or_from_elsewhere() {
    let folder = folder();
    let check = |path: &std::path::Path| {
        let mut command = raftd();
        command.args(["--id", "1", "--listen", "127.0.0.1:0", "--cluster", "1=127.0.0.1:7001", "--check-config"]);
        command.arg("--config").arg(path).arg("--data-dir").arg(folder.path().join("data"));
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let path = folder.path().join("raftd.toml");
    let (code, said) = check(&path);
    assert_eq!(code, Some(2), "a file that is not there: {said}");
    assert!(said.contains("raftd.toml"), "{said}");
    let (code, said) = check(folder.path());
    assert_eq!(code, Some(2), "a folder: {said}");
    for fine in ["", "# nothing\r\n", "heartbeat-interval = \"20ms\"\r\nelection_timeout = \"1s..2s\"\r\n"] {
        fs::write(&path, fine).unwrap();
        let (code, said) = check(&path);
        assert_eq!(code, Some(0), "{fine:?}: {said}");
    }
    // Accepted or refused, but said: a mark of byte order, and bytes that are no text.
    for strange in [&b"\xEF\xBB\xBFheartbeat_interval = \"20ms\"\n"[..], b"\xFF\xFE\x00"] {
        fs::write(&path, strange).unwrap();
        let (code, said) = check(&path);
        assert!(matches!(code, Some(0 | 2)), "{strange:?}: {said}");
    }
}

#[test]
fn values_of_any_bytes_go_in_and_come_out() {
    let cluster = Cluster::start(1);
    let ctl = cluster.ctl();
    for value in
        [&b""[..], b"\0", b"\xFF\xFE", b"\x1b[31mred", b"two\nlines", "\u{e9}\u{1F600}".as_bytes(), &noise(1 << 19)]
    {
        assert_eq!(ctl.run_with_input(&["set", "k", "-"], value).code, 0);
        let raw = ctl.run(&["get", "k", "--raw"]);
        assert_eq!((raw.code, raw.stdout.as_slice()), (0, value));
        let json = ctl.run(&["get", "k"]).done();
        match std::str::from_utf8(value) {
            Ok(text) => assert_eq!(json["value"], json!(text)),
            Err(_) => assert!(json["value_b64"].is_string() && json.get("value").is_none(), "{json}"),
        }
    }
    let mut script = ctl.script();
    assert_eq!(script.ask(r"set $'bin\xFF' $'\x00\x01'")["ok"], json!(true));
    assert_eq!(script.ask(r"set 'quoted key' 'a b'")["ok"], json!(true));
    let scan = script.ask("scan");
    let items = scan["items"].as_array().unwrap();
    assert_eq!(items.len(), 3);
    assert!(items.iter().any(|item| item["key_b64"].is_string()), "{scan}");
    assert_eq!(script.finish(), 0);
}

#[test]
fn bad_lines_of_a_script_are_answered_and_the_script_goes_on() {
    let cluster = Cluster::start(1);
    let long_line = format!("set k {}", "x".repeat(1 << 20));
    let too_long_line = format!("set k {}", "x".repeat((3 << 20) + 1));
    let lines: &[(&str, Option<&str>)] = &[
        ("set k 'unbalanced", Some("usage")),
        ("set k \"unbalanced", Some("usage")),
        ("frobnicate", Some("usage")),
        ("get", Some("usage")),
        ("set k", Some("usage")),
        ("set '' v", Some("usage")),
        ("set k ''", None),
        (&long_line, None),
        (&too_long_line, Some("too_large")),
        ("get k", None),
    ];
    let mut script = cluster.ctl().with_switch("--keep-going").script();
    for (line, error) in lines {
        let answer = script.ask(line);
        let start: String = line.chars().take(40).collect();
        assert_eq!(answer["error"].as_str(), *error, "{start}: {}", answer["message"]);
    }
    assert_eq!(script.finish(), 2, "the code of the first failure");
}

#[test]
fn the_client_ends_quietly_when_nobody_reads() {
    let cluster = Cluster::start(1);
    let mut child = Command::new(&programs().raftctl)
        .args(["--endpoints", &cluster.address(1), "--output", "json", "--keep-going"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut input = child.stdin.take().unwrap();
    // It may end in the middle of our lines: that is the point.
    let _ = input.write_all("set k v\n".repeat(2_000).as_bytes());
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    assert!(output.status.code().is_some(), "not killed by a signal: {:?}", output.status);
}

#[test]
fn odd_ways_to_call_the_client_have_an_answer() {
    let cluster = Cluster::start(1);
    let address = cluster.address(1);
    let run =
        |arguments: &[&str]| Command::new(&programs().raftctl).args(arguments).stdin(Stdio::null()).output().unwrap();
    for arguments in [
        &["--timeout", "0s", "--endpoints", &address, "get", "k"][..],
        &["--timeout", "soon", "--endpoints", &address, "get", "k"],
        &["--endpoints", "", "get", "k"],
        &["--endpoints", "nowhere", "get", "k"],
        &["--endpoints", "127.0.0.1:99999", "get", "k"],
        &["--output", "xml", "get", "k"],
        &["--frobnicate"],
    ] {
        let output = run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(matches!(output.status.code(), Some(2..=4)), "{arguments:?}: {:?} {said}", output.status);
        assert!(!said.trim().is_empty() && !said.contains("panicked"), "{arguments:?}: {said}");
    }
    // An empty script has nothing to fail.
    assert_eq!(Ctl::new(&address).run_with_input(&[], b"").code, 0);
}
