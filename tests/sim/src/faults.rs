//! Faults: each strikes at its time, and is undone when it ends.

use raft_core::{Configuration, Half, NodeId, RoleName};
use raft_storage::Disk as _;

use crate::coverage::Count;
use crate::network::KINDS;
use crate::node::{Ambush, Fate};
use crate::random::Random;
use crate::scenario::{FaultKind, PlannedFault};
use crate::time::{MILLIS, SECONDS, Time};
use crate::world::{Event, World, place_of};

/// How to end a fault.
#[derive(Debug, Default)]
pub(crate) struct Undo {
    /// Directed pairs that it cuts.
    cuts: Vec<(usize, usize)>,
    /// Directed pairs that it slows.
    slowed: Vec<(usize, usize)>,
    is_storm: bool,
    /// Disks that it filled.
    filled: Vec<usize>,
}

impl World {
    /// A fault strikes.
    pub(crate) fn strike(&mut self, place: usize) {
        let Some(&fault) = self.scenario.faults.get(place) else { return };
        if self.is_healed {
            return;
        }
        let mut choice = Random::new(fault.choice, 4);
        let node = choice.place(self.nodes.len());
        self.trace.line(self.now, || {
            format!("fault {place}: {:?}, at n{}, for {} ms", fault.kind, node + 1, fault.lasts / MILLIS)
        });
        match fault.kind {
            FaultKind::Crash => self.strike_crash(node, &fault),
            FaultKind::CrashAll => self.strike_all(&mut choice, &fault),
            FaultKind::CrashInWrite => self.strike_in_write(node, &fault),
            FaultKind::Pause | FaultKind::PauseAfterClock => self.strike_pause(node, &fault),
            FaultKind::Isolate
            | FaultKind::IsolateLeader
            | FaultKind::FreezeLeader
            | FaultKind::Split
            | FaultKind::OneWay
            | FaultKind::Bridge
            | FaultKind::Chain
            | FaultKind::Ring => self.strike_partition(place, node, &mut choice, &fault),
            FaultKind::Flap => self.strike_flap(place, &mut choice, &fault),
            FaultKind::SlowLink => self.strike_slow(place, node, &mut choice, &fault),
            FaultKind::Reset => self.strike_reset(node, &mut choice),
            FaultKind::Storm => {
                self.network.storms += 1;
                self.undo_later(place, Undo { is_storm: true, ..Undo::default() }, &fault);
            }
            FaultKind::Stall => {
                self.coverage.count(Count::DiskStall);
                let node = self.leader().filter(|_| choice.chance(500)).unwrap_or(node);
                let until = self.now + fault.lasts;
                self.node_mut(node).stalled_until = until;
            }
            FaultKind::DiskError => {
                self.coverage.count(Count::DiskError);
                let calls = choice.below(12);
                self.node(node).disk.fail_after(calls);
            }
            FaultKind::DiskFull => {
                let everywhere = choice.chance(300);
                let filled: Vec<usize> = if everywhere { (0..self.nodes.len()).collect() } else { vec![node] };
                self.coverage.count(if everywhere { Count::DisksFull } else { Count::DiskFull });
                for &node in &filled {
                    let disk = &self.node(node).disk;
                    // Somebody else may have taken what is left, or leave a little.
                    let left_bytes = choice.pick(&[0, 0, 1_000, 10_000]);
                    disk.set_capacity(Some(disk.used_bytes() + left_bytes));
                }
                self.undo_later(place, Undo { filled, ..Undo::default() }, &fault);
            }
            FaultKind::BitRot => self.strike_rot(node, &mut choice, &fault),
            FaultKind::Misdirect => {
                if self.node(node).fate == Fate::Sound {
                    self.node_mut(node).misdirect = choice.between(1, 12);
                    self.lose_power(node, fault.lasts.min(SECONDS));
                }
            }
            FaultKind::Wipe => self.strike_wipe(node, &fault),
            FaultKind::Transfer => {
                let to = Some(choice.place(self.nodes.len())).filter(|_| choice.chance(700));
                self.ask_for_transfer(node, to, fault.lasts);
            }
            FaultKind::Stop => {
                let node = self.leader().filter(|_| choice.chance(700)).unwrap_or(node);
                self.stop_in_order(node, fault.lasts);
            }
            FaultKind::ChangeMembers => self.change_members(node, &mut choice, fault.lasts),
        }
    }

    fn undo_later(&mut self, place: usize, undo: Undo, fault: &PlannedFault) {
        self.undo.insert(place, undo);
        self.schedule(self.now + fault.lasts, Event::FaultOver(place));
    }

