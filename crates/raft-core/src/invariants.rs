//! What must hold after every step, on one server: a specification in assertions (§3.6.3, Figure 3.2).
//!
//! Each is O(1). They run in debug builds and in every simulation; what needs more than one server to see (one leader
//! a term, committed entries in every later leader's log) is checked there.

use crate::effect::RoleName;
use crate::raft::Raft;
use crate::role::Role;
use crate::types::{HardState, LogIndex, LogPosition, Payload};

/// What a step can be judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Observation {
    role: RoleName,
    hard_state: HardState,
    last: LogPosition,
    commit: LogIndex,
    /// As a leader: where its term begins in its log.
    first_of_term: Option<LogIndex>,
}

impl Observation {
    /// Takes it, and checks what must hold at any moment.
    pub(crate) fn of(raft: &Raft, role: &Role) -> Self {
        let last = raft.log().last_position();
        let term = raft.term();
        assert!(last.term <= term, "the log ends at {last}, in a term this server ({term}) does not know");
        assert!(raft.commit_index() <= last.index, "committed {} past the log's end {last}", raft.commit_index());
        assert!(raft.durable_index() <= last.index, "durable {} past the log's end {last}", raft.durable_index());
        let (base, covered) =
            (raft.log().base(), raft.snapshot().map_or(LogPosition::ORIGIN, |snapshot| snapshot.last));
        assert!(base <= covered, "the log begins after {base}, the snapshot covers {covered}");
        assert!(covered.index <= raft.commit_index(), "a snapshot of {covered}, committed {}", raft.commit_index());
        let membership = raft.membership();
        if let Some(entry) = raft.log().entry(membership.index()) {
            let payload = Payload::Configuration(membership.current().clone());
            assert_eq!(entry.payload, payload, "the configuration is the latest in the log (§4.1)");
        }
        let mut first_of_term = None;
        match role {
            Role::Leader(leader) => {
                first_of_term = Some(leader.first_index);
                assert_eq!(last.term, term, "a leader's log ends in its own term");
                assert!(raft.durability().is_hard_state_durable(), "a leader's term and vote are on disk");
                check_leader(raft, leader.first_index);
                for id in raft.configuration().members().map(|(id, _)| id).filter(|&id| id != raft.id()) {
                    assert!(leader.progress.contains_key(&id), "a leader sends to every member, and so to {id}");
                }
                for (peer, progress) in &leader.progress {
                    assert!(progress.matched < progress.next, "next of {peer} is not beyond what matches");
                    assert!(progress.next <= last.index.next(), "next of {peer} is past the log's end");
                }
            }
            Role::Candidate(_) => {
                assert_eq!(raft.hard_state().voted_for, Some(raft.id()), "a candidate has voted for itself");
            }
            Role::Follower(follower) => {
                assert_ne!(follower.leader, Some(raft.id()), "nobody follows itself");
            }
            Role::PreCandidate(_) => {}
        }
        Self { role: role.name(), hard_state: raft.hard_state(), last, commit: raft.commit_index(), first_of_term }
    }

    /// Checks the step from `before` to this.
    pub(crate) fn check_after(&self, before: &Self) {
        assert!(self.hard_state.term >= before.hard_state.term, "the term never goes back");
        assert!(self.commit >= before.commit, "the commit index never goes back");
        if self.hard_state.term == before.hard_state.term {
            let (vote, earlier) = (self.hard_state.voted_for, before.hard_state.voted_for);
            assert!(earlier.is_none() || vote == earlier, "one vote a term: {earlier:?}, then {vote:?}");
            if before.role == RoleName::Leader && self.role == RoleName::Leader {
                assert!(self.last.index >= before.last.index, "a leader only appends (Leader Append-Only)");
                assert_eq!(self.first_of_term, before.first_of_term, "a leader's term begins once");
            }
            if before.role == RoleName::Leader {
                let to = self.role;
                assert!(matches!(to, RoleName::Leader | RoleName::Follower), "a leader that stops follows, not {to}");
            }
        }
        let entered_leader = self.role == RoleName::Leader && before.role != RoleName::Leader;
        assert!(!entered_leader || before.role == RoleName::Candidate, "only a candidate is elected");
    }
}

/// What a leader's configuration may be (§4.2.2, §4.3). `first_index` is where its term begins.
fn check_leader(raft: &Raft, first_index: LogIndex) {
    let (membership, commit) = (raft.membership(), raft.commit_index());
    if membership.index() >= first_index
        && let Some((before, _)) = membership.before_uncommitted(commit)
    {
        assert!(*before <= commit, "one change at a time: {before} and {} are not committed", membership.index());
    }
    if commit >= first_index {
        assert!(raft.may_stand(), "it votes, or waits for the commit of what leaves it out: {}", raft.configuration());
        let is_decided = membership.index() <= commit;
        assert!(!(is_decided && raft.configuration().is_joint()), "a committed joint configuration is left at once");
    }
}
