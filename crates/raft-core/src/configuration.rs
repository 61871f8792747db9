//! Who belongs to the cluster, as a value (§4.1, §4.3): voters, learners, and both halves of C_old,new while one
//! configuration gives way to another.
//!
//! Owns what a configuration may look like, and what it becomes by a change. Does not own which one is in effect
//! (`membership`) or when the leader may change it (`change`).
//!
//! Each member has one [`Standing`], so what must not be cannot be said: nobody is a learner and a voter, and no id
//! stands for two disks at one time. A server that gets a new disk votes as the old one until C_old is over, and is a
//! learner from then on.

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::fmt;

use crate::member_change::{ChangeRefusal, MemberChange};
use crate::types::{DiskId, NodeId};

/// The most voters a change may lead to: beyond nine, each write waits for more disks and nothing is won.
pub const MAX_VOTERS: usize = 9;

/// The most learners a change may lead to, those not counted that shall become voters.
pub const MAX_LEARNERS: usize = 9;

/// The longest address of a member, in bytes: the longest DNS name, a colon, a port.
pub const MAX_ADDRESS_BYTES: usize = 253 + 6;

/// What a configuration says of one member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// Its disk. A server with this id and another disk is not this member (rule 2).
    pub disk: DiskId,
    /// Where its peers reach it, `HOST:PORT`; opaque to the protocol.
    pub address: String,
}

/// A member that gets all entries and counts nowhere (§4.2.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Learner {
    /// The member.
    pub member: Member,
    /// The leader makes it a voter by itself once it has caught up; else it stays until it is promoted.
    pub becomes_voter: bool,
}

/// What a member is in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It votes, in both halves of a joint configuration.
    Voter,
    /// It votes in C_new; the configuration is joint.
    Incoming,
    /// It votes in C_old; the configuration is joint.
    Outgoing {
        /// What this id is in C_new; `None` if it leaves. The disk may be another one.
        then: Option<Learner>,
    },
    /// It does not vote.
    Learner {
        /// As [`Learner::becomes_voter`].
        becomes_voter: bool,
    },
}

/// One of the two configurations that a joint one is made of (§4.3). Of any other both halves are the same, so whoever
/// asks both needs no exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Half {
    /// C_old.
    Old,
    /// C_new.
    New,
}

impl Half {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Old, Self::New];
}

impl Standing {
    /// Whether a member that stands like this votes in `half`.
    #[must_use]
    pub const fn votes_in(&self, half: Half) -> bool {
        match self {
            Self::Voter => true,
            Self::Incoming => matches!(half, Half::New),
            Self::Outgoing { .. } => matches!(half, Half::Old),
            Self::Learner { .. } => false,
        }
    }

    const fn votes(&self) -> bool {
        self.votes_in(Half::Old) || self.votes_in(Half::New)
    }
}

/// The members of the cluster (§4.1). Either it has a voter in both halves, or it is the empty one of a server that has
/// not been told of any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Configuration {
    /// By id, so that the order is the same everywhere.
    members: BTreeMap<NodeId, (Member, Standing)>,
}

/// Nobody votes in one half of what was to be a configuration: it could never decide anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NobodyVotes;

impl fmt::Display for NobodyVotes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a configuration in which nobody votes")
    }
}

impl core::error::Error for NobodyVotes {}

impl Configuration {
    /// The configuration of these members and their standings.
    ///
    /// # Errors
    /// [`NobodyVotes`] in one half, as in that of no members.
    pub fn new(members: BTreeMap<NodeId, (Member, Standing)>) -> Result<Self, NobodyVotes> {
        let configuration = Self { members };
        let decides = |half| configuration.voters_in(half).next().is_some();
        if Half::BOTH.into_iter().all(decides) { Ok(configuration) } else { Err(NobodyVotes) }
    }

    /// The configuration in which each of these votes, as when a cluster is formed; of none, the empty one.
    #[must_use]
    pub fn of_voters(members: impl IntoIterator<Item = (NodeId, Member)>) -> Self {
        Self { members: members.into_iter().map(|(id, member)| (id, (member, Standing::Voter))).collect() }
    }

    // --- what it says --------------------------------------------------------------------------------------------

