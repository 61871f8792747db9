//! The language of the scripts in `tests/scripts/`: what each command does to the cluster, and its trace.
//!
//! Output is what the servers do, one effect a line: `n1@2 → n3 AppendEntries prev=4@1 [5@2] commit=4` is n1, in term
//! 2, sending. Writes are shown only where the script persists them itself (`disk=manual`).

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use goldenscript::{Command, Context};
use raft_core::{
    Config, DiskId, Effect, HardState, Incarnation, Input, LogIndex, LogPosition, Message, NodeId, RoleName, Term,
};

use crate::cluster::Cluster;
use crate::safety::Safety;
use crate::script_words::{Fields, Position, Server, Time, entry, number};

type Outcome = Result<(), Box<dyn Error>>;

/// Receiver, sender, and how many messages between them.
type Batch = (NodeId, NodeId, usize);

/// How often a server is woken at most until it stands.
const MOST_WAKEUPS: usize = 20;

/// Runs one script.
#[derive(Default)]
pub(crate) struct Script {
    cluster: Option<Cluster>,
    output: String,
}

/// The arguments of a command that are no `key=value`.
struct Words<'a>(Vec<&'a str>);

impl Words<'_> {
    fn server(&self, place: usize) -> Result<NodeId, Box<dyn Error>> {
        let word = self.0.get(place).ok_or("a server is missing; write n1")?;
        Ok(word.parse::<Server>()?.0)
    }

    fn servers(&self) -> Result<Vec<NodeId>, Box<dyn Error>> {
        self.0.iter().map(|word| Ok(word.parse::<Server>()?.0)).collect()
    }
}

impl goldenscript::Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let mut consumer = command.consume_args();
        let words = Words(std::iter::from_fn(|| consumer.next_pos()).collect());
        let fields = Fields(&command.args);
        self.output.clear();
        if command.name == "cluster" {
            self.cluster = Some(new_cluster(&fields)?);
        } else {
            self.prepare_or_input(&command.name, &words, &fields)?;
        }
        self.show_events();
        let cluster = self.cluster()?;
        if !cluster.safety.is_deceived {
            Safety::check_log_matching(&cluster.nodes);
        }
        Ok(std::mem::take(&mut self.output))
    }
}

fn new_cluster(fields: &Fields<'_>) -> Result<Cluster, Box<dyn Error>> {
    let limit = |key: &str| -> Result<Option<usize>, Box<dyn Error>> {
        Ok(fields.text(key).map(number).transpose()?.map(usize::try_from).transpose()?)
    };
    let (append_bytes, messages) = (limit("max_append_bytes")?, limit("max_inflight_messages")?);
    let bytes = limit("max_inflight_bytes")?;
    let (uncommitted, unsynced) = (limit("max_uncommitted_bytes")?, limit("max_unsynced_bytes")?);
    let writes = limit("max_unsynced_writes")?;
    let log = limit("max_log_bytes")?;
    let (tail, chunk) = (limit("log_tail_bytes")?, limit("snapshot_chunk_bytes")?);
    Ok(Cluster::new(fields.number("nodes")?, fields.text("disk") == Some("manual"), |config: &mut Config| {
        config.max_append_bytes = append_bytes.unwrap_or(config.max_append_bytes);
        config.max_inflight_messages = messages.unwrap_or(config.max_inflight_messages);
        config.max_inflight_bytes = bytes.unwrap_or(config.max_inflight_bytes);
        config.max_uncommitted_bytes = uncommitted.unwrap_or(config.max_uncommitted_bytes);
        config.max_unsynced_bytes = unsynced.unwrap_or(config.max_unsynced_bytes);
        config.max_unsynced_writes = writes.unwrap_or(config.max_unsynced_writes);
        config.max_log_bytes = log.unwrap_or(config.max_log_bytes);
        config.log_tail_bytes = tail.unwrap_or(0);
        config.snapshot_chunk_bytes = chunk.unwrap_or(config.snapshot_chunk_bytes);
    }))
}

impl Script {
    fn cluster(&mut self) -> Result<&mut Cluster, Box<dyn Error>> {
        self.cluster.as_mut().ok_or_else(|| "the script has no cluster yet; begin with: cluster nodes=3".into())
    }

