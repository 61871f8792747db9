//! The state machine of the protocol: takes an input, decides by role and message, changes role in one place.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::config::{Config, Restored, StartError};
use crate::configuration::Configuration;
use crate::durability::Durability;
use crate::effect::{Effect, Misbehaviour, ProposalRefusal, ReadFailure, Reason, RoleName, TransferFailure};
use crate::input::{Input, ProposalId};
use crate::invariants::Observation;
use crate::log::Log;
use crate::member_change::{ChangeRefusal, MemberChange};
use crate::membership::Membership;
use crate::message::{AppendResult, Body, Message, ReadRound, Refusal};
use crate::role::{Candidate, Follower, Next, PreCandidate, Role};
use crate::shared::{Freshness, Shared};
use crate::types::{
    ClusterTime, DiskId, HardState, Incarnation, Instant, LogIndex, LogPosition, NodeId, Snapshot, Term,
};
use crate::{change, disk_health, election, reads, replication, snapshot, transfer};

/// One server's protocol.
///
/// A plain value: equal states given equal inputs take equal steps, bit for bit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Raft {
    shared: Shared,
    role: Role,
}

impl Raft {
    /// Starts a server as a follower (§3.4) with what its disk holds.
    ///
    /// # Errors
    /// If the settings contradict each other, or what was restored cannot be a server's state.
    pub fn new(config: Config, restored: Restored, now: Instant) -> Result<Self, StartError> {
        config.check()?;
        restored.check()?;
        let mut shared = Shared::new(config, restored, now);
        let follower = election::become_follower(&mut shared, None);
        Ok(Self { shared, role: Role::Follower(follower) })
    }

    // --- inputs --------------------------------------------------------------------------------------------------

    /// Takes one input at `now` and appends what must be done to `effects`, in order.
    ///
    /// # Panics
    /// On a bug of this crate, or of a driver that confirms writes it was not given. Never because of what a peer
    /// sends.
    pub fn step(&mut self, now: Instant, input: Input, effects: &mut Vec<Effect>) {
        let before = cfg!(debug_assertions).then(|| self.observe());
        self.shared.now = self.shared.now.max(now);
        let next = self.handle(input);
        self.become_next(next);
        self.shared.finish_step(effects);
        if let Some(before) = before {
            self.observe().check_after(&before);
        }
    }

    /// When [`Input::Tick`] is next due.
    #[must_use]
    pub fn next_wakeup(&self) -> Instant {
        match &self.role {
            Role::Follower(follower) => {
                let retry = reads::retry_deadline(&self.shared, follower);
                retry.map_or(follower.election_deadline, |retry| retry.min(follower.election_deadline))
            }
            Role::PreCandidate(pre_candidate) => pre_candidate.election_deadline,
            Role::Candidate(candidate) => candidate.election_deadline,
            Role::Leader(leader) => {
                let transfer = leader.transfer.map(|transfer| transfer.deadline);
                let deadlines = [Some(leader.heartbeat_deadline), transfer, snapshot::next_due(leader)];
                deadlines.into_iter().flatten().min().unwrap_or(leader.heartbeat_deadline)
            }
        }
    }

    // --- what it is ----------------------------------------------------------------------------------------------