    /// Whether it names nobody: the server has not been told of its cluster.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether it is C_old,new: two configurations, of which both must agree.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        self.members.values().any(|(_, standing)| matches!(standing, Standing::Incoming | Standing::Outgoing { .. }))
    }

    /// All members, by id: voters of either half, and learners.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, &Member)> + Clone {
        self.members.iter().map(|(&id, (member, _))| (id, member))
    }

    /// All members with their standing, by id.
    pub fn standings(&self) -> impl Iterator<Item = (NodeId, &Member, &Standing)> + Clone {
        self.members.iter().map(|(&id, (member, standing))| (id, member, standing))
    }

    /// The member `id`; while the configuration is joint, as the half says in which it votes.
    #[must_use]
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members.get(&id).map(|(member, _)| member)
    }

    /// What `id` is.
    #[must_use]
    pub fn standing(&self, id: NodeId) -> Option<&Standing> {
        self.members.get(&id).map(|(_, standing)| standing)
    }

    /// Whether `id` with `disk` is a member.
    #[must_use]
    pub fn has(&self, id: NodeId, disk: DiskId) -> bool {
        self.member(id).is_some_and(|member| member.disk == disk)
    }

    /// Whether `id` votes, in either half.
    #[must_use]
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.standing(id).is_some_and(Standing::votes)
    }

    /// Who votes, in either half, by id.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> + Clone {
        self.standings().filter(|(_, _, standing)| standing.votes()).map(|(id, ..)| id)
    }

    /// Who votes in `half`, by id.
    pub fn voters_in(&self, half: Half) -> impl Iterator<Item = NodeId> + Clone {
        self.standings().filter(move |(_, _, standing)| standing.votes_in(half)).map(|(id, ..)| id)
    }

    /// Who gets entries and does not vote, by id.
    pub fn learners(&self) -> impl Iterator<Item = NodeId> + Clone {
        self.standings().filter(|(_, _, standing)| !standing.votes()).map(|(id, ..)| id)
    }

    // --- what it becomes -----------------------------------------------------------------------------------------

    /// C_new of a joint configuration; any other as it is.
    pub(crate) fn settled(&self) -> Self {
        let settle = |(&id, (member, standing)): (&NodeId, &(Member, Standing))| match standing {
            Standing::Voter | Standing::Incoming => Some((id, (member.clone(), Standing::Voter))),
            Standing::Outgoing { then } => {
                let Learner { member, becomes_voter } = then.clone()?;
                Some((id, (member, Standing::Learner { becomes_voter })))
            }
            Standing::Learner { .. } => Some((id, (member.clone(), standing.clone()))),
        };
        Self { members: self.members.iter().filter_map(settle).collect() }
    }

    /// What `changes`, one after the other, make of this configuration: itself if they change nothing, C_old,new if the
    /// voters change, else the new one at once.
    ///
    /// Learners alone need no joint step: they are in no majority, so any two majorities, before and after, are of the
    /// same voters and share one (§4.2.1).
    ///
    /// # Errors
    /// Why the outcome is refused.
    ///
    /// # Panics
    /// If this configuration is joint.
    pub(crate) fn changed_by(&self, changes: &[MemberChange]) -> Result<Self, ChangeRefusal> {
        assert!(!self.is_joint(), "one change at a time: {self}");
        let mut wanted = self.clone();
        for change in changes {
            wanted.apply(self, change)?;
        }
        wanted.check_limits(self)?;
        Ok(self.towards(wanted))
    }

    /// Takes one change into what is wanted in the end. `current` is what is.
    fn apply(&mut self, current: &Self, change: &MemberChange) -> Result<(), ChangeRefusal> {
        if let MemberChange::AddLearner { id, member, .. } | MemberChange::Replace { id, member } = change
            && member.address.len() > MAX_ADDRESS_BYTES
        {
            return Err(ChangeRefusal::AddressTooLong { id: *id });
        }
        let unknown = |id: &NodeId| ChangeRefusal::UnknownMember { id: *id };
        match change {
            MemberChange::AddLearner { id, member, becomes_voter } => match self.members.get_mut(id) {
                None => {
                    let standing = Standing::Learner { becomes_voter: *becomes_voter };
                    self.members.insert(*id, (member.clone(), standing));
                }
                Some((known, _)) if known.disk != member.disk => {
                    return Err(ChangeRefusal::IdInUse { id: *id, disk: known.disk });
                }
                Some((known, standing)) => {
                    // Where it is reached may change; that makes nobody a voter, and no voter a learner.
                    known.address.clone_from(&member.address);
                    if let Standing::Learner { becomes_voter: wants } = standing {
                        *wants |= *becomes_voter;
                    }
                }
            },
            MemberChange::Promote { id } => {
                let (member, standing) = self.members.get_mut(id).ok_or_else(|| unknown(id))?;
                if !current.has(*id, member.disk) {
                    return Err(ChangeRefusal::NotYetALearner { id: *id });
                }
                *standing = Standing::Voter;
            }
            MemberChange::Demote { id } => {
                let (_, standing) = self.members.get_mut(id).ok_or_else(|| unknown(id))?;
                *standing = Standing::Learner { becomes_voter: false };
            }
            MemberChange::Remove { id } => {
                self.members.remove(id);
            }
            MemberChange::Replace { id, member } => {
                let (known, standing) = self.members.get_mut(id).ok_or_else(|| unknown(id))?;
                if known.disk != member.disk && standing.votes() {
                    *standing = Standing::Learner { becomes_voter: true };
                }
                *known = member.clone();
            }
        }
        Ok(())
    }

    /// Refuses an outcome that nobody could decide in, or that is larger than allowed. A cluster that was formed with
    /// more voters keeps them.
    fn check_limits(&self, before: &Self) -> Result<(), ChangeRefusal> {
        let to_be = |configuration: &Self| {
            let counts = |standing: &Standing| !matches!(standing, Standing::Learner { becomes_voter: false });
            configuration.standings().filter(|(_, _, standing)| counts(standing)).count()
        };
        if self.voters().next().is_none() {
            Err(ChangeRefusal::NoVoterLeft)
        } else if to_be(self) > MAX_VOTERS && to_be(self) > to_be(before) {
            Err(ChangeRefusal::TooManyVoters)
        } else if self.members.len() - to_be(self) > MAX_LEARNERS {
            Err(ChangeRefusal::TooManyLearners)
        } else {
            Ok(())
        }
    }

    /// The configuration that leads from this one to `wanted`: joint if their voters differ (§4.3).
    fn towards(&self, wanted: Self) -> Self {
        let mut members = BTreeMap::new();
        for (id, (member, standing)) in wanted.members {
            let before = self.members.get(&id).filter(|(_, standing)| standing.votes());
            let next = match (standing, before) {
                (Standing::Learner { becomes_voter }, Some((old, _))) => {
                    (old.clone(), Standing::Outgoing { then: Some(Learner { member, becomes_voter }) })
                }
                (standing @ Standing::Learner { .. }, None) => (member, standing),
                (Standing::Voter | Standing::Incoming | Standing::Outgoing { .. }, Some(_)) => {
                    (member, Standing::Voter)
                }
                (Standing::Voter | Standing::Incoming | Standing::Outgoing { .. }, None) => {
                    (member, Standing::Incoming)
                }
            };
            members.insert(id, next);
        }
        for (&id, (member, standing)) in &self.members {
            if standing.votes() {
                members.entry(id).or_insert_with(|| (member.clone(), Standing::Outgoing { then: None }));
            }
        }
        Self { members }
    }
}

