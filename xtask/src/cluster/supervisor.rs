//! The parent of a cluster's servers. It lives in a session of its own and ends, with all of them, when its lifeline
//! closes or somebody asks for `down`.
//!
//! One loop, and everything it waits for is a file descriptor: the lifeline, the control socket, and a pidfd for each
//! server. The proxies of the links have a thread each and end with the process; it is the loop's thread that starts
//! the servers, since the kernel ends a server with the thread that did.

use std::fs::File;
use std::io::stdin;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::control::{self, Event, NodeReport, Reply, Report, Request};
use super::links::{Cut, Links};
use super::place::{Formation, Place};
use super::server::{End, Server};
use super::signals::wait_readable;

/// How often, and how far apart, the lock is tried while an earlier supervisor stops its servers.
const LOCK_TRIES: u32 = 150;
const LOCK_TRY_INTERVAL: Duration = Duration::from_millis(100);
/// The most fronts that are told of servers' ends.
const MAX_WATCHERS: usize = 16;

/// What the hidden subcommand `supervise` takes. Its standard input is the lifeline.
#[derive(clap::Args)]
pub(crate) struct SuperviseArguments {
    /// The cluster's name.
    #[arg(long)]
    pub(crate) name: String,
    /// How many nodes, for a cluster that is not formed yet.
    #[arg(long)]
    pub(crate) nodes: Option<u64>,
    /// The server's program.
    #[arg(long)]
    pub(crate) raftd: PathBuf,
    /// The client's program, for whoever asks.
    #[arg(long)]
    pub(crate) raftctl: PathBuf,
}

/// Runs the supervisor. Its standard output gets one line: whether the servers were started.
///
/// # Errors
/// If they were not, or the machine fails it later.
pub(crate) fn supervise(arguments: &SuperviseArguments) -> Result<ExitCode> {
    // Away from the terminal: its Ctrl-C goes to its own processes only.
    rustix::process::setsid().context("a session of its own is refused")?;
    match Supervisor::start(arguments) {
        Ok(supervisor) => {
            control::write_line(std::io::stdout(), &Reply::Done { message: "started".to_owned() })?;
            supervisor.run()?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            control::write_line(std::io::stdout(), &Reply::Failed { message: format!("{error:#}") })?;
            Ok(ExitCode::FAILURE)
        }
    }
}

struct Supervisor {
    place: Place,
    formation: Formation,
    raftd: PathBuf,
    raftctl: PathBuf,
    servers: Vec<Server>,
    links: Links,
    /// Fronts that are told of servers' ends.
    watchers: Vec<UnixStream>,
    listener: UnixListener,
    /// Whether the lifeline's end is ours.
    attached: bool,
    began: Instant,
    /// Held as long as we live. Declared last, so that all else is gone when another may begin.
    lock: File,
}

/// What the loop found to do.
struct Ready {
    lifeline: bool,
    control: bool,
    /// Places in `servers` of those that ended.
    ended: Vec<usize>,
}

impl Supervisor {
    fn start(arguments: &SuperviseArguments) -> Result<Self> {
        let place = Place::new(&arguments.name)?;
        let lock = lock(&place)?;
        let formation = place.form(arguments.nodes)?;
        let listener = control::listen(&place)?;
        let links = Links::open(&formation)?;
        let servers = formation.nodes.iter().map(|(id, address)| Server::new(*id, address.clone())).collect();
        let mut supervisor = Self {
            place,
            formation,
            raftd: arguments.raftd.clone(),
            raftctl: arguments.raftctl.clone(),
            servers,
            links,
            watchers: Vec::new(),
            listener,
            attached: true,
            began: Instant::now(),
            lock,
        };
        for server in &mut supervisor.servers {
            // If one fails, those before it end with us: the kernel kills them.
            server.start(&supervisor.place, &supervisor.formation, &supervisor.links, &supervisor.raftd)?;
        }
        supervisor.log("started");
        Ok(supervisor)
    }

    fn run(mut self) -> Result<()> {
        loop {
            let ready = self.wait()?;
            for place in ready.ended {
                self.note_end(place)?;
            }
            if ready.lifeline {
                self.log("the lifeline is closed");
                return self.stop_all();
            }
            if ready.control
                && let Some(asker) = self.serve_one()
            {
                self.stop_all()?;
                // From here on the next supervisor may begin; the asker is told so.
                drop(self.lock);
                let message = "all nodes are stopped; their data stays".to_owned();
                return control::write_line(&asker, &Reply::Done { message }).or(Ok(()));
            }
        }
    }

    fn wait(&self) -> Result<Ready> {
        let lifeline = stdin();
        let mut sources = vec![self.listener.as_fd()];
        let mut running = Vec::new();
        for (place, server) in self.servers.iter().enumerate() {
            if let Some(source) = server.end_source() {
                sources.push(source);
                running.push(place);
            }
        }
        if self.attached {
            sources.push(lifeline.as_fd());
        }
        let ready = wait_readable(&sources, None).context("the supervisor cannot wait")?;
        let mut ready = ready.into_iter();
        let control = ready.next().unwrap_or(false);
        // `zip` asks its first side first: with `running` there, it takes nothing from `ready` that it does not use.
        let ended =
            running.into_iter().zip(ready.by_ref()).filter_map(|(place, ended)| ended.then_some(place)).collect();
        Ok(Ready { lifeline: ready.next().unwrap_or(false), control, ended })
    }

