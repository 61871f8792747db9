//! What a server wants done. Everything in here may be executed at once, in order; what has to wait for the disk is
//! emitted only after it (rule 1).

use core::fmt;
use core::time::Duration;

use bytes::Bytes;

use crate::configuration::Configuration;
use crate::input::ProposalId;
use crate::member_change::ChangeRefusal;
use crate::message::{HandOver, Message, ReadId, ReadRound};
use crate::types::{LogIndex, LogPosition, NodeId, Term};
use crate::write::Write;

/// One effect of [`crate::Raft::step`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Send this. It may be lost, delayed, duplicated or overtaken.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Write this to the disk, after all earlier writes, and answer with [`crate::Input::Persisted`].
    Write(Write),
    /// Send this follower a chunk of a snapshot, as [`crate::Body::InstallSnapshot`]: read up to `max_bytes` of the
    /// snapshot's file. A chunk that cannot be read is not sent; it is asked for again.
    SendSnapshot {
        /// To whom.
        to: NodeId,
        /// The term of the message.
        term: Term,
        /// The last entry the snapshot covers.
        last: LogPosition,
        /// Where the chunk begins.
        offset: u64,
        /// How long it is at most.
        max_bytes: usize,
    },
    /// Store this chunk of a leader's snapshot and answer with [`crate::Input::ChunkStored`]; after the last one check
    /// the whole, make it durable, and answer with [`crate::Input::SnapshotReceived`]. The first byte of a snapshot
    /// voids whatever was stored of another.
    StoreChunk {
        /// The last entry the snapshot covers.
        last: LogPosition,
        /// Where the chunk begins: where the one before ended.
        offset: u64,
        /// The chunk.
        data: Bytes,
        /// Whether it is the last one.
        done: bool,
    },
    /// The snapshot takes the place of the log up to its end: restore the state machine from it before anything after
    /// it is applied (§5.1).
    SnapshotInstalled {
        /// The last entry it covers.
        last: LogPosition,
    },
    /// The log has forgotten everything up to here; the disk may do the same.
    Compacted {
        /// The last index that is gone.
        through: LogIndex,
    },
    /// The log is committed up to here: apply it to the state machine (§3.5).
    Committed {
        /// The new commit index.
        index: LogIndex,
    },
    /// The commands of a proposal are in this leader's log, one after the other. They are committed once the commit
    /// index reaches them, and only if the entries there still have this term.
    ProposalAccepted {
        /// The proposal.
        id: ProposalId,
        /// Where its first command stands.
        first: LogPosition,
    },
    /// Nothing was appended.
    ProposalRefused {
        /// The proposal.
        id: ProposalId,
        /// Why.
        reason: ProposalRefusal,
    },
    /// The change is in this leader's log, and in effect: the new configuration, or C_old,new if voters change. Once
    /// that entry is committed it will be carried out, by whoever leads: watch [`crate::Raft::configuration`]. A change
    /// that changes nothing is accepted with a position that is committed already.
    ChangeAccepted {
        /// The change.
        id: ProposalId,
        /// Where its first configuration stands.
        position: LogPosition,
    },
    /// Nothing was changed.
    ChangeRefused {
        /// The change.
        id: ProposalId,
        /// Why.
        reason: ChangeRefusal,
    },
    /// Another configuration is in effect at this server: its entry was appended, or that of a later one truncated
    /// (§4.1).
    ConfigurationChanged {
        /// Its entry; 0 for the one the server began with.
        index: LogIndex,
        /// What it says.
        configuration: Configuration,
    },
    /// The read may be answered from the state machine once that has applied `index`.
    ReadReady {
        /// The read.
        id: ReadId,
        /// The read index.
        index: LogIndex,
    },
    /// The read got no index; ask again under a new id.
    ReadFailed {
        /// The read.
        id: ReadId,
        /// Why.
        reason: ReadFailure,
    },
    /// The role changed.
    RoleChanged {
        /// From this.
        from: RoleName,
        /// To this; possibly the same, in a later term.
        to: RoleName,
        /// In one line.
        reason: Reason,
    },
    /// This server now knows who leads its term.
    LeaderKnown {
        /// The leader.
        leader: NodeId,
    },
    /// This leader makes another server leader by itself (§3.10): proposals are refused until that has happened or failed.
    HandsOver {
        /// The successor.
        to: NodeId,
        /// Why.
        reason: Reason,
    },
    /// The leadership was not transferred; this server goes on as it was. A transfer that succeeds ends with a change of
    /// role.
    TransferFailed {
        /// Why.
        reason: TransferFailure,
    },
    /// A peer broke the protocol; what it said was ignored.
    Misbehaved {
        /// Who.
        peer: NodeId,
        /// How.
        what: Misbehaviour,
    },
}