    fn show_events(&mut self) {
        let Some(cluster) = &mut self.cluster else { return };
        for event in std::mem::take(&mut cluster.events) {
            if cluster.manual_disk || !matches!(event.effect, Effect::Write(_)) {
                writeln!(self.output, "{event}").unwrap();
            }
        }
    }

    fn prepare_or_input(&mut self, name: &str, words: &Words<'_>, fields: &Fields<'_>) -> Outcome {
        let cluster = self.cluster()?;
        match name {
            "log" => {
                let positions = words.0[1..].iter().map(|word| word.parse::<Position>());
                let entries: Vec<_> =
                    positions.map(|position| position.map(|it| entry(it.0))).collect::<Result<_, _>>()?;
                let last_term = entries.last().map_or(Term(0), |entry| entry.position.term);
                cluster.prepare(words.server(0)?, |disk| {
                    disk.entries = entries;
                    disk.hard_state.term = disk.hard_state.term.max(last_term);
                });
            }
            "hard-state" => {
                let voted_for = fields.text("vote").map(str::parse::<Server>).transpose()?.map(|server| server.0);
                let hard_state = HardState { term: Term(fields.number("term")?), voted_for };
                cluster.prepare(words.server(0)?, |disk| disk.hard_state = hard_state);
            }
            "timeout" => timeout(cluster, words.server(0)?)?,
            "elect" => elect(cluster, words.server(0)?)?,
            "heartbeat" => {
                let id = words.server(0)?;
                if cluster.raft(id).role() != RoleName::Leader {
                    return Err(format!("{id} does not lead").into());
                }
                cluster.wake(id);
            }
            "tick" => match words.0.as_slice() {
                [time] => {
                    let duration = time.parse::<Time>()?.0;
                    cluster.ids().into_iter().for_each(|id| cluster.pass_time(id, duration));
                }
                [server, time] => cluster.pass_time(server.parse::<Server>()?.0, time.parse::<Time>()?.0),
                _ => return Err("write: tick [n1] 100ms".into()),
            },
            "pass" => {
                let duration = words.0.first().ok_or("write: pass 100ms n2 n3")?.parse::<Time>()?.0;
                let disks = Words(words.0[1..].to_vec()).servers()?;
                pass(cluster, duration, &disks, fields.text("lose"));
            }
            "propose" => {
                let commands: Vec<String> = words.0[1..].iter().map(|&word| word.to_owned()).collect();
                cluster.propose(words.server(0)?, &commands);
            }
            "read" => cluster.read(words.server(0)?),
            "transfer" => {
                let to = if words.0.len() > 1 { Some(words.server(1)?) } else { None };
                cluster.step(words.server(0)?, Input::Transfer { to });
            }
            "persist" => {
                let count = fields.text("count").map_or(Ok(u64::MAX), number)?;
                cluster.persist(words.server(0)?, usize::try_from(count)?);
            }
            "restart" => cluster.restart(words.server(0)?),
            "server" => {
                let id = words.server(0)?;
                let disk = fields.text("disk").map_or(Ok(id.as_u64()), number)?;
                cluster.start_new(id, DiskId(disk.into()));
            }
            "change" => {
                let changes = fields.changes()?;
                cluster.change(words.server(0)?, changes);
            }
            "snapshot" => cluster.take_snapshot(words.server(0)?),
            "damage" => {
                let (id, last) = (words.server(0)?, words.0.get(1).ok_or("a snapshot is missing; write 5@2")?);
                cluster.damage_snapshot(id, last.parse::<Position>()?.0);
            }
            "unreachable" => {
                let (id, peer) = (words.server(0)?, words.server(1)?);
                cluster.step(id, Input::Unreachable { peer });
            }
            "inject" => self.inject(words, fields)?,
            _ => self.network_or_question(name, words, fields)?,
        }
        Ok(())
    }

