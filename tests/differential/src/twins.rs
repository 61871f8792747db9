//! The same cluster twice: what happens to one happens to the other, and then they are compared.
//!
//! They are meant to differ in what follows, and in nothing else:
//!
//! | what | ours | the crate `raft` | so that they can be compared |
//! |---|---|---|---|
//! | when followers learn what is committed | with the leader's next message (ADR 0005) | at once | a follower's commit index may be behind theirs until the leader's next heartbeats |
//! | a poll from one term below | refused: the term is stale; the candidate catches up first (§9.6) | granted, if the voter has not voted in its term | the candidate is told the term, in both |
//! | a poll refused by a voter of an earlier term | counts as refused: answers are told by the poll's number | is dropped for its term | it is delivered with the candidate's term |
//! | a leader of an earlier term that makes itself heard | asks those it has not heard of for their logs with the same heartbeats | once they have answered | it is told the later term first, in both |
//! | a leader without a majority | steps down when it ticks (§6.2), always | the same with `check_quorum`, which reads a clock of ticks | it is off; a leader without a majority is not ticked |
//! | who hears a leader | grants no vote within the shortest election timeout (§4.2.3), always | the same with `check_quorum` | whoever stands does so after a second of silence |
//! | the commit index on disk | none: it is volatile (Figure 3.1) | part of its hard state | it is persisted as 0 |
//! | proposals to a follower | refused; forwarding is the driver's | forwarded | only leaders are asked |
//! | the order in which a leader or candidate turns to the others | by id | by a hash | by id, in both |
//! | a restarted follower | its leader asks it anew as soon as it hears it (rule 3) | its leader does not notice | it is asked anew, in both |
//! | a follower whose link broke | asked again with the next heartbeat | sent entries with the next proposal | its progress is paused, as after any probe |

use crate::network::Network;
use crate::ours::Ours;
use crate::script::{Difference, Event, Tally};
use crate::theirs::Theirs;
use crate::view::{Role, View};

/// Both clusters, and the links that both have.
pub(crate) struct Twins {
    count: u64,
    ours: Ours,
    theirs: Theirs,
    network: Network,
    /// What ours was after the last event, by place.
    views: Vec<View>,
    /// The leader of the latest term so far, and that term.
    newest_leader: Option<(u64, u64)>,
    tally: Tally,
}

impl Twins {
    pub(crate) fn new(count: u64) -> Self {
        let ours = Ours::new(count);
        let views = (1..=count).map(|id| ours.view(id)).collect();
        Self {
            count,
            ours,
            theirs: Theirs::new(count),
            network: Network::default(),
            views,
            newest_leader: None,
            tally: Tally::default(),
        }
    }

    pub(crate) const fn tally(&self) -> Tally {
        self.tally
    }

    /// A server, as it was after the last event.
    pub(crate) fn view(&self, id: u64) -> &View {
        usize::try_from(id - 1)
            .ok()
            .and_then(|place| self.views.get(place))
            .expect("the scripts name servers that are there")
    }

    fn ids(&self) -> impl Iterator<Item = u64> + use<> {
        1..=self.count
    }

    fn leads(&self, id: u64) -> bool {
        self.view(id).role == Role::Leader
    }

    fn reaches_majority(&self, id: u64) -> bool {
        let reached = self.ids().filter(|&other| self.network.is_whole(id, other)).count() as u64;
        reached > self.count / 2
    }

    /// Lets it happen to both, and compares.
    pub(crate) fn apply(&mut self, event: &Event) -> Result<(), Difference> {
        let mut has_beaten = None;
        match event {
            Event::Campaign(id) if !self.leads(*id) => self.campaign(*id),
            Event::Propose(id, command) if self.leads(*id) => {
                self.ours.propose(*id, command, &self.network);
                self.theirs.propose(*id, command, &self.network);
            }
            Event::Beat(id) if self.leads(*id) => {
                self.beat(*id);
                has_beaten = Some(*id);
            }
            Event::Transfer(from, to)
                if from != to && self.reaches_majority(*from) && self.network.is_whole(*from, *to) =>
            {
                self.beat(*from);
                self.compare(event, Some(*from))?;
                // A leader that found a later term in doing so leads no more.
                if self.leads(*from) {
                    self.ours.transfer(*from, *to, &self.network);
                    self.theirs.transfer(*from, *to, &self.network);
                }
            }
            Event::Restart(id) => {
                self.ours.restart(*id);
                self.theirs.restart(*id);
            }
            Event::Cut(one, other) if one != other => self.network.cut(*one, *other),
            Event::Part(side) => {
                for one in self.ids().filter(|id| side.contains(id)) {
                    for other in self.ids().filter(|id| !side.contains(id)) {
                        self.network.cut(one, other);
                    }
                }
            }
            Event::Heal => self.network.heal(),
            Event::Campaign(_) | Event::Propose(..) | Event::Beat(_) | Event::Transfer(..) | Event::Cut(..) => {}
        }
        self.tally.events += 1;
        self.compare(event, has_beaten)?;
        self.meet_restarted(event)
    }

