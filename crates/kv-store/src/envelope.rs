//! The envelope of a command (rule 7): what a client sends for a write, what the log holds, what the store applies. The
//! same bytes all the way; nobody in between decodes them.
//!
//! The layout is fixed and little-endian, so that the fields that decide about a retry can be read without knowing
//! the command:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | format version, 1 |
//! | 1 | 16 | client id |
//! | 17 | 8 | birth of the session, cluster time in ns |
//! | 25 | 8 | sequence |
//! | 33 | 8 | lowest unanswered sequence |
//! | 41 | 8 | deadline, cluster time in ns |
//! | 49 | 2 | length of the principal, at most 256 |
//! | 51 | n | principal |
//! | 51 + n | rest | command, in postcard; bytes behind it are an error |
//!
//! What the cluster proposes to itself has no session and no principal, and nobody retries it:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | format version, 2 |
//! | 1 | rest | [`ClusterCommand`], in postcard; bytes behind it are an error |

use bytes::{BufMut, Bytes, BytesMut};

use crate::command::{BorrowedCommand, ClusterCommand, Command};
use crate::limits::{MAX_KEY_BYTES, MAX_PRINCIPAL_BYTES, MAX_VALUE_BYTES};
use crate::reader::Reader;
use crate::types::{ClientId, Stamp};

/// The version of a client's envelope that this crate writes, and the only one it reads.
pub const ENVELOPE_VERSION: u8 = 1;

/// The version of what the cluster proposes to itself.
const CLUSTER_VERSION: u8 = 2;

/// Bytes before the principal.
const FIXED_BYTES: usize = 51;

/// In the largest command: its variant (1), and the length prefixes of key (2) and values (3 each).
const COMMAND_OVERHEAD_BYTES: usize = 9;

/// The largest envelope of a command within the store's limits: a compare-and-swap of two full values.
pub const MAX_ENVELOPE_BYTES: usize =
    FIXED_BYTES + MAX_PRINCIPAL_BYTES + MAX_KEY_BYTES + 2 * MAX_VALUE_BYTES + COMMAND_OVERHEAD_BYTES;

/// A command with all that exactly-once (rule 8) and access control need to know about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Which request of which session this is.
    pub session: SessionHeader,
    /// Who asks.
    pub principal: Principal,
    /// What is asked.
    pub command: Command,
}

/// Which request of which session an envelope is. Every try of one request carries the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionHeader {
    /// Drawn at random by the client, once a session.
    pub client: ClientId,
    /// The cluster time the server gave when the session was opened; the same in all its requests.
    pub birth: Stamp,
    /// The number of the request in its session. Another request has another number; a retry has the same.
    pub sequence: u64,
    /// No request with a lower number will be tried again: its answer has arrived, or nobody waits for it any more.
    pub lowest_unanswered: u64,
    /// Cluster time after which the request must not be applied any more.
    pub deadline: Stamp,
}

/// Who asks, for the access control to come. Empty until then; at most [`MAX_PRINCIPAL_BYTES`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Principal(Bytes);

impl Principal {
    /// Nobody in particular.
    pub const fn nobody() -> Self {
        Self(Bytes::new())
    }

    /// Takes a name.
    ///
    /// # Errors
    /// [`EnvelopeError::PrincipalTooLong`] over [`MAX_PRINCIPAL_BYTES`].
    pub fn new(name: Bytes) -> Result<Self, EnvelopeError> {
        if name.len() > MAX_PRINCIPAL_BYTES {
            return Err(EnvelopeError::PrincipalTooLong { size_bytes: name.len() });
        }
        Ok(Self(name))
    }

    /// The name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Why bytes are no envelope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// They end before the command begins.
    #[error("the envelope ends after {size_bytes} bytes, before its command")]
    Truncated {
        /// What there is.
        size_bytes: usize,
    },
    /// A later version's, or no envelope at all.
    #[error(
        "the envelope has version {found}, this server reads version {ENVELOPE_VERSION}; upgrade the servers first"
    )]
    UnknownVersion {
        /// The version.
        found: u8,
    },
    /// The principal is over its limit.
    #[error("the principal has {size_bytes} bytes, the limit is {MAX_PRINCIPAL_BYTES}")]
    PrincipalTooLong {
        /// Its size.
        size_bytes: usize,
    },
    /// The command does not parse: cut short, or a variant this server does not know.
    #[error("the command cannot be read ({0}); upgrade the servers before the clients")]
    Command(postcard::Error),
    /// Something follows the command.
    #[error("{size_bytes} bytes follow the command")]
    TrailingBytes {
        /// How much.
        size_bytes: usize,
    },
}

