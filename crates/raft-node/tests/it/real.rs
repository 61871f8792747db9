//! `Node` as it ships: threads, sockets over loopback, files.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use raft_core::{Instant, NodeId};
use raft_net::{
    ConnectError, Connection, Frame, FrameCodec, FrameKind, HandshakeRefusal, Hello, LinkKind, PROTOCOL_VERSIONS,
    PeerHello, Role, Welcome,
};
use raft_node::{
    Access, Answer, ConnectionId, Failure, Handle, Node, NodeConfig, NodeError, Replies, Service, StartError,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::codec::{Decoder, Encoder};

use crate::cluster::n;
use crate::machine::{List, command, length_in};

/// Long enough that only what hangs runs into it.
const PATIENCE: Duration = Duration::from_secs(60);

// --- a service ---------------------------------------------------------------------------------------------------

/// Speaks with clients: a request's payload is a command; without one it asks for as many bytes as its header says.
#[derive(Debug, Default)]
struct Lists;

impl Service<List> for Lists {
    type Waiter = (ConnectionId, Bytes);

    fn handle_frame(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        frame: Frame,
        node: &mut Access<'_, List, Self::Waiter>,
        replies: &mut Replies,
    ) {
        if frame.payload.is_empty() {
            let size = usize::from(frame.header[0]) << 10;
            replies.frames.push((connection, response(frame.header, vec![0; size].into())));
        } else {
            node.propose((connection, frame.header), frame.payload, now.after(PATIENCE));
        }
    }

    fn handle_answer(
        &mut self,
        _: Instant,
        (connection, header): Self::Waiter,
        answer: Answer,
        _: &mut Access<'_, List, Self::Waiter>,
        replies: &mut Replies,
    ) {
        let payload = match answer {
            Answer::Applied(reply) => reply,
            Answer::ReadReady | Answer::Transferred(_) | Answer::Members(_) | Answer::Failed(_) => Bytes::new(),
        };
        replies.frames.push((connection, response(header, payload)));
    }
}

fn response(header: Bytes, payload: Bytes) -> Frame {
    Frame { kind: FrameKind::Response, group: 0, header, payload }
}

fn request(number: u64) -> Frame {
    let header = Bytes::copy_from_slice(&number.to_le_bytes());
    Frame { kind: FrameKind::Request, group: 0, header, payload: command(number) }
}

fn encoded(frames: impl IntoIterator<Item = Frame>) -> BytesMut {
    let mut bytes = BytesMut::new();
    frames.into_iter().for_each(|frame| FrameCodec::new(1 << 20).encode(frame, &mut bytes).unwrap());
    bytes
}

/// Reads one frame; `None` at the end of the connection.
async fn next(stream: &mut (impl AsyncReadExt + Unpin), buffer: &mut BytesMut) -> Option<Frame> {
    loop {
        if let Some(frame) = FrameCodec::new(1 << 20).decode(buffer).unwrap() {
            return Some(frame);
        }
        if matches!(stream.read_buf(buffer).await, Ok(0) | Err(_)) {
            return None;
        }
    }
}

async fn connect(address: &str, role: Role) -> Result<(Connection, Welcome), ConnectError> {
    let hello = Hello { versions: PROTOCOL_VERSIONS, cluster: None, role };
    raft_net::connect(address, &hello, PATIENCE, 1 << 20).await
}

async fn client_of<S: Service<List>>(node: &Node<List, S>) -> tokio::net::TcpStream {
    connect(&node.address().to_string(), Role::Client).await.unwrap().0.into_inner()
}

// --- nodes -------------------------------------------------------------------------------------------------------

fn single(directory: &TempDir) -> NodeConfig {
    let mut config = NodeConfig::new(n(1), directory.path(), "127.0.0.1:0");
    config.cluster = [(n(1), "127.0.0.1:1".to_owned())].into();
    config.segment_size_bytes = 64 << 10;
    config
}

async fn leader_of<S: Service<List>>(handle: &Handle<List, S>) -> NodeId {
    handle.wait_for_leader().await.expect("it runs")
}

/// Proposes until it is applied: elections take their time.
async fn applied<S: Service<List>>(handle: &Handle<List, S>, number: u64) -> u64 {
    loop {
        leader_of(handle).await;
        match handle.propose(command(number), PATIENCE).await {
            Ok(reply) => return length_in(&reply),
            Err(failure) => assert!(!matches!(failure, Failure::Stopping | Failure::Timeout), "{failure}"),
        }
    }
}

async fn numbers<S: Service<List>>(handle: &Handle<List, S>) -> Vec<u64> {
    loop {
        leader_of(handle).await;
        if let Ok(numbers) = handle.read(PATIENCE, |list| list.numbers.clone()).await {
            return numbers;
        }
    }
}

#[tokio::test]
async fn one_node_keeps_what_it_acknowledged() {
    let directory = TempDir::new().unwrap();
    let node = Node::start(single(&directory), List::default()).unwrap();
    let handle = node.handle();
    assert_eq!(leader_of(&handle).await, n(1));
    assert_eq!(applied(&handle, 7).await, 1);
    assert_eq!(applied(&handle, 8).await, 2);
    assert_eq!(numbers(&handle).await, [7, 8]);
    let before = handle.status().await.unwrap();
    assert!(before.cluster.is_some() && before.commit_index == before.applied_index);
    node.shutdown().await.unwrap();
    assert!(handle.status().await.is_none());
    assert_eq!(handle.propose(command(9), PATIENCE).await, Err(Failure::Stopping));
    assert_eq!(handle.read(PATIENCE, |_| ()).await, Err(Failure::Stopping));

    let node = Node::start(single(&directory), List::default()).unwrap();
    assert_eq!(numbers(&node.handle()).await, [7, 8]);
    let after = node.handle().status().await.unwrap();
    assert_eq!(after.cluster, before.cluster);
    assert!(after.term > before.term);
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn three_nodes_serve_from_each_and_go_on_without_one() {
    let directories = [(); 3].map(|()| TempDir::new().unwrap());
    // The list must name ports before anybody listens.
    let reserved = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let address = |place: usize| reserved[place].local_addr().unwrap().to_string();
    let cluster: BTreeMap<NodeId, String> = (0..3).map(|place| (n(place as u64 + 1), address(place))).collect();
    drop(reserved);
    let start = |(id, directory): (u64, &TempDir)| {
        let mut config = NodeConfig::new(n(id), directory.path(), cluster[&n(id)].clone());
        config.cluster = cluster.clone();
        (n(id), Node::start(config, List::default()).unwrap())
    };
    let mut nodes: BTreeMap<NodeId, Node<List>> = (1..).zip(&directories).map(start).collect();
    for (number, node) in (1..).zip(nodes.values()) {
        assert_eq!(applied(&node.handle(), number).await, number);
    }
    for node in nodes.values() {
        assert_eq!(numbers(&node.handle()).await, [1, 2, 3]);
    }

    for to in nodes.keys().copied() {
        let leadership = nodes[&n(1)].handle().transfer(Some(to), PATIENCE).await.unwrap();
        assert_eq!(leadership.leader, to);
    }
    let leader = leader_of(&nodes[&n(1)].handle()).await;
    nodes.remove(&leader).unwrap().shutdown().await.unwrap();
    let survivor = nodes.values().next().unwrap().handle();
    loop {
        // What was under way when the leader stopped may or may not be applied; here it is asked for until it is.
        let failure = match survivor.propose(command(4), PATIENCE).await {
            Ok(_) => break,
            Err(failure) => failure,
        };
        assert_ne!(failure, Failure::Timeout);
        leader_of(&survivor).await;
    }
    for node in nodes.values() {
        assert!(numbers(&node.handle()).await.starts_with(&[1, 2, 3, 4]));
    }
    for (_, node) in nodes {
        node.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let directory = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = single(&directory);
    config.listen = taken.local_addr().unwrap().to_string();
    let refused = Node::start(config, List::default()).unwrap_err();
    assert!(matches!(refused, StartError::Listen { .. }), "{refused}");
    assert!(refused.to_string().contains("is another server running there?"));

    let mut config = single(&directory);
    config.cluster.clear();
    assert!(matches!(Node::start(config, List::default()), Err(StartError::NoCluster)));
    let mut config = single(&directory);
    config.cluster = [(n(2), "127.0.0.1:1".to_owned())].into();
    assert!(matches!(Node::start(config, List::default()), Err(StartError::NotInCluster { id: 1 })));
    let mut config = single(&directory);
    config.election_timeout_max = config.election_timeout_min;
    assert!(matches!(Node::start(config, List::default()), Err(StartError::Protocol(_))));

    let node = Node::start(single(&directory), List::default()).unwrap();
    assert!(matches!(Node::start(single(&directory), List::default()), Err(StartError::Storage(_))), "it is in use");
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn whoever_waits_for_a_leader_or_an_event_hears_that_the_node_has_stopped() {
    let directory = TempDir::new().unwrap();
    let mut config = single(&directory);
    config.cluster.insert(n(2), "127.0.0.1:1".to_owned());
    let node = Node::start(config, List::default()).unwrap();
    let handle = node.handle();
    let mut events = handle.events();
    let (leader, stopped) = tokio::join!(handle.wait_for_leader(), node.shutdown());
    stopped.unwrap();
    assert_eq!(leader, None);
    while events.recv().await.is_ok() {}
    assert!(handle.events().recv().await.is_err());
}

#[tokio::test]
async fn a_dropped_node_stops() {
    let directory = TempDir::new().unwrap();
    let node = Node::start(single(&directory), List::default()).unwrap();
    let handle = node.handle();
    applied(&handle, 1).await;
    drop(node);
    while handle.status().await.is_some() {}
    // Its directory is free once the disk is done.
    let node = loop {
        match Node::start(single(&directory), List::default()) {
            Ok(node) => break node,
            Err(error) => assert!(matches!(error, StartError::Storage(_)), "{error}"),
        }
    };
    assert_eq!(numbers(&node.handle()).await, [1]);
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_node_that_stops_answers_whoever_asked_through_a_handle() {
    let directory = TempDir::new().unwrap();
    let node = Node::start(single(&directory), List::default()).unwrap();
    let handle = node.handle();
    leader_of(&handle).await;
    let ask = |number| {
        let handle = handle.clone();
        tokio::spawn(async move { (number, handle.propose(command(number), PATIENCE).await) })
    };
    let asked: Vec<_> = (0..200).map(ask).collect();
    tokio::task::yield_now().await;
    node.shutdown().await.unwrap();
    let mut acknowledged = Vec::new();
    for task in asked {
        match task.await.unwrap() {
            (number, Ok(reply)) => acknowledged.push((length_in(&reply), number)),
            (_, Err(failure)) => assert_eq!(failure, Failure::Stopping),
        }
    }
    acknowledged.sort_unstable();
    let acknowledged: Vec<u64> = acknowledged.into_iter().map(|(_, number)| number).collect();
    let node = Node::start(single(&directory), List::default()).unwrap();
    assert_eq!(numbers(&node.handle()).await, acknowledged, "what was acknowledged, and nothing else");
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_disk_that_fails_ends_the_node_at_once() {
    let directory = TempDir::new().unwrap();
    let mut node = Node::start(single(&directory), List::default()).unwrap();
    let handle = node.handle();
    applied(&handle, 1).await;
    // The next segment has nowhere to be.
    std::fs::remove_dir_all(directory.path()).unwrap();
    let mut number = 2;
    let mut padded = vec![0; 8 << 10];
    let failure = loop {
        padded[..8].copy_from_slice(&command(number));
        match handle.propose(padded.clone().into(), PATIENCE).await {
            Ok(_) => number += 1,
            Err(failure) => break failure,
        }
        assert!(number < 100, "800 KiB in a segment of 64");
    };
    assert!(failure.maybe_applied() || failure == Failure::Stopping, "{failure}");
    let ended = node.ended().await;
    assert!(matches!(ended, Err(NodeError::Disk(_))), "{ended:?}");
    assert_eq!(handle.propose(command(0), PATIENCE).await, Err(Failure::Stopping), "nothing is acknowledged any more");
}

// --- clients over the network ------------------------------------------------------------------------------------

async fn serving(directory: &TempDir, change: impl FnOnce(&mut NodeConfig)) -> Node<List, Lists> {
    let mut config = single(directory);
    change(&mut config);
    let node = Node::start_with_service(config, List::default(), Lists).unwrap();
    leader_of(&node.handle()).await;
    node
}

#[tokio::test]
async fn a_client_that_floods_gets_one_answer_to_each_request() {
    const REQUESTS: u64 = 20_000;
    let directory = TempDir::new().unwrap();
    let node = serving(&directory, |config| config.limits.max_requests_in_flight = 16).await;
    let (mut reader, mut writer) = client_of(&node).await.into_split();
    let flood = async move {
        writer.write_all(&encoded((0..REQUESTS).map(request))).await.unwrap();
        writer
    };
    let answers = async {
        let (mut buffer, mut places) = (BytesMut::new(), BTreeMap::new());
        while places.len() < usize::try_from(REQUESTS).unwrap() {
            let frame = next(&mut reader, &mut buffer).await.expect("an answer to each");
            let number = u64::from_le_bytes(frame.header[..].try_into().unwrap());
            assert_eq!(places.insert(number, length_in(&frame.payload)), None, "one answer each");
        }
        places
    };
    let (_writer, places) = tokio::join!(flood, answers);
    assert!(places.into_iter().all(|(number, place)| place == number + 1), "in the order of one connection");
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_client_that_closes_its_half_gets_its_answers_and_then_the_end() {
    let directory = TempDir::new().unwrap();
    let node = serving(&directory, |_| {}).await;
    let mut stream = client_of(&node).await;
    stream.write_all(&encoded((0..100).map(request))).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut buffer = BytesMut::new();
    for _ in 0..100 {
        next(&mut stream, &mut buffer).await.expect("an answer to each");
    }
    assert_eq!(next(&mut stream, &mut buffer).await, None);
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_read_is_shown_out() {
    let directory = TempDir::new().unwrap();
    let node = serving(&directory, |config| config.limits.max_unread_reply_bytes = 1 << 20).await;
    let mut stream = client_of(&node).await;
    let large = Frame { kind: FrameKind::Request, group: 0, header: Bytes::from_static(&[255]), payload: Bytes::new() };
    let wants_much = encoded([large]);
    // Ends when the node closes the connection; without that it would hang, as the node reads no more.
    while stream.write_all(&wants_much).await.is_ok() {}
    let mut other = client_of(&node).await;
    other.write_all(&encoded([request(1)])).await.unwrap();
    assert!(next(&mut other, &mut BytesMut::new()).await.is_some(), "others are served");
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_node_that_stops_sends_its_last_answers() {
    let directory = TempDir::new().unwrap();
    let node = serving(&directory, |_| {}).await;
    let mut stream = client_of(&node).await;
    // More than the sockets hold, so the node has answers left when it is told to stop.
    let large = Frame { kind: FrameKind::Request, group: 0, header: Bytes::from_static(&[255]), payload: Bytes::new() };
    stream.write_all(&encoded(std::iter::repeat_n(large, 40))).await.unwrap();
    let mut buffer = BytesMut::new();
    // All requests came in one piece, so whoever has one answer knows that all are answered.
    assert!(next(&mut stream, &mut buffer).await.is_some());
    let address = node.address();
    let answers = async {
        for _ in 1..40 {
            next(&mut stream, &mut buffer).await.expect("an answer to each");
        }
        assert_eq!(next(&mut stream, &mut buffer).await, None);
    };
    let (stopped, ()) = tokio::join!(node.shutdown(), answers);
    stopped.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn clients_beyond_the_limit_are_refused_and_a_place_is_free_again() {
    let directory = TempDir::new().unwrap();
    let node = serving(&directory, |config| config.limits.max_clients = 1).await;
    let first = client_of(&node).await;
    let address = node.address().to_string();
    let refused = connect(&address, Role::Client).await.unwrap_err();
    let ConnectError::Refused { refusal, .. } = refused else { panic!("{refused}") };
    assert_eq!(refusal, HandshakeRefusal::TooManyConnections { limit: 1 });
    drop(first);
    while connect(&address, Role::Client).await.is_err() {}
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_node_without_a_service_tells_clients_so() {
    let directory = TempDir::new().unwrap();
    let node = Node::start(single(&directory), List::default()).unwrap();
    let refused = connect(&node.address().to_string(), Role::Client).await.unwrap_err();
    let ConnectError::Refused { refusal, .. } = refused else { panic!("{refused}") };
    assert_eq!(refusal, HandshakeRefusal::ClientsNotServedHere);
    node.shutdown().await.unwrap();
}

// --- peers over the network --------------------------------------------------------------------------------------

fn peer(id: u64, incarnation: u64) -> Role {
    let client_address = "127.0.0.1:1".to_owned();
    Role::Peer(PeerHello { link: LinkKind::Control, id, to: 1, disk: 77, incarnation, client_address })
}

#[tokio::test]
async fn who_was_not_listed_has_no_part_in_the_formation_nor_has_a_second_one_of_our_id() {
    let directory = TempDir::new().unwrap();
    let mut config = single(&directory);
    config.cluster.insert(n(2), "127.0.0.1:1".to_owned());
    let node = Node::start(config, List::default()).unwrap();
    for expected in [HandshakeRefusal::ForeignDisk { id: 1 }, HandshakeRefusal::UnknownPeer { id: 9 }] {
        let id = if matches!(expected, HandshakeRefusal::ForeignDisk { .. }) { 1 } else { 9 };
        let refused = connect(&node.address().to_string(), peer(id, 1)).await.unwrap_err();
        let ConnectError::Refused { refusal, .. } = refused else { panic!("{refused}") };
        assert_eq!(refusal, expected);
    }
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_peers_new_link_takes_the_place_of_its_old_one() {
    let directory = TempDir::new().unwrap();
    let mut config = single(&directory);
    config.cluster.insert(n(2), "127.0.0.1:1".to_owned());
    let node = Node::start(config, List::default()).unwrap();
    let address = node.address().to_string();
    let mut buffer = BytesMut::new();
    let mut old = connect(&address, peer(2, 5)).await.unwrap().0.into_inner();
    // Far more than there could be half-open ones.
    for incarnation in 6..200 {
        let mut new = connect(&address, peer(2, incarnation)).await.unwrap().0.into_inner();
        assert_eq!(next(&mut old, &mut buffer).await, None, "closed by the node");
        std::mem::swap(&mut old, &mut new);
    }
    let mut late = connect(&address, peer(2, 5)).await.unwrap().0.into_inner();
    assert_eq!(next(&mut late, &mut buffer).await, None, "an earlier start has nothing to say");
    node.shutdown().await.unwrap();
}
