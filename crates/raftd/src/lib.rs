//! The `raftd` server daemon as a library: configuration, the client service, and the offline tools that read a
//! stopped node's log. `main` only calls [`main_with`].

pub mod cli;
mod command_text;
pub mod config;
pub mod exit;
mod log_command;
pub mod logging;
pub mod machine;
mod offline;
mod output;
mod replay;
pub mod server;
pub mod service;
pub mod units;
mod upkeep;
mod watch;

use std::error::Error;
use std::ffi::OsString;

use cli::{Invocation, ServerRequest};
use config::Config;
use exit::{ExitStatus, RunError, report};

/// Does what the command line `arguments` (the program's name first) asks for, and says how the process ends.
/// Errors go to standard error, on one line.
pub fn main_with(
    arguments: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> ExitStatus {
    let invocation = match cli::parse(arguments) {
        Ok(invocation) => invocation,
        Err(error) => return ended(&error, ExitStatus::Usage),
    };
    let result = match invocation {
        Invocation::Server(request) => serve_or_check(request, variables),
        Invocation::Log(flags) => log_command::run(&flags),
        Invocation::Replay(flags) => replay::run(&flags),
        Invocation::Show(text) => print(&text),
    };
    match result {
        Ok(()) => ExitStatus::Done,
        Err(error) => ended(&error, error.status()),
    }
}

fn ended(error: &dyn Error, status: ExitStatus) -> ExitStatus {
    report(error);
    status
}

fn serve_or_check(
    request: ServerRequest,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), RunError> {
    let loaded = config::load(request.flags, request.config_file.as_deref(), variables)?;
    if request.check_config { print(&loaded.to_toml()) } else { serve(loaded.config) }
}

fn serve(config: Config) -> Result<(), RunError> {
    logging::start(config.log_format())?;
    for warning in config.warnings() {
        tracing::warn!(node = config.id().as_u64(), "{warning}");
    }
    server::run(&config)
}

fn print(text: &str) -> Result<(), RunError> {
    output::to_stdout(|output| output.write_all(text.as_bytes()))
}
