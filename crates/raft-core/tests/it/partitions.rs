//! Broken links by name (§4.2.3, §6.2, §9.6, rule 12): what each costs, in changes of leader a minute, and whether the
//! cluster goes on. The same table stands in `docs/operations.md`, and is compared with it here.
//!
//! Time is virtual: all clocks run alike, a message takes a millisecond, a client offers a command to whoever leads every
//! 100 ms. A scenario must come out the same with every seed, of which election timeouts are drawn.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use raft_core::{Effect, LogIndex, NodeId, Payload, RoleName, Term};

use crate::cluster::{Cluster, n};

/// How many draws of election timeouts each scenario is played with.
const SEEDS: u64 = 4;
const MINUTE_MS: u64 = 60_000;
const COMMAND_EVERY_MS: u64 = 100;
/// How long an election may keep the commands waiting: the longest election timeout and a heartbeat until a leader
/// gives up (§6.2), as long again for the others to stand, and one split vote.
const ELECTION_MS: u64 = 1_000;

/// A cluster with n1 as its leader, at work.
struct Run {
    cluster: Cluster,
    elapsed_ms: u64,
    /// Whether clients offer commands. A server that misses some cannot be elected for its log alone (§3.6.1), so an idle
    /// cluster needs the other rules more.
    is_busy: bool,
    changes: BTreeSet<(Term, NodeId)>,
    /// The last index that was committed before the links broke.
    begun: LogIndex,
}

impl Run {
    fn new(servers: u64, seed: u64, is_busy: bool) -> Self {
        let mut cluster = Cluster::new(servers, false, |config| config.seed += seed * 1_000);
        cluster.wake(n(1));
        cluster.stabilize();
        assert_eq!(cluster.leader(), Some(n(1)));
        let mut run = Self { cluster, elapsed_ms: 0, is_busy, changes: BTreeSet::new(), begun: LogIndex(0) };
        run.pass(1_000);
        assert_eq!(run.changes.len(), 1, "n1 was elected, and nobody since");
        run.begin();
        run
    }

    /// From now on it counts.
    fn begin(&mut self) {
        self.changes.clear();
        self.begun = self.cluster.raft(n(1)).log().last_index();
    }

    /// Lets time pass everywhere. What is sent in one millisecond arrives in the next.
    fn pass(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds {
            self.elapsed_ms += 1;
            for id in self.cluster.ids() {
                self.cluster.pass_time(id, Duration::from_millis(1));
            }
            self.cluster.deliver_round();
            if self.is_busy && self.elapsed_ms.is_multiple_of(COMMAND_EVERY_MS) {
                self.offer_command();
            }
            for event in std::mem::take(&mut self.cluster.events) {
                if let Effect::RoleChanged { to: RoleName::Leader, .. } = event.effect {
                    self.changes.insert((event.term, event.node));
                }
            }
        }
    }

    fn offer_command(&mut self) {
        for id in self.cluster.ids() {
            if self.cluster.raft(id).role() == RoleName::Leader {
                self.cluster.propose(id, &[format!("at {} ms", self.elapsed_ms)]);
            }
        }
    }

    /// How many commands are committed that were offered since the links broke.
    fn commands_committed(&self) -> u64 {
        let commits = self.cluster.commits();
        let (furthest, index) = commits.iter().max_by_key(|(_, index)| **index).expect("a cluster has servers");
        let log = self.cluster.raft(*furthest).log();
        let entries = log.range(self.begun.next(), *index);
        entries.filter(|entry| matches!(entry.payload, Payload::Command(_))).count() as u64
    }

    fn ids(&self) -> Vec<u64> {
        self.cluster.ids().into_iter().map(NodeId::as_u64).collect()
    }

    /// Mends everything, and leaves only these directed links.
    fn keep(&mut self, is_kept: impl Fn(u64, u64) -> bool) {
        self.cluster.heal();
        for from in self.ids() {
            for to in self.ids() {
                if !is_kept(from, to) {
                    self.cluster.cut(n(from), n(to));
                }
            }
        }
    }

    /// Leaves only these links, both ways, for a minute.
    fn keep_for_a_minute(&mut self, links: &[(u64, u64)]) {
        self.keep(|from, to| links.contains(&(from, to)) || links.contains(&(to, from)));
        self.pass(MINUTE_MS);
    }

    /// Nothing that `id` sends arrives.
    fn silence(&mut self, id: u64) {
        self.keep(|from, _| from != id);
    }

    /// Nothing arrives at `id`.
    fn deafen(&mut self, id: u64) {
        self.keep(|_, to| to != id);
    }

    fn isolate(&mut self, id: u64) {
        self.keep(|from, to| from != id && to != id);
    }

    /// Isolates `id` and heals it, in turn, for a minute.
    fn flap(&mut self, id: u64, milliseconds: u64) {
        for _ in 0..MINUTE_MS / milliseconds / 2 {
            self.isolate(id);
            self.pass(milliseconds);
            self.cluster.heal();
            self.pass(milliseconds);
        }
    }
}

