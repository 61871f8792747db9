//! Frames: how bytes on a connection are cut into messages.
//!
//! ```text
//!  0        4        8        12   13      16        20
//!  +--------+--------+--------+----+-------+---------+--- header ---+--- payload ---+
//!  | body   | header | group  |kind| 0 0 0 | CRC-32C |  (postcard)  |  (raw bytes)  |
//!  | length | length |        |    |       |         |              |               |
//!  +--------+--------+--------+----+-------+---------+--------------+---------------+
//! ```
//! Numbers are little endian. The body is header and payload together; the CRC covers the first 16 bytes and the body.
//! Everything is checked before anything is allocated for it: a frame that claims four gigabytes costs nothing.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The fixed part in front of each body.
pub const PREFIX_BYTES: usize = 20;
/// Of which the CRC covers these.
const CHECKED_PREFIX_BYTES: usize = 16;
/// How much room is made at once for a frame that is still arriving.
const RESERVE_STEP_BYTES: usize = 64 << 10;

/// One message on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: FrameKind,
    /// Which Raft group it is for; 0 until there is more than one.
    pub group: u32,
    /// Its fields, postcard-encoded.
    pub header: Bytes,
    /// Its data, as they are.
    pub payload: Bytes,
}

/// What a frame is. Numbers are never reused (rule 11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// The first frame of whoever dials.
    Hello = 1,
    /// Its acceptance.
    Welcome = 2,
    /// Its refusal.
    Refused = 3,
    /// A client's request.
    Request = 16,
    /// The answer to one.
    Response = 17,
    /// Part of what one goes on to be told, before its answer.
    Push = 18,
    /// A message of the protocol.
    Raft = 32,
    /// A message of the node: formation, forwarding.
    Node = 33,
}

impl FrameKind {
    const fn from_u8(kind: u8) -> Option<Self> {
        Some(match kind {
            1 => Self::Hello,
            2 => Self::Welcome,
            3 => Self::Refused,
            16 => Self::Request,
            17 => Self::Response,
            18 => Self::Push,
            32 => Self::Raft,
            33 => Self::Node,
            _ => return None,
        })
    }
}

