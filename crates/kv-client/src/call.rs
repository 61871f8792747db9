//! One operation: attempts, each at one server, until there is an answer, a refusal, or no time left.
//!
//! What an attempt's end means for the next one is decided in [`judge`], and nowhere else. The rules it keeps:
//!
//! - A retry of a write sends the same bytes again: same session, same sequence, same deadline. The store applies them
//!   once, however often they arrive (rule 8).
//! - A write is *in doubt* from the moment it is handed to a connection until an answer says that this attempt was not
//!   applied. Doubt from an earlier attempt stays until the store itself settles it.
//! - The store settles it by applying or by refusing *this envelope* for good. `DeadlinePassed` is such a refusal: stamps
//!   only grow, all attempts carry one deadline, and had an earlier attempt been applied, the store would have answered
//!   with its kept reply, which it looks for before it looks at the deadline. So nothing was applied and nothing ever will be.
//! - `SessionExpired` settles nothing: the store has forgotten whether an earlier attempt was applied.

use std::time::Duration;

use kv_store::api::{RequestError, RequestErrorKind, Response, ResponseBody};
use kv_store::{Outcome, Refusal};
use tokio::time::Instant;

use crate::backoff::{Backoff, Random};
use crate::connection::NoAnswer;
use crate::error::{Error, ErrorKind};

/// How often one operation may begin anew after the store called its session or its deadline too old. Once is the rule
/// after a long rest; more mean that the servers disagree about the time.
const MAX_RENEWALS: u32 = 3;

/// One operation under way.
#[derive(Debug)]
pub(crate) struct Call {
    /// When the caller gives up.
    pub(crate) deadline: Instant,
    /// Attempts so far.
    pub(crate) tries: u32,
    /// Whether the write may have been applied.
    pub(crate) in_doubt: bool,
    renewals: u32,
    backoff: Backoff,
    setback: Option<Setback>,
    was_reached: bool,
}

/// Why an attempt did not end the operation.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Setback {
    /// No connection.
    Unreachable(String),
    /// A connection and no answer.
    Unanswered(String),
    /// An answer: not done in time, and why. Silence afterwards says less.
    NotInTime(String),
    /// An answer: there is no leader, or there was a change of leader.
    NoLeader(String),
}

/// What to do after an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The operation has its answer.
    Done(ResponseBody),
    /// The operation has failed.
    Failed(Error),
    /// Try again where routing says.
    Again(Then),
    /// Begin anew: new handshake, new envelope, and a new session too if the old one is forgotten.
    Renew {
        /// Whether the store has forgotten the session.
        forget_session: bool,
    },
}

/// What to do before the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Leave this server: it cannot be reached, or does not answer.
    Elsewhere,
    /// Leave this server for now, and wait a little: it is healthy but has no leader.
    Later,
}

impl Call {
    /// An operation that may take until `deadline`.
    pub(crate) fn new(deadline: Instant) -> Self {
        Self {
            deadline,
            tries: 0,
            in_doubt: false,
            renewals: 0,
            backoff: Backoff::default(),
            setback: None,
            was_reached: false,
        }
    }

    /// When an attempt that may take `limit` ends.
    pub(crate) fn until(&self, limit: Duration) -> Instant {
        Instant::now().checked_add(limit).map_or(self.deadline, |end| end.min(self.deadline))
    }

    /// Whether so little time is left that another attempt would most likely only be cut off, and leave a write in doubt
    /// that is in none: then what is known is the better answer.
    pub(crate) fn is_too_late_for(&self, attempt: Duration) -> bool {
        !self.in_doubt && self.deadline.saturating_duration_since(Instant::now()) < attempt
    }

    pub(crate) fn pause(&mut self, random: &mut Random) -> Duration {
        self.backoff.next(random)
    }

    /// No connection could be had.
    pub(crate) fn unreachable(&mut self, reason: String) -> Next {
        self.setback = Some(Setback::Unreachable(reason));
        Next::Again(Then::Elsewhere)
    }

    /// The error of an operation whose time is over: what kept it from an answer last.
    pub(crate) fn timed_out(&self) -> Error {
        let (kind, reason) = match &self.setback {
            Some(Setback::Unreachable(reason)) if !self.was_reached => (
                ErrorKind::Unavailable,
                format!("no node could be reached; check the endpoints, and that servers run there (last: {reason})"),
            ),
            Some(Setback::NoLeader(reason)) => (ErrorKind::NoLeader, reason.clone()),
            Some(Setback::NotInTime(reason)) => (ErrorKind::Timeout, reason.clone()),
            Some(Setback::Unreachable(reason) | Setback::Unanswered(reason)) => {
                (ErrorKind::Timeout, format!("no answer in time (last: {reason})"))
            }
            None if self.was_reached => (ErrorKind::Timeout, "no answer in time".to_owned()),
            None => (ErrorKind::Unavailable, "no node could be reached in time".to_owned()),
        };
        Error::new(kind, reason).in_doubt(self.in_doubt)
    }

