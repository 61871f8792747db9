//! The cluster as its client sees it: who leads, and what each node says of itself.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;

use super::control::Report;

/// `raftctl status`, as far as it is needed here.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct View {
    pub(crate) leader: Option<u64>,
    pub(crate) term: Option<u64>,
    #[serde(default)]
    nodes: Vec<NodeView>,
}

/// What a node says of itself; nothing if it was not reached.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct NodeView {
    id: u64,
    pub(crate) role: Option<String>,
    pub(crate) term: Option<u64>,
    pub(crate) commit_index: Option<u64>,
    pub(crate) applied_index: Option<u64>,
}

impl View {
    /// The nodes by id.
    pub(crate) fn nodes(&self) -> BTreeMap<u64, NodeView> {
        self.nodes.iter().map(|node| (node.id, node.clone())).collect()
    }
}

/// All addresses, as `raftctl --endpoints` takes them.
pub(crate) fn endpoints(report: &Report) -> String {
    report.nodes.iter().map(|node| node.address.as_str()).collect::<Vec<_>>().join(",")
}

/// Asks the cluster once, through its own client.
///
/// # Errors
/// If no node answers, or the answer is not the one that was agreed.
pub(crate) fn look(report: &Report) -> Result<View> {
    let output = Command::new(&report.raftctl)
        .args(["--endpoints", &endpoints(report), "--timeout", "2s", "--output", "json", "status"])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} cannot be run", report.raftctl.display()))?;
    let answer = String::from_utf8_lossy(&output.stdout);
    let first = answer.lines().next().unwrap_or_default();
    if !output.status.success() {
        let said =
            if first.is_empty() { String::from_utf8_lossy(&output.stderr).into_owned() } else { first.to_owned() };
        return Err(anyhow!("raftctl status: {}", said.trim_end()));
    }
    serde_json::from_str(first).with_context(|| format!("raftctl status gave no status: {first:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_agreed_status_line() {
        let line = r#"{"ok":true,"op":"status","cluster":"c","leader":2,"term":7,"nodes":[
            {"id":1,"addr":"a:1","reachable":true,"role":"follower","term":7,"commit_index":9,"applied_index":8,"revision":5},
            {"id":3,"addr":"a:3","reachable":false}]}"#;
        let view: View = serde_json::from_str(line).unwrap();
        assert_eq!((view.leader, view.term), (Some(2), Some(7)));
        let nodes = view.nodes();
        assert_eq!(nodes[&1].role.as_deref(), Some("follower"));
        assert_eq!(nodes[&3].term, None);
        let leaderless: View = serde_json::from_str(r#"{"ok":true,"leader":null,"term":3,"nodes":[]}"#).unwrap();
        assert_eq!(leaderless.leader, None);
    }
}
