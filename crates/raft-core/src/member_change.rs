//! What may be asked of a leader about the membership (§4), and why it may refuse.
//!
//! What a wish makes of a configuration: `configuration`. When it may be granted: `change`.

use core::fmt;

use crate::configuration::{MAX_ADDRESS_BYTES, MAX_LEARNERS, MAX_VOTERS, Member};
use crate::types::{DiskId, LogIndex, NodeId};

/// One wish of [`crate::Input::ChangeMembership`]. Asked for again, each changes nothing more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MemberChange {
    /// Take a server in, as a learner. If it is a member already: its address becomes this one.
    AddLearner {
        /// Its id, which nobody has, or it itself.
        id: NodeId,
        /// Its disk and address.
        member: Member,
        /// Make it a voter once it has caught up.
        becomes_voter: bool,
    },
    /// Give a learner that has caught up a vote.
    Promote {
        /// The learner.
        id: NodeId,
    },
    /// Make a voter a learner, which it stays.
    Demote {
        /// The voter.
        id: NodeId,
    },
    /// Leave a server out.
    Remove {
        /// The member.
        id: NodeId,
    },
    /// A member came back with another disk (rule 2): the old disk's vote goes, the new one comes in as a learner that
    /// becomes a voter. In the place of a learner it is a learner like that.
    Replace {
        /// The member.
        id: NodeId,
        /// Its new disk and its address.
        member: Member,
    },
}

/// Why a change of the membership was refused. Nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChangeRefusal {
    /// This server does not lead.
    NotLeader {
        /// Who does, as far as it knows.
        leader: Option<NodeId>,
    },
    /// The leadership is being handed over.
    HandingOver {
        /// To this server.
        to: NodeId,
    },
    /// The leader has not committed an entry of its own term yet (rule 12). Ask again soon.
    TermNotCommitted,
    /// Another change is not finished: one at a time.
    UnderWay {
        /// The entry of its latest configuration.
        index: LogIndex,
    },
    /// Nobody has this id.
    UnknownMember {
        /// The id.
        id: NodeId,
    },
    /// A member with another disk has this id. If that disk is gone, replace it; else remove the member first.
    IdInUse {
        /// The id.
        id: NodeId,
        /// The member's disk.
        disk: DiskId,
    },
    /// The member to be replaced was heard within the longest election timeout: its disk is not gone.
    StillAlive {
        /// The member.
        id: NodeId,
    },
    /// It would get a vote in the change that brings it in.
    NotYetALearner {
        /// The server.
        id: NodeId,
    },
    /// The learner has not caught up (§4.2.1).
    NotCaughtUp {
        /// The learner.
        id: NodeId,
        /// How many entries it lacks of those it should have by now.
        behind: u64,
    },
    /// The learner was not heard within the shortest election timeout.
    Silent {
        /// The learner.
        id: NodeId,
    },
    /// A majority of the old voters, or of the new, was not heard within the shortest election timeout: the change could
    /// not be finished, and no other begun.
    MajoritySilent,
    /// Nobody would vote.
    NoVoterLeft,
    /// More than [`MAX_VOTERS`], with the learners that shall become voters.
    TooManyVoters,
    /// More than [`MAX_LEARNERS`].
    TooManyLearners,
    /// An address of more than [`MAX_ADDRESS_BYTES`].
    AddressTooLong {
        /// Whose.
        id: NodeId,
    },
}

impl fmt::Display for ChangeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { leader: Some(leader) } => write!(f, "{leader} leads"),
            Self::NotLeader { leader: None } => f.write_str("no leader"),
            Self::HandingOver { to } => write!(f, "{to} is being made leader"),
            Self::TermNotCommitted => f.write_str("nothing of this leader's term is committed yet; ask again"),
            Self::UnderWay { index } => write!(f, "the change at {index} is under way; ask again after it"),
            Self::UnknownMember { id } => write!(f, "{id} is no member; add it first"),
            Self::IdInUse { id, disk } => write!(f, "{id} is a member with disk {disk}; remove it first"),
            Self::StillAlive { id } => write!(f, "{id} is alive with its old disk; stop it first"),
            Self::NotYetALearner { id } => write!(f, "{id} must be a learner first; promote it once it has caught up"),
            Self::NotCaughtUp { id, behind } => write!(f, "{id} still lacks {behind} entries; ask again later"),
            Self::Silent { id } => write!(f, "{id} is not heard; start it, or look at its network"),
            Self::MajoritySilent => f.write_str("too few of those that would vote are heard; start them first"),
            Self::NoVoterLeft => f.write_str("nobody would vote"),
            Self::TooManyVoters => write!(f, "more than {MAX_VOTERS} would vote; remove one first"),
            Self::TooManyLearners => write!(f, "more than {MAX_LEARNERS} would be learners; remove one first"),
            Self::AddressTooLong { id } => write!(f, "the address of {id} is longer than {MAX_ADDRESS_BYTES} bytes"),
        }
    }
}
