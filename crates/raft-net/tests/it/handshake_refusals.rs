//! Everything that is not a handshake, or not wanted: each has its name, on both sides.

use bytes::BytesMut;
use raft_net::{
    AcceptError, ConnectError, FrameError, FrameKind, HandshakeError, HandshakeRefusal, Hello, MAGIC, OtherProtocol,
    VersionRange, accept, connect,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::handshake::greeting;
use crate::support::{LIMITS, MAX_FRAME_BYTES, PATIENCE, client_hello, encoded, frame, listen, raw_pair, welcome};

/// What `accept` makes of these bytes, and what the one who sent them hears.
async fn accept_bytes(bytes: &[u8]) -> (AcceptError, Vec<u8>) {
    let (mut dialer, stream) = raw_pair().await;
    let speak = async {
        dialer.write_all(bytes).await.unwrap();
        // It may be gone by now; bytes that nobody read make the end a reset.
        let _ = dialer.shutdown().await;
        let mut heard = Vec::new();
        let _ = dialer.read_to_end(&mut heard).await;
        heard
    };
    let never = |hello: &Hello| -> Result<_, _> { panic!("asked about {hello:?}") };
    let (accepted, heard) = tokio::join!(accept(stream, &LIMITS, never), speak);
    (accepted.unwrap_err(), heard)
}

fn refusal_in(heard: &[u8]) -> HandshakeRefusal {
    let frame = raft_net::Frame::decode(&mut BytesMut::from(heard), MAX_FRAME_BYTES).unwrap().unwrap();
    assert_eq!(frame.kind, FrameKind::Refused);
    postcard::from_bytes(&frame.header).unwrap()
}

#[tokio::test]
async fn strangers_are_recognised_by_their_first_words() {
    let words: [(&[u8], OtherProtocol); 8] = [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", OtherProtocol::Http),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", OtherProtocol::Http),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", OtherProtocol::Tls),
        (b"*1\r\n$4\r\nPING\r\n", OtherProtocol::Unknown),
        (b"\0", OtherProtocol::Unknown),
        (b"raftd\n\n\x01", OtherProtocol::Unknown),
        (b"raftd\r\n\x02", OtherProtocol::Unknown),
        (&[0xFF; 4096], OtherProtocol::Unknown),
    ];
    for (bytes, expected) in words {
        let (error, heard) = accept_bytes(bytes).await;
        let AcceptError::Protocol(HandshakeError::Magic(found)) = error else { panic!("{bytes:?}: {error}") };
        assert_eq!(found, expected, "{bytes:?}");
        if bytes.len() < 64 {
            assert_eq!(refusal_in(&heard), HandshakeRefusal::NotOurProtocol, "{bytes:?}");
        }
    }
}

#[tokio::test]
async fn who_leaves_early_is_noticed() {
    let whole = greeting();
    for said in 0..whole.len() {
        let (error, heard) = accept_bytes(&whole[..said]).await;
        assert!(matches!(error, AcceptError::Protocol(HandshakeError::Closed)), "after {said} bytes: {error}");
        assert!(heard.is_empty());
    }
}

#[tokio::test]
async fn no_frame_comes_before_the_hello() {
    for kind in [FrameKind::Welcome, FrameKind::Refused, FrameKind::Request, FrameKind::Raft, FrameKind::Node] {
        let mut early = frame(b"header", b"payload");
        early.kind = kind;
        let (error, heard) = accept_bytes(&[&MAGIC[..], &encoded(&early)].concat()).await;
        let AcceptError::Protocol(HandshakeError::UnexpectedKind(found)) = error else { panic!("{error}") };
        assert_eq!(found, kind);
        assert!(heard.is_empty(), "nothing is said to it");
    }
}

#[tokio::test]
async fn a_hello_of_wrong_bytes_is_refused() {
    let whole = greeting();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let (error, _) = accept_bytes(&flipped).await;
    assert!(matches!(error, AcceptError::Protocol(HandshakeError::Frame(FrameError::Checksum { .. }))), "{error}");

    // A right frame whose header ends too early, names a role there is not, or is text that is none.
    let peer_with_bad_text = [&[1, 1, 0, 1, 0, 1, 2][..], &[0; 1], &[0], &[1, 0xFF]].concat();
    for header in [&[][..], &[1], &[1, 1], &[1, 1, 0], &[1, 1, 0, 3], &[1, 1, 9], &peer_with_bad_text] {
        let mut hello = frame(header, b"");
        hello.kind = FrameKind::Hello;
        let (error, _) = accept_bytes(&[&MAGIC[..], &encoded(&hello)].concat()).await;
        assert!(matches!(error, AcceptError::Protocol(HandshakeError::Malformed(_))), "{header:?}: {error}");
    }
}

