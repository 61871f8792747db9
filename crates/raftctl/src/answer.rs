//! What a command answers, and its JSON form: the contract's fields, in the contract's order.
//!
//! Keys and values are bytes. Those that are UTF-8 appear as text under their name, all others in base64 under the name
//! with `_b64` appended.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kv_client::{LeaseId, LeaseInfo, Members};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::failure::{Exit, Failure};

/// The answer to a command that has one.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// `get`
    Get {
        /// The key asked for.
        key: Vec<u8>,
        /// What is there.
        found: Option<Value>,
        /// The store's revision at the read.
        revision: u64,
        /// The value's bytes are wanted alone.
        raw: bool,
    },
    /// `set`
    Set {
        /// `false`: `--if-absent`, and the key exists.
        set: bool,
        /// The revision after it.
        revision: u64,
    },
    /// `del`
    Deleted {
        /// How many keys are gone.
        deleted: u64,
        /// The revision after it.
        revision: u64,
    },
    /// `cas`
    Swapped {
        /// Whether the value was the expected one.
        swapped: bool,
        /// The revision after it.
        revision: u64,
    },
    /// `incr`
    Incremented {
        /// The new value.
        value: i64,
        /// The revision after it.
        revision: u64,
    },
    /// `scan`
    Scanned(Page),
    /// `txn`
    Transacted {
        /// Whether the conditions held.
        succeeded: bool,
        /// What each operation did.
        results: Vec<Step>,
        /// The revision after it.
        revision: u64,
    },
    /// The first line of `watch`.
    Watching {
        /// The store's revision when it began.
        revision: u64,
    },
    /// A further line of `watch`.
    Event(Event),
    /// `watch` has ended as it was meant to; all its lines are written.
    Told,
    /// `lease grant`, `lease keep-alive`
    Leased {
        /// The lease.
        id: LeaseId,
        /// How long it lives from now on.
        ttl_ms: u64,
        /// The store's revision.
        revision: u64,
    },
    /// `lease revoke`
    Revoked {
        /// The lease.
        id: LeaseId,
        /// How many keys are gone.
        deleted: u64,
        /// The revision after it.
        revision: u64,
    },
    /// `lease list`
    Leases {
        /// By id.
        leases: Vec<LeaseInfo>,
        /// The store's revision at the read.
        revision: u64,
    },
    /// `status`
    Status(Status),
    /// `leader`
    Leader {
        /// Who leads now.
        leader: u64,
        /// Its term.
        term: u64,
    },
    /// `member`
    Members(Members),
    /// `hash`
    Hashes(Hashes),
    /// `bench`
    Bench(Measured),
    /// `help`
    Help(String),
}

/// A value and its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The bytes.
    pub value: Vec<u8>,
    /// The revision that created the key.
    pub create_revision: u64,
    /// The revision that last changed it.
    pub mod_revision: u64,
    /// How often it was written since it was created.
    pub version: u64,
}

/// What one operation of a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `get`
    Get {
        /// The key asked for.
        key: Vec<u8>,
        /// What was there.
        found: Option<Value>,
    },
    /// `set`
    Set,
    /// `del`
    Deleted {
        /// How many keys are gone.
        deleted: u64,
        /// Whether keys with the prefix are left: one transaction touches a bounded number.
        more: bool,
    },
    /// `scan`
    Scanned {
        /// The keys, in order.
        items: Vec<Entry>,
        /// The first one that was left out, if there is one.
        next: Option<Vec<u8>>,
    },
}

/// A change that `watch` tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: Vec<u8>,
    /// The value it has since; `None` if it is gone.
    pub value: Option<Vec<u8>>,
    /// The value it had before, where that was asked for and there was one.
    pub previous: Option<Vec<u8>>,
    /// The revision.
    pub revision: u64,
    /// Whether it is the last one of its revision.
    pub last: bool,
}

/// A page of `scan`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The keys, in order.
    pub items: Vec<Entry>,
    /// Where the next page begins, if there is one.
    pub next: Option<Vec<u8>>,
    /// The store's revision at the read.
    pub revision: u64,
}

/// One key of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Vec<u8>,
    /// Its value; `None` with `--keys`.
    pub value: Option<Vec<u8>>,
    /// The revision that last changed it.
    pub mod_revision: u64,
}

