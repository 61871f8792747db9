//! What comes after a proper handshake: a client, and a server that claims to be a peer, who then say what none would
//! (FAULTS 2c). Each ends with an answer that says why or a closed connection, and costs nobody else anything.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kv_store::api::{Consistency, Request, RequestBody, RequestErrorKind, Response, ResponseBody};
use kv_store::{
    ClientId, Command, Envelope, MAX_KEY_BYTES, MAX_VALUE_BYTES, Principal, Query, Revision, SessionHeader, Stamp,
};
use raft_core::{Body, LogIndex, LogPosition, Message, Poll, Term};
use raft_net::{
    ConnectError, Frame, FrameKind, HandshakeRefusal, Hello, LinkKind, PROTOCOL_VERSIONS, PeerHello, Role, Welcome,
    connect, peer,
};
use raftd_tests::Cluster;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Only to fail instead of hanging.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the far side may be sent before it refuses.
const LIMIT: usize = 64 << 20;

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("an answer, or an end") })
}

async fn meet(address: &str, role: Role, cluster: Option<u128>) -> Result<(TcpStream, Welcome), ConnectError> {
    let hello = Hello { versions: PROTOCOL_VERSIONS, cluster, role };
    let (connection, welcome) = connect(address, &hello, PATIENCE, LIMIT).await?;
    Ok((connection.into_inner(), welcome))
}

fn frame(kind: FrameKind, header: &[u8], payload: &[u8]) -> Vec<u8> {
    let (header, payload) = (Bytes::copy_from_slice(header), Bytes::copy_from_slice(payload));
    encoded(&Frame { kind, group: 0, header, payload })
}

fn encoded(frame: &Frame) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    frame.encode(&mut bytes, usize::MAX).unwrap();
    bytes.to_vec()
}

/// The fixed part of a frame that claims these lengths and this kind, and nothing behind it.
fn prefix(body_bytes: u32, header_bytes: u32, kind: u8, reserved: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_u32_le(body_bytes);
    bytes.put_u32_le(header_bytes);
    bytes.put_u32_le(0);
    bytes.put_slice(&[kind, reserved, 0, 0]);
    bytes.put_u32_le(0);
    bytes
}

fn flipped(mut bytes: Vec<u8>) -> Vec<u8> {
    *bytes.last_mut().unwrap() ^= 1;
    bytes
}

fn request(body: RequestBody, payload: &[u8]) -> Vec<u8> {
    let request = Request { id: 7, timeout_ms: 10_000, body };
    frame(FrameKind::Request, &postcard::to_allocvec(&request).unwrap(), payload)
}

fn envelope(command: Command) -> Bytes {
    let session = SessionHeader {
        client: ClientId(9),
        birth: Stamp(0),
        sequence: 1,
        lowest_unanswered: 1,
        deadline: Stamp(1 << 40),
    };
    Envelope { session, principal: Principal::nobody(), command }.encode()
}

fn set(key_bytes: usize, value_bytes: usize) -> Bytes {
    let (key, value) = (Bytes::from(vec![b'k'; key_bytes]), Bytes::from(vec![b'v'; value_bytes]));
    envelope(Command::Set { key, value, if_absent: false })
}

/// Waits until the server ends the connection, whatever it says before.
async fn is_closed(mut stream: TcpStream) {
    while matches!(stream.read(&mut [0; 4096]).await, Ok(1..)) {}
}

/// What no client says, and what the server cannot answer: the connection is closed.
fn unanswerable() -> Vec<(&'static str, Vec<u8>)> {
    let get = request(RequestBody::NodeStatus, b"");
    let hello = Hello { versions: PROTOCOL_VERSIONS, cluster: None, role: Role::Client };
    let vote = Message { term: Term(9), body: Body::RequestVote { last_log: LogPosition::ORIGIN, is_transfer: false } };
    vec![
        ("a frame that claims 4 GiB", prefix(u32::MAX, 0, 16, 0)),
        ("a frame that claims 2 GiB", prefix(1 << 31, 16, 16, 0)),
        ("a frame just over the limit", prefix(4 << 20, 16, 16, 0)),
        ("a header longer than its body", prefix(4, 5, 16, 0)),
        ("reserved bytes", prefix(0, 0, 16, 1)),
        ("an unknown kind", prefix(0, 0, 99, 0)),
        ("a wrong checksum", flipped(get)),
        ("a second handshake", frame(FrameKind::Hello, &postcard::to_allocvec(&hello).unwrap(), b"")),
        ("a response", frame(FrameKind::Response, b"", b"")),
        ("a vote", encoded(&peer::encode(&vote))),
        ("a message of a node", frame(FrameKind::Node, &[0, 0, 0], b"")),
        ("a request of no bytes", frame(FrameKind::Request, b"", b"")),
        ("a request of noise", frame(FrameKind::Request, &[0xFF; 64], b"")),
    ]
}

