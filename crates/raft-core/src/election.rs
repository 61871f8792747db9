//! Elections (§3.4, §3.6.1, §4.2.3, §9.6).
//!
//! Owns: who may vote for whom, and when this server stands. Does not own: what a new leader does first
//! (`replication`), who counts as a voter (`membership`).
//!
//! A vote is a promise on disk. Both sides of it (our own vote when we stand, a vote we grant) become messages only
//! once they are durable; until then they wait in `durability`.
//!
//! PreVote and CheckQuorum belong together from the first election on (rule 12): PreVote alone lets a follower that
//! still hears a leader nobody else hears block every election; CheckQuorum makes such a leader step down.

use crate::disk_health;
use crate::effect::Reason;
use crate::message::{Body, Poll, Refusal, Verdict};
use crate::quorum::{Tally, Votes};
use crate::reads::{self, FollowerReads};
use crate::role::{Candidate, Follower, Next, PreCandidate, Role};
use crate::shared::Shared;
use crate::types::{DiskId, Instant, LogPosition, NodeId, Term};

// --- becoming ----------------------------------------------------------------------------------------------------

pub(crate) fn become_follower(shared: &mut Shared, leader: Option<NodeId>) -> Follower {
    Follower {
        leader,
        leader_heard: leader.map(|_| shared.now),
        waiting_since: shared.now,
        election_deadline: shared.random_election_deadline(),
        reads: FollowerReads::default(),
        receiving: None,
    }
}

/// Asks every voter whether it would vote for this server, changing nothing (§9.6).
pub(crate) fn become_pre_candidate(shared: &mut Shared) -> (PreCandidate, Next) {
    let poll = Poll(shared.last_poll.0 + 1);
    shared.last_poll = poll;
    let mut votes = Votes::default();
    votes.record(shared.id(), true);
    shared.send_to_voters(&Body::PreVote { poll, last_log: shared.log.last_position() });
    let next = after_pre_vote(shared, &votes);
    (PreCandidate { poll, votes, election_deadline: shared.random_election_deadline() }, next)
}

/// Enters the next term, votes for itself and asks for the others' votes (§3.4), in the leader's name if that wants it
/// (§3.10). Its own vote counts once it is durable, see [`handle_own_vote_durable`].
pub(crate) fn become_candidate(shared: &mut Shared, is_transfer: bool) -> Candidate {
    shared.advance_term(shared.current_term().next());
    shared.vote_for(shared.id());
    shared.send_to_voters(&Body::RequestVote { last_log: shared.log.last_position(), is_transfer });
    Candidate { votes: Votes::default(), election_deadline: shared.random_election_deadline() }
}

// --- timeouts ----------------------------------------------------------------------------------------------------

/// A follower that heard no leader for its election timeout stands, if it is a voter (§3.4), or may be needed as one
/// (§4.2.2), and its disk does not stand still. Any other waits for the next leader.
pub(crate) fn handle_follower_timeout(shared: &mut Shared, follower: &mut Follower) -> Next {
    if shared.may_stand() && !disk_health::is_stalled(shared) {
        Next::PreCandidate { reason: Reason::NoLeader { silence: shared.now.since(follower.waiting_since) } }
    } else {
        follower.election_deadline = shared.random_election_deadline();
        follower.leader = None;
        reads::fail_follower_reads(shared, follower);
        Next::Stay
    }
}

/// A poll or an election without an outcome is held again (§3.4), beginning with a poll. One that waits for the disk has
/// not been held yet: it goes on when the disk does.
pub(crate) fn handle_candidate_timeout(shared: &mut Shared, election_deadline: &mut Instant) -> Next {
    if disk_health::is_stalled(shared) {
        *election_deadline = shared.random_election_deadline();
        return Next::Stay;
    }
    Next::PreCandidate { reason: Reason::NoOutcome }
}

// --- asked for a vote --------------------------------------------------------------------------------------------

/// Whether this server is in touch with a leader, so that §4.2.3 lets nobody disturb it.
pub(crate) fn hears_leader(shared: &Shared, role: &Role) -> bool {
    let heard = match role {
        Role::Follower(follower) => follower.leader_heard,
        Role::PreCandidate(_) | Role::Candidate(_) => None,
        Role::Leader(leader) => Some(leader.quorum_heard(shared)),
    };
    heard.is_some_and(|heard| shared.now.since(heard) < shared.config.election_timeout_min)
}