/// A named breakage.
struct Scenario {
    name: &'static str,
    /// Clusters of these sizes are broken so.
    servers: &'static [u64],
    /// Breaks links of a cluster that n1 leads, and lets a minute pass.
    play: fn(&mut Run),
    /// How often the leader changes in that minute.
    changes: usize,
    /// Whether commands are committed all the while (but for the elections), or never.
    is_available: bool,
    why: &'static str,
}

const SCENARIOS: [Scenario; 18] = [
    Scenario {
        name: "a follower is cut off and comes back after 30 s",
        servers: &[3, 5],
        play: |run| {
            run.isolate(3);
            run.pass(MINUTE_MS / 2);
            run.cluster.heal();
            run.pass(MINUTE_MS / 2);
        },
        changes: 0,
        is_available: true,
        why: "alone it wins no poll, so it comes back in its old term (§9.6)",
    },
    Scenario {
        name: "a follower flaps: its links break and mend every 400 ms",
        servers: &[3, 5],
        play: |run| run.flap(3, 400),
        changes: 0,
        is_available: true,
        why: "whoever hears the leader refuses its polls (§4.2.3)",
    },
    Scenario {
        name: "the leader is cut off and comes back after 30 s",
        servers: &[3, 5],
        play: |run| {
            run.isolate(1);
            run.pass(MINUTE_MS / 2);
            run.cluster.heal();
            run.pass(MINUTE_MS / 2);
        },
        changes: 1,
        is_available: true,
        why: "without a majority it steps down (§6.2); it comes back as a follower",
    },
    Scenario {
        name: "the leader flaps: its links break and mend every 400 ms",
        servers: &[3, 5],
        play: |run| run.flap(1, 400),
        changes: 1,
        is_available: true,
        why: "another is elected in the first gap; from then on it is a follower that flaps",
    },
    Scenario {
        name: "split: the leader is left with a minority",
        servers: &[5],
        play: |run| run.keep_for_a_minute(&[(1, 2), (3, 4), (4, 5), (5, 3)]),
        changes: 1,
        is_available: true,
        why: "it steps down (§6.2), and the majority elects one of its own",
    },
    Scenario {
        name: "chain of three, the leader at an end",
        servers: &[3],
        play: |run| run.keep_for_a_minute(&[(1, 2), (2, 3)]),
        changes: 0,
        is_available: true,
        why: "the middle hears the leader and refuses the far end's polls (§4.2.3); the far end stays without a leader",
    },
    Scenario {
        name: "chain of five, the leader in the middle",
        servers: &[5],
        play: |run| run.keep_for_a_minute(&[(4, 2), (2, 1), (1, 3), (3, 5)]),
        changes: 0,
        is_available: true,
        why: "it reaches a majority, which refuses the ends' polls (§4.2.3)",
    },
    Scenario {
        name: "chain of five, the leader at an end",
        servers: &[5],
        play: |run| run.keep_for_a_minute(&[(1, 2), (2, 3), (3, 4), (4, 5)]),
        changes: 1,
        is_available: true,
        why: "it reaches one of four and steps down (§6.2); one of the inner three is elected",
    },
    Scenario {
        name: "ring: each reaches its two neighbours",
        servers: &[5],
        play: |run| run.keep_for_a_minute(&[(1, 2), (2, 3), (3, 4), (4, 5), (5, 1)]),
        changes: 0,
        is_available: true,
        why: "the leader's neighbours make its majority, and refuse the other two's polls (§4.2.3)",
    },
    Scenario {
        name: "bridge: two sides that share one server, the leader on a side",
        servers: &[5],
        play: |run| run.keep_for_a_minute(&[(1, 2), (1, 3), (2, 3), (3, 4), (3, 5), (4, 5)]),
        changes: 0,
        is_available: true,
        why: "the bridge hears the leader and refuses the other side's polls (§4.2.3); that side stays without a leader",
    },
    Scenario {
        name: "bridge: two sides that share one server, which leads",
        servers: &[5],
        play: |run| run.keep_for_a_minute(&[(2, 3), (2, 1), (3, 1), (1, 4), (1, 5), (4, 5)]),
        changes: 0,
        is_available: true,
        why: "everybody hears it",
    },
    Scenario {
        name: "quorum loss: all that is left is links to one follower",
        servers: &[5],
        play: |run| run.keep_for_a_minute(&[(3, 1), (3, 2), (3, 4), (3, 5)]),
        changes: 1,
        is_available: true,
        why: "the leader reaches no majority and steps down (§6.2), else that follower would go on hearing it; then that one is elected",
    },
    Scenario {
        name: "constrained election: the same, the leader is gone, and that follower's log is behind",
        servers: &[5],
        play: |run| {
            run.cluster.cut(n(1), n(3));
            run.offer_command();
            run.pass(1_000);
            run.begin();
            run.keep_for_a_minute(&[(3, 2), (3, 4), (3, 5)]);
        },
        changes: 0,
        is_available: false,
        why: "only one server reaches a majority, and its log lacks entries that may be committed: no Raft may elect it (§3.6.1). A link between two of the others helps",
    },
    Scenario {
        name: "one way: the leader does not reach one follower",
        servers: &[3, 5],
        play: |run| {
            run.cluster.cut(n(1), n(3));
            run.pass(MINUTE_MS);
        },
        changes: 0,
        is_available: true,
        why: "leader and others refuse its polls (§4.2.3); it stays without a leader",
    },
    Scenario {
        name: "one way: one follower does not reach the leader",
        servers: &[3, 5],
        play: |run| {
            run.cluster.cut(n(3), n(1));
            run.pass(MINUTE_MS);
        },
        changes: 0,
        is_available: true,
        why: "it hears the leader and is content; the others are a majority",
    },
    Scenario {
        name: "one way: the leader sends and hears nothing",
        servers: &[3, 5],
        play: |run| {
            run.deafen(1);
            run.pass(MINUTE_MS);
        },
        changes: 1,
        is_available: true,
        why: "it steps down (§6.2), else the others would go on hearing it; its polls are refused (§4.2.3)",
    },
    Scenario {
        name: "one way: the leader hears and sends nothing",
        servers: &[3, 5],
        play: |run| {
            run.silence(1);
            run.pass(MINUTE_MS);
        },
        changes: 1,
        is_available: true,
        why: "the others elect one of themselves, whose term it hears (§3.3)",
    },
    Scenario {
        name: "one way all around: each reaches only the next",
        servers: &[3, 5],
        play: |run| {
            let count = run.ids().len() as u64;
            run.keep(|from, to| to == from % count + 1);
            run.pass(MINUTE_MS);
        },
        changes: 0,
        is_available: false,
        why: "no question comes back as an answer, so nobody wins a poll or commits: no Raft survives it. One link that carries both ways helps three servers, two at one server five",
    },
];