#[test]
fn a_client_that_talks_nonsense_is_shown_out_and_costs_nothing() {
    let mut cluster = Cluster::start(1);
    let (ctl, address) = (cluster.ctl(), cluster.address(1));
    ctl.run(&["set", "k", "v"]).done();
    let before = cluster.node(1).resident_bytes();
    for (what, bytes) in unanswerable() {
        for _ in 0..16 {
            run(async {
                let (mut stream, _) = meet(&address, Role::Client, None).await.unwrap();
                // The server may close while we still talk.
                let _ = stream.write_all(&bytes).await;
                is_closed(stream).await;
            });
        }
        assert!(cluster.node(1).is_running(), "{what} ended the server");
        assert_eq!(ctl.run(&["get", "k"]).done()["value"], json!("v"), "after {what}");
    }
    let grown = cluster.node(1).resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "nonsense cost {grown} bytes");
}

#[test]
fn half_a_frame_holds_up_nobody() {
    let cluster = Cluster::start(1);
    let (ctl, address) = (cluster.ctl(), cluster.address(1));
    let whole = request(RequestBody::Write, &set(1, 1_000));
    run(async {
        let mut open = Vec::new();
        for said in [1, 19, 20, whole.len() - 1] {
            let (mut stream, _) = meet(&address, Role::Client, None).await.unwrap();
            stream.write_all(&whole[..said]).await.unwrap();
            open.push(stream);
        }
        ctl.run(&["set", "other", "1"]).done();
        drop(open);
    });
    assert_eq!(ctl.run(&["scan"]).done()["items"].as_array().unwrap().len(), 1, "half a write is none");
}

/// What a client may say and cannot have: the answer says why, and that nothing was done.
#[test]
fn a_request_that_cannot_be_met_is_answered_with_the_reason() {
    use RequestErrorKind::{Invalid, TooLarge};
    let cluster = Cluster::start(1);
    let both_at_the_limit = envelope(Command::CompareAndSwap {
        key: Bytes::from_static(b"k"),
        expected: Bytes::from(vec![b'e'; MAX_VALUE_BYTES]),
        new: Bytes::from(vec![b'n'; MAX_VALUE_BYTES]),
    });
    let good = set(1, 1);
    let unknown_version = [&[2][..], &good[1..]].concat();
    let trailing = [&good[..], b"x"].concat();
    let write = |payload: &[u8]| request(RequestBody::Write, payload);
    let read = |query| request(RequestBody::Read { query, consistency: Consistency::Linearizable }, b"");
    let long_key = Bytes::from(vec![b'k'; MAX_KEY_BYTES + 1]);
    let table = [
        ("no envelope", write(b""), Invalid),
        ("half an envelope", write(&good[..good.len() / 2]), Invalid),
        ("an envelope of another version", write(&unknown_version), Invalid),
        ("bytes behind the envelope", write(&trailing), Invalid),
        ("an empty key", write(&set(0, 1)), Invalid),
        ("a key over the limit", write(&set(MAX_KEY_BYTES + 1, 1)), TooLarge),
        ("a value over the limit", write(&set(1, MAX_VALUE_BYTES + 1)), TooLarge),
        ("a request over the limit", write(&both_at_the_limit), TooLarge),
        ("a read of an empty key", read(Query::Get { key: Bytes::new() }), Invalid),
        ("a read of a key over the limit", read(Query::Get { key: long_key }), TooLarge),
    ];
    run(async {
        let (mut stream, _) = meet(&cluster.address(1), Role::Client, None).await.unwrap();
        let mut buffer = BytesMut::new();
        for (what, bytes, kind) in table {
            let response = ask(&mut stream, &mut buffer, &bytes).await;
            let error = response.body.unwrap_err();
            assert_eq!((error.kind, error.maybe_applied), (kind, false), "{what}: {error}");
        }
        // The same connection still serves, at the very limits too.
        let response = ask(&mut stream, &mut buffer, &write(&set(MAX_KEY_BYTES, MAX_VALUE_BYTES))).await;
        assert!(matches!(response.body, Ok(ResponseBody::Written(Ok(_)))), "at the limits: {:?}", response.body);
        let to_come = RequestBody::StateHash { revision: Some(Revision(u64::MAX)) };
        let response = ask(&mut stream, &mut buffer, &request(to_come, b"")).await;
        assert!(matches!(response.body, Ok(ResponseBody::StateHash { hash: None, .. })), "a revision to come");
        let nothing = read(Query::Scan { prefix: Bytes::new(), from: None, limit: 0, keys_only: false });
        let response = ask(&mut stream, &mut buffer, &nothing).await;
        assert!(matches!(response.body, Ok(ResponseBody::Answer(_))), "a page of no keys: {:?}", response.body);
    });
}

