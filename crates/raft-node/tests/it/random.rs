//! Hundreds of seeds of requests, transfers of the leadership and faults, each judged at its end:
//! - every request was answered exactly once, or its client's server died;
//! - what was acknowledged is in every list, at the place the reply named; what certainly was not done is in none;
//! - no command is there twice;
//! - reads never go backwards, and see all that was acknowledged before they were asked for;
//! - once the faults end, the cluster serves again and all lists are equal.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use raft_core::{Effect, NodeId};
use raft_node::{Answer, Leadership, NodeEvent};
use rand_core::Rng;
use rand_pcg::Pcg64Mcg;

use crate::cluster::{Cluster, Outcome, Request, n};
use crate::machine::length_in;

/// A run: the cluster, its choices, and what its clients remember.
struct Run {
    cluster: Cluster,
    choices: Pcg64Mcg,
    /// How long the list was known to be when each read was asked for.
    known_at: BTreeMap<Request, usize>,
    /// Its longest prefix that some client knows of.
    known: usize,
    /// Outcomes the clients have looked at.
    looked_at: BTreeSet<Request>,
}

impl Run {
    fn new(seed: u64) -> Self {
        // Some runs begin with a cluster that has yet to form.
        let mut cluster = Cluster::new(3, seed);
        // Most take snapshots, some after every few commands.
        cluster.snapshot_threshold_bytes = [u64::MAX, 50, 100, 200][usize::try_from(seed % 7 % 4).unwrap()];
        if !seed.is_multiple_of(4) {
            cluster.start_all();
            cluster.settle();
        }
        let choices = Pcg64Mcg::new(u128::from(seed) << 1 | 1);
        Self { cluster, choices, known_at: BTreeMap::new(), known: 0, looked_at: BTreeSet::new() }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.choices.next_u64() % limit
    }

    fn any_node(&mut self) -> NodeId {
        n(1 + self.below(3))
    }

    fn any_running(&mut self) -> Option<NodeId> {
        let id = self.any_node();
        (self.cluster.is_running(id) && !self.cluster.paused.contains(&id)).then_some(id)
    }

    /// One thing happens: mostly what a healthy cluster does, sometimes a request, seldom a fault.
    fn step(&mut self) {
        match self.below(1_000) {
            0..600 => {
                let links = self.cluster.busy_links();
                if !links.is_empty() {
                    let place = usize::try_from(self.below(links.len() as u64)).unwrap();
                    self.cluster.deliver(links[place]);
                }
            }
            600..720 => {
                let id = self.any_node();
                if self.cluster.has_work(id) {
                    self.cluster.work(id);
                }
                if self.cluster.has_snapshot_work(id) && self.below(2) == 0 {
                    self.cluster.work_on_snapshots(id);
                }
            }
            720..800 => {
                let id = self.any_node();
                if self.cluster.has_report(id) {
                    self.cluster.report(id);
                }
                if self.cluster.has_snapshot_report(id) && self.below(2) == 0 {
                    self.cluster.report_snapshot(id);
                }
            }
            800..870 => {
                let until = self.cluster.now.after(Duration::from_millis(self.choices.next_u64() % 40));
                self.cluster.pass_time_to(until);
            }
            870..880 => drop(self.cluster.notice_broken()),
            880..940 => self.request(),
            _ => self.fault(),
        }
        self.look();
    }

    fn request(&mut self) {
        let Some(id) = self.any_running() else { return };
        let kind = self.below(12);
        if kind < 4 {
            let read = self.cluster.read(id);
            self.known_at.insert(read, self.known);
        } else if kind == 4 {
            let to = Some(self.any_node()).filter(|_| self.below(2) == 0);
            self.cluster.transfer(id, to);
        } else {
            let timeout = Duration::from_millis(1 + self.below(2_000));
            for _ in 0..=self.below(3) {
                self.cluster.propose_more(id, timeout);
            }
            self.cluster.flush(id);
        }
    }

    fn fault(&mut self) {
        let id = self.any_node();
        let other = self.any_node();
        match self.below(30) {
            0 => {
                let mut choices = Pcg64Mcg::new(u128::from(self.choices.next_u64()) | 1);
                let choose = |versions| usize::try_from(choices.next_u64() % (versions as u64 + 1)).unwrap();
                self.cluster.crash_keeping(id, choose);
            }
            1..4 => {
                if !self.cluster.is_running(id) {
                    self.cluster.start(id);
                }
            }
            4 => self.cluster.break_links(id, other),
            5 => drop(self.cluster.cut.insert((id, other))),
            6 => drop(self.cluster.full.insert((id, other))),
            7 => drop(self.cluster.paused.insert(id)),
            8 => drop(self.cluster.stalled.insert(id)),
            9 => {
                if self.cluster.is_running(id) {
                    let calls = self.below(10);
                    self.cluster.server(id).disk.fail_after(calls);
                }
            }
            10..14 => self.cluster.heal(),
            _ => {
                let links = self.cluster.busy_links();
                if let Some(&link) = links.first() {
                    self.cluster.lose(link);
                }
            }
        }
    }

