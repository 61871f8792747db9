//! Every exit code of `raftd` and `raftctl` that can be brought about from outside, with what is said about it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use raftd_tests::node::raftd;
use raftd_tests::programs::folder;
use raftd_tests::{Cluster, Ctl, Node, Started};
use serde_json::json;

#[track_caller]
fn ends_with(node: &mut Node, code: i32) -> String {
    let before = node.log_text().len();
    match node.try_start() {
        Started::Ready(_) => panic!("node {} is ready and should have ended with {code}", node.id()),
        Started::Ended(status) => assert_eq!(status.code(), Some(code), "{}", node.log_text()),
    }
    node.log_text().split_off(before)
}

#[test]
fn raftd_0_stopped_on_request() {
    let mut cluster = Cluster::start(1);
    assert_eq!(cluster.node(1).terminate().code(), Some(0));
    cluster.node(1).start();
    cluster.node(1).signal(rustix::process::Signal::INT);
    assert_eq!(cluster.node(1).wait().code(), Some(0));
}

#[test]
fn raftd_1_a_port_in_use_is_named() {
    let mut cluster = Cluster::new(1, &[]);
    let _held = TcpListener::bind(cluster.address(1)).unwrap();
    let address = cluster.address(1);
    let said = ends_with(cluster.node(1), 1);
    assert!(said.contains(&address), "{said}");
}

#[test]
fn raftd_3_a_directory_locked_or_foreign() {
    let mut cluster = Cluster::start(1);
    let data = cluster.node(1).data().to_path_buf();
    let second = Start { data: &data, id: 1, address: cluster.address(2), list: format!("1={}", cluster.address(2)) };
    let said = second.refused();
    assert!(said.contains(&*data.to_string_lossy()), "{said}");

    cluster.node(1).terminate();
    let stranger = Start { data: &data, id: 2, address: cluster.address(2), list: format!("2={}", cluster.address(2)) };
    let said = stranger.refused();
    assert!(said.contains("node 1") || said.contains("n1"), "says whose it is: {said}");
    // A refusal changes nothing: the owner still starts.
    cluster.node(1).start();
}

/// A start that must end with 3.
struct Start<'a> {
    data: &'a Path,
    id: u64,
    address: String,
    list: String,
}

impl Start<'_> {
    fn refused(&self) -> String {
        let output = raftd()
            .args(["--id", &self.id.to_string(), "--listen", &self.address, "--cluster", &self.list, "--data-dir"])
            .arg(self.data)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(output.stdout.is_empty(), "nothing but the ready line goes to standard output");
        said
    }
}

/// A byte that rotted in the middle of the log is damage: never cut away as if it were a torn tail (rule 4).
#[test]
fn raftd_4_damage_is_named_with_file_and_offset_and_nothing_is_changed() {
    let mut cluster = Cluster::start(1);
    let mut script = cluster.ctl().script();
    for number in 0..50 {
        script.ask(&format!("set key{number} needle-of-the-value-{number:04}"));
    }
    drop(script);
    cluster.node(1).terminate();
    let (file, offset) = find(cluster.node(1).data(), b"needle-of-the-value-0007").expect("the log holds the value");
    let mut bytes = fs::read(&file).unwrap();
    bytes[offset] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let said = ends_with(cluster.node(1), 4);
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    assert!(said.contains(&name), "names the file {name}: {said}");
    assert!(said.contains("offset") || said.contains("byte"), "names the place: {said}");
    assert_eq!(fs::read(&file).unwrap(), bytes, "the evidence is kept");
    bytes[offset] ^= 1;
    fs::write(&file, &bytes).unwrap();
    cluster.node(1).start();
    let value = cluster.ctl().run(&["get", "key49"]).done();
    assert_eq!(value["value"], json!("needle-of-the-value-0049"));
}

/// The first place of `needle` in the files below `folder`.
fn find(folder: &Path, needle: &[u8]) -> Option<(PathBuf, usize)> {
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if let Some(offset) = fs::read(&path).unwrap().windows(needle.len()).position(|part| part == needle)
            {
                return Some((path, offset));
            }
        }
    }
    None
}

