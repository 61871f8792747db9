//! What a server keeps in every role (Figure 3.1, "persistent" and "volatile state on all servers"), and the only
//! places that change it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::config::{Config, Restored};
use crate::durability::Durability;
use crate::effect::{Effect, Misbehaviour};
use crate::log::Log;
use crate::membership::Membership;
use crate::message::{Body, Message, Poll};
use crate::random::Random;
use crate::types::{
    ClusterTime, DiskId, Entry, HardState, Incarnation, Instant, LogIndex, LogPosition, NodeId, Snapshot, Term,
};

/// Of how many peers that are no members the incarnation is remembered. They may speak (§4.1), and who they are is
/// proved to the driver, but their number must not grow here.
const MAX_STRANGERS: usize = 64;

/// State that outlives a change of role.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    /// The time of this step; never goes backwards.
    pub(crate) now: Instant,
    hard_state: HardState,
    pub(crate) log: Log,
    pub(crate) membership: Membership,
    /// The latest snapshot on disk. It covers at least what the log has forgotten.
    snapshot: Option<Snapshot>,
    commit_index: LogIndex,
    /// How many bytes the entries after it count for ([`Entry::size_bytes`]).
    uncommitted_bytes: usize,
    /// Up to here the log is known to agree with that of the current term's leader: nothing beyond may be committed on
    /// a leader's word (Figure 3.1, "index of last new entry"). It belongs to the term, not to the role: a follower
    /// that stood in between is sent nothing again that it has acknowledged.
    agreed_index: LogIndex,
    pub(crate) durability: Durability,
    /// The disk each peer speaks from and its latest incarnation: those count per disk.
    incarnations: BTreeMap<NodeId, (DiskId, Incarnation)>,
    /// A server that hears a leader has told this one that it belongs to the cluster no more; no leader has been heard
    /// since.
    pub(crate) is_told_removed: bool,
    random: Random,
    /// The last poll this server held as a pre-candidate.
    pub(crate) last_poll: Poll,
    effects: Vec<Effect>,
}

/// What the incarnation in a message says about its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    Current,
    /// The sender has restarted since it was last heard.
    Restarted,
    /// The message is from before the sender's last restart.
    Stale,
}

impl Shared {
    pub(crate) fn new(config: Config, restored: Restored, now: Instant) -> Self {
        let Restored { hard_state, initial, snapshot, base, entries } = restored;
        let mut membership = Membership::new(initial);
        if let Some(snapshot) = &snapshot {
            membership.restart_after(snapshot);
        }
        let covered = snapshot.as_ref().map_or(LogPosition::ORIGIN, |snapshot| snapshot.last);
        for entry in entries.iter().filter(|entry| entry.position.index > covered.index) {
            membership.append(entry);
        }
        // A log that holds entries has their stamps; one that holds none begins where the snapshot ends.
        let base_stamp = snapshot.as_ref().map_or(ClusterTime::default(), |snapshot| snapshot.stamp);
        let log = Log::restore(base, base_stamp, entries);
        let uncommitted_bytes = log.size_bytes_after(covered.index);
        Self {
            now,
            hard_state,
            durability: Durability::new(log.last_index()),
            log,
            membership,
            snapshot,
            commit_index: covered.index,
            uncommitted_bytes,
            agreed_index: LogIndex(0),
            incarnations: BTreeMap::new(),
            is_told_removed: false,
            random: Random::new(config.seed),
            last_poll: Poll::default(),
            effects: Vec::new(),
            config,
        }
    }

    pub(crate) const fn id(&self) -> NodeId {
        self.config.id
    }

    pub(crate) const fn current_term(&self) -> Term {
        self.hard_state.term
    }

    pub(crate) const fn voted_for(&self) -> Option<NodeId> {
        self.hard_state.voted_for
    }

    pub(crate) const fn commit_index(&self) -> LogIndex {
        self.commit_index
    }

    /// How many bytes of the log are not known to be committed.
    pub(crate) const fn uncommitted_bytes(&self) -> usize {
        self.uncommitted_bytes
    }

    pub(crate) const fn agreed_index(&self) -> LogIndex {
        self.agreed_index
    }

    /// The other members.
    pub(crate) fn peers(&self) -> impl Iterator<Item = NodeId> + Clone {
        let own = self.id();
        self.membership.current().members().map(|(id, _)| id).filter(move |&id| id != own)
    }

