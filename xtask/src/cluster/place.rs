//! Where a cluster lives: its folder, its ports, its lock.
//!
//! ```text
//! target/cluster/NAME.lock              locked by the supervisor as long as it lives
//! target/cluster/NAME/cluster.json      the nodes and their addresses: part of the formation, so never changed
//! target/cluster/NAME/control.sock      the supervisor's control socket
//! target/cluster/NAME/supervisor.log
//! target/cluster/NAME/n1/data           node 1's --data-dir
//! target/cluster/NAME/n1/raftd.log      what node 1 said, over all its starts
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// Node i of the first cluster listens on this port + i.
const FIRST_PORT_BASE: u16 = 7000;
/// The next cluster tries so many ports further on.
const PORT_BASE_STEP: u16 = 100;
/// Below the range from which Linux takes the ports of outgoing connections (32768): a node that is down for a while
/// finds its port free again.
const LAST_PORT_BASE: u16 = 30000;

/// How often, and how far apart, a recorded port is tried while servers of an earlier run are still going away.
const PORT_TRIES: u32 = 40;
const PORT_TRY_INTERVAL: Duration = Duration::from_millis(50);

/// The folder of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    name: String,
    directory: PathBuf,
}

/// The nodes of a cluster and where each listens: the `--cluster` list, kept because the servers keep it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Formation {
    /// `HOST:PORT` by id.
    pub(crate) nodes: BTreeMap<u64, String>,
}

impl Formation {
    /// The value of `--cluster`, and with `separator` " " a list for people.
    pub(crate) fn cluster_list(&self) -> String {
        self.nodes.iter().map(|(id, address)| format!("{id}={address}")).collect::<Vec<_>>().join(",")
    }
}

impl Place {
    /// The place of the cluster called `name`.
    ///
    /// # Errors
    /// If the name is not a plain one: it becomes the name of a folder.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 64 || name.starts_with('-') || !name.chars().all(plain) {
            bail!("a cluster's name has 1 to 64 letters, digits, `-` and `_`; {name:?} has not");
        }
        let directory = crate::cargo::target_directory()?.join("cluster").join(name);
        Ok(Self { name: name.to_owned(), directory })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What a command for this cluster ends with, for people to copy.
    pub(crate) fn name_flag(&self) -> String {
        if self.name == "default" { String::new() } else { format!(" --name {}", self.name) }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn data_directory(&self, id: u64) -> PathBuf {
        self.directory.join(format!("n{id}")).join("data")
    }

    pub(crate) fn log_file(&self, id: u64) -> PathBuf {
        self.directory.join(format!("n{id}")).join("raftd.log")
    }

    pub(crate) fn supervisor_log(&self) -> PathBuf {
        self.directory.join("supervisor.log")
    }

    fn formation_file(&self) -> PathBuf {
        self.directory.join("cluster.json")
    }

    fn lock_file(&self) -> PathBuf {
        self.directory.with_extension("lock")
    }

    /// Locks the cluster; `None` if somebody else holds the lock.
    ///
    /// # Errors
    /// If the lock file cannot be made.
    pub(crate) fn try_lock(&self) -> Result<Option<File>> {
        let path = self.lock_file();
        let file = open_lock(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("{} cannot be locked", path.display()))
            }
        }
    }

    /// The cluster as it was formed, or `None` if it never was.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub(crate) fn formation(&self) -> Result<Option<Formation>> {
        let path = self.formation_file();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
        };
        let formation = serde_json::from_slice(&text).with_context(|| {
            format!("{} is damaged; `cargo xtask cluster rm --name {}` removes the cluster", path.display(), self.name)
        })?;
        Ok(Some(formation))
    }

    /// The cluster to start: the one formed before, or a new one of `nodes` nodes (3 if not said) on free ports.
    ///
    /// # Errors
    /// If the existing one has another number of nodes, or one of its ports is taken.
    pub(crate) fn form(&self, nodes: Option<u64>) -> Result<Formation> {
        if let Some(formation) = self.formation()? {
            self.check_size(&formation, nodes)?;
            check_ports_free(&formation)?;
            return Ok(formation);
        }
        // Two fresh clusters that start together must not choose the same ports.
        let _ports = lock_ports(&self.directory.with_file_name(".ports.lock"))?;
        let formation = choose_ports(nodes.unwrap_or(3), &self.ports_of_other_clusters())?;
        self.keep(&formation)?;
        Ok(formation)
    }

    fn check_size(&self, formation: &Formation, nodes: Option<u64>) -> Result<()> {
        let formed = u64::try_from(formation.nodes.len()).expect("a count of nodes fits 64 bits");
        match nodes {
            Some(nodes) if nodes != formed => bail!(
                "cluster {name} was formed with {formed} nodes; leave out -n, choose another --name, or remove it with \
                 `cargo xtask cluster rm --name {name}`",
                name = self.name
            ),
            Some(_) | None => Ok(()),
        }
    }

    fn keep(&self, formation: &Formation) -> Result<()> {
        fs::create_dir_all(&self.directory)
            .with_context(|| format!("{} cannot be created", self.directory.display()))?;
        let path = self.formation_file();
        let draft = path.with_extension("draft");
        let text = serde_json::to_vec_pretty(formation).context("a formation is plain data")?;
        fs::write(&draft, text)
            .and_then(|()| fs::rename(&draft, &path))
            .with_context(|| format!("{} cannot be written", path.display()))
    }

    /// The ports that clusters beside this one have taken for good, running or not.
    fn ports_of_other_clusters(&self) -> BTreeSet<u16> {
        let beside = self.directory.parent().into_iter().filter_map(|parent| fs::read_dir(parent).ok()).flatten();
        let formations = beside.flatten().filter_map(|entry| {
            let text = fs::read(entry.path().join("cluster.json")).ok()?;
            serde_json::from_slice::<Formation>(&text).ok()
        });
        formations.flat_map(|formation| formation.nodes.into_values()).filter_map(|address| port_of(&address)).collect()
    }

    /// The last lines of what a node said.
    pub(crate) fn log_tail(&self, id: u64) -> String {
        tail(&self.log_file(id))
    }

    /// Removes all that is kept of the cluster. The caller holds the lock.
    ///
    /// # Errors
    /// If something cannot be removed.
    pub(crate) fn remove(&self) -> Result<()> {
        fs::remove_dir_all(&self.directory).with_context(|| format!("{} cannot be removed", self.directory.display()))
    }
}

