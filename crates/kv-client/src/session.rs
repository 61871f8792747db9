//! Sessions: what makes a retry apply once (rules 7 and 8, §6.3).
//!
//! A session is a random client id and a birth in cluster time; opening one costs nothing, since the store creates it at
//! its first write. Each write gets a sequence number, and its header is made once: every retry carries the same bytes, so
//! the store recognises them. The header also names the lowest sequence still unanswered, which lets the store drop
//! the replies below it.
//!
//! A session that rested for half of the store's window is left behind for a new one, while the old one is surely still
//! known: so an application that wakes up after a day does not begin with a refusal.
//!
//! The store keeps a bounded number of replies a session, from the lowest unanswered write on. One write that waits long,
//! while thousands pass it by, would use them up; so a session whose numbers are spread too far takes no more writes
//! until that one is answered, and another session takes them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kv_store::{ClientId, SessionHeader, Stamp};

use crate::error::{Error, ErrorKind};

/// How far a session's newest write may be from its lowest unanswered one. Half of the replies the store keeps.
const MAX_SPREAD: u64 = 512;

/// The most sessions a client has at a time. Each but the last waits for a write that is slow.
const MAX_SESSIONS: usize = 16;

/// The sessions a client writes under.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions {
    live: Arc<Mutex<Vec<Session>>>,
}

#[derive(Debug)]
struct Session {
    client: ClientId,
    birth: Stamp,
    next_sequence: u64,
    unanswered: BTreeSet<u64>,
    last_used: Stamp,
}

/// A write's place in its session, for as long as an answer to it matters. Dropping it, also because the caller no longer
/// waits, tells the store with the next write that its reply need not be kept.
#[derive(Debug)]
pub(crate) struct Ticket {
    header: SessionHeader,
    sessions: Sessions,
}

impl Sessions {
    /// A place for one more write, at cluster time `now`, to be applied before `deadline` or never. Without a usable
    /// session a new one begins, under the id that `draw` gives.
    pub(crate) fn begin(
        &self,
        now: Stamp,
        deadline: Stamp,
        draw: impl FnOnce() -> Result<ClientId, Error>,
    ) -> Result<Ticket, Error> {
        let mut live = self.lock();
        live.retain(|session| !session.has_rested_too_long(now));
        let is_full = live.len() >= MAX_SESSIONS;
        let header = match live.iter_mut().find(|session| session.spread() < MAX_SPREAD) {
            Some(session) => session.next(now, deadline),
            None if is_full => {
                let message = "too many of this client's writes are unanswered; wait for some before writing more";
                return Err(Error::new(ErrorKind::Overloaded, message));
            }
            None => {
                let mut session = Session::new(draw()?, now);
                let header = session.next(now, deadline);
                live.push(session);
                header
            }
        };
        Ok(Ticket { header, sessions: self.clone() })
    }

