//! `cargo xtask cluster up`: the process the user sees. It holds the lifeline as long as it lives.

use std::fs::{self, File};
use std::io::{IsTerminal, PipeWriter, Read, Write, pipe, stdin, stdout};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::UpOptions;
use super::control::{self, Event, ProcessState, Reply, Report, Request};
use super::place::Place;
use super::server::itself;
use super::signals::{Signals, wait_readable};
use super::view::{self, View};
use super::{SUPERVISE, command};
use crate::cargo::{Binaries, build_servers};

/// A cluster on one machine elects within a second; this leaves room for a slow disk and a large log to recover.
const LEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long between two looks for a leader.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Builds, starts, waits for a leader, and stays (or not, with `--detach`).
///
/// # Errors
/// If any of that fails; what was started is stopped again.
pub(crate) fn up(place: &Place, options: &UpOptions) -> Result<ExitCode> {
    let binaries = build_servers(options.release)?;
    let signals = Signals::catch().context("signals cannot be caught")?;
    let supervisor = Supervisor::start(place, options.nodes, &binaries)?;
    let (report, view) = wait_for_leader(place, &signals)?;
    say(&command::describe(place, &report, &view));
    if options.detach {
        supervisor.detach(place)?;
        say(&format!("the nodes stay up; `cargo xtask cluster down{}` stops them\n", place.name_flag()));
        return Ok(ExitCode::SUCCESS);
    }
    let events = control::events(place)?;
    say(&format!(
        "from another terminal: cargo xtask cluster status|kill|restart|pause|resume|cut|isolate|heal|down{}\n",
        place.name_flag()
    ));
    if stdin().is_terminal() {
        say("Ctrl-D leaves and stops the nodes; their data stays\n");
        repl(&report, &signals, events)?;
    } else {
        say("SIGINT or SIGTERM stops the nodes; their data stays\n");
        stay(&signals, events)?;
    }
    say("stopping\n");
    supervisor.stop()?;
    Ok(ExitCode::SUCCESS)
}

/// Prints; a reader that went away is no reason to stop a cluster.
fn say(text: &str) {
    let _ = stdout().write_all(text.as_bytes()).and_then(|()| stdout().flush());
}

/// The supervisor's process and its lifeline. Dropped, it stops the cluster and waits until that is done.
struct Supervisor {
    child: Child,
    lifeline: Option<PipeWriter>,
}

impl Supervisor {
    fn start(place: &Place, nodes: Option<u64>, binaries: &Binaries) -> Result<Self> {
        fs::create_dir_all(place.directory())
            .with_context(|| format!("{} cannot be created", place.directory().display()))?;
        let log = File::options().create(true).append(true).open(place.supervisor_log());
        let (reading, lifeline) = pipe().context("out of file descriptors")?;
        let mut command = itself();
        command.args([SUPERVISE, "--name", place.name()]);
        command.arg("--raftd").arg(&binaries.raftd).arg("--raftctl").arg(&binaries.raftctl);
        if let Some(nodes) = nodes {
            command.args(["--nodes", &nodes.to_string()]);
        }
        command.stdin(reading).stdout(Stdio::piped()).stderr(log.context("the supervisor's log cannot be opened")?);
        let mut child = command.spawn().context("the supervisor cannot be started")?;
        let first_words = child.stdout.take().expect("standard output is piped just above");
        let supervisor = Self { child, lifeline: Some(lifeline) };
        let reply: Reply = control::read_line(first_words)
            .with_context(|| format!("the supervisor failed; see {}", place.supervisor_log().display()))?;
        match reply {
            Reply::Failed { message } => bail!(message),
            Reply::Done { .. } | Reply::Status(_) => Ok(supervisor),
        }
    }

    /// Stops the cluster and waits until that is done: the supervisor bounds how long.
    fn stop(mut self) -> Result<()> {
        drop(self.lifeline.take());
        self.child.wait().context("the supervisor cannot be waited for")?;
        Ok(())
    }

    /// Lets the cluster live on without us.
    fn detach(mut self, place: &Place) -> Result<()> {
        control::ask(place, Request::Detach)?;
        drop(self.lifeline.take());
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // Nothing is left to be done if this fails: the lifeline is closed.
        let _ = self.child.wait();
    }
}

/// Asks until there is a leader. A node that ends meanwhile ends the wait, with its last words.
fn wait_for_leader(place: &Place, signals: &Signals) -> Result<(Report, View)> {
    let deadline = Instant::now() + LEADER_TIMEOUT;
    let mut answer;
    loop {
        let report = control::report(place)?;
        check_all_run(place, &report)?;
        match view::look(&report) {
            Ok(view) if view.leader.is_some() => return Ok((report, view)),
            Ok(_) => answer = "no leader".to_owned(),
            Err(error) => answer = format!("{error:#}"),
        }
        if Instant::now() >= deadline {
            let seconds = LEADER_TIMEOUT.as_secs();
            let logs: String = report.nodes.iter().map(|node| last_words(place, node.id)).collect();
            bail!("no leader within {seconds} s; the last answer was: {answer}\n{logs}");
        }
        let stop = wait_readable(&[signals.interrupt(), signals.terminate()], Some(LOOK_INTERVAL));
        if stop.context("signals cannot be waited for")?.contains(&true) {
            bail!("interrupted before there was a leader; the nodes are stopped");
        }
    }
}

