//! What each answer means for the next attempt and for the doubt about a write. One line a case.

use kv_store::{Effect, Limit, NotAnInteger, Part, Revision};

use super::*;

fn call() -> Call {
    Call::new(Instant::now() + Duration::from_secs(5))
}

fn response(body: Result<ResponseBody, RequestError>) -> Response {
    Response { id: 0, leader: None, body }
}

fn server_error(kind: RequestErrorKind, maybe_applied: bool) -> Response {
    response(Err(RequestError { kind, message: "..".into(), maybe_applied }))
}

fn refusal(refusal: Refusal) -> Response {
    response(Ok(ResponseBody::Written(Err(refusal))))
}

/// The call after a write was sent that was in doubt `before` or not, and answered so.
fn judged(response: Response, before: bool) -> (Next, Call) {
    let mut call = call();
    call.in_doubt = true;
    let next = call.judge(response, before);
    (next, call)
}

#[track_caller]
fn fails(response: Response, before: bool, kind: ErrorKind, maybe_applied: bool) {
    let (next, _) = judged(response.clone(), before);
    let Next::Failed(error) = next else { panic!("{response:?} gives {next:?}") };
    assert_eq!((error.kind(), error.maybe_applied()), (kind, maybe_applied), "{response:?}");
}

#[test]
fn an_answer_ends_the_operation() {
    let outcome = Outcome { revision: Revision(3), effect: Effect::Set { set: true } };
    let body = ResponseBody::Written(Ok(outcome));
    assert_eq!(judged(response(Ok(body.clone())), true).0, Next::Done(body));
}

#[test]
fn a_server_that_did_not_apply_leaves_the_doubt_as_it_was() {
    for before in [false, true] {
        for (kind, then) in [
            (RequestErrorKind::NoLeader, Then::Later),
            (RequestErrorKind::LeaderChanged, Then::Later),
            (RequestErrorKind::Timeout, Then::Elsewhere),
            (RequestErrorKind::Stopping, Then::Elsewhere),
        ] {
            let (next, call) = judged(server_error(kind, false), before);
            assert_eq!((next, call.in_doubt), (Next::Again(then), before), "{kind:?}");
            let (_, call) = judged(server_error(kind, true), before);
            assert!(call.in_doubt, "{kind:?}");
        }
    }
}

#[test]
fn what_will_not_change_ends_the_operation() {
    fails(server_error(RequestErrorKind::Overloaded, false), false, ErrorKind::Overloaded, false);
    fails(server_error(RequestErrorKind::Overloaded, false), true, ErrorKind::Overloaded, true);
    fails(server_error(RequestErrorKind::NoSpace, false), false, ErrorKind::NoSpace, false);
    fails(server_error(RequestErrorKind::NoSpace, false), true, ErrorKind::NoSpace, true);
    fails(server_error(RequestErrorKind::TooLarge, false), false, ErrorKind::TooLarge, false);
    fails(server_error(RequestErrorKind::Invalid, false), false, ErrorKind::Invalid, false);
    fails(server_error(RequestErrorKind::Conflict, false), false, ErrorKind::Conflict, false);
    fails(server_error(RequestErrorKind::NoSuccessor, false), false, ErrorKind::Server, false);
    fails(server_error(RequestErrorKind::NotReady, false), false, ErrorKind::Server, false);
    fails(server_error(RequestErrorKind::NotElected, true), false, ErrorKind::Timeout, true);
}

#[test]
fn a_reply_of_the_store_settles_the_doubt() {
    for before in [false, true] {
        let too_large = Refusal::TooLarge { what: Part::Key, size_bytes: 5_000, limit_bytes: 4_096 };
        fails(refusal(Refusal::WrongType(NotAnInteger::Value)), before, ErrorKind::WrongType, false);
        fails(refusal(too_large), before, ErrorKind::TooLarge, false);
        fails(refusal(Refusal::EmptyKey), before, ErrorKind::Invalid, false);
        fails(refusal(Refusal::Unreadable), before, ErrorKind::Server, false);
        // Not kept by the store: an earlier attempt may still find room.
        fails(refusal(Refusal::Overloaded { what: Limit::Sessions }), before, ErrorKind::Overloaded, before);
        fails(refusal(Refusal::AlreadyAnswered { sequence: 1 }), before, ErrorKind::Server, true);
    }
}

