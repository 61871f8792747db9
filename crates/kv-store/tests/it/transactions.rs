//! Transactions, rule by rule; `store_model` has them at random.

use bytes::Bytes;
use kv_store::{
    Command, Comparison, Effect, Limit, MAX_ANSWER_BYTES, MAX_KEPT_BYTES, MAX_KEYS_PER_COMMAND,
    MAX_TRANSACTION_OPERATIONS, Operation, OperationResult, Outcome, Refusal, Relation, Revision, Test, Transaction,
};

use crate::support::{Reply, Shop, bytes, header};

fn set(key: &str, value: &str) -> Operation {
    Operation::Set { key: bytes(key), value: bytes(value) }
}

fn transact(shop: &mut Shop, comparisons: &[(&str, Test)], then: Vec<Operation>, otherwise: Vec<Operation>) -> Reply {
    let comparisons =
        comparisons.iter().map(|(key, test)| Comparison { key: bytes(key), test: test.clone() }).collect();
    shop.apply(Command::Transact(Transaction { comparisons, then, otherwise }))
}

fn holds(shop: &mut Shop, key: &str, test: Test) -> bool {
    let reply = transact(shop, &[(key, test)], vec![], vec![]).unwrap();
    let Effect::Transacted { succeeded, .. } = reply.effect else { panic!("no transaction: {reply:?}") };
    succeeded
}

#[test]
fn all_comparisons_must_hold() {
    let mut shop = Shop::new();
    shop.set("a", "1").unwrap();
    let (yes, no) = (("a", Test::Present), ("a", Test::Absent));
    for (tests, expected) in [(vec![], "then"), (vec![yes.clone(), yes.clone()], "then"), (vec![yes, no], "else")] {
        transact(&mut shop, &tests, vec![set("done", "then")], vec![set("done", "else")]).unwrap();
        assert_eq!(shop.value("done").as_deref(), Some(expected));
    }
}

#[test]
fn a_key_that_is_absent_has_version_0_and_no_value() {
    let mut shop = Shop::new();
    use Relation::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    for relation in [Equal, Less, LessOrEqual, Greater, GreaterOrEqual] {
        assert!(!holds(&mut shop, "a", Test::Value(relation, Bytes::new())), "{relation:?}");
    }
    assert!(holds(&mut shop, "a", Test::Value(NotEqual, Bytes::new())));
    assert!(holds(&mut shop, "a", Test::Version(Equal, 0)));
    assert!(holds(&mut shop, "a", Test::CreateRevision(Less, Revision(1))));
    assert!(holds(&mut shop, "a", Test::ModRevision(LessOrEqual, Revision(0))));
}

#[test]
fn what_is_written_is_one_revision_and_what_is_not_written_is_none() {
    let mut shop = Shop::new();
    let reply = transact(&mut shop, &[], vec![set("b", "1"), set("a", "1"), set("b", "2")], vec![]).unwrap();
    assert_eq!(reply.revision, Revision(1));
    let seen: Vec<_> = shop.store.events(Revision(1)).map(|event| (event.key().to_vec(), event.is_last())).collect();
    assert_eq!(seen, [(b"a".to_vec(), false), (b"b".to_vec(), true)]);
    assert_eq!(shop.store.get_at(b"b", Revision(1)).unwrap().version, 1, "written twice, changed once");
    let fleeting = vec![set("c", "1"), Operation::Delete { key: bytes("c") }];
    assert_eq!(transact(&mut shop, &[], fleeting, vec![]).unwrap().revision, Revision(1));
    let reading = vec![Operation::Get { key: bytes("a") }];
    assert_eq!(transact(&mut shop, &[], reading, vec![]).unwrap().revision, Revision(1));
}

#[test]
fn a_key_that_is_removed_and_written_in_one_transaction_begins_anew() {
    let mut shop = Shop::new();
    shop.set("a", "1").unwrap();
    shop.set("a", "2").unwrap();
    transact(&mut shop, &[], vec![Operation::Delete { key: bytes("a") }, set("a", "3")], vec![]).unwrap();
    let item = shop.store.get_at(b"a", Revision(3)).unwrap();
    assert_eq!((item.create_revision, item.version), (Revision(3), 1));
    assert_eq!(shop.store.state_hash(), shop.store.recompute_hash());
}

