//! Short names for snapshots in the tests.

use raft_core::{ClusterTime, Configuration, DiskId, LogIndex, LogPosition, Member, Snapshot, Term};
use raft_storage::{Identity, MemDisk, SnapshotError, Snapshots};

use crate::common::node;

pub(crate) const NO_LIMIT: u64 = u64::MAX;

pub(crate) fn at(index: u64, term: u64) -> LogPosition {
    LogPosition::new(Term(term), LogIndex(index))
}

/// A snapshot that ends at `last`.
pub(crate) fn snapshot(last: LogPosition) -> Snapshot {
    let member = |id: u128| Member { disk: DiskId(id), address: format!("node-{id}:7001") };
    let configuration = Configuration::of_voters([(node(1), member(1)), (node(2), member(2))]);
    Snapshot {
        last,
        stamp: ClusterTime(last.index.0 * 1_000),
        configuration,
        configuration_index: LogIndex(last.index.0 / 2),
    }
}

/// The data of the snapshot at `last`, in chunks; none alike.
pub(crate) fn data(last: LogPosition) -> Vec<Vec<u8>> {
    let chunk = |number: u64| format!("chunk {number} of {last} ").repeat(40 * usize::try_from(number).unwrap()).into();
    (1..4).map(chunk).collect()
}

/// Takes the snapshot at `last`.
pub(crate) fn take(files: &mut Snapshots<MemDisk>, last: LogPosition) -> Result<u64, SnapshotError> {
    let mut writer = files.begin(&snapshot(last))?;
    for chunk in data(last) {
        if let Err(error) = writer.append(&chunk) {
            files.abandon(writer);
            return Err(error);
        }
    }
    files.finish(writer)
}

/// What travels of the snapshot at `last`.
pub(crate) fn body(last: LogPosition) -> Vec<u8> {
    let mut files = Snapshots::new(MemDisk::new(), Identity { node: node(9), disk: DiskId(9) });
    take(&mut files, last).unwrap();
    let (bytes, is_whole) = files.read_body(last, 0, usize::MAX).unwrap();
    assert!(is_whole);
    bytes.to_vec()
}

/// Receives `body` in chunks.
pub(crate) fn receive(
    files: &mut Snapshots<MemDisk>,
    last: LogPosition,
    body: &[u8],
) -> Result<Snapshot, SnapshotError> {
    let mut offset = 0;
    for chunk in body.chunks(1_000) {
        offset = files.receive(last, offset, chunk, NO_LIMIT)?;
    }
    files.finish_received(last)
}

/// The data of the snapshot at `last`, read back.
pub(crate) fn read_data(files: &mut Snapshots<MemDisk>, last: LogPosition) -> Result<Vec<Vec<u8>>, SnapshotError> {
    let mut reader = files.open_data(last)?;
    let mut chunks = Vec::new();
    while let Some(chunk) = reader.next_chunk()? {
        chunks.push(chunk.to_vec());
    }
    Ok(chunks)
}