    /// The clients look at their answers.
    fn look(&mut self) {
        for (&request, Outcome { answer, seen, .. }) in &self.cluster.outcomes {
            if !self.looked_at.insert(request) {
                continue;
            }
            match answer {
                Answer::Applied(reply) => self.known = self.known.max(usize::try_from(length_in(reply)).unwrap()),
                Answer::ReadReady => {
                    let length = seen.as_ref().unwrap().len();
                    let known = self.known_at[&request];
                    assert!(length >= known, "read {request} saw {length} numbers, {known} were known when it began");
                    self.known = self.known.max(length);
                }
                Answer::Transferred(_) | Answer::Members(_) | Answer::Failed(_) => {}
            }
        }
    }

    /// All faults end; the cluster must serve again.
    fn heal(&mut self) {
        self.cluster.heal();
        for id in self.cluster.ids() {
            self.cluster.server(id).disk.heal();
            if self.cluster.is_running(id) {
                continue;
            }
            self.cluster.start(id);
        }
        self.cluster.run_for(Duration::from_secs(10));
        self.cluster.settle();
        self.look();
        for id in self.cluster.ids() {
            let write = self.cluster.propose(id);
            assert!(matches!(self.cluster.wait_for(write), Answer::Applied(_)), "{id} serves again");
            let read = self.cluster.read(id);
            self.known_at.insert(read, self.known);
            assert_eq!(self.cluster.wait_for(read), Answer::ReadReady);
            self.look();
        }
        self.cluster.run_for(Duration::from_secs(1));
    }

    fn check(&self) {
        let cluster = &self.cluster;
        assert!(cluster.waiting.is_empty(), "never answered: {:?}", cluster.waiting);
        let list = &cluster.replica(n(1)).machine().numbers;
        for id in cluster.ids() {
            assert_eq!(cluster.replica(id).machine(), cluster.replica(n(1)).machine(), "{id}");
        }
        let once: BTreeSet<u64> = list.iter().copied().collect();
        assert_eq!(once.len(), list.len(), "a command was applied twice: {list:?}");
        let mut leaders = BTreeMap::new();
        for (request, Outcome { answer, seen, .. }) in &cluster.outcomes {
            match answer {
                Answer::Applied(reply) => {
                    let place = usize::try_from(length_in(reply)).unwrap();
                    assert_eq!(list.get(place - 1), Some(request), "acknowledged at {place}");
                }
                Answer::ReadReady => {
                    let seen = seen.as_ref().unwrap();
                    assert_eq!(seen[..], list[..seen.len()], "read {request} saw what never was");
                }
                Answer::Transferred(Leadership { leader, term }) => {
                    assert_eq!(leaders.entry(*term).or_insert(*leader), leader, "one leader of {term}");
                }
                Answer::Members(_) => {}
                Answer::Failed(failure) => {
                    assert!(failure.maybe_applied() || !once.contains(request), "{request} failed: {failure:?}");
                }
            }
        }
    }
}

/// What a run came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Played {
    acknowledged: usize,
    snapshots_taken: usize,
    snapshots_installed: usize,
    /// Every message, to compare.
    trace: Vec<String>,
}

/// Plays one seed.
fn play(seed: u64) -> Played {
    let mut run = Run::new(seed);
    for _ in 0..1_500 {
        run.step();
    }
    run.heal();
    run.check();
    let acknowledged = run.cluster.outcomes.values().filter(|outcome| !matches!(outcome.answer, Answer::Failed(_)));
    let trace = run.cluster.sent.iter().map(|(from, to, message)| format!("{from} → {to} {message}")).collect();
    let events = || run.cluster.servers.values().flat_map(|server| &server.events);
    let is_taken = |event: &&NodeEvent| matches!(event, NodeEvent::SnapshotTaken { .. });
    let is_installed =
        |event: &&NodeEvent| matches!(event, NodeEvent::Protocol { effect: Effect::SnapshotInstalled { .. }, .. });
    Played {
        acknowledged: acknowledged.count(),
        snapshots_taken: events().filter(is_taken).count(),
        snapshots_installed: events().filter(is_installed).count(),
        trace,
    }
}

#[test]
fn nothing_acknowledged_is_lost_under_any_mix_of_faults() {
    let mut total = Played::default();
    for seed in 0..400 {
        let outcome = std::panic::catch_unwind(|| play(seed));
        let played = outcome.unwrap_or_else(|cause| {
            eprintln!("seed {seed} failed");
            std::panic::resume_unwind(cause)
        });
        total.acknowledged += played.acknowledged;
        total.snapshots_taken += played.snapshots_taken;
        total.snapshots_installed += played.snapshots_installed;
    }
    assert!(total.acknowledged > 400 * 10, "the runs do something: {total:?}");
    assert!(total.snapshots_taken > 400 && total.snapshots_installed > 40, "{total:?}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    assert_eq!(play(11), play(11));
    assert_ne!(play(11).trace, play(12).trace);
}