#[test]
fn a_retry_of_a_transaction_gets_its_reply_and_is_not_done_again() {
    let mut shop = Shop::new();
    let command = Command::Transact(Transaction {
        comparisons: vec![Comparison { key: bytes("a"), test: Test::Absent }],
        then: vec![set("a", "1"), Operation::Get { key: bytes("a") }],
        otherwise: vec![Operation::Delete { key: bytes("a") }],
    });
    let first = shop.request(1, header(1, 1), command.clone());
    assert!(matches!(first, Ok(Outcome { effect: Effect::Transacted { succeeded: true, .. }, .. })));
    assert_eq!(shop.request(2, header(1, 1), command), first);
    assert_eq!(shop.value("a").as_deref(), Some("1"));
}

#[test]
fn each_list_has_its_limit() {
    let mut shop = Shop::new();
    let get = |count| vec![Operation::Get { key: bytes("a") }; count];
    let most = MAX_TRANSACTION_OPERATIONS;
    transact(&mut shop, &vec![("a", Test::Absent); most], get(most), get(most)).unwrap();
    let refused = Err(Refusal::TooManyOperations { operations: most as u64 + 1 });
    assert_eq!(transact(&mut shop, &vec![("a", Test::Absent); most + 1], vec![], vec![]), refused);
    assert_eq!(transact(&mut shop, &[], get(most + 1), vec![]), refused);
    assert_eq!(transact(&mut shop, &[], vec![], get(most + 1)), refused);
    assert_eq!(transact(&mut shop, &[], vec![set("", "v")], vec![]), Err(Refusal::EmptyKey));
}

/// Rule 13: a command touches 10,000 keys, whatever it is made of.
#[test]
fn its_operations_share_the_keys_of_one_command() {
    let mut shop = Shop::new();
    for number in 0..MAX_KEYS_PER_COMMAND + 5 {
        shop.set(&format!("a{number:05}"), "").unwrap();
    }
    shop.set("b", "").unwrap();
    let delete = |prefix: &str| Operation::DeletePrefix { prefix: bytes(prefix) };
    let reply = transact(&mut shop, &[], vec![delete("a"), delete("b")], vec![]).unwrap();
    let results = vec![
        OperationResult::Deleted { keys: MAX_KEYS_PER_COMMAND as u64, more: true },
        OperationResult::Deleted { keys: 0, more: true },
    ];
    assert_eq!(reply.effect, Effect::Transacted { succeeded: true, results });
    assert_eq!(shop.store.key_count(), 6);
}

#[test]
fn what_it_reads_is_one_answer() {
    let mut shop = Shop::new();
    let large = "v".repeat(MAX_ANSWER_BYTES / 2);
    for key in ["a", "b", "c"] {
        shop.set(key, &large).unwrap();
    }
    let get = |key: &str| Operation::Get { key: bytes(key) };
    let too_much = vec![set("written", "x"), get("a"), get("b")];
    assert_eq!(transact(&mut shop, &[], too_much, vec![]), Err(Refusal::AnswerTooLarge));
    assert_eq!(shop.value("written"), None, "refused, it has changed nothing");
    let scan = Operation::Scan { prefix: Bytes::new(), limit: 10, keys_only: false };
    let reply = transact(&mut shop, &[], vec![get("c"), scan], vec![]).unwrap();
    let Effect::Transacted { results, .. } = reply.effect else { panic!("{reply:?}") };
    assert!(
        matches!(&results[1], OperationResult::Scanned { items, next: Some(next) } if items.is_empty() && next == "a")
    );
}

/// What transactions read is kept for their retries: all of it together is bounded, and room comes back with the next
/// request of a session.
#[test]
fn the_replies_that_are_kept_have_a_limit_together() {
    let mut shop = Shop::new();
    shop.set("large", &"v".repeat(MAX_ANSWER_BYTES - 5)).unwrap();
    let read = || {
        let then = vec![Operation::Get { key: bytes("large") }];
        Command::Transact(Transaction { then, ..Transaction::default() })
    };
    let most = MAX_KEPT_BYTES / MAX_ANSWER_BYTES;
    let admitted = (0..).find(|client| shop.request(1, header(100 + client, 1), read()).is_err()).unwrap();
    assert!((most as u128 - 1..=most as u128 + 1).contains(&admitted), "{admitted} of {most}");
    let full = Err(Refusal::Overloaded { what: Limit::KeptReplies });
    assert_eq!(shop.request(1, header(1, 1), read()), full);
    // One that has its answer, and says so.
    shop.request(1, header(100, 2), Command::Delete { key: bytes("x") }).unwrap();
    shop.request(1, header(1, 1), Command::Delete { key: bytes("x") }).unwrap();
}