    /// Whether this server votes, in either half.
    pub(crate) fn is_voter(&self) -> bool {
        let current = self.membership.current();
        current.has(self.id(), self.config.disk) && current.is_voter(self.id())
    }

    pub(crate) fn may_stand(&self) -> bool {
        self.membership.may_stand(self.id(), self.config.disk, self.commit_index)
    }

    /// A moment in [T, 2T] from now (§3.4).
    pub(crate) fn random_election_deadline(&mut self) -> Instant {
        let (min, max) = (self.config.election_timeout_min, self.config.election_timeout_max);
        self.now.after(self.random.duration_between(min, max))
    }

    // --- term and vote -------------------------------------------------------------------------------------------

    /// Enters a later term, without a vote. The only place where `current_term` changes.
    ///
    /// # Panics
    /// If the term is not later.
    pub(crate) fn advance_term(&mut self, term: Term) {
        assert!(term > self.hard_state.term, "terms only rise: {term} after {}", self.hard_state.term);
        self.hard_state = HardState { term, voted_for: None };
        self.agreed_index = LogIndex(0);
        self.durability.forget_waiting();
        self.durability.write_hard_state(self.hard_state);
    }

    /// Gives this term's vote to `candidate`. Giving it again is the same promise, already made.
    ///
    /// # Panics
    /// If it was given to another.
    pub(crate) fn vote_for(&mut self, candidate: NodeId) {
        match self.hard_state.voted_for {
            Some(chosen) => assert_eq!(chosen, candidate, "one vote a term (§3.4)"),
            None => {
                self.hard_state.voted_for = Some(candidate);
                self.durability.write_hard_state(self.hard_state);
            }
        }
    }

    // --- log -----------------------------------------------------------------------------------------------------

    pub(crate) fn append(&mut self, entry: Entry) {
        assert!(entry.position.term <= self.current_term(), "an entry of a term to come: {entry}");
        let has_changed = self.membership.append(&entry);
        self.uncommitted_bytes += entry.size_bytes();
        self.durability.write_entry(entry.clone());
        self.log.append(entry);
        if has_changed {
            self.tell_configuration();
        }
    }

    /// Removes a conflicting suffix. The only code that deletes log entries.
    ///
    /// # Panics
    /// If that would remove a committed entry (§3.6.3: it never can).
    pub(crate) fn truncate_from(&mut self, from: LogIndex) {
        assert!(from > self.commit_index, "truncation at {from} would remove what {} commits", self.commit_index);
        assert!(from > self.agreed_index, "truncation at {from} would remove what the leader is known to have");
        self.uncommitted_bytes -= self.log.size_bytes_after(from.previous());
        self.log.truncate_from(from);
        let has_changed = self.membership.truncate_from(from);
        self.durability.write_truncation(from);
        if has_changed {
            self.tell_configuration();
        }
    }

    fn tell_configuration(&mut self) {
        let (index, configuration) = (self.membership.index(), self.membership.current().clone());
        self.effects.push(Effect::ConfigurationChanged { index, configuration });
    }

    // --- snapshots -----------------------------------------------------------------------------------------------

    pub(crate) const fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// Remembers a snapshot that is on disk, if it is the latest.
    ///
    /// Returns whether it is.
    pub(crate) fn note_snapshot(&mut self, snapshot: Snapshot) -> bool {
        let is_latest = self.snapshot.as_ref().is_none_or(|known| known.last.index < snapshot.last.index);
        if is_latest {
            self.snapshot = Some(snapshot);
        }
        is_latest
    }

    /// Forgets the beginning of the log, which a snapshot covers.
    ///
    /// # Panics
    /// If none does.
    pub(crate) fn compact(&mut self, through: LogIndex) {
        let covered = self.snapshot.as_ref().map_or(LogIndex(0), |snapshot| snapshot.last.index);
        assert!(through <= covered, "compaction through {through}; the snapshot covers {covered}");
        self.log.compact(through);
        self.membership.compact(through);
    }