/// Why bytes are no frame. The connection they came on cannot be used any further.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The frame claims more than the limit.
    #[error("a frame of {size_bytes} bytes, the limit is {limit_bytes}")]
    TooLarge {
        /// What it claims, its prefix included.
        size_bytes: u64,
        /// What is taken.
        limit_bytes: usize,
    },
    /// The header is longer than header and payload together.
    #[error("a frame whose header ({header_bytes} bytes) is longer than its body ({body_bytes})")]
    HeaderBeyondBody {
        /// The header's claimed length.
        header_bytes: u32,
        /// The body's.
        body_bytes: u32,
    },
    /// The reserved bytes are not zero: a later version, or no frame.
    #[error("a frame with reserved bytes that are not zero; is the other side of a newer version?")]
    Reserved,
    /// A kind this version does not know.
    #[error("a frame of the unknown kind {0}; is the other side of a newer version?")]
    UnknownKind(u8),
    /// The CRC does not fit: bytes were changed on the way.
    #[error("a frame whose checksum is wrong: {found:08x}, its bytes give {computed:08x}")]
    Checksum {
        /// As sent.
        found: u32,
        /// As computed.
        computed: u32,
    },
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Frame {
    /// The bytes it takes on the wire.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        PREFIX_BYTES + self.header.len() + self.payload.len()
    }

    /// Appends it to `buffer`.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] if it is over `limit_bytes`; the buffer is as it was.
    pub fn encode(&self, buffer: &mut BytesMut, limit_bytes: usize) -> Result<(), FrameError> {
        let size_bytes = self.size_bytes();
        let body = u32::try_from(self.header.len() + self.payload.len()).ok().filter(|_| size_bytes <= limit_bytes);
        let Some(body_bytes) = body else {
            return Err(FrameError::TooLarge { size_bytes: size_bytes as u64, limit_bytes });
        };
        let header_bytes = u32::try_from(self.header.len()).expect("at most the body's length");
        let mut prefix = [0; CHECKED_PREFIX_BYTES];
        let mut fields = prefix.as_mut_slice();
        fields.put_u32_le(body_bytes);
        fields.put_u32_le(header_bytes);
        fields.put_u32_le(self.group);
        fields.put_u8(self.kind as u8);
        let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&prefix), &self.header), &self.payload);
        buffer.reserve(size_bytes);
        buffer.put_slice(&prefix);
        buffer.put_u32_le(crc);
        buffer.put_slice(&self.header);
        buffer.put_slice(&self.payload);
        Ok(())
    }

    /// Takes one frame from the front of `buffer`; `None` if it has not arrived as a whole.
    ///
    /// # Errors
    /// If what is there is no frame, or one over `limit_bytes`.
    pub fn decode(buffer: &mut BytesMut, limit_bytes: usize) -> Result<Option<Self>, FrameError> {
        let Some(mut prefix) = buffer.get(..PREFIX_BYTES) else { return Ok(None) };
        let checked = prefix.get(..CHECKED_PREFIX_BYTES).map_or(0, crc32c::crc32c);
        let body_bytes = prefix.get_u32_le();
        let header_bytes = prefix.get_u32_le();
        let group = prefix.get_u32_le();
        let kind = prefix.get_u8();
        let reserved = [prefix.get_u8(), prefix.get_u8(), prefix.get_u8()];
        let found = prefix.get_u32_le();
        let size_bytes = u64::from(body_bytes) + PREFIX_BYTES as u64;
        let size = usize::try_from(size_bytes).ok().filter(|&size| size <= limit_bytes);
        let Some(size) = size else { return Err(FrameError::TooLarge { size_bytes, limit_bytes }) };
        if header_bytes > body_bytes {
            return Err(FrameError::HeaderBeyondBody { header_bytes, body_bytes });
        }
        if reserved != [0; 3] {
            return Err(FrameError::Reserved);
        }
        let kind = FrameKind::from_u8(kind).ok_or(FrameError::UnknownKind(kind))?;
        if buffer.len() < size {
            buffer.reserve((size - buffer.len()).min(RESERVE_STEP_BYTES));
            return Ok(None);
        }
        let mut body = take_body(buffer, size);
        let computed = crc32c::crc32c_append(checked, &body);
        if computed != found {
            return Err(FrameError::Checksum { found, computed });
        }
        let header = body.split_to(header_bytes as usize);
        Ok(Some(Self { kind, group, header, payload: body }))
    }
}

/// Takes header and payload of a frame that is complete.
///
/// A large one leaves as it is. A small one is copied: what is kept of it (an entry of the log, for long) must not pin
/// the whole receive buffer, and the buffer, shared with nobody, is used again for the next read.
fn take_body(buffer: &mut BytesMut, size: usize) -> Bytes {
    const SMALL_BYTES: usize = 16 << 10;
    if size > SMALL_BYTES {
        let mut frame = buffer.split_to(size).freeze();
        frame.advance(PREFIX_BYTES);
        return frame;
    }
    let body = buffer.get(PREFIX_BYTES..size).map(Bytes::copy_from_slice).unwrap_or_default();
    buffer.advance(size);
    body
}

/// [`Frame`] for `tokio_util`'s framed connections.
#[derive(Clone, Debug)]
pub struct FrameCodec {
    max_frame_bytes: usize,
}

impl FrameCodec {
    /// Takes and gives frames of at most `max_frame_bytes`, prefix included.
    #[must_use]
    pub const fn new(max_frame_bytes: usize) -> Self {
        Self { max_frame_bytes }
    }
}

impl tokio_util::codec::Decoder for FrameCodec {
    type Item = Frame;
    type Error = FrameError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        Frame::decode(buffer, self.max_frame_bytes)
    }
}

impl tokio_util::codec::Encoder<Frame> for FrameCodec {
    type Error = FrameError;

    fn encode(&mut self, frame: Frame, buffer: &mut BytesMut) -> Result<(), FrameError> {
        frame.encode(buffer, self.max_frame_bytes)
    }
}