    /// Leaders hear of the servers that have restarted, as soon as there is a link.
    fn meet_restarted(&mut self, event: &Event) -> Result<(), Difference> {
        for leader in self.ids() {
            for restarted in self.ids().filter(|&id| id != leader) {
                let is_whole = self.network.is_whole(restarted, leader);
                if self.leads(leader) && is_whole && self.ours.is_strange(restarted, leader) {
                    self.ours.meet(leader, restarted, &self.network);
                    self.theirs.meet(leader, restarted, &self.network);
                    // What this committed, theirs has told everybody already.
                    self.beat(leader);
                    self.compare(event, None)?;
                }
            }
        }
        Ok(())
    }

    fn campaign(&mut self, id: u64) {
        let term = self.view(id).term;
        match self.find_linked(id, |voter| voter.term == term + 1 && voter.voted_for.is_none()) {
            Some(voter) => self.tell_term(id, voter),
            None => {
                self.ours.campaign(id, &self.network);
                self.theirs.campaign(id, &self.network);
            }
        }
    }

    /// Lets a leader that reaches a majority make itself heard.
    fn beat(&mut self, leader: u64) {
        let term = self.view(leader).term;
        if !self.reaches_majority(leader) {
            return;
        }
        match self.find_linked(leader, |other| other.term > term) {
            Some(other) => self.tell_term(leader, other),
            None => {
                self.ours.beat(leader, &self.network);
                self.theirs.beat(leader, &self.network);
            }
        }
    }

    /// A server that `id` has a link to.
    fn find_linked(&self, id: u64, is_wanted: impl Fn(&View) -> bool) -> Option<u64> {
        self.ids().find(|&other| self.network.is_whole(id, other) && is_wanted(self.view(other)))
    }

    fn tell_term(&mut self, id: u64, other: u64) {
        self.tally.terms_told += 1;
        self.ours.tell_term(id, other, &self.network);
        self.theirs.tell_term(id, other, &self.network);
    }

    /// Compares every server. `has_beaten` is a leader whose followers must have heard by now what is committed.
    fn compare(&mut self, event: &Event, has_beaten: Option<u64>) -> Result<(), Difference> {
        let before = std::mem::take(&mut self.views);
        self.views = self.ids().map(|id| self.ours.view(id)).collect();
        let beaten = has_beaten.filter(|&leader| self.leads(leader) && self.reaches_majority(leader));
        for id in self.ids() {
            let (ours, mut theirs) = (self.view(id), self.theirs.view(id));
            let knows_commit =
                ours.role == Role::Leader || beaten.is_some_and(|leader| self.network.is_whole(leader, id));
            if !knows_commit && ours.commit < theirs.commit {
                theirs.commit = ours.commit;
            }
            if *ours != theirs {
                let what = format!("n{id}\n  ours   {ours:?}\n  theirs {theirs:?}");
                return Err(Difference { event: event.clone(), what });
            }
        }
        self.count_what_happened(&before);
        Ok(())
    }

    fn count_what_happened(&mut self, before: &[View]) {
        let truncated = before.iter().zip(&self.views).filter(|(before, now)| !now.log.starts_with(&before.log));
        self.tally.truncations += truncated.count() as u64;
        let leaders = self.ids().filter(|&id| self.leads(id));
        let newest = leaders.map(|id| (self.view(id).term, id)).max();
        if newest > self.newest_leader {
            if self.newest_leader.is_some_and(|(_, old)| newest.is_some_and(|(_, new)| new != old)) {
                self.tally.leader_changes += 1;
            }
            self.newest_leader = newest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_to_one_alone_is_found() {
        let mut twins = Twins::new(3);
        twins.ours.campaign(1, &twins.network);
        let difference = twins.compare(&Event::Campaign(1), None).expect_err("only ours has a leader");
        assert!(difference.what.starts_with("n1"), "{difference:?}");
    }
}