/// The answer of `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The cluster's id, once formed.
    pub cluster: Option<String>,
    /// The leader, if there is one.
    pub leader: Option<u64>,
    /// The highest term seen.
    pub term: u64,
    /// The last change of leader: its term and why the election was held.
    pub last_change: Option<(u64, String)>,
    /// Every member, by id.
    pub nodes: Vec<Node>,
}

/// One member in `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: u64,
    /// Where clients reach it, where that is known.
    pub address: Option<String>,
    /// What it said; `None` if it did not answer.
    pub state: Option<NodeState>,
}

/// What a reachable member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeState {
    /// Its role.
    pub role: String,
    /// Its term.
    pub term: u64,
    /// Its commit index.
    pub commit_index: u64,
    /// The index it has applied.
    pub applied_index: u64,
    /// Its store's revision.
    pub revision: u64,
}

/// The answer of `hash`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashes {
    /// The revision at which all were taken.
    pub revision: u64,
    /// By id: 32 hexadecimal digits, or `None` if the member did not answer in time.
    pub hashes: Vec<(u64, Option<String>)>,
    /// Whether all members answered, and answered the same.
    pub equal: bool,
}

/// The answer of `bench`.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Operations that succeeded, a second.
    pub ops_per_s: f64,
    /// Half of them took at most so long, in microseconds.
    pub p50_us: u64,
    /// 90 %.
    pub p90_us: u64,
    /// 99 %.
    pub p99_us: u64,
    /// 99.9 %.
    pub p999_us: u64,
    /// The slowest.
    pub max_us: u64,
    /// Operations that failed.
    pub errors: u64,
    /// Why the first of them failed. Not in the JSON form.
    pub first_error: Option<String>,
}

/// What an acknowledged write of `bench` waited for.
pub(crate) const DURABILITY: &str = "fdatasync on a majority";

impl Answer {
    /// The exit code of a command that ends with this answer.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Get { found: None, .. }
            | Self::Set { set: false, .. }
            | Self::Deleted { deleted: 0, .. }
            | Self::Swapped { swapped: false, .. }
            | Self::Transacted { succeeded: false, .. } => Exit::NEGATIVE,
            Self::Get { .. }
            | Self::Set { .. }
            | Self::Deleted { .. }
            | Self::Swapped { .. }
            | Self::Incremented { .. }
            | Self::Scanned(_)
            | Self::Transacted { .. }
            | Self::Watching { .. }
            | Self::Event(_)
            | Self::Told
            | Self::Leased { .. }
            | Self::Revoked { .. }
            | Self::Leases { .. }
            | Self::Status(_)
            | Self::Leader { .. }
            | Self::Members(_)
            | Self::Hashes(_)
            | Self::Bench(_)
            | Self::Help(_) => Exit::DONE,
        }
    }

    const fn op(&self) -> &'static str {
        match self {
            Self::Get { .. } => "get",
            Self::Set { .. } => "set",
            Self::Deleted { .. } => "del",
            Self::Swapped { .. } => "cas",
            Self::Incremented { .. } => "incr",
            Self::Scanned(_) => "scan",
            Self::Transacted { .. } => "txn",
            Self::Watching { .. } | Self::Event(_) | Self::Told => "watch",
            Self::Leased { .. } | Self::Revoked { .. } | Self::Leases { .. } => "lease",
            Self::Status(_) => "status",
            Self::Leader { .. } => "leader",
            Self::Members(_) => "member",
            Self::Hashes(_) => "hash",
            Self::Bench(_) => "bench",
            Self::Help(_) => "help",
        }
    }
}