    /// The connection gave no answer to a request that `before` was in doubt or not.
    pub(crate) fn no_answer(&mut self, address: &str, why: &NoAnswer, before: bool) -> Next {
        self.was_reached = true;
        if *why == NoAnswer::NotSent {
            self.in_doubt = before;
        }
        if !matches!(self.setback, Some(Setback::NotInTime(_))) {
            self.setback = Some(Setback::Unanswered(format!("{address}: {why}")));
        }
        Next::Again(Then::Elsewhere)
    }

    /// A server answered a request that `before` was in doubt or not.
    pub(crate) fn judge(&mut self, response: Response, before: bool) -> Next {
        self.was_reached = true;
        match response.body {
            Ok(ResponseBody::Written(Err(refusal))) => self.refused(&refusal, before),
            Ok(
                body @ (ResponseBody::Written(Ok(Outcome { .. }))
                | ResponseBody::Answer(_)
                | ResponseBody::NodeStatus(_)
                | ResponseBody::StateHash { .. }
                | ResponseBody::Leadership(_)
                | ResponseBody::Members(_)
                | ResponseBody::Unwatched),
            ) => Next::Done(body),
            Err(error) => {
                self.in_doubt = before || error.maybe_applied;
                self.not_done(error)
            }
        }
    }

    /// The server could not do it.
    fn not_done(&mut self, error: RequestError) -> Next {
        let failed = |kind, error: RequestError, doubt| Next::Failed(Error::new(kind, error.message).in_doubt(doubt));
        match error.kind {
            RequestErrorKind::NoLeader | RequestErrorKind::LeaderChanged => {
                self.setback = Some(Setback::NoLeader(error.message));
                Next::Again(Then::Later)
            }
            RequestErrorKind::Timeout => {
                self.setback = Some(Setback::NotInTime(error.message));
                Next::Again(Then::Elsewhere)
            }
            RequestErrorKind::Stopping => {
                self.setback = Some(Setback::Unanswered(error.message));
                Next::Again(Then::Elsewhere)
            }
            RequestErrorKind::Overloaded => failed(ErrorKind::Overloaded, error, self.in_doubt),
            RequestErrorKind::NoSpace => failed(ErrorKind::NoSpace, error, self.in_doubt),
            RequestErrorKind::TooLarge => failed(ErrorKind::TooLarge, error, self.in_doubt),
            RequestErrorKind::Invalid => failed(ErrorKind::Invalid, error, self.in_doubt),
            RequestErrorKind::Conflict => failed(ErrorKind::Conflict, error, self.in_doubt),
            RequestErrorKind::Compacted { oldest } => Next::Failed(Error::compacted(error.message, oldest)),
            RequestErrorKind::NotElected => failed(ErrorKind::Timeout, error, self.in_doubt),
            // Or a newer server's reason; its own word on the doubt holds.
            RequestErrorKind::NoSuccessor | RequestErrorKind::NotReady | _ => {
                failed(ErrorKind::Server, error, self.in_doubt)
            }
        }
    }

    /// The store refused the envelope: the same on every replica.
    fn refused(&mut self, refusal: &Refusal, before: bool) -> Next {
        let failed = |kind, doubt| Next::Failed(Error::new(kind, refusal.to_string()).in_doubt(doubt));
        match refusal {
            Refusal::SessionExpired if before => failed(ErrorKind::SessionExpired, true),
            Refusal::SessionExpired => self.renew(true, ErrorKind::SessionExpired, refusal),
            Refusal::DeadlinePassed => self.renew(false, ErrorKind::Timeout, refusal),
            // Only what we said we have is refused so: a bug of ours or theirs, and then nothing is certain.
            Refusal::AlreadyAnswered { .. } => failed(ErrorKind::Server, true),
            // An earlier attempt may still be on its way, and find room.
            Refusal::Overloaded { .. } => failed(ErrorKind::Overloaded, before),
            Refusal::WrongType(_) => failed(ErrorKind::WrongType, false),
            Refusal::TooLarge { .. } | Refusal::TooManyOperations { .. } | Refusal::AnswerTooLarge => {
                failed(ErrorKind::TooLarge, false)
            }
            Refusal::EmptyKey | Refusal::TtlOutOfRange => failed(ErrorKind::Invalid, false),
            Refusal::NoSuchLease { .. } => failed(ErrorKind::NoSuchLease, false),
            Refusal::NoSpace { .. } => failed(ErrorKind::NoSpace, false),
            Refusal::Unreadable => failed(ErrorKind::Server, false),
            _ => failed(ErrorKind::Server, before),
        }
    }

    /// Nothing was applied, and our idea of cluster time was wrong.
    fn renew(&mut self, forget_session: bool, kind: ErrorKind, refusal: &Refusal) -> Next {
        self.in_doubt = false;
        self.renewals += 1;
        if self.renewals > MAX_RENEWALS {
            return Next::Failed(Error::new(kind, refusal.to_string()));
        }
        self.setback = Some(Setback::Unanswered(refusal.to_string()));
        Next::Renew { forget_session }
    }
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
