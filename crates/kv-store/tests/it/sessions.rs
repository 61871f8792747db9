//! Sessions, rule by rule (rule 8).

use bytes::Bytes;
use kv_store::{
    Command, EXPIRIES_PER_COMMAND, Effect, Limit, Limits, MAX_AHEAD_NS, MAX_VALUE_BYTES, NotAnInteger, Part, Refusal,
    Revision, SESSION_WINDOW_NS, SessionHeader, Stamp,
};

use crate::support::{MINUTE_NS, SECOND_NS, Shop, bytes, counted, done, header, increment, set};

/// A request with its own deadline.
fn until(header: SessionHeader, deadline_ns: u64) -> SessionHeader {
    SessionHeader { deadline: Stamp(deadline_ns), ..header }
}

/// A request of a session born at another time than 0.
fn born(header: SessionHeader, birth_ns: u64) -> SessionHeader {
    SessionHeader { birth: Stamp(birth_ns), ..header }
}

/// A request that says which others are unanswered.
fn unanswered(header: SessionHeader, lowest_unanswered: u64) -> SessionHeader {
    SessionHeader { lowest_unanswered, ..header }
}

const EXPIRED: Refusal = Refusal::SessionExpired;
const LATE: Refusal = Refusal::DeadlinePassed;

#[test]
fn a_retry_gets_the_first_reply_and_changes_nothing() {
    let mut shop = Shop::new();
    let first = shop.request(1, header(1, 1), increment("n"));
    shop.request(2, header(2, 1), increment("n")).unwrap();
    let before = shop.store.state_hash();
    assert_eq!(shop.request(3, header(1, 1), increment("n")), first, "with the revision of then");
    assert_eq!((shop.value("n").as_deref(), shop.store.revision()), (Some("2"), Revision(2)));
    assert_eq!(shop.store.state_hash(), before);
}

#[test]
fn a_sequence_reused_with_another_command_gets_the_first_reply() {
    let mut shop = Shop::new();
    let first = shop.request(1, header(1, 1), increment("n"));
    assert_eq!(shop.request(2, header(1, 1), set("n", "9")), first);
    assert_eq!(shop.value("n").as_deref(), Some("1"));
}

#[test]
fn clients_do_not_share_sequences() {
    let mut shop = Shop::new();
    for client in [1, 2, u128::MAX] {
        shop.request(1, header(client, 1), increment("n")).unwrap();
    }
    assert_eq!((shop.value("n").as_deref(), shop.store.session_count()), (Some("3"), 3));
}

#[test]
fn what_the_store_decided_is_kept_even_if_it_is_a_refusal() {
    let mut shop = Shop::new();
    shop.request(1, header(9, 1), set("n", "text")).unwrap();
    let not_integer = Err(Refusal::WrongType(NotAnInteger::Value));
    let lowest_1 = |sequence| unanswered(header(1, sequence), 1);
    assert_eq!(shop.request(1, lowest_1(1), increment("n")), not_integer);
    shop.request(1, header(9, 2), set("n", "1")).unwrap();
    assert_eq!(shop.request(1, lowest_1(1), increment("n")), not_integer, "though it could be done now");
    assert_eq!(shop.request(1, lowest_1(2), increment("")), Err(Refusal::EmptyKey));
    assert_eq!(shop.request(1, lowest_1(2), increment("n")), Err(Refusal::EmptyKey));

    let value = Bytes::from(vec![0; MAX_VALUE_BYTES + 1]);
    let too_large = shop.request(1, lowest_1(3), Command::Set { key: bytes("n"), value, if_absent: false });
    assert!(matches!(too_large, Err(Refusal::TooLarge { what: Part::Value, .. })));
    assert_eq!(shop.request(1, lowest_1(3), set("n", "2")), too_large);
    assert_eq!(shop.value("n").as_deref(), Some("1"));
}

#[test]
fn requests_in_flight_together_have_no_order() {
    let mut shop = Shop::new();
    let request = |sequence| unanswered(header(1, sequence), 1);
    let third = shop.request(1, request(3), increment("n"));
    let first = shop.request(2, request(1), increment("n"));
    let second = shop.request(3, request(2), increment("n"));
    assert_eq!([&first, &second, &third].map(counted), [2, 3, 1]);
    assert_eq!(shop.request(4, request(1), increment("n")), first);
    assert_eq!(shop.request(4, request(3), increment("n")), third);
}