/// The one line of JSON for an answer or a failure, without its newline.
#[must_use]
pub fn json_line(result: &Result<Answer, Failure>) -> String {
    match result {
        Ok(answer) => serde_json::to_string(answer),
        Err(failure) => serde_json::to_string(failure),
    }
    .expect("all keys are strings and nothing here can fail")
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut line = serializer.serialize_map(None)?;
        if let Self::Event(event) = self {
            event_fields(&mut line, event)?;
            return line.end();
        }
        line.serialize_entry("ok", &true)?;
        line.serialize_entry("op", self.op())?;
        match self {
            Self::Get { key, found, revision, raw: _ } => get_fields(&mut line, key, found.as_ref(), *revision)?,
            Self::Set { set, revision } => {
                line.serialize_entry("set", set)?;
                line.serialize_entry("revision", revision)?;
            }
            Self::Deleted { deleted, revision } => {
                line.serialize_entry("deleted", deleted)?;
                line.serialize_entry("revision", revision)?;
            }
            Self::Swapped { swapped, revision } => {
                line.serialize_entry("swapped", swapped)?;
                line.serialize_entry("revision", revision)?;
            }
            Self::Incremented { value, revision } => {
                line.serialize_entry("value", value)?;
                // Beyond 2^53 many JSON readers round numbers; the text is exact.
                line.serialize_entry("value_str", &value.to_string())?;
                line.serialize_entry("revision", revision)?;
            }
            Self::Scanned(page) => page_fields(&mut line, page)?,
            Self::Transacted { succeeded, results, revision } => {
                line.serialize_entry("succeeded", succeeded)?;
                line.serialize_entry("results", results)?;
                line.serialize_entry("revision", revision)?;
            }
            Self::Watching { revision } => line.serialize_entry("revision", revision)?,
            Self::Event(_) | Self::Told => {}
            Self::Leased { id, ttl_ms, revision } => {
                line.serialize_entry("id", &id.to_string())?;
                line.serialize_entry("ttl_ms", ttl_ms)?;
                line.serialize_entry("revision", revision)?;
            }
            Self::Revoked { id, deleted, revision } => {
                line.serialize_entry("id", &id.to_string())?;
                line.serialize_entry("deleted", deleted)?;
                line.serialize_entry("revision", revision)?;
            }
            Self::Leases { leases, revision } => {
                line.serialize_entry("leases", &leases.iter().map(OneLease).collect::<Vec<_>>())?;
                line.serialize_entry("revision", revision)?;
            }
            Self::Status(status) => status_fields(&mut line, status)?,
            Self::Leader { leader, term } => {
                line.serialize_entry("leader", leader)?;
                line.serialize_entry("term", term)?;
            }
            Self::Members(members) => {
                line.serialize_entry("voters", &members.voters)?;
                line.serialize_entry("learners", &members.learners)?;
                line.serialize_entry("revision", &members.revision.0)?;
            }
            Self::Hashes(hashes) => {
                line.serialize_entry("revision", &hashes.revision)?;
                line.serialize_entry("hashes", &ByNode(&hashes.hashes))?;
                line.serialize_entry("equal", &hashes.equal)?;
            }
            Self::Bench(measured) => bench_fields(&mut line, measured)?,
            Self::Help(text) => line.serialize_entry("text", text)?,
        }
        line.end()
    }
}

/// Writes `bytes` as `name`, or, where they are no UTF-8, in base64 as `name_b64`.
fn bytes_field<M: SerializeMap>(line: &mut M, name: &str, bytes: &[u8]) -> Result<(), M::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => line.serialize_entry(name, text),
        Err(_) => line.serialize_entry(&format!("{name}_b64"), &STANDARD.encode(bytes)),
    }
}

fn event_fields<M: SerializeMap>(line: &mut M, event: &Event) -> Result<(), M::Error> {
    line.serialize_entry("event", if event.value.is_some() { "set" } else { "del" })?;
    bytes_field(line, "key", &event.key)?;
    if let Some(value) = &event.value {
        bytes_field(line, "value", value)?;
    }
    if let Some(previous) = &event.previous {
        bytes_field(line, "prev", previous)?;
    }
    line.serialize_entry("revision", &event.revision)?;
    line.serialize_entry("last", &event.last)
}

struct OneLease<'a>(&'a LeaseInfo);

impl Serialize for OneLease<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let LeaseInfo { id, ttl_ms, left_ms, keys } = self.0;
        let mut lease = serializer.serialize_map(Some(4))?;
        lease.serialize_entry("id", &id.to_string())?;
        lease.serialize_entry("ttl_ms", ttl_ms)?;
        lease.serialize_entry("left_ms", left_ms)?;
        lease.serialize_entry("keys", keys)?;
        lease.end()
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut step = serializer.serialize_map(None)?;
        match self {
            Self::Get { key, found } => {
                step.serialize_entry("op", "get")?;
                found_fields(&mut step, key, found.as_ref())?;
            }
            Self::Set => {
                step.serialize_entry("op", "set")?;
                step.serialize_entry("set", &true)?;
            }
            Self::Deleted { deleted, more } => {
                step.serialize_entry("op", "del")?;
                step.serialize_entry("deleted", deleted)?;
                if *more {
                    step.serialize_entry("more", more)?;
                }
            }
            Self::Scanned { items, next } => {
                step.serialize_entry("op", "scan")?;
                items_fields(&mut step, items, next.as_ref())?;
            }
        }
        step.end()
    }
}

