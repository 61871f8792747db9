//! `cargo xtask cluster`: real servers on this machine, to try, to break and to watch.
//!
//! Three kinds of processes take part:
//!
//! - the *front*, which the user started. It builds, asks, prints, and runs the REPL ([`front`], [`command`]);
//! - the *supervisor*, in a session of its own, so that no Ctrl-C reaches it. It is the parent of the servers and does
//!   all signalling, through pidfds: a number that another process got meanwhile is never hit ([`supervisor`]);
//! - the *servers*. Each is first this program, which asks the kernel to be killed with its parent, and then becomes
//!   `raftd` ([`server`]).
//!
//! The front holds the writing end of a pipe that the supervisor reads: the *lifeline*. However the front ends, the
//! pipe closes and the supervisor stops the servers. If the supervisor itself is killed, the kernel kills them. So no
//! server outlives us, except where `--detach` asked for it.
//!
//! The servers do not dial each other but proxies in the supervisor, one for each directed link, so that links can be
//! cut ([`links`], [`proxy`]).
//!
//! All that is kept lies in one folder ([`place`]); the supervisor holds its lock and serves the control socket
//! ([`control`]) through which other terminals reach it.

mod command;
mod control;
mod front;
mod links;
mod place;
mod proxy;
mod server;
mod signals;
mod supervisor;
mod view;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use links::Cut;
pub(crate) use server::{ServeArguments, serve};
pub(crate) use supervisor::{SuperviseArguments, supervise};

/// The hidden subcommand that runs the supervisor.
pub(crate) const SUPERVISE: &str = "supervise";
/// The hidden subcommand that becomes a server.
pub(crate) const SERVE: &str = "serve";

/// What follows `cargo xtask cluster`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which cluster; each has its own ports and data
    #[arg(long, global = true, default_value = "default")]
    name: String,
    #[command(subcommand)]
    action: Option<Action>,
}

/// What to do with the cluster.
#[derive(Subcommand)]
enum Action {
    /// Build, start, wait for a leader, open the REPL; leaving it stops the servers
    Up(UpOptions),
    /// Where the nodes are and what they say
    Status,
    /// Kill a node with SIGKILL
    Kill {
        /// A node's id, or `leader`
        node: Target,
    },
    /// Stop a node if it runs, and start it on its data
    Restart {
        /// A node's id
        id: u64,
    },
    /// Stop a node's clock with SIGSTOP: it stays there and says nothing
    Pause {
        /// A node's id
        id: u64,
    },
    /// Let a paused node go on
    Resume {
        /// A node's id
        id: u64,
    },
    /// Stop all nodes; their data stays
    Down,
    /// Remove the data of a stopped cluster
    Rm,
    /// Cut the way between two nodes: nothing arrives, and nobody is told
    Cut {
        /// `A-B` for both ways, `'A>B'` (in quotes, because of the shell) for what A sends to B
        #[arg(value_name = "A-B")]
        cut: Cut,
    },
    /// Cut a node off from all others, both ways; clients still reach it
    Isolate {
        /// A node's id, or `leader`
        node: Target,
    },
    /// Mend all that is cut
    Heal,
}

/// How to start a cluster.
#[derive(clap::Args, Default)]
struct UpOptions {
    /// How many nodes; by default 3, or as many as the cluster has already
    #[arg(short, long, value_parser = clap::value_parser!(u64).range(1..=9))]
    nodes: Option<u64>,
    /// Build with optimisations
    #[arg(long)]
    release: bool,
    /// Leave the servers running; `cargo xtask cluster down` stops them
    #[arg(long)]
    detach: bool,
}

/// A node by its id, or by what it is.
#[derive(Clone, Copy)]
enum Target {
    Id(u64),
    Leader,
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "leader" => Ok(Self::Leader),
            id => id.parse().map(Self::Id).map_err(|_| "expected a node's id, or `leader`".to_owned()),
        }
    }
}

/// Runs `cargo xtask cluster`.
///
/// # Errors
/// Says what is wrong and what to do next.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let place = place::Place::new(&arguments.name)?;
    match &arguments.action {
        None => front::up(&place, &UpOptions::default()),
        Some(Action::Up(options)) => front::up(&place, options),
        Some(Action::Status) => command::status(&place),
        Some(Action::Kill { node }) => command::kill(&place, *node),
        Some(Action::Restart { id }) => command::ask_node(&place, control::Request::Restart { id: *id }),
        Some(Action::Pause { id }) => command::ask_node(&place, control::Request::Pause { id: *id }),
        Some(Action::Resume { id }) => command::ask_node(&place, control::Request::Resume { id: *id }),
        Some(Action::Down) => command::ask_node(&place, control::Request::Down),
        Some(Action::Rm) => command::remove(&place),
        Some(Action::Cut { cut }) => command::ask_node(&place, control::Request::Cut { cut: *cut }),
        Some(Action::Isolate { node }) => command::isolate(&place, *node),
        Some(Action::Heal) => command::ask_node(&place, control::Request::Heal),
    }
}
