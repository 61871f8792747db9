//! One server process: started so that it dies with its parent, and signalled so that nobody else is hit.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{
    Pid, PidfdFlags, Signal, getppid, pidfd_open, pidfd_send_signal, set_parent_process_death_signal,
};

use super::control::ProcessState;
use super::links::Links;
use super::place::{Formation, Place};
use super::signals::wait_readable;

/// So long may a server hand over leadership, drain and sync after SIGTERM; then it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// What the hidden subcommand `serve` takes.
#[derive(clap::Args)]
pub(crate) struct ServeArguments {
    /// The supervisor's process id.
    #[arg(long)]
    parent: i32,
    /// The server and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Becomes the server, after asking the kernel to kill it when its parent ends, however that ends.
///
/// # Errors
/// If the parent ended before it could be asked, or the server cannot be executed.
pub(crate) fn serve(arguments: &ServeArguments) -> Result<ExitCode> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("the kernel offers no parent-death signal")?;
    if getppid().map(Pid::as_raw_nonzero).is_none_or(|parent| parent.get() != arguments.parent) {
        bail!("the supervisor is gone");
    }
    let (program, rest) = arguments.command.split_first().context("no program given")?;
    Err(Command::new(program).args(rest).exec()).with_context(|| format!("{program} cannot be executed"))
}

/// One node of the cluster and its process, if it has one.
pub(crate) struct Server {
    id: u64,
    address: String,
    process: Option<Process>,
    /// How the last process ended, in words.
    last_end: String,
}

struct Process {
    child: Child,
    /// Names the process itself, not its number: readable when it has ended, and safe to signal at any time.
    pidfd: OwnedFd,
    paused: bool,
    /// Whether somebody asked for its end.
    end_asked_for: bool,
}

/// How a server's process ended.
pub(crate) struct End {
    /// In words.
    pub(crate) how: String,
    /// Whether somebody asked for it.
    pub(crate) asked_for: bool,
}

impl Server {
    /// A node that does not run yet.
    pub(crate) fn new(id: u64, address: String) -> Self {
        Self { id, address, process: None, last_end: "not started".to_owned() }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn state(&self) -> ProcessState {
        match &self.process {
            None => ProcessState::Ended { how: self.last_end.clone() },
            Some(process) if process.paused => ProcessState::Paused { pid: process.child.id() },
            Some(process) => ProcessState::Running { pid: process.child.id() },
        }
    }

    /// Readable when the process has ended; `None` if there is none.
    pub(crate) fn end_source(&self) -> Option<BorrowedFd<'_>> {
        self.process.as_ref().map(|process| process.pidfd.as_fd())
    }

