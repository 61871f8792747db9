//! A disk that stands still: how long a write has been waiting is an input to the protocol.
//!
//! Owns: when a leader gives way because of its disk, and when a server does not stand for it. Heartbeats need no disk, so
//! without this a leader would be heard for ever while it confirms nothing, and the cluster would live with one disk less
//! and no new write once its limits are reached (`flow`).
//!
//! - **A leader gives way only to those that can do better**: when a majority that does not count it is heard, and has on
//!   disk what its own disk still owes. They can elect one of them without it. Where no such majority is (a single server; two
//!   disks of three; all of them, or full ones) nobody is helped by an election: it goes on, serves reads, and waits.
//! - **In two steps.** Two longest election timeouts after the write was handed out it hands over (§3.10), which costs nobody a
//!   timeout. If nobody has succeeded it one longest election timeout later, in two attempts or more, it steps down, and the
//!   others stand as for a leader that died. So somebody else leads within five.
//! - **A server whose disk stands still does not stand.** Its vote would not get to the disk either, and each try would
//!   leave it one term further on. So it raises the term once at most; an election that has begun waits for the disk.
//!
//! When the disk comes back there is no oldest write any more, and all this ends by itself. A follower's disk takes no part
//! in it: its leader only hears no acknowledgements (`progress`).

use core::time::Duration;

use crate::effect::{Effect, Reason};
use crate::message::HandOver;
use crate::progress::Progress;
use crate::replication::Leader;
use crate::role::Next;
use crate::shared::Shared;
use crate::transfer;
use crate::types::LogIndex;

/// After how many longest election timeouts without its disk a leader hands over. A healthy disk answers in
/// milliseconds, a busy one in tens: twice what silence may last is no hiccup.
const HAND_OVER_AFTER: u32 = 2;

/// For how long the disk has owed its oldest write; zero if it owes none.
fn waited(shared: &Shared) -> Duration {
    shared.durability.oldest_on_the_way().map_or(Duration::ZERO, |write| shared.now.since(write.since))
}

/// Whether an election would have to wait for this server's disk for longer than the shortest election takes.
pub(crate) fn is_stalled(shared: &Shared) -> bool {
    waited(shared) >= shared.config.election_timeout_min
}

/// At a leader's heartbeat: hands over, or steps down, if its disk stands still and the others can do better.
pub(crate) fn give_way_if_stalled(shared: &mut Shared, leader: &mut Leader) -> Next {
    let waited = waited(shared);
    let longest = shared.config.election_timeout_max;
    let owed = shared.durability.oldest_on_the_way().filter(|_| waited >= longest * HAND_OVER_AFTER);
    if !owed.is_some_and(|write| others_have(shared, leader, write.durable_after)) {
        leader.gives_way_since = None;
        return Next::Stay;
    }
    let reason = Reason::DiskStalled { waited };
    let since = *leader.gives_way_since.get_or_insert(shared.now);
    if shared.now.since(since) >= longest {
        return Next::Follower { leader: None, reason };
    }
    if leader.transfer.is_none()
        && let Some(to) = transfer::lacks_least(shared, leader)
    {
        transfer::begin(shared, leader, to, HandOver::DiskStalled);
        shared.emit(Effect::HandsOver { to, reason });
    }
    Next::Stay
}

/// Whether a majority (of both halves) that does not count this server is heard and has everything up to `index` on disk.
fn others_have(shared: &Shared, leader: &Leader, index: LogIndex) -> bool {
    let has = |progress: &Progress| progress.matched >= index && transfer::is_heard(shared, progress);
    leader.reached_by_quorum(shared, false, has) == Some(true)
}