    /// A fault ends.
    pub(crate) fn end_fault(&mut self, place: usize) {
        let Some(undo) = self.undo.remove(&place) else { return };
        for (from, to) in undo.cuts {
            self.network.mend(from, to);
        }
        for (from, to) in undo.slowed {
            self.network.set_slowness(from, to, 0);
        }
        if undo.is_storm {
            self.network.storms = self.network.storms.saturating_sub(1);
        }
        for node in undo.filled {
            self.node(node).disk.set_capacity(None);
        }
        self.release_held_back();
    }

    // --- machines ------------------------------------------------------------------------------------------------

    fn strike_crash(&mut self, node: usize, fault: &PlannedFault) {
        if self.node(node).process.is_none() {
            return;
        }
        if fault.choice & 1 == 0 {
            // Only the process dies: what it wrote is in the page cache, synced or not.
            self.end_process(node);
            self.plan_start(node, self.now + fault.lasts);
        } else {
            self.lose_power(node, fault.lasts);
        }
    }

    fn strike_all(&mut self, choice: &mut Random, fault: &PlannedFault) {
        self.coverage.count(Count::CrashAll);
        for node in 0..self.nodes.len() {
            if choice.chance(500) {
                self.crash_in_write(node, choice.below(fault.lasts));
            } else {
                self.lose_power(node, choice.below(fault.lasts));
            }
        }
    }

    fn strike_in_write(&mut self, node: usize, fault: &PlannedFault) {
        let machine = self.node_mut(node);
        if let Some(process) = &machine.process {
            if process.working.is_some() {
                self.crash_in_write(node, fault.lasts);
            } else {
                machine.crash_in_write = Some(fault.lasts);
            }
        }
    }

    fn strike_pause(&mut self, node: usize, fault: &PlannedFault) {
        let until = self.now + fault.lasts;
        let machine = self.node_mut(node);
        if machine.process.is_none() {
            return;
        }
        if fault.kind == FaultKind::PauseAfterClock {
            machine.pause_after_clock = Some(fault.lasts);
        } else {
            machine.paused_until = machine.paused_until.max(until);
            self.coverage.count(Count::Pause);
            self.schedule(until, Event::Resume { node });
        }
    }

    /// Whether the cluster goes on if what the disk of `node` holds is lost: in each configuration that any server may still
    /// go by, a majority of sound voters is left without it.
    fn may_lose(&self, node: usize) -> bool {
        let is_lost = |id: NodeId| {
            let place = place_of(id);
            place == node || self.nodes.get(place).is_some_and(|node| node.fate != Fate::Sound)
        };
        let goes_on = |configuration: &Configuration| {
            Half::BOTH.into_iter().all(|half| {
                let voters = configuration.voters_in(half).count();
                2 * configuration.voters_in(half).filter(|&id| is_lost(id)).count() < voters
            })
        };
        // A change that is about to begin may count on this very server, and cannot be taken back.
        let may_strike = self.checkers.ledger.length() > 0 && self.now >= self.operator.changes_until;
        may_strike && self.node(node).fate == Fate::Sound && self.checkers.membership.last_seen().all(goes_on)
    }

