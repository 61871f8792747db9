//! What a seed stands for: how many servers, which settings, which faults when. Drawn at random, each run differently
//! (swarm testing, Groce et al. 2012): a run with few kinds of faults reaches what one with all kinds never does.
//!
//! A scenario is a value, so that a failing one can be made smaller and run again.

use kv_store::Policy;

use crate::random::Random;
use crate::time::{MILLIS, SECONDS, Time};

/// A run before it runs.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    /// The servers that form the cluster.
    pub(crate) nodes: usize,
    /// Servers that want to join it.
    pub(crate) newcomers: usize,
    pub(crate) clients: usize,
    /// Operations of all clients together.
    pub(crate) operations: u64,
    pub(crate) settings: Settings,
    pub(crate) faults: Vec<PlannedFault>,
    /// When the faults end and everything heals.
    pub(crate) heal_at: Time,
}

/// The weather of a run.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// T, in milliseconds.
    pub(crate) election_timeout_ms: u64,
    pub(crate) heartbeat_ms: u64,
    pub(crate) segment_bytes: u64,
    /// How much of the log may be uncommitted, and wait for the disk, before a leader refuses.
    pub(crate) max_uncommitted_bytes: usize,
    pub(crate) max_unsynced_bytes: usize,
    /// By how much the log grows before a snapshot is taken, and how much of it stays behind.
    /// How much history and how many keys the leaders keep.
    pub(crate) policy: Policy,
    /// How much a watch's connection may lack before it is told no more.
    pub(crate) unwritten_bytes: usize,
    pub(crate) snapshot_threshold_bytes: u64,
    pub(crate) log_tail_bytes: usize,
    pub(crate) snapshot_chunk_bytes: usize,
    /// Shortest way between two servers.
    pub(crate) latency: Time,
    /// What may be added to it.
    pub(crate) jitter: Time,
    /// Whether links keep the order of what is sent on them, as TCP does.
    pub(crate) is_ordered: bool,
    /// Whether what is sent into a partition arrives when that ends (TCP's buffers), or is lost.
    pub(crate) holds_back: bool,
    pub(crate) loss_per_mille: u64,
    pub(crate) duplicate_per_mille: u64,
    pub(crate) disk_latency: Time,
    pub(crate) disk_jitter: Time,
    /// How long a server takes what comes in before it works on it.
    pub(crate) turn: Time,
    /// Each server's clock, in millionths of the true rate.
    pub(crate) clock_rates: Vec<u64>,
    /// What a power loss does to what was not synced: how many in a thousand sectors and names survive.
    pub(crate) kept_per_mille: u64,
    pub(crate) reply_loss_per_mille: u64,
    pub(crate) late_copy_per_mille: u64,
    /// How many operations are tried once only.
    pub(crate) single_try_per_mille: u64,
    /// How many operations have a deadline so short that it may pass.
    pub(crate) short_deadline_per_mille: u64,
    pub(crate) read_per_mille: u64,
    /// How often an acknowledged write makes another client ask at once.
    pub(crate) hurry_per_mille: u64,
    pub(crate) keys: usize,
}

/// A fault, when it strikes and how long it lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlannedFault {
    pub(crate) at: Time,
    pub(crate) lasts: Time,
    pub(crate) kind: FaultKind,
    /// Decides what the kind leaves open: which server, which side.
    pub(crate) choice: u64,
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// One server loses its power.
    Crash,
    /// All of them at once.
    CrashAll,
    /// The power goes in the middle of what the disk does.
    CrashInWrite,
    /// A server's process stands still.
    Pause,
    /// The same, with the clock read just before.
    PauseAfterClock,
    /// A server without any peer.
    Isolate,
    /// The leader without any peer.
    IsolateLeader,
    /// The leader stands still, on the smaller side of a cut; when it wakes, it does not know that another leads.
    FreezeLeader,
    /// Two sides.
    Split,
    /// A server that sends and hears nothing, or the other way round.
    OneWay,
    /// Two sides that share one server.
    Bridge,
    /// Each server reaches its two neighbours only; the ends one.
    Chain,
    /// The same with the ends joined.
    Ring,
    /// One server alone, on and off.
    Flap,
    /// One link is slow.
    SlowLink,
    /// Connections break and are made anew.
    Reset,
    /// Many messages are lost and repeated.
    Storm,
    /// A disk stands still.
    Stall,
    /// A write or sync fails.
    DiskError,
    /// A disk is full.
    DiskFull,
    /// Bits of a stopped server's disk rot.
    BitRot,
    /// A starting server reads the wrong sector once.
    Misdirect,
    /// A stopped server's disk is replaced by an empty one.
    Wipe,
    /// No fault: somebody asks for another leader.
    Transfer,
    /// No fault: a server, mostly the leader, is stopped in order and started again.
    Stop,
    /// No fault: somebody asks for a change of the membership.
    ChangeMembers,
}

