//! Sessions against a naive twin that forgets nothing, and logs with duplicates against logs without.

use std::collections::BTreeMap;

use kv_store::{Command, KvStore, Limit, Limits, MAX_AHEAD_NS, Refusal, SESSION_WINDOW_NS, SessionHeader, Stamp};
use proptest::prelude::*;

use crate::support::{MINUTE_NS, Reply, Shop, bytes, counted, envelope, header, increment, set};

pub(crate) const LIMITS: Limits = Limits { sessions: 3, kept_replies_per_session: 3, kept_bytes_per_session: 1_000 };

/// One try of a request, and how long after the entry before it.
#[derive(Clone, Debug)]
pub(crate) struct Try {
    pub(crate) session: SessionHeader,
    pub(crate) later_ns: u64,
}

impl Try {
    /// A counter of its own for each request: applied twice, it shows 2.
    fn counter(&self) -> (u128, u64) {
        (self.session.client.0, self.session.sequence)
    }

    fn command(&self) -> Command {
        let (client, sequence) = self.counter();
        increment(&format!("{client}/{sequence}"))
    }
}

/// A few clients and sequences, times that meet every boundary now and then.
pub(crate) fn tries() -> impl Strategy<Value = Vec<Try>> {
    let minutes = |limit: u64| (0..=limit).prop_map(|minutes| minutes * MINUTE_NS);
    let deadline = prop_oneof![4 => minutes(100), 1 => Just(u64::MAX)];
    let birth = prop_oneof![3 => Just(0), 3 => minutes(80), 1 => minutes(200)];
    let request =
        (1u128..6, 1u64..7, 0u64..3, birth, deadline).prop_map(|(client, sequence, before, birth, deadline)| {
            SessionHeader {
                birth: Stamp(birth),
                lowest_unanswered: sequence.saturating_sub(before),
                deadline: Stamp(deadline),
                ..header(client, sequence)
            }
        });
    // What the tries are drawn from: each request has one header for ever, as a client's retries have.
    let requests = proptest::collection::vec(request, 1..25).prop_map(|requests| {
        let by_number: BTreeMap<_, _> =
            requests.into_iter().map(|session| ((session.client, session.sequence), session)).collect();
        by_number.into_values().collect::<Vec<_>>()
    });
    let later = prop_oneof![6 => Just(0), 4 => minutes(3), 2 => minutes(15), 1 => minutes(90)];
    let picks = proptest::collection::vec((any::<prop::sample::Index>(), later), 1..60);
    (requests, picks).prop_map(|(requests, picks)| {
        picks.into_iter().map(|(pick, later_ns)| Try { session: *pick.get(&requests), later_ns }).collect()
    })
}

/// Everything that ever happened, searched from the start for each question.
#[derive(Default)]
struct Model {
    /// All headers that reached a session, with their stamps.
    touches: Vec<(u64, SessionHeader)>,
    /// All replies, with the stamp at which the command was applied.
    applied: Vec<(u64, SessionHeader, Reply)>,
}

struct Known {
    birth: u64,
    since: u64,
    lowest_unanswered: u64,
}

impl Model {
    /// The session as its touches made it, unless it has left by `now`.
    fn known(&self, session: &SessionHeader, now: u64) -> Option<Known> {
        let mut known: Option<(Known, u64)> = None;
        for (at, touch) in self.touches.iter().filter(|(_, touch)| touch.client == session.client) {
            let deadline = touch.deadline.0.min(at + MAX_AHEAD_NS);
            let needed_until = deadline.max(touch.birth.0) + SESSION_WINDOW_NS;
            known = match known {
                Some((old, until)) if until >= *at => {
                    let lowest_unanswered = old.lowest_unanswered.max(touch.lowest_unanswered);
                    Some((Known { lowest_unanswered, ..old }, until.max(needed_until)))
                }
                _ => Some((
                    Known { birth: touch.birth.0, since: *at, lowest_unanswered: touch.lowest_unanswered },
                    needed_until,
                )),
            };
        }
        known.filter(|(_, until)| *until >= now).map(|(known, _)| known)
    }

    fn sessions(&self, now: u64) -> usize {
        (0..10).filter(|client| self.known(&header(*client, 0), now).is_some()).count()
    }

    /// `Ok(None)`: to be applied. `Ok(Some(..))`: to be answered from memory.
    fn expect(&mut self, session: &SessionHeader, now: u64) -> Result<Option<Reply>, Refusal> {
        let (birth, sequence) = (session.birth.0, session.sequence);
        if birth > now + MAX_AHEAD_NS {
            return Err(Refusal::SessionExpired);
        }
        let known = self.known(session, now);
        if known.as_ref().is_some_and(|known| known.birth != birth) {
            return Err(Refusal::SessionExpired);
        }
        let is_known = known.is_some();
        if !is_known && birth + SESSION_WINDOW_NS < now {
            return Err(Refusal::SessionExpired);
        }
        let sessions = self.sessions(now);
        self.touches.push((now, *session));
        let known = self.known(session, now).unwrap();
        let verdict = self.judge(session, now, &known);
        let is_crowded = !is_known && verdict == Ok(None) && sessions >= LIMITS.sessions;
        let verdict = if is_crowded { Err(Refusal::Overloaded { what: Limit::Sessions }) } else { verdict };
        if !is_known && verdict.is_err() {
            self.touches.pop();
        }
        assert!(sequence >= known.lowest_unanswered || verdict.is_err());
        verdict
    }

