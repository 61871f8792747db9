//! A disk that is really full (F8): a small file system of the test's own, on which a server with its logs lives.
//!
//! To mount one without being root the test runs itself again in a user and mount namespace of its own. Where the
//! system does not allow that, it says so and tests nothing.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use raftd_tests::{Ctl, Node, Ports};
use serde_json::json;

/// Tells the second run where the file system is mounted.
const MOUNTED_AT: &str = "FULL_DISK_TEST_MOUNTED_AT";
const TEST: &str = "full_disk::a_server_on_a_full_disk_reads_refuses_writes_restarts_and_goes_on_by_itself";
const MOUNT_AND_RUN: &str = r#"mount -t tmpfs -o size=4m full "$0" && exec "$@""#;
/// Nothing takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_server_on_a_full_disk_reads_refuses_writes_restarts_and_goes_on_by_itself() {
    if let Some(folder) = std::env::var_os(MOUNTED_AT) {
        return live_on(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let namespace = |program: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", program]);
        command
    };
    let can_mount = namespace("sh").args(["-c", MOUNT_AND_RUN]).arg(folder.path()).arg("true").output();
    if !can_mount.is_ok_and(|output| output.status.success()) {
        eprintln!(
            "SKIPPED: this system lets nobody mount a file system in a namespace (`unshare --map-root-user --mount`)"
        );
        return;
    }
    let mut again = namespace("sh");
    again.args(["-c", MOUNT_AND_RUN]).arg(folder.path()).arg(std::env::current_exe().unwrap());
    let status = again.args(["--exact", TEST, "--nocapture"]).env(MOUNTED_AT, folder.path()).status().unwrap();
    assert!(status.success(), "the run within the namespace failed: {status}");
}

/// Writes into a file until there is no byte left.
fn fill(path: &Path) {
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    while file.write_all(&[b'x'; 4096]).is_ok() {}
}

fn live_on(folder: &Path) {
    let ports = Ports::reserve();
    let address = ports.address(1);
    let list = format!("1={address}");
    let mut node = Node::new(folder, 1, &["--listen", &address, "--cluster", &list, "--segment-size", "64KiB"]);
    node.start();
    let ctl = Ctl::new(&address);
    ctl.run(&["set", "first", "1"]).done();

    let others = folder.join("others");
    fill(&others);
    let value = "v".repeat(4_000);
    let mut script = ctl.script();
    let mut count = 0;
    let refusal = loop {
        let answer = script.ask(&format!("set k{count} {value}"));
        if answer["ok"] != json!(true) {
            break answer;
        }
        count += 1;
        assert!(count < 1_000, "the disk is never full");
    };
    assert_eq!((&refusal["error"], &refusal["maybe_applied"]), (&json!("no_space"), &json!(false)), "{refusal}");
    let refused = ctl.run(&["set", "first", "2"]);
    assert_eq!((refused.code, &refused.json()["error"]), (6, &json!("no_space")));
    assert_eq!(ctl.run(&["get", "first"]).done()["value"], json!("1"));

    // Somebody takes what was given up for the log, too; and then the process dies.
    fill(&others);
    node.kill();
    node.start();
    assert_eq!(ctl.run(&["get", "first"]).done()["value"], json!("1"), "read, and by a new leader");
    assert_eq!(ctl.run(&["set", "first", "2"]).json()["error"], json!("no_space"));

    std::fs::remove_file(&others).unwrap();
    let begin = Instant::now();
    while ctl.run(&["set", "first", "3"]).code != 0 {
        assert!(begin.elapsed() < PATIENCE, "it does not go on");
    }
    eprintln!("writes go on {} ms after there is space", begin.elapsed().as_millis());
    for place in 0..count {
        assert_eq!(ctl.run(&["get", &format!("k{place}")]).done()["value"], json!(value), "k{place} was acknowledged");
    }
    assert_eq!(ctl.run(&["get", "first"]).done()["value"], json!("3"));
    assert!(node.terminate().success());
}
