//! `cargo xtask cluster`: what it starts it also stops, whatever happens to it.

use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdout, Output, Stdio};

use raftd_tests::Ctl;
use raftd_tests::node::wait_for_end;
use raftd_tests::programs::cargo;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::json;

/// A cluster of a name of its own. Dropped, it is stopped and removed.
struct Local {
    name: String,
}

/// `cargo xtask cluster up` in the foreground, and what it says.
struct Front {
    child: Child,
    _said: BufReader<ChildStdout>,
    servers: Vec<Server>,
}

struct Server {
    address: String,
    pid: Pid,
    pidfd: OwnedFd,
}

impl Local {
    fn new(test: &str) -> Self {
        Self { name: format!("it-{test}-{}", std::process::id()) }
    }

    fn xtask(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("cargo runs these tests")
    }

    fn command(&self, words: &[&str]) -> std::process::Command {
        let mut command = cargo();
        command.args(["run", "--quiet", "--package", "xtask", "--", "cluster", "--name", &self.name]).args(words);
        command.stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn done(&self, words: &[&str]) -> String {
        let output = self.xtask(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[track_caller]
    fn refused(&self, words: &[&str]) -> String {
        let output = self.xtask(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Starts it in the foreground and waits until it stands.
    fn up(&self) -> Front {
        let mut child = self.command(&["up"]).stdout(Stdio::piped()).spawn().expect("cargo runs these tests");
        let mut said = BufReader::new(child.stdout.take().expect("standard output is piped just above"));
        let mut all = String::new();
        while !all.contains("stops the nodes") {
            let length = said.read_line(&mut all).expect("xtask speaks UTF-8");
            assert!(length > 0, "it did not come up: {all}");
        }
        Front { child, _said: said, servers: servers(&all) }
    }
}

/// The servers in a table such as `  node 1  127.0.0.1:7001  pid 4711  leader ..`.
fn servers(table: &str) -> Vec<Server> {
    let server = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["node", _, address, "pid", pid, ..] = words.as_slice() else { return None };
        let pid = Pid::from_raw(pid.trim_end_matches(',').parse().ok()?)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("the server runs");
        Some(Server { address: (*address).to_owned(), pid, pidfd })
    };
    table.lines().filter_map(server).collect()
}

impl Drop for Local {
    fn drop(&mut self) {
        self.xtask(&["down"]);
        self.xtask(&["rm"]);
    }
}

impl Front {
    fn ctl(&self) -> Ctl {
        let addresses: Vec<&str> = self.servers.iter().map(|server| server.address.as_str()).collect();
        Ctl::new(&addresses.join(",")).with("--timeout", "30s")
    }

    /// Sends the front a signal and waits for its end; returns its exit code.
    fn end_by(&mut self, signal: Signal) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), signal).expect("the front is ours and not waited for");
        self.child.wait().expect("the front is ours").code()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // Ended already, if the test came so far.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn no_server_outlives_the_front_and_the_data_stays() {
    let local = Local::new("ends");
    let mut front = local.up();
    assert_eq!(front.servers.len(), 3);
    front.ctl().run(&["set", "k", "1"]).done();
    assert_eq!(front.end_by(Signal::KILL), None);
    for server in &front.servers {
        assert!(wait_for_end(&server.pidfd), "a server outlives a front that was killed");
    }

    let mut front = local.up();
    assert_eq!(front.ctl().run(&["incr", "k"]).done()["value"], json!(2));
    assert_eq!(front.end_by(Signal::INT), Some(0));
    for server in &front.servers {
        assert!(wait_for_end(&server.pidfd), "a server outlives a front that ended");
    }
}

/// Nobody is left to stop them then: the kernel does.
#[test]
fn no_server_outlives_the_supervisor_either() {
    let local = Local::new("orphans");
    let mut front = local.up();
    let supervisor = parent_of(front.servers[0].pid);
    assert_ne!(supervisor, Pid::from_child(&front.child), "the servers are not the front's own children");
    kill_process(supervisor, Signal::KILL).expect("the supervisor runs");
    for server in &front.servers {
        assert!(wait_for_end(&server.pidfd), "a server outlives its supervisor");
    }
    assert_eq!(front.child.wait().expect("the front is ours").code(), Some(0), "the front notices");
    // What a killed supervisor leaves behind, its lock and its socket, is in nobody's way.
    let again = local.up();
    again.ctl().run(&["set", "k", "v"]).done();
}

fn parent_of(pid: Pid) -> Pid {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).expect("the process runs");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("every process has a parent");
    parent.trim().parse().ok().and_then(Pid::from_raw).expect("a parent has a number")
}

#[test]
fn another_terminal_kills_restarts_pauses_and_stops() {
    let local = Local::new("commands");
    assert!(local.refused(&["status"]).contains("is not running"));
    assert!(local.refused(&["rm"]).contains("there is no cluster"));
    let mut front = local.up();
    let ctl = front.ctl();
    ctl.run(&["set", "k", "0"]).done();
    assert!(local.refused(&["up"]).contains("is running already"));
    assert!(local.refused(&["rm"]).contains("stop it first"));
    assert!(local.refused(&["kill", "4"]).contains("there is no node 4"));
    assert!(local.refused(&["cut", "1-2"]).contains("yet"));

    let killed = local.done(&["kill", "leader"]);
    let id = killed.split_whitespace().nth(1).expect("node N is killed").to_owned();
    assert_eq!(ctl.run(&["incr", "k"]).done()["value"], json!(1));
    assert!(local.refused(&["kill", &id]).contains("is not running"));
    assert!(local.done(&["status"]).contains("killed by SIGKILL"));
    local.done(&["restart", &id]);
    local.done(&["pause", "1"]);
    assert!(local.done(&["status"]).contains("paused"));
    local.done(&["resume", "1"]);
    assert_eq!(ctl.run(&["incr", "k"]).done()["value"], json!(2));
    let after = servers(&local.done(&["status"]));
    assert_eq!(after.len(), 3);

    local.done(&["down"]);
    for server in after.iter().chain(&front.servers) {
        assert!(wait_for_end(&server.pidfd), "a server outlives `down`");
    }
    assert_eq!(front.child.wait().expect("the front is ours").code(), Some(0), "the front ends with its cluster");
    assert!(local.refused(&["up", "-n", "5"]).contains("3 nodes"));
}