/// Answers a pre-candidate (§9.6). Nothing is promised and nothing changes: many may get a yes.
///
/// Whether it is a voter here does not matter (§4.1): it counts by its own configuration, which may be later than ours.
/// One that this configuration has left out is told so where it would have been refused anyway.
pub(crate) fn handle_pre_vote(
    shared: &mut Shared,
    role: &Role,
    (from, disk): (NodeId, DiskId),
    term: Term,
    poll: Poll,
    last_log: LogPosition,
) {
    let verdict = if hears_leader(shared, role) {
        let is_left_out = shared.membership.has_left_out(from, disk, shared.commit_index());
        Verdict::Refused(if is_left_out { Refusal::NotAMember } else { Refusal::HearsLeader })
    } else if term < shared.current_term() {
        // The term it would stand in is not beyond ours. Our reply tells it our term, so that it can catch up.
        Verdict::Refused(Refusal::StaleTerm)
    } else {
        verdict_on_log(shared, last_log)
    };
    shared.send(from, Body::PreVoteReply { poll, verdict });
}

/// Answers a candidate of our term (§3.4, §3.6.1). The vote, once granted, is sent after it is durable.
pub(crate) fn handle_request_vote(shared: &mut Shared, role: &mut Role, from: NodeId, last_log: LogPosition) {
    let verdict = if let Some(chosen) = shared.voted_for().filter(|&chosen| chosen != from) {
        // §3.4: one vote a term, first come, first served.
        Verdict::Refused(Refusal::VotedFor(chosen))
    } else if hears_leader(shared, role) {
        // The term has a leader already; a vote would be harmless but of no use.
        Verdict::Refused(Refusal::HearsLeader)
    } else {
        verdict_on_log(shared, last_log)
    };
    if verdict == Verdict::Granted {
        shared.vote_for(from);
        match role {
            // §3.4: granting a vote puts off our own candidacy.
            Role::Follower(follower) => follower.election_deadline = shared.random_election_deadline(),
            Role::PreCandidate(pre_candidate) => {
                pre_candidate.election_deadline = shared.random_election_deadline();
            }
            // Both have voted for themselves, so they grant no other in their term.
            Role::Candidate(_) | Role::Leader(_) => {}
        }
    }
    shared.send(from, Body::RequestVoteReply { verdict });
}

/// Refuses a candidate without touching our own term: it is behind us, or we hear a leader (§4.2.3).
pub(crate) fn refuse_vote(shared: &mut Shared, from: NodeId, refusal: Refusal) {
    shared.send(from, Body::RequestVoteReply { verdict: Verdict::Refused(refusal) });
}

/// §3.6.1: never for a log less up to date than ours.
fn verdict_on_log(shared: &Shared, last_log: LogPosition) -> Verdict {
    if last_log < shared.vote_floor() {
        Verdict::Refused(Refusal::LogBehind { ours: shared.vote_floor() })
    } else {
        Verdict::Granted
    }
}

// --- answered ----------------------------------------------------------------------------------------------------

/// Counts an answer to our poll. An answer to an earlier one counts nothing.
pub(crate) fn handle_pre_vote_reply(
    shared: &mut Shared,
    pre_candidate: &mut PreCandidate,
    from: NodeId,
    poll: Poll,
    verdict: Verdict,
) -> Next {
    if poll != pre_candidate.poll {
        return Next::Stay;
    }
    shared.is_told_removed |= verdict == Verdict::Refused(Refusal::NotAMember);
    pre_candidate.votes.record(from, verdict == Verdict::Granted);
    after_pre_vote(shared, &pre_candidate.votes)
}

fn after_pre_vote(shared: &Shared, votes: &Votes) -> Next {
    match votes.tally(shared.membership.current()) {
        Tally::Won => Next::Candidate { reason: Reason::PollWon },
        Tally::Lost => Next::Follower { leader: None, reason: Reason::VotesRefused },
        Tally::Open => Next::Stay,
    }
}

/// Counts an answer to our candidacy in this term.
pub(crate) fn handle_request_vote_reply(
    shared: &Shared,
    candidate: &mut Candidate,
    from: NodeId,
    verdict: Verdict,
) -> Next {
    candidate.votes.record(from, verdict == Verdict::Granted);
    after_vote(shared, candidate)
}

/// Counts our own vote, now that it is on disk (rule 1).
pub(crate) fn handle_own_vote_durable(shared: &Shared, candidate: &mut Candidate) -> Next {
    if candidate.votes.has_granted(shared.id()) || !shared.durability.is_hard_state_durable() {
        return Next::Stay;
    }
    candidate.votes.record(shared.id(), true);
    after_vote(shared, candidate)
}

fn after_vote(shared: &Shared, candidate: &Candidate) -> Next {
    match candidate.votes.tally(shared.membership.current()) {
        // Nobody was asked before our own vote was durable. Votes that come earlier were not asked for, and a leader
        // whose term is not on disk could lead it twice.
        Tally::Won if !candidate.votes.has_granted(shared.id()) => Next::Stay,
        Tally::Won => Next::Leader,
        Tally::Lost => Next::Follower { leader: None, reason: Reason::VotesRefused },
        Tally::Open => Next::Stay,
    }
}
