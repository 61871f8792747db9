//! Sessions (rule 8, §6.3): a command is applied once, however often its envelope comes.
//!
//! Owns: which requests were applied, and what was answered. Does not own: what they did (`execute`).
//!
//! A session needs no write of its own. It begins with the first command of a client the table does not know, and leaves
//! when nobody can need it any more. Between the two, each reply is kept until the client says, with a later
//! request, that it will not ask for it again.
//!
//! # Why a command is never applied twice
//! Say an envelope with birth *b* was applied. While its session is in the table, a copy finds the kept reply, or a
//! `lowest_unanswered` above its sequence. The session leaves only at a stamp *t* with *b* + window < *t*
//! ([`Session::extend`]), and stamps never fall. From then on a copy is refused: either its client is unknown and *b*
//! older than the window, or the client came back under a later birth, and *b* is not that session's. A deadline
//! is not needed for the argument, so its clamp cannot hurt it.
//!
//! # What a refusal here says
//! `DeadlinePassed` comes last, after every sign that a copy was applied: whoever gets it knows that the command was not and
//! will never be applied. `Overloaded` says only that *this* copy was not: another one may find room later.
//! Neither is kept, as keeping needs the room that is missing, and stamps that never fall keep the first one true.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::{Limit, Outcome, Refusal};
use crate::envelope::SessionHeader;
use crate::limits::{EXPIRIES_PER_COMMAND, Limits, MAX_AHEAD_NS, MAX_KEPT_BYTES, SESSION_WINDOW_NS};
use crate::types::{ClientId, Stamp};

/// What a command was answered, for good.
pub(crate) type Reply = Result<Outcome, Refusal>;

/// What to do with a command that is not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Apply it, then [`Sessions::keep`] the reply.
    Fresh,
    /// It was applied before; answer the same.
    Repeated(Reply),
}

/// All sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sessions {
    limits: Limits,
    by_client: BTreeMap<ClientId, Session>,
    /// One pair a session: the last stamp at which it must still be there.
    by_expiry: BTreeSet<(Stamp, ClientId)>,
    /// The kept replies of all sessions, encoded.
    kept_bytes: usize,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// The same in all its requests: a client that comes back under another birth is another session, which must not
    /// take the old one's late copies for its own.
    birth: Stamp,
    /// Only rises.
    lowest_unanswered: u64,
    /// Only rises. The last stamp at which the session must still be there.
    needed_until: Stamp,
    /// By sequence; none below `lowest_unanswered`.
    replies: BTreeMap<u64, KeptReply>,
    /// The sum over `replies`.
    kept_bytes: usize,
}

/// A reply that may be asked for again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptReply {
    pub(crate) reply: Reply,
    /// Its encoded size.
    pub(crate) size_bytes: usize,
}

impl Sessions {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, by_client: BTreeMap::new(), by_expiry: BTreeSet::new(), kept_bytes: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_client.len()
    }

    /// The limits of the machine.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// All of them, by client: what a snapshot captures.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ClientId, &Session)> {
        self.by_client.iter().map(|(client, session)| (*client, session))
    }

    /// Takes a session from a snapshot.
    pub(crate) fn restore(&mut self, client: ClientId, session: Session) {
        self.by_expiry.insert((session.needed_until, client));
        self.kept_bytes += session.kept_bytes;
        let before = self.by_client.insert(client, session);
        assert!(before.is_none(), "client {client:?} has one session");
    }

    /// Drops sessions nobody can need any more, the longest expired first, a bounded number of them.
    pub(crate) fn expire(&mut self, now: Stamp) {
        for _ in 0..EXPIRIES_PER_COMMAND {
            let Some((needed_until, client)) = self.by_expiry.first().copied() else { return };
            if needed_until >= now {
                return;
            }
            self.by_expiry.remove(&(needed_until, client));
            self.kept_bytes -= self.by_client.remove(&client).map_or(0, |session| session.kept_bytes);
        }
    }

    /// Decides whether a request is applied, at the stamp of its entry.
    pub(crate) fn admit(&mut self, header: &SessionHeader, now: Stamp) -> Result<Admission, Refusal> {
        if header.birth > now.plus_ns(MAX_AHEAD_NS) {
            // No leader can have given this time. It would pin its session, and never look old afterwards.
            return Err(Refusal::SessionExpired);
        }
        match self.by_client.get_mut(&header.client) {
            Some(session) if session.birth != header.birth => Err(Refusal::SessionExpired),
            Some(session) => {
                let (was, kept_bytes) = (session.needed_until, session.kept_bytes);
                session.extend(header, now);
                self.kept_bytes -= kept_bytes - session.kept_bytes;
                if session.needed_until != was {
                    self.by_expiry.remove(&(was, header.client));
                    self.by_expiry.insert((session.needed_until, header.client));
                }
                session.admit(header, now, &self.limits, self.kept_bytes)
            }
            None => self.admit_unknown(header, now),
        }
    }

    fn admit_unknown(&mut self, header: &SessionHeader, now: Stamp) -> Result<Admission, Refusal> {
        if header.birth.plus_ns(SESSION_WINDOW_NS) < now {
            // The session may have been here, and this request applied.
            return Err(Refusal::SessionExpired);
        }
        let session = Session::new(header, now);
        let admission = session.admit(header, now, &self.limits, self.kept_bytes)?;
        if self.by_client.len() >= self.limits.sessions {
            return Err(Refusal::Overloaded { what: Limit::Sessions });
        }
        self.by_expiry.insert((session.needed_until, header.client));
        self.by_client.insert(header.client, session);
        Ok(admission)
    }

    /// Keeps the reply to a request that was admitted as [`Admission::Fresh`] and applied.
    pub(crate) fn keep(&mut self, header: &SessionHeader, reply: &Reply) {
        let session = self.by_client.get_mut(&header.client).expect("admitting a request makes its session");
        let size_bytes = encoded_bytes(reply);
        let before = session.replies.insert(header.sequence, KeptReply { reply: reply.clone(), size_bytes });
        assert!(before.is_none(), "request {} of client {:?} was applied twice", header.sequence, header.client);
        session.kept_bytes += size_bytes;
        self.kept_bytes += size_bytes;
    }
}

