//! Snapshots against a twin that stood still: whatever is applied while the pieces are pulled, the restored store is the
//! store of the moment the snapshot began, and goes on like one that was never a snapshot (rule 9, E5).

use bytes::Bytes;
use kv_store::{KvStore, Revision, Stamp};
use proptest::prelude::*;

use crate::exactly_once::{LIMITS, tries};
use crate::store_model::command;
use crate::support::{Reply, restore, snapshot};

/// Entries with sessions, copies, expiry and late deadlines; few keys, so that most commands meet an earlier one.
fn entries() -> impl Strategy<Value = Vec<(Stamp, Bytes)>> {
    (tries(), proptest::collection::vec(command(), 60)).prop_map(|(tries, commands)| {
        let mut now = 0;
        let stamped = tries.iter().zip(&commands).map(|(attempt, text)| {
            now += attempt.later_ns;
            (Stamp(now), text.entry(attempt.session))
        });
        stamped.collect()
    })
}

/// How much each pull may take, and how many entries are applied after it. Over and over.
fn pulls() -> impl Strategy<Value = Vec<(usize, usize)>> {
    let budget = prop_oneof![0usize..40, 40usize..400, Just(usize::MAX)];
    proptest::collection::vec((budget, 0usize..4), 1..8)
}

fn apply(store: &mut KvStore, first: usize, entries: &[(Stamp, Bytes)]) -> Vec<Reply> {
    let applied = (first as u64 + 1..).zip(entries);
    applied.map(|(index, (stamp, entry))| store.apply(index, *stamp, entry)).collect()
}

/// Everything a reader can see.
fn assert_same_reads(store: &KvStore, twin: &KvStore) {
    assert_eq!((store.revision(), store.state_hash()), (twin.revision(), twin.state_hash()));
    assert_eq!((store.applied_index(), store.latest_stamp()), (twin.applied_index(), twin.latest_stamp()));
    assert_eq!((store.key_count(), store.session_count()), (twin.key_count(), twin.session_count()));
    assert_eq!(store.recompute_hash(), twin.state_hash());
    assert_eq!((store.oldest_revision(), store.history_bytes()), (twin.oldest_revision(), twin.history_bytes()));
    for revision in (0..=twin.revision().0 + 1).map(Revision) {
        let events = |store: &KvStore| {
            let event = |event: kv_store::Event<'_>| (event.key().to_vec(), event.previous(), event.value());
            store.events(revision).map(event).collect::<Vec<_>>()
        };
        assert_eq!(events(store), events(twin), "events at {revision}");
        assert_eq!(store.hash_at(revision), twin.hash_at(revision), "hash at {revision}");
        for key in ["a", "b", "aa", "ab", "ba", "bb", "aab", "bba", "c"] {
            let key = key.as_bytes();
            assert_eq!(store.get_at(key, revision), twin.get_at(key, revision), "{key:?} at {revision}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_snapshot_is_the_store_of_the_moment_it_began(
        entries in entries(),
        begin in any::<prop::sample::Index>(),
        pulls in pulls(),
    ) {
        let begin = begin.index(entries.len() + 1);
        let (mut store, mut twin) = (KvStore::new(LIMITS), KvStore::new(LIMITS));
        apply(&mut store, 0, &entries[..begin]);
        apply(&mut twin, 0, &entries[..begin]);

        let mut cursor = store.begin_snapshot();
        let (mut pieces, mut applied, mut replies) = (Vec::new(), begin, Vec::new());
        for (budget, count) in pulls.iter().cycle() {
            let Some(piece) = store.snapshot_chunk(&mut cursor, *budget) else { break };
            pieces.push(piece);
            let until = (applied + count).min(entries.len());
            replies.extend(apply(&mut store, applied, &entries[applied..until]));
            applied = until;
        }
        prop_assert_eq!(store.snapshot_chunk(&mut cursor, 1), None, "and none again");
        replies.extend(apply(&mut store, applied, &entries[applied..]));

        let stream = pieces.concat();
        prop_assert_eq!(&stream, &snapshot(&twin), "the bytes do not depend on the pulls, nor on what was applied meanwhile");
        let mut restored = restore(LIMITS, pieces.iter().map(|piece| &**piece)).unwrap();
        assert_same_reads(&restored, &twin);
        prop_assert_eq!(&restored, &twin);
        prop_assert_eq!(&snapshot(&restored), &stream, "a snapshot of the restored store");

        prop_assert_eq!(apply(&mut restored, begin, &entries[begin..]), replies);
        apply(&mut twin, begin, &entries[begin..]);
        assert_same_reads(&restored, &store);
        prop_assert_eq!(&restored, &store);
        prop_assert_eq!(&restored, &twin);
    }

    #[test]
    fn where_the_stream_is_cut_means_nothing_and_where_it_is_mixed_up_is_found(
        entries in entries(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 1..12),
    ) {
        let mut store = KvStore::new(LIMITS);
        apply(&mut store, 0, &entries);
        let stream = snapshot(&store);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]).collect();
        let restored = restore(LIMITS, pieces.iter().copied());
        prop_assert_eq!(restored.as_ref(), Ok(&store));

        // Pieces left out, repeated and swapped.
        let mixed: Vec<_> = order.iter().map(|place| *place.get(&pieces)).collect();
        let is_same = mixed.concat() == stream;
        prop_assert_eq!(restore(LIMITS, mixed).is_ok(), is_same);
        for place in 1..pieces.len() {
            let mut swapped = pieces.clone();
            swapped.swap(place - 1, place);
            let is_same = swapped.concat() == stream;
            prop_assert_eq!(restore(LIMITS, swapped).is_ok(), is_same, "pieces {} and {} swapped", place - 1, place);
        }
    }
}