    /// This server.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.shared.id()
    }

    /// Its disk: a configuration that names its id with another one means another server (rule 2).
    #[must_use]
    pub const fn disk(&self) -> DiskId {
        self.shared.config.disk
    }

    /// Its current term.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.shared.current_term()
    }

    /// Its term and vote, on disk or on their way there.
    #[must_use]
    pub const fn hard_state(&self) -> HardState {
        HardState { term: self.shared.current_term(), voted_for: self.shared.voted_for() }
    }

    /// Its role.
    #[must_use]
    pub const fn role(&self) -> RoleName {
        self.role.name()
    }

    /// Cluster time as its next entry would be stamped (rule 6), if it leads.
    #[must_use]
    pub const fn leader_time(&self, now: Instant) -> Option<ClusterTime> {
        match &self.role {
            Role::Leader(leader) => Some(leader.cluster_time(now)),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }

    /// Who leads its term, as far as it knows; itself if it leads.
    #[must_use]
    pub const fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Follower(follower) => follower.leader,
            Role::PreCandidate(_) | Role::Candidate(_) => None,
            Role::Leader(_) => Some(self.shared.id()),
        }
    }

    /// Up to where the log is committed, as far as it knows.
    #[must_use]
    pub const fn commit_index(&self) -> LogIndex {
        self.shared.commit_index()
    }

    /// Up to where its log is on its own disk.
    #[must_use]
    pub const fn durable_index(&self) -> LogIndex {
        self.shared.durability.durable_index()
    }

    /// How many bytes of its log are not known to be committed ([`crate::Entry::size_bytes`]).
    #[must_use]
    pub const fn uncommitted_bytes(&self) -> usize {
        self.shared.uncommitted_bytes()
    }

    /// How many bytes of entries its disk was given and has not confirmed, truncated ones included.
    #[must_use]
    pub const fn unsynced_bytes(&self) -> usize {
        self.shared.durability.unsynced_bytes()
    }

    /// Its log.
    #[must_use]
    pub const fn log(&self) -> &Log {
        &self.shared.log
    }

    /// The configuration in effect.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        self.shared.membership.current()
    }

    /// The entry that the configuration in effect came with: it is committed once the commit index reaches it. 0 for the
    /// one the cluster was formed with.
    #[must_use]
    pub fn configuration_index(&self) -> LogIndex {
        self.shared.membership.index()
    }

    /// Whether this server belongs to the cluster no more, as far as it knows: the committed configuration does not name
    /// it, or servers that hear a leader have told it so.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        let (shared, commit) = (&self.shared, self.shared.commit_index());
        shared.is_told_removed || shared.membership.has_left_out(shared.id(), shared.config.disk, commit)
    }

    /// As a leader: up to where each follower's log is known to agree with its own, on the follower's disk.
    #[must_use]
    pub fn matched(&self) -> Vec<(NodeId, LogIndex)> {
        match &self.role {
            Role::Leader(leader) => leader.progress.iter().map(|(&peer, progress)| (peer, progress.matched)).collect(),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => Vec::new(),
        }
    }

    /// As a leader that is handing over: to whom. Proposals are refused meanwhile.
    #[must_use]
    pub fn transfers_to(&self) -> Option<NodeId> {
        match &self.role {
            Role::Leader(leader) => leader.transfer.map(|transfer| transfer.to),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }

    /// What a snapshot of the state at `index` is called (§5.1): for the driver that takes one. `None` if the log does
    /// not tell any more, or not yet.
    #[must_use]
    pub fn describe_snapshot(&self, index: LogIndex) -> Option<Snapshot> {
        snapshot::describe(&self.shared, index)
    }

    /// The latest snapshot on this server's disk.
    #[must_use]
    pub const fn snapshot(&self) -> Option<&Snapshot> {
        self.shared.snapshot()
    }

    /// The last entries of the snapshots whose files are still needed: the latest, and those on their way to a
    /// follower.
    #[must_use]
    pub fn snapshots_in_use(&self) -> BTreeSet<LogPosition> {
        snapshot::in_use(&self.shared, &self.role).collect()
    }

    pub(crate) const fn membership(&self) -> &Membership {
        &self.shared.membership
    }

    pub(crate) fn may_stand(&self) -> bool {
        self.shared.may_stand()
    }

    pub(crate) const fn durability(&self) -> &Durability {
        &self.shared.durability
    }

    fn observe(&self) -> Observation {
        Observation::of(self, &self.role)
    }

    // --- the decision --------------------------------------------------------------------------------------------

    fn handle(&mut self, input: Input) -> Next {
        match input {
            Input::Tick => self.handle_tick(),
            Input::Message { from, disk, incarnation, message } => {
                self.handle_message(from, disk, incarnation, message)
            }
            Input::Propose { id, commands } => {
                match &mut self.role {
                    Role::Leader(leader) => replication::handle_propose(&mut self.shared, leader, id, commands),
                    Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                        let reason = ProposalRefusal::NotLeader { leader: self.leader() };
                        self.shared.emit(Effect::ProposalRefused { id, reason });
                    }
                }
                Next::Stay
            }
            Input::Read { id } => {
                match &mut self.role {
                    Role::Leader(leader) => reads::handle_read(&mut self.shared, leader, id),
                    Role::Follower(follower) => reads::handle_follower_read(&mut self.shared, follower, id),
                    Role::PreCandidate(_) | Role::Candidate(_) => {
                        self.shared.emit(Effect::ReadFailed { id, reason: ReadFailure::NoLeader });
                    }
                }
                Next::Stay
            }
            Input::ChangeMembership { id, changes } => {
                self.handle_change(id, &changes);
                Next::Stay
            }
            Input::Transfer { to } => {
                match &mut self.role {
                    Role::Leader(leader) => transfer::handle_transfer(&mut self.shared, leader, to),
                    Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                        let reason = TransferFailure::NotLeader { leader: self.leader() };
                        self.shared.emit(Effect::TransferFailed { reason });
                    }
                }
                Next::Stay
            }
            Input::Persisted(number) => {
                self.shared.durability.confirm(number);
                self.shared.send_released();
                self.handle_durable()
            }
            Input::SnapshotTaken(taken) => {
                snapshot::handle_taken(&mut self.shared, &self.role, taken);
                Next::Stay
            }
            Input::ChunkStored { last, offset } => {
                if let Role::Follower(follower) = &mut self.role {
                    snapshot::handle_chunk_stored(&mut self.shared, follower, last, offset);
                }
                Next::Stay
            }
            Input::SnapshotReceived(received) => {
                snapshot::handle_received(&mut self.shared, &mut self.role, received);
                Next::Stay
            }
            Input::SnapshotRejected { last } => {
                if let Role::Follower(follower) = &mut self.role {
                    snapshot::handle_rejected(&mut self.shared, follower, last);
                }
                Next::Stay
            }
            Input::Unreachable { peer } => {
                match &mut self.role {
                    Role::Leader(leader) => replication::handle_unreachable(leader, peer),
                    Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {}
                }
                Next::Stay
            }
        }
    }

    fn handle_change(&mut self, id: ProposalId, changes: &[MemberChange]) {
        match &mut self.role {
            Role::Leader(leader) => change::handle_change(&mut self.shared, leader, id, changes),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                let reason = ChangeRefusal::NotLeader { leader: self.leader() };
                self.shared.emit(Effect::ChangeRefused { id, reason });
            }
        }
    }

    fn handle_tick(&mut self) -> Next {
        let now = self.shared.now;
        match &mut self.role {
            Role::Follower(follower) => {
                if reads::retry_deadline(&self.shared, follower).is_some_and(|deadline| now >= deadline) {
                    reads::handle_retry_timeout(&mut self.shared, follower);
                }
                if now >= follower.election_deadline {
                    return election::handle_follower_timeout(&mut self.shared, follower);
                }
            }
            Role::PreCandidate(PreCandidate { election_deadline, .. })
            | Role::Candidate(Candidate { election_deadline, .. }) => {
                if now >= *election_deadline {
                    return election::handle_candidate_timeout(&mut self.shared, election_deadline);
                }
            }
            Role::Leader(leader) => {
                transfer::give_up_if_late(&mut self.shared, leader);
                if now >= leader.heartbeat_deadline {
                    return replication::handle_heartbeat_timeout(&mut self.shared, leader);
                }
                snapshot::send_due(&mut self.shared, leader);
            }
        }
        Next::Stay
    }

    /// More is on disk than before.
    fn handle_durable(&mut self) -> Next {
        match &mut self.role {
            Role::Candidate(candidate) => election::handle_own_vote_durable(&self.shared, candidate),
            Role::Leader(leader) => replication::advance_commit(&mut self.shared, leader),
            Role::Follower(_) | Role::PreCandidate(_) => Next::Stay,
        }
    }

    // --- messages ------------------------------------------------------------------------------------------------

    fn handle_message(&mut self, from: NodeId, disk: DiskId, incarnation: Incarnation, message: Message) -> Next {
        let Message { term, body } = message;
        if from == self.shared.id() || !self.may_say(from, disk, &body) {
            self.shared.report(from, Misbehaviour::NotAMember);
            return Next::Stay;
        }
        if term > Term::MAX_ACCEPTED {
            self.shared.report(from, Misbehaviour::ImpossibleTerm);
            return Next::Stay;
        }
        match self.shared.note_incarnation(from, disk, incarnation) {
            Freshness::Stale => return Next::Stay,
            Freshness::Restarted => {
                if let Role::Leader(leader) = &mut self.role
                    && self.shared.membership.current().has(from, disk)
                {
                    replication::handle_restart(&mut self.shared, leader, from);
                }
            }
            Freshness::Current => {}
        }
        match self.compare_terms(term, &body) {
            TermVerdict::Take => {}
            TermVerdict::Adopt => {
                self.shared.advance_term(term);
                self.become_next(Next::Follower { leader: None, reason: Reason::HigherTerm { seen_at: from, term } });
            }
            TermVerdict::RefuseVote(refusal) => {
                election::refuse_vote(&mut self.shared, from, refusal);
                return Next::Stay;
            }
            TermVerdict::TellOurTerm => {
                // An old leader steps down when it sees our term.
                self.shared.send(from, Body::HeartbeatReply { round: ReadRound(0) });
                return Next::Stay;
            }
            TermVerdict::Ignore => return Next::Stay,
        }
        self.dispatch(from, disk, term, body)
    }

    /// Whether a server may say this to us. Leaders and candidates are heard whatever our configuration says, for theirs
    /// may be later (§4.1); who they are was proved to the driver. What a follower or a voter says counts only if it is
    /// a member, on the disk that the configuration names (rule 2); a leader also listens to those it has just left out.
    fn may_say(&self, from: NodeId, disk: DiskId, body: &Body) -> bool {
        if body.is_of_a_leader_or_candidate() {
            return true;
        }
        match (self.shared.membership.current().member(from), &self.role) {
            (Some(member), _) => member.disk == disk,
            (None, Role::Leader(leader)) => leader.progress.contains_key(&from),
            (None, Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_)) => false,
        }
    }

    /// What the term of a message means for it (§3.3: terms act as a logical clock; §4.2.3: who may move it).
    fn compare_terms(&self, term: Term, body: &Body) -> TermVerdict {
        let current = self.shared.current_term();
        match body {
            // A poll changes no term, and its answer is told by its number (§9.6).
            Body::PreVote { .. } => TermVerdict::Take,
            Body::PreVoteReply { .. } if term <= current => TermVerdict::Take,
            Body::RequestVote { .. } if term < current => TermVerdict::RefuseVote(Refusal::StaleTerm),
            Body::RequestVote { is_transfer: false, .. }
                if term > current && election::hears_leader(&self.shared, &self.role) =>
            {
                TermVerdict::RefuseVote(Refusal::HearsLeader)
            }
            Body::AppendEntries { .. } | Body::InstallSnapshot { .. } | Body::Heartbeat { .. } if term < current => {
                TermVerdict::TellOurTerm
            }
            Body::PreVoteReply { .. }
            | Body::RequestVote { .. }
            | Body::RequestVoteReply { .. }
            | Body::AppendEntries { .. }
            | Body::AppendEntriesReply(_)
            | Body::InstallSnapshot { .. }
            | Body::InstallSnapshotReply { .. }
            | Body::Heartbeat { .. }
            | Body::HeartbeatReply { .. }
            | Body::TimeoutNow { .. }
            | Body::ReadIndex { .. }
            | Body::ReadIndexReply { .. } => match term.cmp(&current) {
                core::cmp::Ordering::Less => TermVerdict::Ignore,
                core::cmp::Ordering::Equal => TermVerdict::Take,
                core::cmp::Ordering::Greater => TermVerdict::Adopt,
            },
        }
    }

    /// A message of our term (or a poll, which has none), by what it says and by what we are.
    fn dispatch(&mut self, from: NodeId, disk: DiskId, term: Term, body: Body) -> Next {
        match body {
            Body::PreVote { poll, last_log } => {
                election::handle_pre_vote(&mut self.shared, &self.role, (from, disk), term, poll, last_log);
            }
            Body::PreVoteReply { poll, verdict } => {
                return match &mut self.role {
                    Role::PreCandidate(pre_candidate) => {
                        election::handle_pre_vote_reply(&mut self.shared, pre_candidate, from, poll, verdict)
                    }
                    // Late: the poll is over.
                    Role::Follower(_) | Role::Candidate(_) | Role::Leader(_) => Next::Stay,
                };
            }
            Body::RequestVote { last_log, .. } => {
                election::handle_request_vote(&mut self.shared, &mut self.role, from, last_log);
            }
            Body::RequestVoteReply { verdict } => {
                return match &mut self.role {
                    Role::Candidate(candidate) => {
                        election::handle_request_vote_reply(&self.shared, candidate, from, verdict)
                    }
                    // Late: the election is over.
                    Role::Follower(_) | Role::PreCandidate(_) | Role::Leader(_) => Next::Stay,
                };
            }
            Body::AppendEntries { prev, entries, commit } => {
                if self.follow(from) {
                    let new = replication::NewEntries { prev, entries, commit };
                    replication::handle_append_entries(&mut self.shared, from, new);
                }
            }
            Body::InstallSnapshot { last, offset, data, done } => {
                if self.follow(from)
                    && let Role::Follower(follower) = &mut self.role
                {
                    let chunk = snapshot::NewChunk { last, offset, data, done };
                    snapshot::handle_install_snapshot(&mut self.shared, follower, from, chunk);
                }
            }
            Body::Heartbeat { commit, round } => {
                if self.follow(from) {
                    replication::handle_heartbeat(&mut self.shared, from, commit, round);
                }
            }
            Body::TimeoutNow { why } => {
                if self.follow(from) && self.shared.may_stand() && !disk_health::is_stalled(&self.shared) {
                    return Next::Candidate { reason: Reason::ChosenBy { leader: from, why } };
                }
            }
            Body::ReadIndexReply { id, incarnation, index } => match &mut self.role {
                Role::Follower(follower) => {
                    reads::handle_read_index_reply(&mut self.shared, follower, id, incarnation, index);
                }
                // Its reads were given up when it stood.
                Role::PreCandidate(_) | Role::Candidate(_) | Role::Leader(_) => {}
            },
            Body::AppendEntriesReply(_)
            | Body::InstallSnapshotReply { .. }
            | Body::HeartbeatReply { .. }
            | Body::ReadIndex { .. } => return self.dispatch_to_leader(from, body),
        }
        Next::Stay
    }

    /// What followers say to a leader. One that leads no more hears it too late.
    fn dispatch_to_leader(&mut self, from: NodeId, body: Body) -> Next {
        let Role::Leader(leader) = &mut self.role else { return Next::Stay };
        let shared = &mut self.shared;
        if let Some(progress) = leader.progress.get_mut(&from) {
            progress.heard = shared.now;
            progress.has_answered = true;
        }
        match body {
            Body::AppendEntriesReply(AppendResult::Matched(index)) => {
                return replication::handle_matched(shared, leader, from, index);
            }
            Body::AppendEntriesReply(AppendResult::Mismatch { prev, hint }) => {
                replication::handle_mismatch(shared, leader, from, prev, hint);
            }
            Body::InstallSnapshotReply { last, offset } => snapshot::handle_reply(shared, leader, from, last, offset),
            Body::HeartbeatReply { round } => replication::handle_heartbeat_reply(shared, leader, from, round),
            Body::ReadIndex { id, incarnation } => reads::handle_read_index(shared, leader, from, id, incarnation),
            Body::PreVote { .. }
            | Body::PreVoteReply { .. }
            | Body::RequestVote { .. }
            | Body::RequestVoteReply { .. }
            | Body::AppendEntries { .. }
            | Body::InstallSnapshot { .. }
            | Body::Heartbeat { .. }
            | Body::TimeoutNow { .. }
            | Body::ReadIndexReply { .. } => unreachable!("dispatched by what every role does with it"),
        }
        Next::Stay
    }

    /// Follows `leader`, from whom a message of our term came that only its leader sends.
    ///
    /// Returns false if the term has another leader.
    fn follow(&mut self, leader: NodeId) -> bool {
        match &self.role {
            Role::Follower(Follower { leader: Some(known), .. }) if *known == leader => {}
            Role::Follower(Follower { leader: Some(_), .. }) | Role::Leader(_) => {
                self.shared.report(leader, Misbehaviour::SecondLeader);
                return false;
            }
            Role::Follower(Follower { leader: None, .. }) => self.shared.emit(Effect::LeaderKnown { leader }),
            Role::PreCandidate(_) | Role::Candidate(_) => {
                // §3.4: the leader is at least as far as we are, so it is legitimate.
                self.become_next(Next::Follower { leader: Some(leader), reason: Reason::LeaderHeard { leader } });
                self.shared.emit(Effect::LeaderKnown { leader });
            }
        }
        let Role::Follower(follower) = &mut self.role else { unreachable!("everybody else became one just now") };
        follower.leader = Some(leader);
        follower.leader_heard = Some(self.shared.now);
        follower.waiting_since = self.shared.now;
        self.shared.is_told_removed = false;
        follower.election_deadline = self.shared.random_election_deadline();
        true
    }

    // --- the one place that changes role -------------------------------------------------------------------------

    fn become_next(&mut self, next: Next) {
        let mut next = next;
        loop {
            let (to, reason) = match next {
                Next::Stay => return,
                Next::Follower { reason, .. } => (RoleName::Follower, reason),
                Next::PreCandidate { reason } => (RoleName::PreCandidate, reason),
                Next::Candidate { reason } => (RoleName::Candidate, reason),
                Next::Leader => (RoleName::Leader, Reason::ElectionWon),
            };
            self.leave_role();
            self.shared.emit(Effect::RoleChanged { from: self.role.name(), to, reason });
            let shared = &mut self.shared;
            (self.role, next) = match next {
                Next::Stay => return,
                Next::Follower { leader, .. } => {
                    (Role::Follower(election::become_follower(shared, leader)), Next::Stay)
                }
                Next::PreCandidate { .. } => {
                    let (pre_candidate, next) = election::become_pre_candidate(shared);
                    (Role::PreCandidate(pre_candidate), next)
                }
                Next::Candidate { reason } => {
                    let is_transfer = matches!(reason, Reason::ChosenBy { .. });
                    (Role::Candidate(election::become_candidate(shared, is_transfer)), Next::Stay)
                }
                Next::Leader => (Role::Leader(replication::become_leader(shared)), Next::Stay),
            };
        }
    }

    fn leave_role(&mut self) {
        match &mut self.role {
            Role::Follower(follower) => reads::fail_follower_reads(&mut self.shared, follower),
            Role::Leader(leader) => reads::fail_leader_reads(&mut self.shared, leader),
            Role::PreCandidate(_) | Role::Candidate(_) => {}
        }
    }
}

/// What to do with a message, judged by its term alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TermVerdict {
    /// Of our term: handle it.
    Take,
    /// Of a later term: enter that term as a follower, then handle it.
    Adopt,
    /// A candidate that must not disturb us.
    RefuseVote(Refusal),
    /// A leader of an earlier term.
    TellOurTerm,
    /// Of an earlier term, and nobody waits for an answer.
    Ignore,
}