#[test]
fn raftctl_codes_of_a_running_cluster() {
    let cluster = Cluster::start(1);
    let ctl = cluster.ctl();
    let long_value = vec![b'x'; (1 << 20) + 1];
    ctl.run(&["set", "text", "abc"]).done();
    assert_eq!(ctl.run_with_input(&["set", "long", "-"], &long_value[1..]).code, 0, "1 MiB is within the limit");
    let too_large = ctl.run_with_input(&["set", "long", "-"], &long_value);
    assert_eq!((too_large.code, &too_large.json()["error"]), (2, &json!("too_large")));
    assert_eq!(too_large.json()["maybe_applied"], json!(false));
    let wrong_type = ctl.run(&["incr", "text"]);
    assert_eq!((wrong_type.code, &wrong_type.json()["error"]), (1, &json!("wrong_type")));
    assert_eq!(ctl.run(&["get", "nothing"]).code, 1);
    assert_eq!(ctl.run(&["del", "nothing"]).code, 1);
    assert_eq!(ctl.run(&["cas", "text", "x", "y"]).code, 1);
    assert_eq!(ctl.run(&["set", "text", "x", "--if-absent"]).code, 1);
    for words in [
        &["frobnicate"][..],
        &["get"],
        &["set", "k"],
        &["set", "k", "a", "b"],
        &["set", "", "v"],
        &["incr", "k", "x"],
        &["incr", "k", "9223372036854775808"],
        &["scan", "--limit", "x"],
        &["get", "k", "--frobnicate"],
        &["txn", "get a"],
        &["txn", "if value(a) = 1 then get a"],
        &["watch"],
        &["watch", "k", "--prefix", "p"],
        &["watch", "k", "--count", "0"],
        &["lease", "grant", "10"],
        &["lease", "revoke", "x"],
        &["member", "frobnicate"],
        &["member", "add", "4"],
        &["member", "promote", "9"],
        &["member", "remove", "1"],
        &["leader", "transfer", "x"],
        &["leader", "frobnicate"],
        &["set", "k", "v", "--ttl", "1"],
        &["set", "k", "v", "--ttl", "0s"],
        &["set", "k", "v", "--lease", "0"],
        &["get", "k", "--rev", "999999"],
        &["get", "k", "--rev", "-1"],
    ] {
        let answer = ctl.run(words);
        assert_eq!((answer.code, &answer.json()["error"]), (2, &json!("usage")), "{words:?}: {answer:?}");
    }
}

#[test]
fn raftctl_3_and_4_nobody_there_or_nobody_speaks() {
    let ports = raftd_tests::ports::Ports::reserve();
    let nobody = Ctl::new(&ports.address(1)).with("--timeout", "1s").run(&["set", "k", "v"]);
    assert_eq!((nobody.code, &nobody.json()["error"]), (3, &json!("unavailable")), "{nobody:?}");
    assert_eq!(nobody.json()["maybe_applied"], json!(false));
    // Accepts (the kernel does) and never speaks.
    let mute = TcpListener::bind(ports.address(2)).unwrap();
    let silence = Ctl::new(&mute.local_addr().unwrap().to_string()).with("--timeout", "1s").run(&["get", "k"]);
    assert!(matches!(silence.code, 3 | 4), "{silence:?}");
    assert!(matches!(silence.json()["error"].as_str(), Some("unavailable" | "timeout")), "{silence:?}");
}

#[test]
fn scripts_stop_at_the_first_failure_unless_told_to_keep_going() {
    let cluster = Cluster::start(1);
    let script = b"set a 1\n\n# a comment\nfrobnicate\nincr a\nget nothing\n";
    let stopped = cluster.ctl().run_with_input(&[], script);
    assert_eq!((stopped.code, stopped.text().lines().count()), (2, 2), "{stopped:?}");
    let kept_going = cluster.ctl().with_switch("--keep-going").run_with_input(&[], script);
    assert_eq!((kept_going.code, kept_going.text().lines().count()), (2, 4), "{kept_going:?}");
    // An absent key is an answer, not a failure: the script goes on, and its code says so at the end.
    let absent = cluster.ctl().run_with_input(&[], b"get nothing\nset b 1\n");
    assert_eq!(absent.text().lines().count(), 2, "{absent:?}");
    // What needs standard input or output for itself has no place in a script.
    for line in [&b"set k -\n"[..], b"get a --raw\n"] {
        let answer = cluster.ctl().run_with_input(&[], line);
        assert_eq!((answer.code, &answer.json()["error"]), (2, &json!("usage")), "{answer:?}");
    }
}

#[test]
fn raftd_2_bad_flags_change_nothing() {
    let folder = folder();
    let data = folder.path().join("data");
    let output = raftd().args(["--id", "0", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&data).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(!data.exists(), "a start that is refused leaves no directory behind");
}
