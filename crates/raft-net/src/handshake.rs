//! The handshake: who is there, and may they stay (rules 2 and 3).
//!
//! Whoever dials sends eight magic bytes and a [`Hello`]; whoever accepts answers with a [`Welcome`], or refuses with
//! the reason. Nothing else is read before, and at most 4 KiB of it; it all has to happen within a few seconds, so a
//! connection that stays silent costs nothing for long.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::codec::{Framed, FramedParts};

use crate::frame::{Frame, FrameCodec, FrameError, FrameKind};

/// The first bytes on every connection. The line break shows whether something on the way rewrites text.
pub const MAGIC: [u8; 8] = *b"raftd\r\n\x01";
/// The most that is read of a handshake.
const MAX_HANDSHAKE_BYTES: usize = 4 << 10;
/// The versions of the protocol this crate speaks.
pub const PROTOCOL_VERSIONS: VersionRange = VersionRange { min: 1, max: 1 };

/// A connection after its handshake.
pub type Connection = Framed<TcpStream, FrameCodec>;

/// Versions of the protocol, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRange {
    /// The oldest.
    pub min: u16,
    /// The newest.
    pub max: u16,
}

impl VersionRange {
    /// The newest version that both ranges hold.
    #[must_use]
    pub fn newest_common(self, other: Self) -> Option<u16> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }
}

/// What the dialer says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// What it speaks.
    pub versions: VersionRange,
    /// Its cluster, if it knows one. Another than the acceptor's is refused.
    pub cluster: Option<u128>,
    /// What it is.
    pub role: Role,
}

/// What the dialer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A client.
    Client,
    /// Another server.
    Peer(PeerHello),
}

/// A server that dials another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerHello {
    /// Which of its two links this is.
    pub link: LinkKind,
    /// Its id.
    pub id: u64,
    /// Whom it means to reach.
    pub to: u64,
    /// Its disk.
    pub disk: u128,
    /// Which start of that disk this is.
    pub incarnation: u64,
    /// Where clients reach it.
    pub client_address: String,
}

/// The two links from one server to another: the kernel's send buffer is a queue too, and what is short and urgent
/// must not stand in it behind megabytes of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LinkKind {
    /// Votes, heartbeats, acknowledgements.
    Control,
    /// Entries and commands.
    Bulk,
}

/// What the acceptor says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version to speak.
    pub version: u16,
    /// Its cluster, once it has formed.
    pub cluster: Option<u128>,
    /// Its id.
    pub id: u64,
    /// Its disk.
    pub disk: u128,
    /// Which start of that disk this is.
    pub incarnation: u64,
    /// Where clients reach it.
    pub client_address: String,
    /// Cluster time, in nanoseconds: the birth of a session opened now (rule 8).
    pub cluster_time_ns: u64,
    /// The leader it knows, and where clients reach that one.
    pub leader: Option<(u64, String)>,
}

/// Why a dialer is refused. Variants are only ever appended (rule 11).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeRefusal {
    /// No version that both speak.
    #[error("it speaks protocol versions {} to {}, not {} to {}; upgrade the older side", ours.min, ours.max, theirs.min, theirs.max)]
    VersionUnsupported {
        /// The acceptor's.
        ours: VersionRange,
        /// The dialer's.
        theirs: VersionRange,
    },
    /// Two clusters.
    #[error("it belongs to cluster {ours:032x}, the caller to {theirs:032x}; check the addresses")]
    WrongCluster {
        /// The acceptor's.
        ours: u128,
        /// The dialer's.
        theirs: u128,
    },
    /// Another server than the one meant.
    #[error("it is node {here}, not node {wanted}; check the addresses")]
    WrongNode {
        /// Whom the dialer meant.
        wanted: u64,
        /// Who answered.
        here: u64,
    },
    /// No member.
    #[error("node {id} is not a member of its cluster; check --id and --cluster")]
    UnknownPeer {
        /// The server in question.
        id: u64,
    },
    /// A member's id on another disk.
    #[error(
        "node {id} has another disk than the one in the configuration: its data directory was wiped or replaced. Put the old data directory back; replacing a member's disk is not supported yet"
    )]
    ForeignDisk {
        /// The server in question.
        id: u64,
    },
    /// Its budget is used up.
    #[error("it has {limit} connections of this kind, its limit; close some, or ask another node")]
    TooManyConnections {
        /// The limit.
        limit: u64,
    },
    /// An address for clients alone.
    #[error("peers are served at another address of this node (--peer-listen)")]
    PeersNotServedHere,
    /// An address for peers alone.
    #[error("clients are served at another address of this node (--listen)")]
    ClientsNotServedHere,
    /// Not a handshake at all.
    #[error("it expected the raftd protocol; is this port meant for something else?")]
    NotOurProtocol,
}

