//! Whose directory this is (rule 2): the file `identity`.
//!
//! Its presence means that the directory is initialised: it is the last file to be made.
//! Body: node id (8 bytes), disk id (16 bytes).

use std::fmt;

use raft_core::{DiskId, NodeId};

use crate::codec::Fields;
use crate::disk::Disk;
use crate::error::{OpenError, WriteError, damaged};
use crate::small_file::Kind;

pub(crate) const FILE: Kind = Kind { name: "identity", magic: *b"raftd-id", version: 1 };

/// Size of an identity on disk, in every file's header.
pub(crate) const IDENTITY_BYTES: usize = 24;

/// A member, as its disk knows it: id and disk id. It stands in the header of every file of a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The server's id, given by the operator.
    pub node: NodeId,
    /// 128 random bits made with the directory.
    pub disk: DiskId,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} with disk {}", self.node, self.disk)
    }
}

impl Identity {
    pub(crate) fn encode(self) -> [u8; IDENTITY_BYTES] {
        let mut bytes = [0; IDENTITY_BYTES];
        let (node, disk) = bytes.split_at_mut(8);
        node.copy_from_slice(&self.node.as_u64().to_le_bytes());
        disk.copy_from_slice(&self.disk.0.to_le_bytes());
        bytes
    }

    pub(crate) fn take(fields: &mut Fields<'_>) -> Option<Self> {
        let node = NodeId::new(fields.take_u64()?)?;
        let disk = DiskId(fields.take_u128()?);
        Some(Self { node, disk })
    }
}

/// The identity of the directory; `None` if it has none yet.
pub(crate) fn read<D: Disk>(disk: &mut D) -> Result<Option<Identity>, OpenError> {
    let Some(body) = FILE.read(disk)? else { return Ok(None) };
    let mut fields = Fields::new(&body);
    match Identity::take(&mut fields) {
        Some(identity) if fields.is_empty() => Ok(Some(identity)),
        Some(_) | None => Err(damaged(disk.describe(FILE.name), 16, "the body is not an identity")),
    }
}

pub(crate) fn write<D: Disk>(disk: &mut D, identity: Identity) -> Result<(), WriteError> {
    FILE.replace(disk, &identity.encode())
}