fn open_lock(path: &Path) -> Result<File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("{} cannot be created", parent.display()))?;
    }
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path).with_context(|| format!("{} cannot be opened", path.display()))
}

fn lock_ports(path: &Path) -> Result<File> {
    let file = open_lock(path)?;
    file.lock().with_context(|| format!("{} cannot be locked", path.display()))?;
    Ok(file)
}

fn port_of(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}

fn is_free(address: &str) -> bool {
    TcpListener::bind(address).is_ok()
}

/// Consecutive ports for `nodes` nodes: 7001, 7002, .. if they are free, else the first free ones of the following
/// hundreds.
fn choose_ports(nodes: u64, taken: &BTreeSet<u16>) -> Result<Formation> {
    let bases = (FIRST_PORT_BASE..=LAST_PORT_BASE).step_by(usize::from(PORT_BASE_STEP));
    for base in bases {
        let ports: Vec<(u64, u16)> = (1..=nodes).zip(base + 1..).collect();
        let free = |port: u16| !taken.contains(&port) && is_free(&format!("127.0.0.1:{port}"));
        if ports.iter().all(|(_, port)| free(*port)) {
            let nodes = ports.into_iter().map(|(id, port)| (id, format!("127.0.0.1:{port}"))).collect();
            return Ok(Formation { nodes });
        }
    }
    bail!("no {nodes} consecutive ports are free on 127.0.0.1 between {FIRST_PORT_BASE} and {LAST_PORT_BASE}")
}

/// Looks before the servers do, because here we can say which program's user is to be asked.
fn check_ports_free(formation: &Formation) -> Result<()> {
    for (id, address) in &formation.nodes {
        let mut tries = PORT_TRIES;
        while !is_free(address) {
            tries -= 1;
            if tries == 0 {
                bail!(
                    "{address}, the address of node {id}, is in use by another program; stop that one, or start a \
                     cluster with another --name (the addresses of a formed cluster are fixed)"
                );
            }
            std::thread::sleep(PORT_TRY_INTERVAL);
        }
    }
    Ok(())
}

/// The last lines of a file, at most 4 KiB and 12 lines.
fn tail(path: &Path) -> String {
    const BYTES: u64 = 4096;
    const LINES: usize = 12;
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
        let mut bytes = Vec::new();
        file.take(BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => {
            let lines: Vec<&str> = text.lines().collect();
            let first = lines.len().saturating_sub(LINES);
            lines.into_iter().skip(first).map(|line| format!("    {line}\n")).collect()
        }
        Err(error) => format!("    (no log: {error})\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_plain_folder_name() {
        for good in ["default", "a-1_B"] {
            assert!(Place::new(good).is_ok(), "{good:?}");
        }
        for bad in ["", "..", "a/b", "-x", "a b", "\u{e9}", &"x".repeat(65)] {
            assert!(Place::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ports_are_consecutive_and_avoid_what_is_taken_or_bound() {
        let first = choose_ports(3, &BTreeSet::new()).unwrap();
        let first_ports: Vec<u16> = first.nodes.values().filter_map(|address| port_of(address)).collect();
        assert_eq!(first_ports.len(), 3);
        assert!(first_ports.windows(2).all(|pair| pair[0] + 1 == pair[1]));

        let taken = BTreeSet::from([first_ports[2]]);
        let second = choose_ports(3, &taken).unwrap();
        assert!(second.nodes.values().all(|address| !first.nodes.values().any(|other| other == address)));

        let _held = TcpListener::bind(second.nodes.get(&2).unwrap()).unwrap();
        let third = choose_ports(3, &taken).unwrap();
        assert_ne!(third, second);
    }

    #[test]
    fn the_cluster_list_is_what_raftd_takes() {
        let nodes = BTreeMap::from([(1, "127.0.0.1:7001".to_owned()), (2, "127.0.0.1:7002".to_owned())]);
        assert_eq!(Formation { nodes }.cluster_list(), "1=127.0.0.1:7001,2=127.0.0.1:7002");
    }
}