/// What an acceptor puts up with.
#[derive(Clone, Copy, Debug)]
pub struct AcceptLimits {
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// The largest frame after the handshake, prefix included.
    pub max_frame_bytes: usize,
}

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody answers there.
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Somebody is there and says nothing.
    #[error("{address} did not answer within {timeout:?}")]
    Timeout {
        /// The address.
        address: String,
        /// How long it had.
        timeout: Duration,
    },
    /// A server that says no.
    #[error("{address} refuses the connection: {refusal}")]
    Refused {
        /// The address.
        address: String,
        /// Why.
        refusal: HandshakeRefusal,
    },
    /// Something else than a server of this protocol, or the connection broke.
    #[error("{address} does not speak the raftd protocol: {source}")]
    Protocol {
        /// The address.
        address: String,
        /// What went wrong.
        source: HandshakeError,
    },
}

/// Why a connection was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// Nothing, or not all, came in time.
    #[error("no handshake within {0:?}")]
    Timeout(Duration),
    /// It was refused, and told why.
    #[error("refused it: {0}")]
    Refused(HandshakeRefusal),
    /// It spoke something else, or left.
    #[error(transparent)]
    Protocol(#[from] HandshakeError),
}

/// What can go wrong in a handshake.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// Other first bytes: another protocol.
    #[error("it began with {0}, not with the raftd protocol")]
    Magic(OtherProtocol),
    /// Not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame that does not belong here.
    #[error("it sent a frame of kind {0:?} in the handshake")]
    UnexpectedKind(FrameKind),
    /// A frame that does not decode.
    #[error("its handshake does not decode: {0}")]
    Malformed(#[from] postcard::Error),
    /// It left.
    #[error("it closed the connection during the handshake")]
    Closed,
    /// The connection broke.
    #[error("the connection broke during the handshake: {0}")]
    Io(#[from] io::Error),
}

/// What the first bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherProtocol {
    /// An HTTP request.
    Http,
    /// A TLS hello.
    Tls,
    /// Something else.
    Unknown,
}

impl std::fmt::Display for OtherProtocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http => "an HTTP request",
            Self::Tls => "a TLS hello",
            Self::Unknown => "unknown bytes",
        })
    }
}

impl OtherProtocol {
    fn of(first: &[u8]) -> Self {
        let http = [&b"GET "[..], b"POST", b"PUT ", b"HEAD", b"DELE", b"OPTI", b"PRI "];
        if http.iter().any(|method| first.starts_with(method)) {
            Self::Http
        } else if first.starts_with(&[0x16, 0x03]) {
            Self::Tls
        } else {
            Self::Unknown
        }
    }
}

/// Dials `address` and introduces itself, all within `timeout`.
///
/// # Errors
/// If nobody answers in time, the answer is no, or the other side speaks something else.
pub async fn connect(
    address: &str,
    hello: &Hello,
    timeout: Duration,
    max_frame_bytes: usize,
) -> Result<(Connection, Welcome), ConnectError> {
    let dial = async {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|source| ConnectError::Unreachable { address: address.to_owned(), source })?;
        introduce(stream, hello, max_frame_bytes).await.map_err(|source| match source {
            Introduction::Refused(refusal) => ConnectError::Refused { address: address.to_owned(), refusal },
            Introduction::Failed(source) => ConnectError::Protocol { address: address.to_owned(), source },
        })
    };
    let timed_out = |_| ConnectError::Timeout { address: address.to_owned(), timeout };
    tokio::time::timeout(timeout, dial).await.map_err(timed_out)?
}

/// How an introduction ends without a connection.
enum Introduction {
    Refused(HandshakeRefusal),
    Failed(HandshakeError),
}

