//! The formats, byte for byte (rule 11). What a released version sent must be understood by every later one, so a line
//! in `golden/` never changes and never leaves; a new variant adds one.
//!
//! Each fixture is a whole frame, compared in both directions. And the first number without a fixture must be unknown:
//! a variant appended without one fails here.

use bytes::BytesMut;
use raft_net::{Frame, FrameKind, Hello, LinkKind, MAGIC, PeerHello, Role, VersionRange, Welcome};
use serde::{Serialize, de::DeserializeOwned};

use crate::handshake_refusals::refusals;
use crate::support::{encoded, hex};

/// The fixtures of one file: `name hex`, one a line, `#` for comments.
pub(crate) struct Golden {
    file: &'static str,
    lines: Vec<(&'static str, &'static str)>,
    next: usize,
}

impl Golden {
    pub(crate) fn new(file: &'static str, text: &'static str) -> Self {
        let is_fixture = |line: &&str| !line.is_empty() && !line.starts_with('#');
        let lines = text.lines().filter(is_fixture).map(|line| line.split_once(' ').unwrap()).collect();
        Self { file, lines, next: 0 }
    }

    /// The next fixture. It is `frame`, or the format has changed.
    pub(crate) fn check(&mut self, name: &str, frame: &Frame) -> Frame {
        let sent = hex(&encoded(frame));
        let Some((found, expected)) = self.lines.get(self.next) else {
            panic!("{} has no fixture for: {name} {sent}", self.file)
        };
        assert_eq!((*found, *expected), (name, sent.as_str()), "{}: the format has changed", self.file);
        self.next += 1;
        let mut bytes = unhex(expected);
        let decoded = Frame::decode(&mut bytes, usize::MAX).unwrap().unwrap();
        assert!(bytes.is_empty());
        assert_eq!(decoded, *frame);
        decoded
    }

    fn check_fields<T>(&mut self, name: &str, kind: FrameKind, fields: &T)
    where
        T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        let header = postcard::to_allocvec(fields).unwrap().into();
        let frame = self.check(name, &Frame { kind, group: 0, header, payload: BytesMut::new().freeze() });
        assert_eq!(postcard::from_bytes::<T>(&frame.header).as_ref(), Ok(fields), "{name}");
    }

    pub(crate) fn is_at_its_end(&self) {
        assert_eq!(self.next, self.lines.len(), "{} has fixtures that nothing checks", self.file);
    }
}