    fn judge(&self, session: &SessionHeader, now: u64, known: &Known) -> Result<Option<Reply>, Refusal> {
        if session.sequence < known.lowest_unanswered {
            return Err(Refusal::AlreadyAnswered { sequence: session.sequence });
        }
        let kept: Vec<_> = self
            .applied
            .iter()
            .filter(|(at, applied, _)| {
                applied.client == session.client && *at >= known.since && applied.sequence >= known.lowest_unanswered
            })
            .collect();
        if let Some((_, _, reply)) = kept.iter().find(|(_, applied, _)| applied.sequence == session.sequence) {
            return Ok(Some(reply.clone()));
        }
        if session.deadline.0 < now {
            return Err(Refusal::DeadlinePassed);
        }
        if kept.len() >= LIMITS.kept_replies_per_session {
            return Err(Refusal::Overloaded { what: Limit::KeptReplies });
        }
        Ok(None)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn sessions_do_what_perfect_memory_does(tries in tries()) {
        let mut shop = Shop::with(LIMITS);
        let mut model = Model::default();
        let mut applied = BTreeMap::new();
        let mut now = 0;
        for attempt in tries {
            now += attempt.later_ns;
            let expected = model.expect(&attempt.session, now);
            let reply = shop.request(now, attempt.session, attempt.command());
            match expected {
                Err(refusal) => prop_assert_eq!(reply, Err(refusal)),
                Ok(Some(first)) => prop_assert_eq!(reply, first),
                Ok(None) => {
                    // The promise itself, whatever the model says: no request is ever applied twice.
                    prop_assert_eq!(counted(&reply), 1);
                    prop_assert_eq!(applied.insert(attempt.counter(), reply.clone()), None);
                    model.applied.push((now, attempt.session, reply));
                }
            }
            prop_assert_eq!(shop.store.session_count(), model.sessions(now));
        }
        prop_assert_eq!(shop.store.key_count(), applied.len());
    }
}

/// A log as a network makes it: requests in order, each perhaps with late copies.
#[derive(Clone, Debug)]
struct Request {
    client: u128,
    command: Command,
    /// How many entries later each copy comes.
    copies: Vec<usize>,
}

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let key = || "[abc]".prop_map(|key| bytes(&key));
    let command = prop_oneof![
        key().prop_map(|key| Command::Increment { key, by: 1 }),
        key().prop_map(|key| Command::Delete { key }),
        ("[abc]", "[0-9x]").prop_map(|(key, value)| set(&key, &value)),
        key().prop_map(|key| Command::Set { key, value: bytes("0"), if_absent: true }),
    ];
    let request = (1u128..4, command, proptest::collection::vec(0usize..12, 0..3))
        .prop_map(|(client, command, copies)| Request { client, command, copies });
    proptest::collection::vec(request, 1..40)
}

proptest! {
    #[test]
    fn a_log_with_duplicates_is_a_log_without(requests in requests(), window in 1u64..4) {
        let mut sequences = BTreeMap::<u128, u64>::new();
        let entries: Vec<_> = requests.iter().map(|request| {
            let sequence = sequences.entry(request.client).or_default();
            *sequence += 1;
            let session = SessionHeader {
                lowest_unanswered: sequence.saturating_sub(window),
                deadline: Stamp(1_000_000),
                ..header(request.client, *sequence)
            };
            envelope(session, request.command.clone())
        }).collect();

        let (mut plain, mut noisy, mut twin) = (KvStore::default(), KvStore::default(), KvStore::default());
        let mut replies = Vec::new();
        for (place, entry) in entries.iter().enumerate() {
            let index = 1_000 * (place as u64 + 1);
            let stamp = Stamp(place as u64);
            let reply = plain.apply(index, stamp, entry);
            prop_assert_eq!(&noisy.apply(index, stamp, entry), &reply);
            prop_assert_eq!(&twin.apply(index, stamp, entry), &reply);
            replies.push(reply);

            let copies = (0..=place).flat_map(|earlier| {
                let copies = requests[earlier].copies.iter().filter(move |later| earlier + **later == place);
                copies.map(move |_| earlier)
            });
            for (offset, earlier) in (1..).zip(copies) {
                let answer = noisy.apply(index + offset, stamp, &entries[earlier]);
                let is_repeated = answer == replies[earlier];
                prop_assert!(is_repeated || matches!(answer, Err(Refusal::AlreadyAnswered { .. })), "{:?}", answer);
            }
            prop_assert_eq!((noisy.revision(), noisy.state_hash()), (plain.revision(), plain.state_hash()));
        }
        // One entry more, so that both have applied up to the same index: now nothing at all may differ.
        let last = envelope(header(9, 1), set("end", ""));
        for store in [&mut plain, &mut noisy, &mut twin] {
            store.apply(u64::MAX, Stamp(entries.len() as u64), &last).unwrap();
        }
        prop_assert_eq!(&plain, &twin, "two replicas");
        prop_assert_eq!(&plain, &noisy);
    }
}
