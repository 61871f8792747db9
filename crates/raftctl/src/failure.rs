//! Why a command has no answer, and with which code the process then ends.

use serde::ser::{Serialize, SerializeMap, Serializer};

/// The exit code of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    /// The command did what it says.
    pub const DONE: Self = Self(0);
    /// It did its work, and the answer is no: absent key, value not swapped, nothing deleted; or the value has the wrong type.
    pub const NEGATIVE: Self = Self(1);
    /// It was written wrongly, or is larger than the servers take.
    pub const USAGE: Self = Self(2);
    /// No node could be reached.
    pub const UNAVAILABLE: Self = Self(3);
    /// A node was reached, but no answer came in time.
    pub const NO_ANSWER: Self = Self(4);
    /// The servers refused.
    pub const REFUSED: Self = Self(6);
}

/// The class of a failure: the `"error"` of its JSON form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The command is written wrongly, or not there yet.
    Usage,
    /// A line, key, value or request over a limit.
    TooLarge,
    /// The value is no integer, or the sum does not fit one.
    WrongType,
    /// No node could be reached.
    Unavailable,
    /// A node was reached, but no answer came in time.
    Timeout,
    /// The nodes reached know no leader.
    NoLeader,
    /// A limit of the servers is reached.
    Overloaded,
    /// The servers' disks are full.
    NoSpace,
    /// Whether an earlier try was applied is forgotten (rule 8).
    SessionExpired,
    /// Another change of the same kind is under way.
    Conflict,
    /// The revision asked for is forgotten.
    Compacted,
    /// There is no such lease, or it is over.
    NoSuchLease,
    /// Anything else on the servers' side.
    Server,
}

impl FailureKind {
    /// Its name in JSON and in text.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::TooLarge => "too_large",
            Self::WrongType => "wrong_type",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::NoLeader => "no_leader",
            Self::Overloaded => "overloaded",
            Self::NoSpace => "no_space",
            Self::SessionExpired => "session_expired",
            Self::Conflict => "conflict",
            Self::Compacted => "compacted",
            Self::NoSuchLease => "no_such_lease",
            Self::Server => "server",
        }
    }

    /// The exit code of a command that ends so.
    #[must_use]
    pub const fn exit(self) -> Exit {
        match self {
            Self::WrongType => Exit::NEGATIVE,
            Self::Usage | Self::TooLarge => Exit::USAGE,
            Self::Unavailable => Exit::UNAVAILABLE,
            Self::Timeout | Self::NoLeader => Exit::NO_ANSWER,
            Self::Overloaded
            | Self::NoSpace
            | Self::SessionExpired
            | Self::Conflict
            | Self::Compacted
            | Self::NoSuchLease
            | Self::Server => Exit::REFUSED,
        }
    }
}

/// A command that has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", kind.name())]
pub struct Failure {
    /// The command's name as it was typed, so far as it is text.
    pub op: String,
    /// The class.
    pub kind: FailureKind,
    /// What happened and what to do.
    pub message: String,
    /// For commands that change something: `false` only if nothing was and nothing will be changed. `None` for reads.
    pub maybe_applied: Option<bool>,
    /// The oldest revision there is, where the one asked for is compacted.
    pub oldest: Option<u64>,
    /// Where a watch that has ended goes on.
    pub resume: Option<u64>,
}

impl Failure {
    /// A failure before anything was sent. `writes` says whether `op` changes something.
    #[must_use]
    pub fn unsent(op: &str, writes: bool, kind: FailureKind, message: impl Into<String>) -> Self {
        let (op, message) = (op.to_owned(), message.into());
        Self { op, kind, message, maybe_applied: writes.then_some(false), oldest: None, resume: None }
    }

    /// What a client's error means for the command `op`.
    #[must_use]
    pub fn from_client(op: &str, writes: bool, error: &kv_client::Error) -> Self {
        Self {
            op: op.to_owned(),
            kind: kind_of(error.kind()),
            message: error.to_string(),
            maybe_applied: writes.then_some(error.maybe_applied()),
            oldest: error.oldest().map(|oldest| oldest.0),
            resume: None,
        }
    }
}

/// The contract's name for a client's class of error.
#[must_use]
const fn kind_of(kind: kv_client::ErrorKind) -> FailureKind {
    use kv_client::ErrorKind;
    match kind {
        ErrorKind::Timeout => FailureKind::Timeout,
        ErrorKind::NoLeader => FailureKind::NoLeader,
        ErrorKind::Unavailable => FailureKind::Unavailable,
        ErrorKind::Overloaded => FailureKind::Overloaded,
        ErrorKind::NoSpace => FailureKind::NoSpace,
        ErrorKind::SessionExpired => FailureKind::SessionExpired,
        ErrorKind::TooLarge => FailureKind::TooLarge,
        ErrorKind::WrongType => FailureKind::WrongType,
        ErrorKind::Invalid => FailureKind::Usage,
        ErrorKind::Conflict => FailureKind::Conflict,
        ErrorKind::Compacted => FailureKind::Compacted,
        ErrorKind::NoSuchLease => FailureKind::NoSuchLease,
        ErrorKind::Server => FailureKind::Server,
    }
}

impl Serialize for Failure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut line = serializer.serialize_map(None)?;
        line.serialize_entry("ok", &false)?;
        line.serialize_entry("op", &self.op)?;
        line.serialize_entry("error", self.kind.name())?;
        line.serialize_entry("message", &self.message)?;
        if let Some(maybe_applied) = self.maybe_applied {
            line.serialize_entry("maybe_applied", &maybe_applied)?;
        }
        if let Some(oldest) = self.oldest {
            line.serialize_entry("oldest", &oldest)?;
        }
        if let Some(resume) = self.resume {
            line.serialize_entry("resume", &resume)?;
        }
        line.end()
    }
}
