//! The formats, byte for byte (rule 11). What a released version wrote must be read by every later one, so a line in
//! `golden/` never changes and never leaves; a new variant adds one.
//!
//! Each fixture is compared in both directions. And the first discriminant without a fixture must be unknown: a variant
//! appended without a fixture fails here.

use std::fmt::Debug;
use std::num::NonZeroU64;

use bytes::Bytes;
use kv_store::api::{
    Consistency, LeaderChange, Leadership, MemberAddress, MemberChange, Members, NodeAddress, NodeStatus, Push,
    PushBody, Request, RequestBody, RequestError, RequestErrorKind, Response, ResponseBody, WatchEvent, WatchTarget,
};
use kv_store::{
    Answer, ClientId, ClusterCommand, Command, Comparison, Effect, Entry, Envelope, Found, Item, KvStore, LeaseChoice,
    LeaseId, LeaseInfo, Limit, Limits, NotAnInteger, Operation, OperationResult, Outcome, Part, Principal, Query,
    Refusal, Relation, Revision, SessionHeader, Stamp, StateHash, Test, Transaction,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::support::{Shop, bytes, header, increment, restore, set, snapshot};

/// The fixtures of one file: `name hex`, one a line, `#` for comments.
struct Golden {
    file: &'static str,
    lines: Vec<(&'static str, &'static str)>,
    next: usize,
    missing: String,
}

impl Golden {
    fn new(file: &'static str, text: &'static str) -> Self {
        let is_fixture = |line: &&str| !line.is_empty() && !line.starts_with('#');
        let lines = text.lines().filter(is_fixture).map(|line| line.split_once(' ').unwrap()).collect();
        Self { file, lines, next: 0, missing: String::new() }
    }

    /// The next fixture's bytes. They are `encoded`, or the format has changed.
    fn check_bytes(&mut self, name: &str, encoded: &[u8]) -> Bytes {
        let encoded = hex(encoded);
        let Some((found, expected)) = self.lines.get(self.next) else {
            self.missing.push_str(&format!("{name} {encoded}\n"));
            return unhex(&encoded);
        };
        assert_eq!((*found, *expected), (name, encoded.as_str()), "{}: the format has changed", self.file);
        self.next += 1;
        unhex(expected)
    }

    fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self, name: &str, value: &T) {
        let fixture = self.check_bytes(name, &postcard::to_allocvec(value).unwrap());
        assert_eq!(postcard::from_bytes::<T>(&fixture).as_ref(), Ok(value), "{}: {name}", self.file);
    }

    /// The next fixture is one that an earlier version wrote.
    fn earlier(&mut self, name: &str) -> Bytes {
        let (found, bytes) = self.lines[self.next];
        assert_eq!(found, name, "{}", self.file);
        self.next += 1;
        unhex(bytes)
    }

    fn end(self) {
        assert_eq!(self.missing, "", "{} has no fixtures for these", self.file);
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
    // A lease's id is not 0, a truth value nothing but 0 and 1.
    let decode_with = |variant: u8, rest: u8| {
        let bytes = [&[variant], &[rest; 64][..]].concat();
        postcard::take_from_bytes::<T>(&bytes).map(|(value, _)| value)
    };
    let decode = |variant| decode_with(variant, 0).or_else(|_| decode_with(variant, 1));
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

fn later_commands() -> Vec<(&'static str, Command)> {
    let (key, value) = (bytes("key"), bytes("value"));
    let id = LeaseId(NonZeroU64::new(300).unwrap());
    let leased = |lease| Command::SetLeased { key: bytes("key"), value: bytes("value"), if_absent: false, lease };
    vec![
        ("transact_nothing", Command::Transact(Transaction::default())),
        ("transact", Command::Transact(transaction(&key, &value))),
        ("set_leased", leased(LeaseChoice::Granted(id))),
        ("set_ttl", leased(LeaseChoice::Own { ttl_ms: 10_000 })),
        ("grant_lease", Command::GrantLease { ttl_ms: 10_000 }),
        ("keep_alive", Command::KeepAlive { id }),
        ("revoke_lease", Command::RevokeLease { id }),
    ]
}

/// One with every test, relation and operation.
fn transaction(key: &Bytes, value: &Bytes) -> Transaction {
    let tests = [
        Test::Value(Relation::Equal, value.clone()),
        Test::Version(Relation::NotEqual, 1),
        Test::CreateRevision(Relation::Less, Revision(2)),
        Test::ModRevision(Relation::LessOrEqual, Revision(300)),
        Test::Version(Relation::Greater, 4),
        Test::Version(Relation::GreaterOrEqual, 5),
        Test::Present,
        Test::Absent,
    ];
    Transaction {
        comparisons: tests.into_iter().map(|test| Comparison { key: key.clone(), test }).collect(),
        then: vec![
            Operation::Get { key: key.clone() },
            Operation::Set { key: key.clone(), value: value.clone() },
            Operation::Delete { key: key.clone() },
        ],
        otherwise: vec![
            Operation::DeletePrefix { prefix: key.clone() },
            Operation::Scan { prefix: key.clone(), limit: 1_000, keys_only: true },
        ],
    }
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
    for (name, command) in later_commands() {
        golden.check(name, &command);
        let envelope = Envelope { session, principal: Principal::nobody(), command };
        let fixture = golden.check_bytes(&format!("envelope.{name}"), &envelope.encode());
        assert_eq!(Entry::decode(&fixture), Ok(Entry::Client(envelope)), "{name}");
    }
    for (name, command) in [
        ("compact", ClusterCommand::Compact { aged: Revision(300), history_bytes: 1 << 28 }),
        ("expire", ClusterCommand::Expire),
        ("set_quota", ClusterCommand::SetQuota { quota_bytes: Some(1 << 32) }),
        ("set_no_quota", ClusterCommand::SetQuota { quota_bytes: None }),
    ] {
        let fixture = golden.check_bytes(name, &command.encode());
        assert_eq!(Entry::decode(&fixture), Ok(Entry::Cluster(command)), "{name}");
    }
    golden.end();
    assert_variants::<Command>(10);
    assert_variants::<ClusterCommand>(3);
    assert_variants::<Test>(6);
    assert_variants::<Relation>(6);
    assert_variants::<Operation>(5);
}

fn item() -> Item {
    Item {
        key: bytes("key"),
        value: bytes("value"),
        create_revision: Revision(3),
        mod_revision: Revision(300),
        version: 2,
    }
}

fn results() -> Vec<OperationResult> {
    let item = item();
    vec![
        OperationResult::Got(None),
        OperationResult::Got(Some(item.clone())),
        OperationResult::Set,
        OperationResult::Deleted { keys: 10_000, more: true },
        OperationResult::Scanned { items: vec![item], next: Some(bytes("l")) },
    ]
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
        ("transacted", reply(Effect::Transacted { succeeded: true, results: results() })),
        ("kept", reply(Effect::Kept)),
        ("leased", reply(Effect::Leased { id: LeaseId(NonZeroU64::new(300).unwrap()), ttl_ms: 10_000 })),
        ("revoked", reply(Effect::Revoked { keys: 3, more: false })),
        ("overloaded_leases", Err(Refusal::Overloaded { what: Limit::Leases })),
        ("too_many_operations", Err(Refusal::TooManyOperations { operations: 129 })),
        ("answer_too_large", Err(Refusal::AnswerTooLarge)),
        ("no_such_lease", Err(Refusal::NoSuchLease { id: LeaseId(NonZeroU64::new(300).unwrap()) })),
        ("ttl_out_of_range", Err(Refusal::TtlOutOfRange)),
        ("no_space", Err(Refusal::NoSpace { live_bytes: 301, quota_bytes: 300 })),
    ];
    for (name, case) in &cases {
        golden.check(name, case);
    }
    golden.end();
    assert_variants::<Effect>(8);
    assert_variants::<OperationResult>(4);
    assert_variants::<Refusal>(13);
    assert_variants::<Limit>(3);
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
    for (name, target) in [("watch", WatchTarget::Key(bytes("key"))), ("watch_prefix", WatchTarget::Prefix(bytes("k")))]
    {
        let from = matches!(target, WatchTarget::Prefix(_)).then_some(Revision(300));
        golden.check(name, &request(RequestBody::Watch { target, from, previous: from.is_some() }));
    }
    golden.check("unwatch", &request(RequestBody::Unwatch { id: 299 }));
    golden.check(
        "leases",
        &request(RequestBody::Read { query: Query::Leases { from: None }, consistency: Consistency::Linearizable }),
    );
    golden.end();
    assert_variants::<WatchTarget>(2);
    assert_variants::<RequestBody>(10);
    assert_variants::<MemberChange>(3);
    assert_variants::<Query>(3);
    assert_variants::<Consistency>(4);
}

fn answers() -> Vec<(&'static str, ResponseBody)> {
    let item = item();
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
    golden.check("unwatched", &Response { id: 300, leader: leader(), body: Ok(ResponseBody::Unwatched) });
    golden.check("compacted", &error(RequestErrorKind::Compacted { oldest: Revision(300) }));
    let id = LeaseId(NonZeroU64::new(300).unwrap());
    let leases = vec![LeaseInfo { id, ttl_ms: 10_000, left_ms: 300, keys: 2 }];
    let found = Found::Leases { leases, next: Some(id) };
    let body = Ok(ResponseBody::Answer(Answer { revision: Revision(300), found }));
    golden.check("leases", &Response { id: 300, leader: leader(), body });
    for (name, body) in [
        ("push_watching", PushBody::Watching { revision: Revision(300) }),
        ("push_events", PushBody::Events),
        ("push_progress", PushBody::Progress { revision: Revision(300) }),
    ] {
        golden.check(name, &Push { id: 300, body });
    }
    let event =
        |value, previous| WatchEvent { key: bytes("key"), revision: Revision(300), value, previous, last: true };
    golden.check("events", &vec![event(Some(bytes("new")), Some(bytes("old"))), event(None, None)]);
    golden.end();
    assert_variants::<PushBody>(3);
    assert_variants::<ResponseBody>(7);
    assert_variants::<Found>(3);
    assert_variants::<RequestErrorKind>(13);
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
    let names = ["empty", "one_key", "two_versions_and_a_kept_refusal", "a_removed_key", "a_key_that_came_back"];
    let first_version: Vec<_> = names.iter().map(|name| golden.earlier(name)).collect();
    let mut stores = Vec::new();
    let mut check = |name: &str, store: &KvStore| {
        let fixture = golden.check_bytes(&format!("{name}_2"), &snapshot(store));
        assert_eq!(restore(Limits::default(), [&*fixture]).as_ref(), Ok(store), "{name}");
        stores.push(store.clone());
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
    shop.request(7, header(7, 8), Command::GrantLease { ttl_ms: 10_000 }).unwrap();
    let own = LeaseChoice::Own { ttl_ms: 300 };
    let leased = Command::SetLeased { key: bytes("leased"), value: bytes("value"), if_absent: true, lease: own };
    shop.request(8, header(7, 9), leased).unwrap();
    check("leases", &shop.store);
    shop.entry(9, &ClusterCommand::SetQuota { quota_bytes: Some(300) }.encode()).unwrap();
    shop.entry(10, &ClusterCommand::Compact { aged: Revision(4), history_bytes: u64::MAX }.encode()).unwrap();
    check("a_quota_and_a_forgotten_past", &shop.store);
    golden.end();
    // What the first version wrote is read as the same keys and sessions.
    for ((name, bytes), store) in names.iter().zip(first_version).zip(&stores) {
        let restored = restore(Limits::default(), [&*bytes]).unwrap();
        assert_eq!((restored.revision(), restored.state_hash()), (store.revision(), store.state_hash()), "{name}");
        assert_eq!(restored.session_count(), store.session_count(), "{name}");
    }
}