    /// The store does not know the session `client` any more; no further write uses it.
    pub(crate) fn forget(&self, client: ClientId) {
        self.lock().retain(|session| session.client != client);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Session>> {
        // Nothing between lock and unlock leaves a session half changed, so a panic elsewhere does not spoil it.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    const fn new(client: ClientId, birth: Stamp) -> Self {
        Self { client, birth, next_sequence: 1, unanswered: BTreeSet::new(), last_used: birth }
    }

    const fn has_rested_too_long(&self, now: Stamp) -> bool {
        now.0.saturating_sub(self.last_used.0) > kv_store::SESSION_WINDOW_NS / 2
    }

    fn lowest_unanswered(&self) -> u64 {
        self.unanswered.first().copied().unwrap_or(self.next_sequence)
    }

    fn spread(&self) -> u64 {
        self.next_sequence - self.lowest_unanswered()
    }

    fn next(&mut self, now: Stamp, deadline: Stamp) -> SessionHeader {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.unanswered.insert(sequence);
        self.last_used = now;
        let lowest_unanswered = self.lowest_unanswered();
        SessionHeader { client: self.client, birth: self.birth, sequence, lowest_unanswered, deadline }
    }
}

impl Ticket {
    /// What goes into the envelope, the same in every attempt.
    pub(crate) const fn header(&self) -> &SessionHeader {
        &self.header
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut live = self.sessions.lock();
        if let Some(session) = live.iter_mut().find(|session| session.client == self.header.client) {
            session.unanswered.remove(&self.header.sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u64 = kv_store::SESSION_WINDOW_NS;

    fn begin(sessions: &Sessions, now: u64, id: u128) -> Ticket {
        sessions.begin(Stamp(now), Stamp(now + 5), || Ok(ClientId(id))).unwrap()
    }

    fn place(ticket: &Ticket) -> (u128, u64, u64) {
        (ticket.header.client.0, ticket.header.sequence, ticket.header.lowest_unanswered)
    }

    #[test]
    fn the_lowest_unanswered_follows_what_is_in_flight() {
        let sessions = Sessions::default();
        let first = begin(&sessions, 100, 7);
        let second = begin(&sessions, 101, 8);
        assert_eq!(place(&first), (7, 1, 1));
        assert_eq!(place(&second), (7, 2, 1));
        drop(first);
        let third = begin(&sessions, 102, 9);
        assert_eq!(place(&third), (7, 3, 2));
        drop(third);
        drop(second);
        assert_eq!(place(&begin(&sessions, 103, 10)), (7, 4, 4));
    }

    #[test]
    fn birth_is_the_cluster_time_at_the_beginning_and_the_deadline_each_writes_own() {
        let sessions = Sessions::default();
        let first = begin(&sessions, 100, 7);
        assert_eq!((first.header().birth, first.header().deadline), (Stamp(100), Stamp(105)));
        let second = begin(&sessions, 200, 8);
        assert_eq!((second.header().birth, second.header().deadline), (Stamp(100), Stamp(205)));
    }

    #[test]
    fn a_session_that_rested_for_half_the_window_is_left_behind() {
        let sessions = Sessions::default();
        drop(begin(&sessions, 0, 7));
        assert_eq!(place(&begin(&sessions, WINDOW / 2, 8)), (7, 2, 2));
        let renewed = begin(&sessions, WINDOW + 1, 9);
        assert_eq!((place(&renewed), renewed.header().birth), ((9, 1, 1), Stamp(WINDOW + 1)));
    }

    #[test]
    fn a_forgotten_session_is_not_mixed_up_with_its_successor() {
        let sessions = Sessions::default();
        let old = begin(&sessions, 0, 7);
        sessions.forget(ClientId(7));
        let new = begin(&sessions, 1, 8);
        assert_eq!(place(&new), (8, 1, 1));
        // Neither a second report about the old one nor its end touches the new one.
        sessions.forget(ClientId(7));
        drop(old);
        assert_eq!(place(&begin(&sessions, 2, 9)), (8, 2, 1));
    }

    #[test]
    fn without_an_id_there_is_no_session() {
        let sessions = Sessions::default();
        assert!(sessions.begin(Stamp(0), Stamp(1), || Err(Error::new(ErrorKind::Server, "no entropy"))).is_err());
        assert_eq!(place(&begin(&sessions, 0, 3)), (3, 1, 1));
    }

    #[test]
    fn one_slow_write_does_not_use_up_the_replies_the_store_keeps() {
        let sessions = Sessions::default();
        let slow = begin(&sessions, 0, 7);
        for _ in 1..MAX_SPREAD {
            assert_eq!(begin(&sessions, 0, 8).header().client, ClientId(7));
        }
        // The spread is used up: another session takes over, until the slow write is answered.
        assert_eq!(place(&begin(&sessions, 0, 8)), (8, 1, 1));
        drop(slow);
        assert_eq!(place(&begin(&sessions, 0, 9)), (7, MAX_SPREAD + 1, MAX_SPREAD + 1));
    }

    #[test]
    fn unanswered_writes_are_bounded() {
        let sessions = Sessions::default();
        let most = MAX_SPREAD * MAX_SESSIONS as u64;
        let tickets: Vec<Ticket> = (0..most).map(|id| begin(&sessions, 0, u128::from(id))).collect();
        let refused = sessions.begin(Stamp(0), Stamp(1), || Ok(ClientId(1))).unwrap_err();
        assert_eq!((refused.kind(), refused.maybe_applied()), (ErrorKind::Overloaded, false));
        drop(tickets);
        assert!(sessions.begin(Stamp(0), Stamp(1), || Ok(ClientId(1))).is_ok());
    }
}