impl<E: Into<HandshakeError>> From<E> for Introduction {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

async fn introduce(
    mut stream: TcpStream,
    hello: &Hello,
    max_frame_bytes: usize,
) -> Result<(Connection, Welcome), Introduction> {
    set_options(&stream)?;
    let mut greeting = BytesMut::from(&MAGIC[..]);
    to_frame(FrameKind::Hello, hello).encode(&mut greeting, MAX_HANDSHAKE_BYTES)?;
    stream.write_all(&greeting).await?;
    let mut buffer = BytesMut::new();
    let answer = read_frame(&mut stream, &mut buffer).await?;
    match answer.kind {
        FrameKind::Welcome => Ok((into_connection(stream, buffer, max_frame_bytes), from_frame(&answer)?)),
        FrameKind::Refused => Err(Introduction::Refused(from_frame(&answer)?)),
        kind @ (FrameKind::Hello | FrameKind::Request | FrameKind::Response | FrameKind::Raft | FrameKind::Node) => {
            Err(HandshakeError::UnexpectedKind(kind).into())
        }
    }
}

/// Takes the other side's introduction and answers as `decide` says. The version is negotiated here.
///
/// # Errors
/// If the handshake does not come in time, is none, or is refused.
pub async fn accept(
    stream: TcpStream,
    limits: &AcceptLimits,
    decide: impl FnOnce(&Hello) -> Result<Welcome, HandshakeRefusal>,
) -> Result<(Connection, Hello), AcceptError> {
    let greeted = tokio::time::timeout(limits.handshake_timeout, greet(stream, limits.max_frame_bytes, decide));
    greeted.await.map_err(|_| AcceptError::Timeout(limits.handshake_timeout))?
}

async fn greet(
    mut stream: TcpStream,
    max_frame_bytes: usize,
    decide: impl FnOnce(&Hello) -> Result<Welcome, HandshakeRefusal>,
) -> Result<(Connection, Hello), AcceptError> {
    set_options(&stream).map_err(HandshakeError::Io)?;
    let mut buffer = BytesMut::new();
    if let Err(error) = read_magic(&mut stream, &mut buffer).await {
        if matches!(error, HandshakeError::Magic(_)) {
            refuse(&mut stream, &HandshakeRefusal::NotOurProtocol).await?;
        }
        return Err(error.into());
    }
    let frame = read_frame(&mut stream, &mut buffer).await?;
    if frame.kind != FrameKind::Hello {
        return Err(HandshakeError::UnexpectedKind(frame.kind).into());
    }
    let hello: Hello = from_frame(&frame).map_err(HandshakeError::Malformed)?;
    let common = PROTOCOL_VERSIONS.newest_common(hello.versions);
    let decision = match common {
        None => Err(HandshakeRefusal::VersionUnsupported { ours: PROTOCOL_VERSIONS, theirs: hello.versions }),
        Some(version) => decide(&hello).map(|welcome| Welcome { version, ..welcome }),
    };
    match decision {
        Ok(welcome) => {
            write_frame(&mut stream, &to_frame(FrameKind::Welcome, &welcome)).await?;
            Ok((into_connection(stream, buffer, max_frame_bytes), hello))
        }
        Err(refusal) => {
            refuse(&mut stream, &refusal).await?;
            Err(AcceptError::Refused(refusal))
        }
    }
}

/// Says no, and lets the other side read it: a socket closed with unread bytes in it resets the connection, and the
/// reason would be lost.
async fn refuse(stream: &mut TcpStream, refusal: &HandshakeRefusal) -> Result<(), HandshakeError> {
    write_frame(stream, &to_frame(FrameKind::Refused, refusal)).await?;
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    let mut budget = 64 * rest.len();
    while budget > 0 {
        let read = stream.read(&mut rest).await?;
        if read == 0 {
            break;
        }
        budget = budget.saturating_sub(read);
    }
    Ok(())
}

async fn read_magic(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<(), HandshakeError> {
    loop {
        let length = buffer.len().min(MAGIC.len());
        if buffer.get(..length) != MAGIC.get(..length) {
            return Err(HandshakeError::Magic(OtherProtocol::of(buffer)));
        }
        if length == MAGIC.len() {
            drop(buffer.split_to(length));
            return Ok(());
        }
        read_more(stream, buffer).await?;
    }
}

async fn read_frame(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<Frame, HandshakeError> {
    loop {
        if let Some(frame) = Frame::decode(buffer, MAX_HANDSHAKE_BYTES)? {
            return Ok(frame);
        }
        read_more(stream, buffer).await?;
    }
}

async fn read_more(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<(), HandshakeError> {
    if stream.read_buf(buffer).await? == 0 {
        return Err(HandshakeError::Closed);
    }
    Ok(())
}

async fn write_frame(stream: &mut TcpStream, frame: &Frame) -> Result<(), HandshakeError> {
    let mut bytes = BytesMut::new();
    frame.encode(&mut bytes, MAX_HANDSHAKE_BYTES)?;
    stream.write_all(&bytes).await?;
    Ok(())
}

fn to_frame(kind: FrameKind, fields: &impl Serialize) -> Frame {
    let header = postcard::to_allocvec(fields).expect("encoding into memory that grows cannot fail").into();
    Frame { kind, group: 0, header, payload: Bytes::new() }
}

fn from_frame<T: DeserializeOwned>(frame: &Frame) -> Result<T, postcard::Error> {
    postcard::from_bytes(&frame.header)
}

fn into_connection(stream: TcpStream, buffer: BytesMut, max_frame_bytes: usize) -> Connection {
    let mut parts = FramedParts::new::<Frame>(stream, FrameCodec::new(max_frame_bytes));
    parts.read_buf = buffer;
    Framed::from_parts(parts)
}

/// No delay for small messages; a peer that vanished without a word is noticed in half a minute even on an idle
/// connection.
fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(10)).with_interval(Duration::from_secs(5)).with_retries(4);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