fn check_all_run(place: &Place, report: &Report) -> Result<()> {
    for node in &report.nodes {
        if let ProcessState::Ended { how } = &node.process {
            bail!("node {} ended at its start, {how}\n{}", node.id, last_words(place, node.id));
        }
    }
    Ok(())
}

fn last_words(place: &Place, id: u64) -> String {
    format!("  the last lines of {}:\n{}", place.log_file(id).display(), place.log_tail(id))
}

/// What ended a wait.
enum Wake {
    /// A signal that means us.
    Signal,
    /// The REPL ended.
    Repl,
    /// The supervisor ended.
    Cluster,
}

/// Stays until a signal, or until another terminal stops the cluster. Says when a node ends.
fn stay(signals: &Signals, events: UnixStream) -> Result<()> {
    loop {
        let sources = [signals.interrupt(), signals.terminate(), events.as_fd()];
        let ready = wait_readable(&sources, None).context("signals cannot be waited for")?;
        if ready.iter().take(2).any(|signal| *signal) {
            return Ok(());
        }
        match next_event(&events)? {
            Some(event) => say(&format!("node {} ended: {}\n", event.id, event.how)),
            None => {
                say("the cluster was stopped from elsewhere\n");
                return Ok(());
            }
        }
    }
}

/// The next event; `None` when the supervisor has ended.
#[expect(clippy::unbuffered_bytes, reason = "what a buffer took ahead would not wake us; an event has 60 bytes")]
fn next_event(events: &UnixStream) -> Result<Option<Event>> {
    let mut line = Vec::new();
    for byte in events.bytes() {
        match byte {
            Ok(b'\n') => {
                return serde_json::from_slice(&line)
                    .map(Some)
                    .context("the supervisor said something else than an event");
            }
            Ok(byte) => line.push(byte),
            Err(_) => break,
        }
    }
    Ok(None)
}

/// Runs the REPL on this terminal until the user leaves it. Ctrl-C is the REPL's; a node that ends unasked is told.
fn repl(report: &Report, signals: &Signals, events: UnixStream) -> Result<()> {
    let terminal = rustix::termios::tcgetattr(stdin()).ok();
    let mut repl = Command::new(&report.raftctl)
        .args(["--endpoints", &view::endpoints(report)])
        .spawn()
        .with_context(|| format!("{} cannot be run", report.raftctl.display()))?;
    let pidfd = pidfd_open(Pid::from_child(&repl), PidfdFlags::empty()).context("the REPL cannot be watched")?;
    let mut events = Some(events);
    loop {
        match wait_in_repl(signals, pidfd.as_fd(), &mut events)? {
            Wake::Repl => break,
            Wake::Cluster => say("\r\nthe cluster was stopped from elsewhere; Ctrl-D leaves\r\n"),
            Wake::Signal => {
                // It ends at once or never: a REPL has nothing to lose.
                let _ = pidfd_send_signal(&pidfd, Signal::KILL);
                break;
            }
        }
    }
    repl.wait().context("the REPL cannot be waited for")?;
    if let Some(terminal) = terminal {
        // A REPL that was killed left the terminal in its own mode.
        let _ = rustix::termios::tcsetattr(stdin(), rustix::termios::OptionalActions::Now, &terminal);
    }
    Ok(())
}

/// Waits while the REPL has the terminal; events are told on the way.
fn wait_in_repl(signals: &Signals, repl: std::os::fd::BorrowedFd<'_>, events: &mut Option<UnixStream>) -> Result<Wake> {
    loop {
        let mut sources = vec![repl, signals.terminate(), signals.interrupt()];
        sources.extend(events.as_ref().map(AsFd::as_fd));
        let ready = wait_readable(&sources, None).context("the REPL cannot be waited for")?;
        let mut ready = ready.into_iter();
        let mut next = || ready.next().unwrap_or(false);
        let (ended, terminate, interrupt, event) = (next(), next(), next(), next());
        if ended {
            return Ok(Wake::Repl);
        }
        if terminate {
            return Ok(Wake::Signal);
        }
        if interrupt {
            signals.forget_interrupts();
        }
        if event && let Some(source) = events {
            match next_event(source)? {
                Some(event) if event.asked_for => {}
                Some(event) => say(&format!("\r\nnode {} ended: {}\r\n", event.id, event.how)),
                None => {
                    *events = None;
                    return Ok(Wake::Cluster);
                }
            }
        }
    }
}