impl Envelope {
    /// The bytes of the envelope, as they travel and are logged.
    pub fn encode(&self) -> Bytes {
        let session = &self.session;
        let principal = self.principal.as_bytes();
        let principal_bytes = u16::try_from(principal.len()).expect("a principal has at most 256 bytes");
        let command = postcard::to_allocvec(&self.command).expect("only memory is written to");

        let mut out = BytesMut::with_capacity(FIXED_BYTES + principal.len() + command.len());
        out.put_u8(ENVELOPE_VERSION);
        out.put_u128_le(session.client.0);
        out.put_u64_le(session.birth.0);
        out.put_u64_le(session.sequence);
        out.put_u64_le(session.lowest_unanswered);
        out.put_u64_le(session.deadline.0);
        out.put_u16_le(principal_bytes);
        out.put_slice(principal);
        out.put_slice(&command);
        out.freeze()
    }

    /// Reads an envelope. Nothing is copied: key, value and principal share the memory of `bytes`.
    ///
    /// # Errors
    /// Whatever the bytes, an [`EnvelopeError`] and never a panic.
    pub fn decode(bytes: &Bytes) -> Result<Self, EnvelopeError> {
        let truncated = EnvelopeError::Truncated { size_bytes: bytes.len() };
        let mut reader = Reader { rest: bytes };
        match reader.array() {
            Some([ENVELOPE_VERSION]) => {}
            Some([found]) => return Err(EnvelopeError::UnknownVersion { found }),
            None => return Err(truncated),
        }
        let session = session(&mut reader).ok_or_else(|| truncated.clone())?;
        let principal_bytes = usize::from(reader.array().map(u16::from_le_bytes).ok_or_else(|| truncated.clone())?);
        if principal_bytes > MAX_PRINCIPAL_BYTES {
            return Err(EnvelopeError::PrincipalTooLong { size_bytes: principal_bytes });
        }
        let principal = Principal(bytes.slice_ref(reader.take(principal_bytes).ok_or(truncated)?));
        let (command, rest) =
            postcard::take_from_bytes::<BorrowedCommand<'_>>(reader.rest).map_err(EnvelopeError::Command)?;
        if !rest.is_empty() {
            return Err(EnvelopeError::TrailingBytes { size_bytes: rest.len() });
        }
        Ok(Self { session, principal, command: command.within(bytes) })
    }
}

/// The bytes of a command entry, whoever proposed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A client.
    Client(Envelope),
    /// The leader, for the cluster.
    Cluster(ClusterCommand),
}

impl Entry {
    /// Reads an entry, as [`Envelope::decode`] does.
    ///
    /// # Errors
    /// Whatever the bytes, an [`EnvelopeError`] and never a panic.
    pub fn decode(bytes: &Bytes) -> Result<Self, EnvelopeError> {
        let Some((&CLUSTER_VERSION, rest)) = bytes.split_first() else {
            return Envelope::decode(bytes).map(Self::Client);
        };
        let (command, rest) = postcard::take_from_bytes(rest).map_err(EnvelopeError::Command)?;
        if !rest.is_empty() {
            return Err(EnvelopeError::TrailingBytes { size_bytes: rest.len() });
        }
        Ok(Self::Cluster(command))
    }
}

impl ClusterCommand {
    /// The bytes of the entry that proposes it.
    pub fn encode(&self) -> Bytes {
        postcard::to_extend(self, vec![CLUSTER_VERSION]).expect("only memory is written to").into()
    }
}

fn session(reader: &mut Reader<'_>) -> Option<SessionHeader> {
    Some(SessionHeader {
        client: ClientId(reader.array().map(u128::from_le_bytes)?),
        birth: Stamp(reader.array().map(u64::from_le_bytes)?),
        sequence: reader.array().map(u64::from_le_bytes)?,
        lowest_unanswered: reader.array().map(u64::from_le_bytes)?,
        deadline: Stamp(reader.array().map(u64::from_le_bytes)?),
    })
}