async fn ask(stream: &mut TcpStream, buffer: &mut BytesMut, request: &[u8]) -> Response {
    stream.write_all(request).await.unwrap();
    loop {
        if let Some(frame) = Frame::decode(buffer, LIMIT).unwrap() {
            return postcard::from_bytes(&frame.header).unwrap();
        }
        assert_ne!(stream.read_buf(buffer).await.unwrap(), 0, "closed instead of answered");
    }
}

#[test]
fn a_server_of_another_cluster_or_with_a_wrong_id_is_refused_by_name() {
    let cluster = Cluster::start(3);
    cluster.leader();
    let address = cluster.address(1);
    let client = |address: String| run(async move { meet(&address, Role::Client, None).await.unwrap().1 });
    let (here, member) = (client(address.clone()), client(cluster.address(2)));
    let as_member = PeerHello {
        link: LinkKind::Control,
        id: 2,
        to: 1,
        disk: member.disk,
        incarnation: member.incarnation,
        client_address: "127.0.0.1:1".to_owned(),
    };
    let other_cluster = here.cluster.unwrap() ^ 1;
    let table = [
        ("another cluster", Some(other_cluster), as_member.clone()),
        ("id 0", here.cluster, PeerHello { id: 0, ..as_member.clone() }),
        ("our own id", here.cluster, PeerHello { id: 1, disk: here.disk, ..as_member.clone() }),
        ("somebody else is meant", here.cluster, PeerHello { to: 3, ..as_member }),
    ];
    for (what, cluster_id, hello) in table {
        let refused = run(meet(&address, Role::Peer(hello), cluster_id)).map(|(_, welcome)| welcome);
        let Err(ConnectError::Refused { refusal, .. }) = refused else { panic!("{what}: {refused:?}") };
        let is_named = match what {
            "another cluster" => matches!(refusal, HandshakeRefusal::WrongCluster { .. }),
            "our own id" => matches!(refusal, HandshakeRefusal::ForeignDisk { id: 1 }),
            "somebody else is meant" => matches!(refusal, HandshakeRefusal::WrongNode { wanted: 3, here: 1 }),
            _ => matches!(refusal, HandshakeRefusal::UnknownPeer { .. }),
        };
        assert!(is_named, "{what}: {refusal}");
    }
}

#[test]
fn a_peer_that_talks_nonsense_loses_its_link_and_nothing_else() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let (target, pretended) = (leader, leader % 3 + 1);
    let ctl = cluster.ctl();
    ctl.run(&["set", "k", "v"]).done();
    let target_address = cluster.address(target);
    let pretended_address = cluster.address(pretended);
    let member = run(async { meet(&pretended_address, Role::Client, None).await.unwrap().1 });
    let poll = Body::PreVote { poll: Poll(1), last_log: LogPosition::new(Term(u64::MAX), LogIndex(u64::MAX)) };
    let nonsense = [
        ("a term beyond all", encoded(&peer::encode(&Message { term: Term(u64::MAX), body: poll }))),
        ("a message of noise", frame(FrameKind::Raft, &[0xFF; 64], b"")),
        ("bytes behind a message", frame(FrameKind::Raft, &[1, 8, 1], b"behind")),
        ("a node message of noise", frame(FrameKind::Node, &[0xFF; 64], b"")),
        ("a list of a million members", frame(FrameKind::Node, &vec![1; 1 << 20], b"")),
        ("a client's request", request(RequestBody::NodeStatus, b"")),
        ("a frame that claims 4 GiB", prefix(u32::MAX, 0, 32, 0)),
        ("a second handshake", frame(FrameKind::Hello, b"", b"")),
    ];
    for (what, bytes) in nonsense {
        run(async {
            let hello = PeerHello {
                link: LinkKind::Bulk,
                id: pretended,
                to: target,
                disk: member.disk,
                incarnation: member.incarnation,
                client_address: pretended_address.clone(),
            };
            let (mut stream, _) = meet(&target_address, Role::Peer(hello), member.cluster).await.unwrap();
            let _ = stream.write_all(&bytes).await;
            is_closed(stream).await;
        });
        for id in cluster.ids() {
            assert!(cluster.node(id).is_running(), "{what} ended node {id}");
        }
        ctl.run(&["set", "k", what]).done();
    }
    assert!(ctl.run(&["status"]).done()["term"].as_u64().unwrap() < 1_000, "no term was believed");
    cluster.common_hash();
}
