//! `cargo xtask cluster`: what it starts it also stops, whatever happens to it.

use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdout, Output, Stdio};

use raftd_tests::Ctl;
use raftd_tests::node::wait_for_end;
use raftd_tests::programs::cargo;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::json;

/// How often a question is repeated that blocks by itself.
const TRIES: u32 = 12;

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

    /// Waits until `id` takes part again, by a write that needs it: another node is paused.
    fn wait_until_whole(&self, front: &Front, id: usize) {
        let (leader, followers) = front.leader_and_followers();
        let paused = followers.into_iter().find(|follower| *follower != id).expect("there are two").to_string();
        self.done(&["pause", &paused]);
        front.ctl_of(&[leader]).run(&["set", "whole", "1"]).done();
        self.done(&["resume", &paused]);
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

/// The other two of three nodes.
fn others(id: usize) -> [usize; 2] {
    match id {
        1 => [2, 3],
        2 => [1, 3],
        _ => [1, 2],
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.xtask(&["down"]);
        self.xtask(&["rm"]);
    }
}

impl Front {
    fn ctl(&self) -> Ctl {
        self.ctl_of(&[1, 2, 3])
    }

    /// A client that knows these nodes.
    fn ctl_of(&self, ids: &[usize]) -> Ctl {
        let addresses: Vec<&str> = ids.iter().map(|id| self.servers[id - 1].address.as_str()).collect();
        Ctl::new(&addresses.join(",")).with("--timeout", "30s")
    }

    /// The leader and the other two, once each of them knows who leads.
    fn leader_and_followers(&self) -> (usize, [usize; 2]) {
        for id in 1..=3 {
            self.ctl_of(&[id]).run(&["incr", "met"]).done();
        }
        let leader = self.ctl().run(&["status"]).done()["leader"].as_u64().expect("it has just served");
        let leader = usize::try_from(leader).expect("an id of three");
        (leader, others(leader))
    }

    /// What a node says it is.
    fn role(&self, id: usize) -> String {
        let status = self.ctl_of(&[id]).run(&["status"]).done();
        let own = status["nodes"].as_array().and_then(|nodes| nodes.iter().find(|node| node["id"] == json!(id)));
        own.and_then(|own| own["role"].as_str()).expect("clients reach a node whose links are cut").to_owned()
    }

    /// Waits until a node whose links are cut has noticed that it leads nobody.
    fn wait_until_deposed(&self, id: usize) {
        for _ in 0..TRIES {
            // Blocks for longer than a leader that hears nobody stays one: nobody is there to confirm the read.
            let read = self.ctl_of(&[id]).with("--timeout", "1s").run(&["get", "k"]);
            assert_eq!(read.code, 4, "no majority, no answer: {read:?}");
            if self.role(id) != "leader" {
                return;
            }
        }
        panic!("node {id} leads, and nobody follows");
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

/// The servers know nothing of the cuts: what happens is what Raft does about a network that is silent.
#[test]
fn a_leader_that_is_cut_off_is_replaced_and_follows_when_healed() {
    let local = Local::new("cuts");
    let front = local.up();
    let (old, [one, other]) = front.leader_and_followers();
    assert!(
        local
            .done(&["cut", &format!("{old}-{one}")])
            .contains(&format!("`cargo xtask cluster heal --name {}`", local.name))
    );
    local.done(&["cut", &format!("{other}-{old}")]);
    front.ctl_of(&[one, other]).run(&["set", "k", "1"]).done();
    front.wait_until_deposed(old);
    let leader = front.ctl_of(&[one, other]).run(&["status"]).done()["leader"].clone();
    assert!([json!(one), json!(other)].contains(&leader), "{leader}");
    let status = local.done(&["status"]);
    let pair = |id: usize| format!("{}-{}", old.min(id), old.max(id));
    let (first, second) = (pair(one), pair(other));
    assert!(status.ends_with(&format!("  cut: {first}, {second}\n")), "{status}");

    assert_eq!(local.done(&["heal"]), "all links are whole\n");
    assert!(!local.done(&["status"]).contains("cut: "));
    local.wait_until_whole(&front, old);

    let isolated = local.done(&["isolate", "leader"]);
    let old = isolated.split_whitespace().nth(1).and_then(|id| id.parse().ok()).expect("node N and its peers ..");
    let [one, other] = others(old);
    front.ctl_of(&[one, other]).run(&["set", "k", "2"]).done();
    front.wait_until_deposed(old);
    // A cut outlasts the servers at its ends.
    for id in [old, one] {
        local.done(&["kill", &id.to_string()]);
        local.done(&["restart", &id.to_string()]);
    }
    local.done(&["pause", &other.to_string()]);
    local.done(&["resume", &other.to_string()]);
    assert_eq!(front.ctl_of(&[one, other]).run(&["get", "k"]).done()["value"], json!("2"));
    front.wait_until_deposed(old);
    local.done(&["heal"]);
    local.wait_until_whole(&front, old);
}

#[test]
fn a_link_can_be_cut_one_way() {
    let local = Local::new("one-way");
    let front = local.up();
    let (leader, [follower, other]) = front.leader_and_followers();
    let own_view = |id| front.ctl_of(&[id]).with("--read", "local").run(&["get", "k"]).json()["value"].clone();

    // Whoever leads, nothing of it comes.
    local.done(&["cut", &format!("{leader}>{follower}")]);
    assert!(local.done(&["status"]).ends_with(&format!("  cut: {leader}>{follower}\n")));
    local.done(&["cut", &format!("{other}>{follower}")]);
    front.ctl_of(&[leader, other]).run(&["set", "k", "new"]).done();
    assert_ne!(own_view(follower), json!("new"));
    local.done(&["heal"]);
    local.wait_until_whole(&front, follower);

    // The other way: what is written comes, and what the follower says to it is lost.
    let (leader, [follower, other]) = front.leader_and_followers();
    local.done(&["cut", &format!("{follower}>{leader}")]);
    let arrives = |number: u32| {
        front.ctl_of(&[leader, other]).run(&["set", "k", &number.to_string()]).done();
        own_view(follower).as_str().is_some_and(|value| value.parse::<u32>().is_ok())
    };
    assert!((0..TRIES).any(arrives), "what the leader sends does not arrive");
    local.done(&["pause", &other.to_string()]);
    let write = front.ctl_of(&[leader]).with("--timeout", "1s").run(&["set", "k", "unconfirmed"]);
    assert_eq!(write.code, 4, "what the follower sends arrives: {write:?}");
    local.done(&["resume", &other.to_string()]);
    local.done(&["heal"]);
    local.wait_until_whole(&front, follower);
}

#[test]
fn a_cut_that_makes_no_sense_is_refused() {
    let local = Local::new("no-cut");
    for words in [&["cut", "1-2"][..], &["isolate", "leader"], &["isolate", "1"], &["heal"]] {
        let refusal = local.refused(words);
        assert!(refusal.contains("is not running") && refusal.contains("cluster up"), "{refusal}");
    }
    let _front = local.up();
    for words in [["cut", "1-4"], ["cut", "4>1"], ["isolate", "4"]] {
        assert!(local.refused(&words).contains("there is no node 4; the nodes are 1, 2, 3"));
    }
    for (word, why) in
        [("1-1", "no link to itself"), ("1+2", "expected two nodes' ids"), ("1", "expected two nodes' ids")]
    {
        let output = local.xtask(&["cut", word]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(why), "{output:?}");
    }
    assert!(!local.done(&["status"]).contains("cut: "), "what was refused has cut nothing");
    assert_eq!(local.done(&["heal"]), "all links are whole\n");
}