fn unhex(text: &str) -> BytesMut {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn frames() {
    let mut golden = Golden::new("frames.txt", include_str!("golden/frames.txt"));
    for (name, kind) in [
        ("hello", FrameKind::Hello),
        ("welcome", FrameKind::Welcome),
        ("refused", FrameKind::Refused),
        ("request", FrameKind::Request),
        ("response", FrameKind::Response),
        ("raft", FrameKind::Raft),
        ("node", FrameKind::Node),
    ] {
        let (header, payload) = (b"header".as_slice().into(), b"payload".as_slice().into());
        golden.check(name, &Frame { kind, group: 0, header, payload });
    }
    let empty = BytesMut::new().freeze();
    let group = Frame { kind: FrameKind::Node, group: 0x0403_0201, header: empty.clone(), payload: empty };
    golden.check("empty-of-group", &group);
    let (header, payload) = (b"header".as_slice().into(), b"payload".as_slice().into());
    golden.check("push", &Frame { kind: FrameKind::Push, group: 0, header, payload });
    golden.is_at_its_end();
    assert_eq!(hex(&MAGIC), "72616674640d0a01");
}

#[test]
fn handshakes() {
    let mut golden = Golden::new("handshakes.txt", include_str!("golden/handshakes.txt"));
    let versions = VersionRange { min: 1, max: 300 };
    let client = Hello { versions, cluster: None, role: Role::Client };
    golden.check_fields("hello-client", FrameKind::Hello, &client);
    for (name, link) in [("hello-peer-control", LinkKind::Control), ("hello-peer-bulk", LinkKind::Bulk)] {
        let disk = 0x0F0E_0D0C_0B0A_0908_0706_0504_0302_0100;
        let client_address = "[::1]:7001".to_owned();
        let peer = PeerHello { link, id: 1, to: 300, disk, incarnation: u64::MAX, client_address };
        golden.check_fields(name, FrameKind::Hello, &Hello { cluster: Some(7), role: Role::Peer(peer), ..client });
    }
    let welcome = Welcome {
        version: 1,
        cluster: None,
        id: 2,
        disk: u128::MAX,
        incarnation: 3,
        client_address: "h:1".to_owned(),
        cluster_time_ns: 0,
        leader: None,
    };
    golden.check_fields("welcome", FrameKind::Welcome, &welcome);
    let (leader, cluster_time_ns) = (Some((3, "h:2".to_owned())), 1_000_000_000);
    let formed = Welcome { cluster: Some(7), leader, cluster_time_ns, ..welcome };
    golden.check_fields("welcome-formed", FrameKind::Welcome, &formed);
    for refusal in refusals() {
        let debug = format!("{refusal:?}");
        let variant = debug.split([' ', '{']).next().unwrap();
        golden.check_fields(&format!("refused-{variant}"), FrameKind::Refused, &refusal);
    }
    let inquiry = Hello { cluster: None, role: Role::Inquiry, ..client };
    golden.check_fields("hello-inquiry", FrameKind::Hello, &inquiry);
    golden.is_at_its_end();
}

/// Every number below has a fixture above.
#[test]
fn the_next_variants_are_unknown() {
    let padding = [0; 40];
    let is_unknown = |number: usize, decode: &dyn Fn(&[u8]) -> bool| {
        assert!(!decode(&[&[u8::try_from(number).unwrap()], &padding[..]].concat()), "{number} has no fixture");
    };
    is_unknown(refusals().len(), &|bytes| postcard::from_bytes::<raft_net::HandshakeRefusal>(bytes).is_ok());
    is_unknown(3, &|bytes| postcard::from_bytes::<Role>(bytes).is_ok());
    is_unknown(2, &|bytes| postcard::from_bytes::<LinkKind>(bytes).is_ok());
    for kind in (0..=u8::MAX).filter(|kind| ![1, 2, 3, 16, 17, 18, 32, 33].contains(kind)) {
        let prefix = [&[0; 12][..], &[kind, 0, 0, 0], &[0; 4]].concat();
        let error = Frame::decode(&mut BytesMut::from(&prefix[..]), 100).unwrap_err();
        assert!(matches!(error, raft_net::FrameError::UnknownKind(found) if found == kind), "{error}");
    }
}

#[cfg(feature = "peer")]
mod messages {
    use bytes::Bytes;
    use raft_core::{
        AppendResult, Body, ClusterTime, Configuration, DiskId, Entry, HandOver, Incarnation, Learner, LogIndex,
        LogPosition, Member, Message, NodeId, Payload, Poll, ReadId, ReadRound, Refusal, Standing, Term, Verdict,
    };
    use raft_net::peer::{decode, encode};

    use super::Golden;

    const fn at(index: u64, term: u64) -> LogPosition {
        LogPosition::new(Term(term), LogIndex(index))
    }

    fn entries() -> Vec<Entry> {
        let member = |disk, address: &str| Member { disk: DiskId(disk), address: address.to_owned() };
        let members = [(1, member(0xA, "h:1")), (300, member(u128::MAX, "[::1]:7001"))];
        let members = members.map(|(id, member)| (NodeId::new(id).unwrap(), member));
        let payloads = [
            Payload::Noop,
            Payload::Command(Bytes::from_static(b"one")),
            Payload::Command(Bytes::new()),
            Payload::Configuration(Configuration::of_voters(members)),
            Payload::Command(Bytes::from_static(b"four")),
        ];
        let entry = |(place, payload): (u64, Payload)| Entry {
            position: at(8 + place, 2 + place / 3),
            stamp: ClusterTime(1_000 * place),
            payload,
        };
        (0..).zip(payloads).map(entry).collect()
    }

    /// One member of each standing.
    fn standings() -> Vec<Entry> {
        let member = |disk: u128| Member { disk: DiskId(disk), address: format!("h{disk}:1") };
        let then = |becomes_voter| Some(Learner { member: member(300), becomes_voter });
        let standings = [
            Standing::Voter,
            Standing::Incoming,
            Standing::Outgoing { then: None },
            Standing::Outgoing { then: then(false) },
            Standing::Outgoing { then: then(true) },
            Standing::Learner { becomes_voter: false },
            Standing::Learner { becomes_voter: true },
        ];
        let members = (1_u64..).zip(standings);
        let members = members.map(|(id, standing)| (NodeId::new(id).unwrap(), (member(id.into()), standing)));
        let payload = Payload::Configuration(Configuration::new(members.collect()).unwrap());
        vec![Entry { position: at(8, 2), stamp: ClusterTime(1), payload }]
    }

    fn verdicts() -> Vec<(&'static str, Verdict)> {
        vec![
            ("granted", Verdict::Granted),
            ("hears-leader", Verdict::Refused(Refusal::HearsLeader)),
            ("stale-term", Verdict::Refused(Refusal::StaleTerm)),
            ("voted-for", Verdict::Refused(Refusal::VotedFor(NodeId::new(300).unwrap()))),
            ("log-behind", Verdict::Refused(Refusal::LogBehind { ours: at(400, 3) })),
            ("not-a-member", Verdict::Refused(Refusal::NotAMember)),
        ]
    }

    fn bodies() -> Vec<(String, Body)> {
        let (id, incarnation) = (ReadId(5), Incarnation(300));
        let mut bodies = vec![("pre-vote".to_owned(), Body::PreVote { poll: Poll(300), last_log: at(400, 3) })];
        for (name, verdict) in verdicts() {
            bodies.push((format!("pre-vote-reply-{name}"), Body::PreVoteReply { poll: Poll(1), verdict }));
        }
        let chunk = |data: &str, done| {
            let data = data.to_owned().into();
            Body::InstallSnapshot { last: at(400, 3), offset: 1 << 20, data, done }
        };
        let request_vote = |is_transfer| Body::RequestVote { last_log: at(400, 3), is_transfer };
        bodies.push(("request-vote".to_owned(), request_vote(false)));
        for (name, verdict) in verdicts() {
            bodies.push((format!("request-vote-reply-{name}"), Body::RequestVoteReply { verdict }));
        }
        let (prev, commit) = (at(7, 2), LogIndex(6));
        let nothing = Body::AppendEntries { prev, entries: Vec::new(), commit };
        let mismatch = AppendResult::Mismatch { prev: at(400, 3), hint: at(7, 2) };
        bodies.extend([
            ("append-entries".to_owned(), Body::AppendEntries { prev, entries: entries(), commit }),
            ("append-entries-empty".to_owned(), nothing),
            ("matched".to_owned(), Body::AppendEntriesReply(AppendResult::Matched(LogIndex(400)))),
            ("mismatch".to_owned(), Body::AppendEntriesReply(mismatch)),
            ("heartbeat".to_owned(), Body::Heartbeat { commit: LogIndex(400), round: ReadRound(2) }),
            ("heartbeat-reply".to_owned(), Body::HeartbeatReply { round: ReadRound(u64::MAX) }),
            ("read-index".to_owned(), Body::ReadIndex { id, incarnation }),
            ("read-index-reply".to_owned(), Body::ReadIndexReply { id, incarnation, index: LogIndex(400) }),
            ("timeout-now".to_owned(), Body::TimeoutNow { why: HandOver::Planned }),
            ("request-vote-for-transfer".to_owned(), request_vote(true)),
            ("install-snapshot".to_owned(), chunk("chunk", false)),
            ("install-snapshot-last".to_owned(), chunk("", true)),
            ("install-snapshot-reply".to_owned(), Body::InstallSnapshotReply { last: at(400, 3), offset: 1 << 20 }),
            ("append-entries-standings".to_owned(), Body::AppendEntries { prev, entries: standings(), commit }),
            ("timeout-now-for-disk".to_owned(), Body::TimeoutNow { why: HandOver::DiskStalled }),
        ]);
        bodies
    }

    #[test]
    fn each_message() {
        let mut golden = Golden::new("messages.txt", include_str!("golden/messages.txt"));
        for (name, body) in bodies() {
            let message = Message { term: Term(200), body };
            let frame = golden.check(&name, &encode(&message));
            assert_eq!(decode(&frame), Ok(message), "{name}");
        }
        golden.is_at_its_end();
    }
}