    /// `inject n1 from=n2 term=5 Heartbeat commit=4`: a message that n2 did not send, or not now.
    fn inject(&mut self, words: &Words<'_>, fields: &Fields<'_>) -> Outcome {
        let from = fields.text("from").ok_or("from= is missing")?.parse::<Server>()?.0;
        let kind = words.0.get(1).ok_or("the message's kind is missing")?;
        let message = Message { term: Term(fields.number("term")?), body: fields.body(kind)? };
        let cluster = self.cluster()?;
        let current = cluster.nodes.get(&from).map_or(Incarnation(1), |node| node.config.incarnation);
        let incarnation = fields.text("of").map(number).transpose()?.map_or(current, Incarnation);
        cluster.inject(words.server(0)?, from, incarnation, message);
        Ok(())
    }

    fn network_or_question(&mut self, name: &str, words: &Words<'_>, fields: &Fields<'_>) -> Outcome {
        match name {
            "deliver" => {
                let cluster = self.cluster()?;
                for (to, from, count) in chosen(cluster, words, fields)? {
                    for _ in 0..count {
                        cluster.deliver_one(to, from);
                    }
                }
            }
            "drop" => {
                let links = chosen(self.cluster()?, words, fields)?;
                for (to, from, count) in links {
                    for _ in 0..count {
                        let packet = self.cluster()?.queue(to, from).pop_front().ok_or("nothing to drop")?;
                        let Message { term, .. } = packet.message;
                        writeln!(self.output, "dropped {from}@{term} → {to} {}", packet.message)?;
                    }
                }
            }
            "duplicate" => {
                let cluster = self.cluster()?;
                for (to, from, count) in chosen(cluster, words, fields)? {
                    let copies: Vec<_> = cluster.queue(to, from).iter().take(count).cloned().collect();
                    cluster.queue(to, from).extend(copies);
                }
            }
            "reorder" => {
                let cluster = self.cluster()?;
                for (to, from, _) in chosen(cluster, words, fields)? {
                    cluster.queue(to, from).make_contiguous().reverse();
                }
            }
            "stabilize" => self.cluster()?.stabilize(),
            "cut" => {
                let from = fields.text("from").ok_or("from= is missing")?.parse::<Server>()?.0;
                let to = fields.text("to").ok_or("to= is missing")?.parse::<Server>()?.0;
                self.cluster()?.cut(from, to);
            }
            "partition" => {
                let (cluster, apart) = (self.cluster()?, words.servers()?);
                for one in cluster.ids() {
                    for other in cluster.ids() {
                        if apart.contains(&one) != apart.contains(&other) {
                            cluster.cut(one, other);
                        }
                    }
                }
            }
            "heal" => self.cluster()?.heal(),
            "status" => {
                let ids = if words.0.is_empty() { self.cluster()?.ids() } else { words.servers()? };
                for id in ids {
                    let line = status(self.cluster()?, id);
                    writeln!(self.output, "{line}")?;
                }
            }
            "configuration" => {
                let ids = if words.0.is_empty() { self.cluster()?.ids() } else { words.servers()? };
                for id in ids {
                    let raft = self.cluster()?.raft(id);
                    let line = format!("{id} {}: {}", raft.configuration_index(), raft.configuration());
                    writeln!(self.output, "{line}")?;
                }
            }
            "log-of" => {
                let ids = if words.0.is_empty() { self.cluster()?.ids() } else { words.servers()? };
                for id in ids {
                    let line = log_of(self.cluster()?, id);
                    writeln!(self.output, "{line}")?;
                }
            }
            _ => return Err(format!("{name} is no command of the scripts").into()),
        }
        Ok(())
    }
}

/// The links a command is about, with how many messages of each: `deliver [n1] [from=n2] [count=1]`.
fn chosen(cluster: &mut Cluster, words: &Words<'_>, fields: &Fields<'_>) -> Result<Vec<Batch>, Box<dyn Error>> {
    let to = words.servers()?;
    let from = fields.text("from").map(str::parse::<Server>).transpose()?.map(|server| server.0);
    let count = usize::try_from(fields.text("count").map_or(Ok(u64::MAX), number)?)?;
    let links = cluster.busy_links().into_iter();
    let links: Vec<_> = links
        .filter(|(receiver, sender)| {
            (to.is_empty() || to.contains(receiver)) && from.is_none_or(|wanted| wanted == *sender)
        })
        .collect();
    if links.is_empty() {
        return Err("nothing is on its way there".into());
    }
    Ok(links.into_iter().map(|(to, from)| (to, from, count.min(cluster.queue(to, from).len()))).collect())
}