#[test]
fn an_expired_session_is_replaced_unless_an_earlier_attempt_may_have_been_applied() {
    let (next, call) = judged(refusal(Refusal::SessionExpired), false);
    assert_eq!((next, call.in_doubt), (Next::Renew { forget_session: true }, false));
    fails(refusal(Refusal::SessionExpired), true, ErrorKind::SessionExpired, true);
}

#[test]
fn a_passed_deadline_settles_the_doubt_and_asks_for_a_better_clock() {
    for before in [false, true] {
        let (next, call) = judged(refusal(Refusal::DeadlinePassed), before);
        assert_eq!((next, call.in_doubt), (Next::Renew { forget_session: false }, false));
    }
}

#[test]
fn beginning_anew_has_an_end() {
    let mut call = call();
    for _ in 0..MAX_RENEWALS {
        assert_eq!(call.judge(refusal(Refusal::SessionExpired), false), Next::Renew { forget_session: true });
    }
    let Next::Failed(error) = call.judge(refusal(Refusal::SessionExpired), false) else { panic!("goes on") };
    assert_eq!((error.kind(), error.maybe_applied()), (ErrorKind::SessionExpired, false));
}

#[test]
fn without_an_answer_the_doubt_depends_on_whether_it_was_sent() {
    for before in [false, true] {
        for (why, in_doubt) in
            [(NoAnswer::NotSent, before), (NoAnswer::Silent, true), (NoAnswer::Lost("reset".into()), true)]
        {
            let mut call = call();
            call.in_doubt = true;
            assert_eq!(call.no_answer("a:1", &why, before), Next::Again(Then::Elsewhere));
            assert_eq!(call.in_doubt, in_doubt, "{why:?}");
        }
    }
}

#[test]
fn when_time_is_over_the_last_setback_names_the_error() {
    let mut never_reached = call();
    never_reached.unreachable("a:1: refused".into());
    assert_eq!(never_reached.timed_out().kind(), ErrorKind::Unavailable);

    let mut silent = call();
    silent.no_answer("a:1", &NoAnswer::Silent, false);
    assert_eq!(silent.timed_out().kind(), ErrorKind::Timeout);

    // Reached once and then gone: it was not simply down.
    let mut gone = call();
    gone.no_answer("a:1", &NoAnswer::Lost("reset".into()), false);
    gone.unreachable("a:1: refused".into());
    assert_eq!(gone.timed_out().kind(), ErrorKind::Timeout);

    let mut leaderless = call();
    leaderless.judge(server_error(RequestErrorKind::NoLeader, false), false);
    let error = leaderless.timed_out();
    assert_eq!((error.kind(), error.maybe_applied()), (ErrorKind::NoLeader, false));
}

#[test]
fn the_last_moments_are_not_spent_on_making_a_doubt() {
    let mut call = call();
    assert!(!call.is_too_late_for(Duration::from_millis(50)));
    assert!(call.is_too_late_for(Duration::from_secs(60)));
    // A doubt that is there can only get better.
    call.in_doubt = true;
    assert!(!call.is_too_late_for(Duration::from_secs(60)));
}

#[test]
fn what_a_server_said_outlives_the_silence_after_it() {
    let mut call = Call::new(Instant::now());
    call.not_done(RequestError {
        kind: RequestErrorKind::Timeout,
        message: "this node is behind".into(),
        maybe_applied: false,
    });
    call.no_answer("a:1", &NoAnswer::NotSent, false);
    let error = call.timed_out();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Timeout, "this node is behind"));
}
