//! What must never happen in a cluster (Figure 3.2), judged from outside by what its servers send and what is on
//! their disks. The servers' own assertions are not asked.

use std::collections::BTreeMap;

use raft_core::{
    AppendResult, Body, Configuration, DiskId, Effect, Entry, Half, LogIndex, LogPosition, Message, NodeId, Payload,
    Raft, ReadId, Refusal, RoleName, Term, Verdict,
};

use crate::cluster::Node;
use crate::disk::Disk;

/// What is known of the cluster so far.
#[derive(Default)]
pub(crate) struct Safety {
    leaders: BTreeMap<Term, NodeId>,
    /// Every vote that ever left a server, its own among them.
    votes: BTreeMap<(NodeId, DiskId, Term), NodeId>,
    /// Every entry that was ever committed anywhere, from index 1, and the first term in which it was.
    committed: Vec<(Entry, Term)>,
    /// Of each read under way: what was committed anywhere when it began.
    reads: BTreeMap<(NodeId, ReadId), LogIndex>,
    pub(crate) reads_answered: u64,
    /// A script made messages up, so that servers may believe what is not so: what the cluster as a whole guarantees
    /// is no longer judged, only what each server owes by itself.
    pub(crate) is_deceived: bool,
}

impl Safety {
    pub(crate) fn committed_index(&self) -> LogIndex {
        LogIndex(self.committed.len() as u64)
    }

    pub(crate) fn leaders_elected(&self) -> usize {
        self.leaders.len()
    }

    pub(crate) fn begin_read(&mut self, node: NodeId, read: ReadId) {
        self.reads.insert((node, read), self.committed_index());
    }

    /// Judges one effect of `id` before it is executed.
    pub(crate) fn check(&mut self, nodes: &BTreeMap<NodeId, Node>, id: NodeId, effect: &Effect) {
        let node = &nodes[&id];
        match effect {
            Effect::Send { to, message } => {
                check_durable(node, *to, message);
                self.check_vote((id, node.config.disk), *to, message);
            }
            Effect::Committed { index } if !self.is_deceived => self.check_committed(nodes, &node.raft, *index),
            Effect::RoleChanged { to: RoleName::Leader, .. } if !self.is_deceived => self.check_elected(&node.raft),
            Effect::ReadReady { id: read, index } => {
                let floor = self.reads.remove(&(id, *read)).expect("each read is answered once");
                assert!(
                    self.is_deceived || *index >= floor,
                    "{id} answers read #{} at {index}; {floor} was committed before",
                    read.0
                );
                self.reads_answered += 1;
            }
            Effect::ReadFailed { id: read, .. } => {
                self.reads.remove(&(id, *read)).expect("each read is answered once");
            }
            Effect::Write(_)
            | Effect::ChangeAccepted { .. }
            | Effect::ChangeRefused { .. }
            | Effect::ConfigurationChanged { .. }
            | Effect::SendSnapshot { .. }
            | Effect::StoreChunk { .. }
            | Effect::SnapshotInstalled { .. }
            | Effect::Compacted { .. }
            | Effect::Committed { .. }
            | Effect::RoleChanged { .. }
            | Effect::ProposalAccepted { .. }
            | Effect::ProposalRefused { .. }
            | Effect::LeaderKnown { .. }
            | Effect::HandsOver { .. }
            | Effect::TransferFailed { .. }
            | Effect::Misbehaved { .. } => {}
        }
    }