/// All kinds, and how often each is drawn compared to the others.
const KINDS: &[(FaultKind, u64)] = &[
    (FaultKind::Crash, 14),
    (FaultKind::CrashAll, 5),
    (FaultKind::CrashInWrite, 12),
    (FaultKind::Pause, 8),
    (FaultKind::PauseAfterClock, 8),
    (FaultKind::Isolate, 6),
    (FaultKind::IsolateLeader, 8),
    (FaultKind::FreezeLeader, 20),
    (FaultKind::Split, 6),
    (FaultKind::OneWay, 6),
    (FaultKind::Bridge, 3),
    (FaultKind::Chain, 3),
    (FaultKind::Ring, 3),
    (FaultKind::Flap, 4),
    (FaultKind::SlowLink, 4),
    (FaultKind::Reset, 6),
    (FaultKind::Storm, 5),
    (FaultKind::Stall, 6),
    (FaultKind::DiskError, 6),
    (FaultKind::DiskFull, 3),
    (FaultKind::BitRot, 3),
    (FaultKind::Misdirect, 3),
    (FaultKind::Wipe, 2),
];

/// How long faults go on.
const SAFETY_PHASE: Time = 48 * SECONDS;

impl Scenario {
    /// The scenario of a seed.
    pub(crate) fn of(seed: u64, operations: Option<u64>) -> Self {
        let mut random = Random::new(seed, 1);
        let nodes = random.pick(&[3, 3, 3, 5, 5, 7]);
        let (mut of_snapshots, mut of_limits) = (Random::new(seed, 7), Random::new(seed, 8));
        let settings = Settings::draw(&mut random, &mut of_snapshots, &mut of_limits, nodes);
        let mut faults = draw_faults(&mut random);
        faults.extend(draw_operations(&mut Random::new(seed, 6)));
        let mut of_members = Random::new(seed, 8);
        let newcomers = of_members.pick(&[0, 0, 1, 2, 2]);
        if newcomers > 0 {
            faults.extend(draw_changes(&mut of_members));
        }
        let clients = usize::try_from(random.between(4, 8)).unwrap_or(4);
        let operations = operations.unwrap_or_else(|| random.between(1_000, 1_200));
        Self { seed, nodes, newcomers, clients, operations, settings, faults, heal_at: SAFETY_PHASE }
    }

    /// How many of the servers that form the cluster it can do without.
    pub(crate) const fn tolerated(&self) -> usize {
        (self.nodes - 1) / 2
    }
}

impl Settings {
    fn draw(random: &mut Random, of_snapshots: &mut Random, of_limits: &mut Random, nodes: usize) -> Self {
        let election_timeout_ms = random.pick(&[100, 150, 150, 300, 300, 600, 1_000]);
        let heartbeat_ms = election_timeout_ms / random.pick(&[3, 4, 5]);
        let latency = random.pick(&[MILLIS / 20, MILLIS / 5, MILLIS, 4 * MILLIS]);
        let is_skewed = random.chance(500);
        let rate = |random: &mut Random| if is_skewed { random.between(900_000, 1_100_000) } else { 1_000_000 };
        Self {
            election_timeout_ms,
            heartbeat_ms,
            segment_bytes: random.pick(&[4 << 10, 4 << 10, 8 << 10, 16 << 10, 64 << 10]),
            max_uncommitted_bytes: of_limits.pick(&[128 << 20, 4 << 10, 1 << 10, 400]),
            max_unsynced_bytes: of_limits.pick(&[128 << 20, 4 << 10, 1 << 10, 400]),
            policy: Policy {
                history_bytes: of_snapshots.pick(&[1 << 28, 20_000, 5_000, 1_000, 0]),
                quota_bytes: of_snapshots.pick(&[None, None, Some(1 << 30), Some(3_000), Some(1_500)]),
            },
            unwritten_bytes: of_snapshots.pick(&[256 << 10, 1_000, 100]),
            snapshot_threshold_bytes: of_snapshots.pick(&[1 << 40, 2 << 10, 4 << 10, 8 << 10, 32 << 10]),
            log_tail_bytes: of_snapshots.pick(&[0, 0, 500, 4 << 10, 64 << 10]),
            snapshot_chunk_bytes: of_snapshots.pick(&[256, 1 << 10, 8 << 10, 1 << 20]),
            latency,
            jitter: latency * random.pick(&[0, 1, 4, 10]),
            is_ordered: random.chance(500),
            holds_back: random.chance(400),
            loss_per_mille: random.pick(&[0, 0, 0, 10, 50, 150]),
            duplicate_per_mille: random.pick(&[0, 0, 10, 50]),
            disk_latency: random.pick(&[MILLIS / 10, MILLIS / 2, 2 * MILLIS, 10 * MILLIS]),
            disk_jitter: random.pick(&[0, MILLIS, 20 * MILLIS]),
            turn: random.pick(&[0, MILLIS / 100, MILLIS / 5, MILLIS]),
            clock_rates: (0..nodes).map(|_| rate(random)).collect(),
            kept_per_mille: random.pick(&[0, 100, 500, 500, 900, 1_000]),
            reply_loss_per_mille: random.pick(&[0, 20, 100, 300]),
            late_copy_per_mille: random.pick(&[0, 20, 100]),
            single_try_per_mille: random.pick(&[0, 200, 500]),
            short_deadline_per_mille: random.pick(&[0, 50, 200]),
            read_per_mille: random.pick(&[300, 500, 700]),
            hurry_per_mille: random.pick(&[0, 100, 500]),
            keys: random.pick(&[1, 2, 4, 8, 16]),
        }
    }
}

