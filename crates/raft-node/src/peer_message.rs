//! What servers say to each other beside the protocol: forming a cluster, passing commands on to the leader, and that a disk
//! is full.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft_core::{
    Body, ClusterId, Configuration, DiskId, Entry, LogPosition, MAX_ADDRESS_BYTES, Member, Message, NodeId, Payload,
    Term,
};
use raft_net::{Frame, FrameKind, LinkKind};
use serde::{Deserialize, Serialize};

use crate::answer::{Leadership, MAX_COMMAND_BYTES};

/// The most that the fields of a node message take: a formation record of 64 members with the longest host names.
const MAX_HEADER_BYTES: usize = 32 << 10;

/// The longest reason of an election. Ours are far shorter.
const MAX_REASON_BYTES: usize = 256;

/// A message between servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// Of the protocol.
    Raft(Message),
    /// Of the formation of a cluster (rule 2).
    Formation(FormationState),
    /// A command, from a follower to the leader.
    Forward {
        /// The sender's number for it, unique within its incarnation.
        id: u64,
        /// How long the sender's client will wait, in milliseconds.
        timeout_ms: u32,
        /// The command.
        command: Bytes,
    },
    /// How a forwarded command ended.
    ForwardReply {
        /// The number it came with.
        id: u64,
        /// The state machine's reply, or why there is none.
        outcome: Result<Bytes, ForwardRefusal>,
    },
    /// A wish for another leader (§3.10), from a follower to the leader. A refusal comes as a [`PeerMessage::ForwardReply`].
    Transfer {
        /// The sender's number for it, of the same kind as those of commands.
        id: u64,
        /// How long the sender's client will wait, in milliseconds.
        timeout_ms: u32,
        /// Who is to lead; without a name the follower that lacks least.
        to: Option<NodeId>,
    },
    /// A forwarded wish came true.
    Transferred {
        /// The number it came with.
        id: u64,
        /// Who leads now.
        leadership: Leadership,
    },
    /// The sender's disk is full. Said about once a second, as long as it is.
    DiskFull,
    /// The sender was elected, and why it stood. Said once; one that misses it knows only that somebody was elected.
    Elected {
        /// The term it leads.
        term: Term,
        /// Why, in one line.
        reason: String,
    },
    /// Where the sender is reached. Said on each new control link and then once a second.
    Introduction {
        /// `HOST:PORT`.
        address: String,
        /// No configuration that the sender knows names it with its disk: it asks to join (rule 2).
        is_newcomer: bool,
    },
    /// To a newcomer: where the members are reached.
    Members {
        /// By id.
        members: Vec<(NodeId, String)>,
    },
    /// From a leader to a newcomer: it may not join, or not yet. It goes on asking.
    NotAdmitted {
        /// Why, and what to do.
        reason: String,
    },
}

/// How far the formation of a cluster has come, as one server sees it. Said again until everybody has formed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FormationState {
    /// It has synced nothing; the ids it was told of with `--cluster`.
    Waiting {
        /// The ids.
        listed: Vec<u64>,
    },
    /// It has synced this, and does not vote yet.
    Prepared(FormationRecord),
    /// All have synced this, so it votes.
    Formed(FormationRecord),
}

/// The cluster and its first members, as they travel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormationRecord {
    /// The cluster id.
    pub cluster: u128,
    /// Id, disk id and peer address of each member, by id.
    pub members: Vec<(u64, u128, String)>,
}

/// Why the leader did not do what was forwarded to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForwardRefusal {
    /// The receiver does not lead; it will not pass the command on again (one hop at most).
    NotLeader,
    /// The receiver stopped leading with the command in its log: it may or may not be applied.
    LeaderChanged,
    /// Another entry took the command's place in the log: it is not applied, nor will it be.
    Overwritten,
    /// Too much is waiting at the leader; nothing was appended.
    Overloaded,
    /// Not committed in time: it may or may not be applied.
    Timeout,
    /// The leader is stopping; nothing was appended.
    Stopping,
    /// Who was to lead is no voter.
    NotAVoter,
    /// The leader hears no follower.
    NobodyToSucceed,
    /// The leader is handing over already.
    TransferUnderWay,
    /// The successor was not elected in time; it may be yet.
    SuccessorNotElected,
    /// The leader's disk is full, or those of too many; nothing was appended.
    NoSpace,
}

