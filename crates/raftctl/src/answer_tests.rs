//! Every JSON shape of the contract, literally.

use super::*;
use crate::failure::FailureKind;

#[track_caller]
fn shape(answer: Answer, exit: u8, line: &str) {
    assert_eq!(answer.exit(), Exit(exit), "{line}");
    assert_eq!(json_line(&Ok(answer)), line);
}

fn value(value: &[u8]) -> Option<Value> {
    Some(Value { value: value.into(), create_revision: 3, mod_revision: 7, version: 2 })
}

fn got(key: &[u8], found: Option<Value>) -> Answer {
    Answer::Get { key: key.into(), found, revision: 11, raw: false }
}

#[test]
fn get() {
    shape(
        got(b"k", value(b"v")),
        0,
        r#"{"ok":true,"op":"get","found":true,"key":"k","value":"v","create_revision":3,"mod_revision":7,"version":2,"revision":11}"#,
    );
    shape(got(b"k", None), 1, r#"{"ok":true,"op":"get","found":false,"key":"k","revision":11}"#);
}

#[test]
fn text_that_is_not_utf_8_is_base64_under_its_own_name() {
    shape(
        got(b"\xff", value(b"\x00\xff")),
        0,
        r#"{"ok":true,"op":"get","found":true,"key_b64":"/w==","value_b64":"AP8=","create_revision":3,"mod_revision":7,"version":2,"revision":11}"#,
    );
    let item = Entry { key: b"a\xff".into(), value: Some(b"\xfe".into()), mod_revision: 3 };
    shape(
        Answer::Scanned(Page { items: vec![item], next: Some(b"\xfd".into()), revision: 11 }),
        0,
        r#"{"ok":true,"op":"scan","items":[{"key_b64":"Yf8=","value_b64":"/g==","mod_revision":3}],"more":true,"next_b64":"/Q==","revision":11}"#,
    );
}

#[test]
fn control_characters_stay_on_one_line() {
    let line = json_line(&Ok(got(b"a\nb", value("\u{1b}[31m\u{2028}".as_bytes()))));
    assert!(line.starts_with(r#"{"ok":true,"op":"get","found":true,"key":"a\nb","value":"\u001b[31m"#), "{line}");
    assert!(!line.contains('\n'));
}

#[test]
fn writes() {
    shape(Answer::Set { set: true, revision: 8 }, 0, r#"{"ok":true,"op":"set","set":true,"revision":8}"#);
    shape(Answer::Set { set: false, revision: 8 }, 1, r#"{"ok":true,"op":"set","set":false,"revision":8}"#);
    shape(Answer::Deleted { deleted: 1, revision: 9 }, 0, r#"{"ok":true,"op":"del","deleted":1,"revision":9}"#);
    shape(Answer::Deleted { deleted: 0, revision: 9 }, 1, r#"{"ok":true,"op":"del","deleted":0,"revision":9}"#);
    shape(Answer::Swapped { swapped: true, revision: 10 }, 0, r#"{"ok":true,"op":"cas","swapped":true,"revision":10}"#);
    shape(
        Answer::Swapped { swapped: false, revision: 10 },
        1,
        r#"{"ok":true,"op":"cas","swapped":false,"revision":10}"#,
    );
    shape(
        Answer::Incremented { value: 42, revision: 11 },
        0,
        r#"{"ok":true,"op":"incr","value":42,"value_str":"42","revision":11}"#,
    );
    shape(
        Answer::Incremented { value: i64::MIN, revision: 11 },
        0,
        r#"{"ok":true,"op":"incr","value":-9223372036854775808,"value_str":"-9223372036854775808","revision":11}"#,
    );
}

#[test]
fn scan() {
    let item = |value: Option<&[u8]>| Entry { key: b"a".into(), value: value.map(Into::into), mod_revision: 3 };
    shape(
        Answer::Scanned(Page { items: vec![item(Some(b"1"))], next: Some(b"b".into()), revision: 11 }),
        0,
        r#"{"ok":true,"op":"scan","items":[{"key":"a","value":"1","mod_revision":3}],"more":true,"next":"b","revision":11}"#,
    );
    shape(
        Answer::Scanned(Page { items: vec![item(None)], next: None, revision: 11 }),
        0,
        r#"{"ok":true,"op":"scan","items":[{"key":"a","mod_revision":3}],"more":false,"revision":11}"#,
    );
}

#[test]
fn status() {
    let state = NodeState { role: "follower".into(), term: 7, commit_index: 90, applied_index: 90, revision: 80 };
    let nodes = vec![
        Node { id: 1, address: Some("127.0.0.1:7001".into()), state: Some(state) },
        Node { id: 2, address: Some("127.0.0.1:7002".into()), state: None },
        Node { id: 3, address: None, state: None },
    ];
    let status = Status {
        cluster: Some("ab".into()),
        leader: Some(2),
        term: 7,
        last_change: Some((7, "no leader for 204 ms".into())),
        nodes,
    };
    shape(
        Answer::Status(status),
        0,
        concat!(
            r#"{"ok":true,"op":"status","cluster":"ab","leader":2,"term":7,"#,
            r#""last_change":{"term":7,"reason":"no leader for 204 ms"},"nodes":["#,
            r#"{"id":1,"addr":"127.0.0.1:7001","reachable":true,"role":"follower","term":7,"commit_index":90,"applied_index":90,"revision":80},"#,
            r#"{"id":2,"addr":"127.0.0.1:7002","reachable":false},{"id":3,"addr":null,"reachable":false}]}"#
        ),
    );
    let forming = Status { cluster: None, leader: None, term: 0, last_change: None, nodes: vec![] };
    shape(
        Answer::Status(forming),
        0,
        r#"{"ok":true,"op":"status","cluster":null,"leader":null,"term":0,"last_change":null,"nodes":[]}"#,
    );
}

#[test]
fn member() {
    let members = kv_client::Members { voters: vec![1, 2, 3], learners: vec![4], revision: kv_store::Revision(12) };
    shape(Answer::Members(members), 0, r#"{"ok":true,"op":"member","voters":[1,2,3],"learners":[4],"revision":12}"#);
}

#[test]
fn leader() {
    shape(Answer::Leader { leader: 3, term: 8 }, 0, r#"{"ok":true,"op":"leader","leader":3,"term":8}"#);
}

#[test]
fn hash() {
    let hashes = vec![(1, Some("0a".into())), (2, Some("0a".into())), (10, None)];
    shape(
        Answer::Hashes(Hashes { revision: 80, hashes, equal: false }),
        0,
        r#"{"ok":true,"op":"hash","revision":80,"hashes":{"1":"0a","2":"0a","10":null},"equal":false}"#,
    );
}

#[test]
fn bench() {
    let measured = Measured {
        ops_per_s: 1234.5,
        p50_us: 1,
        p90_us: 2,
        p99_us: 3,
        p999_us: 4,
        max_us: 5,
        errors: 0,
        first_error: None,
    };
    shape(
        Answer::Bench(measured),
        0,
        r#"{"ok":true,"op":"bench","ops_per_s":1234.5,"p50_us":1,"p90_us":2,"p99_us":3,"p999_us":4,"max_us":5,"errors":0,"durability":"fdatasync on a majority"}"#,
    );
}

#[test]
fn failures() {
    let failure = |op: &str, kind, maybe_applied| {
        json_line(&Err(Failure { maybe_applied, ..Failure::unsent(op, false, kind, "..") }))
    };
    assert_eq!(
        failure("set", FailureKind::Timeout, Some(true)),
        r#"{"ok":false,"op":"set","error":"timeout","message":"..","maybe_applied":true}"#
    );
    assert_eq!(
        failure("get", FailureKind::Unavailable, None),
        r#"{"ok":false,"op":"get","error":"unavailable","message":".."}"#
    );
    let unsent = Failure::unsent("incr", true, FailureKind::Usage, "..");
    assert_eq!(
        json_line(&Err(unsent)),
        r#"{"ok":false,"op":"incr","error":"usage","message":"..","maybe_applied":false}"#
    );
}

#[test]
fn every_class_has_the_contracts_name_and_exit_code() {
    let table = [
        (FailureKind::WrongType, "wrong_type", 1),
        (FailureKind::Usage, "usage", 2),
        (FailureKind::TooLarge, "too_large", 2),
        (FailureKind::Unavailable, "unavailable", 3),
        (FailureKind::Timeout, "timeout", 4),
        (FailureKind::NoLeader, "no_leader", 4),
        (FailureKind::Overloaded, "overloaded", 6),
        (FailureKind::NoSpace, "no_space", 6),
        (FailureKind::SessionExpired, "session_expired", 6),
        (FailureKind::Server, "server", 6),
    ];
    for (kind, name, exit) in table {
        assert_eq!((kind.name(), kind.exit()), (name, Exit(exit)));
    }
}

#[test]
fn txn() {
    let results = vec![
        Step::Set,
        Step::Get { key: b"c".into(), found: value(b"v") },
        Step::Get { key: b"\xff".into(), found: None },
        Step::Deleted { deleted: 1, more: false },
        Step::Deleted { deleted: 10_000, more: true },
        Step::Scanned { items: vec![], next: Some(b"k".into()) },
    ];
    shape(
        Answer::Transacted { succeeded: true, results, revision: 12 },
        0,
        r#"{"ok":true,"op":"txn","succeeded":true,"results":[{"op":"set","set":true},{"op":"get","found":true,"key":"c","value":"v","create_revision":3,"mod_revision":7,"version":2},{"op":"get","found":false,"key_b64":"/w=="},{"op":"del","deleted":1},{"op":"del","deleted":10000,"more":true},{"op":"scan","items":[],"more":true,"next":"k"}],"revision":12}"#,
    );
    shape(
        Answer::Transacted { succeeded: false, results: vec![], revision: 12 },
        1,
        r#"{"ok":true,"op":"txn","succeeded":false,"results":[],"revision":12}"#,
    );
}

#[test]
fn watch() {
    shape(Answer::Watching { revision: 12 }, 0, r#"{"ok":true,"op":"watch","revision":12}"#);
    let event = Event { key: b"a".into(), value: Some(b"1".into()), previous: None, revision: 13, last: true };
    shape(Answer::Event(event.clone()), 0, r#"{"event":"set","key":"a","value":"1","revision":13,"last":true}"#);
    let gone = Event { value: None, previous: Some(b"\xff".into()), last: false, ..event };
    shape(Answer::Event(gone), 0, r#"{"event":"del","key":"a","prev_b64":"/w==","revision":13,"last":false}"#);
    let ended = Failure { resume: Some(14), ..Failure::unsent("watch", false, FailureKind::NoLeader, "..") };
    assert_eq!(json_line(&Err(ended)), r#"{"ok":false,"op":"watch","error":"no_leader","message":"..","resume":14}"#);
}

#[test]
fn lease() {
    let id = LeaseId(std::num::NonZeroU64::new(0x7f).unwrap());
    shape(
        Answer::Leased { id, ttl_ms: 10_000, revision: 12 },
        0,
        r#"{"ok":true,"op":"lease","id":"000000000000007f","ttl_ms":10000,"revision":12}"#,
    );
    shape(
        Answer::Revoked { id, deleted: 2, revision: 13 },
        0,
        r#"{"ok":true,"op":"lease","id":"000000000000007f","deleted":2,"revision":13}"#,
    );
    let leases = vec![LeaseInfo { id, ttl_ms: 10_000, left_ms: 300, keys: 2 }];
    shape(
        Answer::Leases { leases, revision: 13 },
        0,
        r#"{"ok":true,"op":"lease","leases":[{"id":"000000000000007f","ttl_ms":10000,"left_ms":300,"keys":2}],"revision":13}"#,
    );
}

#[test]
fn what_is_compacted_names_the_oldest_revision() {
    let compacted = Failure { oldest: Some(7), ..Failure::unsent("get", false, FailureKind::Compacted, "..") };
    assert_eq!(compacted.kind.exit(), Exit(6));
    assert_eq!(json_line(&Err(compacted)), r#"{"ok":false,"op":"get","error":"compacted","message":"..","oldest":7}"#);
}
