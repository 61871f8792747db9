//! Several real servers that form one cluster.

use std::path::Path;

use tempfile::TempDir;

use crate::ctl::Ctl;
use crate::node::Node;
use crate::ports::Ports;
use crate::programs::folder;

/// How often a question is repeated that blocks by itself until it can be answered.
const TRIES: u32 = 12;

/// A cluster. Dropped, it is gone; its folder stays if the test failed.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    list: String,
    ports: Ports,
    folder: TempDir,
}

impl Cluster {
    /// Starts nodes 1 to `size` and waits until they have a leader.
    ///
    /// # Panics
    /// If they do not.
    pub fn start(size: u64) -> Self {
        Self::start_with(size, &[])
    }

    /// As [`Cluster::start`], with more flags for each node.
    ///
    /// # Panics
    /// As [`Cluster::start`].
    pub fn start_with(size: u64, flags: &[&str]) -> Self {
        let mut cluster = Self::new(size, flags);
        cluster.start_all();
        cluster.leader();
        cluster
    }

    /// A cluster of which no node runs yet.
    pub fn new(size: u64, flags: &[&str]) -> Self {
        let (ports, folder) = (Ports::reserve(), folder());
        let list = (1..=size).map(|id| format!("{id}={}", ports.address(id))).collect::<Vec<_>>().join(",");
        let node = |id| {
            let address = ports.address(id);
            let all = [&["--listen", &address, "--cluster", &list], flags].concat();
            Node::new(folder.path(), id, &all)
        };
        let nodes = (1..=size).map(node).collect();
        Self { nodes, list, ports, folder }
    }

    /// Starts all nodes that do not run.
    ///
    /// # Panics
    /// If one does not start.
    pub fn start_all(&mut self) {
        for node in &mut self.nodes {
            if !node.is_running() {
                node.start();
            }
        }
    }

    /// Adds a node that asks nodes 1 and 2 to join their cluster; it is not started.
    pub fn add_newcomer(&mut self, id: u64) -> &mut Node {
        let (address, seeds) = (self.ports.address(id), [1, 2].map(|seed| self.ports.address(seed)).join(","));
        self.nodes.push(Node::new(self.folder.path(), id, &["--listen", &address, "--join", &seeds]));
        self.node(id)
    }

    /// `ID=HOST:PORT`, as `member add` takes it.
    pub fn member(&self, id: u64) -> String {
        format!("{id}={}", self.ports.address(id))
    }

    /// Takes a node that is no member any more, and has been stopped, out of the cluster.
    pub fn forget(&mut self, id: u64) {
        self.nodes.retain(|node| node.id() != id);
    }

    /// Kills all nodes with SIGKILL: first the signals, then the waiting, so that they die together.
    ///
    /// # Panics
    /// If one does not run.
    pub fn kill_all(&mut self) {
        self.nodes.iter().for_each(|node| node.signal(rustix::process::Signal::KILL));
        for node in &mut self.nodes {
            node.wait();
        }
    }

    /// The nodes' ids.
    pub fn ids(&self) -> Vec<u64> {
        self.nodes.iter().map(Node::id).collect()
    }

    /// One node.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.id() == id).unwrap_or_else(|| panic!("there is no node {id}"))
    }

    /// The value of `--cluster`.
    pub fn list(&self) -> &str {
        &self.list
    }

    /// The address of a node, member or not.
    pub fn address(&self, id: u64) -> String {
        self.ports.address(id)
    }

    /// The folder that holds the nodes' data and logs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client that knows all nodes.
    pub fn ctl(&self) -> Ctl {
        let addresses: Vec<String> = self.nodes.iter().map(|node| self.ports.address(node.id())).collect();
        Ctl::new(&addresses.join(","))
    }

    /// A client that knows one node.
    pub fn ctl_of(&self, id: u64) -> Ctl {
        Ctl::new(&self.ports.address(id))
    }

    /// The leader, waited for.
    ///
    /// # Panics
    /// If there is none in a time in which hundreds of elections would have fitted.
    pub fn leader(&self) -> u64 {
        let ctl = self.ctl();
        let mut last = String::new();
        for _ in 0..TRIES {
            // A linearizable read blocks until a leader has shown that it leads (§6.4), or times out.
            let read = ctl.run(&["get", "is-there-a-leader"]);
            let status = ctl.run(&["status"]).json();
            match status.get("leader").and_then(serde_json::Value::as_u64) {
                Some(leader) if read.code <= 1 => return leader,
                Some(_) | None => last = format!("{read:?} {status}"),
            }
        }
        panic!("no leader: {last}");
    }

    /// The common hash of all nodes' states, waited for.
    ///
    /// # Panics
    /// If they do not become equal.
    pub fn common_hash(&self) -> String {
        let mut last = String::new();
        for _ in 0..TRIES {
            // A linearizable read through each node blocks until that node has come as far as the cluster.
            for id in self.ids() {
                self.ctl_of(id).run(&["get", "is-there-a-leader"]);
            }
            let answer = self.ctl().run(&["hash"]).json();
            let hashes = answer.get("hashes").and_then(serde_json::Value::as_object);
            if let Some(hashes) = hashes.filter(|hashes| hashes.len() == self.nodes.len())
                && answer.get("equal") == Some(&serde_json::Value::Bool(true))
            {
                let first = hashes.values().next().and_then(serde_json::Value::as_str);
                return first.expect("a cluster has a node, and a hash is text").to_owned();
            }
            last = answer.to_string();
        }
        panic!("the nodes' states differ: {last}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the nodes' folder is kept: {}", self.folder.path().display());
            self.folder.disable_cleanup(true);
        }
    }
}
