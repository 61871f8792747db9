//! The frame format on buffers, against a naive twin and against disorder.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use raft_net::{Frame, FrameCodec, FrameError, FrameKind, PREFIX_BYTES};
use tokio_util::codec::Decoder;

use crate::support::{encoded, frame};

const LIMIT_BYTES: usize = 64 << 10;

fn decode(bytes: &[u8], limit_bytes: usize) -> Result<Option<Frame>, FrameError> {
    Frame::decode(&mut BytesMut::from(bytes), limit_bytes)
}

/// CRC-32C, one bit at a time.
fn naive_crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 };
        }
    }
    !crc
}

/// Kind, group, header, payload.
type Fields = (u8, u32, Vec<u8>, Vec<u8>);

/// What a frame's bytes mean, with the table of `docs/formats-wire.md` in hand: each whole frame, and
/// whether what follows is wrong.
fn twin(bytes: &[u8]) -> (Vec<Fields>, bool) {
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let mut frames = Vec::new();
    let mut at = 0;
    loop {
        if bytes.len() - at < 20 {
            return (frames, false);
        }
        let (body, header, group, kind, crc) =
            (number(at), number(at + 4), number(at + 8), bytes[at + 12], number(at + 16));
        let is_known = [1, 2, 3, 16, 17, 18, 32, 33].contains(&kind);
        let size = body as usize + 20;
        if size > LIMIT_BYTES || header > body || bytes[at + 13..at + 16] != [0; 3] || !is_known {
            return (frames, true);
        }
        if bytes.len() - at < size {
            return (frames, false);
        }
        let whole = &bytes[at..at + size];
        if crc != naive_crc(&[&whole[..16], &whole[20..]].concat()) {
            return (frames, true);
        }
        let (header, payload) = whole[20..].split_at(header as usize);
        frames.push((kind, group, header.to_vec(), payload.to_vec()));
        at += size;
    }
}

fn kind() -> impl Strategy<Value = FrameKind> {
    prop::sample::select(vec![
        FrameKind::Hello,
        FrameKind::Welcome,
        FrameKind::Refused,
        FrameKind::Request,
        FrameKind::Response,
        FrameKind::Push,
        FrameKind::Raft,
        FrameKind::Node,
    ])
}

/// Mostly small, sometimes on either side of where frames are no longer copied.
fn some_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![8 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 16_200..16_500)]
}

prop_compose! {
    fn any_frame()(kind in kind(), group: u32, header in some_bytes(), payload in some_bytes()) -> Frame {
        Frame { kind, group, header: header.into(), payload: payload.into() }
    }
}

/// What the decoder makes of `bytes` that arrive in pieces of these sizes, over and over.
fn decode_in_pieces(bytes: &[u8], sizes: &[usize]) -> (Vec<Frame>, bool) {
    let mut codec = FrameCodec::new(LIMIT_BYTES);
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    let mut rest = bytes;
    for &size in sizes.iter().cycle() {
        let (piece, after) = rest.split_at(size.min(rest.len()));
        rest = after;
        buffer.extend_from_slice(piece);
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
        if rest.is_empty() {
            break;
        }
    }
    (frames, false)
}

