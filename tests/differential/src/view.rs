//! What both implementations are compared by: Figure 3.1's state of one server.

use std::fmt;

use bytes::Bytes;

/// What a server is (§3.3, §9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Follower,
    PreCandidate,
    Candidate,
    Leader,
}

/// An entry: its term, and its command; a new leader's first entry has none.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) term: u64,
    pub(crate) command: Bytes,
}

/// One server, seen from outside.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) term: u64,
    pub(crate) role: Role,
    pub(crate) voted_for: Option<u64>,
    /// From index 1 on.
    pub(crate) log: Vec<Entry>,
    pub(crate) commit: u64,
}

impl View {
    /// How up to date its log is (§3.6.1).
    pub(crate) fn last(&self) -> (u64, usize) {
        (self.log.last().map_or(0, |entry| entry.term), self.log.len())
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} term={} vote={:?} commit={} log=", self.role, self.term, self.voted_for, self.commit)?;
        f.debug_list().entries(&self.log).finish()
    }
}

/// As `command@term`.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", String::from_utf8_lossy(&self.command), self.term)
    }
}