/// Lets time pass for everybody, with all that happens meanwhile; only the disks of `disks` work, and messages of the kind
/// `lost` are lost. What the servers send and write is not shown.
fn pass(cluster: &mut Cluster, duration: Duration, disks: &[NodeId], lost: Option<&str>) {
    let before = cluster.events.len();
    let mut left = duration;
    while !left.is_zero() {
        let step = left.min(Duration::from_millis(5));
        left -= step;
        cluster.ids().into_iter().for_each(|id| cluster.pass_time(id, step));
        while !cluster.busy_links().is_empty() {
            for (to, from) in cluster.busy_links() {
                let is_lost = |message: &Message| lost.is_some_and(|kind| message.to_string().starts_with(kind));
                cluster.queue(to, from).retain(|packet| !is_lost(&packet.message));
            }
            cluster.deliver_round();
            disks.iter().for_each(|&id| cluster.persist(id, usize::MAX));
        }
    }
    let shown = cluster.events.split_off(before);
    let is_decision = |event: &crate::cluster::Event| !matches!(event.effect, Effect::Send { .. } | Effect::Write(_));
    cluster.events.extend(shown.into_iter().filter(is_decision));
}

/// Lets a server's time pass until it stands, or gives up.
fn timeout(cluster: &mut Cluster, id: NodeId) -> Outcome {
    if cluster.raft(id).role() == RoleName::Leader {
        return Err(format!("{id} leads; let its time pass with tick or heartbeat").into());
    }
    let before = cluster.events.len();
    for _ in 0..MOST_WAKEUPS {
        cluster.wake(id);
        let role_changed =
            |event: &crate::cluster::Event| event.node == id && matches!(event.effect, Effect::RoleChanged { .. });
        if cluster.events[before..].iter().any(role_changed) {
            return Ok(());
        }
    }
    Err(format!("{id} does not stand").into())
}

/// Makes a server leader, if the others let it.
fn elect(cluster: &mut Cluster, id: NodeId) -> Outcome {
    timeout(cluster, id)?;
    cluster.stabilize();
    match cluster.raft(id).role() {
        RoleName::Leader => Ok(()),
        role @ (RoleName::Follower | RoleName::PreCandidate | RoleName::Candidate) => {
            Err(format!("{id} is not elected, it is {role}").into())
        }
    }
}

fn status(cluster: &Cluster, id: NodeId) -> String {
    let raft = cluster.raft(id);
    let mut line = format!("{id}@{} {}", raft.term(), raft.role());
    if let Some(leader) = raft.leader().filter(|&leader| leader != id) {
        write!(line, " of {leader}").unwrap();
    }
    if let Some(chosen) = raft.hard_state().voted_for {
        write!(line, " vote={chosen}").unwrap();
    }
    if raft.is_removed() {
        line.push_str(" removed");
    }
    write!(line, " last={} commit={}", raft.log().last_position(), raft.commit_index()).unwrap();
    if cluster.manual_disk {
        write!(line, " durable={}", raft.durable_index()).unwrap();
    }
    for (peer, index) in raft.matched() {
        write!(line, " {peer}:{index}").unwrap();
    }
    line
}

/// `n1 1@1 2@1 | 3@2`: committed, then the rest; in front `(4@1)`, where a compacted log begins.
fn log_of(cluster: &Cluster, id: NodeId) -> String {
    let raft = cluster.raft(id);
    let mut line = id.to_string();
    let base = raft.log().base();
    if base != LogPosition::ORIGIN {
        write!(line, " ({base})").unwrap();
    }
    for entry in raft.log().range(LogIndex(1), raft.commit_index()) {
        write!(line, " {entry}").unwrap();
    }
    line.push_str(" |");
    for entry in raft.log().range(raft.commit_index().next(), raft.log().last_index()) {
        write!(line, " {entry}").unwrap();
    }
    line
}
