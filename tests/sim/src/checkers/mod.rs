//! What must hold, one property a file.
//!
//! Checkers look at what servers hand out and hold after every turn, and at what clients are told. None decides
//! anything: without them the run would be the same.

pub(crate) mod answers;
pub(crate) mod commit_rule;
pub(crate) mod convergence;
pub(crate) mod disks;
pub(crate) mod election_safety;
pub(crate) mod exactly_once;
pub(crate) mod identity;
pub(crate) mod key_model;
pub(crate) mod leader_append_only;
pub(crate) mod leader_completeness;
mod leases;
pub(crate) mod ledger;
pub(crate) mod linearizable;
pub(crate) mod log_matching;
pub(crate) mod membership;
pub(crate) mod monotone;
pub(crate) mod one_vote;
pub(crate) mod real_time;
pub(crate) mod stalled_leader;
pub(crate) mod state_hash;
pub(crate) mod wgl;

use raft_core::{Effect, LogIndex, Raft, RoleName, Term};
use raft_node::{DiskJob, NodeEvent, Orders};
use raftd::machine::KvMachine;

use self::stalled_leader::Surroundings;
use crate::coverage::{Count, Coverage};
use crate::node::KvServer;
use crate::world::writes_in;

/// A property that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Its name, as in the table of `docs/testing.md`.
    pub(crate) property: &'static str,
    /// What was seen.
    pub(crate) what: String,
}

impl Violation {
    pub(crate) const fn new(property: &'static str, what: String) -> Self {
        Self { property, what }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.property, self.what)
    }
}

/// What a checker says: nothing, or what is wrong.
pub(crate) type Verdict = Result<(), String>;

/// One turn of a process: the server after it, and what it wants done.
pub(crate) struct Turn<'a> {
    pub(crate) node: usize,
    pub(crate) number: u64,
    pub(crate) server: &'a KvServer,
    pub(crate) orders: &'a Orders<KvMachine>,
}

impl Turn<'_> {
    pub(crate) fn raft(&self) -> Option<&Raft> {
        self.server.replica().raft()
    }

    /// The terms it began to lead in this turn, also if it leads no more.
    pub(crate) fn elections(&self) -> impl Iterator<Item = Term> {
        self.orders.events.iter().filter_map(|event| match event {
            NodeEvent::Protocol { term, effect: Effect::RoleChanged { to: RoleName::Leader, .. } } => Some(*term),
            _ => None,
        })
    }
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Checkers {
    pub(crate) election_safety: election_safety::ElectionSafety,
    leader_append_only: leader_append_only::LeaderAppendOnly,
    commit_rule: commit_rule::CommitRule,
    log_matching: log_matching::LogMatching,
    leader_completeness: leader_completeness::LeaderCompleteness,
    pub(crate) membership: membership::Membership,
    monotone: monotone::Monotone,
    one_vote: one_vote::OneVote,
    pub(crate) ledger: ledger::Ledger,
    pub(crate) disks: disks::Disks,
    state_hash: state_hash::StateHashes,
    stalled_leader: stalled_leader::StalledLeader,
    pub(crate) answers: answers::Answers,
    pub(crate) identity: identity::Identity,
    pub(crate) real_time: real_time::RealTime,
    pub(crate) linearizable: linearizable::Linearizable,
    pub(crate) exactly_once: exactly_once::ExactlyOnce,
}

impl Checkers {
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            election_safety: election_safety::ElectionSafety::default(),
            leader_append_only: leader_append_only::LeaderAppendOnly::new(nodes),
            commit_rule: commit_rule::CommitRule::new(nodes),
            log_matching: log_matching::LogMatching::default(),
            leader_completeness: leader_completeness::LeaderCompleteness,
            membership: membership::Membership::new(nodes),
            monotone: monotone::Monotone::new(nodes),
            one_vote: one_vote::OneVote::new(nodes),
            ledger: ledger::Ledger::new(nodes),
            disks: disks::Disks::new(nodes),
            state_hash: state_hash::StateHashes,
            stalled_leader: stalled_leader::StalledLeader::new(nodes),
            answers: answers::Answers::default(),
            identity: identity::Identity,
            real_time: real_time::RealTime::default(),
            linearizable: linearizable::Linearizable::default(),
            exactly_once: exactly_once::ExactlyOnce::default(),
        }
    }

    /// A process begins.
    pub(crate) fn begin(&mut self, node: usize) {
        self.monotone.begin(node);
        self.stalled_leader.forget(node);
        self.leader_append_only.forget(node);
        self.ledger.forget(node);
    }

    /// A stopped server's disk was replaced by an empty one: what it promised before is no promise of the new disk's.
    pub(crate) fn wiped(&mut self, node: usize) {
        self.disks.wiped(node);
        self.one_vote.forget(node);
        self.monotone.forget(node);
        self.membership.forget(node);
    }

    /// A process has ended.
    pub(crate) fn end(&mut self, node: usize) {
        self.answers.end(node);
        self.leader_append_only.forget(node);
    }

    /// Looks at a turn.
    pub(crate) fn observe(
        &mut self,
        turn: &Turn<'_>,
        surroundings: Surroundings<'_>,
        coverage: &mut Coverage,
    ) -> Result<(), Violation> {
        let named = |property| move |what| Violation::new(property, what);
        self.disks.handed_out(turn.node, &turn.orders.jobs);
        self.one_vote.observe(turn).map_err(named("One vote a term, across restarts"))?;
        self.election_safety.observe(turn).map_err(named("Election Safety"))?;
        self.log_matching.observe(turn).map_err(named("Log Matching"))?;
        self.leader_append_only.observe(turn).map_err(named("Leader Append-Only"))?;
        self.commit_rule.observe(turn).map_err(named("A leader commits by entries of its own term"))?;
        self.monotone.observe(turn).map_err(named("Terms, commit and applied index never go back"))?;
        let before = self.ledger.length();
        self.ledger.observe(turn, coverage).map_err(named("State Machine Safety"))?;
        let went_by = self.membership.seen(turn.node).cloned();
        self.membership.observe(turn, coverage).map_err(named("The configuration is a function of the log"))?;
        if self.ledger.length() > before
            && let Some(raft) = turn.raft()
        {
            let verdict = self.disks.committed(&self.ledger, [went_by.as_ref(), Some(raft.configuration())]);
            verdict.map_err(named("Committed is on a quorum of disks"))?;
            let initial = (raft.configuration_index() == LogIndex(0)).then(|| raft.configuration());
            let verdict = self.membership.committed(initial, &self.ledger);
            verdict.map_err(named("Members change one step at a time"))?;
        }
        self.leader_completeness.observe(turn, &self.ledger).map_err(named("Leader Completeness"))?;
        self.state_hash.observe(turn, &self.ledger).map_err(named("Equal state at equal index"))?;
        let stalled = self.stalled_leader.observe(turn, surroundings);
        stalled.map_err(named("A leader whose disk stands still gives way"))?;
        self.answers.observe(turn).map_err(named("Every request is answered once"))?;
        count_rare(turn, coverage);
        Ok(())
    }
}

