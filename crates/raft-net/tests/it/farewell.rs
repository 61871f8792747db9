//! How a refused dialer is shown out: it can read why, whatever it had sent, and it cannot stay for long.

use bytes::BytesMut;
use raft_net::{AcceptError, Frame, FrameKind, HandshakeRefusal, Hello, Welcome, accept};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::handshake::greeting;
use crate::support::{LIMITS, MAX_FRAME_BYTES, raw_pair};

const REFUSAL: HandshakeRefusal = HandshakeRefusal::UnknownPeer { id: 1 };

fn refuse(_: &Hello) -> Result<Welcome, HandshakeRefusal> {
    Err(REFUSAL)
}

/// What it had sent is read first: a socket closed over unread bytes is reset, and the reason may be lost with it.
#[tokio::test]
async fn who_sent_more_than_a_hello_still_reads_why() {
    let (mut dialer, stream) = raw_pair().await;
    dialer.write_all(&[greeting(), vec![0; 32 << 10]].concat()).await.unwrap();
    dialer.shutdown().await.unwrap();
    let error = accept(stream, &LIMITS, refuse).await.unwrap_err();
    assert!(matches!(error, AcceptError::Refused(REFUSAL)), "{error}");

    let mut heard = Vec::new();
    dialer.read_to_end(&mut heard).await.expect("it is closed, not reset");
    let answer = Frame::decode(&mut BytesMut::from(&heard[..]), MAX_FRAME_BYTES).unwrap().unwrap();
    assert_eq!(answer.kind, FrameKind::Refused);
    assert_eq!(postcard::from_bytes::<HandshakeRefusal>(&answer.header).unwrap(), REFUSAL);
}

/// One that says nothing more and does not leave has a second; time is paused, so it passes when nothing is left to do.
#[tokio::test]
async fn who_does_not_leave_is_given_a_second() {
    let (mut dialer, stream) = raw_pair().await;
    dialer.write_all(&greeting()).await.unwrap();
    tokio::time::pause();
    let begun = Instant::now();
    let error = accept(stream, &LIMITS, refuse).await.unwrap_err();
    assert!(matches!(error, AcceptError::Refused(REFUSAL)), "{error}");
    // Not less either: closed at once, over bytes still on their way, the reason could be lost.
    assert_eq!(begun.elapsed().as_secs(), 1);
    drop(dialer);
}

/// One that talks on is not listened to for long. The clock stands still as long as there is something to read, so only
/// the limit in bytes can end it: far less is taken than is offered.
#[tokio::test]
async fn who_talks_on_is_cut_off() {
    const OFFERED_BYTES: usize = 64 << 20;
    let (mut dialer, stream) = raw_pair().await;
    dialer.write_all(&greeting()).await.unwrap();
    tokio::time::pause();
    let talk = async {
        let piece = vec![0; 64 << 10];
        for _ in 0..OFFERED_BYTES / piece.len() {
            if dialer.write_all(&piece).await.is_err() {
                return false;
            }
        }
        true
    };
    let (was_all_taken, accepted) = tokio::join!(talk, accept(stream, &LIMITS, refuse));
    assert!(matches!(accepted, Err(AcceptError::Refused(REFUSAL))), "{accepted:?}");
    assert!(!was_all_taken, "{OFFERED_BYTES} bytes were read from somebody refused");
}