impl Session {
    fn new(header: &SessionHeader, now: Stamp) -> Self {
        let mut session = Self {
            birth: header.birth,
            lowest_unanswered: 0,
            needed_until: Stamp(0),
            replies: BTreeMap::new(),
            kept_bytes: 0,
        };
        session.extend(header, now);
        session
    }

    /// A session of a snapshot, before its replies. `None` if it would leave so early that a late copy could be applied
    /// again (see the module's argument).
    pub(crate) fn restored(birth: Stamp, lowest_unanswered: u64, needed_until: Stamp) -> Option<Self> {
        let outlives_window = needed_until >= birth.plus_ns(SESSION_WINDOW_NS);
        outlives_window.then(|| Self {
            birth,
            lowest_unanswered,
            needed_until,
            replies: BTreeMap::new(),
            kept_bytes: 0,
        })
    }

    /// Takes the next reply from a snapshot, `size_bytes` long there. `false` if it is not above the ones before it and
    /// unanswered, or is longer there than it need be.
    pub(crate) fn restore_reply(&mut self, sequence: u64, reply: Reply, size_bytes: usize) -> bool {
        let follows = self.replies.last_key_value().is_none_or(|(last, _)| *last < sequence);
        if !follows || sequence < self.lowest_unanswered || size_bytes != encoded_bytes(&reply) {
            return false;
        }
        self.replies.insert(sequence, KeptReply { reply, size_bytes });
        self.kept_bytes += size_bytes;
        true
    }

    pub(crate) fn birth(&self) -> Stamp {
        self.birth
    }

    pub(crate) fn lowest_unanswered(&self) -> u64 {
        self.lowest_unanswered
    }

    pub(crate) fn needed_until(&self) -> Stamp {
        self.needed_until
    }

    /// The kept replies, by sequence.
    pub(crate) fn replies(&self) -> &BTreeMap<u64, KeptReply> {
        &self.replies
    }

    /// Takes what a request's header says about its session. True whatever becomes of the request itself.
    fn extend(&mut self, header: &SessionHeader, now: Stamp) {
        let deadline = header.deadline.min(now.plus_ns(MAX_AHEAD_NS));
        let needed_until = self.birth.max(deadline).plus_ns(SESSION_WINDOW_NS);
        self.needed_until = self.needed_until.max(needed_until);

        if header.lowest_unanswered > self.lowest_unanswered {
            self.lowest_unanswered = header.lowest_unanswered;
            let still_kept = self.replies.split_off(&self.lowest_unanswered);
            let answered = std::mem::replace(&mut self.replies, still_kept);
            self.kept_bytes -= answered.values().map(|kept| kept.size_bytes).sum::<usize>();
        }
    }

    /// `all_kept_bytes` are those of all sessions.
    fn admit(
        &self,
        header: &SessionHeader,
        now: Stamp,
        limits: &Limits,
        all_kept_bytes: usize,
    ) -> Result<Admission, Refusal> {
        if header.sequence < self.lowest_unanswered {
            return Err(Refusal::AlreadyAnswered { sequence: header.sequence });
        }
        if let Some(kept) = self.replies.get(&header.sequence) {
            return Ok(Admission::Repeated(kept.reply.clone()));
        }
        if header.deadline < now {
            return Err(Refusal::DeadlinePassed);
        }
        let is_full =
            self.replies.len() >= limits.kept_replies_per_session || self.kept_bytes >= limits.kept_bytes_per_session;
        if is_full || all_kept_bytes >= MAX_KEPT_BYTES {
            return Err(Refusal::Overloaded { what: Limit::KeptReplies });
        }
        Ok(Admission::Fresh)
    }
}

/// The size of a reply as it would be stored, which is the same on every replica, unlike its size in memory.
fn encoded_bytes(reply: &Reply) -> usize {
    postcard::serialize_with_flavor(reply, postcard::ser_flavors::Size::default()).expect("counting cannot fail")
}
