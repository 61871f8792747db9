//! Frames over real connections, however the bytes are cut (FAULTS: split frames, many in one write).

use raft_net::{FrameError, PREFIX_BYTES};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{FrameReader, MAX_FRAME_BYTES, encoded, frame, raw_pair};

#[tokio::test]
async fn ten_thousand_frames_in_one_write() {
    let (mut dialer, acceptor) = raw_pair().await;
    let sent: Vec<_> = (0..10_000_u32).map(|number| frame(&number.to_le_bytes(), b"payload")).collect();
    let bytes: Vec<u8> = sent.iter().flat_map(encoded).collect();
    let mut reader = FrameReader::of_stream(acceptor, MAX_FRAME_BYTES);
    let write = async move { dialer.write_all(&bytes).await.unwrap() };
    let read = async {
        for expected in &sent {
            assert_eq!(reader.next().await.unwrap().as_ref(), Some(expected));
        }
        assert_eq!(reader.next().await.unwrap(), None, "and then the end");
    };
    tokio::join!(write, read);
}

#[tokio::test]
async fn one_byte_a_write() {
    let (mut dialer, acceptor) = raw_pair().await;
    dialer.set_nodelay(true).unwrap();
    let sent = [frame(b"header", b"payload"), frame(b"", b""), frame(b"h", &[1; 100])];
    let bytes: Vec<u8> = sent.iter().flat_map(encoded).collect();
    let mut reader = FrameReader::of_stream(acceptor, MAX_FRAME_BYTES);
    let write = async move {
        for byte in bytes {
            dialer.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let read = async {
        for expected in &sent {
            assert_eq!(reader.next().await.unwrap().as_ref(), Some(expected));
        }
        assert_eq!(reader.next().await.unwrap(), None);
    };
    tokio::join!(write, read);
}

#[tokio::test]
async fn a_frame_of_exactly_the_limit_arrives_and_one_more_byte_does_not() {
    const LIMIT_BYTES: usize = 1 << 20;
    for excess in [0, 1] {
        let (mut dialer, acceptor) = raw_pair().await;
        let bytes = encoded(&frame(b"", &vec![3; LIMIT_BYTES - PREFIX_BYTES + excess]));
        let mut reader = FrameReader::of_stream(acceptor, LIMIT_BYTES);
        // The reader gives up on the second before all is written.
        let write = async { drop(dialer.write_all(&bytes).await) };
        let read = async {
            let read = reader.next().await;
            drop(reader);
            read
        };
        let ((), read) = tokio::join!(write, read);
        if excess == 0 {
            assert_eq!(read.unwrap().unwrap().size_bytes(), LIMIT_BYTES);
        } else {
            assert!(matches!(read, Err(FrameError::TooLarge { limit_bytes: LIMIT_BYTES, .. })), "{read:?}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_ends_within_a_frame_gives_no_frame() {
    let bytes = encoded(&frame(b"header", b"payload"));
    for cut in 0..bytes.len() {
        let (mut dialer, acceptor) = raw_pair().await;
        dialer.write_all(&bytes[..cut]).await.unwrap();
        drop(dialer);
        let mut reader = FrameReader::of_stream(acceptor, MAX_FRAME_BYTES);
        assert_eq!(reader.next().await.unwrap(), None, "after {cut} bytes");
    }
}

#[tokio::test]
async fn what_waits_behind_damage_is_never_read() {
    let (mut dialer, acceptor) = raw_pair().await;
    let mut bytes = encoded(&frame(b"first", b""));
    bytes[20] ^= 1;
    bytes.extend(encoded(&frame(b"second", b"")));
    dialer.write_all(&bytes).await.unwrap();
    let mut reader = FrameReader::of_stream(acceptor, MAX_FRAME_BYTES);
    assert!(matches!(reader.next().await, Err(FrameError::Checksum { .. })));
    drop(reader);
    // What was not read makes it a reset, or the end: closed either way.
    assert!(matches!(dialer.read(&mut [0; 8]).await, Ok(0) | Err(_)));
}
