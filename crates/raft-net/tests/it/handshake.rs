//! The handshake between two who mean each other, and its limits in time and size.

use std::time::Duration;

use raft_net::{
    AcceptError, AcceptLimits, ConnectError, FrameError, FrameKind, HandshakeError, MAGIC, PREFIX_BYTES, accept,
    connect,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::interval;

use crate::support::{
    FrameReader, LIMITS, MAX_FRAME_BYTES, PATIENCE, client_hello, encoded, frame, listen, peer_hello, raw_pair, welcome,
};

/// A client's Hello, as bytes.
pub(crate) fn greeting() -> Vec<u8> {
    let header = postcard::to_allocvec(&client_hello()).unwrap();
    let mut hello = frame(&header, b"");
    hello.kind = FrameKind::Hello;
    [&MAGIC[..], &encoded(&hello)].concat()
}

#[tokio::test]
async fn both_learn_what_the_other_says_and_then_speak_frames() {
    for hello in [client_hello(), peer_hello()] {
        let (listener, address) = listen().await;
        let serve = async {
            let (stream, _) = listener.accept().await.unwrap();
            let (connection, said) = accept(stream, &LIMITS, |_| Ok(welcome(9))).await.unwrap();
            (FrameReader::new(connection), said)
        };
        let (dialled, (mut reader, said)) = tokio::join!(connect(&address, &hello, PATIENCE, MAX_FRAME_BYTES), serve);
        let (connection, answered) = dialled.unwrap();
        assert_eq!(said, hello);
        assert_eq!(answered, welcome(9));
        let mut stream = connection.into_inner();
        stream.write_all(&encoded(&frame(b"h", b"p"))).await.unwrap();
        assert_eq!(reader.next().await.unwrap(), Some(frame(b"h", b"p")));
    }
}

/// What a hasty dialer sends behind its Hello is kept, and kept in order: a second Hello too, which is the business of
/// whoever reads the connection.
#[tokio::test]
async fn what_follows_the_hello_at_once_is_not_lost() {
    let (mut dialer, stream) = raw_pair().await;
    let second_hello = greeting().split_off(MAGIC.len());
    let bytes = [greeting(), encoded(&frame(b"early", b"bird")), second_hello].concat();
    dialer.write_all(&bytes).await.unwrap();
    let (connection, _) = accept(stream, &LIMITS, |_| Ok(welcome(1))).await.unwrap();
    let mut reader = FrameReader::new(connection);
    assert_eq!(reader.next().await.unwrap(), Some(frame(b"early", b"bird")));
    assert_eq!(reader.next().await.unwrap().unwrap().kind, FrameKind::Hello);
}

#[tokio::test]
async fn a_hello_byte_by_byte_is_a_hello() {
    let (mut dialer, stream) = raw_pair().await;
    dialer.set_nodelay(true).unwrap();
    let write = async {
        for byte in greeting() {
            dialer.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let ((), accepted) = tokio::join!(write, accept(stream, &LIMITS, |_| Ok(welcome(1))));
    assert_eq!(accepted.unwrap().1, client_hello());
}

/// The limit of the connection is not the limit of its handshake: 4 KiB, however much is allowed later.
#[tokio::test]
async fn before_the_handshake_is_done_nothing_is_large() {
    for claim in [(4 << 10) - PREFIX_BYTES as u32 + 1, 1 << 20, 1 << 31, u32::MAX] {
        let (mut dialer, stream) = raw_pair().await;
        let prefix = [claim.to_le_bytes(), [0; 4], [0; 4], [FrameKind::Hello as u8, 0, 0, 0], [0; 4]].concat();
        dialer.write_all(&[&MAGIC[..], &prefix].concat()).await.unwrap();
        let error = accept(stream, &LIMITS, |_| Ok(welcome(1))).await.unwrap_err();
        let AcceptError::Protocol(HandshakeError::Frame(FrameError::TooLarge { size_bytes, limit_bytes })) = error
        else {
            panic!("{error}")
        };
        assert_eq!((size_bytes, limit_bytes), (u64::from(claim) + 20, 4 << 10));
        assert!(matches!(dialer.read(&mut [0; 8]).await, Ok(0) | Err(_)), "closed at once");
    }
}

#[tokio::test]
async fn a_hello_that_cannot_be_sent_is_an_error_here() {
    let (_listener, address) = listen().await;
    let mut hello = peer_hello();
    let raft_net::Role::Peer(peer) = &mut hello.role else { unreachable!() };
    peer.client_address = "h".repeat(4 << 10);
    let error = connect(&address, &hello, PATIENCE, MAX_FRAME_BYTES).await.unwrap_err();
    assert!(
        matches!(&error, ConnectError::Protocol { source: HandshakeError::Frame(FrameError::TooLarge { .. }), .. }),
        "{error}"
    );
}

// --- time: paused, so that a limit is over when there is nothing left to do -----------------------------------------

const SHORT: AcceptLimits =
    AcceptLimits { handshake_timeout: Duration::from_secs(5), max_frame_bytes: MAX_FRAME_BYTES };

#[tokio::test]
async fn silence_ends_at_any_point_of_the_handshake() {
    let whole = greeting();
    for said in 0..whole.len() {
        let (mut dialer, stream) = raw_pair().await;
        dialer.write_all(&whole[..said]).await.unwrap();
        tokio::time::pause();
        let begun = tokio::time::Instant::now();
        let error = accept(stream, &SHORT, |_| Ok(welcome(1))).await.unwrap_err();
        assert!(matches!(error, AcceptError::Timeout(_)), "after {said} bytes: {error}");
        assert!(begun.elapsed() < Duration::from_secs(6), "after {said} bytes it took {:?}", begun.elapsed());
        tokio::time::resume();
        assert!(matches!(dialer.read(&mut [0; 8]).await, Ok(0) | Err(_)), "closed, after {said} bytes");
    }
}

/// The limit is on the whole, not on each byte (slowloris).
#[tokio::test]
async fn a_byte_a_second_does_not_keep_it_open() {
    let (mut dialer, stream) = raw_pair().await;
    tokio::time::pause();
    let drip = async {
        let mut seconds = interval(Duration::from_secs(1));
        for byte in greeting() {
            seconds.tick().await;
            if dialer.write_all(&[byte]).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = drip => {}
        accepted = accept(stream, &SHORT, |_| Ok(welcome(1))) => {
            assert!(matches!(accepted, Err(AcceptError::Timeout(_))), "{accepted:?}");
        }
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let (listener, address) = listen().await;
    let hello = client_hello();
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        // From here on only the dialer's limit is left to wait for.
        tokio::time::pause();
        std::future::pending::<()>().await;
        drop(stream);
    };
    let error = tokio::select! {
        () = serve => unreachable!(),
        dialled = connect(&address, &hello, PATIENCE, MAX_FRAME_BYTES) => dialled.unwrap_err(),
    };
    assert!(matches!(error, ConnectError::Timeout { timeout: PATIENCE, .. }), "{error}");
}
