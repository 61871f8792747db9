//! The envelope's bytes: whole, cut, lying and random.

use bytes::{BufMut, Bytes, BytesMut};
use kv_store::{
    Command, Envelope, EnvelopeError, KvStore, Limits, MAX_ENVELOPE_BYTES, MAX_KEY_BYTES, MAX_PRINCIPAL_BYTES,
    MAX_VALUE_BYTES, Principal, Refusal, Revision, Stamp,
};
use proptest::prelude::*;

use crate::support::{Shop, bytes, envelope, header, set};

/// The offset of the command in an envelope without principal.
const COMMAND_AT: usize = 51;

fn any_bytes() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn any_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        (any_bytes(), any_bytes(), any::<bool>()).prop_map(|(key, value, if_absent)| Command::Set {
            key,
            value,
            if_absent
        }),
        any_bytes().prop_map(|key| Command::Delete { key }),
        any_bytes().prop_map(|prefix| Command::DeletePrefix { prefix }),
        (any_bytes(), any_bytes(), any_bytes()).prop_map(|(key, expected, new)| Command::CompareAndSwap {
            key,
            expected,
            new
        }),
        (any_bytes(), any::<i64>()).prop_map(|(key, by)| Command::Increment { key, by }),
    ]
}

fn any_envelope() -> impl Strategy<Value = Envelope> {
    (any::<u128>(), any::<[u64; 4]>(), proptest::collection::vec(any::<u8>(), 0..=256), any_command()).prop_map(
        |(client, [birth, sequence, lowest_unanswered, deadline], principal, command)| {
            let mut session = header(client, sequence);
            session.birth = Stamp(birth);
            session.lowest_unanswered = lowest_unanswered;
            session.deadline = Stamp(deadline);
            Envelope { session, principal: Principal::new(Bytes::from(principal)).unwrap(), command }
        },
    )
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(envelope in any_envelope()) {
        let encoded = envelope.encode();
        prop_assert_eq!(Envelope::decode(&encoded), Ok(envelope.clone()));
        // The borrowed form that decodes and the owned form that encodes are one format.
        let command = &encoded[COMMAND_AT + envelope.principal.as_bytes().len()..];
        prop_assert_eq!(postcard::from_bytes::<Command>(command), Ok(envelope.command));
    }

    #[test]
    fn no_prefix_and_no_continuation_is_an_envelope(envelope in any_envelope(), more in 1usize..20) {
        let encoded = envelope.encode();
        for end in 0..encoded.len() {
            prop_assert!(Envelope::decode(&encoded.slice(..end)).is_err(), "cut at {}", end);
        }
        let mut longer = BytesMut::from(&encoded[..]);
        longer.put_bytes(0, more);
        prop_assert_eq!(Envelope::decode(&longer.freeze()), Err(EnvelopeError::TrailingBytes { size_bytes: more }));
    }

    #[test]
    fn any_bytes_are_refused_or_read_but_never_a_panic(
        envelope in any_envelope(),
        random in proptest::collection::vec(any::<u8>(), 0..200),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut changed = envelope.encode().to_vec();
        for (place, byte) in changes {
            *place.get_mut(&mut changed) = byte;
        }
        let mut store = KvStore::new(Limits::default());
        for (index, entry) in (1..).zip([random, changed]) {
            let entry = Bytes::from(entry);
            let is_readable = Envelope::decode(&entry).is_ok();
            let reply = store.apply(index, Stamp(0), &entry);
            prop_assert_eq!(reply == Err(Refusal::Unreadable), !is_readable);
        }
    }
}

#[test]
fn unreadable_entries_leave_the_store_as_it_is() {
    let mut shop = Shop::new();
    shop.set("a", "1").unwrap();
    let (revision, hash) = (shop.store.revision(), shop.store.state_hash());
    let good = envelope(header(1, 1), set("a", "2"));
    let mut other_version = good.to_vec();
    other_version[0] = 2;
    for entry in [Bytes::new(), Bytes::from(vec![0; 100]), Bytes::from(other_version), good.slice(..good.len() - 1)] {
        assert_eq!(shop.entry(2, &entry), Err(Refusal::Unreadable));
    }
    assert_eq!((shop.store.revision(), shop.store.state_hash()), (revision, hash));
    assert_eq!(shop.store.session_count(), 1, "an entry nobody can read opens no session");
    assert_eq!(shop.entry(2, &good).unwrap().revision, Revision(2));
}

#[test]
fn an_unknown_version_is_named() {
    for found in [0, 2, 255] {
        let mut entry = envelope(header(1, 1), set("a", "2")).to_vec();
        entry[0] = found;
        assert_eq!(Envelope::decode(&Bytes::from(entry)), Err(EnvelopeError::UnknownVersion { found }));
    }
}

#[test]
fn lengths_that_lie_cost_nothing() {
    let base = envelope(header(1, 1), set("key", "value")).to_vec();

    let mut principal = base.clone();
    principal[49..51].copy_from_slice(&257u16.to_le_bytes());
    assert_eq!(
        Envelope::decode(&Bytes::from(principal)),
        Err(EnvelopeError::PrincipalTooLong { size_bytes: MAX_PRINCIPAL_BYTES + 1 })
    );
    let mut principal = base.clone();
    principal[49..51].copy_from_slice(&256u16.to_le_bytes());
    let size_bytes = base.len();
    assert_eq!(Envelope::decode(&Bytes::from(principal)), Err(EnvelopeError::Truncated { size_bytes }));

    // The key's length, as a varint: 4 GiB, and all 64 bits.
    for length in [&[0x80, 0x80, 0x80, 0x80, 0x10][..], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]] {
        let mut entry = base[..=COMMAND_AT].to_vec();
        entry.extend_from_slice(length);
        entry.extend_from_slice(b"key");
        assert!(matches!(Envelope::decode(&Bytes::from(entry)), Err(EnvelopeError::Command(_))));
    }
}

#[test]
fn decoding_copies_neither_key_nor_value() {
    let encoded = Envelope {
        session: header(1, 1),
        principal: Principal::new(bytes("who")).unwrap(),
        command: set("the key", "the value"),
    }
    .encode();
    let inside = |part: &[u8]| encoded.as_ptr_range().contains(&part.as_ptr());
    let decoded = Envelope::decode(&encoded).unwrap();
    let Command::Set { key, value, .. } = &decoded.command else { panic!("a set") };
    assert!(inside(key) && inside(value) && inside(decoded.principal.as_bytes()));
}

#[test]
fn the_largest_command_fits_the_largest_envelope() {
    let full = || Bytes::from(vec![0; MAX_VALUE_BYTES]);
    let command = Command::CompareAndSwap { key: Bytes::from(vec![1; MAX_KEY_BYTES]), expected: full(), new: full() };
    let principal = Principal::new(Bytes::from(vec![2; MAX_PRINCIPAL_BYTES])).unwrap();
    let encoded = Envelope { session: header(u128::MAX, u64::MAX), principal, command }.encode();
    assert_eq!(encoded.len(), MAX_ENVELOPE_BYTES);
}

#[test]
fn a_principal_over_its_limit_cannot_be_made() {
    let name = Bytes::from(vec![0; MAX_PRINCIPAL_BYTES + 1]);
    assert_eq!(Principal::new(name), Err(EnvelopeError::PrincipalTooLong { size_bytes: MAX_PRINCIPAL_BYTES + 1 }));
}
