//! What clients and servers say to each other, once the wire's handshake is done. Frames carry these, postcard-encoded,
//! as their header; a write's `Envelope` travels as the frame's raw payload and goes to the log as it is.
//!
//! A wire format (rule 11): variants are only ever appended.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::command::{Outcome, Refusal};
use crate::query::{Answer, Query};
use crate::types::{Revision, StateHash};

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the client, unique among its requests in flight on the connection; the response repeats it.
    pub id: u64,
    /// How long the client will wait, from the server's receipt, in milliseconds. The server answers by then.
    pub timeout_ms: u32,
    /// What is asked.
    pub body: RequestBody,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestBody {
    /// Apply the envelope in the frame's payload. A follower forwards it to the leader.
    Write,
    /// Read the store.
    Read {
        /// What to read.
        query: Query,
        /// How fresh it must be.
        consistency: Consistency,
    },
    /// This node's own view, without any other node's help.
    NodeStatus,
    /// This node's state hash, of `revision`, or of its current one.
    StateHash {
        /// The revision; kept for the latest ones only.
        revision: Option<Revision>,
    },
    /// Make another node leader. A follower passes it on to the leader; the answer comes when the new leader is known.
    TransferLeadership {
        /// Who is to lead; without a name the follower that lacks least.
        to: Option<u64>,
    },
    /// Who the members are: what every change acknowledged before has made of them.
    Members,
    /// Change the membership. Only the leader does that; any other node names it.
    ChangeMembers {
        /// How.
        change: MemberChange,
    },
    /// Read the store as it was at a revision. A node that has come that far answers at once: what was then never changes.
    /// Any other asks the leader first, and refuses a revision that is still to come ([`RequestErrorKind::Invalid`]).
    ReadAt {
        /// What to read.
        query: Query,
        /// As of when.
        revision: Revision,
    },
    /// Be told of changes, from now on or from a revision on, in [`Push`]es, until the answer says why no more come. Any
    /// node does that from its own history.
    Watch {
        /// Whose changes.
        target: WatchTarget,
        /// The first revision to be told of; `None`: the one after the present one, and after every write acknowledged
        /// before.
        from: Option<Revision>,
        /// Tell also what each value was before.
        previous: bool,
    },
    /// End a watch of this connection.
    Unwatch {
        /// The request that began it.
        id: u64,
    },
}

/// Which keys a watch is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum WatchTarget {
    /// One.
    Key(Bytes),
    /// Those that begin with this.
    Prefix(Bytes),
}

/// What a request that goes on is told before its answer. Events travel in the frame's payload: encoded once, however many
/// are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// The request's.
    pub id: u64,
    /// What it is told.
    pub body: PushBody,
}

/// What a watch is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PushBody {
    /// It has begun; the node was at this revision.
    Watching {
        /// The revision of the latest change there.
        revision: Revision,
    },
    /// The payload is a list of [`WatchEvent`]s, in order.
    Events,
    /// Nothing is missing up to this revision: where to resume behind, however long nothing has happened.
    Progress {
        /// The revision.
        revision: Revision,
    },
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchEvent {
    /// The key.
    pub key: Bytes,
    /// The revision that changed it.
    pub revision: Revision,
    /// The value it has since; `None` if it is gone.
    pub value: Option<Bytes>,
    /// The value it had before; `None` if it was not there, or this was not asked for.
    pub previous: Option<Bytes>,
    /// Whether this is the last one of the revision that the watch is about.
    pub last: bool,
}

/// A change of the membership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberChange {
    /// Add a node that was started to join, as a learner.
    Add {
        /// Its id.
        id: u64,
        /// Where its peers reach it, `HOST:PORT`.
        address: String,
        /// Make it a voter once it has caught up; the answer comes then.
        becomes_voter: bool,
    },
    /// Give a learner that has caught up a vote.
    Promote {
        /// Its id.
        id: u64,
    },
    /// Leave a member out.
    Remove {
        /// Its id.
        id: u64,
    },
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Consistency {
    /// Sees every write acknowledged before the read began (§6.4).
    Linearizable,
    /// As linearizable; cheaper where the cluster has leases switched on.
    Lease,
    /// What this node has applied, however old.
    Local,
    /// What this node has applied, once it has come as far as this revision. With the newest revision a client has seen
    /// it never goes back in time, whichever node it asks.
    LocalFrom {
        /// The oldest revision that will do.
        revision: Revision,
    },
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The request's.
    pub id: u64,
    /// The leader this node knows, for the client's next request.
    pub leader: Option<NodeAddress>,
    /// The answer.
    pub body: Result<ResponseBody, RequestError>,
}