/// The four roles (§3.3; §9.6 for the pre-candidate).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoleName {
    /// Takes entries from a leader.
    Follower,
    /// Asks whether it could win before it disturbs anybody.
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
}

/// Why a role changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No leader was heard for an election timeout.
    NoLeader {
        /// For how long.
        silence: Duration,
    },
    /// An election or a poll ended with neither a majority nor a leader.
    NoOutcome,
    /// A majority would vote for this server.
    PollWon,
    /// The leader wants this server to be its successor (§3.10).
    ChosenBy {
        /// The leader.
        leader: NodeId,
        /// Why.
        why: HandOver,
    },
    /// A majority voted for this server.
    ElectionWon,
    /// So many refused that no majority is left to win.
    VotesRefused,
    /// Another server is in a later term.
    HigherTerm {
        /// Who.
        seen_at: NodeId,
        /// Which.
        term: Term,
    },
    /// Another server leads this term.
    LeaderHeard {
        /// Who.
        leader: NodeId,
    },
    /// This leader is no voter of the configuration that is committed now (§4.2.2).
    NoLongerVoter {
        /// The configuration's entry.
        index: LogIndex,
    },
    /// This leader has not heard a majority for the longest election timeout (§6.2).
    QuorumLost {
        /// For how long.
        silence: Duration,
    },
    /// This leader's disk stands still, and the others can do better.
    DiskStalled {
        /// For how long its oldest write has been waiting.
        waited: Duration,
    },
}

/// Why nothing of a proposal was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProposalRefusal {
    /// This server does not lead.
    NotLeader {
        /// Who does, as far as it knows.
        leader: Option<NodeId>,
    },
    /// This leader is handing over (§3.10).
    HandingOver {
        /// To this server.
        to: NodeId,
    },
    /// What is not committed would be more than [`crate::Config::max_uncommitted_bytes`].
    TooMuchUncommitted,
    /// What this leader's disk has to write would be more than [`crate::Config::max_unsynced_bytes`], or
    /// [`crate::Config::max_unsynced_writes`].
    TooMuchUnsynced,
    /// The log in memory is longer than [`crate::Config::max_log_bytes`]: a snapshot must take the place of its beginning.
    LogTooLong,
}

/// Why a read got no index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReadFailure {
    /// No leader is known.
    NoLeader,
    /// The leader changed while the read was under way.
    LeaderChanged,
    /// Too many reads are waiting.
    Overloaded,
}

/// Why the leadership was not transferred (§3.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransferFailure {
    /// This server does not lead.
    NotLeader {
        /// Who does, as far as it knows.
        leader: Option<NodeId>,
    },
    /// The chosen server does not follow this leader: it is no voter, or the leader itself.
    NotAFollower,
    /// No follower was heard within the shortest election timeout.
    NobodyHeard,
    /// Another transfer is under way.
    UnderWay {
        /// To this server.
        to: NodeId,
    },
    /// The successor was not elected within the shortest election timeout.
    TimedOut {
        /// The successor.
        to: NodeId,
    },
}

/// How a peer broke the protocol. Never a reason to stop: one broken server must not take others with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Misbehaviour {
    /// The sender answers, or asks, as only members do, and is not (or no longer) one: by id, or with this disk. Or it
    /// uses our own id.
    NotAMember,
    /// A term beyond [`Term::MAX_ACCEPTED`].
    ImpossibleTerm,
    /// Another server claims to lead a term that has a leader.
    SecondLeader,
    /// The entries are not consecutive from `prev`, or their terms are impossible.
    MalformedEntries,
    /// The entries contradict what is committed here.
    ContradictsCommitted {
        /// The index.
        index: LogIndex,
    },
    /// The entries contradict what the same leader sent before: a leader never changes its log.
    ContradictsItself {
        /// The index.
        index: LogIndex,
    },
    /// A follower acknowledges what this leader never had.
    AcknowledgedUnknown {
        /// What it claims to hold.
        index: LogIndex,
    },
    /// A chunk of a snapshot that no correct leader sends.
    MalformedSnapshot,
    /// A follower confirms a read round that this leader never began.
    ConfirmedUnknown {
        /// The round.
        round: ReadRound,
    },
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Follower => "follower",
            Self::PreCandidate => "pre-candidate",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLeader { silence } => write!(f, "no leader for {} ms", silence.as_millis()),
            Self::NoOutcome => f.write_str("no majority either way in time"),
            Self::ChosenBy { leader, why: HandOver::Planned } => write!(f, "{leader} hands over"),
            Self::ChosenBy { leader, why: HandOver::DiskStalled } => {
                write!(f, "{leader} hands over, as its disk stands still")
            }
            Self::PollWon => f.write_str("a majority would vote for it"),
            Self::ElectionWon => f.write_str("a majority voted for it"),
            Self::VotesRefused => f.write_str("too many refused"),
            Self::HigherTerm { seen_at, term } => write!(f, "{seen_at} is in term {term}"),
            Self::LeaderHeard { leader } => write!(f, "{leader} leads"),
            Self::NoLongerVoter { index } => write!(f, "configuration {index} gives it no vote"),
            Self::QuorumLost { silence } => write!(f, "no majority heard for {} ms", silence.as_millis()),
            Self::DiskStalled { waited } => write!(f, "its disk has stood still for {} ms", waited.as_millis()),
        }
    }
}

