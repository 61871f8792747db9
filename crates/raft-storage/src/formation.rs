//! The cluster this server belongs to (rule 2): the file `formation`.
//!
//! Body: identity (24 bytes), cluster id (16), formed (1: 0 prepared, 1 formed), configuration (as in an entry;
//! all members vote).

use raft_core::{ClusterId, Configuration};

use crate::codec::Fields;
use crate::configuration::{encode_configuration, take_configuration};
use crate::disk::Disk;
use crate::error::{OpenError, WriteError, damaged};
use crate::identity::Identity;
use crate::small_file::Kind;

pub(crate) const FILE: Kind = Kind { name: "formation", magic: *b"raftdfrm", version: 1 };

/// How the cluster was formed: its id and its first members with their disks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formation {
    /// The cluster's id.
    pub cluster: ClusterId,
    /// Its members at the time. Later configurations are entries of the log.
    pub configuration: Configuration,
    /// Whether all listed members are known to have prepared the same. Before that nobody may stand or vote.
    pub formed: bool,
}

impl Formation {
    fn encode(&self, identity: Identity) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend_from_slice(&identity.encode());
        body.extend_from_slice(&self.cluster.0.to_le_bytes());
        body.push(u8::from(self.formed));
        encode_configuration(&self.configuration, &mut body);
        body
    }

    fn decode(body: &[u8]) -> Option<(Identity, Self)> {
        let mut fields = Fields::new(body);
        let identity = Identity::take(&mut fields)?;
        let cluster = ClusterId(fields.take_u128()?);
        let formed = match fields.take_u8()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let configuration = take_configuration(&mut fields)?;
        if configuration.voters().count() < configuration.members().count() {
            return None;
        }
        fields.is_empty().then_some((identity, Self { cluster, configuration, formed }))
    }
}

/// The formation file's content; `None` if there is no such file.
pub(crate) fn read<D: Disk>(disk: &mut D, expected: Identity) -> Result<Option<Formation>, OpenError> {
    let Some(body) = FILE.read(disk)? else { return Ok(None) };
    let path = disk.describe(FILE.name);
    let Some((found, formation)) = Formation::decode(&body) else {
        return Err(damaged(path, 16, "the body is not a formation"));
    };
    if found != expected {
        return Err(OpenError::ForeignFile { path, found, expected });
    }
    Ok(Some(formation))
}

pub(crate) fn write<D: Disk>(disk: &mut D, identity: Identity, formation: &Formation) -> Result<(), WriteError> {
    FILE.replace(disk, &formation.encode(identity))
}