#[test]
fn the_lowest_unanswered_request_can_still_be_retried_and_none_below() {
    let mut shop = Shop::new();
    let request = |sequence| unanswered(header(1, sequence), 1);
    for sequence in [1, 2, 3] {
        shop.request(1, request(sequence), increment("n")).unwrap();
    }
    shop.request(1, unanswered(header(1, 4), 3), increment("n")).unwrap();
    let answered = |sequence| Err(Refusal::AlreadyAnswered { sequence });
    assert_eq!(shop.request(1, request(1), increment("n")), answered(1));
    assert_eq!(shop.request(1, request(2), increment("n")), answered(2), "the last one below");
    assert_eq!(counted(&shop.request(1, request(3), increment("n"))), 3, "the lowest itself");
    assert_eq!(shop.value("n").as_deref(), Some("4"));
}

#[test]
fn the_lowest_unanswered_request_never_falls() {
    let mut shop = Shop::new();
    shop.request(1, unanswered(header(1, 5), 5), increment("n")).unwrap();
    // A late one, sent before the client knew; never applied, and never will be.
    assert_eq!(
        shop.request(1, unanswered(header(1, 4), 2), set("n", "9")),
        Err(Refusal::AlreadyAnswered { sequence: 4 })
    );
    assert_eq!(
        shop.request(1, unanswered(header(1, 3), 0), set("n", "9")),
        Err(Refusal::AlreadyAnswered { sequence: 3 })
    );
    assert_eq!(shop.value("n").as_deref(), Some("1"));
}

#[test]
fn a_header_that_calls_itself_answered_is_refused_and_opens_nothing() {
    let mut shop = Shop::new();
    let answered = Err(Refusal::AlreadyAnswered { sequence: 1 });
    assert_eq!(shop.request(1, unanswered(header(1, 1), 2), increment("n")), answered);
    assert_eq!(shop.store.session_count(), 0);
}

#[test]
fn an_unknown_session_may_be_as_old_as_the_window() {
    let mut shop = Shop::new();
    let birth = 5 * SECOND_NS;
    let end = birth + SESSION_WINDOW_NS;
    shop.request(end, born(header(1, 1), birth), increment("n")).unwrap();
    assert_eq!(shop.request(end + 1, born(header(2, 1), birth), increment("n")), Err(EXPIRED));
    assert_eq!((shop.value("n").as_deref(), shop.store.session_count()), (Some("1"), 1));
}

#[test]
fn a_session_stays_until_its_last_deadline_and_the_window_have_passed() {
    let deadline = 3 * MINUTE_NS;
    let end = deadline + SESSION_WINDOW_NS;
    let run = |retry_at| {
        let mut shop = Shop::new();
        let first = shop.request(0, until(header(1, 1), deadline), increment("n"));
        // A shorter deadline afterwards takes nothing back.
        shop.request(0, unanswered(until(header(1, 2), 1), 1), increment("n")).unwrap();
        let retry = shop.request(retry_at, until(header(1, 1), deadline), increment("n"));
        assert_eq!(shop.value("n").as_deref(), Some("2"), "applied once each, whenever the retry comes");
        (first, retry, shop.store.session_count())
    };
    let (first, retry, sessions) = run(end);
    assert_eq!((retry, sessions), (first, 1), "long after its deadline: the reply is known, so it is given");
    let (_, retry, sessions) = run(end + 1);
    assert_eq!((retry, sessions), (Err(EXPIRED), 0));
}

#[test]
fn each_request_prolongs_its_session() {
    let mut shop = Shop::new();
    // Born at 0 and busy for an hour: known, so its birth does not matter.
    for (sequence, minute) in (1..).zip(0..60) {
        let now = minute * MINUTE_NS;
        shop.request(now, until(header(1, sequence), now + SECOND_NS), increment("n")).unwrap();
    }
    assert_eq!(shop.value("n").as_deref(), Some("60"));
}

#[test]
fn a_request_is_in_time_at_its_deadline_and_late_afterwards() {
    let mut shop = Shop::new();
    let request = |sequence| unanswered(until(header(1, sequence), 10), 1);
    assert!(shop.request(10, request(1), increment("n")).is_ok());
    assert_eq!(shop.request(11, request(2), increment("n")), Err(LATE));
    assert_eq!(counted(&shop.request(11, request(1), increment("n"))), 1, "applied in time, asked late");
    assert_eq!(shop.value("n").as_deref(), Some("1"));
}

#[test]
fn a_late_request_opens_no_session_and_leaves_no_reply() {
    let mut shop = Shop::new();
    assert_eq!(shop.request(11, until(header(1, 1), 10), increment("n")), Err(LATE));
    assert_eq!(shop.store.session_count(), 0);
    // Not a retry of the same bytes, which stay late for ever; it shows that nothing was kept under the number.
    assert_eq!(counted(&shop.request(11, until(header(1, 1), 11), increment("n"))), 1);
}