impl fmt::Display for ProposalRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { leader: Some(leader) } => write!(f, "{leader} leads"),
            Self::NotLeader { leader: None } => f.write_str("no leader"),
            Self::HandingOver { to } => write!(f, "{to} is being made leader"),
            Self::TooMuchUncommitted => f.write_str("too much is not committed"),
            Self::TooMuchUnsynced => f.write_str("too much waits for the disk"),
            Self::LogTooLong => f.write_str("the log is too long; it waits for a snapshot"),
        }
    }
}

impl fmt::Display for ReadFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoLeader => "no leader",
            Self::LeaderChanged => "the leader changed",
            Self::Overloaded => "too many reads",
        })
    }
}

impl fmt::Display for TransferFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { leader: Some(leader) } => write!(f, "{leader} leads"),
            Self::NotLeader { leader: None } => f.write_str("no leader"),
            Self::NotAFollower => f.write_str("not a follower"),
            Self::NobodyHeard => f.write_str("no follower was heard"),
            Self::UnderWay { to } => write!(f, "{to} is being made leader"),
            Self::TimedOut { to } => write!(f, "{to} was not elected in time"),
        }
    }
}

impl fmt::Display for Misbehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAMember => f.write_str("not a member"),
            Self::ImpossibleTerm => f.write_str("impossible term"),
            Self::SecondLeader => f.write_str("claims to lead a term that has a leader"),
            Self::MalformedEntries => f.write_str("malformed entries"),
            Self::ContradictsCommitted { index } => write!(f, "contradicts committed entry {index}"),
            Self::ContradictsItself { index } => write!(f, "contradicts itself at entry {index}"),
            Self::AcknowledgedUnknown { index } => write!(f, "acknowledges {index}, which this leader never had"),
            Self::MalformedSnapshot => f.write_str("malformed snapshot"),
            Self::ConfirmedUnknown { round } => write!(f, "confirms round {}, which never began", round.0),
        }
    }
}

/// The one-line form of scripts, simulator and logs, without the `n1@2` of the server it happened at.
impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send { to, message } => write!(f, "→ {to} {message}"),
            Self::Write(write) => fmt::Display::fmt(write, f),
            Self::SendSnapshot { to, last, offset, .. } => write!(f, "sends {to} snapshot {last} from {offset}"),
            Self::StoreChunk { last, offset, data, done } => {
                let end = if *done { ", its last" } else { "" };
                write!(f, "stores snapshot {last} from {offset} [{} bytes{end}]", data.len())
            }
            Self::SnapshotInstalled { last } => write!(f, "installs snapshot {last}"),
            Self::Compacted { through } => write!(f, "compacts the log through {through}"),
            Self::Committed { index } => write!(f, "committed {index}"),
            Self::ProposalAccepted { id, first } => write!(f, "proposal #{} accepted at {first}", id.0),
            Self::ProposalRefused { id, reason } => write!(f, "proposal #{} refused: {reason}", id.0),
            Self::ChangeAccepted { id, position } => write!(f, "change #{} accepted at {position}", id.0),
            Self::ChangeRefused { id, reason } => write!(f, "change #{} refused: {reason}", id.0),
            Self::ConfigurationChanged { index, configuration } => write!(f, "configuration {index}: {configuration}"),
            Self::ReadReady { id, index } => write!(f, "read #{} ready at {index}", id.0),
            Self::ReadFailed { id, reason } => write!(f, "read #{} failed: {reason}", id.0),
            Self::RoleChanged { from, to, reason } => write!(f, "{from} → {to}: {reason}"),
            Self::LeaderKnown { leader } => write!(f, "follows {leader}"),
            Self::HandsOver { to, reason } => write!(f, "hands over to {to}: {reason}"),
            Self::TransferFailed { reason } => write!(f, "transfer failed: {reason}"),
            Self::Misbehaved { peer, what } => write!(f, "ignored {peer}: {what}"),
        }
    }
}
