//! How much a server takes on before the disks have caught up: what is not committed, and what its own disk still has to
//! write.
//!
//! Owns: when a proposal, or a leader's entries, are too much. Does not own what may be on its way to one follower
//! (`progress`): a slow follower takes nothing from these limits, as long as the others are a majority.
//!
//! The log as a whole has a limit in memory, too, for when no snapshot can be taken (§5).
//!
//! The others are two limits, because either can grow without the other. What is *uncommitted* waits for a majority: it grows when the
//! others' disks stand still or their links are gone. What is *unsynced* waits for this server's disk: a majority may
//! commit without it (§10.2.1), for ever. It counts by bytes and by writes, since small writes cost more than their bytes.
//!
//! A leader's own entries (its no-op, configurations) are never refused: they are few, and they are what gets a cluster out
//! of trouble. Nor is a proposal that finds nothing before it, however large: else it could never pass.

use bytes::Bytes;

use crate::effect::ProposalRefusal;
use crate::shared::Shared;
use crate::types::Entry;

/// Whether a leader has room for `commands`: all of them, or it refuses them all.
pub(crate) fn check_room(shared: &Shared, commands: &[Bytes]) -> Result<(), ProposalRefusal> {
    let size_bytes: usize = commands.iter().map(|command| Entry::HEADER_SHARE_BYTES + command.len()).sum();
    let is_too_much = |before: usize, limit: usize| before > 0 && before.saturating_add(size_bytes) > limit;
    if is_too_much(shared.uncommitted_bytes(), shared.config.max_uncommitted_bytes) {
        Err(ProposalRefusal::TooMuchUncommitted)
    } else if is_too_much(shared.durability.unsynced_bytes(), shared.config.max_unsynced_bytes)
        || shared.durability.unsynced_writes() >= shared.config.max_unsynced_writes
    {
        Err(ProposalRefusal::TooMuchUnsynced)
    } else if shared.log.size_bytes() >= shared.config.max_log_bytes {
        Err(ProposalRefusal::LogTooLong)
    } else {
        Ok(())
    }
}

/// Whether a follower's disk has so much to write that a leader's entries are dropped, as the network may drop them: the
/// leader sends them again. Its window keeps it from getting here, unless leaders change while the disk stands still.
pub(crate) fn is_disk_behind(shared: &Shared) -> bool {
    shared.durability.unsynced_bytes() >= shared.config.max_unsynced_bytes
        || shared.durability.unsynced_writes() >= shared.config.max_unsynced_writes
}