    /// One vote a term and server, across restarts (§3.4).
    fn check_vote(&mut self, (from, disk): (NodeId, DiskId), to: NodeId, message: &Message) {
        let chosen = match &message.body {
            Body::RequestVote { .. } => from,
            Body::RequestVoteReply { verdict: Verdict::Granted } => to,
            Body::RequestVoteReply { verdict: Verdict::Refused(_) }
            | Body::PreVote { .. }
            | Body::PreVoteReply { .. }
            | Body::AppendEntries { .. }
            | Body::AppendEntriesReply(_)
            | Body::InstallSnapshot { .. }
            | Body::InstallSnapshotReply { .. }
            | Body::Heartbeat { .. }
            | Body::HeartbeatReply { .. }
            | Body::TimeoutNow { .. }
            | Body::ReadIndex { .. }
            | Body::ReadIndexReply { .. } => return,
        };
        let first = *self.votes.entry((from, disk, message.term)).or_insert(chosen);
        assert_eq!(first, chosen, "{from} votes twice in term {}", message.term);
    }

    /// Election Safety and Leader Completeness: what was committed in a term is in the log of the leaders of later ones.
    /// (A candidate may find out late that it won an earlier term; it need not have it, and will commit nothing.)
    fn check_elected(&mut self, raft: &Raft) {
        let first = *self.leaders.entry(raft.term()).or_insert(raft.id());
        assert_eq!(first, raft.id(), "two leaders in term {}", raft.term());
        let base = raft.log().base().index;
        let due = self.committed.iter().filter(|(entry, term)| *term < raft.term() && entry.position.index > base);
        for (entry, _) in due {
            let theirs = raft.log().entry(entry.position.index);
            assert_eq!(theirs, Some(entry), "{} leads term {} without a committed entry", raft.id(), raft.term());
        }
    }

    /// The state machine is what the committed entries make of it, whether they were applied or came in a snapshot.
    pub(crate) fn check_state(&self, node: &Node) {
        let applied = usize::try_from(node.applied.0).unwrap();
        if !self.is_deceived {
            let expected: String =
                self.committed[..applied].iter().map(|(entry, _)| format!("{} ", entry.position)).collect();
            assert_eq!(node.state, expected, "the state of {} at {applied}", node.raft.id());
        }
    }

    /// State Machine Safety, and: what is committed is on a majority of disks.
    fn check_committed(&mut self, nodes: &BTreeMap<NodeId, Node>, raft: &Raft, index: LogIndex) {
        for entry in raft.log().range(LogIndex(1), index) {
            let place = usize::try_from(entry.position.index.0).unwrap() - 1;
            if let Some((known, _)) = self.committed.get(place) {
                assert_eq!(known, entry, "{} commits another entry", raft.id());
                continue;
            }
            check_held(nodes, raft, entry.position);
            self.committed.push((entry.clone(), raft.term()));
        }
    }

    /// A configuration in effect is the latest in the log, and follows from the one before: the voters change through a
    /// joint step, and a change begins after the one before is committed (§4.1, §4.3).
    pub(crate) fn check_configuration(&self, raft: &Raft) {
        let configurations = configurations(raft);
        let latest = configurations.last().map(|(_, configuration)| *configuration);
        assert!(latest.is_none_or(|latest| latest == raft.configuration()), "{}: not the latest in the log", raft.id());
        if self.is_deceived {
            return;
        }
        for pair in configurations.windows(2) {
            let [(first, before), (_, after)] = pair else { unreachable!() };
            assert!(*first <= self.committed_index(), "a change at {first} is not committed: {before}, then {after}");
            let voters = |configuration: &Configuration, half| configuration.voters_in(half).collect::<Vec<_>>();
            assert_eq!(voters(before, Half::New), voters(after, Half::Old), "{before} leads to {after} at once");
            assert!(!(before.is_joint() && after.is_joint()), "{before} leads to another joint one: {after}");
        }
    }

    /// The Log Matching Property: two logs with the same position at some index are the same up to there.
    pub(crate) fn check_log_matching(nodes: &BTreeMap<NodeId, Node>) {
        let logs: Vec<_> = nodes.values().map(|node| node.raft.log()).collect();
        for (place, one) in logs.iter().enumerate() {
            for other in &logs[place + 1..] {
                let first = one.base().index.max(other.base().index).next();
                let shorter = one.last_index().min(other.last_index());
                let both = || one.range(first, shorter).zip(other.range(first, shorter));
                let agree = both().take_while(|(a, b)| a == b).count();
                let again = both().skip(agree).find(|(a, b)| a.position == b.position);
                assert_eq!(again, None, "two logs part after {agree} entries and meet again");
            }
        }
    }
}