/// Each scenario has its result whatever election timeouts are drawn, whether clients are there or not, and no election
/// keeps commands waiting for longer than [`ELECTION_MS`].
fn check_all_with(servers: u64) {
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.servers.contains(&servers)) {
        for seed in 0..SEEDS {
            let mut run = Run::new(servers, seed, true);
            (scenario.play)(&mut run);
            let offered = MINUTE_MS / COMMAND_EVERY_MS;
            let fewest = offered - 1 - scenario.changes as u64 * ELECTION_MS / COMMAND_EVERY_MS;
            check(&run, scenario, fewest..=offered, &format!("{} of {servers}, seed {seed}", scenario.name));

            let mut run = Run::new(servers, seed, false);
            (scenario.play)(&mut run);
            run.is_busy = true;
            run.pass(10 * COMMAND_EVERY_MS);
            check(&run, scenario, 9..=10, &format!("{} of {servers}, idle, seed {seed}", scenario.name));
        }
    }
}

fn check(run: &Run, scenario: &Scenario, if_available: RangeInclusive<u64>, what: &str) {
    let (changes, committed) = (run.changes.len(), run.commands_committed());
    println!("{what}: {changes} changes, {committed} commands");
    assert_eq!(changes, scenario.changes, "{what}: changes of leader");
    let expected = if scenario.is_available { if_available } else { 0..=0 };
    assert!(expected.contains(&committed), "{what}: {committed} commands are committed, not {expected:?}");
}

#[test]
fn three_servers_behave_as_stated() {
    check_all_with(3);
}

#[test]
fn five_servers_behave_as_stated() {
    check_all_with(5);
}

/// What the table says would help where nobody can lead does help.
#[test]
fn one_link_more_ends_what_no_raft_survives() {
    let constrained = SCENARIOS.iter().find(|scenario| scenario.name.starts_with("constrained")).unwrap();
    let mut run = Run::new(5, 0, true);
    (constrained.play)(&mut run);
    run.keep_for_a_minute(&[(3, 2), (3, 4), (3, 5), (2, 4)]);
    assert!(run.changes.len() == 1 && run.commands_committed() > 580, "{:?}", run.changes);

    for (servers, back) in [(3, [(2, 1)].as_slice()), (5, [(2, 1), (3, 2)].as_slice())] {
        let mut run = Run::new(servers, 0, true);
        run.keep(|from, to| to == from % servers + 1);
        run.pass(MINUTE_MS);
        assert_eq!(run.commands_committed(), 0);
        run.keep(|from, to| to == from % servers + 1 || back.contains(&(from, to)));
        run.pass(MINUTE_MS);
        assert!(run.changes.len() == 1 && run.commands_committed() > 580, "{servers}: {:?}", run.changes);
    }
}

#[test]
fn the_operations_page_has_the_same_table() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations.md");
    let page = std::fs::read_to_string(page).unwrap();
    for scenario in &SCENARIOS {
        let Scenario { name, servers, changes, is_available, why, .. } = scenario;
        let servers = servers.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let available = if *is_available { "yes" } else { "**no**" };
        let row = format!("| {name} | {servers} | {changes} | {available} | {why} |");
        assert!(page.lines().any(|line| line == row), "docs/operations.md lacks this row:\n{row}");
    }
}