#[test]
fn a_deadline_far_ahead_does_not_pin_its_session() {
    let mut shop = Shop::new();
    let forever = header(1, 1);
    assert_eq!(forever.deadline, Stamp(u64::MAX));
    let first = shop.request(0, forever, increment("n"));
    let end = MAX_AHEAD_NS + SESSION_WINDOW_NS;
    let bystander = |sequence| born(header(2, sequence), end);
    shop.request(end, bystander(1), increment("m")).unwrap();
    assert_eq!(shop.store.session_count(), 2);
    shop.request(end + 1, bystander(2), increment("m")).unwrap();
    assert_eq!(shop.store.session_count(), 1, "gone an hour and the window later");
    assert_eq!(shop.request(end + 1, forever, increment("n")), Err(EXPIRED), "in time, but its session is forgotten");
    assert_eq!((first, shop.value("n").as_deref()), (done(1, Effect::Incremented { value: 1 }), Some("1")));
}

#[test]
fn a_birth_ahead_of_the_stamp_is_honest_up_to_a_limit() {
    let mut shop = Shop::new();
    let ahead = |client| born(until(header(client, 1), SECOND_NS), SECOND_NS + MAX_AHEAD_NS);
    assert_eq!(shop.request(SECOND_NS - 1, ahead(1), increment("n")), Err(EXPIRED));
    let first = shop.request(SECOND_NS, ahead(1), increment("n"));
    assert_eq!(counted(&first), 1);

    // It must not look young once it has left: it stays until its birth is older than the window.
    let end = SECOND_NS + MAX_AHEAD_NS + SESSION_WINDOW_NS;
    assert_eq!(shop.request(end, ahead(1), increment("n")), first);
    assert_eq!(shop.request(end + 1, ahead(1), increment("n")), Err(EXPIRED));
    assert_eq!((shop.value("n").as_deref(), shop.store.session_count()), (Some("1"), 0));
}

/// A client that comes back under its old id must not turn the late copies of its first session into new requests.
#[test]
fn a_client_that_comes_back_later_is_another_session() {
    let mut shop = Shop::new();
    let (old, comeback) = (until(header(1, 5), 0), SESSION_WINDOW_NS + 1);
    let new = born(unanswered(header(1, 1), 1), comeback);
    shop.request(0, old, increment("n")).unwrap();
    assert_eq!(shop.request(0, born(old, 1), increment("n")), Err(EXPIRED), "one birth a session");
    shop.request(comeback, new, increment("n")).unwrap();
    let retry = SessionHeader { deadline: Stamp(u64::MAX), ..old };
    assert_eq!(shop.request(comeback, retry, increment("n")), Err(EXPIRED));
    assert_eq!(shop.value("n").as_deref(), Some("2"));
}

#[test]
fn a_full_table_refuses_the_unknown_and_serves_the_known() {
    let mut shop = Shop::with(Limits { sessions: 2, ..Limits::default() });
    let request = |client, sequence| unanswered(until(header(client, sequence), 0), 1);
    shop.request(0, request(1, 1), increment("n")).unwrap();
    shop.request(0, request(2, 1), increment("n")).unwrap();
    let overloaded = Err(Refusal::Overloaded { what: Limit::Sessions });
    assert_eq!(shop.request(0, request(3, 1), increment("n")), overloaded);
    assert_eq!(counted(&shop.request(0, request(1, 2), increment("n"))), 3);
    assert_eq!(counted(&shop.request(0, request(2, 1), increment("n"))), 2, "no live session was evicted");
    assert_eq!(shop.store.session_count(), 2);

    let newcomer = |now| born(until(header(3, 1), now), now);
    assert_eq!(shop.request(SESSION_WINDOW_NS, newcomer(SESSION_WINDOW_NS), increment("n")), overloaded);
    let now = SESSION_WINDOW_NS + 1;
    assert_eq!(counted(&shop.request(now, newcomer(now), increment("n"))), 4, "the dead make room");
    assert_eq!(shop.store.session_count(), 1);
}

#[test]
fn the_expired_leave_a_bounded_number_at_a_time_oldest_first() {
    let mut shop = Shop::new();
    let crowd = 2 * EXPIRIES_PER_COMMAND + 3;
    for client in 0..crowd {
        shop.request(0, until(header(client as u128, 1), client as u64), increment("n")).unwrap();
    }
    let now = SESSION_WINDOW_NS + crowd as u64;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        assert_eq!(shop.entry(now, &Bytes::new()), Err(Refusal::Unreadable), "any entry moves time on");
        sessions.push(shop.store.session_count());
    }
    assert_eq!(sessions, [EXPIRIES_PER_COMMAND + 3, 3, 0, 0]);
}