/// `voters 1 2 3 → 2 3 4 learners 5 6+ then 1`: C_old's voters, C_new's if it is joint, the learners (those with a plus
/// become voters by themselves), and which of C_old's voters are learners in C_new.
impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nobody");
        }
        f.write_str("voters")?;
        self.voters_in(Half::Old).try_for_each(|id| write!(f, " {}", id.as_u64()))?;
        if self.is_joint() {
            f.write_str(" →")?;
            self.voters_in(Half::New).try_for_each(|id| write!(f, " {}", id.as_u64()))?;
        }
        let plus = |becomes_voter: bool| if becomes_voter { "+" } else { "" };
        let mut word = " learners";
        for (id, _, standing) in self.standings() {
            if let Standing::Learner { becomes_voter } = standing {
                write!(f, "{word} {}{}", id.as_u64(), plus(*becomes_voter))?;
                word = "";
            }
        }
        let mut word = " then";
        for (id, _, standing) in self.standings() {
            if let Standing::Outgoing { then: Some(learner) } = standing {
                write!(f, "{word} {}{}", id.as_u64(), plus(learner.becomes_voter))?;
                word = "";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn n(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn member(disk: u128) -> Member {
        Member { disk: DiskId(disk), address: String::new() }
    }

    fn change() -> impl Strategy<Value = MemberChange> {
        let (id, disk) = (|| (1_u64..6).prop_map(n), || (1_u128..8).prop_map(member));
        prop_oneof![
            (id(), disk(), any::<bool>()).prop_map(|(id, member, becomes_voter)| MemberChange::AddLearner {
                id,
                member,
                becomes_voter
            }),
            id().prop_map(|id| MemberChange::Promote { id }),
            id().prop_map(|id| MemberChange::Demote { id }),
            id().prop_map(|id| MemberChange::Remove { id }),
            (id(), disk()).prop_map(|(id, member)| MemberChange::Replace { id, member }),
        ]
    }

    /// A settled configuration of up to five members.
    fn settled() -> impl Strategy<Value = Configuration> {
        let standing = prop_oneof![
            2 => Just(Standing::Voter),
            1 => any::<bool>().prop_map(|becomes_voter| Standing::Learner { becomes_voter })
        ];
        prop::collection::btree_map(1_u64..6, standing, 1..5).prop_filter_map("nobody votes", |standings| {
            let members = standings.into_iter().map(|(id, standing)| (n(id), (member(id.into()), standing)));
            Configuration::new(members.collect()).ok()
        })
    }

    /// The naive twin: who votes and who learns in the end, with which disk; `None` if a change is refused.
    fn outcome(before: &Configuration, changes: &[MemberChange]) -> Option<BTreeMap<NodeId, (DiskId, bool)>> {
        let start: BTreeMap<_, _> =
            before.members().map(|(id, member)| (id, (member.disk, before.is_voter(id)))).collect();
        let mut now = start.clone();
        for change in changes {
            match change {
                MemberChange::AddLearner { id, member, .. } => {
                    let (disk, _) = *now.entry(*id).or_insert((member.disk, false));
                    (disk == member.disk).then_some(())?;
                }
                MemberChange::Promote { id } => {
                    let (disk, votes) = now.get_mut(id)?;
                    *votes = start.get(id).is_some_and(|(known, _)| known == disk).then_some(true)?;
                }
                MemberChange::Demote { id } => now.get_mut(id)?.1 = false,
                MemberChange::Remove { id } => {
                    now.remove(id);
                }
                MemberChange::Replace { id, member } => {
                    let (disk, votes) = now.get_mut(id)?;
                    *votes &= *disk == member.disk;
                    *disk = member.disk;
                }
            }
        }
        now.values().any(|(_, votes)| *votes).then_some(now)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_change_ends_where_its_wishes_lead(before in settled(), changes in prop::collection::vec(change(), 0..5)) {
            let after = before.changed_by(&changes);
            let Some(expected) = outcome(&before, &changes) else {
                prop_assert!(after.is_err());
                return Ok(());
            };
            let after = after.unwrap();
            let end = after.settled();
            let found: BTreeMap<_, _> =
                end.members().map(|(id, member)| (id, (member.disk, end.is_voter(id)))).collect();
            prop_assert_eq!(found, expected, "{} to {}", before, after);
            // C_old is what was, with the disks that voted; without a joint step the voters are the same.
            let voters = |configuration: &Configuration, half| -> BTreeSet<(NodeId, DiskId)> {
                configuration.voters_in(half).map(|id| (id, configuration.member(id).unwrap().disk)).collect()
            };
            prop_assert_eq!(voters(&after, Half::Old), voters(&before, Half::New));
            prop_assert_eq!(voters(&after, Half::New), voters(&end, Half::Old));
            prop_assert_eq!(after.is_joint(), voters(&before, Half::Old) != voters(&end, Half::Old));
        }

        #[test]
        fn asked_twice_a_change_is_made_once(before in settled(), wish in change()) {
            let changes = [wish];
            if let Ok(after) = before.changed_by(&changes) {
                let end = after.settled();
                prop_assert_eq!(end.changed_by(&changes), Ok(end.clone()));
            }
        }
    }

    #[test]
    fn a_configuration_needs_a_voter_in_each_half() {
        let of = |standings: &[Standing]| {
            let members = (1_u64..).zip(standings).map(|(id, it)| (n(id), (member(id.into()), it.clone())));
            Configuration::new(members.collect())
        };
        let learner = Standing::Learner { becomes_voter: true };
        for none in
            [&[][..], core::slice::from_ref(&learner), &[Standing::Incoming], &[Standing::Outgoing { then: None }]]
        {
            assert_eq!(of(none), Err(NobodyVotes), "{none:?}");
        }
        assert!(of(&[Standing::Incoming, Standing::Outgoing { then: None }]).is_ok());
        assert!(of(&[Standing::Voter, learner]).is_ok());
    }

    #[test]
    fn it_is_one_line() {
        assert_eq!(Configuration::default().to_string(), "nobody");
        let before = Configuration::of_voters((1..=3).map(|id| (n(id), member(id.into()))));
        let add =
            |id: u64, becomes_voter| MemberChange::AddLearner { id: n(id), member: member(id.into()), becomes_voter };
        let before = before.changed_by(&[add(4, false), add(5, false), add(6, true)]).unwrap();
        assert_eq!(before.to_string(), "voters 1 2 3 learners 4 5 6+");
        let changes: Vec<_> =
            [MemberChange::Promote { id: n(4) }, MemberChange::Demote { id: n(1) }].into_iter().collect();
        assert_eq!(before.changed_by(&changes).unwrap().to_string(), "voters 1 2 3 → 2 3 4 learners 5 6+ then 1");
    }
}