    /// Bits of the synced data of a server flip while it is off. More than a minority is not survivable, so not done.
    fn strike_rot(&mut self, node: usize, choice: &mut Random, fault: &PlannedFault) {
        if !self.may_lose(node) {
            return;
        }
        self.lose_power(node, fault.lasts.min(2 * SECONDS));
        let machine = self.node_mut(node);
        let mut names = machine.disk.list().unwrap_or_default();
        names.sort();
        if names.is_empty() {
            return;
        }
        // The end of the log is where damage is mistaken for an interrupted write.
        let last = names.iter().rfind(|name| name.starts_with("log-")).filter(|_| choice.chance(400)).cloned();
        let name =
            last.unwrap_or_else(|| choice.pick(&names.iter().map(String::as_str).collect::<Vec<_>>()).to_owned());
        let Some(mut bytes) = machine.disk.contents(&name).filter(|bytes| !bytes.is_empty()) else { return };
        let last_batch = last_batch_in(&bytes).filter(|_| choice.chance(500));
        for _ in 0..choice.between(1, 3) {
            let place = match last_batch {
                Some(at) => at + choice.place(100),
                None => choice.place(bytes.len()),
            };
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= 1 << choice.below(8);
            }
        }
        machine.disk.set_contents(&name, bytes);
        machine.fate = Fate::Rotten;
        self.coverage.count(Count::BitRot);
        let id = self.node(node).id;
        self.trace.line(self.now, || format!("{id}: bits of {name} rot"));
    }

    /// A server comes back with an empty disk, once the cluster has formed.
    fn strike_wipe(&mut self, node: usize, fault: &PlannedFault) {
        if !self.may_lose(node) {
            return;
        }
        self.coverage.count(Count::Wipe);
        self.lose_power(node, fault.lasts.min(2 * SECONDS));
        self.checkers.wiped(node);
        let machine = self.node_mut(node);
        machine.disk = raft_storage::MemDisk::new();
        machine.fate = Fate::Wiped;
    }

    // --- the network ---------------------------------------------------------------------------------------------

    fn strike_partition(&mut self, place: usize, node: usize, choice: &mut Random, fault: &PlannedFault) {
        let count = self.nodes.len();
        let is_of_leader = matches!(fault.kind, FaultKind::IsolateLeader | FaultKind::FreezeLeader);
        let node = if is_of_leader { self.leader().unwrap_or(node) } else { node };
        let loyal = if fault.kind == FaultKind::FreezeLeader { self.choose_loyal(node, choice) } else { Vec::new() };
        let is_near_leader = |place: usize| place == node || loyal.contains(&place);
        let reaches = |from: usize, to: usize, sides: u64| -> bool {
            let near = |one: usize, other: usize| one.abs_diff(other) == 1;
            match fault.kind {
                FaultKind::Split => (sides >> from) & 1 == (sides >> to) & 1,
                FaultKind::OneWay if sides & 1 == 0 => from != node,
                FaultKind::OneWay => to != node,
                // One server is on both sides.
                FaultKind::Bridge => from == node || to == node || from % 2 == to % 2,
                FaultKind::Chain => near(from, to),
                FaultKind::Ring => near(from, to) || from.abs_diff(to) == count - 1,
                FaultKind::FreezeLeader => is_near_leader(from) == is_near_leader(to),
                _ => from != node && to != node,
            }
        };
        let sides = choice.bits();
        let mut cuts = Vec::new();
        for from in 0..count {
            cuts.extend((0..count).filter(|&to| from != to && !reaches(from, to, sides)).map(|to| (from, to)));
        }
        self.coverage.count(match fault.kind {
            FaultKind::Split => Count::Split,
            FaultKind::OneWay => Count::OneWay,
            FaultKind::Bridge => Count::Bridge,
            FaultKind::Chain => Count::Chain,
            FaultKind::Ring => Count::Ring,
            FaultKind::FreezeLeader => Count::FrozenLeader,
            _ => Count::Partition,
        });
        self.cut_all(&cuts);
        self.undo_later(place, Undo { cuts, ..Undo::default() }, fault);
        if fault.kind == FaultKind::FreezeLeader {
            // Long enough for another to lead and to be written to; mostly so short that it does not yet step down by itself.
            let shortest = self.scenario.settings.election_timeout_ms * MILLIS;
            let longest = 2 * shortest + if choice.chance(300) { SECONDS } else { 0 };
            let until = self.now + choice.between(shortest + shortest / 4, longest);
            let machine = self.node_mut(node);
            machine.paused_until = until;
            if choice.chance(500) {
                // Or for as long as it takes another to lead and to write, and a follower of its own to ask.
                machine.paused_until += shortest;
                machine.ambush = Ambush::Set;
            }
            let until = machine.paused_until;
            self.schedule(until, Event::Resume { node });
        }
    }

    /// The followers on a frozen leader's side of the cut: a minority, and the ones that will stand last. They still ask
    /// it for read indexes when another leads already.
    fn choose_loyal(&self, leader: usize, choice: &mut Random) -> Vec<usize> {
        let stands = |place: usize| {
            let machine = self.node(place);
            let process = machine.process.as_ref()?;
            Some(machine.moment(process.started, process.server.next_wakeup()))
        };
        let mut others: Vec<usize> = (0..self.nodes.len()).filter(|&place| place != leader).collect();
        others.sort_by_key(|&place| std::cmp::Reverse(stands(place)));
        others.truncate(choice.place(self.scenario.tolerated()));
        others
    }

    fn cut_all(&mut self, cuts: &[(usize, usize)]) {
        for &(from, to) in cuts {
            self.network.cut(from, to);
            // TCP notices some time later, or never.
            let at = self.now + self.random.between(SECONDS / 5, 4 * SECONDS);
            self.schedule(at, Event::GiveUp { from, to });
        }
    }

    fn strike_flap(&mut self, place: usize, choice: &mut Random, fault: &PlannedFault) {
        self.coverage.count(Count::Flapping);
        let beat = choice.between(50 * MILLIS, SECONDS);
        let mut at: Time = self.now;
        let mut is_cut = true;
        while at < self.now + fault.lasts {
            self.schedule(at, Event::Flap { fault: place, is_cut });
            at += beat;
            is_cut = !is_cut;
        }
        self.undo.insert(place, Undo::default());
        self.schedule(self.now + fault.lasts, Event::FaultOver(place));
    }

    /// One beat: a server is cut off, or reached again.
    pub(crate) fn flap(&mut self, place: usize, is_cut: bool) {
        let Some(fault) = self.scenario.faults.get(place) else { return };
        let node = Random::new(fault.choice, 5).place(self.nodes.len());
        if self.is_healed || !self.undo.contains_key(&place) {
            return;
        }
        let others = (0..self.nodes.len()).filter(|&other| other != node);
        let pairs: Vec<(usize, usize)> = others.flat_map(|other| [(node, other), (other, node)]).collect();
        let had = self.undo.insert(place, Undo::default()).unwrap_or_default();
        for (from, to) in had.cuts {
            self.network.mend(from, to);
        }
        if is_cut {
            self.cut_all(&pairs);
            self.undo.insert(place, Undo { cuts: pairs, ..Undo::default() });
        } else {
            self.release_held_back();
        }
    }

    fn strike_slow(&mut self, place: usize, node: usize, choice: &mut Random, fault: &PlannedFault) {
        self.coverage.count(Count::SlowLink);
        let other = (node + 1 + choice.place(self.nodes.len() - 1)) % self.nodes.len();
        let extra = choice.between(20 * MILLIS, SECONDS);
        let slowed = if choice.chance(500) { vec![(node, other)] } else { vec![(node, other), (other, node)] };
        for &(from, to) in &slowed {
            self.network.set_slowness(from, to, extra);
        }
        self.undo_later(place, Undo { slowed, ..Undo::default() }, fault);
    }

    fn strike_reset(&mut self, node: usize, choice: &mut Random) {
        self.coverage.count(Count::LinkReset);
        for other in (0..self.nodes.len()).filter(|&other| other != node) {
            for kind in KINDS {
                if choice.chance(700) {
                    self.break_link(node, other, kind);
                }
                if choice.chance(700) {
                    self.break_link(other, node, kind);
                }
            }
        }
    }

    /// Who leads the latest term, as far as servers know.
    pub(crate) fn leader(&self) -> Option<usize> {
        let leads = |(place, node): (usize, &crate::node::Node)| {
            let raft = node.process.as_ref()?.server.replica().raft()?;
            (raft.role() == RoleName::Leader).then(|| (raft.term(), place))
        };
        self.nodes.iter().enumerate().filter_map(leads).max().map(|(_, place)| place)
    }

    /// All faults end, and whoever is down comes back.
    pub(crate) fn heal(&mut self) {
        self.trace.line(self.now, || "all faults end".to_owned());
        self.is_healed = true;
        self.undo.clear();
        self.network.heal();
        self.release_held_back();
        for node in 0..self.nodes.len() {
            let now = self.now;
            let machine = self.node_mut(node);
            machine.ambush = Ambush::None;
            machine.pause_after_clock = None;
            machine.crash_in_write = None;
            machine.misdirect = 0;
            machine.disk.set_capacity(None);
            machine.stalled_until = machine.stalled_until.min(now);
            machine.disk.heal();
            if machine.paused_until > now {
                machine.paused_until = now;
                self.schedule(now, Event::Resume { node });
            }
            if let Some(process) = self.node(node).process.as_ref().filter(|process| process.working.is_some()) {
                // It waits for a disk that stood still.
                let event = Event::DiskDone { node, process: process.number };
                self.schedule(now, event);
            }
            if let Some(process) = self.node(node).process.as_ref() {
                // The same for its other work.
                let number = process.number;
                self.schedule(now, Event::SnapshotDone { node, process: number });
                self.schedule(now, Event::SpaceSought { node, process: number });
            }
            let machine = self.node_mut(node);
            if machine.process.is_none() && machine.fate != Fate::Refused {
                machine.will_start = true;
                self.schedule(now, Event::Start { node });
            }
        }
    }
}

/// Where the last batch of a segment begins: each begins with the segment's id.
fn last_batch_in(segment: &[u8]) -> Option<usize> {
    let id = segment.get(40..56)?;
    let batches = segment.chunks(512).enumerate().skip(1).filter(|(_, sector)| sector.get(..16) == Some(id));
    batches.map(|(sector, _)| sector * 512).max()
}
