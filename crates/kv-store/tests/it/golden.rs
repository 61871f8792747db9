//! The formats, byte for byte (rule 11). What a released version wrote must be read by every later one, so a line in
//! `golden/` never changes and never leaves; a new variant adds one.
//!
//! Each fixture is compared in both directions. And the first discriminant without a fixture must be unknown: a variant
//! appended without a fixture fails here.

use std::fmt::Debug;

use bytes::Bytes;
use kv_store::api::{
    Consistency, LeaderChange, Leadership, MemberAddress, MemberChange, Members, NodeAddress, NodeStatus, Request,
    RequestBody, RequestError, RequestErrorKind, Response, ResponseBody,
};
use kv_store::{
    Answer, ClientId, Command, Effect, Envelope, Found, Item, KvStore, Limit, Limits, NotAnInteger, Outcome, Part,
    Principal, Query, Refusal, Revision, SessionHeader, Stamp, StateHash,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::support::{Shop, bytes, header, increment, restore, set, snapshot};

/// The fixtures of one file: `name hex`, one a line, `#` for comments.
struct Golden {
    file: &'static str,
    lines: Vec<(&'static str, &'static str)>,
    next: usize,
}

impl Golden {
    fn new(file: &'static str, text: &'static str) -> Self {
        let is_fixture = |line: &&str| !line.is_empty() && !line.starts_with('#');
        let lines = text.lines().filter(is_fixture).map(|line| line.split_once(' ').unwrap()).collect();
        Self { file, lines, next: 0 }
    }

    /// The next fixture's bytes. They are `encoded`, or the format has changed.
    fn check_bytes(&mut self, name: &str, encoded: &[u8]) -> Bytes {
        let encoded = hex(encoded);
        let Some((found, expected)) = self.lines.get(self.next) else {
            panic!("{} has no fixture for: {name} {encoded}", self.file)
        };
        assert_eq!((*found, *expected), (name, encoded.as_str()), "{}: the format has changed", self.file);
        self.next += 1;
        unhex(expected)
    }

    fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self, name: &str, value: &T) {
        let fixture = self.check_bytes(name, &postcard::to_allocvec(value).unwrap());
        assert_eq!(postcard::from_bytes::<T>(&fixture).as_ref(), Ok(value), "{}: {name}", self.file);
    }

    fn end(self) {
        assert_eq!(self.next, self.lines.len(), "{} has fixtures that nothing decodes", self.file);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Bytes {
    text.as_bytes()
        .chunks(2)
        .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap())
        .collect::<Vec<_>>()
        .into()
}

/// No variant of `T` from `count` on: each has its fixtures above.
fn assert_variants<T: DeserializeOwned + Debug>(count: u8) {
    let decode = |variant| postcard::take_from_bytes::<T>(&[&[variant], &[0; 64][..]].concat()).map(|(value, _)| value);
    for variant in 0..count {
        decode(variant).unwrap_or_else(|error| panic!("variant {variant} is gone: {error}"));
    }
    decode(count).expect_err("a new variant: append a fixture for it and count it here");
}

fn commands() -> Vec<(&'static str, Command)> {
    let (key, value) = (bytes("key"), bytes("value"));
    vec![
        ("set", Command::Set { key: key.clone(), value: value.clone(), if_absent: false }),
        ("set_if_absent", Command::Set { key: key.clone(), value: Bytes::new(), if_absent: true }),
        ("delete", Command::Delete { key: key.clone() }),
        ("delete_prefix", Command::DeletePrefix { prefix: key.clone() }),
        ("compare_and_swap", Command::CompareAndSwap { key: key.clone(), expected: value, new: bytes("new") }),
        ("increment", Command::Increment { key: key.clone(), by: 300 }),
        ("increment_down", Command::Increment { key, by: -1 }),
    ]
}

#[test]
fn commands_and_envelopes() {
    let mut golden = Golden::new("envelope.txt", include_str!("golden/envelope.txt"));
    for (name, command) in commands() {
        golden.check(name, &command);
    }
    let session = SessionHeader {
        client: ClientId(0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100),
        birth: Stamp(0x1716_1514_1312_1110),
        sequence: 0x1f1e_1d1c_1b1a_1918,
        lowest_unanswered: 0x2726_2524_2322_2120,
        deadline: Stamp(0x2f2e_2d2c_2b2a_2928),
    };
    for (name, principal) in
        [("envelope", Principal::nobody()), ("envelope_of", Principal::new(bytes("alice")).unwrap())]
    {
        for (of, command) in commands() {
            let envelope = Envelope { session, principal: principal.clone(), command };
            let fixture = golden.check_bytes(&format!("{name}.{of}"), &envelope.encode());
            assert_eq!(Envelope::decode(&fixture), Ok(envelope), "{name}.{of}");
        }
    }
    golden.end();
    assert_variants::<Command>(5);
}

#[test]
fn replies() {
    let mut golden = Golden::new("reply.txt", include_str!("golden/reply.txt"));
    let reply = |effect| Ok(Outcome { revision: Revision(300), effect });
    let too_large = |what| Err(Refusal::TooLarge { what, size_bytes: 4_097, limit_bytes: 4_096 });
    let cases: Vec<(&str, Result<Outcome, Refusal>)> = vec![
        ("set", reply(Effect::Set { set: true })),
        ("not_set", reply(Effect::Set { set: false })),
        ("deleted", reply(Effect::Deleted { keys: 10_000, more: true })),
        ("deleted_all", reply(Effect::Deleted { keys: 1, more: false })),
        ("swapped", reply(Effect::Swapped { swapped: true })),
        ("incremented", reply(Effect::Incremented { value: -42 })),
        ("session_expired", Err(Refusal::SessionExpired)),
        ("already_answered", Err(Refusal::AlreadyAnswered { sequence: 300 })),
        ("deadline_passed", Err(Refusal::DeadlinePassed)),
        ("overloaded_sessions", Err(Refusal::Overloaded { what: Limit::Sessions })),
        ("overloaded_replies", Err(Refusal::Overloaded { what: Limit::KeptReplies })),
        ("wrong_type_value", Err(Refusal::WrongType(NotAnInteger::Value))),
        ("wrong_type_overflow", Err(Refusal::WrongType(NotAnInteger::Overflow))),
        ("too_large_key", too_large(Part::Key)),
        ("too_large_value", too_large(Part::Value)),
        ("empty_key", Err(Refusal::EmptyKey)),
        ("unreadable", Err(Refusal::Unreadable)),
    ];
    for (name, case) in &cases {
        golden.check(name, case);
    }
    golden.end();
    assert_variants::<Effect>(4);
    assert_variants::<Refusal>(8);
    assert_variants::<Limit>(2);
    assert_variants::<NotAnInteger>(2);
    assert_variants::<Part>(2);
}

#[test]
fn requests() {
    let mut golden = Golden::new("request.txt", include_str!("golden/request.txt"));
    let request = |body| Request { id: 300, timeout_ms: 5_000, body };
    let get = |consistency| request(RequestBody::Read { query: Query::Get { key: bytes("key") }, consistency });
    let scan = |from, keys_only| {
        let query = Query::Scan { prefix: bytes("k"), from, limit: 1_000, keys_only };
        request(RequestBody::Read { query, consistency: Consistency::Linearizable })
    };
    golden.check("write", &request(RequestBody::Write));
    golden.check("get", &get(Consistency::Linearizable));
    golden.check("get_lease", &get(Consistency::Lease));
    golden.check("get_local", &get(Consistency::Local));
    golden.check("scan", &scan(None, false));
    golden.check("scan_from", &scan(Some(bytes("key")), true));
    golden.check("node_status", &request(RequestBody::NodeStatus));
    golden.check("state_hash", &request(RequestBody::StateHash { revision: None }));
    golden.check("state_hash_at", &request(RequestBody::StateHash { revision: Some(Revision(80)) }));
    golden.check("transfer", &request(RequestBody::TransferLeadership { to: None }));
    golden.check("transfer_to", &request(RequestBody::TransferLeadership { to: Some(300) }));
    golden.check("get_local_from", &get(Consistency::LocalFrom { revision: Revision(300) }));
    golden.check("members", &request(RequestBody::Members));
    let change = |change| request(RequestBody::ChangeMembers { change });
    for becomes_voter in [false, true] {
        let add = MemberChange::Add { id: 300, address: "h:7004".into(), becomes_voter };
        golden.check(if becomes_voter { "member_add_voter" } else { "member_add" }, &change(add));
    }
    golden.check("member_promote", &change(MemberChange::Promote { id: 300 }));
    golden.check("member_remove", &change(MemberChange::Remove { id: 300 }));
    let get = Query::Get { key: bytes("key") };
    golden.check("get_at", &request(RequestBody::ReadAt { query: get, revision: Revision(300) }));
    golden.end();
    assert_variants::<RequestBody>(8);
    assert_variants::<MemberChange>(3);
    assert_variants::<Query>(2);
    assert_variants::<Consistency>(4);
}

fn answers() -> Vec<(&'static str, ResponseBody)> {
    let item = Item {
        key: bytes("key"),
        value: bytes("value"),
        create_revision: Revision(3),
        mod_revision: Revision(300),
        version: 2,
    };
    let answer = |found| ResponseBody::Answer(Answer { revision: Revision(300), found });
    let hash = |hash| ResponseBody::StateHash { revision: Revision(300), hash };
    vec![
        ("written", ResponseBody::Written(Ok(Outcome { revision: Revision(1), effect: Effect::Set { set: true } }))),
        ("refused", ResponseBody::Written(Err(Refusal::EmptyKey))),
        ("value", answer(Found::Value(Some(item.clone())))),
        ("no_value", answer(Found::Value(None))),
        ("items", answer(Found::Items { items: vec![item], next: Some(bytes("l")) })),
        ("no_items", answer(Found::Items { items: vec![], next: None })),
        ("state_hash", hash(Some(StateHash(0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100)))),
        ("no_state_hash", hash(None)),
    ]
}

fn statuses() -> Vec<(&'static str, ResponseBody)> {
    let member = |id, address: Option<&str>| MemberAddress { id, address: address.map(str::to_owned) };
    let full = NodeStatus {
        id: 1,
        cluster: Some("000102030405060708090a0b0c0d0e0f".into()),
        role: "follower".into(),
        term: 7,
        leader: Some(2),
        commit_index: 300,
        applied_index: 299,
        revision: Revision(80),
        last_change: Some(LeaderChange { term: 7, reason: "no leader for 204 ms".into() }),
        members: vec![member(1, Some("10.0.0.1:7001")), member(2, None)],
    };
    let forming = NodeStatus {
        cluster: None,
        role: "forming".into(),
        term: 0,
        leader: None,
        commit_index: 0,
        applied_index: 0,
        revision: Revision(0),
        last_change: None,
        members: vec![],
        ..full.clone()
    };
    vec![("status", ResponseBody::NodeStatus(full)), ("status_forming", ResponseBody::NodeStatus(forming))]
}

#[test]
fn responses() {
    let mut golden = Golden::new("response.txt", include_str!("golden/response.txt"));
    let leader = || Some(NodeAddress { id: 2, address: "10.0.0.2:7001".into() });
    for (name, body) in answers().into_iter().chain(statuses()) {
        golden.check(name, &Response { id: 300, leader: leader(), body: Ok(body) });
    }
    let kinds = [
        ("no_leader", RequestErrorKind::NoLeader),
        ("leader_changed", RequestErrorKind::LeaderChanged),
        ("timeout", RequestErrorKind::Timeout),
        ("overloaded", RequestErrorKind::Overloaded),
        ("too_large", RequestErrorKind::TooLarge),
        ("invalid", RequestErrorKind::Invalid),
        ("stopping", RequestErrorKind::Stopping),
    ];
    let error = |kind| {
        let maybe_applied = matches!(kind, RequestErrorKind::Timeout | RequestErrorKind::NotElected);
        let error = RequestError { kind, message: "why".into(), maybe_applied };
        Response { id: 300, leader: None, body: Err(error) }
    };
    for (name, kind) in kinds {
        golden.check(name, &error(kind));
    }
    let body = Ok(ResponseBody::Leadership(Leadership { leader: 2, term: 300 }));
    golden.check("leadership", &Response { id: 300, leader: leader(), body });
    golden.check("conflict", &error(RequestErrorKind::Conflict));
    golden.check("no_successor", &error(RequestErrorKind::NoSuccessor));
    golden.check("not_elected", &error(RequestErrorKind::NotElected));
    golden.check("no_space", &error(RequestErrorKind::NoSpace));
    let members = Members { voters: vec![1, 2, 300], learners: vec![4], revision: Revision(300) };
    golden.check("members", &Response { id: 300, leader: leader(), body: Ok(ResponseBody::Members(members)) });
    golden.check("not_ready", &error(RequestErrorKind::NotReady));
    golden.end();
    assert_variants::<ResponseBody>(6);
    assert_variants::<Found>(2);
    assert_variants::<RequestErrorKind>(12);
}

#[test]
fn state_hashes() {
    let mut golden = Golden::new("state_hash.txt", include_str!("golden/state_hash.txt"));
    let mut shop = Shop::new();
    let mut check = |name: &str, command: Command| {
        shop.apply(command).unwrap();
        golden.check_bytes(name, &shop.store.state_hash().0.to_be_bytes());
    };
    check("one_key", set("a", "1"));
    check("the_key_again", set("a", "1"));
    check("two_keys", Command::Increment { key: bytes("n"), by: 1 });
    check("one_left", Command::Delete { key: bytes("a") });
    check("a_long_value", set("long", &"0123456789".repeat(1_000)));
    golden.end();
}

/// Whole snapshots: one layout, so each fixture is a store with more in it.
#[test]
fn snapshots() {
    let mut golden = Golden::new("snapshot.txt", include_str!("golden/snapshot.txt"));
    let mut check = |name: &str, store: &KvStore| {
        let fixture = golden.check_bytes(name, &snapshot(store));
        assert_eq!(restore(Limits::default(), [&*fixture]).as_ref(), Ok(store), "{name}");
    };
    let mut shop = Shop::new();
    check("empty", &shop.store);
    let unanswered = |sequence| SessionHeader { lowest_unanswered: 1, ..header(300, sequence) };
    shop.request(1, unanswered(1), set("key", "value")).unwrap();
    check("one_key", &shop.store);
    shop.request(2, unanswered(2), increment("key")).unwrap_err();
    shop.request(3, header(7, 5), set("key", "new")).unwrap();
    check("two_versions_and_a_kept_refusal", &shop.store);
    shop.request(4, header(7, 6), Command::Delete { key: bytes("key") }).unwrap();
    shop.request(5, unanswered(3), increment("n")).unwrap();
    check("a_removed_key", &shop.store);
    shop.request(6, header(7, 7), set("key", "again")).unwrap();
    check("a_key_that_came_back", &shop.store);
    golden.end();
}