/// What a turn shows of the rare paths.
fn count_rare(turn: &Turn<'_>, coverage: &mut Coverage) {
    use raft_core::{AppendResult, Body, Message, Reason};
    use raft_node::PeerMessage;

    for event in &turn.orders.events {
        match event {
            NodeEvent::Formed { .. } => coverage.count(Count::Formed),
            NodeEvent::AsksToJoin { .. } => coverage.count(Count::Newcomer),
            NodeEvent::NotAdmitted { .. } => coverage.count(Count::NotAdmitted),
            NodeEvent::Removed => coverage.count(Count::ServerRemoved),
            NodeEvent::DiskFull => coverage.count(Count::FullNoticed),
            NodeEvent::DiskHasSpace => coverage.count(Count::SpaceRegained),
            NodeEvent::SnapshotTaken { .. } => coverage.count(Count::SnapshotTaken),
            NodeEvent::SnapshotNotTaken { .. } => coverage.count(Count::SnapshotNotTaken),
            NodeEvent::SnapshotNotReceived { .. } => coverage.count(Count::SnapshotRejected),
            NodeEvent::Protocol { effect: Effect::SnapshotInstalled { .. }, .. } => {
                coverage.count(Count::SnapshotInstalled)
            }
            NodeEvent::Protocol { effect: Effect::HandsOver { .. }, .. } => coverage.count(Count::HandedOverForDisk),
            NodeEvent::Protocol { effect: Effect::RoleChanged { to, reason, .. }, .. } => match (to, reason) {
                (RoleName::Leader, _) => coverage.count(Count::Election),
                (RoleName::Candidate, Reason::ChosenBy { .. }) => coverage.count(Count::ChosenSuccessor),
                (_, Reason::NoLongerVoter { .. }) => coverage.count(Count::LeaderRemoved),
                (_, Reason::QuorumLost { .. }) => coverage.count(Count::QuorumLost),
                (_, Reason::DiskStalled { .. }) => coverage.count(Count::DiskStalledStepDown),
                (_, Reason::VotesRefused) => coverage.count(Count::VotesRefused),
                (_, Reason::NoOutcome) => coverage.count(Count::NoOutcome),
                _ => {}
            },
            NodeEvent::Protocol { effect: Effect::Misbehaved { .. }, .. } => coverage.count(Count::Misbehaved),
            _ => {}
        }
    }
    for (_, message) in &turn.orders.messages {
        match message {
            PeerMessage::Forward { .. } => coverage.count(Count::Forwarded),
            PeerMessage::Transfer { .. } => coverage.count(Count::TransferForwarded),
            PeerMessage::Raft(Message { body: Body::ReadIndex { .. }, .. }) => coverage.count(Count::FollowerRead),
            PeerMessage::Raft(Message { body: Body::InstallSnapshot { .. }, .. }) => {
                coverage.count(Count::SnapshotSent)
            }
            PeerMessage::Raft(Message { body: Body::AppendEntriesReply(AppendResult::Mismatch { .. }), .. }) => {
                coverage.count(Count::Mismatch)
            }
            _ => {}
        }
    }
    let compactions = turn.orders.jobs.iter().filter(|job| matches!(job, DiskJob::Compact { .. })).count();
    coverage.add(Count::Compaction, compactions as u64);
    let truncations = writes_in(&turn.orders.jobs).filter(|write| write.truncate_from.is_some()).count();
    coverage.add(Count::Truncation, truncations as u64);
}