    /// Collects a server that ended by itself, and tells whoever wants to know.
    fn note_end(&mut self, place: usize) -> Result<()> {
        let Some(server) = self.servers.get_mut(place) else { return Ok(()) };
        let end = server.take_end()?;
        let id = server.id();
        self.tell(id, end);
        Ok(())
    }

    fn tell(&mut self, id: u64, end: End) {
        let event = &Event { id, how: end.how, asked_for: end.asked_for };
        self.log(&format!("node {} ended: {}", event.id, event.how));
        // A watcher that does not read has a full buffer some day, and is let go.
        self.watchers.retain(|watcher| control::write_line(watcher, event).is_ok());
    }

    /// Serves one connection. Returns it if it asked for `down`.
    fn serve_one(&mut self) -> Option<UnixStream> {
        let (stream, _) = self.listener.accept().ok()?;
        // A connection without a request is somebody looking whether we are there.
        let request = control::read_request(&stream).ok()?;
        let reply = match request {
            Request::Down => return Some(stream),
            Request::Events => {
                self.watch(stream);
                return None;
            }
            Request::Status => Ok(Reply::Status(self.report())),
            Request::Detach => {
                self.attached = false;
                Ok(Reply::Done { message: "the nodes stay up".to_owned() })
            }
            Request::Kill { id } => self.kill(id),
            Request::Restart { id } => self.restart(id),
            Request::Pause { id } => self.server(id).and_then(Server::pause).map(|()| done(id, "is paused")),
            Request::Resume { id } => self.server(id).and_then(Server::resume).map(|()| done(id, "goes on")),
            Request::Cut { cut } => self.cut(cut),
            Request::Heal => self.links.heal().map(|()| Reply::Done { message: "all links are whole".to_owned() }),
        };
        let reply = reply.unwrap_or_else(|error| Reply::Failed { message: format!("{error:#}") });
        if request != Request::Status {
            self.log(&format!("{request:?}: {reply:?}"));
        }
        // An asker that left meanwhile has lost its answer, not its request.
        let _ = control::write_line(&stream, &reply);
        None
    }

    fn watch(&mut self, stream: UnixStream) {
        if self.watchers.len() < MAX_WATCHERS && stream.set_nonblocking(true).is_ok() {
            self.watchers.push(stream);
        }
    }

    fn kill(&mut self, id: u64) -> Result<Reply> {
        let end = self.server(id)?.kill()?;
        self.tell(id, end);
        let flag = self.place.name_flag();
        Ok(done(id, &format!("is killed; `cargo xtask cluster restart {id}{flag}` starts it again on its data")))
    }

    fn restart(&mut self, id: u64) -> Result<Reply> {
        let server = find(&mut self.servers, id)?;
        server.ask_to_stop();
        let end = server.finish_stop(Server::stop_deadline())?;
        server.start(&self.place, &self.formation, &self.links, &self.raftd)?;
        end.into_iter().for_each(|end| self.tell(id, end));
        Ok(done(id, "is started"))
    }

    fn cut(&mut self, cut: Cut) -> Result<Reply> {
        for id in cut.nodes() {
            self.server(id)?;
        }
        self.links.cut(cut)?;
        let message = format!("{}; `cargo xtask cluster heal{}` mends all", cut.effect(), self.place.name_flag());
        Ok(Reply::Done { message })
    }

    fn server(&mut self, id: u64) -> Result<&mut Server> {
        find(&mut self.servers, id)
    }

    fn report(&self) -> Report {
        let report = |server: &Server| NodeReport {
            id: server.id(),
            address: server.address().to_owned(),
            process: server.state(),
        };
        Report {
            raftctl: self.raftctl.clone(),
            nodes: self.servers.iter().map(report).collect(),
            cut: self.links.all_cut(),
        }
    }

    /// Stops all servers: asks all first, so that they stop together.
    fn stop_all(&mut self) -> Result<()> {
        control::remove_socket(&self.place);
        self.servers.iter_mut().for_each(Server::ask_to_stop);
        let deadline = Server::stop_deadline();
        for server in &mut self.servers {
            server.finish_stop(deadline)?;
        }
        self.log("stopped");
        Ok(())
    }

    /// Standard error is the supervisor's log file. Its clock is the time since the start: no wall clock decides or
    /// orders anything here.
    fn log(&self, what: &str) {
        eprintln!("[{:>10.3} s] {what}", self.began.elapsed().as_secs_f64());
    }
}

fn find(servers: &mut [Server], id: u64) -> Result<&mut Server> {
    let known: Vec<String> = servers.iter().map(|server| server.id().to_string()).collect();
    let found = servers.iter_mut().find(|server| server.id() == id);
    found.ok_or_else(|| anyhow!("there is no node {id}; the nodes are {}", known.join(", ")))
}

fn done(id: u64, what: &str) -> Reply {
    Reply::Done { message: format!("node {id} {what}") }
}

/// Takes the cluster's lock; waits for a supervisor that is just leaving, but not for one that is there to stay.
fn lock(place: &Place) -> Result<File> {
    for _ in 0..LOCK_TRIES {
        if let Some(lock) = place.try_lock()? {
            return Ok(lock);
        }
        if control::is_served(place) {
            bail!(
                "cluster {name} is running already; see `cargo xtask cluster status --name {name}`, stop it with `down`, \
                 or start another with --name",
                name = place.name()
            );
        }
        std::thread::sleep(LOCK_TRY_INTERVAL);
    }
    bail!(
        "cluster {} is locked by a process that does not answer; see {}",
        place.name(),
        place.supervisor_log().display()
    )
}
