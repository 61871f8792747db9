//! What a run has exercised: how often each fault struck and each rare path ran.
//!
//! A simulator that passes without having crashed anybody shows nothing. So a required count of zero makes the verdict
//! UNKNOWN.

use std::fmt;

macro_rules! counts {
    ($($name:ident => $text:literal,)*) => {
        /// Something that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Count { $(#[doc = $text] $name,)* }

        /// All of them, with the words they are printed in.
        const ALL: &[(Count, &str)] = &[$((Count::$name, $text),)*];
    };
}

counts! {
    Loss => "messages lost",
    Duplicate => "messages duplicated",
    Reordered => "messages overtaken by a later one",
    HeldBack => "messages held back by a partition until it healed",
    Partition => "partitions: one server alone",
    Split => "partitions: two sides",
    OneWay => "partitions: one way",
    Bridge => "partitions: bridge",
    Chain => "partitions: chain",
    Ring => "partitions: ring",
    Flapping => "partitions: flapping",
    FrozenLeader => "leaders that stood still, cut off",
    DeafLeader => "leaders that were heard and heard nobody, for long",
    SlowLink => "slow links",
    LinkReset => "connections reset",
    HandshakeRefused => "handshakes refused",
    Crash => "power losses of a server",
    CrashAll => "power losses of all servers at once",
    CrashInWrite => "power losses in the middle of the disk's work",
    Pause => "pauses of a server",
    PauseAfterClock => "pauses between reading the clock and using it",
    DiskStall => "disks that stood still for seconds",
    DiskError => "writes or syncs that failed",
    FailStop => "servers that stopped because their disk failed",
    DiskFull => "full disks",
    DisksFull => "full disks everywhere at once",
    FullNoticed => "servers that noticed that their disk is full",
    SpaceRegained => "servers that had space again, without a restart",
    StartFull => "starts on a full disk",
    NoSpace => "writes refused for a lack of space",
    Overloaded => "writes refused because too much was under way",
    BitRot => "disks with rotten bits",
    DamageNoticed => "starts refused because of damage",
    DamageHarmless => "starts with rotten bits that nobody reads",
    Misdirected => "misdirected reads",
    MisdirectedNoticed => "misdirected reads that were noticed",
    Wipe => "disks wiped",
    WipedAdmitted => "wiped disks that became voters again",
    Newcomer => "newcomers that asked to join",
    NotAdmitted => "newcomers that were told to wait, and why",
    MembersChanged => "changes of the membership that were acknowledged",
    MembersUnchanged => "changes of the membership that were refused",
    JointConfiguration => "joint configurations",
    LeaderRemoved => "leaders that removed themselves",
    ServerRemoved => "servers that found out that they were removed",
    SkewedClock => "servers whose clock runs at another rate",
    SectorKept => "unsynced sectors kept by a power loss",
    SectorLost => "unsynced sectors lost in a power loss",
    NameLost => "unsynced names lost in a power loss",
    SizeLost => "unsynced file sizes lost in a power loss",
    TornBatch => "recoveries that cut a torn batch",
    SegmentBoundary => "recoveries at a segment's boundary",
    SeveralSegments => "recoveries of several segments",
    StartFailed => "starts that the disk did not let through",
    Formed => "clusters formed",
    FormationFault => "faults while a cluster formed",
    Election => "elections won",
    QuorumLost => "leaders that stepped down without a majority",
    HandedOverForDisk => "times a leader handed over because its disk stood still",
    DiskStalledStepDown => "leaders that stepped down because their disk stood still",
    VotesRefused => "polls or elections that too many refused",
    NoOutcome => "elections without outcome",
    TransferAsked => "transfers of the leadership asked for",
    TransferForwarded => "transfers passed on by a follower",
    Transferred => "transfers done",
    TransferGivenUp => "transfers whose successor was not elected in time",
    ChosenSuccessor => "servers that stood because their leader wanted it",
    HandedAround => "clusters whose leadership went round after healing",
    Stop => "servers stopped in order",
    StoppedLeader => "leaders that handed over before they stopped",
    SnapshotTaken => "snapshots taken",
    SnapshotNotTaken => "snapshots that the disk did not take",
    SnapshotSent => "chunks of snapshots sent",
    SnapshotInstalled => "snapshots installed in place of a log",
    SnapshotRejected => "snapshots of a leader that could not be stored",
    StartFromSnapshot => "starts from a snapshot",
    Compaction => "logs compacted",
    Truncation => "logs truncated",
    LateVote => "late duplicates of votes",
    Mismatch => "AppendEntries refused for their predecessor",
    Misbehaved => "misbehaviour reported",
    Forwarded => "commands passed on by a follower",
    FollowerRead => "read indexes asked for by a follower",
    ReadRetried => "reads tried again by their client",
    WriteRetried => "writes tried again under their session",
    DroppedReply => "replies dropped",
    LateCopy => "late copies of a write delivered",
    DedupHit => "writes that the session recognised",
    AlreadyAnswered => "writes refused as answered before",
    DeadlinePassed => "writes refused as too late",
    LeaderChanged => "commands caught by a change of leader",
    Unknown => "operations whose outcome their client never learned",
    CertainlyNot => "operations that certainly were not done",
    Done => "operations done",
    KeyRotated => "keys given up for a new one",
    ScanChecked => "scans compared with the reference",
    LocalRead => "local reads compared with the reference",
    PastRead => "reads of the past compared with the reference",
    Compacted => "compactions of the history",
    PastCompacted => "reads of the past that was compacted",
    BankTransfer => "transfers of the bank compared with the reference",
    BankRefused => "transfers of the bank whose accounts had changed",
    Expired => "keys that went at the end of their lease",
    OverQuota => "writes refused by the quota",
    Watched => "watched events compared with the reference",
    WatchResumed => "watches resumed at a server",
    WatchCompacted => "watches whose history was compacted",
    WatchFellBehind => "watches whose client read slowly",
    Linearized => "keys whose history is linearizable",
    TooHard => "keys whose history was too hard to judge",
    Converged => "runs that converged after healing",
}

/// What need not happen in every set of runs: what no sound server does; file sizes, which change only in the moment
/// a segment is made (one run in a thousand meets it); and a leader that cannot even hand over, which takes two lost words.
const OPTIONAL: &[Count] = &[Count::Misbehaved, Count::TooHard, Count::SizeLost, Count::DiskStalledStepDown];

/// Counts of one run, or of many.
#[derive(Clone, Debug)]
pub(crate) struct Coverage([u64; ALL.len()]);

impl Default for Coverage {
    fn default() -> Self {
        Self([0; ALL.len()])
    }
}

impl Coverage {
    pub(crate) fn count(&mut self, what: Count) {
        self.add(what, 1);
    }

    pub(crate) fn add(&mut self, what: Count, times: u64) {
        if let Some(count) = self.0.get_mut(what as usize) {
            *count += times;
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
    }

    /// What is required and never happened.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let never = ALL.iter().zip(self.0).filter(|((what, _), count)| *count == 0 && !OPTIONAL.contains(what));
        never.map(|((_, text), _)| *text).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((_, text), count) in ALL.iter().zip(self.0) {
            writeln!(f, "{count:>12}  {text}")?;
        }
        Ok(())
    }
}