fn as_twin((frames, is_wrong): (Vec<Frame>, bool)) -> (Vec<Fields>, bool) {
    let fields = |frame: Frame| (frame.kind as u8, frame.group, frame.header.to_vec(), frame.payload.to_vec());
    (frames.into_iter().map(fields).collect(), is_wrong)
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_in_any_pieces(frames in vec(any_frame(), 0..8), sizes in vec(1_usize..5_000, 1..9)) {
        let bytes: Vec<u8> = frames.iter().flat_map(encoded).collect();
        prop_assert_eq!(bytes.len(), frames.iter().map(Frame::size_bytes).sum::<usize>());
        prop_assert_eq!(decode_in_pieces(&bytes, &sizes), (frames, false));
    }

    /// Whole frames with a few bytes changed: the twin and the decoder agree on what is left.
    #[test]
    fn decodes_as_its_twin(
        frames in vec(any_frame(), 0..4),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        tail in vec(any::<u8>(), 0..40),
        sizes in vec(1_usize..5_000, 1..9),
    ) {
        let mut bytes: Vec<u8> = frames.iter().flat_map(encoded).chain(tail).collect();
        for (place, byte) in damage {
            if !bytes.is_empty() {
                let at = place.index(bytes.len());
                bytes[at] = byte;
            }
        }
        prop_assert_eq!(as_twin(decode_in_pieces(&bytes, &sizes)), twin(&bytes));
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(as_twin(decode_in_pieces(&bytes, &[7])), twin(&bytes));
    }

    /// Bytes that pass for a prefix reach what is behind it.
    #[test]
    fn random_bodies_never_panic(body in 0_u32..64, header in 0_u32..64, kind in kind(), rest in vec(any::<u8>(), 0..90)) {
        let mut bytes = [body.to_le_bytes(), header.to_le_bytes(), [0; 4], [kind as u8, 0, 0, 0]].concat();
        bytes.extend(rest);
        prop_assert_eq!(as_twin(decode_in_pieces(&bytes, &[1_000])), twin(&bytes));
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    for frame in [frame(b"", b""), frame(b"header", b"some payload"), frame(&[0; 3], &[0xFF; 64])] {
        let right = encoded(&frame);
        for bit in 0..right.len() * 8 {
            let mut bytes = right.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // A larger length may make it incomplete; a whole frame it never is, whatever follows.
            bytes.extend([0; 300]);
            let decoded = decode(&bytes, LIMIT_BYTES);
            assert!(!matches!(decoded, Ok(Some(_))), "bit {bit} of {frame:?}: {decoded:?}");
        }
    }
}

#[test]
fn a_frame_split_at_every_byte_is_whole_at_its_last() {
    let bytes = encoded(&frame(b"header", b"payload"));
    for cut in 0..bytes.len() {
        let mut buffer = BytesMut::from(&bytes[..cut]);
        assert!(matches!(Frame::decode(&mut buffer, LIMIT_BYTES), Ok(None)), "whole after {cut} bytes");
        assert_eq!(buffer, bytes[..cut], "nothing is taken before it is whole");
        buffer.extend_from_slice(&bytes[cut..]);
        assert_eq!(Frame::decode(&mut buffer, LIMIT_BYTES).unwrap(), Some(frame(b"header", b"payload")));
        assert!(buffer.is_empty());
    }
}

/// A prefix that claims so much.
fn claim(body_bytes: u32, header_bytes: u32) -> Vec<u8> {
    [body_bytes.to_le_bytes(), header_bytes.to_le_bytes(), [0; 4], [FrameKind::Node as u8, 0, 0, 0], [0; 4]].concat()
}

#[test]
fn a_claim_over_the_limit_is_refused_before_anything_is_set_aside() {
    let largest = u32::try_from(LIMIT_BYTES - PREFIX_BYTES).unwrap();
    for body_bytes in [largest + 1, LIMIT_BYTES as u32, LIMIT_BYTES as u32 + 1, 1 << 31, u32::MAX] {
        for header_bytes in [0, body_bytes, u32::MAX] {
            let mut buffer = BytesMut::from(&claim(body_bytes, header_bytes)[..]);
            let before = buffer.capacity();
            let error = Frame::decode(&mut buffer, LIMIT_BYTES).unwrap_err();
            let expected = u64::from(body_bytes) + 20;
            assert!(
                matches!(error, FrameError::TooLarge { size_bytes, limit_bytes: LIMIT_BYTES } if size_bytes == expected),
                "{error}"
            );
            assert_eq!(buffer.capacity(), before);
        }
    }
    assert!(matches!(decode(&claim(largest, 0), LIMIT_BYTES), Ok(None)), "at the limit it may still come");
}

#[test]
fn a_claim_within_the_limit_gets_room_as_it_arrives() {
    let mut buffer = BytesMut::from(&claim(1 << 30, 0)[..]);
    assert!(matches!(Frame::decode(&mut buffer, usize::MAX), Ok(None)));
    assert!(buffer.capacity() <= 128 << 10, "{} bytes for 20 that came", buffer.capacity());
}

#[test]
fn each_wrong_field_has_its_name() {
    let right = encoded(&frame(b"header", b"payload"));
    let with = |at: usize, byte: u8| {
        let mut bytes = right.clone();
        bytes[at] = byte;
        decode(&bytes, LIMIT_BYTES).unwrap_err()
    };
    assert!(matches!(with(4, 14), FrameError::HeaderBeyondBody { header_bytes: 14, body_bytes: 13 }));
    assert!(matches!(with(12, 0), FrameError::UnknownKind(0)));
    assert!(matches!(with(12, 34), FrameError::UnknownKind(34)));
    for reserved in 13..16 {
        assert!(matches!(with(reserved, 1), FrameError::Reserved));
    }
    assert!(matches!(with(16, right[16] ^ 1), FrameError::Checksum { .. }));
    assert!(matches!(with(20, b'H'), FrameError::Checksum { .. }));
    assert!(matches!(with(8, 1), FrameError::Checksum { .. }), "the group is covered too");
    // The header's length only moves the border inside the body: the CRC covers it too.
    assert!(matches!(with(4, 5), FrameError::Checksum { .. }));
}

#[test]
fn a_frame_over_the_limit_is_not_sent() {
    let large = frame(b"h", &[0; 100]);
    let mut buffer = BytesMut::from(&b"before"[..]);
    let limit_bytes = large.size_bytes() - 1;
    assert!(matches!(large.encode(&mut buffer, limit_bytes), Err(FrameError::TooLarge { size_bytes: 121, .. })));
    assert_eq!(buffer, b"before"[..], "the buffer is as it was");
    large.encode(&mut buffer, limit_bytes + 1).unwrap();
}

#[test]
fn a_large_payload_is_not_copied_and_a_small_one_pins_nothing() {
    let is_within = |payload: &Bytes, buffer: (usize, usize)| {
        let start = payload.as_ptr() as usize;
        start >= buffer.0 && start + payload.len() <= buffer.1
    };
    for (size_bytes, is_shared) in [(100, false), (1 << 20, true)] {
        let mut buffer = BytesMut::from(&encoded(&frame(b"header", &vec![7; size_bytes]))[..]);
        let place = (buffer.as_ptr() as usize, buffer.as_ptr() as usize + buffer.len());
        let frame = Frame::decode(&mut buffer, usize::MAX).unwrap().unwrap();
        assert_eq!(is_within(&frame.payload, place), is_shared, "{size_bytes} bytes");
    }
}