/// Whatever a later version puts behind its versions, it learns that it is too new.
#[tokio::test]
async fn another_version_is_refused_whatever_else_it_says() {
    let ours = VersionRange { min: 1, max: 1 };
    for (theirs, header) in [
        (VersionRange { min: 2, max: 3 }, &[2, 3][..]),
        (VersionRange { min: 2, max: 300 }, &[2, 0xAC, 2, 0xFF, 0xFF, 0xFF]),
        (VersionRange { min: 0, max: 0 }, &[0, 0, 0, 0]),
        (VersionRange { min: 3, max: 1 }, &[3, 1, 0, 0]),
    ] {
        let mut hello = frame(header, b"");
        hello.kind = FrameKind::Hello;
        let (error, heard) = accept_bytes(&[&MAGIC[..], &encoded(&hello)].concat()).await;
        let expected = HandshakeRefusal::VersionUnsupported { ours, theirs };
        assert!(matches!(&error, AcceptError::Refused(refusal) if *refusal == expected), "{error}");
        assert_eq!(refusal_in(&heard), expected);
    }
}

/// Fields are added at the end: a newer Hello that still offers version 1 is understood.
#[tokio::test]
async fn what_a_later_version_adds_is_ignored() {
    let newer = Hello { versions: VersionRange { min: 1, max: 2 }, ..client_hello() };
    let mut header = postcard::to_allocvec(&newer).unwrap();
    header.extend(b"a new field");
    let mut hello = frame(&header, b"");
    hello.kind = FrameKind::Hello;
    let (mut dialer, stream) = raw_pair().await;
    dialer.write_all(&[&MAGIC[..], &encoded(&hello)].concat()).await.unwrap();
    // Whatever the decision says of the version, the one both speak is chosen.
    let decide = |_: &Hello| Ok(raft_net::Welcome { version: 2, ..welcome(1) });
    let (_connection, said) = accept(stream, &LIMITS, decide).await.unwrap();
    assert_eq!(said, newer);
    let mut buffer = BytesMut::new();
    dialer.read_buf(&mut buffer).await.unwrap();
    let answer = raft_net::Frame::decode(&mut buffer, MAX_FRAME_BYTES).unwrap().unwrap();
    assert_eq!(postcard::from_bytes::<raft_net::Welcome>(&answer.header).unwrap().version, 1);
}

/// Every refusal there is.
pub(crate) fn refusals() -> Vec<HandshakeRefusal> {
    let (ours, theirs) = (VersionRange { min: 1, max: 2 }, VersionRange { min: 3, max: 400 });
    vec![
        HandshakeRefusal::VersionUnsupported { ours, theirs },
        HandshakeRefusal::WrongCluster { ours: 0xA, theirs: u128::MAX },
        HandshakeRefusal::WrongNode { wanted: 1, here: 300 },
        HandshakeRefusal::UnknownPeer { id: 4 },
        HandshakeRefusal::ForeignDisk { id: 5 },
        HandshakeRefusal::TooManyConnections { limit: 8_192 },
        HandshakeRefusal::PeersNotServedHere,
        HandshakeRefusal::ClientsNotServedHere,
        HandshakeRefusal::NotOurProtocol,
    ]
}

#[tokio::test]
async fn each_refusal_reaches_the_dialer() {
    for refusal in refusals() {
        let (listener, address) = listen().await;
        let serve = async {
            let (stream, _) = listener.accept().await.unwrap();
            accept(stream, &LIMITS, |_| Err(refusal.clone())).await
        };
        let hello = client_hello();
        let (dialled, accepted) = tokio::join!(connect(&address, &hello, PATIENCE, MAX_FRAME_BYTES), serve);
        let error = dialled.unwrap_err();
        assert!(matches!(&error, ConnectError::Refused { refusal: heard, .. } if *heard == refusal), "{error}");
        assert!(error.to_string().contains(&refusal.to_string()));
        assert!(matches!(accepted, Err(AcceptError::Refused(said)) if said == refusal));
    }
}