/// The header of a frame of kind [`FrameKind::Node`]. Variants are only ever appended (rule 11).
#[derive(Serialize, Deserialize)]
enum Header {
    Formation(FormationState),
    Forward { id: u64, timeout_ms: u32 },
    ForwardReply { id: u64, refusal: Option<ForwardRefusal> },
    Transfer { id: u64, timeout_ms: u32, to: Option<u64> },
    Transferred { id: u64, leader: u64, term: u64 },
    DiskFull,
    Elected { term: u64, reason: String },
    Introduction { address: String, is_newcomer: bool },
    Members { members: Vec<(u64, String)> },
    NotAdmitted { reason: String },
}

/// Why a frame is no message of this kind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerMessageError {
    /// A message of the protocol that does not decode.
    #[error("a protocol message does not decode: {0}")]
    Raft(#[source] raft_net::peer::DecodeError),
    /// A message of the node that does not decode.
    #[error("a node message does not decode: {0}")]
    Node(#[source] postcard::Error),
    /// An entry that no log holds. Writing it would stop this server's disk.
    #[error("entry {0} is larger than {MAX_COMMAND_BYTES} bytes")]
    EntryTooLarge(LogPosition),
    /// A list of members that no cluster has: decoded, it would take many times its size.
    #[error("a header of {size_bytes} bytes, the limit is {MAX_HEADER_BYTES}")]
    HeaderTooLarge {
        /// Its size.
        size_bytes: usize,
    },
    /// A reason that no server of ours gives.
    #[error("a reason of {size_bytes} bytes, the limit is {MAX_REASON_BYTES}")]
    ReasonTooLong {
        /// Its size.
        size_bytes: usize,
    },
    /// An address that no server has.
    #[error("an address of {size_bytes} bytes, the limit is {MAX_ADDRESS_BYTES}")]
    AddressTooLong {
        /// Its size.
        size_bytes: usize,
    },
    /// A server's id that is none.
    #[error("0 is no server's id")]
    NodeIdZero,
    /// Bytes that belong to no field: another version's, or noise that happens to parse.
    #[error("{size_bytes} bytes that belong to nothing")]
    TrailingBytes {
        /// How many.
        size_bytes: usize,
    },
    /// A kind of frame that servers do not send each other.
    #[error("a frame of kind {0:?} does not belong on a peer link")]
    UnexpectedKind(FrameKind),
}

impl PeerMessage {
    /// The link it travels on: entries and commands on the bulk link, everything short and urgent on the other.
    #[must_use]
    pub fn link(&self) -> LinkKind {
        match self {
            Self::Raft(message) => raft_net::peer::link_of(message),
            Self::Formation(_)
            | Self::DiskFull
            | Self::Elected { .. }
            | Self::Introduction { .. }
            | Self::Members { .. }
            | Self::NotAdmitted { .. } => LinkKind::Control,
            // Behind the commands that were passed on before it, and whose replies it must not overtake.
            Self::Forward { .. } | Self::ForwardReply { .. } | Self::Transfer { .. } | Self::Transferred { .. } => {
                LinkKind::Bulk
            }
        }
    }

    /// As a frame.
    #[must_use]
    pub fn to_frame(&self) -> Frame {
        let (header, payload) = match self {
            Self::Raft(message) => return raft_net::peer::encode(message),
            Self::Formation(state) => (Header::Formation(state.clone()), Bytes::new()),
            Self::DiskFull => (Header::DiskFull, Bytes::new()),
            Self::Forward { id, timeout_ms, command } => {
                (Header::Forward { id: *id, timeout_ms: *timeout_ms }, command.clone())
            }
            Self::Transfer { id, timeout_ms, to } => {
                (Header::Transfer { id: *id, timeout_ms: *timeout_ms, to: to.map(NodeId::as_u64) }, Bytes::new())
            }
            Self::Transferred { id, leadership: Leadership { leader, term } } => {
                (Header::Transferred { id: *id, leader: leader.as_u64(), term: term.0 }, Bytes::new())
            }
            Self::Elected { term, reason } => (Header::Elected { term: term.0, reason: reason.clone() }, Bytes::new()),
            Self::Introduction { address, is_newcomer } => {
                (Header::Introduction { address: address.clone(), is_newcomer: *is_newcomer }, Bytes::new())
            }
            Self::Members { members } => {
                let members = members.iter().map(|(id, address)| (id.as_u64(), address.clone())).collect();
                (Header::Members { members }, Bytes::new())
            }
            Self::NotAdmitted { reason } => (Header::NotAdmitted { reason: reason.clone() }, Bytes::new()),
            Self::ForwardReply { id, outcome } => match outcome {
                Ok(reply) => (Header::ForwardReply { id: *id, refusal: None }, reply.clone()),
                Err(refusal) => (Header::ForwardReply { id: *id, refusal: Some(*refusal) }, Bytes::new()),
            },
        };
        let header = postcard::to_allocvec(&header).expect("encoding into memory that grows cannot fail").into();
        Frame { kind: FrameKind::Node, group: 0, header, payload }
    }

    /// From a frame of the node's own kind, of which nothing may be left over.
    fn from_node_frame(frame: Frame) -> Result<Self, PeerMessageError> {
        let (header, rest) = postcard::take_from_bytes(&frame.header).map_err(PeerMessageError::Node)?;
        let carries_payload = matches!(header, Header::Forward { .. } | Header::ForwardReply { refusal: None, .. });
        let left_over = rest.len() + if carries_payload { 0 } else { frame.payload.len() };
        if left_over > 0 {
            return Err(PeerMessageError::TrailingBytes { size_bytes: left_over });
        }
        Ok(match header {
            Header::Formation(state) => Self::Formation(state),
            Header::DiskFull => Self::DiskFull,
            Header::Forward { id, timeout_ms } => Self::Forward { id, timeout_ms, command: frame.payload },
            Header::ForwardReply { id, refusal } => {
                Self::ForwardReply { id, outcome: refusal.map_or(Ok(frame.payload), Err) }
            }
            Header::Transfer { id, timeout_ms, to } => {
                Self::Transfer { id, timeout_ms, to: to.map(node_id).transpose()? }
            }
            Header::Transferred { id, leader, term } => {
                Self::Transferred { id, leadership: Leadership { leader: node_id(leader)?, term: Term(term) } }
            }
            Header::Elected { reason, .. } | Header::NotAdmitted { reason } if reason.len() > MAX_REASON_BYTES => {
                return Err(PeerMessageError::ReasonTooLong { size_bytes: reason.len() });
            }
            Header::Elected { term, reason } => Self::Elected { term: Term(term), reason },
            Header::NotAdmitted { reason } => Self::NotAdmitted { reason },
            Header::Introduction { address, is_newcomer } => {
                Self::Introduction { address: checked_address(address)?, is_newcomer }
            }
            Header::Members { members } => {
                let member = |(id, address)| Ok((node_id(id)?, checked_address(address)?));
                Self::Members { members: members.into_iter().map(member).collect::<Result<_, PeerMessageError>>()? }
            }
        })
    }

    /// From a frame.
    ///
    /// # Errors
    /// If it is none of these messages.
    pub fn from_frame(frame: Frame) -> Result<Self, PeerMessageError> {
        match frame.kind {
            FrameKind::Raft => {
                let message = raft_net::peer::decode(&frame).map_err(PeerMessageError::Raft)?;
                check_entries(&message)?;
                Ok(Self::Raft(message))
            }
            FrameKind::Node if frame.header.len() > MAX_HEADER_BYTES => {
                Err(PeerMessageError::HeaderTooLarge { size_bytes: frame.header.len() })
            }
            FrameKind::Node => Self::from_node_frame(frame),
            kind @ (FrameKind::Hello
            | FrameKind::Welcome
            | FrameKind::Refused
            | FrameKind::Request
            | FrameKind::Response
            | FrameKind::Push) => Err(PeerMessageError::UnexpectedKind(kind)),
        }
    }
}

fn node_id(id: u64) -> Result<NodeId, PeerMessageError> {
    NodeId::new(id).ok_or(PeerMessageError::NodeIdZero)
}

fn checked_address(address: String) -> Result<String, PeerMessageError> {
    if address.len() > MAX_ADDRESS_BYTES {
        return Err(PeerMessageError::AddressTooLong { size_bytes: address.len() });
    }
    Ok(address)
}

fn check_entries(message: &Message) -> Result<(), PeerMessageError> {
    let Body::AppendEntries { entries, .. } = &message.body else { return Ok(()) };
    let is_too_large = |entry: &&Entry| match &entry.payload {
        Payload::Command(command) => command.len() > MAX_COMMAND_BYTES,
        Payload::Noop | Payload::Configuration(_) => false,
    };
    let too_large = entries.iter().find(is_too_large);
    too_large.map_or(Ok(()), |entry| Err(PeerMessageError::EntryTooLarge(entry.position)))
}

impl FormationRecord {
    /// As it travels.
    #[must_use]
    pub fn new(cluster: ClusterId, configuration: &Configuration) -> Self {
        let member = |(id, member): (NodeId, &Member)| (id.as_u64(), member.disk.0, member.address.clone());
        Self { cluster: cluster.0, members: configuration.members().map(member).collect() }
    }

    /// The cluster id.
    #[must_use]
    pub const fn cluster(&self) -> ClusterId {
        ClusterId(self.cluster)
    }

    /// The configuration; `None` if an id is 0 or stands twice.
    #[must_use]
    pub fn configuration(&self) -> Option<Configuration> {
        let mut members = BTreeMap::new();
        for (id, disk, address) in &self.members {
            let member = Member { disk: DiskId(*disk), address: address.clone() };
            if members.insert(NodeId::new(*id)?, member).is_some() {
                return None;
            }
        }
        Some(Configuration::of_voters(members))
    }

    /// The disk of member `id`.
    #[must_use]
    pub fn disk_of(&self, id: NodeId) -> Option<DiskId> {
        self.members.iter().find(|(member, ..)| *member == id.as_u64()).map(|(_, disk, _)| DiskId(*disk))
    }
}

/// One line, as in traces.
impl std::fmt::Display for PeerMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Raft(message) => message.fmt(f),
            Self::Formation(FormationState::Waiting { .. }) => f.write_str("Formation waiting"),
            Self::Formation(FormationState::Prepared(record)) => write!(f, "Formation prepared {}", record.cluster()),
            Self::Formation(FormationState::Formed(record)) => write!(f, "Formation formed {}", record.cluster()),
            Self::DiskFull => f.write_str("DiskFull"),
            Self::Forward { id, .. } => write!(f, "Forward #{id}"),
            Self::ForwardReply { id, outcome: Ok(_) } => write!(f, "ForwardReply #{id} applied"),
            Self::ForwardReply { id, outcome: Err(refusal) } => write!(f, "ForwardReply #{id} {refusal:?}"),
            Self::Transfer { id, to: Some(to), .. } => write!(f, "Transfer #{id} to {to}"),
            Self::Transfer { id, to: None, .. } => write!(f, "Transfer #{id}"),
            Self::Transferred { id, leadership: Leadership { leader, term } } => {
                write!(f, "Transferred #{id} {leader}@{}", term.0)
            }
            Self::Elected { term, reason } => write!(f, "Elected in term {term}: {reason}"),
            Self::Introduction { address, is_newcomer: false } => write!(f, "Introduction at {address}"),
            Self::Introduction { address, is_newcomer: true } => write!(f, "Introduction at {address} of a newcomer"),
            Self::Members { members } => write!(f, "Members: {} of them", members.len()),
            Self::NotAdmitted { reason } => write!(f, "NotAdmitted: {reason}"),
        }
    }
}