/// The configurations in a server's log, with the index of each.
fn configurations(raft: &Raft) -> Vec<(LogIndex, &Configuration)> {
    let log = raft.log();
    log.range(log.base().index.next(), log.last_index())
        .filter_map(|entry| match &entry.payload {
            Payload::Configuration(configuration) => Some((entry.position.index, configuration)),
            Payload::Noop | Payload::Command(_) => None,
        })
        .collect()
}

/// What is committed is on the disks of a majority of both halves of a configuration that was in effect while it was
/// counted: the leader's, or the one before, which it may have left in the same step.
fn check_held(nodes: &BTreeMap<NodeId, Node>, raft: &Raft, position: LogPosition) {
    let suffices = |configuration: &Configuration| {
        // A disk that is gone held it when it said so; its vote is gone as well (rule 2).
        let holds = |id: NodeId| {
            let node = &nodes[&id];
            !configuration.has(id, node.config.disk) || node.disk.has(position)
        };
        Half::BOTH.into_iter().all(|half| {
            let (all, held) = (configuration.voters_in(half), configuration.voters_in(half).filter(|&id| holds(id)));
            held.count() * 2 > all.count()
        })
    };
    let configurations = configurations(raft);
    let before = configurations.iter().rev().nth(1).map(|(_, configuration)| *configuration);
    assert!(
        suffices(raft.configuration()) || before.is_some_and(suffices),
        "{position} is committed by {} and not held by a majority of {}",
        raft.id(),
        raft.configuration()
    );
}

/// Rule 1: no message names a term, a vote or a position that is not on its sender's disk.
fn check_durable(node: &Node, to: NodeId, message: &Message) {
    let disk = &node.disk;
    assert!(disk.hard_state.term >= message.term, "{} names a term that is not on its disk: {message}", node.raft.id());
    let holds = match &message.body {
        Body::PreVote { last_log, .. } => disk.has(*last_log),
        Body::RequestVote { last_log, .. } => disk.has(*last_log) && disk.hard_state.voted_for == Some(node.raft.id()),
        Body::PreVoteReply { verdict: Verdict::Refused(Refusal::LogBehind { ours }), .. }
        | Body::RequestVoteReply { verdict: Verdict::Refused(Refusal::LogBehind { ours }) } => disk.has(*ours),
        Body::RequestVoteReply { verdict: Verdict::Granted } => disk.hard_state.voted_for == Some(to),
        Body::AppendEntriesReply(AppendResult::Matched(index)) => holds_log_up_to(disk, &node.raft, *index),
        Body::AppendEntriesReply(AppendResult::Mismatch { hint, .. }) => disk.has(*hint),
        Body::PreVoteReply { .. }
        | Body::RequestVoteReply { .. }
        | Body::AppendEntries { .. }
        | Body::InstallSnapshot { .. }
        | Body::InstallSnapshotReply { .. }
        | Body::Heartbeat { .. }
        | Body::HeartbeatReply { .. }
        | Body::TimeoutNow { .. }
        | Body::ReadIndex { .. }
        | Body::ReadIndexReply { .. } => true,
    };
    assert!(holds, "{} promises what is not on its disk: {message}", node.raft.id());
}

fn holds_log_up_to(disk: &Disk, raft: &Raft, index: LogIndex) -> bool {
    let position: Option<LogPosition> = raft.log().position(index);
    let is_covered = disk.snapshot().is_some_and(|(snapshot, _)| index <= snapshot.last.index);
    is_covered || (position.is_some() && disk.position(index) == position)
}