/// A refused dialer that keeps its end open and talks on: why it was refused is known, and it is closed.
#[tokio::test]
async fn a_refused_dialer_that_stays_is_shown_out() {
    let (mut dialer, stream) = raw_pair().await;
    dialer.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    tokio::time::pause();
    let error = accept(stream, &LIMITS, |_| Ok(welcome(1))).await.unwrap_err();
    assert!(matches!(error, AcceptError::Protocol(HandshakeError::Magic(OtherProtocol::Http))), "{error}");
    tokio::time::resume();
    let mut heard = Vec::new();
    dialer.read_to_end(&mut heard).await.unwrap();
    assert_eq!(refusal_in(&heard), HandshakeRefusal::NotOurProtocol);
}

/// However much it still says, it reads the reason and then the end, not a reset; and it need not hang up for that.
#[tokio::test]
async fn a_refused_dialer_that_talks_on_reads_why_to_the_end() {
    let (mut dialer, stream) = raw_pair().await;
    dialer.write_all(&[0xFF; 32 << 10]).await.unwrap();
    let mut heard = Vec::new();
    tokio::select! {
        biased;
        read = dialer.read_to_end(&mut heard) => drop(read.unwrap()),
        accepted = accept(stream, &LIMITS, |_| Ok(welcome(1))) => panic!("gone before the dialer: {accepted:?}"),
    }
    assert_eq!(refusal_in(&heard), HandshakeRefusal::NotOurProtocol);
}

// --- what a dialer meets -------------------------------------------------------------------------------------------

/// What `connect` makes of an answer of these bytes, and then the end.
async fn dial_into(answer: &[u8]) -> HandshakeError {
    let (listener, address) = listen().await;
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut hello = vec![0; greeting().len()];
        stream.read_exact(&mut hello).await.unwrap();
        assert_eq!(hello, greeting());
        stream.write_all(answer).await.unwrap();
    };
    let hello = client_hello();
    let (dialled, ()) = tokio::join!(connect(&address, &hello, PATIENCE, MAX_FRAME_BYTES), serve);
    let error = dialled.unwrap_err();
    let ConnectError::Protocol { source, .. } = error else { panic!("{error}") };
    source
}

fn answer(kind: FrameKind, header: &[u8]) -> Vec<u8> {
    let mut answer = frame(header, b"");
    answer.kind = kind;
    encoded(&answer)
}

#[tokio::test]
async fn a_port_of_something_else_is_recognised() {
    let http = dial_into(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    assert!(matches!(http, HandshakeError::Magic(OtherProtocol::Http)), "{http}");
    let tls = dial_into(b"\x15\x03\x03\x00\x02\x02\x46").await;
    assert!(matches!(tls, HandshakeError::Magic(OtherProtocol::Tls)), "{tls}");
    assert!(matches!(dial_into(&[0xFF; 64]).await, HandshakeError::Frame(FrameError::TooLarge { .. })));
    assert!(matches!(dial_into(b"").await, HandshakeError::Closed));
}

#[tokio::test]
async fn answers_that_are_none_are_refused() {
    for kind in
        [FrameKind::Hello, FrameKind::Request, FrameKind::Response, FrameKind::Push, FrameKind::Raft, FrameKind::Node]
    {
        let error = dial_into(&answer(kind, b"")).await;
        assert!(matches!(error, HandshakeError::UnexpectedKind(found) if found == kind), "{error}");
    }
    let cut_short = dial_into(&answer(FrameKind::Welcome, &[1])).await;
    assert!(matches!(cut_short, HandshakeError::Malformed(_)), "{cut_short}");
    let later = raft_net::Welcome { version: 2, ..welcome(1) };
    let error = dial_into(&answer(FrameKind::Welcome, &postcard::to_allocvec(&later).unwrap())).await;
    assert!(matches!(error, HandshakeError::VersionNotOffered(2)), "{error}");
    let unknown = u8::try_from(refusals().len()).unwrap();
    let error = dial_into(&answer(FrameKind::Refused, &[unknown, 1, 2])).await;
    assert!(matches!(error, HandshakeError::UnknownRefusal), "{error}");
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let (listener, address) = listen().await;
    drop(listener);
    let error = connect(&address, &client_hello(), PATIENCE, MAX_FRAME_BYTES).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&address));
    let nonsense = connect("not an address", &client_hello(), PATIENCE, MAX_FRAME_BYTES).await.unwrap_err();
    assert!(matches!(nonsense, ConnectError::Unreachable { .. }), "{nonsense}");
}