/// Where a node's clients reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAddress {
    /// The node's id.
    pub id: u64,
    /// `HOST:PORT`.
    pub address: String,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResponseBody {
    /// The write was applied, or refused by the store (the same on every replica).
    Written(Result<Outcome, Refusal>),
    /// What the read found.
    Answer(Answer),
    /// The node's own view.
    NodeStatus(NodeStatus),
    /// The hash of the state at `revision`, or `None` if that one is not kept or not reached yet.
    StateHash {
        /// The revision asked for, or the current one.
        revision: Revision,
        /// The hash.
        hash: Option<StateHash>,
    },
    /// The leadership was transferred, or lies where it was wanted already.
    Leadership(Leadership),
    /// The members.
    Members(Members),
    /// The watch has ended, because this was asked for.
    Unwatched,
}

/// The members of the cluster, by id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// Who votes; while voters change, those of before and after.
    pub voters: Vec<u64>,
    /// Who gets all writes and does not vote.
    pub learners: Vec<u64>,
    /// The store's revision at the node that answers.
    pub revision: Revision,
}

/// Who leads which term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leadership {
    /// The leader.
    pub leader: u64,
    /// Its term.
    pub term: u64,
}

/// One node's view of itself and its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node.
    pub id: u64,
    /// The cluster, once formed: 32 hexadecimal digits.
    pub cluster: Option<String>,
    /// Its role, as `raftctl status` prints it: `leader`, `follower`, `candidate`, `pre_candidate`, ..
    pub role: String,
    /// Its term.
    pub term: u64,
    /// The leader it knows.
    pub leader: Option<u64>,
    /// Its commit index.
    pub commit_index: u64,
    /// The index it has applied.
    pub applied_index: u64,
    /// The store's revision there.
    pub revision: Revision,
    /// The last change of leader it saw, and why.
    pub last_change: Option<LeaderChange>,
    /// All members it knows, itself included, by id, with the address for clients where it is known.
    pub members: Vec<MemberAddress>,
}

/// A member and where clients reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberAddress {
    /// The member's id.
    pub id: u64,
    /// `HOST:PORT` for clients; `None` until this node has met it.
    pub address: Option<String>,
}

/// A change of leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderChange {
    /// The new leader's term.
    pub term: u64,
    /// Why the election was held, as this node knows it.
    pub reason: String,
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct RequestError {
    /// The class, which decides the client's next step and the exit code of `raftctl`.
    pub kind: RequestErrorKind,
    /// What happened, and what to do.
    pub message: String,
    /// For what changes something: `false` only if it certainly was not and never will be applied.
    pub maybe_applied: bool,
}

/// The classes of [`RequestError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RequestErrorKind {
    /// No leader is known (an election, no quorum, or a cluster still forming). Worth a retry.
    NoLeader,
    /// The leader changed while the write was under way. Worth a retry, under the same session and sequence.
    LeaderChanged,
    /// Not answered within the request's time-out.
    Timeout,
    /// A limit is reached; nothing was done.
    Overloaded,
    /// Larger than this server takes.
    TooLarge,
    /// Not a request this server understands.
    Invalid,
    /// The server is stopping. Worth a retry at another node.
    Stopping,
    /// Another change of the same kind is under way; nothing was done.
    Conflict,
    /// Nobody could succeed the leader; nothing was done.
    NoSuccessor,
    /// The chosen successor was not elected in time. It may be yet.
    NotElected,
    /// The servers' disks are full; nothing was done. Reads are served.
    NoSpace,
    /// The cluster is in no state for that change of the membership; nothing was done. Later it may be.
    NotReady,
    /// The revision asked for is forgotten.
    Compacted {
        /// The oldest one that can be read, or watched from.
        oldest: Revision,
    },
}