/// A subset of the kinds, at a rate of the run's own.
fn draw_faults(random: &mut Random) -> Vec<PlannedFault> {
    let enabled_per_mille = random.pick(&[150, 300, 500, 900]);
    let enabled: Vec<(FaultKind, u64)> = KINDS.iter().copied().filter(|_| random.chance(enabled_per_mille)).collect();
    let total: u64 = enabled.iter().map(|(_, weight)| weight).sum();
    let pause = random.pick(&[SECONDS, 2 * SECONDS, 3 * SECONDS, 5 * SECONDS, 20 * SECONDS]);
    let mut faults = Vec::new();
    // Some runs begin their faults before the cluster has formed.
    let mut at = if random.chance(200) { 0 } else { 2 * SECONDS };
    loop {
        at += random.below(2 * pause);
        if total == 0 || at >= SAFETY_PHASE - SECONDS {
            return faults;
        }
        let mut place = random.below(total);
        for &(kind, weight) in &enabled {
            if place < weight {
                let lasts = draw_duration(random);
                faults.push(PlannedFault { at, lasts, kind, choice: random.bits() });
                break;
            }
            place -= weight;
        }
    }
}

/// What an operator does in half of the runs, besides the faults.
fn draw_operations(random: &mut Random) -> Vec<PlannedFault> {
    let mut operations = Vec::new();
    if random.chance(500) {
        return operations;
    }
    let pause = random.pick(&[SECONDS / 4, SECONDS, 3 * SECONDS]);
    let stop_per_mille = random.pick(&[0, 100, 400]);
    let mut at = 0;
    loop {
        at += random.below(2 * pause);
        if at >= SAFETY_PHASE - SECONDS {
            return operations;
        }
        let kind = if random.chance(stop_per_mille) { FaultKind::Stop } else { FaultKind::Transfer };
        let lasts = random.between(100 * MILLIS, 2 * SECONDS);
        operations.push(PlannedFault { at, lasts, kind, choice: random.bits() });
    }
}

/// Changes of the membership, in the runs that have newcomers.
fn draw_changes(random: &mut Random) -> Vec<PlannedFault> {
    let pause = random.pick(&[SECONDS / 2, 2 * SECONDS, 5 * SECONDS]);
    let mut changes = Vec::new();
    let mut at = SECONDS;
    loop {
        at += random.below(2 * pause);
        if at >= SAFETY_PHASE - SECONDS {
            return changes;
        }
        let lasts = random.between(100 * MILLIS, 5 * SECONDS);
        changes.push(PlannedFault { at, lasts, kind: FaultKind::ChangeMembers, choice: random.bits() });
    }
}

/// From a tenth of a second to half a minute, mostly short.
fn draw_duration(random: &mut Random) -> Time {
    match random.below(10) {
        0..5 => random.between(100 * MILLIS, SECONDS),
        5..9 => random.between(SECONDS, 5 * SECONDS),
        _ => random.between(5 * SECONDS, 30 * SECONDS),
    }
}
