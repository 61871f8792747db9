//! What another terminal can do to a running cluster: look, kill, restart, pause, resume, cut, heal, stop,
//! remove.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use super::Target;
use super::control::{self, ProcessState, Reply, Report, Request};
use super::links::{self, Cut};
use super::place::Place;
use super::server::shown;
use super::view::{self, View};

/// Asks the supervisor for one thing and prints what it did.
///
/// # Errors
/// As [`control::ask`].
pub(crate) fn ask_node(place: &Place, request: Request) -> Result<ExitCode> {
    if let Reply::Done { message } = control::ask(place, request)? {
        println!("{message}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Kills a node.
///
/// # Errors
/// If there is no such node, or no leader to be killed.
pub(crate) fn kill(place: &Place, target: Target) -> Result<ExitCode> {
    ask_node(place, Request::Kill { id: find(place, target)? })
}

/// Cuts a node off from all others.
///
/// # Errors
/// If there is no such node, or no leader to be cut off.
pub(crate) fn isolate(place: &Place, target: Target) -> Result<ExitCode> {
    ask_node(place, Request::Cut { cut: Cut::Around(find(place, target)?) })
}

fn find(place: &Place, target: Target) -> Result<u64> {
    match target {
        Target::Id(id) => Ok(id),
        Target::Leader => view::look(&control::report(place)?)?.leader.context("the cluster has no leader just now"),
    }
}

/// Prints where the nodes are, whether they run, and what they say.
///
/// # Errors
/// If the cluster is not running.
pub(crate) fn status(place: &Place) -> Result<ExitCode> {
    let report = control::report(place)?;
    let (view, silence) = match view::look(&report) {
        Ok(view) => (view, None),
        Err(error) => (View::default(), Some(error)),
    };
    print!("{}", describe(place, &report, &view));
    if let Some(error) = silence {
        eprintln!("the nodes were not asked: {error:#}");
    }
    Ok(ExitCode::SUCCESS)
}

/// A table of the nodes, a line each.
pub(crate) fn describe(place: &Place, report: &Report, view: &View) -> String {
    let leader = match (view.leader, view.term) {
        (Some(leader), Some(term)) => format!("node {leader} leads term {term}"),
        (Some(leader), None) => format!("node {leader} leads"),
        (None, _) => "no leader".to_owned(),
    };
    let mut text = format!("cluster {}: {} nodes, {leader}\n", place.name(), report.nodes.len());
    let said = view.nodes();
    for node in &report.nodes {
        let process = match &node.process {
            ProcessState::Running { pid } => format!("pid {pid}"),
            ProcessState::Paused { pid } => format!("pid {pid}, paused"),
            ProcessState::Ended { how } => how.clone(),
        };
        let own = said.get(&node.id);
        let role = own.and_then(|own| own.role.clone()).unwrap_or_else(|| "-".to_owned());
        let mut line = format!("  node {}  {}  {process:<12}  {role:<9}", node.id, node.address);
        if let Some((term, commit)) = own.and_then(|own| own.term.zip(own.commit_index)) {
            let applied = own.and_then(|own| own.applied_index).unwrap_or(0);
            line += &format!("  term {term}, committed {commit}, applied {applied}");
        }
        text += line.trim_end();
        let (data, log) = (shown(place.data_directory(node.id)), shown(place.log_file(node.id)));
        text += &format!("\n          data {data}  log {log}\n");
    }
    if let Some(cut) = links::in_words(&report.cut) {
        text += &format!("  cut: {cut}\n");
    }
    text
}

/// Removes the cluster's data.
///
/// # Errors
/// If it is running, or not there.
pub(crate) fn remove(place: &Place) -> Result<ExitCode> {
    let Some(_lock) = place.try_lock()? else {
        bail!(
            "cluster {name} is running; stop it first: `cargo xtask cluster down --name {name}`",
            name = place.name()
        );
    };
    if !place.directory().exists() {
        bail!("there is no cluster {}: {} does not exist", place.name(), shown(place.directory().to_path_buf()));
    }
    place.remove()?;
    println!("cluster {} and all its data are removed", place.name());
    Ok(ExitCode::SUCCESS)
}