    /// Replaces the log by a snapshot of what is committed. With [`Shared::truncate_from`], the only code that deletes
    /// entries that are not committed here: they are not what a majority committed in their place.
    ///
    /// # Panics
    /// If it covers no more than what is committed here.
    pub(crate) fn install(&mut self, snapshot: Snapshot) {
        let last = snapshot.last;
        assert!(last.index > self.commit_index, "a snapshot at {last} over committed {}", self.commit_index);
        self.log.restart_after(last, snapshot.stamp);
        let before = (self.membership.index(), self.membership.current().clone());
        self.membership.restart_after(&snapshot);
        self.durability.write_restart(last);
        self.commit_index = last.index;
        self.uncommitted_bytes = 0;
        self.snapshot = Some(snapshot);
        if (before.0, &before.1) != (self.membership.index(), self.membership.current()) {
            self.tell_configuration();
        }
    }

    /// Moves the commit index forward; never back.
    pub(crate) fn advance_commit(&mut self, index: LogIndex) {
        assert!(index <= self.log.last_index(), "commit {index} past the log's end");
        if index > self.commit_index {
            let committed = self.log.range(self.commit_index.next(), index);
            self.uncommitted_bytes -= committed.map(Entry::size_bytes).sum::<usize>();
            self.commit_index = index;
            self.effects.push(Effect::Committed { index });
        }
    }

    /// The log agrees with the leader's up to `index`. Moves forward within a term.
    ///
    /// # Panics
    /// If the log does not reach that far.
    pub(crate) fn advance_agreed(&mut self, index: LogIndex) {
        assert!(index <= self.log.last_index(), "agreed {index} past the log's end");
        self.agreed_index = self.agreed_index.max(index);
    }

    /// The position a candidate must have reached to get this server's vote (§3.6.1).
    pub(crate) fn vote_floor(&self) -> LogPosition {
        self.log.last_position()
    }

    // --- peers ---------------------------------------------------------------------------------------------------

    /// Notes the incarnation of a message's sender (rule 3). A server that speaks under a member's id from another disk
    /// does not void what the member said.
    pub(crate) fn note_incarnation(&mut self, peer: NodeId, disk: DiskId, incarnation: Incarnation) -> Freshness {
        let current = self.membership.current();
        let freshness = match self.incarnations.get(&peer) {
            None => Freshness::Current,
            Some((known, _)) if *known != disk => {
                if current.has(peer, *known) {
                    return Freshness::Current;
                }
                Freshness::Restarted
            }
            Some((_, known)) => match incarnation.cmp(known) {
                core::cmp::Ordering::Less => return Freshness::Stale,
                core::cmp::Ordering::Equal => Freshness::Current,
                core::cmp::Ordering::Greater => Freshness::Restarted,
            },
        };
        if self.incarnations.contains_key(&peer)
            || current.has(peer, disk)
            || self.incarnations.len() < MAX_STRANGERS + current.members().count()
        {
            self.incarnations.insert(peer, (disk, incarnation));
        }
        if freshness == Freshness::Restarted {
            self.durability.forget_waiting_for(peer);
        }
        freshness
    }

    // --- effects -------------------------------------------------------------------------------------------------

    pub(crate) fn emit(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(crate) fn report(&mut self, peer: NodeId, what: Misbehaviour) {
        self.effects.push(Effect::Misbehaved { peer, what });
    }

    /// Sends in the current term: now, or once the disk holds what the message promises (rule 1).
    pub(crate) fn send(&mut self, to: NodeId, body: Body) {
        let message = Message { term: self.current_term(), body };
        if let Some(message) = self.durability.release_or_hold(to, message) {
            self.effects.push(Effect::Send { to, message });
        }
    }

    /// Asks the other voters, of both halves.
    pub(crate) fn send_to_voters(&mut self, body: &Body) {
        let own = self.id();
        let voters: Vec<NodeId> = self.membership.current().voters().filter(|&voter| voter != own).collect();
        for voter in voters {
            self.send(voter, body.clone());
        }
    }

    /// Sends what waited for a write that is confirmed now.
    pub(crate) fn send_released(&mut self) {
        for (to, message) in self.durability.take_released() {
            self.effects.push(Effect::Send { to, message });
        }
    }

    /// Ends the step: hands over its one write and its effects.
    pub(crate) fn finish_step(&mut self, effects: &mut Vec<Effect>) {
        if let Some(write) = self.durability.take_write(self.log.last_index(), self.now) {
            self.effects.push(Effect::Write(write));
        }
        effects.append(&mut self.effects);
    }
}
