//! One real server.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::programs::programs;
use crate::stalled::Stalled;

/// A server that says nothing for so long is broken. Recovery of any test's log takes a fraction of it.
const PATIENCE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

/// A node: its place on the disk, its flags, and its process while it has one.
#[derive(Debug)]
pub struct Node {
    id: u64,
    /// The node's data directory.
    data: PathBuf,
    log: PathBuf,
    flags: Vec<String>,
    process: Option<Process>,
    /// Where it listened when it was last ready.
    address: String,
}

#[derive(Debug)]
struct Process {
    child: Child,
    pidfd: OwnedFd,
    /// Held open: a server whose output nobody takes must not be the reason for a failure.
    _stdout: ChildStdout,
}

/// What became of a start.
#[derive(Debug)]
pub enum Started {
    /// It is ready and listens here.
    Ready(String),
    /// It ended instead.
    Ended(ExitStatus),
}

impl Node {
    /// A node that does not run yet. `folder` gets its data (`nID`) and its log (`nID.log`); `flags` are all of raftd's
    /// but `--id` and `--data-dir`.
    pub fn new(folder: &Path, id: u64, flags: &[&str]) -> Self {
        Self {
            id,
            data: folder.join(format!("n{id}")),
            log: folder.join(format!("n{id}.log")),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            process: None,
            address: String::new(),
        }
    }

    /// The node's id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Where it listens, as its `ready` line said.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Changes the flags of its next start.
    pub fn set_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    }

    /// Starts it and waits for its `ready` line, or its end.
    ///
    /// # Panics
    /// If it runs already, cannot be executed, says neither, or says something else than the one line agreed.
    pub fn try_start(&mut self) -> Started {
        assert!(self.process.is_none(), "node {} runs already", self.id);
        let log = File::options().create(true).append(true).open(&self.log).expect("the test's folder can be written");
        let mut child = raftd()
            .arg("--id")
            .arg(self.id.to_string())
            .arg("--data-dir")
            .arg(&self.data)
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("raftd was built and can be executed");
        let pidfd =
            pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("the child is there, awaited or not");
        let mut stdout = child.stdout.take().expect("standard output is piped just above");
        let line = first_line(&mut stdout);
        self.process = Some(Process { child, pidfd, _stdout: stdout });
        match line {
            Some(line) if line.is_empty() => Started::Ended(self.wait()),
            Some(line) => {
                let ready = line.strip_prefix(&format!("ready id={} listen=", self.id));
                let address = ready.unwrap_or_else(|| panic!("not the ready line: {line:?}\n{}", self.log_text()));
                self.address = address.to_owned();
                Started::Ready(address.to_owned())
            }
            None => panic!("node {} is neither ready nor at its end after 60 s\n{}", self.id, self.log_text()),
        }
    }

    /// Starts it.
    ///
    /// # Panics
    /// As [`Node::try_start`], and if it ends.
    pub fn start(&mut self) {
        if let Started::Ended(status) = self.try_start() {
            panic!("node {} ended at its start: {status}\n{}", self.id, self.log_text());
        }
    }

    /// Whether its process is there.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| matches!(process.child.try_wait(), Ok(None)))
    }

    /// Kills it with SIGKILL and waits for its end.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// Sends SIGTERM and waits for its end.
    ///
    /// # Panics
    /// If it does not run, or does not end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Stops its clock.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// If it does not run.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// If it does not run.
    pub fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().unwrap_or_else(|| panic!("node {} does not run", self.id));
        pidfd_send_signal(&process.pidfd, signal).unwrap_or_else(|error| panic!("node {}: {error}", self.id));
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not run, or does not end.
    pub fn wait(&mut self) -> ExitStatus {
        let mut process = self.process.take().unwrap_or_else(|| panic!("node {} does not run", self.id));
        if !is_readable(&process.pidfd) {
            // Not ours to keep: the test is lost, its servers go.
            let _ = process.child.kill();
            let _ = process.child.wait();
            panic!("node {} does not end\n{}", self.id, self.log_text());
        }
        process.child.wait().expect("the child is ours and not waited for yet")
    }

    /// The memory it holds, in bytes (`VmRSS`).
    ///
    /// # Panics
    /// If it does not run.
    pub fn resident_bytes(&self) -> u64 {
        let process = self.process.as_ref().unwrap_or_else(|| panic!("node {} does not run", self.id));
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).expect("Linux has /proc");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a running process has a VmRSS");
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("VmRSS is a number of kB");
        kib * 1024
    }

    /// Stops the one thread of it that writes to the disk, as a disk does that answers no more. `None` if this system lets
    /// nobody stop a thread.
    ///
    /// # Panics
    /// If it does not run, or has no such thread.
    pub fn stall_disk(&self) -> Option<Stalled> {
        let process = self.process.as_ref().unwrap_or_else(|| panic!("node {} does not run", self.id));
        Stalled::stop(process.child.id(), "raft-disk")
    }

    /// What it said on standard error, over all its starts.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may have ended by itself; then there is nothing to kill.
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "--- {}\n{}", self.log.display(), last_lines(&self.log_text(), 60));
        }
    }
}

/// A `raftd` command without flags, and without what the environment of the tests would add.
pub fn raftd() -> Command {
    let mut command = Command::new(&programs().raftd);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("RAFTD_")) {
            command.env_remove(name);
        }
    }
    command
}

/// The first line, without its end; empty at the end of the output, `None` if nothing comes.
fn first_line(stdout: &mut ChildStdout) -> Option<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while is_readable(&*stdout) {
        match stdout.read(&mut byte) {
            Ok(1) if byte != [b'\n'] => line.extend(byte),
            Ok(_) | Err(_) => return Some(String::from_utf8_lossy(&line).into_owned()),
        }
    }
    None
}

/// Waits for the end of a process that is not ours; `false` if it does not end.
pub fn wait_for_end(process: &OwnedFd) -> bool {
    is_readable(process)
}

fn is_readable(source: impl AsFd) -> bool {
    let mut sources = [PollFd::new(&source, PollFlags::IN)];
    loop {
        match poll(&mut sources, Some(&PATIENCE)) {
            Ok(count) => return count > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(count)).fold(String::new(), |all, line| all + line + "\n")
}