fn get_fields<M: SerializeMap>(line: &mut M, key: &[u8], found: Option<&Value>, revision: u64) -> Result<(), M::Error> {
    found_fields(line, key, found)?;
    line.serialize_entry("revision", &revision)
}

fn found_fields<M: SerializeMap>(line: &mut M, key: &[u8], found: Option<&Value>) -> Result<(), M::Error> {
    line.serialize_entry("found", &found.is_some())?;
    bytes_field(line, "key", key)?;
    if let Some(found) = found {
        bytes_field(line, "value", &found.value)?;
        line.serialize_entry("create_revision", &found.create_revision)?;
        line.serialize_entry("mod_revision", &found.mod_revision)?;
        line.serialize_entry("version", &found.version)?;
    }
    Ok(())
}

fn page_fields<M: SerializeMap>(line: &mut M, page: &Page) -> Result<(), M::Error> {
    items_fields(line, &page.items, page.next.as_ref())?;
    line.serialize_entry("revision", &page.revision)
}

fn items_fields<M: SerializeMap>(line: &mut M, items: &[Entry], next: Option<&Vec<u8>>) -> Result<(), M::Error> {
    line.serialize_entry("items", items)?;
    line.serialize_entry("more", &next.is_some())?;
    next.map_or(Ok(()), |next| bytes_field(line, "next", next))
}

fn status_fields<M: SerializeMap>(line: &mut M, status: &Status) -> Result<(), M::Error> {
    line.serialize_entry("cluster", &status.cluster)?;
    line.serialize_entry("leader", &status.leader)?;
    line.serialize_entry("term", &status.term)?;
    line.serialize_entry("last_change", &status.last_change.as_ref().map(LastChange))?;
    line.serialize_entry("nodes", &status.nodes)
}

fn bench_fields<M: SerializeMap>(line: &mut M, measured: &Measured) -> Result<(), M::Error> {
    line.serialize_entry("ops_per_s", &measured.ops_per_s)?;
    line.serialize_entry("p50_us", &measured.p50_us)?;
    line.serialize_entry("p90_us", &measured.p90_us)?;
    line.serialize_entry("p99_us", &measured.p99_us)?;
    line.serialize_entry("p999_us", &measured.p999_us)?;
    line.serialize_entry("max_us", &measured.max_us)?;
    line.serialize_entry("errors", &measured.errors)?;
    line.serialize_entry("durability", DURABILITY)
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut entry = serializer.serialize_map(None)?;
        bytes_field(&mut entry, "key", &self.key)?;
        if let Some(value) = &self.value {
            bytes_field(&mut entry, "value", value)?;
        }
        entry.serialize_entry("mod_revision", &self.mod_revision)?;
        entry.end()
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut node = serializer.serialize_map(None)?;
        node.serialize_entry("id", &self.id)?;
        node.serialize_entry("addr", &self.address)?;
        node.serialize_entry("reachable", &self.state.is_some())?;
        if let Some(state) = &self.state {
            node.serialize_entry("role", &state.role)?;
            node.serialize_entry("term", &state.term)?;
            node.serialize_entry("commit_index", &state.commit_index)?;
            node.serialize_entry("applied_index", &state.applied_index)?;
            node.serialize_entry("revision", &state.revision)?;
        }
        node.end()
    }
}

struct LastChange<'a>(&'a (u64, String));

impl Serialize for LastChange<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (term, reason) = self.0;
        let mut change = serializer.serialize_map(Some(2))?;
        change.serialize_entry("term", term)?;
        change.serialize_entry("reason", reason)?;
        change.end()
    }
}

/// `{"1":"..","2":null}`, in the order of the ids.
struct ByNode<'a>(&'a [(u64, Option<String>)]);

impl Serialize for ByNode<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(id, hash)| (id.to_string(), hash)))
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