#[test]
fn an_expired_session_that_is_still_there_is_still_known() {
    let mut shop = Shop::new();
    let crowd = EXPIRIES_PER_COMMAND as u128 + 1;
    for client in 1..=crowd {
        // Nearly the same deadline; the last client's is the latest, so that it is the one left.
        shop.request(0, until(header(client, 1), client as u64), increment("n")).unwrap();
    }
    let now = SESSION_WINDOW_NS + 2 * crowd as u64;
    let retry = shop.request(now, until(header(crowd, 1), crowd as u64), increment("n"));
    assert_eq!(counted(&retry), crowd as i64, "the reply of then");
    assert_eq!(shop.store.session_count(), 1);
}

#[test]
fn a_session_with_too_many_unanswered_requests_must_wait() {
    let mut shop = Shop::with(Limits { kept_replies_per_session: 2, ..Limits::default() });
    let request = |sequence, lowest| unanswered(header(1, sequence), lowest);
    let overloaded = Err(Refusal::Overloaded { what: Limit::KeptReplies });
    shop.request(1, request(1, 1), increment("n")).unwrap();
    shop.request(1, request(2, 1), increment("n")).unwrap();
    assert_eq!(shop.request(1, request(3, 1), increment("n")), overloaded);
    assert_eq!(counted(&shop.request(1, request(2, 1), increment("n"))), 2, "a retry needs no room");
    assert_eq!(counted(&shop.request(1, header(2, 1), increment("n"))), 3, "other sessions do not suffer");
    assert_eq!(counted(&shop.request(1, request(3, 2), increment("n"))), 4, "an answer received makes room for one");
    assert_eq!(shop.request(1, request(4, 2), increment("n")), overloaded);
}

#[test]
fn the_bytes_of_kept_replies_are_limited_and_come_back() {
    // An increment's reply takes 4 bytes: ok, revision, variant, value.
    let mut shop = Shop::with(Limits { kept_bytes_per_session: 8, ..Limits::default() });
    let request = |sequence, lowest| unanswered(header(1, sequence), lowest);
    let overloaded = Err(Refusal::Overloaded { what: Limit::KeptReplies });
    for round in 0..20 {
        let base = round * 2;
        shop.request(1, request(base + 1, base + 1), increment("n")).unwrap();
        shop.request(1, request(base + 2, base + 1), increment("n")).unwrap();
        assert_eq!(shop.request(1, request(base + 3, base + 1), increment("n")), overloaded, "in round {round}");
    }
    assert_eq!(shop.value("n").as_deref(), Some("40"));
}

#[test]
fn a_refused_request_still_says_what_its_client_received() {
    let mut shop = Shop::with(Limits { kept_replies_per_session: 1, ..Limits::default() });
    shop.request(5, unanswered(header(1, 1), 1), increment("n")).unwrap();
    assert_eq!(shop.request(5, unanswered(until(header(1, 2), 4), 2), increment("n")), Err(LATE));
    let answered = Err(Refusal::AlreadyAnswered { sequence: 1 });
    assert_eq!(shop.request(5, unanswered(header(1, 1), 1), increment("n")), answered);
    assert_eq!(counted(&shop.request(5, unanswered(header(1, 3), 2), increment("n"))), 2);
}

#[test]
fn a_stamp_that_falls_does_not_turn_time_back() {
    let mut shop = Shop::new();
    shop.request(100, header(1, 1), increment("n")).unwrap();
    assert_eq!(shop.request(50, until(header(1, 2), 99), increment("n")), Err(LATE));
    assert_eq!(shop.store.latest_stamp(), Stamp(100));
}

#[test]
#[should_panic(expected = "entry 5 is applied after entry 5")]
fn an_entry_is_applied_once() {
    let mut shop = Shop::new();
    let _ = shop.store.apply(5, Stamp(1), &Bytes::new());
    let _ = shop.store.apply(5, Stamp(1), &Bytes::new());
}

#[test]
fn indexes_may_skip_entries_of_the_protocol() {
    let mut shop = Shop::new();
    let _ = shop.store.apply(5, Stamp(1), &Bytes::new());
    let _ = shop.store.apply(9, Stamp(1), &Bytes::new());
    assert_eq!(shop.store.applied_index(), 9);
}
