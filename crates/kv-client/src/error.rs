//! What can go wrong, and what the caller may conclude from it.

use kv_store::Revision;

/// The class of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// A node was reached, but the operation had no answer before its deadline.
    Timeout,
    /// The nodes reached know no leader: an election, no quorum, or a cluster still forming.
    NoLeader,
    /// No node could be reached before the deadline.
    Unavailable,
    /// A limit of the servers is reached; later it may succeed.
    Overloaded,
    /// The servers' disks are full, or the keys cost as much as they may; once somebody has freed some space it may succeed.
    NoSpace,
    /// The servers have forgotten the session, and with it whether an earlier try was applied (rule 8).
    SessionExpired,
    /// Key, value or request is larger than the servers take.
    TooLarge,
    /// The value is no decimal integer of 64 bits, or the sum is none.
    WrongType,
    /// Another change of the same kind is under way; later it may succeed.
    Conflict,
    /// The revision asked for is forgotten; [`Error::oldest`] names the oldest that is not.
    Compacted,
    /// There is no such lease, or it has come to its end.
    NoSuchLease,
    /// The request or the configuration makes no sense.
    Invalid,
    /// The server answered something else than it should.
    Server,
}

/// Why an operation has no result.
///
/// For a write three outcomes matter, and the error says which it is: certainly not applied
/// (`!maybe_applied()`), or unknown. A write that was applied has no error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    maybe_applied: bool,
    oldest: Option<Revision>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), maybe_applied: false, oldest: None }
    }

    pub(crate) fn in_doubt(self, maybe_applied: bool) -> Self {
        Self { maybe_applied, ..self }
    }

    pub(crate) fn compacted(message: impl Into<String>, oldest: Revision) -> Self {
        Self { oldest: Some(oldest), ..Self::new(ErrorKind::Compacted, message) }
    }

    /// The oldest revision that can be read or watched from, where the one asked for is compacted.
    #[must_use]
    pub const fn oldest(&self) -> Option<Revision> {
        self.oldest
    }

    /// The class.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// `false` only if the write certainly was not applied and never will be. Always `false` for reads.
    #[must_use]
    pub const fn maybe_applied(&self) -> bool {
        self.maybe_applied
    }

    /// Whether the same operation may be asked for again without being applied twice, and with some hope: nothing was
    /// applied, and the cause is one that passes.
    #[must_use]
    pub const fn is_retry_safe(&self) -> bool {
        match self.kind {
            ErrorKind::Timeout
            | ErrorKind::NoLeader
            | ErrorKind::Unavailable
            | ErrorKind::Overloaded
            | ErrorKind::NoSpace
            | ErrorKind::Conflict
            | ErrorKind::SessionExpired => !self.maybe_applied,
            ErrorKind::TooLarge
            | ErrorKind::WrongType
            | ErrorKind::Compacted
            | ErrorKind::NoSuchLease
            | ErrorKind::Invalid
            | ErrorKind::Server => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_is_safe_only_if_nothing_was_applied_and_the_cause_passes() {
        let error = |kind, doubt| Error::new(kind, "").in_doubt(doubt);
        assert!(error(ErrorKind::Timeout, false).is_retry_safe());
        assert!(!error(ErrorKind::Timeout, true).is_retry_safe());
        assert!(!error(ErrorKind::TooLarge, false).is_retry_safe());
    }
}