    /// Starts the server on its data; it dials the ends of `links`.
    ///
    /// # Errors
    /// If it runs already, or its process cannot be made. What the server itself says goes to its log.
    pub(crate) fn start(&mut self, place: &Place, formation: &Formation, links: &Links, raftd: &Path) -> Result<()> {
        if self.process.is_some() {
            bail!("node {} is running", self.id);
        }
        let mut child = self
            .command(place, formation, links, raftd)?
            .spawn()
            .with_context(|| format!("node {} cannot be started", self.id))?;
        // The child is ours and not waited for, so its number cannot be another's yet.
        match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            Ok(pidfd) => {
                self.process = Some(Process { child, pidfd, paused: false, end_asked_for: false });
                Ok(())
            }
            Err(error) => {
                child.kill().and_then(|()| child.wait()).context("a process that cannot be named cannot be stopped")?;
                Err(error).context("this kernel has no pidfds; Linux 5.4 or newer is needed")
            }
        }
    }

    fn command(&self, place: &Place, formation: &Formation, links: &Links, raftd: &Path) -> Result<Command> {
        let data = place.data_directory(self.id);
        fs::create_dir_all(&data).with_context(|| format!("{} cannot be created", data.display()))?;
        let log_file = place.log_file(self.id);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log_file)
            .with_context(|| format!("{} cannot be opened", log_file.display()))?;
        let mut command = itself();
        command.arg(super::SERVE).arg("--parent").arg(std::process::id().to_string()).arg("--").arg(raftd);
        command.arg("--id").arg(self.id.to_string()).arg("--data-dir").arg(data);
        command.arg("--listen").arg(&self.address).arg("--cluster").arg(formation.cluster_list());
        if let Some(list) = links.dial_list(self.id) {
            command.arg("--dial").arg(list);
        }
        let stdout = log.try_clone().context("out of file descriptors")?;
        command.stdin(Stdio::null()).stdout(stdout).stderr(log);
        Ok(command)
    }

    /// Kills the process and waits for its end.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn kill(&mut self) -> Result<End> {
        let process = self.running()?;
        process.end_asked_for = true;
        process.signal(Signal::KILL)?;
        self.take_end()
    }

    /// Pauses the process.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn pause(&mut self) -> Result<()> {
        let process = self.running()?;
        process.signal(Signal::STOP)?;
        process.paused = true;
        Ok(())
    }

    /// Lets a paused process go on.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn resume(&mut self) -> Result<()> {
        let process = self.running()?;
        process.signal(Signal::CONT)?;
        process.paused = false;
        Ok(())
    }

    /// Asks the process to end, if there is one; a paused one is woken for that.
    pub(crate) fn ask_to_stop(&mut self) {
        if let Some(process) = &mut self.process {
            process.end_asked_for = true;
            // An ended process takes no signal, and needs none.
            let _ = process.signal(Signal::TERM).and_then(|()| process.signal(Signal::CONT));
            process.paused = false;
        }
    }

    /// Waits for the end of a process that was asked to stop; kills it at `deadline`.
    ///
    /// # Errors
    /// If the system does not let us wait.
    pub(crate) fn finish_stop(&mut self, deadline: Instant) -> Result<Option<End>> {
        let Some(source) = self.end_source() else { return Ok(None) };
        let left = deadline.saturating_duration_since(Instant::now());
        let ended = wait_readable(&[source], Some(left)).context("a server cannot be waited for")?;
        if ended.contains(&false) {
            eprintln!("node {} did not stop in time and is killed", self.id);
            return self.kill().map(Some);
        }
        self.take_end().map(Some)
    }

    /// When processes asked to stop now are killed.
    pub(crate) fn stop_deadline() -> Instant {
        Instant::now() + STOP_TIMEOUT
    }

    /// Collects a process that has ended or is ending.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn take_end(&mut self) -> Result<End> {
        let id = self.id;
        let mut process = self.process.take().ok_or_else(|| anyhow!("node {id} is not running"))?;
        let status = process.child.wait().with_context(|| format!("node {id} cannot be waited for"))?;
        let how = in_words(status);
        self.last_end.clone_from(&how);
        Ok(End { how, asked_for: process.end_asked_for })
    }

    fn running(&mut self) -> Result<&mut Process> {
        let (id, how) = (self.id, &self.last_end);
        self.process.as_mut().ok_or_else(|| anyhow!("node {id} is not running ({how}); `restart {id}` starts it"))
    }
}

impl Process {
    fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, signal)?)
    }
}

/// This very program, also when its file was replaced by a newer build meanwhile.
pub(crate) fn itself() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("xtask");
    command
}

/// How a process ended; the exit codes are those of `raftd`.
fn in_words(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(0), _) => "stopped".to_owned(),
        (Some(1), _) => "exit code 1: failed at run time".to_owned(),
        (Some(2), _) => "exit code 2: bad flags or configuration".to_owned(),
        (Some(3), _) => "exit code 3: its data directory is locked, foreign or of another version".to_owned(),
        (Some(4), _) => "exit code 4: its data is damaged".to_owned(),
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(9)) => "killed by SIGKILL".to_owned(),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// Where a node's data and log are, for people.
pub(crate) fn shown(path: PathBuf) -> String {
    let here = std::env::current_dir().ok();
    let relative = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_path_buf));
    relative.unwrap_or(path).display().to_string()
}
